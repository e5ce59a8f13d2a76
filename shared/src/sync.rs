//! Brings a table in step with records: reads, compares, and writes what differs.

use std::collections::HashMap;

use futures::StreamExt;
use tracing::debug;

use crate::change::{Change, Row};
use crate::entity::Entity;
use crate::id::Id;
use crate::record::{Key, Record, Rejection};
use crate::rejections::Rejected;
use crate::run::is_last_modified;
use crate::table::{MAX_READ, Table, TableError, Write, Written};
use crate::tally::Tally;
use crate::vendor::answer::Sketch;

/// How many slices are in work at once.
const SLICES_AT_ONCE: usize = 4;

/// The bytes of JSON after which a slice ends, however few records it has.
const SLICE_BYTES: usize = 1024 * 1024;

/// How often a row is compared anew because somebody else wrote it in between.
pub(crate) const MAX_CONFLICTS: usize = 20;

/// What keeps an answer from standing in its table as it is. Where all of it is 0, everything in the answer does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Records that were rejected: they cannot be stored, or the table refuses them.
    pub rejected: Rejected,
    /// Records whose row had been written from a later answer already.
    pub superseded: u64,
}

impl Synced {
    /// Whether all of the answer now stands in the table.
    pub fn is_whole(&self) -> bool {
        self.rejected.is_empty() && self.superseded == 0
    }
}

impl std::ops::AddAssign for Synced {
    fn add_assign(&mut self, other: Self) {
        self.rejected += other.rejected;
        self.superseded += other.superseded;
    }
}

/// Brings a table in step with an answer's records, slice by slice, so that only a few of them are in memory as more
/// than text. `parent` is the id that was asked for, `first_seen` what a sale without a branch is given.
///
/// # Errors
/// If any of them could not be read or written. The others were.
pub async fn sync(
    table: &dyn Table,
    sketches: Vec<Sketch<'_>>,
    parent: Option<&Id>,
    first_seen: Option<&Id>,
    last_modified: &str,
    tally: &Tally,
) -> Result<Synced, TableError> {
    let work: Vec<_> = slices(sketches)
        .map(|slice| sync_slice(table, slice, parent, first_seen, last_modified, tally))
        .collect();
    // The others go on where one fails; the first error is answered.
    let results = futures::stream::iter(work).buffer_unordered(SLICES_AT_ONCE);
    let add = async |all: Result<Synced, TableError>, one: Result<Synced, TableError>| {
        let mut all = all?;
        all += one?;
        Ok(all)
    };
    results.fold(Ok(Synced::default()), add).await
}

async fn sync_slice(
    table: &dyn Table,
    slice: Vec<Sketch<'_>>,
    parent: Option<&Id>,
    first_seen: Option<&Id>,
    last_modified: &str,
    tally: &Tally,
) -> Result<Synced, TableError> {
    let (records, unreadable) = read_records(table.entity(), &slice, parent, first_seen, tally);
    let rows = table
        .read(records.iter().map(|record| record.key.clone()).collect())
        .await?;
    let mut synced = write_changes(table, &slice, records, rows, last_modified, tally).await?;
    synced.rejected += unreadable;
    Ok(synced)
}

/// Cuts an answer into slices, none of more records than can be read at once.
pub fn slices(sketches: Vec<Sketch<'_>>) -> impl Iterator<Item = Vec<Sketch<'_>>> {
    let mut rest = sketches.into_iter().peekable();
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let mut slice = Vec::new();
        while slice.len() < MAX_READ
            && let Some(next) = rest.next_if(|next| slice.is_empty() || bytes + next.raw.get().len() <= SLICE_BYTES)
        {
            bytes += next.raw.get().len();
            slice.push(next);
        }
        (!slice.is_empty()).then_some(slice)
    })
}

/// The records of a slice that can be stored, and the others, which are logged and counted.
pub fn read_records(
    entity: Entity,
    slice: &[Sketch<'_>],
    parent: Option<&Id>,
    first_seen: Option<&Id>,
    tally: &Tally,
) -> (Vec<Record>, Rejected) {
    let (mut records, mut rejected) = (Vec::with_capacity(slice.len()), Rejected::default());
    for sketch in slice {
        match Record::from_json(entity, sketch.raw, parent, first_seen) {
            Ok(record) => records.push(record),
            Err(rejection) => rejected.add(&sketch.id, sketch.raw.get(), &rejection, tally),
        }
    }
    (records, rejected)
}

/// Compares a slice's records with the rows that were read for them, and writes those that differ. Counts what became of each.
///
/// # Errors
/// If a write failed; others were done, and doing all again changes nothing that is already right.
pub async fn write_changes(
    table: &dyn Table,
    slice: &[Sketch<'_>],
    records: Vec<Record>,
    mut rows: HashMap<Key, Row>,
    last_modified: &str,
    tally: &Tally,
) -> Result<Synced, TableError> {
    let mut synced = Synced::default();
    let mut failure = None;
    let mut pending: Vec<_> = records
        .iter()
        .map(|record| (record, rows.remove(&record.key)))
        .collect();
    for _ in 0..MAX_CONFLICTS {
        let mut differing = Vec::with_capacity(pending.len());
        let mut writes = Vec::with_capacity(pending.len());
        for (record, row) in &pending {
            match compare(table.entity(), record, row.as_ref(), last_modified) {
                Comparison::Same => tally.count(|counts| counts.unchanged += 1),
                Comparison::Superseded => {
                    debug!(id = %record.key.id, "a later answer has been written already");
                    tally.count(|counts| counts.unchanged += 1);
                    synced.superseded += 1;
                }
                Comparison::Differs(write) => {
                    differing.push(*record);
                    writes.push(write);
                }
            }
        }
        if writes.is_empty() {
            pending.clear();
            break;
        }
        let results = table.write_all(&writes, last_modified).await;
        let mut conflicts = Vec::new();
        for ((record, write), result) in differing.into_iter().zip(&writes).zip(results) {
            match result {
                Ok(Written::Done) => tally.count(|counts| match write.seen {
                    None => counts.inserted += 1,
                    Some(_) => counts.updated += 1,
                }),
                Ok(Written::Changed(now)) => conflicts.push((record, now)),
                Ok(Written::Refused(reason)) => {
                    let sketch = slice.iter().find(|sketch| sketch.id == record.key.id);
                    let raw = sketch.map_or("", |sketch| sketch.raw.get());
                    let rejection = Rejection::Refused(reason);
                    synced.rejected.add(&record.key.id, raw, &rejection, tally);
                }
                Err(error) => {
                    failure.get_or_insert(error);
                }
            }
        }
        pending = conflicts;
    }
    if let Some((record, _)) = pending.first() {
        failure.get_or_insert_with(|| never_still(table.entity(), &record.key));
    }
    failure.map_or(Ok(synced), Err)
}

enum Comparison<'a> {
    Same,
    Superseded,
    Differs(Write<'a>),
}

fn compare<'a>(entity: Entity, record: &'a Record, row: Option<&'a Row>, last_modified: &str) -> Comparison<'a> {
    if is_later(row, last_modified) {
        return Comparison::Superseded;
    }
    match Change::between(entity, row, record) {
        Change::Unchanged => Comparison::Same,
        change => Comparison::Differs(Write {
            key: &record.key,
            seen: row,
            change,
        }),
    }
}

pub(crate) fn never_still(entity: Entity, key: &Key) -> TableError {
    TableError {
        action: "keep a row still for long enough to write it",
        source: format!(
            "{} {} was written by others {MAX_CONFLICTS} times in between",
            entity.name(),
            key.id
        )
        .into(),
    }
}

/// Whether a row was written from an answer that was fetched later.
pub(crate) fn is_later(row: Option<&Row>, last_modified: &str) -> bool {
    row.and_then(|row| row.last_modified.as_deref())
        // What is no such time, somebody else has put there.
        .is_some_and(|stored| is_last_modified(stored) && stored > last_modified)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::memory::MemoryTable;
    use crate::value::Value;
    use crate::vendor::answer::distinct;

    #[test]
    fn slices_end_after_a_hundred_records_or_a_megabyte() {
        let short: Vec<_> = (0..250).map(|id| format!(r#"{{"id": {id}}}"#)).collect();
        let long: Vec<_> = (0..5)
            .map(|id| format!(r#"{{"id": {id}, "text": "{}"}}"#, "x".repeat(400_000)))
            .collect();
        for (records, lengths) in [(short, vec![100, 100, 50]), (long, vec![2, 2, 1]), (vec![], vec![])] {
            let records: Vec<_> = records.iter().map(|json| serde_json::from_str(json).unwrap()).collect();
            let (sketches, _) = distinct(Entity::Branch, records, None);
            assert_eq!(slices(sketches).map(|slice| slice.len()).collect::<Vec<_>>(), lengths);
        }
    }

    const EARLY: &str = "2026-11-21T01:00:00.000Z";
    const NOW: &str = "2026-11-21T02:00:00.000Z";
    const LATE: &str = "2026-11-21T03:00:00.000Z";

    fn record(colour: &str, size: &str) -> Record {
        let attributes = [("colour", colour), ("size", size)];
        Record {
            key: Key {
                id: Id::new("1".to_owned()).unwrap(),
                parent: None,
            },
            attributes: attributes
                .map(|(name, value)| (name.to_owned(), Value::String(value.to_owned())))
                .into(),
            first_seen: None,
        }
    }

    fn row(record: &Record, last_modified: &str) -> Row {
        Row {
            attributes: record.attributes.clone(),
            last_modified: Some(last_modified.to_owned()),
            ..Row::default()
        }
    }

    async fn sync(table: &MemoryTable, record: Record) -> crate::tally::Counts {
        let tally = Tally::default();
        let rows = table.read(vec![record.key.clone()]).await.unwrap();
        write_changes(table, &[], vec![record], rows, NOW, &tally)
            .await
            .unwrap();
        tally.counts()
    }

    fn named(id: &str, record: Record) -> Record {
        Record {
            key: Key {
                id: Id::new(id.to_owned()).unwrap(),
                parent: None,
            },
            ..record
        }
    }

    #[tokio::test]
    async fn a_row_that_says_the_same_is_not_written() {
        let table = MemoryTable::new(Entity::Branch);
        assert_eq!(sync(&table, record("red", "1")).await.inserted, 1);
        let counts = sync(&table, record("red", "1")).await;
        assert_eq!((counts.unchanged, table.writes()), (1, 1));
    }

    #[tokio::test]
    async fn an_earlier_answer_never_overwrites_a_later_one() {
        let table = MemoryTable::new(Entity::Branch);
        let stored = row(&record("blue", "2"), LATE);
        table.put(record("", "").key, stored.clone());
        assert_eq!(sync(&table, record("red", "1")).await.unchanged, 1);
        assert_eq!(table.rows()[&record("", "").key], stored);
    }

    #[tokio::test]
    async fn a_last_modified_that_is_no_time_keeps_nothing_from_being_written() {
        let table = MemoryTable::new(Entity::Branch);
        table.put(record("", "").key, row(&record("blue", "2"), "yesterday"));
        assert_eq!(sync(&table, record("red", "1")).await.updated, 1);
    }

    #[tokio::test]
    async fn a_later_answer_that_slips_in_before_the_write_stands() {
        let table = MemoryTable::new(Entity::Branch);
        let later = row(&record("blue", "2"), LATE);
        table.put_before_next_write(record("", "").key, later.clone());
        assert_eq!(sync(&table, record("red", "1")).await.unchanged, 1);
        assert_eq!(table.rows()[&record("", "").key], later);
    }

    #[tokio::test]
    async fn a_row_is_one_answers_record_even_if_an_earlier_one_slips_in_before_the_write() {
        let table = MemoryTable::new(Entity::Branch);
        table.put(record("", "").key, row(&record("red", "1"), EARLY));
        // Compared with the row as read only the size differs; the other answer changes the colour in between.
        let between = row(&record("blue", "1"), "2026-11-21T01:30:00.000Z");
        table.put_before_next_write(record("", "").key, between);
        assert_eq!(sync(&table, record("red", "2")).await.updated, 1);
        assert_eq!(table.rows()[&record("", "").key], row(&record("red", "2"), NOW));
    }

    #[tokio::test]
    async fn where_one_write_fails_the_call_fails() {
        let table = MemoryTable::new(Entity::Branch);
        table.fail_after(Some(0));
        let result = write_changes(
            &table,
            &[],
            vec![record("red", "1")],
            HashMap::new(),
            NOW,
            &Tally::default(),
        )
        .await;
        assert_eq!(result.unwrap_err().to_string(), "DynamoDB did not write a row");
    }

    #[tokio::test]
    async fn a_conflict_on_one_row_leaves_the_others_of_the_same_batch_as_they_are() {
        let table = MemoryTable::new(Entity::Branch);
        let records: Vec<_> = ["1", "2", "3"].map(|id| named(id, record("red", "1"))).into();
        table.put_before_next_write(records[1].key.clone(), row(&record("blue", "2"), EARLY));
        let tally = Tally::default();
        let synced = write_changes(&table, &[], records, HashMap::new(), NOW, &tally).await;
        assert_eq!(synced.unwrap(), Synced::default());
        let counts = tally.counts();
        assert_eq!((counts.inserted, counts.updated, table.writes()), (2, 1, 4));
        assert!(
            table
                .rows()
                .values()
                .all(|stored| *stored == row(&record("red", "1"), NOW))
        );
    }

    #[tokio::test]
    async fn what_keeps_an_answer_from_standing_in_the_table_is_told() {
        let table = MemoryTable::new(Entity::Branch);
        table.put(record("", "").key, row(&record("blue", "2"), LATE));
        let records: Vec<_> = [
            r#"{"id": 1}"#,
            r#"{"id": 2}"#,
            r#"{"id": 3, "branch_id": 4, "branch_branch_id": 5}"#,
        ]
        .map(|json| serde_json::from_str(json).unwrap())
        .into();
        let (sketches, _) = distinct(Entity::Branch, records, None);
        let tally = Tally::default();
        let synced = super::sync(&table, sketches, None, None, NOW, &tally).await.unwrap();
        assert_eq!((synced.rejected.total(), synced.superseded), (1, 1));
        assert!(!synced.is_whole());
        assert_eq!((tally.counts().inserted, tally.counts().rejected), (1, 1));
    }
}
