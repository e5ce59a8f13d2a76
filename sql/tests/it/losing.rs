//! A store in which a compaction is always a little faster than the reader.

use std::fmt;
use std::sync::Mutex;

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

/// Loses the first file that is read after each listing, so many times.
#[derive(Debug)]
pub(crate) struct Losing<T> {
    inner: T,
    losses: Mutex<u32>,
    is_listed: Mutex<bool>,
    listed: Mutex<Vec<String>>,
}

impl<T> Losing<T> {
    pub(crate) fn new(inner: T, losses: u32) -> Self {
        Self {
            inner,
            losses: Mutex::new(losses),
            is_listed: Mutex::new(false),
            listed: Mutex::default(),
        }
    }

    /// The folders that were listed, in this order, since this was asked last.
    pub(crate) fn take_listed(&self) -> Vec<String> {
        std::mem::take(&mut *self.listed.lock().unwrap())
    }

    fn loses(&self) -> bool {
        let is_listed = std::mem::take(&mut *self.is_listed.lock().unwrap());
        let mut losses = self.losses.lock().unwrap();
        let loses = is_listed && *losses > 0;
        *losses -= u32::from(loses);
        loses
    }
}

impl<T> fmt::Display for Losing<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Losing")
    }
}

#[async_trait]
impl<T: ObjectStore> ObjectStore for Losing<T> {
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if self.loses() {
            return Err(object_store::Error::NotFound {
                path: location.to_string(),
                source: "it was deleted".into(),
            });
        }
        self.inner.get_opts(location, options).await
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        *self.is_listed.lock().unwrap() = true;
        let prefix_listed = prefix.map(Path::to_string).unwrap_or_default();
        self.listed.lock().unwrap().push(prefix_listed);
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
