//! How much there is in the lake, as the files' own metadata says it: no row is read.

use std::collections::HashMap;

use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;

use crate::compaction::replaced;
use crate::log::{CHANGED_AT, Log};
use crate::store::{Lake, LakeError};

/// How much there is of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStatus {
    /// The changes in its files; one that was delivered twice counts twice until its files are put together.
    pub changes: u64,
    /// The files, without those that others have replaced.
    pub files: u64,
    /// The bytes of these files.
    pub bytes: u64,
    /// The files that others have replaced, and that a later compaction deletes.
    pub replaced_files: u64,
    /// When the newest change was made, in milliseconds since 1970.
    pub newest_change: Option<i64>,
}

impl Lake {
    /// How much there is of a log.
    ///
    /// # Errors
    /// If its files cannot be listed or read.
    pub async fn status(&self, log: Log) -> Result<LogStatus, LakeError> {
        let files = self.files(log).await?;
        let replaced: HashMap<String, i64> = replaced(self, &files).await?;
        let mut status = LogStatus::default();
        for file in files {
            if replaced.contains_key(&file.name) {
                status.replaced_files += 1;
                continue;
            }
            let metadata = self.metadata(&file).await?;
            status.files += 1;
            status.bytes += file.size;
            status.changes += u64::try_from(metadata.file_metadata().num_rows()).unwrap_or_default();
            status.newest_change = status.newest_change.max(newest_change(log, &metadata));
        }
        Ok(status)
    }
}

fn newest_change(log: Log, metadata: &ParquetMetaData) -> Option<i64> {
    let column = log.columns().iter().position(|column| column.name == CHANGED_AT)?;
    let newest = metadata
        .row_groups()
        .iter()
        .filter_map(|group| match group.columns().get(column)?.statistics()? {
            Statistics::Int64(times) => times.max_opt().copied(),
            _ => None,
        });
    newest.max()
}
