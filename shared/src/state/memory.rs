//! A state table in memory, for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Addition, Entry, StateError, StateTable, Swapped};

/// A state table in memory, which counts what is asked of it.
#[derive(Debug, Default)]
pub struct MemoryState(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    reads: usize,
    writes: usize,
    failing: bool,
}

impl MemoryState {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All entries.
    pub fn entries(&self) -> BTreeMap<String, Entry> {
        self.state().entries.clone()
    }

    /// How many entries were asked for.
    pub fn reads(&self) -> usize {
        self.state().reads
    }

    /// How many swaps and additions were asked for, swaps that conflicted included.
    pub fn writes(&self) -> usize {
        self.state().writes
    }

    /// Makes every call fail from now on, or no longer.
    pub fn fail(&self, failing: bool) {
        self.state().failing = failing;
    }

    fn answering(&self, action: &'static str) -> Result<MutexGuard<'_, State>, StateError> {
        let state = self.state();
        if state.failing {
            return Err(StateError {
                action,
                source: "the state table is down".into(),
            });
        }
        Ok(state)
    }
}

#[async_trait]
impl StateTable for MemoryState {
    async fn read(&self, id: &str) -> Result<Option<Entry>, StateError> {
        let mut state = self.answering("be read")?;
        state.reads += 1;
        Ok(state.entries.get(id).cloned())
    }

    async fn swap(&self, id: &str, seen: Option<u64>, entry: &Entry) -> Result<Swapped, StateError> {
        let mut state = self.answering("be written")?;
        state.writes += 1;
        let current = state.entries.get(id);
        if current.map(|current| current.version) != seen {
            if current == Some(entry) {
                return Ok(Swapped::Done);
            }
            let current = current.cloned();
            return Ok(Swapped::Conflict(current));
        }
        state.entries.insert(id.to_owned(), entry.clone());
        Ok(Swapped::Done)
    }

    async fn add(&self, id: &str, addition: &Addition) -> Result<Entry, StateError> {
        let mut state = self.answering("be added to")?;
        state.writes += 1;
        let entry = addition.to(state.entries.get(id));
        state.entries.insert(id.to_owned(), entry.clone());
        Ok(entry)
    }
}
