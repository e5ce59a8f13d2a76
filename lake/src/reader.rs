//! A Parquet file's bytes, out of the lake's store.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};

/// How much of a file's end is read at first: what it says of itself is in there, and of a small file everything.
const FOOTER: usize = 64 * 1024;

/// A file that is read a range of bytes at a time.
pub(crate) struct Reader {
    objects: Arc<dyn ObjectStore>,
    location: Path,
    size: u64,
}

impl Reader {
    /// The file at `location`, of so many bytes.
    pub(crate) fn new(objects: Arc<dyn ObjectStore>, location: Path, size: u64) -> Self {
        Self {
            objects,
            location,
            size,
        }
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(error.into())
}

impl AsyncFileReader for Reader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        self.objects.get_range(&self.location, range).map_err(external).boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move {
            let bytes = self.objects.get_ranges(&self.location, &ranges).await;
            bytes.map_err(external)
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move {
            let size = self.size;
            let reader = ParquetMetaDataReader::new()
                .with_arrow_reader_options(options)
                .with_prefetch_hint(Some(FOOTER));
            Ok(Arc::new(reader.load_and_finish(self, size).await?))
        }
        .boxed()
    }
}
