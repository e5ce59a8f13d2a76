//! A file of rows: how it is named, how it is written, and what it says of itself.

use arrow_array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, ParquetMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::change::Sequence;
use crate::layout::EXTENSION;
use crate::log::{ATTRIBUTES, Log, SEQUENCE};

/// The rows of a row group at the most: what an engine reads at once, and what is held in memory while it is written.
const ROW_GROUP_ROWS: usize = 1_000_000;

/// The bytes of a row group at the most, before compression; as for [`ROW_GROUP_ROWS`].
pub(crate) const ROW_GROUP_BYTES: usize = 64 * 1024 * 1024;

/// The compression's level: beyond it, these rows become little smaller and take much longer.
const ZSTD: i32 = 3;

/// What a compacted file's name begins with.
const COMPACTED: &str = "compacted-";

/// The name under which a file's metadata holds [`About`].
const ABOUT: &str = "cascade";

/// What a file says of itself, as JSON in its metadata.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The log whose rows it holds.
    pub log: String,
    /// The lowest number of its changes.
    pub first_sequence: String,
    /// The highest.
    pub last_sequence: String,
    /// When it was written, in milliseconds since 1970.
    pub written_at: i64,
    /// The files of the same folder whose rows are all in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaces: Vec<String>,
}

/// What a file's name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The lowest number of its changes.
    pub first: Sequence,
    /// The highest.
    pub last: Sequence,
    /// Whether it was made of other files.
    pub is_compacted: bool,
}

impl Name {
    /// Reads a file's name; `None` for a file that is none of ours.
    pub fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(EXTENSION)?;
        let is_compacted = stem.starts_with(COMPACTED);
        let mut parts = stem.strip_prefix(COMPACTED).unwrap_or(stem).split('-');
        let (first, last, rest) = (parts.next()?, parts.next()?, parts.next()?);
        let whole = |text| Sequence::parse(text).filter(|sequence| sequence.as_str() == text);
        (parts.next().is_none() && !rest.is_empty()).then_some(Self {
            first: whole(first)?,
            last: whole(last)?,
            is_compacted,
        })
    }
}

/// The name of the file of a batch: a batch that comes again overwrites its file.
pub(crate) fn of_batch(first: &str, last: &str, rows: usize) -> String {
    format!("{first}-{last}-{rows}{EXTENSION}")
}

/// The name of the file that replaces others: made of them again, it overwrites itself.
pub(crate) fn of_compaction(first: &str, last: &str, replaced: &[String]) -> String {
    let digest = digest(replaced.iter().map(String::as_str));
    format!("{COMPACTED}{first}-{last}-{digest}{EXTENSION}")
}

/// The name of the file of rows that come from a table: other rows, or the same under other numbers, get another file.
pub(crate) fn of_table<'a>(first: &str, last: &str, keys_and_numbers: impl Iterator<Item = &'a str>) -> String {
    let digest = digest(keys_and_numbers);
    format!("{first}-{last}-{digest}{EXTENSION}")
}

fn digest<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for text in texts {
        hash.update(text.as_bytes());
        hash.update([0]);
    }
    hash.finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// How all files are written.
pub(crate) fn properties(log: Log) -> Result<WriterPropertiesBuilder, ParquetError> {
    let schema = log.schema();
    let sorted_by = log.keys().into_iter().chain([SEQUENCE]).filter_map(|name| {
        Some(SortingColumn {
            column_idx: schema.index_of(name).ok()?.try_into().ok()?,
            descending: false,
            nulls_first: false,
        })
    });
    Ok(WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD)?))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_sorting_columns(Some(sorted_by.collect()))
        // Of a whole JSON object, the least and the greatest answer no question.
        .set_column_statistics_enabled(ColumnPath::from(ATTRIBUTES), EnabledStatistics::None)
        .set_created_by(concat!("cascade ", env!("CARGO_PKG_VERSION")).to_owned()))
}

/// What a file says of itself, for its metadata.
pub(crate) fn metadata(about: &About) -> Result<KeyValue, ParquetError> {
    let text = serde_json::to_string(about).map_err(|error| ParquetError::External(error.into()))?;
    Ok(KeyValue::new(ABOUT.to_owned(), text))
}

/// A whole file.
pub(crate) fn encode(log: Log, batch: &RecordBatch, about: &About) -> Result<Vec<u8>, ParquetError> {
    let properties = properties(log)?.set_key_value_metadata(Some(vec![metadata(about)?]));
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build()))?;
    writer.write(batch)?;
    writer.into_inner()
}

/// What a file says of itself; `None` if it says nothing, or something else: it is none of ours.
pub fn about(metadata: &ParquetMetaData) -> Option<About> {
    let entries = metadata.file_metadata().key_value_metadata()?;
    let text = entries.iter().find(|entry| entry.key == ABOUT)?.value.as_ref()?;
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_name_says_which_changes_it_holds() {
        let (first, last) = (Sequence::parse("7").unwrap(), Sequence::parse("12").unwrap());
        let batch = of_batch(first.as_str(), last.as_str(), 3);
        assert_eq!(
            batch,
            "0000000000000000000000000000000000000007-0000000000000000000000000000000000000012-3.parquet"
        );
        let name = Name::parse(&batch).unwrap();
        assert_eq!((&name.first, &name.last, name.is_compacted), (&first, &last, false));
        let compacted = of_compaction(first.as_str(), last.as_str(), std::slice::from_ref(&batch));
        assert_eq!(
            compacted,
            of_compaction(first.as_str(), last.as_str(), std::slice::from_ref(&batch))
        );
        assert_ne!(
            compacted,
            of_compaction(first.as_str(), last.as_str(), &[batch, "other".to_owned()])
        );
        assert!(Name::parse(&compacted).unwrap().is_compacted);
        for other in ["part-0.parquet", "7-12-3.parquet", "a.parquet#1", "", ".parquet"] {
            assert_eq!(Name::parse(other), None, "{other}");
        }
    }
}
