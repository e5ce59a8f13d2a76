//! What is remembered of an answer that could not be stored as a whole.

use serde::{Deserialize, Serialize};

use super::found::{Rejected, WINDOW};
use crate::vendor::excerpt::{Excerpts, cut};

/// How many bytes of a record, or of an answer, are shown.
pub const MOST_SAMPLE_BYTES: usize = 500;

/// How many bytes a reason has.
const MOST_REASON_BYTES: usize = 300;

/// What of an answer could not be stored the last time, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Remembered {
    /// How many records there were, those included that are not listed.
    pub total: u64,
    /// The first of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<RememberedRecord>,
    /// The answer as a whole, if it was not as expected. The records are then those of the one before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub malformed: Option<Sighting>,
}

/// A record that could not be stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RememberedRecord {
    /// Its id, or its place in the answer, where it has no usable one.
    pub id: String,
    /// What was seen of it.
    #[serde(flatten)]
    pub sighting: Sighting,
}

/// What was wrong, and when it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sighting {
    /// What is wrong with it.
    pub reason: String,
    /// How it begins, without the API key.
    pub sample: String,
    /// When the first answer was fetched that had it.
    pub first_seen: String,
    /// When the last one was.
    pub last_seen: String,
    /// How many answers had it.
    pub times: u64,
}

impl Sighting {
    fn new(reason: &str, raw: &[u8], now: &str, excerpts: &Excerpts) -> Self {
        let mut sample = excerpts.of(raw, WINDOW);
        cut(&mut sample, MOST_SAMPLE_BYTES);
        let mut reason = excerpts.of(reason.as_bytes(), WINDOW);
        cut(&mut reason, MOST_REASON_BYTES);
        Self {
            reason,
            sample,
            first_seen: now.to_owned(),
            last_seen: now.to_owned(),
            times: 1,
        }
    }

    /// The same again, `before` being what was seen of it last.
    fn again(self, before: Option<&Self>) -> Self {
        match before {
            Some(before) => Self {
                first_seen: before.first_seen.clone(),
                times: before.times + 1,
                ..self
            },
            None => self,
        }
    }
}

impl Remembered {
    /// Whether all of the answer could be stored.
    pub fn is_empty(&self) -> bool {
        self.total == 0 && self.malformed.is_none()
    }

    /// Whether a record was among those that could not be stored.
    pub fn names(&self, id: &str) -> bool {
        self.records.iter().any(|record| record.id == id)
    }

    /// After an answer fetched at `now` of which this was rejected.
    pub(super) fn after(&self, rejected: &Rejected, now: &str, excerpts: &Excerpts) -> Self {
        let record = |found: &super::found::RejectedRecord| {
            let before = self.records.iter().find(|record| record.id == found.id);
            let sighting = Sighting::new(&found.reason, &found.raw, now, excerpts);
            RememberedRecord {
                id: found.id.clone(),
                sighting: sighting.again(before.map(|before| &before.sighting)),
            }
        };
        Self {
            total: rejected.total(),
            records: rejected.records.iter().map(record).collect(),
            malformed: None,
        }
    }

    /// After an answer fetched at `now` that was not as expected.
    pub(super) fn after_malformed(&self, reason: &str, body: &[u8], now: &str, excerpts: &Excerpts) -> Self {
        let sighting = Sighting::new(reason, body, now, excerpts).again(self.malformed.as_ref());
        Self {
            malformed: Some(sighting),
            ..self.clone()
        }
    }
}
