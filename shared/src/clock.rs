//! What time it is: a parameter of everything that asks, so that tests and the simulator own it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use time::UtcDateTime;
use tokio::time::Instant;

/// A wall clock. Clones share one clock.
///
/// Waiting is not here: whoever waits uses [`tokio::time`], which a test can pause.
#[derive(Clone, Debug)]
pub struct Clock(Reading);

#[derive(Clone, Debug)]
enum Reading {
    System,
    Simulated {
        start: UtcDateTime,
        origin: Instant,
        skipped_ms: Arc<AtomicU64>,
    },
}

impl Clock {
    /// The machine's own clock.
    pub fn system() -> Self {
        Self(Reading::System)
    }

    /// A clock that shows `start` now and runs as tokio's time does: at the usual speed, or under the
    /// test's control where tokio's time is paused.
    pub fn starting_at(start: UtcDateTime) -> Self {
        Self(Reading::Simulated {
            start,
            origin: Instant::now(),
            skipped_ms: Arc::default(),
        })
    }

    /// The time now.
    pub fn now(&self) -> UtcDateTime {
        match &self.0 {
            Reading::System => UtcDateTime::now(),
            Reading::Simulated {
                start,
                origin,
                skipped_ms,
            } => *start + origin.elapsed() + Duration::from_millis(skipped_ms.load(Ordering::SeqCst)),
        }
    }

    /// Moves a simulated clock forward by `step`, rounded up to the millisecond, so that it never stops short of the
    /// time that was meant. The machine's clock cannot be moved: there this does nothing and answers `false`.
    pub fn advance(&self, step: Duration) -> bool {
        match &self.0 {
            Reading::System => false,
            Reading::Simulated { skipped_ms, .. } => {
                let millis = u64::try_from(step.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
                skipped_ms.fetch_add(millis, Ordering::SeqCst);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::utc_datetime;

    #[tokio::test(start_paused = true)]
    async fn a_simulated_clock_runs_with_tokio_and_can_be_advanced() {
        let clock = Clock::starting_at(utc_datetime!(2026-11-21 01:00));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(clock.clone().advance(Duration::from_secs(60)));
        assert_eq!(clock.now(), utc_datetime!(2026-11-21 01:01:05));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_moved_to_a_time_does_not_stop_short_of_it() {
        let clock = Clock::starting_at(utc_datetime!(2026-11-21 01:00:00.000_000_1));
        let hour = utc_datetime!(2026-11-21 02:00);
        clock.advance((hour - clock.now()).unsigned_abs());
        assert!(clock.now() >= hour, "{}", clock.now());
    }

    #[test]
    fn the_system_clock_cannot_be_advanced() {
        assert!(!Clock::system().advance(Duration::from_secs(60)));
    }
}
