//! How often what is looked at.

use std::time::Duration;

use super::letters::Looking;
use crate::status::{QUEUES, Where};

/// How many requests a look at the runs and the quota takes, as long as they name no more than [`BRANCHES_A_REQUEST`] branches
/// that are not done.
const STATE_REQUESTS: u64 = 2;

/// How many entries one request for entries names at the most.
pub(super) const BRANCHES_A_REQUEST: usize = 100;

/// The tables of records.
const TABLES: u64 = 3;

/// How often an observer looks at what.
#[derive(Clone, Copy, Debug)]
pub struct Cadence {
    /// Queues, runs and the quota.
    pub every: Duration,
    /// The same while nobody reads; `None`: not at all.
    pub idle: Option<Duration>,
    /// A table's rows, at the most.
    pub(super) rows: Duration,
    /// How many times as long as counting a table's rows took it is left alone.
    pub(super) rows_times: u32,
    /// The ages of the queues' oldest messages.
    pub(super) ages: Duration,
    /// What the vendor's limit is.
    pub(super) limit: Duration,
    /// Dead letters.
    pub(super) letters: Looking,
}

impl Cadence {
    /// How often a place is looked at that is looked at `every` so often; [`Cadence::usual`] says what is usual there.
    pub fn of(place: Where, every: Duration) -> Self {
        match place {
            Where::Here => Self {
                every,
                idle: Some(every.max(Duration::from_secs(10))),
                rows: every,
                rows_times: 10,
                ages: every,
                limit: every,
                letters: Looking {
                    least: Duration::from_secs(2),
                    most: Duration::from_secs(60),
                    limit: 1000,
                },
            },
            Where::Aws => Self {
                every,
                idle: None,
                // DynamoDB counts every six hours, and CloudWatch measures every minute.
                rows: every.max(Duration::from_secs(300)),
                rows_times: 0,
                ages: every.max(Duration::from_secs(60)),
                limit: every.max(Duration::from_secs(300)),
                letters: Looking {
                    least: Duration::from_secs(300),
                    most: Duration::from_secs(900),
                    limit: 100,
                },
            },
        }
    }

    /// How far apart looks usually are.
    pub fn usual(place: Where) -> Duration {
        match place {
            Where::Here => Duration::from_secs(1),
            Where::Aws => Duration::from_secs(10),
        }
    }

    /// How many requests a minute this costs on AWS while somebody reads, rounded up; dead letters, which are looked at where
    /// there are any, add a few.
    pub fn requests_a_minute(&self) -> u64 {
        let queues = QUEUES.len() as u64;
        let times = |requests: u64, every: Duration| {
            requests * 60_000 / u64::try_from(every.as_millis().max(1)).unwrap_or(u64::MAX)
        };
        let often = times(1000 * (queues + STATE_REQUESTS), self.every);
        let seldom = times(1000 * queues, self.ages) + times(1000 * TABLES, self.rows) + times(1000 * 2, self.limit);
        (often + seldom).div_ceil(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_aws_a_minute_costs_about_sixty_requests_and_less_if_asked_less_often() {
        let usual = Cadence::of(Where::Aws, Cadence::usual(Where::Aws));
        // 6 × 9, 7 ages, and a bit
        assert_eq!(usual.requests_a_minute(), 62);
        assert_eq!(Cadence::of(Where::Aws, Duration::from_secs(60)).requests_a_minute(), 17);
        assert!(usual.idle.is_none());
    }
}
