//! Which attributes the vendor sends, and of which types and forms: what is new is told once.
//!
//! Nothing depends on it: a new attribute is kept as JSON, and so is a known one of a type or a form that its column does not hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use shared::error_chain;
use shared::jitter::Jitter;
use shared::state::{Entry, StateError, StateTable, Swapped};
use shared::value::Value;
use tracing::warn;

use crate::json;
use crate::log::Log;
use crate::row::{self, Fit};

/// Attributes by name, with what was seen of each: JSON types, or of which type in another form than its column holds.
pub type Kinds = BTreeMap<String, BTreeSet<String>>;

/// How many attributes of a log are remembered: an entry of the state table has its limit. Those beyond are told once by each
/// process.
const REMEMBERED: usize = 1000;

/// What is added to the type of a value that its column is for and cannot hold: a date that is written otherwise, a number of too
/// many digits.
const OTHER_FORM: &str = " of another form";

/// How often an entry that somebody else writes at the same time is tried.
const TRIES: usize = 5;

/// What was seen so far.
pub struct Sightings {
    state: Option<Arc<dyn StateTable>>,
    jitter: Jitter,
    known: Mutex<BTreeMap<Log, Kinds>>,
}

/// An entry of the state table.
#[derive(Default, Serialize, Deserialize)]
struct Remembered {
    #[serde(default)]
    attributes: Kinds,
    /// Tells two that write the same at the same time apart.
    #[serde(default)]
    by: String,
}

/// What came of looking at a batch's attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// How many attributes were new, or of a new type or form.
    pub attributes: u64,
    /// Whether the state table could not be reached.
    pub state_failed: bool,
}

/// The entry of the state table that remembers a log's attributes.
pub fn entry_of(log: Log) -> String {
    format!("schema/{}", log.name())
}

impl Sightings {
    /// What `state` remembers; without it, each process begins anew.
    pub fn new(state: Option<Arc<dyn StateTable>>, jitter: Jitter) -> Self {
        Self {
            state,
            jitter,
            known: Mutex::default(),
        }
    }

    /// Adds an item's attributes to what a batch holds.
    pub fn look_at(log: Log, image: &BTreeMap<String, Value>, seen: &mut Kinds) {
        for (name, value) in image {
            let Some(kind) = json::kind(value) else { continue };
            let kind = match row::fit(log, name, value) {
                Fit::Fits => continue,
                Fit::NoColumn | Fit::OtherType => kind.to_owned(),
                Fit::OtherForm => format!("{kind}{OTHER_FORM}"),
            };
            if !seen.get(name).is_some_and(|kinds| kinds.contains(&kind)) {
                seen.entry(name.clone()).or_default().insert(kind);
            }
        }
    }

    /// Tells of what is new in a batch, and remembers it.
    pub async fn note(&self, log: Log, seen: Kinds) -> News {
        let fresh = without(seen, self.known(|known| known.get(&log).cloned()).unwrap_or_default());
        if fresh.is_empty() {
            return News::default();
        }
        let (news, state_failed) = match self.remember(log, &fresh).await {
            Ok(news) => (news, false),
            Err(error) => {
                warn!(
                    reason = error_chain(&error),
                    "new attributes are not remembered, and will be told again"
                );
                (fresh.clone(), true)
            }
        };
        self.known(|known| add(known.entry(log).or_default(), fresh));
        if !news.is_empty() {
            let list = |(name, kinds): (&String, &BTreeSet<String>)| {
                format!(
                    "{name} ({})",
                    kinds.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
                )
            };
            let attributes: Vec<_> = news.iter().map(list).collect();
            warn!(
                log = log.name(),
                attributes = attributes.join(", "),
                "attributes that were not there before, or not of that type or form: they are kept as JSON"
            );
        }
        News {
            attributes: news.len() as u64,
            state_failed,
        }
    }

    fn known<T>(&self, ask: impl FnOnce(&mut BTreeMap<Log, Kinds>) -> T) -> T {
        ask(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds to what is remembered, and answers what was not remembered before: only one who adds it gets it.
    async fn remember(&self, log: Log, fresh: &Kinds) -> Result<Kinds, StateError> {
        let Some(state) = &self.state else {
            return Ok(fresh.clone());
        };
        let id = entry_of(log);
        let mut seen = state.read(&id).await?;
        for _ in 0..TRIES {
            let mut remembered: Remembered = match &seen {
                Some(entry) => entry.read()?,
                None => Remembered::default(),
            };
            let news = without(fresh.clone(), remembered.attributes.clone());
            if news.is_empty() {
                return Ok(news);
            }
            add(&mut remembered.attributes, news.clone());
            if remembered.attributes.len() > REMEMBERED {
                return Ok(news);
            }
            remembered.by = self.jitter.token();
            let entry = Entry::after(seen.as_ref(), &remembered, None)?;
            match state.swap(&id, seen.as_ref().map(|seen| seen.version), &entry).await? {
                Swapped::Done => return Ok(news),
                Swapped::Conflict(current) => seen = current,
            }
        }
        Err(StateError {
            action: "be written",
            source: format!("others have written {id} {TRIES} times meanwhile").into(),
        })
    }
}

fn without(mut all: Kinds, known: Kinds) -> Kinds {
    for (name, kinds) in known {
        if let Some(left) = all.get_mut(&name) {
            left.retain(|kind| !kinds.contains(kind));
        }
    }
    all.retain(|_, kinds| !kinds.is_empty());
    all
}

fn add(all: &mut Kinds, more: Kinds) {
    for (name, kinds) in more {
        all.entry(name).or_default().extend(kinds);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::state::memory::MemoryState;

    fn seen(json: &str) -> Kinds {
        let raw: BTreeMap<String, &serde_json::value::RawValue> = serde_json::from_str(json).unwrap();
        let image = raw
            .into_iter()
            .map(|(name, raw)| (name, Value::from_json(raw).unwrap()))
            .collect();
        let mut seen = Kinds::new();
        Sightings::look_at(Log::Sales, &image, &mut seen);
        seen
    }

    fn process(state: &Arc<MemoryState>, seed: u64) -> Sightings {
        Sightings::new(Some(state.clone()), Jitter::seeded(seed))
    }

    #[test]
    fn what_its_column_is_for_and_null_are_no_news() {
        let known = r#"{"note": "a", "quantity": 1, "branch_id": 3, "amount": null, "gift": null,
                "transaction_timestamp": "2023-01-01 23:43:23", "last_modified": "2026-11-21T01:02:03.456Z"}"#;
        assert!(seen(known).is_empty());
        let new = seen(r#"{"note": 5, "quantity": "1", "tags": ["a"]}"#);
        assert_eq!(new.keys().collect::<Vec<_>>(), ["note", "quantity", "tags"]);
        assert!(new["note"].contains("number") && new["tags"].contains("array"));
    }

    #[tokio::test]
    async fn what_is_written_otherwise_than_its_column_holds_it_is_named_once() {
        let other = r#"{"transaction_timestamp": "01.01.2023", "quantity": 2.5, "amount": 0.00000000001, "branch_id": 3.5,
            "deleted_at": "yesterday", "discount": "0.1"}"#;
        let kinds = seen(other);
        let kinds: Vec<_> = kinds
            .iter()
            .map(|(name, kinds)| {
                format!(
                    "{name}: {}",
                    Vec::from_iter(kinds.iter().map(String::as_str)).join(", ")
                )
            })
            .collect();
        assert_eq!(
            kinds,
            [
                "amount: number of another form",
                "branch_id: number of another form",
                "deleted_at: string of another form",
                "discount: string",
                "quantity: number of another form",
                "transaction_timestamp: string of another form",
            ]
        );
        let state = Arc::new(MemoryState::default());
        let (one, two) = (process(&state, 1), process(&state, 2));
        assert_eq!(one.note(Log::Sales, seen(other)).await.attributes, 6);
        assert_eq!(one.note(Log::Sales, seen(other)).await.attributes, 0);
        assert_eq!(two.note(Log::Sales, seen(other)).await.attributes, 0);
    }

    #[tokio::test]
    async fn a_new_attribute_and_a_new_type_are_told_once_by_all_processes_together() {
        let state = Arc::new(MemoryState::default());
        let (one, other) = (process(&state, 1), process(&state, 2));
        assert_eq!(one.note(Log::Sales, seen(r#"{"gift": true}"#)).await.attributes, 1);
        assert_eq!(one.note(Log::Sales, seen(r#"{"gift": false}"#)).await.attributes, 0);
        assert_eq!(other.note(Log::Sales, seen(r#"{"gift": true}"#)).await.attributes, 0);
        assert_eq!(
            other
                .note(Log::Sales, seen(r#"{"gift": "yes", "tags": []}"#))
                .await
                .attributes,
            2
        );
        assert_eq!(
            one.note(Log::Sales, seen(r#"{"gift": "yes", "tags": []}"#))
                .await
                .attributes,
            0
        );
        assert_eq!(one.note(Log::Branches, seen(r#"{"gift": true}"#)).await.attributes, 1);
    }

    #[tokio::test]
    async fn what_is_known_is_not_asked_of_the_state_table_again() {
        let state = Arc::new(MemoryState::default());
        let sightings = process(&state, 1);
        sightings.note(Log::Sales, seen(r#"{"gift": true}"#)).await;
        let reads = state.reads();
        sightings.note(Log::Sales, seen(r#"{"gift": true, "note": "a"}"#)).await;
        assert_eq!(state.reads(), reads);
    }

    #[tokio::test]
    async fn without_the_state_table_each_process_tells_it_once() {
        let state = Arc::new(MemoryState::default());
        state.fail(true);
        let down = News {
            attributes: 1,
            state_failed: true,
        };
        let sightings = process(&state, 1);
        assert_eq!(sightings.note(Log::Sales, seen(r#"{"gift": true}"#)).await, down);
        assert_eq!(
            sightings.note(Log::Sales, seen(r#"{"gift": true}"#)).await,
            News::default()
        );
        let alone = Sightings::new(None, Jitter::seeded(1));
        assert_eq!(alone.note(Log::Sales, seen(r#"{"gift": true}"#)).await.attributes, 1);
        assert_eq!(alone.note(Log::Sales, seen(r#"{"gift": true}"#)).await.attributes, 0);
    }

    #[tokio::test]
    async fn names_without_end_do_not_fill_the_entry() {
        let state = Arc::new(MemoryState::default());
        let many: Vec<_> = (0..=REMEMBERED).map(|number| format!(r#""a{number}": 1"#)).collect();
        let news = process(&state, 1)
            .note(Log::Sales, seen(&format!("{{{}}}", many.join(","))))
            .await;
        assert_eq!(news.attributes, 1001);
        assert!(state.entries().is_empty());
    }
}
