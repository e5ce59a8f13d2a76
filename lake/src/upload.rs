//! A file that is sent to the lake's store piece by piece, and is there only once it is whole.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload};
use parquet::arrow::async_writer::AsyncFileWriter;
use parquet::errors::{ParquetError, Result};

/// From how many bytes on a piece is sent. S3 takes none below 5 MiB but the last.
///
/// Source: "Amazon S3 multipart upload limits", Amazon S3 User Guide.
const PIECE: usize = 8 * 1024 * 1024;

/// An upload. What is smaller than a piece is sent at once, at its end.
pub(crate) struct Upload {
    objects: Arc<dyn ObjectStore>,
    location: Path,
    waiting: Vec<Bytes>,
    begun: Option<Box<dyn MultipartUpload>>,
}

impl Upload {
    pub(crate) fn new(objects: Arc<dyn ObjectStore>, location: Path) -> Self {
        Self {
            objects,
            location,
            waiting: Vec::new(),
            begun: None,
        }
    }

    /// Leaves nothing behind of a file that is not to be.
    pub(crate) async fn abort(mut self) -> object_store::Result<()> {
        match &mut self.begun {
            Some(upload) => upload.abort().await,
            None => Ok(()),
        }
    }

    async fn send(&mut self) -> object_store::Result<()> {
        let payload: PutPayload = std::mem::take(&mut self.waiting).into_iter().collect();
        let upload = match &mut self.begun {
            Some(upload) => upload,
            None => self.begun.insert(self.objects.put_multipart(&self.location).await?),
        };
        upload.put_part(payload).await
    }

    async fn end(&mut self) -> object_store::Result<()> {
        if self.begun.is_none() {
            let payload: PutPayload = std::mem::take(&mut self.waiting).into_iter().collect();
            return self.objects.put(&self.location, payload).await.map(drop);
        }
        if !self.waiting.is_empty() {
            self.send().await?;
        }
        match &mut self.begun {
            Some(upload) => upload.complete().await.map(drop),
            None => Ok(()),
        }
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(error.into())
}

impl AsyncFileWriter for Upload {
    fn write(&mut self, bytes: Bytes) -> BoxFuture<'_, Result<()>> {
        async move {
            self.waiting.push(bytes);
            if self.waiting.iter().map(Bytes::len).sum::<usize>() >= PIECE {
                self.send().await.map_err(external)?;
            }
            Ok(())
        }
        .boxed()
    }

    fn complete(&mut self) -> BoxFuture<'_, Result<()>> {
        async move { self.end().await.map_err(external) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use object_store::memory::InMemory;

    /// Sends pieces of a file, and answers what is there before and after its end.
    async fn sent(pieces: &[usize]) -> (usize, Vec<u8>) {
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let path = Path::from("a");
        let mut upload = Upload::new(objects.clone(), path.clone());
        for (at, bytes) in pieces.iter().enumerate() {
            upload.write(vec![at as u8; *bytes].into()).await.unwrap();
        }
        let before = objects.list(None).try_collect::<Vec<_>>().await.unwrap().len();
        upload.complete().await.unwrap();
        (before, objects.get(&path).await.unwrap().bytes().await.unwrap().into())
    }

    #[tokio::test]
    async fn a_file_is_there_once_it_is_whole_however_large() {
        for pieces in [vec![], vec![3, 2], vec![PIECE - 1, 1, 7], vec![PIECE, PIECE]] {
            let (before, file) = sent(&pieces).await;
            let expected: Vec<u8> = pieces
                .iter()
                .enumerate()
                .flat_map(|(at, bytes)| vec![at as u8; *bytes])
                .collect();
            assert_eq!(before, 0, "{pieces:?}");
            assert!(file == expected, "{pieces:?}");
        }
    }

    #[tokio::test]
    async fn what_is_given_up_is_not_there() {
        for bytes in [1, PIECE] {
            let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
            let mut upload = Upload::new(objects.clone(), Path::from("a"));
            upload.write(vec![0; bytes].into()).await.unwrap();
            upload.abort().await.unwrap();
            assert!(objects.list(None).try_collect::<Vec<_>>().await.unwrap().is_empty());
        }
    }
}
