//! The vendor's quota: every request pays, whatever it is for and however it ends.
//!
//! A [`Quota`] is a line for each class of work, in which whose [`Turn`] is the earliest is served first, and a source of places: a [`Ledger`]
//! that all instances of all collectors share, or a [`Pace`] that a process keeps by itself. `docs/QUOTA.md` says how
//! the ledger works, and why it never promises too much.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

pub mod calendar;
pub mod ledger;
pub mod pace;

pub use calendar::Class;
use calendar::Limits;
use ledger::{Ledger, Turned};
use pace::Pace;

use crate::clock::Clock;
use crate::jitter::Jitter;
use crate::state::StateTable;

/// What has to be known of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaSettings {
    /// The vendor's quota (`API_REQUESTS_PER_MINUTE`).
    pub requests_per_minute: NonZeroU32,
    /// How much of it is ours, in percent (`API_QUOTA_SHARE`).
    pub share_percent: u32,
    /// How many requests a second the vendor likes at the most (`API_REQUESTS_PER_SECOND`).
    pub requests_per_second: Option<NonZeroU32>,
    /// How many instances of all collectors there may be at once (`COLLECTOR_INSTANCES`). A process that cannot reach
    /// the ledger keeps to its part of the quota.
    pub instances: NonZeroU32,
}

impl QuotaSettings {
    /// A quota that is all ours, for one process.
    pub fn per_minute(requests: NonZeroU32) -> Self {
        Self {
            requests_per_minute: requests,
            share_percent: 100,
            requests_per_second: None,
            instances: NonZeroU32::MIN,
        }
    }

    /// How many requests may be promised.
    pub fn limits(self) -> Limits {
        let part = u64::from(self.requests_per_minute.get()) * u64::from(self.share_percent) / 100;
        let part = u32::try_from(part).ok().and_then(NonZeroU32::new);
        Limits {
            per_window: part.unwrap_or(NonZeroU32::MIN),
            per_second: self.requests_per_second,
        }
    }
}

/// A quota of requests. Whose [`Turn`] is the earliest is served first.
pub struct Quota {
    source: Source,
    next_turn: AtomicU64,
    /// Whose turn comes next. The source alone would serve whoever happens to wake first.
    waiting: Mutex<BTreeMap<u64, Class>>,
    /// Told when somebody leaves the line. (A watch channel would wake those in it in an order of tokio's own dice.)
    line_moves: Notify,
    /// What the vendor's last 429 asked for.
    closed_until: Mutex<Option<Instant>>,
}

/// Where places come from.
enum Source {
    /// This process keeps the quota by itself.
    Own(Pace),
    /// All instances share one.
    Shared(Box<Ledger>),
}

/// The place in line of one answer, for all its requests: pages that follow and tries go before whatever was begun
/// later. If they went to the end of the line, answers of many pages would all be begun and none of them finished
/// before the time for waiting is over, in every poll anew.
pub struct Turn {
    number: u64,
    class: Class,
}

/// A turn while it waits.
struct Waiting<'a> {
    quota: &'a Quota,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.quota.line().remove(&self.number);
        self.quota.line_moves.notify_waiters();
    }
}

/// Why there is no place for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// The vendor's last 429 asked for no request for this time, which is longer than the caller can wait.
    Closed(Duration),
    /// The places are taken for this time, which is longer than the caller can wait.
    Taken(Duration),
    /// The function was told to stop.
    Stopped,
}

/// How long a request can wait for its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Where a 429 has closed the quota.
    pub closed_until: Instant,
    /// Where others have the places before it.
    pub taken_until: Instant,
}

impl Quota {
    /// A quota that this process keeps by itself: spread evenly, no burst at the start, none after a pause.
    pub fn own(settings: QuotaSettings) -> Self {
        let limits = settings.limits();
        let per_second = limits
            .per_second
            .map(|requests| Duration::from_secs(1) / requests.get());
        let pace = Pace::per_minute(limits.per_window);
        Self::new(Source::Own(match per_second {
            Some(period) if period > pace.period() => Pace::every(period),
            _ => pace,
        }))
    }

    /// A quota that all instances share, by the ledger in `table`. `clock` is the machine's: what the vendor counts by.
    pub fn shared(table: Arc<dyn StateTable>, settings: QuotaSettings, clock: Clock, jitter: Jitter) -> Self {
        Self::new(Source::Shared(Box::new(Ledger::new(table, settings, clock, jitter))))
    }

    fn new(source: Source) -> Self {
        Self {
            source,
            next_turn: AtomicU64::new(0),
            waiting: Mutex::default(),
            line_moves: Notify::new(),
            closed_until: Mutex::new(None),
        }
    }

    /// The time that the quota gives one request.
    pub fn pace(&self) -> Duration {
        match &self.source {
            Source::Own(pace) => pace.period(),
            Source::Shared(ledger) => ledger.pace(),
        }
    }

    /// The next place in line.
    pub fn turn(&self, class: Class) -> Turn {
        Turn {
            number: self.next_turn.fetch_add(1, Ordering::Relaxed),
            class,
        }
    }

    /// Waits for a place, and takes it. Answers how long that took. The request has to be sent at once: a place in the
    /// ledger is for its half second alone.
    ///
    /// # Errors
    /// If there is no place for as long as `patience` lasts, or `stop` is cancelled. No place was taken then.
    pub async fn acquire(
        &self,
        turn: &Turn,
        patience: Patience,
        stop: &CancellationToken,
    ) -> Result<Duration, NoPlace> {
        let asked = Instant::now();
        let _waiting = self.wait(turn);
        loop {
            // Before the line is looked at, so that no move of it is missed.
            let mut moves = pin!(self.line_moves.notified());
            moves.as_mut().enable();
            // A class has a line of its own: what waits for what the other leaves must not hold it up.
            let first = self
                .line()
                .iter()
                .find(|(_, class)| **class == turn.class)
                .map(|(number, _)| *number);
            let is_first = first == Some(turn.number);
            let ready_at = match self.opens_at() {
                _ if !is_first => patience.taken_until,
                Some(opens_at) if opens_at > patience.closed_until => {
                    return Err(NoPlace::Closed(opens_at - Instant::now()));
                }
                Some(opens_at) => opens_at,
                None => match self.take(turn.class, patience.taken_until).await {
                    Turned::Go => return Ok(asked.elapsed()),
                    Turned::Wait(wait) => {
                        let ready_at = Instant::now() + wait;
                        if ready_at > patience.taken_until {
                            return Err(NoPlace::Taken(wait));
                        }
                        ready_at
                    }
                    Turned::NotBefore(wait) => return Err(NoPlace::Taken(wait)),
                    Turned::Closed(wait) => {
                        self.close_here_for(wait);
                        continue;
                    }
                },
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(NoPlace::Stopped),
                () = moves => {}
                () = sleep_until(ready_at) => if !is_first {
                    return Err(NoPlace::Taken(self.pace()));
                },
            }
        }
    }

    async fn take(&self, class: Class, until: Instant) -> Turned {
        match &self.source {
            Source::Own(pace) => match pace.check() {
                Ok(()) => Turned::Go,
                Err(wait) => Turned::Wait(wait),
            },
            Source::Shared(ledger) => {
                let in_line = || {
                    let waiting = self.line();
                    let alike = waiting.values().filter(|other| **other == class).count();
                    u32::try_from(alike).unwrap_or(u32::MAX)
                };
                ledger.take(class, until, in_line).await
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, BTreeMap<u64, Class>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, turn: &Turn) -> Waiting<'_> {
        self.line().insert(turn.number, turn.class);
        Waiting {
            quota: self,
            number: turn.number,
        }
    }

    /// Lets no request through for `wait`: what a 429 asks of everybody who shares this quota.
    pub async fn close_for(&self, wait: Duration) {
        self.close_here_for(wait);
        if let Source::Shared(ledger) = &self.source {
            ledger.close_for(wait).await;
        }
    }

    fn close_here_for(&self, wait: Duration) {
        let reopens = Instant::now().checked_add(wait);
        let mut closed_until = self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        *closed_until = (*closed_until).max(reopens);
    }

    /// Takes note of what the vendor says is left of the quota: `remaining` requests, for `reset` from now.
    pub async fn correct(&self, remaining: u32, reset: Duration) {
        match &self.source {
            // Whoever keeps a pace cannot spread what he does not know of; only its end concerns him.
            Source::Own(_) if remaining == 0 => self.close_here_for(reset),
            Source::Own(_) => {}
            Source::Shared(ledger) => ledger.correct(remaining, reset).await,
        }
    }

    /// How often the ledger could not be reached since this was last asked.
    pub fn take_failures(&self) -> u64 {
        match &self.source {
            Source::Own(_) => 0,
            Source::Shared(ledger) => ledger.take_failures(),
        }
    }

    fn opens_at(&self) -> Option<Instant> {
        let closed_until = *self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        closed_until.filter(|reopens| *reopens > Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn quota(requests: u32) -> Arc<Quota> {
        Arc::new(Quota::own(QuotaSettings::per_minute(
            NonZeroU32::new(requests).unwrap(),
        )))
    }

    /// As an answer of one page asks.
    fn until(until: Instant) -> Patience {
        Patience {
            closed_until: until,
            taken_until: until,
        }
    }

    async fn acquire(quota: &Quota, time: Instant, stop: &CancellationToken) -> Result<Duration, NoPlace> {
        quota.acquire(&quota.turn(Class::Live), until(time), stop).await
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(86_400)
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_spread_evenly_from_the_first_on() {
        let quota = quota(50);
        let start = Instant::now();
        let mut times = Vec::new();
        for _ in 0..130 {
            acquire(&quota, far(), &CancellationToken::new()).await.unwrap();
            times.push(start.elapsed());
        }
        assert_eq!(times[0], Duration::ZERO);
        for pair in times.windows(2) {
            assert!(pair[1] - pair[0] >= Duration::from_millis(1220), "{pair:?}");
        }
        assert!(times[129] < Duration::from_secs(158), "{:?}", times[129]);
        let most = times.iter().map(|from| {
            times
                .iter()
                .filter(|t| *t >= from && **t - *from <= Duration::from_secs(60))
                .count()
        });
        assert_eq!(most.max(), Some(50));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_saves_nothing_up() {
        let quota = quota(60);
        let stop = CancellationToken::new();
        acquire(&quota, far(), &stop).await.unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        acquire(&quota, far(), &stop).await.unwrap();
        assert!(acquire(&quota, far(), &stop).await.unwrap() >= Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_served_in_order() {
        let quota = quota(600);
        let served = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..20)
            .map(|place| {
                let (quota, served) = (quota.clone(), served.clone());
                tokio::spawn(async move {
                    acquire(&quota, far(), &CancellationToken::new()).await.unwrap();
                    assert_eq!(served.fetch_add(1, Ordering::SeqCst), place);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_begun_goes_before_those_that_were_not() {
        // given three answers of three pages each
        let quota = quota(600);
        let served = Arc::new(Mutex::new(Vec::new()));
        let answers: Vec<_> = (0..3)
            .map(|answer| {
                let (quota, served) = (quota.clone(), served.clone());
                tokio::spawn(async move {
                    let turn = quota.turn(Class::Live);
                    for _ in 0..3 {
                        quota
                            .acquire(&turn, until(far()), &CancellationToken::new())
                            .await
                            .unwrap();
                        served.lock().unwrap().push(answer);
                        // Until the page is there; the next one asks no sooner.
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                })
            })
            .collect();
        // when
        for answer in answers {
            answer.await.unwrap();
        }
        // then
        assert_eq!(*served.lock().unwrap(), [0, 0, 0, 1, 1, 1, 2, 2, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_not_first_is_told_when_his_time_is_over_and_leaves_the_line() {
        let quota = quota(6);
        let stop = CancellationToken::new();
        acquire(&quota, far(), &stop).await.unwrap();
        // given somebody who waits for the next place
        let first = tokio::spawn({
            let (quota, stop) = (quota.clone(), stop.clone());
            async move { acquire(&quota, far(), &stop).await }
        });
        tokio::task::yield_now().await;
        // when / then
        let denied = acquire(&quota, Instant::now() + Duration::from_secs(1), &stop).await;
        assert_eq!(denied, Err(NoPlace::Taken(quota.pace())));
        assert!(first.await.unwrap().is_ok());
        assert!(quota.line().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_does_not_fit_is_answered_at_once_with_its_length() {
        let quota = quota(1);
        let stop = CancellationToken::new();
        acquire(&quota, far(), &stop).await.unwrap();
        let start = Instant::now();
        let denied = acquire(&quota, start + Duration::from_secs(50), &stop).await;
        assert_eq!(denied, Err(NoPlace::Taken(Duration::from_secs(61))));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_closes_the_quota_for_everybody_and_the_longest_stands() {
        let quota = quota(6000);
        let stop = CancellationToken::new();
        quota.close_for(Duration::from_secs(30)).await;
        quota.close_for(Duration::from_secs(7)).await;
        assert_eq!(acquire(&quota, far(), &stop).await, Ok(Duration::from_secs(30)));
        assert!(acquire(&quota, far(), &stop).await.unwrap() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_quota_is_waited_for_only_as_long_as_was_said_of_that() {
        let quota = quota(6000);
        quota.close_for(Duration::from_secs(30)).await;
        let closed_until = Instant::now() + Duration::from_secs(10);
        let patience = Patience {
            closed_until,
            taken_until: far(),
        };
        let denied = quota
            .acquire(&quota.turn(Class::Live), patience, &CancellationToken::new())
            .await;
        assert_eq!(denied, Err(NoPlace::Closed(Duration::from_secs(30))));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_told_to_stop() {
        let quota = quota(1);
        let stop = CancellationToken::new();
        acquire(&quota, far(), &stop).await.unwrap();
        let waiting = acquire(&quota, far(), &stop);
        let stopping = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.cancel();
        };
        assert_eq!(tokio::join!(waiting, stopping).0, Err(NoPlace::Stopped));
    }
}
