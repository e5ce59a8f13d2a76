//! What the vendor sent and nobody could store is remembered, by what was asked for: an entry of the state table lists an
//! answer's rejected records, or says what was wrong with an answer that was not as expected. It is looked at by whoever
//! mends it, and by the collectors themselves: what was rejected is tried again before newer data.
//!
//! An entry is read and written only where something is rejected, or was the last time; that it was is noted in the
//! checkpoint. Beside the entries, an index of names and one of salespersons say which of them have one: they come first.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::warn;

use crate::checkpoint::{Visit, entry_id};
use crate::clock::Clock;
use crate::entity::Entity;
use crate::error_chain;
use crate::invocation::Invocation;
use crate::run::last_modified;
use crate::state::{Entry, StateError, StateTable, Swapped};
use crate::vendor::answer::{self, MalformedAnswer, Shape};
use crate::vendor::excerpt::Excerpts;
use crate::vendor::{Answer, FetchError, Fetched, Vendor};

mod found;
mod remembered;

pub(crate) use found::log;
pub use found::{MOST_RECORDS, Rejected};
pub use remembered::{MOST_SAMPLE_BYTES, Remembered, RememberedRecord, Sighting};

/// What the names of entries begin with. What follows is the kind, and what was asked for.
pub const PREFIX: &str = "rejected/";

/// How long an entry is kept after it was last written. As long as something is rejected, each run writes it.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How many ids an index holds, the newest, and how long each may be.
const MOST_INDEXED: usize = 1000;
const LONGEST_INDEXED: usize = 256;

/// How often an entry is written anew because somebody else wrote it in between.
const MAX_CONFLICTS: u32 = 20;

/// All that is remembered of what could not be stored.
#[derive(Clone)]
pub struct Rejections {
    table: Option<Arc<dyn StateTable>>,
    clock: Clock,
    excerpts: Excerpts,
}

/// What is remembered of the answers to one question.
#[derive(Debug, Default)]
pub struct Recalled {
    entry: Option<Entry>,
    remembered: Remembered,
}

/// Which ids have an entry.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    /// The newest last.
    ids: Vec<String>,
}

impl Recalled {
    /// Whether a record was rejected the last time.
    pub fn names(&self, id: &str) -> bool {
        self.remembered.names(id)
    }
}

impl Rejections {
    /// What is remembered in `table`; without one, nothing is. `excerpts` keeps the API key out of it.
    pub fn new(table: Option<Arc<dyn StateTable>>, clock: Clock, excerpts: Excerpts) -> Self {
        Self { table, clock, excerpts }
    }

    /// The ids of a kind of which something is remembered: they come first.
    pub async fn come_first(&self, kind: Entity, invocation: &Invocation) -> HashSet<String> {
        let Some(table) = &self.table else {
            return HashSet::new();
        };
        match table.read(&index_id(kind)).await {
            Ok(entry) => read::<Index>(entry.as_ref()).ids.into_iter().collect(),
            Err(failure) => {
                unreached(&failure, invocation);
                HashSet::new()
            }
        }
    }

    /// What is remembered of the answers to the question of a visit; `None` if that is not known, or nothing can be
    /// remembered.
    pub async fn recall(&self, visit: &Visit<'_>, invocation: &Invocation) -> Option<Recalled> {
        let table = self.table.as_deref().filter(|_| visit.is_claimed())?;
        if !visit.may_have_rejections() {
            return Some(Recalled::default());
        }
        match table.read(&id(visit)).await {
            Ok(entry) => Some(Recalled {
                remembered: read(entry.as_ref()),
                entry,
            }),
            Err(failure) => {
                unreached(&failure, invocation);
                None
            }
        }
    }

    /// Remembers what was rejected of an answer, or forgets what was before, if nothing is.
    pub async fn remember(
        &self,
        visit: &mut Visit<'_>,
        recalled: Option<Recalled>,
        rejected: &Rejected,
        fetched_at: &str,
        invocation: &Invocation,
    ) {
        let after = |before: &Remembered| before.after(rejected, fetched_at, &self.excerpts);
        self.write(visit, recalled, after, invocation).await;
    }

    /// Asks the vendor what a visit asks. A body that is no answer, although it came with a status of success, is remembered.
    ///
    /// # Errors
    /// If there is no answer.
    pub async fn fetch(
        &self,
        vendor: &dyn Vendor,
        visit: &mut Visit<'_>,
        invocation: &Invocation,
        quota_until: Instant,
    ) -> Result<Fetched, FetchError> {
        let fetched = vendor.fetch(&visit.question(), invocation, quota_until).await;
        if let Err(FetchError::Transient {
            reason,
            malformed: Some(body),
            ..
        }) = &fetched
        {
            let recalled = self.recall(visit, invocation).await;
            let seen_at = last_modified(self.clock.now());
            let after = |before: &Remembered| before.after_malformed(reason, body.as_bytes(), &seen_at, &self.excerpts);
            self.write(visit, recalled, after, invocation).await;
        }
        fetched
    }

    /// The records of a new answer, unread. One that is not as expected is remembered.
    ///
    /// # Errors
    /// If it is not.
    pub async fn records<'a>(
        &self,
        visit: &mut Visit<'_>,
        answer: &'a Answer,
        shape: Shape<'_>,
        invocation: &Invocation,
    ) -> Result<Vec<&'a RawValue>, MalformedAnswer> {
        let malformed = match answer::records(&answer.pages, shape) {
            Ok(records) => return Ok(records),
            Err(malformed) => malformed,
        };
        let recalled = self.recall(visit, invocation).await;
        let body = answer.pages.get(malformed.page()).map_or(&[][..], AsRef::as_ref);
        let (reason, fetched_at) = (malformed.to_string(), last_modified(answer.fetched_at));
        let after = |before: &Remembered| before.after_malformed(&reason, body, &fetched_at, &self.excerpts);
        self.write(visit, recalled, after, invocation).await;
        Err(malformed)
    }

    async fn write(
        &self,
        visit: &mut Visit<'_>,
        recalled: Option<Recalled>,
        after: impl Fn(&Remembered) -> Remembered,
        invocation: &Invocation,
    ) {
        let (Some(table), Some(recalled)) = (self.table.as_deref(), recalled) else {
            return;
        };
        if let Err(failure) = self.try_to_write(table, visit, recalled, after).await {
            unreached(&failure, invocation);
        }
    }

    async fn try_to_write(
        &self,
        table: &dyn StateTable,
        visit: &mut Visit<'_>,
        recalled: Recalled,
        after: impl Fn(&Remembered) -> Remembered,
    ) -> Result<(), StateError> {
        let Recalled {
            mut entry,
            remembered: mut before,
        } = recalled;
        let now = self.clock.now();
        for _ in 0..MAX_CONFLICTS {
            let next = after(&before);
            let is_empty = next.is_empty();
            if next != before {
                // What says nothing can be forgotten at once.
                let expires_at = if is_empty { now } else { now + KEPT };
                let written = Entry::after(entry.as_ref(), &next, Some(expires_at))?;
                let seen = entry.as_ref().map(|entry| entry.version);
                if let Swapped::Conflict(current) = table.swap(&id(visit), seen, &written).await? {
                    before = read(current.as_ref());
                    entry = current;
                    continue;
                }
            }
            visit.note_rejections(!is_empty);
            if is_empty != before.is_empty() {
                self.index(table, visit, !is_empty).await?;
            }
            return Ok(());
        }
        Ok(())
    }

    /// Notes in the index whether something is remembered of the answers to a visit's question.
    async fn index(&self, table: &dyn StateTable, visit: &Visit<'_>, is_remembered: bool) -> Result<(), StateError> {
        let (kind, (_, _, asked)) = (visit.task().query.entity(), visit.task().query.parts());
        // Of branches' salespersons there is none: a branch is asked for as soon as its message comes.
        if kind == Entity::Salesperson || asked.len() > LONGEST_INDEXED {
            return Ok(());
        }
        let mut entry = table.read(&index_id(kind)).await?;
        for _ in 0..MAX_CONFLICTS {
            let mut index: Index = read(entry.as_ref());
            if is_remembered == index.ids.iter().any(|id| id == asked) {
                return Ok(());
            }
            index.ids.retain(|id| id != asked);
            if is_remembered {
                index.ids.push(asked.to_owned());
                let surplus = index.ids.len().saturating_sub(MOST_INDEXED);
                index.ids.drain(..surplus);
            }
            let next = Entry::after(entry.as_ref(), &index, None)?;
            let seen = entry.as_ref().map(|entry| entry.version);
            match table.swap(&index_id(kind), seen, &next).await? {
                Swapped::Done => return Ok(()),
                Swapped::Conflict(current) => entry = current,
            }
        }
        Ok(())
    }
}

fn id(visit: &Visit<'_>) -> String {
    format!("{PREFIX}{}", entry_id(&visit.task().query))
}

fn index_id(kind: Entity) -> String {
    format!("{PREFIX}{}", kind.list_name())
}

/// What an entry says. What is not understood says nothing, and is written anew.
fn read<T: Default + for<'de> Deserialize<'de>>(entry: Option<&Entry>) -> T {
    let Some(entry) = entry else { return T::default() };
    entry.read().unwrap_or_else(|failure| {
        warn!(
            reason = error_chain(&failure),
            "what is remembered of rejected records is not understood and begun anew"
        );
        T::default()
    })
}

fn unreached(failure: &StateError, invocation: &Invocation) {
    warn!(
        reason = error_chain(failure),
        "the state table cannot be reached; what was rejected is not remembered"
    );
    invocation.tally.count(|counts| counts.state_failures += 1);
}
