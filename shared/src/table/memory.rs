//! A table in memory, for the collectors' tests.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{MAX_READ, Table, TableError, Write, Written};
use crate::change::Row;
use crate::entity::Entity;
use crate::record::Key;

/// A table in memory, which counts what is asked of it.
#[derive(Debug)]
pub struct MemoryTable {
    entity: Entity,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Key, Row>,
    reads: usize,
    writes: usize,
    before_write: Vec<(Key, Row)>,
    failing_after: Option<usize>,
}

impl MemoryTable {
    /// An empty table.
    pub fn new(entity: Entity) -> Self {
        Self {
            entity,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All rows.
    pub fn rows(&self) -> BTreeMap<Key, Row> {
        self.state().rows.clone()
    }

    /// Puts a row into the table, as a correction by hand would.
    pub fn put(&self, key: Key, row: Row) {
        self.state().rows.insert(key, row);
    }

    /// How many writes were tried.
    pub fn writes(&self) -> usize {
        self.state().writes
    }

    /// How many rows were asked for.
    pub fn reads(&self) -> usize {
        self.state().reads
    }

    /// Puts a row into the table right before the next write, as another instance would.
    pub fn put_before_next_write(&self, key: Key, row: Row) {
        self.state().before_write.push((key, row));
    }

    /// Makes every write fail after so many more of them.
    pub fn fail_after(&self, writes: Option<usize>) {
        let mut state = self.state();
        state.failing_after = writes.map(|writes| state.writes + writes);
    }
}

impl State {
    fn write(&mut self, write: &Write<'_>, last_modified: &str) -> Result<Written, TableError> {
        if self.failing_after.is_some_and(|limit| self.writes >= limit) {
            return Err(TableError {
                action: "write a row",
                source: "the table is down".into(),
            });
        }
        self.writes += 1;
        self.rows.extend(self.before_write.drain(..));
        let current = self.rows.get(write.key);
        let unchanged = match (current, write.seen) {
            (None, None) => true,
            (Some(current), Some(seen)) => current.last_modified == seen.last_modified,
            _ => false,
        };
        if !unchanged {
            return Ok(Written::Changed(current.cloned()));
        }
        let after = write.change.apply(current, last_modified);
        self.rows.insert(write.key.clone(), after);
        Ok(Written::Done)
    }
}

#[async_trait]
impl Table for MemoryTable {
    fn entity(&self) -> Entity {
        self.entity
    }

    async fn read(&self, keys: Vec<Key>) -> Result<HashMap<Key, Row>, TableError> {
        assert!(keys.len() <= MAX_READ, "{} keys read at once", keys.len());
        let mut state = self.state();
        state.reads += keys.len();
        Ok(keys
            .into_iter()
            .filter_map(|key| Some((key.clone(), state.rows.get(&key)?.clone())))
            .collect())
    }

    async fn write_all(&self, writes: &[Write<'_>], last_modified: &str) -> Vec<Result<Written, TableError>> {
        let mut state = self.state();
        writes.iter().map(|write| state.write(write, last_modified)).collect()
    }
}
