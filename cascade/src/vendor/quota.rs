//! The vendor's quota: so many requests in any 60 seconds, for the whole account.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// The window over which requests are counted.
pub const QUOTA_WINDOW: Duration = Duration::from_secs(60);

/// An exact sliding window. A request counts from its arrival until [`QUOTA_WINDOW`] later, that instant excluded.
///
/// Every request counts, whatever its path and its answer (304 and errors too), except those answered 429.
#[derive(Clone, Debug)]
pub struct Quota {
    limit: usize,
    counted: VecDeque<Instant>,
}

impl Quota {
    /// A quota of `limit` requests in any 60 seconds.
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            counted: VecDeque::new(),
        }
    }

    /// Whether a request at `now` is within the quota. Counts nothing: see [`Quota::count`].
    ///
    /// # Errors
    /// How long from `now` until one request would be within it.
    pub fn check(&mut self, now: Instant) -> Result<(), Duration> {
        while self
            .counted
            .front()
            .is_some_and(|&counted| now.duration_since(counted) >= QUOTA_WINDOW)
        {
            self.counted.pop_front();
        }
        if self.counted.len() < self.limit {
            return Ok(());
        }
        let oldest = self
            .counted
            .front()
            .map_or(Duration::ZERO, |&counted| now.duration_since(counted));
        Err(QUOTA_WINDOW.saturating_sub(oldest))
    }

    /// Counts a request that arrived at `now`; times do not go backwards.
    pub fn count(&mut self, now: Instant) {
        self.counted.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_window_slides_and_is_not_a_calendar_minute() {
        // given: 3 in any 60 seconds, asked at 0, 50 and 59
        let begin = Instant::now();
        let mut quota = Quota::new(3);
        for seconds in [0, 50, 59] {
            let now = begin + seconds * SECOND;
            assert_eq!(quota.check(now), Ok(()));
            quota.count(now);
        }
        // when / then: full until the first one is exactly 60 seconds old
        assert_eq!(quota.check(begin + 59 * SECOND), Err(SECOND));
        assert_eq!(
            quota.check(begin + 60 * SECOND - Duration::from_nanos(1)),
            Err(Duration::from_nanos(1))
        );
        assert_eq!(quota.check(begin + 60 * SECOND), Ok(()));
        quota.count(begin + 60 * SECOND);
        // and then until the second one is
        assert_eq!(quota.check(begin + 61 * SECOND), Err(49 * SECOND));
    }

    #[test]
    fn what_is_only_checked_does_not_count() {
        let now = Instant::now();
        let mut quota = Quota::new(1);
        assert_eq!((quota.check(now), quota.check(now)), (Ok(()), Ok(())));
        quota.count(now);
        assert_eq!(quota.check(now), Err(QUOTA_WINDOW));
    }

    #[test]
    fn a_quota_of_nothing_admits_nothing() {
        assert_eq!(Quota::new(0).check(Instant::now()), Err(QUOTA_WINDOW));
    }
}
