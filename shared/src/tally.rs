//! What one invocation did, counted as it happens.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Counts that everything in an invocation shares. What is counted stays counted, even if the work it was part of is
/// broken off.
#[derive(Debug, Default)]
pub struct Tally {
    counts: Mutex<Counts>,
    gap: Mutex<Option<Gap>>,
    staleness: Mutex<Option<Duration>>,
    /// Counts all that is counted here, too.
    whole: Option<Arc<Self>>,
}

impl Tally {
    /// A tally of a part: what it counts is counted in `whole`, too.
    pub fn part_of(whole: Arc<Self>) -> Self {
        Self {
            whole: Some(whole),
            ..Self::default()
        }
    }

    /// The run's account lacks what this work leads to.
    pub fn note_gap(&self, gap: Gap) {
        *self.gap.lock().unwrap_or_else(PoisonError::into_inner) = Some(gap);
    }

    /// The data is so old, where it is least fresh.
    pub fn note_staleness(&self, staleness: Duration) {
        *self.staleness.lock().unwrap_or_else(PoisonError::into_inner) = Some(staleness);
    }

    /// How old the data is where it is least fresh, if the invocation has looked.
    pub fn staleness(&self) -> Option<Duration> {
        *self.staleness.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the run's account lacks what this work leads to, if it does.
    pub fn gap(&self) -> Option<Gap> {
        *self.gap.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts: `tally.count(|counts| counts.inserted += 1)`.
    pub fn count(&self, count: impl Fn(&mut Counts)) {
        count(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(whole) = &self.whole {
            whole.count(count);
        }
    }

    /// What has been counted so far.
    pub fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a run's account lacks what a piece of work leads to. The piece must not be told to be done: the run would look
/// complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// It could not be added.
    NotAdded,
    /// The work is done for a later run, which has it in its own account.
    Superseded,
}

/// An invocation's counts, as they stand in its answer, its summary line and its metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
// What was written down before a count was added is still read.
#[serde(default)]
pub struct Counts {
    /// Requests sent to the vendor, retries and pages included.
    pub api_calls: u64,
    /// Rows that were not there before.
    pub inserted: u64,
    /// Rows of which something was changed.
    pub updated: u64,
    /// Rows marked as deleted: their records have vanished from the vendor's answer.
    pub deleted: u64,
    /// Records that have vanished from an answer that shrank too much to be believed: no row was marked.
    pub held_back: u64,
    /// Records that cost no write.
    pub unchanged: u64,
    /// Sales outside the lookback.
    pub skipped: u64,
    /// Records that cannot be stored.
    pub rejected: u64,
    /// Messages sent onward, one an id.
    pub enqueued: u64,
    /// Messages left in the queue for another try.
    pub failed: u64,
    /// Messages worked through.
    pub done: u64,
    /// Messages handed on for want of quota, or because somebody else was at work on the same id; it uses up none of their
    /// tries.
    pub deferred: u64,
    /// Messages received and handed back unbegun, or broken off because the function was told to stop.
    pub handed_back: u64,
    /// Messages sent to the dead-letter queue.
    pub dead_lettered: u64,
    /// Requests that the vendor answered with 429.
    pub api_throttles: u64,
    /// Runs begun: all branches were asked for, and handed on.
    pub runs_begun: u64,
    /// Messages whose run was done already for what they are about: acknowledged without a request.
    pub already_done: u64,
    /// How often the state table could not be reached.
    pub state_failures: u64,
    /// Milliseconds that requests waited for the quota, added up over requests that waited at the same time.
    pub quota_wait_ms: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.api_calls += other.api_calls;
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.deleted += other.deleted;
        self.held_back += other.held_back;
        self.unchanged += other.unchanged;
        self.skipped += other.skipped;
        self.rejected += other.rejected;
        self.enqueued += other.enqueued;
        self.failed += other.failed;
        self.done += other.done;
        self.deferred += other.deferred;
        self.handed_back += other.handed_back;
        self.dead_lettered += other.dead_lettered;
        self.api_throttles += other.api_throttles;
        self.runs_begun += other.runs_begun;
        self.already_done += other.already_done;
        self.state_failures += other.state_failures;
        self.quota_wait_ms += other.quota_wait_ms;
    }
}
