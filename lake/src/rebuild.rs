//! Mending a log from its table, where the stream no longer had everything.
//!
//! What the table holds and the log lacks, or has older, is written as a change whose number comes right after the newest that the
//! log has of its key, so that whatever the stream will still say of it comes after that; what the log holds and the table does not
//! is written as removed. What was in between is lost. It may be done while the stream is followed: the log is read before the
//! table, so that what is put meanwhile is not taken for removed.

use std::collections::HashMap;

use serde_dynamo::{AttributeValue, Item};
use shared::error_chain;
use time::UtcDateTime;
use tracing::error;

use crate::change::{Change, Operation, Sequence, Unreadable, table_keys};
use crate::counts::Counts;
use crate::log::Log;
use crate::row::{self, Cell, Row};
use crate::runs::Runs;
use crate::standing::{Standing, as_of_column};
use crate::store::{Lake, LakeError};
use crate::tables::{TableError, TableReader};
use crate::{account, batch, moment};

/// From how many rows on they are written as a file.
const ROWS: usize = 20_000;

/// Why a log could not be mended. What was written before stays, and is right.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The lake cannot be read or written.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The table cannot be read.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// A mending.
pub struct Rebuild<'a> {
    /// Of what.
    pub lake: &'a Lake,
    /// From what.
    pub tables: &'a dyn TableReader,
    /// Which run a row belongs to.
    pub runs: &'a Runs,
    /// The time now.
    pub now: UtcDateTime,
    /// Whether nothing more is to be begun.
    pub ends: &'a (dyn Fn() -> bool + Sync),
}

impl Rebuild<'_> {
    /// Mends a log, adds to `counts` what was done, and answers whether all of it is. What is written is not written again by the
    /// next one. An item that cannot be a row is logged, counted as refused, and left out.
    ///
    /// # Errors
    /// If the table cannot be read, or the lake not be read or written.
    pub async fn log(&self, log: Log, counts: &mut Counts) -> Result<bool, RebuildError> {
        let mut standing = self.lake.standing(log).await?;
        let mut rows = Vec::new();
        let mut from = None;
        loop {
            if (self.ends)() {
                self.write(log, &mut rows, counts).await?;
                return Ok(false);
            }
            let page = self.tables.page(log, from).await?;
            for item in page.items {
                let keys = texts(log, &item);
                match self.row(log, item) {
                    Ok(Some((row, is_deleted))) => {
                        let before = standing.remove(&row.keys);
                        if !before
                            .as_ref()
                            .is_some_and(|before| says(log, before, &row, is_deleted))
                        {
                            let sequence = before.map_or_else(Sequence::zero, |before| before.sequence.next());
                            rows.push(row.numbered(log, sequence));
                        }
                    }
                    Ok(None) => {}
                    Err(reason) => {
                        error!(
                            log = log.name(),
                            keys = keys.join(", "),
                            reason = error_chain(&reason),
                            "an item is not understood, and is left out"
                        );
                        counts.refused += 1;
                        standing.remove(&keys);
                    }
                }
            }
            if rows.len() >= ROWS {
                self.write(log, &mut rows, counts).await?;
            }
            from = page.next;
            if from.is_none() {
                break;
            }
        }
        // What happened in a run does not become undone when its account is no longer kept.
        if log.entity().is_some() {
            for (keys, before) in standing.into_iter().filter(|(_, before)| !before.is_removed()) {
                rows.extend(self.removed(log, &keys, &before));
                if rows.len() >= ROWS {
                    self.write(log, &mut rows, counts).await?;
                }
            }
        }
        self.write(log, &mut rows, counts).await?;
        Ok(true)
    }

    /// The row of an item, and whether it is marked as deleted; `None` for one that is about nothing that the lake keeps.
    fn row(&self, log: Log, item: Item) -> Result<Option<(Row, bool)>, Unreadable> {
        let mut change = Change::of_item(item, &table_keys(log))?;
        change.changed_at = moment::milliseconds(self.now);
        let is_deleted = change.operation == Operation::Delete;
        let row = match log.entity() {
            Some(_) => Some(row::of_entity(log, change, self.runs)?),
            None => account::row(&change)?,
        };
        Ok(row.map(|row| (row, is_deleted)))
    }

    /// The row of what is no longer there.
    fn removed(&self, log: Log, keys: &[String], before: &Standing) -> Option<Row> {
        let names = log.keys().into_iter().map(str::to_owned);
        let change = Change {
            operation: Operation::Remove,
            keys: names.zip(keys.iter().cloned()).collect(),
            image: Default::default(),
            changed_at: moment::milliseconds(self.now),
            sequence: before.sequence.next(),
        };
        // One without attributes has nothing that could not be written.
        row::of_entity(log, change, self.runs).ok()
    }

    async fn write(&self, log: Log, rows: &mut Vec<Row>, counts: &mut Counts) -> Result<(), LakeError> {
        if rows.is_empty() {
            return Ok(());
        }
        let rows = batch::in_file_order(log, std::mem::take(rows));
        counts.bytes += self.lake.write_mended(log, self.now.date(), &rows, self.now).await?;
        counts.files += 1;
        counts.rows += rows.len() as u64;
        counts.unfit_values += rows.iter().map(|row| row.unfit as u64).sum::<u64>();
        Ok(())
    }
}

/// The texts of an item's key.
fn texts(log: Log, item: &Item) -> Vec<String> {
    let attributes: &HashMap<String, AttributeValue> = item.as_ref();
    let texts = table_keys(log)
        .into_iter()
        .filter_map(|key| match attributes.get(key)? {
            AttributeValue::S(text) => Some(text.clone()),
            _ => None,
        });
    texts.collect()
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
