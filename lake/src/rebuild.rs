//! Mending a log from its table, where the stream no longer had everything.
//!
//! What the table holds and the log lacks, or has older, is written as a change whose number comes after everything that the log
//! has and before everything that the stream will say; what the log holds and the table does not is written as removed. What was
//! in between is lost.

use std::collections::{HashMap, HashSet};

use time::UtcDateTime;

use crate::change::{Change, Operation, Sequence, Unreadable};
use crate::counts::Counts;
use crate::log::Log;
use crate::row::{self, Cell, Row};
use crate::runs::Runs;
use crate::standing::{Standing, as_of_column};
use crate::store::{Lake, LakeError};
use crate::{account, batch, moment};

/// The rows that are written as one file.
const ROWS: usize = 50_000;

/// Why a log could not be mended.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The lake cannot be read or written.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The table holds what the lake cannot.
    #[error("an item of {log} cannot be a row")]
    Item {
        /// The log.
        log: &'static str,
        /// Why.
        source: Unreadable,
    },
}

impl Lake {
    /// Mends a log from the items of its table, each as the change that put it. The items have to be read after everything that
    /// the stream has is in the lake.
    ///
    /// # Errors
    /// If the lake cannot be read or written, or an item cannot be a row.
    pub async fn rebuild(
        &self,
        log: Log,
        items: Vec<Change>,
        runs: &Runs,
        now: UtcDateTime,
    ) -> Result<Counts, RebuildError> {
        let standing = self.standing(log).await?;
        let newest = standing.values().map(|standing| &standing.sequence).max();
        let sequence = newest.map_or_else(Sequence::zero, Sequence::next);
        let changed_at = moment::milliseconds(now);
        let (mut rows, mut there) = (Vec::new(), HashSet::new());
        for mut item in items {
            item.sequence = sequence.clone();
            item.changed_at = changed_at;
            let is_deleted = item.operation == Operation::Delete;
            let row = match log.entity() {
                Some(_) => row::of_entity(log, item, runs).map(Some),
                None => account::row(&item),
            };
            let row = row.map_err(|source| RebuildError::Item {
                log: log.name(),
                source,
            })?;
            let Some(row) = row else { continue };
            if !standing
                .get(&row.keys)
                .is_some_and(|standing| says(log, standing, &row, is_deleted))
            {
                rows.push(row.clone());
            }
            there.insert(row.keys);
        }
        if log.entity().is_some() {
            rows.extend(removed(log, &standing, &there, &sequence, changed_at, runs)?);
        }
        let mut counts = Counts::default();
        let rows = batch::in_file_order(log, rows);
        for rows in rows.chunks(ROWS) {
            counts.bytes += self.write_mended(log, now.date(), rows, now).await?;
            counts.files += 1;
            counts.rows += rows.len() as u64;
        }
        Ok(counts)
    }
}

/// Whether the log says already what the row would.
fn says(log: Log, standing: &Standing, row: &Row, is_deleted: bool) -> bool {
    let at = log.columns().iter().position(|column| column.name == as_of_column(log));
    let as_of = match at.and_then(|at| row.cells.get(at)) {
        Some(Cell::Timestamp(time)) => Some(*time),
        _ => None,
    };
    !standing.is_removed() && standing.is_deleted() == is_deleted && standing.as_of == as_of && as_of.is_some()
}

/// The rows of what is no longer there.
fn removed(
    log: Log,
    standing: &HashMap<Vec<String>, Standing>,
    there: &HashSet<Vec<String>>,
    sequence: &Sequence,
    changed_at: i64,
    runs: &Runs,
) -> Result<Vec<Row>, RebuildError> {
    let gone = standing
        .iter()
        .filter(|(keys, standing)| !standing.is_removed() && !there.contains(*keys));
    let rows = gone.map(|(keys, _)| {
        let change = Change {
            operation: Operation::Remove,
            keys: log
                .keys()
                .into_iter()
                .map(str::to_owned)
                .zip(keys.iter().cloned())
                .collect(),
            image: Default::default(),
            changed_at,
            sequence: sequence.clone(),
        };
        row::of_entity(log, change, runs)
    });
    rows.collect::<Result<_, _>>().map_err(|source| RebuildError::Item {
        log: log.name(),
        source,
    })
}
