//! What of an answer cannot be stored.

use tracing::warn;

use crate::id::Id;
use crate::record::Rejection;
use crate::tally::Tally;
use crate::vendor::answer::Unnamed;

/// How many of an answer's rejected records are told one by one.
pub const MOST_RECORDS: usize = 50;

/// How many bytes of a record are kept, to be searched for the API key before less of it is remembered.
pub(super) const WINDOW: usize = 4096;

/// The records of one answer that cannot be stored: how many, and the first of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejected {
    total: u64,
    pub(super) records: Vec<RejectedRecord>,
}

/// One record that cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RejectedRecord {
    /// Its id, or its place in the answer, where that is not usable.
    pub(super) id: String,
    pub(super) reason: String,
    /// Its beginning, a byte longer than [`WINDOW`] if it goes on.
    pub(super) raw: Vec<u8>,
}

impl Rejected {
    /// How many there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether all of the answer can be stored.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Logs a record that cannot be stored, and counts it.
    pub fn add(&mut self, id: &Id, raw: &str, rejection: &Rejection, tally: &Tally) {
        self.note(id.as_str(), raw, rejection, tally);
    }

    /// Logs a record that has no usable id, by its place in the answer, and counts it.
    pub fn add_unnamed(&mut self, unnamed: &Unnamed<'_>, tally: &Tally) {
        let place = format!("number {} of the answer", unnamed.place + 1);
        self.note(&place, unnamed.raw.get(), &unnamed.rejection, tally);
    }

    fn note(&mut self, id: &str, raw: &str, rejection: &Rejection, tally: &Tally) {
        log(id, rejection, tally);
        self.total += 1;
        if self.records.len() < MOST_RECORDS {
            let raw = raw.as_bytes();
            self.records.push(RejectedRecord {
                id: id.to_owned(),
                reason: rejection.to_string(),
                raw: raw[..raw.len().min(WINDOW + 1)].to_vec(),
            });
        }
    }
}

impl std::ops::AddAssign for Rejected {
    fn add_assign(&mut self, other: Self) {
        self.total += other.total;
        let room = MOST_RECORDS.saturating_sub(self.records.len());
        self.records.extend(other.records.into_iter().take(room));
    }
}

/// Logs a record that cannot be stored, and counts it.
pub(crate) fn log(record: &str, rejection: &Rejection, tally: &Tally) {
    warn!(record, reason = %rejection, "record rejected");
    tally.count(|counts| counts.rejected += 1);
}
