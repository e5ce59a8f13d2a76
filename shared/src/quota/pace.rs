//! A pace: requests spread evenly, for a process that keeps a quota, or its part of one, by itself.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::RateLimiter;
use governor::clock::Clock as GovernorClock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use tokio::time::Instant;

/// What the vendor's minute is taken to be. Requests that were paced evenly can bunch by up to a second on their way,
/// and there are then still no more of them in any 60 seconds than the quota allows.
const MINUTE: Duration = Duration::from_secs(61);

/// So many requests a minute, spread evenly: no burst at the start, none after a pause.
pub struct Pace {
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Nanos>>,
    period: Duration,
}

impl Pace {
    /// So many requests a minute.
    pub fn per_minute(requests: NonZeroU32) -> Self {
        Self::every(MINUTE / requests.get())
    }

    /// A request each so often.
    pub fn every(period: Duration) -> Self {
        // A period of zero is the only one that governor refuses.
        let period = period.max(Duration::from_nanos(1));
        let spread = governor::Quota::with_period(period).unwrap_or(governor::Quota::per_second(NonZeroU32::MAX));
        Self {
            limiter: RateLimiter::direct_with_clock(spread.allow_burst(NonZeroU32::MIN), TokioClock(Instant::now())),
            period,
        }
    }

    /// The part of a quota that one of `instances` keeps when none of them knows of the others: rounded down, so that
    /// together they stay below it. `None` where there are more instances than requests: however seldom each of them made
    /// one, all might choose the same minute.
    pub fn of_one_among(instances: NonZeroU32, requests_per_minute: NonZeroU32) -> Option<Self> {
        NonZeroU32::new(requests_per_minute.get() / instances).map(Self::per_minute)
    }

    /// The time that one request has.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// Takes the next place, if its time has come.
    ///
    /// # Errors
    /// How long until it has.
    pub fn check(&self) -> Result<(), Duration> {
        self.limiter
            .check()
            .map_err(|not_until| not_until.wait_time_from(self.limiter.clock().now()))
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

    #[test]
    fn those_who_do_not_know_of_each_other_stay_within_the_quota_together() {
        for (instances, requests) in [(1, 1), (1, 50), (9, 50), (9, 9), (9, 8), (50, 8), (50, 1)] {
            let [instances, requests] = [instances, requests].map(|number| NonZeroU32::new(number).unwrap());
            let pace = Pace::of_one_among(instances, requests);
            let minute = Duration::from_secs(60);
            // In a minute each has one more than fits between its requests.
            let each = pace.map_or(0, |pace| 1 + minute.as_nanos() / pace.period().as_nanos());
            let all = each * u128::from(instances.get());
            assert!(
                all <= u128::from(requests.get()),
                "{instances} instances, quota {requests}: {all}"
            );
        }
    }
}
