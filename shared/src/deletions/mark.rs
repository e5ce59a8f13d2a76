//! Rows whose records have vanished: each is marked once, by a write like any other.

use std::collections::{BTreeMap, BTreeSet};

use tracing::debug;

use crate::change::Change;
use crate::entity::DELETED_AT;
use crate::id::Id;
use crate::record::{Key, Rejection};
use crate::rejections::log;
use crate::sync::{MAX_CONFLICTS, is_later, never_still};
use crate::table::{MAX_READ, Table, TableError, Write, Written};
use crate::tally::Tally;
use crate::value::Value;

/// What became of the rows of records that have vanished.
#[derive(Debug, Default)]
pub(super) struct Marked {
    /// How many rows were marked. The others were before, or cannot be marked.
    pub(super) written: u64,
    /// Those that have no row: there is nothing to mark.
    pub(super) without_row: Vec<Id>,
    /// Those whose row has been written from a later answer: they are none of this one's.
    pub(super) superseded: Vec<Id>,
}

/// Marks the rows of records that are missing from an answer fetched at `fetched_at`.
///
/// # Errors
/// If any of them could not be read or written. The others were.
pub(super) async fn mark(
    table: &dyn Table,
    missing: &[Id],
    parent: Option<&Id>,
    fetched_at: &str,
    tally: &Tally,
) -> Result<Marked, TableError> {
    let mut all = Marked::default();
    let mut failure = None;
    for slice in missing.chunks(MAX_READ) {
        let result = mark_slice(table, slice, parent, fetched_at, tally, &mut all).await;
        failure = failure.or(result.err());
    }
    failure.map_or(Ok(all), Err)
}

async fn mark_slice(
    table: &dyn Table,
    slice: &[Id],
    parent: Option<&Id>,
    fetched_at: &str,
    tally: &Tally,
    all: &mut Marked,
) -> Result<(), TableError> {
    let deleted_at = Value::String(fetched_at.to_owned());
    let key = |id: &Id| Key {
        id: id.clone(),
        parent: parent.cloned(),
    };
    let keys: Vec<_> = slice.iter().map(key).collect();
    let mut rows = table.read(keys.clone()).await?;
    let mut pending: Vec<_> = keys.iter().map(|key| (key, rows.remove(key))).collect();
    let mut failure = None;
    for _ in 0..MAX_CONFLICTS {
        let mut standing = Vec::with_capacity(pending.len());
        let mut writes = Vec::with_capacity(pending.len());
        for (key, row) in &pending {
            match row {
                None => all.without_row.push(key.id.clone()),
                Some(row) if row.is_deleted() => debug!(id = %key.id, "what has vanished is marked already"),
                Some(row) if is_later(Some(row), fetched_at) => all.superseded.push(key.id.clone()),
                Some(row) => {
                    standing.push(*key);
                    writes.push(Write {
                        key,
                        seen: Some(row),
                        change: Change::Update {
                            set: BTreeMap::from([(DELETED_AT, &deleted_at)]),
                            remove: BTreeSet::new(),
                        },
                    });
                }
            }
        }
        if writes.is_empty() {
            pending.clear();
            break;
        }
        let results = table.write_all(&writes, fetched_at).await;
        let mut conflicts = Vec::new();
        for (key, result) in standing.into_iter().zip(results) {
            match result {
                Ok(Written::Done) => {
                    tally.count(|counts| counts.deleted += 1);
                    all.written += 1;
                }
                Ok(Written::Changed(now)) => conflicts.push((key, now)),
                Ok(Written::Refused(reason)) => log(key.id.as_str(), &Rejection::Unmarkable(reason), tally),
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        pending = conflicts;
    }
    if let Some((key, _)) = pending.first() {
        failure.get_or_insert_with(|| never_still(table.entity(), key));
    }
    failure.map_or(Ok(()), Err)
}
