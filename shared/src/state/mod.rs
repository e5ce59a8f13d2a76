//! The state table: what the collectors remember between invocations and share between instances. Its entries are of two
//! kinds: registers, which are read, and written only if nobody has written them since; and accounts, which are added to
//! without looking.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use time::UtcDateTime;

pub mod dynamodb;
#[cfg(any(test, feature = "memory"))]
pub mod memory;

/// An entry of the state table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// One more than the version that it replaced; 1 is the first.
    pub version: u64,
    /// What it says.
    pub body: Map<String, Value>,
    /// When it can be forgotten; `None`: never.
    pub expires_at: Option<UtcDateTime>,
}

impl Entry {
    /// The entry that follows `seen` and says `body`, which has to serialise as an object. Of it, what is null is left out.
    ///
    /// # Errors
    /// If it does not.
    pub fn after(
        seen: Option<&Self>,
        body: &impl Serialize,
        expires_at: Option<UtcDateTime>,
    ) -> Result<Self, StateError> {
        let unusable = |source: Box<dyn std::error::Error + Send + Sync>| StateError {
            action: "be written down",
            source,
        };
        match serde_json::to_value(body).map_err(|error| unusable(error.into()))? {
            Value::Object(body) => Ok(Self {
                version: seen.map_or(0, |seen| seen.version) + 1,
                body: body.into_iter().filter(|(_, value)| !value.is_null()).collect(),
                // The table keeps whole seconds.
                expires_at: expires_at.and_then(|time| time.replace_nanosecond(0).ok()),
            }),
            other => Err(unusable(format!("{other} is no object").into())),
        }
    }

    /// What it says, read as `T`.
    ///
    /// # Errors
    /// If it says something else: somebody else has written it.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, StateError> {
        serde_json::from_value(Value::Object(self.body.clone())).map_err(|error| StateError {
            action: "be understood",
            source: error.into(),
        })
    }
}

/// What became of a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// It was done, and is durable.
    Done,
    /// The entry is no longer as it was seen; this is how it is now.
    Conflict(Option<Entry>),
}

/// What is added to an account, all of it at once, whoever else adds meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addition {
    /// Added to numbers; one that is not there yet is 0.
    pub numbers: BTreeMap<&'static str, u64>,
    /// Members of sets. One that is there already changes nothing.
    pub sets: BTreeMap<&'static str, BTreeSet<String>>,
    /// Texts that stand only where none does yet.
    pub first: BTreeMap<&'static str, String>,
    /// Texts in place of those that stood there.
    pub last: BTreeMap<&'static str, String>,
    /// When the account can be forgotten; `None`: as before.
    pub expires_at: Option<UtcDateTime>,
}

impl Addition {
    /// An account that said `before`, after this has been added to it.
    pub fn to(&self, before: Option<&Entry>) -> Entry {
        let mut body = before.map(|before| before.body.clone()).unwrap_or_default();
        for (name, number) in &self.numbers {
            let before = body.get(*name).and_then(Value::as_u64).unwrap_or_default();
            body.insert((*name).to_owned(), before.saturating_add(*number).into());
        }
        for (name, members) in self.sets.iter().filter(|(_, members)| !members.is_empty()) {
            let before = body.get(*name).and_then(Value::as_array).into_iter().flatten();
            let mut all: BTreeSet<_> = before.filter_map(Value::as_str).collect();
            all.extend(members.iter().map(String::as_str));
            let all = all.into_iter().collect();
            body.insert((*name).to_owned(), all);
        }
        for (name, text) in &self.first {
            body.entry(*name).or_insert_with(|| text.as_str().into());
        }
        for (name, text) in &self.last {
            body.insert((*name).to_owned(), text.as_str().into());
        }
        Entry {
            version: before.map_or(0, |before| before.version) + 1,
            body,
            expires_at: match self.expires_at {
                Some(time) => time.replace_nanosecond(0).ok(),
                None => before.and_then(|before| before.expires_at),
            },
        }
    }
}

/// The state table did not do what was asked, after the few tries that make sense for it.
#[derive(Debug, thiserror::Error)]
#[error("the state could not {action}")]
pub struct StateError {
    /// What was asked of it.
    pub action: &'static str,
    /// What it said.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// The state table.
#[async_trait]
pub trait StateTable: Send + Sync {
    /// The entry `id` as it is now.
    ///
    /// # Errors
    /// If it could not be read.
    async fn read(&self, id: &str) -> Result<Option<Entry>, StateError>;

    /// Writes `entry` as `id`, if what is there is still what was `seen`: no entry, or the one of that version. Where the
    /// answer to a first try was lost, the second finds `entry` itself, which is [`Swapped::Done`]: an entry has to say
    /// something that tells its writer from others.
    ///
    /// # Errors
    /// If it may not have been written.
    async fn swap(&self, id: &str, seen: Option<u64>, entry: &Entry) -> Result<Swapped, StateError>;

    /// Adds to the account `id`, which is made if there is none, and answers what it then says: its sets are sorted lists of
    /// texts. An entry that is swapped is never added to. Where the answer to a first try was lost, a second one adds
    /// again: sets and texts are right all the same, numbers are then too high.
    ///
    /// # Errors
    /// If it may not have been added.
    async fn add(&self, id: &str, addition: &Addition) -> Result<Entry, StateError>;
}
