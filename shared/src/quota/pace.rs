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
    /// together they stay below it. Where there are more instances than requests, each has one in so many minutes.
    pub fn of_one_among(instances: NonZeroU32, requests_per_minute: NonZeroU32) -> Self {
        match NonZeroU32::new(requests_per_minute.get() / instances) {
            Some(part) => Self::per_minute(part),
            None => Self::every(MINUTE * instances.get().div_ceil(requests_per_minute.get())),
        }
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
