//! One invocation of a collector: its run, its time, its counts.

use std::sync::Arc;
use std::time::Duration;

use time::UtcDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::run::RunId;
use crate::tally::Tally;

/// What is kept of an invocation's time for settling what it received: deletes, hand-backs, the answer.
pub const SETTLING_TIME: Duration = Duration::from_secs(3);

/// How long work that was begun may go on after the function was told to stop: as long as a receive that is under way
/// waits for a message, so that this one does not receive again what is handed back. (Lambda itself, which gives half a
/// second, tells only functions that handle nothing.)
pub const GRACE: Duration = Duration::from_secs(2);

/// One invocation: what its pieces of work share.
#[derive(Debug)]
pub struct Invocation {
    /// The run that the invocation belongs to.
    pub run_id: RunId,
    /// The run that its event named, if it named one.
    pub scheduled: Option<RunId>,
    /// When its work has to be over.
    pub work_until: Instant,
    /// Cancelled when the function is told to stop (SIGTERM).
    pub stop: CancellationToken,
    /// What it did.
    pub tally: Arc<Tally>,
}

impl Invocation {
    /// An invocation that is ended at `deadline`.
    pub fn new(run_id: Option<RunId>, now: UtcDateTime, deadline: Instant, stop: CancellationToken) -> Self {
        Self {
            run_id: run_id.unwrap_or_else(|| RunId::scheduled_for(now)),
            scheduled: run_id,
            work_until: deadline.checked_sub(SETTLING_TIME).unwrap_or(deadline),
            stop,
            tally: Arc::default(),
        }
    }

    /// The same invocation, of which a part is counted by itself, too.
    pub fn counted_apart(&self) -> Self {
        Self {
            run_id: self.run_id,
            scheduled: self.scheduled,
            work_until: self.work_until,
            stop: self.stop.clone(),
            tally: Arc::new(Tally::part_of(self.tally.clone())),
        }
    }

    /// Whether work that may take `duration` can still be begun.
    pub fn has_time_for(&self, duration: Duration) -> bool {
        !self.stop.is_cancelled() && Instant::now() + duration <= self.work_until
    }

    /// Runs `work`, but not past the invocation's time, nor much past its being told to stop.
    ///
    /// # Errors
    /// If the time is over. What was not done is then done by the next try: doing it again changes nothing that is
    /// already right.
    pub async fn within_time<T>(&self, work: impl Future<Output = T>) -> Result<T, OutOfTime> {
        let stopped = async {
            self.stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = stopped => Err(OutOfTime),
            () = tokio::time::sleep_until(self.work_until) => Err(OutOfTime),
        }
    }
}

/// The invocation's time was over, or the function was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the invocation's time is over")]
pub struct OutOfTime;
