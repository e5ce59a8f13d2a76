//! Messages worked through: received, worked on several at once, and settled each as its outcome asks.

use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use tokio::time::Instant;
use tracing::{Instrument, debug, error, error_span, info, warn};

use crate::account::{Accounts, Ending};
use crate::error_chain;
use crate::invocation::{Invocation, OutOfTime, SETTLING_TIME};
use crate::jitter::Jitter;
use crate::message::WorkMessage;
use crate::queue::{DeadLetter, MAX_DELAY, Message, QueueError, WorkQueue};
use crate::quota::Class;
use crate::run::RunId;
use crate::table::TableError;
use crate::vendor::FetchError;
use crate::vendor::answer::MalformedAnswer;

/// How many messages are in work at once, at the most.
const MESSAGES_IN_WORK: usize = 16;

/// How many messages SQS gives at once.
const RECEIVE: usize = 10;

/// How long a receive waits for a message. An empty queue ends a poll after this time.
const LONG_POLL: Duration = Duration::from_secs(2);

/// What has to be left of the window for another receive while messages are in work. SQS waits whole seconds: below one
/// it would not wait at all, and be asked again and again until the window ends.
const LEAST_POLL: Duration = Duration::from_secs(1);

/// How long a message that failed is left alone the first time; it doubles from try to try up to [`MAX_DELAY`].
const FIRST_RETRY: Duration = Duration::from_secs(30);

/// The tries after which the run's account is told why a message still fails.
const TELLING_TRIES: [u32; 2] = [5, 10];

/// Why a piece of work was not done, told by what follows from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// The vendor's quota has no place for it now. That is no failure.
    #[error("the vendor's quota has no place for another {} s", wait.as_secs_f64().ceil())]
    Deferred {
        /// How long until there may be one.
        wait: Duration,
    },
    /// Somebody else is at work on the same id. That is no failure either.
    #[error("somebody else is at work on it, for another {} s at the most", wait.as_secs_f64().ceil())]
    Busy {
        /// When to look again.
        wait: Duration,
    },
    /// It may succeed later.
    #[error("{0}")]
    Transient(String),
    /// It can never succeed.
    #[error("{0}")]
    Permanent(String),
    /// The invocation's time was over first.
    #[error("the invocation's time was over before the work was done")]
    OutOfTime,
}

impl From<FetchError> for WorkError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Quota { wait } => Self::Deferred { wait },
            FetchError::Transient { .. } => Self::Transient(error.to_string()),
            FetchError::Permanent(reason) => Self::Permanent(reason),
            FetchError::OutOfTime => Self::OutOfTime,
        }
    }
}

impl From<MalformedAnswer> for WorkError {
    fn from(error: MalformedAnswer) -> Self {
        Self::Permanent(error.to_string())
    }
}

impl From<TableError> for WorkError {
    fn from(error: TableError) -> Self {
        Self::Transient(error_chain(&error))
    }
}

impl From<QueueError> for WorkError {
    fn from(error: QueueError) -> Self {
        Self::Transient(error_chain(&error))
    }
}

impl From<OutOfTime> for WorkError {
    fn from(_: OutOfTime) -> Self {
        Self::OutOfTime
    }
}

/// A collector that works messages through.
#[async_trait]
pub trait Worker: Send + Sync {
    /// The messages of its queue.
    type Message: WorkMessage + Send;

    /// Does what a message asks for. Returns once everything that it caused is durable. Waits for the vendor's quota
    /// until `quota_until` at the latest.
    ///
    /// # Errors
    /// If it was not done; the error tells what follows.
    async fn work(
        &self,
        message: Self::Message,
        invocation: &Invocation,
        quota_until: Instant,
    ) -> Result<(), WorkError>;

    /// The time that the vendor's quota gives one message.
    fn pace(&self) -> Duration;

    /// What has to be left of the invocation's time for a message to be begun.
    fn least_time(&self) -> Duration;
}

/// What is done with a message after it was worked on.
#[derive(Debug, PartialEq, Eq)]
enum Settlement {
    /// Everything is durable: delete it.
    Done,
    /// Send a copy of it with a delay, then delete it: that uses up none of its tries.
    Defer(Duration),
    /// Send it to the dead-letter queue, then delete it.
    DeadLetter(String),
    /// Leave it in the queue, invisible for a time that grows from try to try.
    TryAgain(String),
    /// Make it visible at once.
    HandBack,
}

impl Settlement {
    fn of(result: Result<(), WorkError>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(WorkError::Deferred { wait } | WorkError::Busy { wait }) => {
                // SQS counts whole seconds: rounded down, the message would come back too early.
                let wait = wait.clamp(Duration::from_secs(1), MAX_DELAY);
                Self::Defer(Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0)))
            }
            Err(WorkError::Permanent(reason)) => Self::DeadLetter(reason),
            Err(WorkError::Transient(reason)) => Self::TryAgain(reason),
            Err(WorkError::OutOfTime) => Self::HandBack,
        }
    }

    /// What the run's account says of it, after it was settled.
    fn ending(&self, delete: bool, receive_count: u32) -> Ending<'_> {
        match self {
            Self::Done => Ending::Done,
            Self::DeadLetter(reason) if delete => Ending::DeadLetter(reason),
            // Worth telling once it looks as if no further try will help.
            Self::DeadLetter(reason) | Self::TryAgain(reason) if TELLING_TRIES.contains(&receive_count) => {
                Ending::Failing(reason)
            }
            Self::DeadLetter(_) | Self::TryAgain(_) | Self::Defer(_) | Self::HandBack => Ending::Open,
        }
    }
}

/// What a queue's messages are worked through with.
pub struct Desk<'a, W> {
    /// Who does the work.
    pub worker: &'a W,
    /// Where it waits.
    pub queue: &'a dyn WorkQueue,
    /// How long a poll takes new messages.
    pub window: Duration,
    /// Randomness for the delays of messages that failed.
    pub jitter: &'a Jitter,
    /// Where the runs keep account of their pieces.
    pub accounts: &'a Accounts,
}

/// A message after it was settled.
struct Settled {
    message: Message,
    /// Whether it can be deleted: it is done, or it is safe elsewhere.
    delete: bool,
    /// What it is for, if it found no place in the quota.
    deferred: Option<Class>,
}

impl<W: Worker> Desk<'_, W> {
    /// Polls: works through the messages that can be begun within the poll window. The failure of one is none of the
    /// poll's.
    ///
    /// # Errors
    /// If the queue cannot be read. What was received by then has been settled.
    pub async fn poll(&self, invocation: &Invocation) -> Result<(), QueueError> {
        let window_ends = (Instant::now() + self.window).min(invocation.work_until);
        let mut in_work = FuturesUnordered::new();
        // Never dropped before it is done: what it received would be invisible for as long as its time-out lasts.
        let mut receiving: Option<BoxFuture<'_, Result<Vec<Message>, QueueError>>> = None;
        let mut deleting: Option<BoxFuture<'_, ()>> = None;
        let mut to_delete = Vec::new();
        let (mut may_receive, mut outcome) = (true, Ok(()));
        let mut deferred_in_background = 0;
        if !invocation.has_time_for(self.worker.least_time()) {
            let needed = self.worker.least_time() + SETTLING_TIME;
            warn!(
                needed_seconds = needed.as_secs(),
                "the invocation has no time for any message"
            );
        }
        loop {
            let window_left = window_ends.saturating_duration_since(Instant::now());
            may_receive &= !window_left.is_zero() && invocation.has_time_for(self.worker.least_time());
            let room = self.room(window_left, in_work.len());
            let worth_it = in_work.is_empty() || window_left >= LEAST_POLL;
            if may_receive && worth_it && room > 0 && receiving.is_none() {
                receiving = Some(self.queue.receive(room, LONG_POLL.min(window_left)));
            }
            if deleting.is_none() && !to_delete.is_empty() {
                // While one batch is on its way the next one gathers.
                deleting = Some(self.delete(std::mem::take(&mut to_delete), invocation).boxed());
            }
            if receiving.is_none() && deleting.is_none() && in_work.is_empty() {
                return outcome;
            }
            tokio::select! {
                // Without this, tokio's own dice choose among what is ready at once, and no run could be replayed.
                biased;
                received = wait_for(&mut receiving) => match received {
                    Ok(messages) if messages.is_empty() => may_receive &= !in_work.is_empty(),
                    Ok(messages) => in_work.extend(
                        messages.into_iter().map(|message| self.work_and_settle(message, invocation, window_ends)),
                    ),
                    Err(error) => {
                        may_receive = false;
                        outcome = Err(error);
                    }
                },
                () = wait_for(&mut deleting) => {}
                Some(settled) = in_work.next() => {
                    // Where the quota has no place for one message it has none for another: they are left where they are.
                    // Where it has none for background work, others may be live.
                    deferred_in_background += usize::from(settled.deferred == Some(Class::Background));
                    may_receive &= settled.deferred != Some(Class::Live) && deferred_in_background < MESSAGES_IN_WORK;
                    to_delete.extend(settled.delete.then_some(settled.message.receipt));
                }
            }
        }
    }

    /// Works through messages that were delivered with the event. Answers the ids of those that have to come again;
    /// the others are deleted by whoever delivered them.
    pub async fn records(&self, messages: Vec<Message>, invocation: &Invocation) -> Vec<String> {
        let quota_until = (Instant::now() + self.window).min(invocation.work_until);
        let work = messages
            .into_iter()
            .map(|message| self.work_and_settle(message, invocation, quota_until));
        futures::stream::iter(work)
            .buffer_unordered(MESSAGES_IN_WORK)
            .filter_map(async |settled| (!settled.delete).then_some(settled.message.id))
            .collect()
            .await
    }

    /// How many more messages can be begun: not more than the quota has places for in what is left of the window.
    fn room(&self, window_left: Duration, in_work: usize) -> usize {
        let pace = self.worker.pace().as_micros().max(1);
        let places = usize::try_from(window_left.as_micros().div_ceil(pace)).unwrap_or(usize::MAX);
        places.min(MESSAGES_IN_WORK).saturating_sub(in_work).min(RECEIVE)
    }

    async fn work_and_settle(&self, message: Message, invocation: &Invocation, quota_until: Instant) -> Settled {
        let read = W::Message::from_body(&message.body);
        let run_id = read
            .as_ref()
            .ok()
            .and_then(WorkMessage::run_id)
            .unwrap_or(invocation.run_id);
        let span = error_span!(
            "message",
            message_id = message.id,
            %run_id,
            branch_id = tracing::field::Empty,
            employee_id = tracing::field::Empty,
        );
        if let Ok(read) = &read {
            read.record_ids(&span);
        }
        let class = read.as_ref().map_or(Class::Live, WorkMessage::class);
        let piece = read.as_ref().ok().and_then(WorkMessage::piece);
        let counted = &invocation.counted_apart();
        async {
            let result = match read {
                Err(malformed) => Err(WorkError::Permanent(malformed.to_string())),
                Ok(_) if !invocation.has_time_for(self.worker.least_time()) => Err(WorkError::OutOfTime),
                Ok(mut read) => {
                    read.belong_to(run_id);
                    let work = self.worker.work(read, counted, quota_until);
                    invocation
                        .within_time(work)
                        .await
                        .unwrap_or_else(|out_of_time| Err(out_of_time.into()))
                }
            };
            let deferred = matches!(result, Err(WorkError::Deferred { .. })).then_some(class);
            let settlement = Settlement::of(result);
            let delete = self.settle(&message, &settlement, run_id, counted).await;
            if let Some(piece) = &piece {
                let ending = settlement.ending(delete, message.receive_count);
                let tally = &counted.tally;
                self.accounts.settle(run_id, piece, ending, tally, invocation).await;
            }
            Settled {
                message,
                delete,
                deferred,
            }
        }
        .instrument(span)
        .await
    }

    /// Settles a message, but for its deletion; answers whether it can be deleted.
    async fn settle(&self, message: &Message, settlement: &Settlement, run_id: RunId, invocation: &Invocation) -> bool {
        let tally = &invocation.tally;
        let reason = match settlement {
            Settlement::Done => {
                debug!("message done");
                tally.count(|counts| counts.done += 1);
                return true;
            }
            Settlement::Defer(wait) => match self.queue.send(vec![message.body.clone()], *wait).await {
                Ok(()) => {
                    info!(delay_seconds = wait.as_secs(), "message deferred");
                    tally.count(|counts| counts.deferred += 1);
                    return true;
                }
                Err(failure) => error_chain(&failure),
            },
            Settlement::DeadLetter(reason) => {
                let letter = DeadLetter {
                    body: message.body.clone(),
                    reason: reason.clone(),
                    run_id: run_id.to_string(),
                };
                match self.queue.dead_letter(letter).await {
                    Ok(()) => {
                        error!(reason, "message sent to the dead-letter queue");
                        tally.count(|counts| counts.dead_lettered += 1);
                        return true;
                    }
                    Err(failure) => format!("{reason}; and {}", error_chain(&failure)),
                }
            }
            Settlement::TryAgain(reason) => reason.clone(),
            Settlement::HandBack => {
                info!("message handed back");
                tally.count(|counts| counts.handed_back += 1);
                self.make_visible_after(message, Duration::ZERO).await;
                return false;
            }
        };
        let delay = retry_delay(message.receive_count, self.jitter);
        warn!(
            reason,
            receive_count = message.receive_count,
            retry_seconds = delay.as_secs(),
            "message failed and stays in its queue"
        );
        tally.count(|counts| counts.failed += 1);
        self.make_visible_after(message, delay).await;
        false
    }

    async fn make_visible_after(&self, message: &Message, delay: Duration) {
        let change = vec![(message.receipt.clone(), delay)];
        if let Err(failure) = self.queue.make_visible_after(change).await {
            warn!(
                reason = error_chain(&failure),
                "message stays invisible until its time-out"
            );
        }
    }

    async fn delete(&self, receipts: Vec<String>, invocation: &Invocation) {
        let all = receipts.len() as u64;
        if let Err(failure) = self.queue.delete(receipts).await {
            let left = match failure {
                QueueError::Entries { failed, .. } => failed as u64,
                QueueError::Service { .. } | QueueError::NoDeadLetterQueue(_) => all,
            };
            warn!(
                reason = error_chain(&failure),
                messages = left,
                "messages that are done will be received again"
            );
            invocation.tally.count(|counts| counts.failed += left);
        }
    }
}

/// How long a message that failed is left alone: half of that certain, half random, so that many that failed at once do
/// not come back at once, and each wait is still longer than the one before.
fn retry_delay(receive_count: u32, jitter: &Jitter) -> Duration {
    let doubled = FIRST_RETRY * 2u32.saturating_pow(receive_count.saturating_sub(1).min(16));
    jitter.around(doubled.min(MAX_DELAY))
}

/// Waits for a future that may not be there, and clears its place once it is done.
async fn wait_for<T>(future: &mut Option<BoxFuture<'_, T>>) -> T {
    match future {
        Some(running) => {
            let done = running.await;
            *future = None;
            done
        }
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::EmployeeMessage;
    use crate::queue::memory::MemoryQueue;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use time::macros::utc_datetime;
    use tokio_util::sync::CancellationToken;

    /// Counts what it begins, and never ends.
    #[derive(Default)]
    struct Endless(AtomicUsize);

    #[async_trait]
    impl Worker for Endless {
        type Message = EmployeeMessage;

        async fn work(&self, _: EmployeeMessage, _: &Invocation, _: Instant) -> Result<(), WorkError> {
            self.0.fetch_add(1, Ordering::SeqCst);
            std::future::pending().await
        }

        fn pace(&self) -> Duration {
            Duration::from_secs(1)
        }

        fn least_time(&self) -> Duration {
            Duration::from_secs(10)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_begun_only_if_there_is_time_for_it_and_handed_back_in_time() {
        // Three seconds are kept for settling.
        for (seconds_left, stopped, begun) in [(12, false, 0), (13, false, 1), (900, true, 0)] {
            let (worker, queue, jitter) = (Endless::default(), MemoryQueue::default(), Jitter::seeded(1));
            queue.put(r#"{"branch_id": 1}"#);
            let received = queue.receive(10, Duration::ZERO).await.unwrap();
            let deadline = Instant::now() + Duration::from_secs(seconds_left);
            let stop = CancellationToken::new();
            if stopped {
                stop.cancel();
            }
            let invocation = Invocation::new(None, utc_datetime!(2026-11-21 01:00), deadline, stop);
            let desk = Desk {
                worker: &worker,
                queue: &queue,
                window: Duration::from_secs(50),
                jitter: &jitter,
                accounts: &Accounts::none(),
            };

            let come_again = desk.records(received, &invocation).await;

            assert_eq!(worker.0.load(Ordering::SeqCst), begun, "{seconds_left} s");
            assert_eq!(come_again, ["1"]);
            assert_eq!(queue.waits(), [(Duration::ZERO, 1)]);
            assert_eq!(invocation.tally.counts().handed_back, 1);
            assert!(Instant::now() < deadline);
        }
    }

    #[test]
    fn every_error_has_its_consequence() {
        let seconds = Duration::from_secs;
        for (error, settlement) in [
            (
                WorkError::Deferred { wait: seconds(40) },
                Settlement::Defer(seconds(40)),
            ),
            (
                WorkError::Deferred {
                    wait: Duration::from_millis(40_001),
                },
                Settlement::Defer(seconds(41)),
            ),
            (
                WorkError::Deferred { wait: seconds(3600) },
                Settlement::Defer(seconds(900)),
            ),
            (
                WorkError::Deferred { wait: Duration::ZERO },
                Settlement::Defer(seconds(1)),
            ),
            (
                WorkError::Transient("t".to_owned()),
                Settlement::TryAgain("t".to_owned()),
            ),
            (
                WorkError::Permanent("p".to_owned()),
                Settlement::DeadLetter("p".to_owned()),
            ),
            (WorkError::Busy { wait: seconds(7) }, Settlement::Defer(seconds(7))),
            (WorkError::OutOfTime, Settlement::HandBack),
        ] {
            assert_eq!(Settlement::of(Err(error)), settlement);
        }
        assert_eq!(Settlement::of(Ok(())), Settlement::Done);
    }

    #[test]
    fn a_failed_message_waits_longer_from_try_to_try_and_never_too_long() {
        let jitter = Jitter::seeded(7);
        let delays: Vec<_> = (1..=10).map(|count| retry_delay(count, &jitter)).collect();
        assert!(delays[..5].is_sorted(), "{delays:?}");
        assert!(delays[0] >= Duration::from_secs(15));
        assert!(delays.iter().all(|delay| *delay <= MAX_DELAY), "{delays:?}");
        assert!(retry_delay(u32::MAX, &jitter) <= MAX_DELAY);
    }
}
