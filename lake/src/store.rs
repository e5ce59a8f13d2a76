//! The lake's objects: the only module that knows where they are kept, in a local directory or in S3.

use std::sync::Arc;

use arrow_array::RecordBatch;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use parquet::arrow::AsyncArrowWriter;
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use time::{Date, UtcDateTime};
use url::Url;

use crate::file::{self, About, Name};
use crate::layout::{EXTENSION, folder, parse_partition, partition};
use crate::log::Log;
use crate::reader::Reader;
use crate::row::Row;
use crate::upload::Upload;
use crate::{batch, moment};

/// The rows that a reader holds at once.
const READ_ROWS: usize = 1024;

/// Who may ask S3: what gives an AWS access key, from wherever it comes.
#[cfg(feature = "s3")]
pub type Credentials = object_store::aws::AwsCredentialProvider;

/// A lake.
#[derive(Clone, Debug)]
pub struct Lake {
    objects: Arc<dyn ObjectStore>,
    root: Path,
    /// What stands before a place in the store where it is told to somebody: `/` of a local one, `s3://bucket/`.
    before: String,
}

/// A file of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Its log.
    pub log: Log,
    /// The date of its changes.
    pub date: Date,
    /// Its name in the folder.
    pub name: String,
    /// Its bytes.
    pub size: u64,
    /// Where it is.
    pub location: Path,
}

/// A lake cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL names no lake.
    #[error("{0} is no lake's URL, expected file:///… or s3://bucket/prefix")]
    Url(String),
    /// This program cannot reach S3.
    #[error("{0} is in S3, and this program reads and writes local lakes only")]
    NoS3(String),
    /// The client cannot be built.
    #[error("the lake {url} cannot be opened")]
    Client {
        /// The lake.
        url: String,
        /// Why.
        source: object_store::Error,
    },
}

/// The lake did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// An object could not be read, written, listed or deleted.
    #[error("the lake could not {action} {path}")]
    Objects {
        /// What was asked.
        action: &'static str,
        /// Of what.
        path: String,
        /// What the store said.
        source: object_store::Error,
    },
    /// A file of rows could not be read or written.
    #[error("the lake could not {action} {path}")]
    Rows {
        /// What was asked.
        action: &'static str,
        /// Of what.
        path: String,
        /// What was wrong.
        source: ParquetError,
    },
    /// A file of rows holds nothing at all, not even that it has no rows.
    #[error(
        "{path} has no bytes, which no file of rows has: whoever wrote it was cut off. Delete it; `cascade lake rebuild` then takes \
         from the tables what it held"
    )]
    Empty {
        /// The file.
        path: String,
    },
    /// Rows could not be put together as columns.
    #[error("rows could not be put together as columns")]
    Merge(#[source] arrow_schema::ArrowError),
    /// A file holds other columns.
    #[error("{path} does not hold the columns of {log}")]
    Columns {
        /// The file.
        path: String,
        /// The log's table.
        log: &'static str,
    },
}

impl Lake {
    /// The lake in `root` of `objects`.
    pub fn over(objects: Arc<dyn ObjectStore>, root: Path) -> Self {
        Self {
            objects,
            root,
            before: String::new(),
        }
    }

    /// A place in the store as whoever looks for it knows it.
    pub(crate) fn place(&self, path: &Path) -> String {
        format!("{}{path}", self.before)
    }

    /// The lake at `url`: `file:///…`, a directory that need not be there yet, or `s3://bucket/prefix`, for which endpoint,
    /// region and credentials come from the standard AWS environment (`AWS_ENDPOINT_URL`, `AWS_REGION`,
    /// `AWS_ACCESS_KEY_ID`, a container's or an instance's role).
    ///
    /// # Errors
    /// If the URL names no lake, or one that this program cannot reach.
    pub fn open(url: &Url) -> Result<Self, OpenError> {
        match url.scheme() {
            #[cfg(feature = "s3")]
            "s3" => s3(url, None),
            #[cfg(not(feature = "s3"))]
            "s3" => Err(OpenError::NoS3(url.to_string())),
            "file" => local(url),
            _ => Err(OpenError::Url(url.to_string())),
        }
    }

    /// The lake at `url`, in S3, for whoever `credentials` say: as [`Self::open`] otherwise.
    ///
    /// # Errors
    /// As [`Self::open`].
    #[cfg(feature = "s3")]
    pub fn open_as(url: &Url, credentials: Credentials) -> Result<Self, OpenError> {
        match url.scheme() {
            "s3" => s3(url, Some(credentials)),
            _ => Self::open(url),
        }
    }

    /// The store that it is in.
    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// Where in the store it is.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a log.
    pub fn folder(&self, log: Log) -> Path {
        under(&self.root, &folder(log))
    }

    fn location(&self, log: Log, date: Date, name: &str) -> Path {
        under(&self.root, &partition(log, date)).join(name)
    }

    /// All files of a log, in the order of their places. What is no file of rows in a folder of a date is left out.
    ///
    /// # Errors
    /// If they cannot be listed.
    pub async fn files(&self, log: Log) -> Result<Vec<File>, LakeError> {
        let folder = self.folder(log);
        let depth = folder.parts().count();
        let objects: Vec<_> = self
            .objects
            .list(Some(&folder))
            .try_collect()
            .await
            .map_err(objects("list", self.place(&folder)))?;
        let files = objects.into_iter().filter_map(|object| {
            let mut parts = object.location.parts().skip(depth);
            let date = parse_partition(parts.next()?.as_ref())?;
            let name = parts.next()?.as_ref().to_owned();
            (parts.next().is_none() && name.ends_with(EXTENSION)).then(|| File {
                log,
                date,
                name,
                size: object.size,
                location: object.location.clone(),
            })
        });
        let mut files: Vec<_> = files.collect();
        files.sort_by(|one, other| one.location.cmp(&other.location));
        Ok(files)
    }

    /// Writes rows of one date, which are in the order of a file, as a file that is named after their changes: written again,
    /// it overwrites itself. Answers its bytes.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(crate) async fn write(&self, log: Log, date: Date, rows: &[Row], now: UtcDateTime) -> Result<u64, LakeError> {
        let about = about(log, rows, now);
        let name = file::of_batch(&about.first_sequence, &about.last_sequence, rows.len());
        self.put(log, date, &name, rows, &about).await
    }

    /// Writes rows of a table as [`Self::write`] does rows of a stream. Other rows get another file.
    ///
    /// # Errors
    /// As [`Self::put`].
    pub(crate) async fn write_mended(
        &self,
        log: Log,
        date: Date,
        rows: &[Row],
        now: UtcDateTime,
    ) -> Result<u64, LakeError> {
        let about = about(log, rows, now);
        let texts = rows
            .iter()
            .flat_map(|row| row.keys.iter().map(String::as_str).chain([row.sequence.as_str()]));
        let name = file::of_table(&about.first_sequence, &about.last_sequence, texts);
        self.put(log, date, &name, rows, &about).await
    }

    /// Writes a file, at once and whole, and answers its bytes.
    ///
    /// # Errors
    /// If it may not have been written. Then it is not there, or it is there whole.
    async fn put(&self, log: Log, date: Date, name: &str, rows: &[Row], about: &About) -> Result<u64, LakeError> {
        let path = self.location(log, date, name);
        let batch = batch::of_rows(log, rows).map_err(LakeError::Merge)?;
        let bytes = file::encode(log, &batch, about).map_err(of_rows("write", self.place(&path)))?;
        let size = bytes.len() as u64;
        self.objects
            .put(&path, PutPayload::from(bytes))
            .await
            .map_err(objects("write", self.place(&path)))?;
        Ok(size)
    }

    /// Begins a file that is written piece by piece, and is not there before its end.
    pub(crate) fn writer(&self, log: Log, date: Date, name: &str) -> Result<Writer, LakeError> {
        let path = self.location(log, date, name);
        let properties = file::properties(log)
            .map_err(of_rows("write", self.place(&path)))?
            .build();
        let upload = Upload::new(self.objects.clone(), path.clone());
        let inner = AsyncArrowWriter::try_new(upload, log.schema(), Some(properties))
            .map_err(of_rows("write", self.place(&path)))?;
        Ok(Writer {
            inner,
            path: self.place(&path),
        })
    }

    /// A file that was written just now.
    pub(crate) fn file(&self, log: Log, date: Date, name: String, size: u64) -> File {
        File {
            location: self.location(log, date, &name),
            log,
            date,
            name,
            size,
        }
    }

    /// What reads a file's bytes.
    fn reader(&self, file: &File) -> Result<Reader, LakeError> {
        if file.size == 0 {
            let path = self.place(&file.location);
            return Err(LakeError::Empty { path });
        }
        Ok(Reader::new(self.objects.clone(), file.location.clone(), file.size))
    }

    /// Reads what a file says of itself.
    ///
    /// # Errors
    /// If it cannot be read.
    pub(crate) async fn metadata(&self, file: &File) -> Result<Arc<ParquetMetaData>, LakeError> {
        let metadata = self.reader(file)?.get_metadata(None).await;
        metadata.map_err(of_rows("read", self.place(&file.location)))
    }

    /// Reads a file, some rows at a time.
    ///
    /// # Errors
    /// If it cannot be read, or holds other columns than its log has.
    pub async fn read(&self, file: &File) -> Result<Rows, LakeError> {
        let reader = self.reader(file)?;
        let path = self.place(&file.location);
        let failed = || of_rows("read", path.clone());
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(failed())?;
        if builder.schema().fields() != file.log.schema().fields() {
            return Err(LakeError::Columns {
                path,
                log: file.log.table(),
            });
        }
        let metadata = builder.metadata().clone();
        let stream = builder.with_batch_size(READ_ROWS).build().map_err(failed())?;
        Ok(Rows {
            about: file::about(&metadata),
            count: metadata.file_metadata().num_rows().try_into().unwrap_or_default(),
            batches: stream.map_err(failed()).boxed(),
        })
    }

    /// Deletes a file. One that is gone already is no failure.
    ///
    /// # Errors
    /// If it may still be there.
    pub(crate) async fn delete(&self, file: &File) -> Result<(), LakeError> {
        match self.objects.delete(&file.location).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(objects("delete", self.place(&file.location))(source)),
        }
    }
}

/// What a file holds.
pub struct Rows {
    /// What it says of itself; `None` if it was not written here.
    pub about: Option<About>,
    /// How many rows there are.
    pub count: u64,
    /// The rows, in their order.
    pub batches: futures::stream::BoxStream<'static, Result<RecordBatch, LakeError>>,
}

/// A file that is being written.
pub(crate) struct Writer {
    inner: AsyncArrowWriter<Upload>,
    path: String,
}

impl Writer {
    pub(crate) async fn write(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        let failed = of_rows("write", self.path.clone());
        self.inner.write(batch).await.map_err(&failed)?;
        if self.inner.in_progress_size() > file::ROW_GROUP_BYTES {
            self.inner.flush().await.map_err(&failed)?;
        }
        Ok(())
    }

    /// Ends the file: from now on it is there.
    pub(crate) async fn finish(mut self, about: &About) -> Result<u64, LakeError> {
        let failed = of_rows("write", self.path.clone());
        self.inner
            .append_key_value_metadata(file::metadata(about).map_err(&failed)?);
        match self.inner.finish().await {
            Ok(_) => Ok(self.inner.bytes_written() as u64),
            Err(error) => {
                self.give_up().await;
                Err(failed(error))
            }
        }
    }

    /// Leaves nothing behind.
    pub(crate) async fn give_up(self) {
        if let Err(error) = self.inner.into_inner().abort().await {
            tracing::warn!(reason = %error, file = %self.path, "what was written of a file is left behind");
        }
    }
}

impl File {
    /// What its name says; `None` for a file that was not written here.
    pub fn parse_name(&self) -> Option<Name> {
        Name::parse(&self.name)
    }
}

fn about(log: Log, rows: &[Row], now: UtcDateTime) -> About {
    let sequences = || rows.iter().map(|row| row.sequence.as_str());
    About {
        log: log.name().to_owned(),
        first_sequence: sequences().min().unwrap_or_default().to_owned(),
        last_sequence: sequences().max().unwrap_or_default().to_owned(),
        written_at: moment::milliseconds(now),
        replaces: Vec::new(),
    }
}

/// What lies at `parts`, which slashes separate.
fn under(root: &Path, parts: &str) -> Path {
    parts.split('/').fold(root.clone(), Path::join)
}

fn objects(action: &'static str, path: String) -> impl Fn(object_store::Error) -> LakeError + use<> {
    move |source| LakeError::Objects {
        action,
        path: path.clone(),
        source,
    }
}

fn of_rows(action: &'static str, path: String) -> impl Fn(ParquetError) -> LakeError + use<> {
    move |source| LakeError::Rows {
        action,
        path: path.clone(),
        source,
    }
}

fn local(url: &Url) -> Result<Lake, OpenError> {
    let directory = url.to_file_path().map_err(|()| OpenError::Url(url.to_string()))?;
    let root = Path::from_absolute_path(&directory).map_err(|_| OpenError::Url(url.to_string()))?;
    Ok(Lake {
        before: "/".to_owned(),
        ..Lake::over(Arc::new(LocalFileSystem::new()), root)
    })
}

#[cfg(feature = "s3")]
fn s3(url: &Url, credentials: Option<Credentials>) -> Result<Lake, OpenError> {
    use object_store::aws::AmazonS3Builder;

    let not_a_lake = || OpenError::Url(url.to_string());
    let bucket = url
        .host_str()
        .filter(|bucket| !bucket.is_empty())
        .ok_or_else(not_a_lake)?;
    let root = Path::from_url_path(url.path()).map_err(|_| not_a_lake())?;
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    // An emulator on this machine speaks HTTP, as its URL says.
    let plain = |name: &str| std::env::var(name).is_ok_and(|endpoint| endpoint.starts_with("http://"));
    if plain("AWS_ENDPOINT_URL") || plain("AWS_ENDPOINT_URL_S3") {
        builder = builder.with_allow_http(true);
    }
    if let Some(credentials) = credentials {
        builder = builder.with_credentials(credentials);
    }
    let store = builder.build().map_err(|source| OpenError::Client {
        url: url.to_string(),
        source,
    })?;
    Ok(Lake {
        before: format!("s3://{bucket}/"),
        ..Lake::over(Arc::new(store), root)
    })
}
