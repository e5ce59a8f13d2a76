//! The vendor's quota: every request pays, whatever it is for and however it ends.

use std::num::NonZeroU32;
use std::sync::{Mutex as Guarded, PoisonError};
use std::time::Duration;

use governor::RateLimiter;
use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// What the vendor's minute is taken to be. Requests that were paced evenly can bunch by up to a second on their way,
/// and there are then still no more of them in any 60 seconds than the quota allows.
const MINUTE: Duration = Duration::from_secs(61);

/// A quota of requests a minute, spread evenly: no burst at the start, none after a pause. Who asks first is served
/// first.
pub struct Quota {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Nanos>>,
    pace: Duration,
    /// Whose turn it is. The limiter alone would serve whoever happens to wake first.
    turn: Mutex<()>,
    /// What the vendor's last 429 asked for.
    closed_until: Guarded<Option<Instant>>,
}

/// Why there is no place for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoPlace {
    /// There is one only after this time, which is longer than the caller can wait.
    For(Duration),
    /// The function was told to stop.
    Stopped,
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
            turn: Mutex::new(()),
            closed_until: Guarded::new(None),
        }
    }

    /// The time that the quota gives one request.
    pub fn pace(&self) -> Duration {
        self.pace
    }

    /// Waits for a place, and takes it. Answers how long that took.
    ///
    /// # Errors
    /// If there is no place until `until`, or `stop` is cancelled. No place was taken then.
    pub async fn acquire(&self, until: Instant, stop: &CancellationToken) -> Result<Duration, NoPlace> {
        let asked = Instant::now();
        let _turn = tokio::select! {
            biased;
            () = stop.cancelled() => return Err(NoPlace::Stopped),
            turn = self.turn.lock() => turn,
            () = sleep_until(until) => return Err(NoPlace::For(self.pace)),
        };
        loop {
            let ready_at = match self.opens_at() {
                Some(opens_at) => opens_at,
                None => match self.limiter.check() {
                    Ok(()) => return Ok(asked.elapsed()),
                    Err(not_until) => Instant::now() + not_until.wait_time_from(self.limiter.clock().now()),
                },
            };
            if ready_at > until {
                return Err(NoPlace::For(ready_at - Instant::now()));
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(NoPlace::Stopped),
                () = sleep_until(ready_at) => {}
            }
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

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(86_400)
    }

    #[tokio::test(start_paused = true)]
    async fn requests_are_spread_evenly_from_the_first_on() {
        let quota = quota(50);
        let start = Instant::now();
        let mut times = Vec::new();
        for _ in 0..130 {
            quota.acquire(far(), &CancellationToken::new()).await.unwrap();
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
        quota.acquire(far(), &stop).await.unwrap();
        tokio::time::sleep(Duration::from_secs(600)).await;
        quota.acquire(far(), &stop).await.unwrap();
        assert!(quota.acquire(far(), &stop).await.unwrap() >= Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_served_in_order() {
        let quota = quota(600);
        let served = Arc::new(AtomicUsize::new(0));
        let tasks: Vec<_> = (0..20)
            .map(|place| {
                let (quota, served) = (quota.clone(), served.clone());
                tokio::spawn(async move {
                    quota.acquire(far(), &CancellationToken::new()).await.unwrap();
                    assert_eq!(served.fetch_add(1, Ordering::SeqCst), place);
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_does_not_fit_is_answered_at_once_with_its_length() {
        let quota = quota(1);
        let stop = CancellationToken::new();
        quota.acquire(far(), &stop).await.unwrap();
        let start = Instant::now();
        let denied = quota.acquire(start + Duration::from_secs(50), &stop).await;
        assert_eq!(denied, Err(NoPlace::For(Duration::from_secs(61))));
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_closes_the_quota_for_everybody_and_the_longest_stands() {
        let quota = quota(6000);
        let stop = CancellationToken::new();
        quota.close_for(Duration::from_secs(30));
        quota.close_for(Duration::from_secs(7));
        assert_eq!(quota.acquire(far(), &stop).await, Ok(Duration::from_secs(30)));
        assert!(quota.acquire(far(), &stop).await.unwrap() < Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_told_to_stop() {
        let quota = quota(1);
        let stop = CancellationToken::new();
        quota.acquire(far(), &stop).await.unwrap();
        let waiting = quota.acquire(far(), &stop);
        let stopping = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            stop.cancel();
        };
        assert_eq!(tokio::join!(waiting, stopping).0, Err(NoPlace::Stopped));
    }
}
