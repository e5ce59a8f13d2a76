//! Which sales are looked at: how far back a sale still counts as recent.

use serde_json::value::RawValue;
use shared::record::Rejection;
use shared::run::{format_vendor_timestamp, parse_vendor_timestamp};
use time::{Duration, UtcDateTime};

/// How far in the future a sale can lie before it cannot be right (the contract's section 5).
const MOST_FUTURE: Duration = Duration::hours(24);

/// How far back a sale still counts as recent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lookback(Option<u32>);

/// Whether a sale is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recency {
    /// It is.
    Recent,
    /// It lies before the lookback.
    Old,
}

impl Lookback {
    /// All sales, as a first load needs them.
    pub const ALL: Self = Self(None);

    /// So many hours; `0` means all sales.
    pub fn hours(hours: u32) -> Self {
        Self((hours > 0).then_some(hours))
    }

    /// So far, to the hour; `None` means all sales.
    pub fn within(duration: Option<Duration>) -> Self {
        Self(duration.map(|duration| u32::try_from(duration.whole_hours()).unwrap_or(u32::MAX)))
    }

    /// How far; `None` for all sales.
    pub fn duration(self) -> Option<Duration> {
        self.0.map(|hours| Duration::hours(hours.into()))
    }

    /// Whether it leaves out nothing that `other` looks at.
    pub fn reaches_back_as_far_as(self, other: Self) -> bool {
        match (self.0, other.0) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(hours), Some(others)) => hours >= others,
        }
    }

    /// Judges a sale by its `transaction_timestamp`, in an answer fetched at `now`.
    ///
    /// # Errors
    /// If it has none that can be read, or one that cannot be right. That rejects a sale however old it is.
    pub fn judge(self, timestamp: Option<&RawValue>, now: UtcDateTime) -> Result<Recency, Rejection> {
        let raw = timestamp.ok_or(Rejection::NoTimestamp)?.get();
        let booked = serde_json::from_str::<String>(raw)
            .ok()
            .and_then(|text| parse_vendor_timestamp(&text))
            .ok_or_else(|| Rejection::Timestamp(raw.chars().take(60).collect()))?;
        if booked - now > MOST_FUTURE {
            return Err(Rejection::Future(format_vendor_timestamp(booked)));
        }
        let is_old = |hours: u32| now - booked > Duration::hours(hours.into());
        Ok(if self.0.is_some_and(is_old) {
            Recency::Old
        } else {
            Recency::Recent
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::utc_datetime;

    fn judge(lookback: Lookback, json: &str) -> Result<Recency, String> {
        let now = utc_datetime!(2026-11-21 12:00);
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        lookback
            .judge(Some(raw), now)
            .map_err(|rejection| rejection.to_string())
    }

    #[test]
    fn a_sale_is_recent_up_to_the_lookbacks_end() {
        let day = Lookback::hours(24);
        assert_eq!(judge(day, r#""2026-11-20 12:00:00""#), Ok(Recency::Recent));
        assert_eq!(judge(day, r#""2026-11-20 11:59:59""#), Ok(Recency::Old));
        assert_eq!(judge(day, r#""2026-11-21 12:30:00""#), Ok(Recency::Recent));
    }

    #[test]
    fn a_lookback_reaches_as_far_as_one_that_is_no_longer() {
        let [hour, day] = [1, 24].map(Lookback::hours);
        assert!(day.reaches_back_as_far_as(hour) && day.reaches_back_as_far_as(day));
        assert!(Lookback::ALL.reaches_back_as_far_as(day));
        assert!(!hour.reaches_back_as_far_as(day) && !day.reaches_back_as_far_as(Lookback::ALL));
    }

    #[test]
    fn without_a_lookback_all_sales_are_looked_at() {
        for lookback in [Lookback::ALL, Lookback::hours(0), Lookback::hours(u32::MAX)] {
            assert_eq!(judge(lookback, r#""1949-03-01 09:00:00""#), Ok(Recency::Recent));
        }
    }

    #[test]
    fn a_time_that_cannot_be_read_or_cannot_be_right_is_rejected_however_old() {
        for lookback in [Lookback::ALL, Lookback::hours(24)] {
            assert_eq!(judge(lookback, r#""2026-11-22 12:00:00""#), Ok(Recency::Recent));
            assert!(
                judge(lookback, r#""2026-11-22 12:00:01""#)
                    .unwrap_err()
                    .contains("more than 24 hours")
            );
            for json in [
                "null",
                "1669034603",
                r#""yesterday""#,
                r#""2026-11-21T12:00:00Z""#,
                r#""\ud800""#,
                "{}",
            ] {
                assert!(
                    judge(lookback, json).unwrap_err().contains("is not of the form"),
                    "{json}"
                );
            }
            assert!(lookback.judge(None, utc_datetime!(2026-11-21 12:00)).is_err());
        }
    }
}
