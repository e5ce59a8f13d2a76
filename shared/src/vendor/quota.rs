//! The vendor's quota: every request pays, whatever it is for and however it ends.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use governor::RateLimiter;
use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// What the vendor's minute is taken to be. Requests that were paced evenly can bunch by up to a second on their way,
/// and there are then still no more of them in any 60 seconds than the quota allows.
const MINUTE: Duration = Duration::from_secs(61);

/// A quota of requests a minute, spread evenly: no burst at the start, none after a pause. Whose [`Turn`] is the
/// earliest is served first.
pub struct Quota {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Nanos>>,
    pace: Duration,
    next_turn: AtomicU64,
    /// Whose turn comes next. The limiter alone would serve whoever happens to wake first.
    waiting: watch::Sender<BTreeSet<u64>>,
    /// What the vendor's last 429 asked for.
    closed_until: Mutex<Option<Instant>>,
}

/// The place in line of one answer, for all its requests: pages that follow and tries go before whatever was begun
/// later. If they went to the end of the line, answers of many pages would all be begun and none of them finished
/// before the time for waiting is over, in every poll anew.
pub struct Turn(u64);

/// A turn while it waits.
struct Waiting<'a> {
    quota: &'a Quota,
    turn: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.quota.waiting.send_modify(|waiting| {
            waiting.remove(&self.turn);
        });
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
    /// A quota of so many requests a minute.
    pub fn per_minute(requests: NonZeroU32) -> Self {
        // A period of zero is the only one that governor refuses.
        let pace = (MINUTE / requests.get()).max(Duration::from_nanos(1));
        let burst = NonZeroU32::MIN;
        let spread = governor::Quota::with_period(pace).unwrap_or(governor::Quota::per_minute(requests));
        Self {
            limiter: RateLimiter::direct_with_clock(spread.allow_burst(burst), TokioClock(Instant::now())),
            pace,
            next_turn: AtomicU64::new(0),
            waiting: watch::Sender::default(),
            closed_until: Mutex::new(None),
        }
    }

    /// The time that the quota gives one request.
    pub fn pace(&self) -> Duration {
        self.pace
    }

    /// The next place in line.
    pub fn turn(&self) -> Turn {
        Turn(self.next_turn.fetch_add(1, Ordering::Relaxed))
    }

    /// Waits for a place, and takes it. Answers how long that took.
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
        let mut line = self.waiting.subscribe();
        let _waiting = self.wait(turn);
        loop {
            let is_first = line.borrow_and_update().first() == Some(&turn.0);
            let ready_at = match self.opens_at() {
                _ if !is_first => patience.taken_until,
                Some(opens_at) if opens_at > patience.closed_until => {
                    return Err(NoPlace::Closed(opens_at - Instant::now()));
                }
                Some(opens_at) => opens_at,
                None => match self.limiter.check() {
                    Ok(()) => return Ok(asked.elapsed()),
                    Err(not_until) => {
                        let wait = not_until.wait_time_from(self.limiter.clock().now());
                        let ready_at = Instant::now() + wait;
                        if ready_at > patience.taken_until {
                            return Err(NoPlace::Taken(wait));
                        }
                        ready_at
                    }
                },
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(NoPlace::Stopped),
                // An error would mean that the quota is gone.
                _ = line.changed() => {}
                () = sleep_until(ready_at) => if !is_first {
                    return Err(NoPlace::Taken(self.pace));
                },
            }
        }
    }

    fn wait(&self, turn: &Turn) -> Waiting<'_> {
        self.waiting.send_modify(|waiting| {
            waiting.insert(turn.0);
        });
        Waiting {
            quota: self,
            turn: turn.0,
        }
    }

    /// Lets no request through for `wait`: what a 429 asks of everybody who shares this quota.
    pub fn close_for(&self, wait: Duration) {
        let reopens = Instant::now().checked_add(wait);
        let mut closed_until = self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        *closed_until = (*closed_until).max(reopens);
    }

    fn opens_at(&self) -> Option<Instant> {
        let closed_until = *self.closed_until.lock().unwrap_or_else(PoisonError::into_inner);
        closed_until.filter(|reopens| *reopens > Instant::now())
    }
}

/// governor's clock on tokio's time, so that a test that pauses the one pauses the other.
#[derive(Clone, Debug)]
struct TokioClock(Instant);

impl GovernorClock for TokioClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn quota(requests: u32) -> Arc<Quota> {
        Arc::new(Quota::per_minute(NonZeroU32::new(requests).unwrap()))
    }

    /// As an answer of one page asks.
    fn until(until: Instant) -> Patience {
        Patience {
            closed_until: until,
            taken_until: until,
        }
    }

    async fn acquire(quota: &Quota, time: Instant, stop: &CancellationToken) -> Result<Duration, NoPlace> {
        quota.acquire(&quota.turn(), until(time), stop).await
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
                    let turn = quota.turn();
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
        assert!(quota.waiting.borrow().is_empty());
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
        quota.close_for(Duration::from_secs(30));
        quota.close_for(Duration::from_secs(7));
        assert_eq!(acquire(&quota, far(), &stop).await, Ok(Duration::from_secs(30)));
        assert!(acquire(&quota, far(), &stop).await.unwrap() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_closed_quota_is_waited_for_only_as_long_as_was_said_of_that() {
        let quota = quota(6000);
        quota.close_for(Duration::from_secs(30));
        let closed_until = Instant::now() + Duration::from_secs(10);
        let patience = Patience {
            closed_until,
            taken_until: far(),
        };
        let denied = quota.acquire(&quota.turn(), patience, &CancellationToken::new()).await;
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
