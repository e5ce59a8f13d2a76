//! What the lake holds of each key by its newest change, read whole: for whoever mends the lake, and for tests.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{Array, RecordBatch};
use futures::TryStreamExt;

use crate::change::{Operation, Sequence};
use crate::log::{LAST_MODIFIED, Log, OPERATION, SEQUENCE};
use crate::store::{Lake, LakeError};

/// What the newest change of a key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The number of the change.
    pub sequence: Sequence,
    /// What happened, by its name in the log.
    pub operation: String,
    /// When the row's answer was fetched, or anything was added to the run's account last, in milliseconds since 1970.
    pub as_of: Option<i64>,
}

impl Standing {
    /// Whether the item was no longer there.
    pub fn is_removed(&self) -> bool {
        self.operation == Operation::Remove.name()
    }

    /// Whether the item was marked as deleted.
    pub fn is_deleted(&self) -> bool {
        self.operation == Operation::Delete.name()
    }
}

/// The column that says of when a row is.
pub(crate) fn as_of_column(log: Log) -> &'static str {
    match log {
        Log::Runs => "last_at",
        Log::Branches | Log::Salespersons | Log::Sales => LAST_MODIFIED,
    }
}

impl Lake {
    /// What stands in a log, by key.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub async fn standing(&self, log: Log) -> Result<HashMap<Vec<String>, Standing>, LakeError> {
        let mut standing = HashMap::new();
        for file in self.files(log).await? {
            let mut batches = self.read(&file).await?.batches;
            while let Some(batch) = batches.try_next().await? {
                let columns = columns(log, &batch).ok_or_else(|| LakeError::Columns {
                    path: self.place(&file.location),
                    log: log.table(),
                })?;
                for row in 0..batch.num_rows() {
                    let (keys, one) = columns.row(row);
                    match standing.get_mut(&keys) {
                        None => {
                            standing.insert(keys, one);
                        }
                        Some(other) if one.sequence > other.sequence => *other = one,
                        Some(_) => {}
                    }
                }
            }
        }
        Ok(standing)
    }
}

struct Columns<'a> {
    keys: Vec<&'a arrow_array::StringArray>,
    sequence: &'a arrow_array::StringArray,
    operation: &'a arrow_array::StringArray,
    as_of: &'a arrow_array::TimestampMillisecondArray,
}

fn columns(log: Log, batch: &RecordBatch) -> Option<Columns<'_>> {
    let text = |name: &str| batch.column_by_name(name)?.as_string_opt::<i32>();
    Some(Columns {
        keys: log.keys().into_iter().map(text).collect::<Option<_>>()?,
        sequence: text(SEQUENCE)?,
        operation: text(OPERATION)?,
        as_of: batch
            .column_by_name(as_of_column(log))?
            .as_primitive_opt::<TimestampMillisecondType>()?,
    })
}

impl Columns<'_> {
    fn row(&self, row: usize) -> (Vec<String>, Standing) {
        let keys = self.keys.iter().map(|key| key.value(row).to_owned()).collect();
        let standing = Standing {
            // What a file of ours holds is a number.
            sequence: Sequence::parse(self.sequence.value(row)).unwrap_or_default(),
            operation: self.operation.value(row).to_owned(),
            as_of: self.as_of.is_valid(row).then(|| self.as_of.value(row)),
        };
        (keys, standing)
    }
}
