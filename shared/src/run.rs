//! Runs, and the forms of time that the contract uses.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::UtcDateTime;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

const SECONDS: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const MILLISECONDS: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
const VENDOR: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");

/// What identifies an hourly run: the time it was scheduled for, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(UtcDateTime);

/// A text that is no time in the form of RFC 3339.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time such as \"2026-11-21T01:00:00Z\" (RFC 3339)")]
pub struct NotATime(pub String);

impl RunId {
    /// The run scheduled for `time`.
    pub fn scheduled_for(time: UtcDateTime) -> Self {
        Self(time.replace_nanosecond(0).unwrap_or(time))
    }

    /// The time it was scheduled for.
    pub fn time(self) -> UtcDateTime {
        self.0
    }

    /// Reads a run's id, in any offset from UTC.
    ///
    /// # Errors
    /// If `text` is no time in the form of RFC 3339.
    pub fn parse(text: &str) -> Result<Self, NotATime> {
        OffsetDateTime::parse(text, &Rfc3339)
            .ok()
            // Near the ends of the calendar, UTC can lie outside of it; and before the year 0, RFC 3339 ends.
            .and_then(OffsetDateTime::checked_to_utc)
            .filter(|time| time.year() >= 0)
            .map(Self::scheduled_for)
            .ok_or_else(|| NotATime(text.chars().take(60).collect()))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Formatting into a string cannot fail for a date that `UtcDateTime` holds.
        f.write_str(&self.0.format(SECONDS).map_err(|_| fmt::Error)?)
    }
}

impl Serialize for RunId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RunId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// A time as `last_modified` holds it: `2026-11-21T01:02:03.456Z`. Later times are greater as text, too.
pub fn last_modified(time: UtcDateTime) -> String {
    // The format has no part that a `UtcDateTime` could lack, so that this cannot fail.
    time.format(MILLISECONDS).unwrap_or_default()
}

/// Whether a text is a time as [`last_modified`] writes it.
pub fn is_last_modified(text: &str) -> bool {
    parse(text, MILLISECONDS).is_some()
}

/// Reads the vendor's `2023-01-01 23:43:23`, which is UTC.
pub fn parse_vendor_timestamp(text: &str) -> Option<UtcDateTime> {
    parse(text, VENDOR).map(PrimitiveDateTime::as_utc)
}

/// Reads a time of four digits a year: `time` would take a sign before them.
fn parse(text: &str, format: &[BorrowedFormatItem<'_>]) -> Option<PrimitiveDateTime> {
    let has_sign = text.starts_with(['+', '-']);
    PrimitiveDateTime::parse(text, format).ok().filter(|_| !has_sign)
}

/// A time in the vendor's form.
pub fn format_vendor_timestamp(time: UtcDateTime) -> String {
    // As for `last_modified`.
    time.format(VENDOR).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::utc_datetime;

    #[test]
    fn a_run_is_named_by_its_scheduled_time_in_utc_to_the_second() {
        for text in ["2026-11-21T01:00:00Z", "2026-11-21T02:00:00.750+01:00"] {
            assert_eq!(RunId::parse(text).unwrap().to_string(), "2026-11-21T01:00:00Z");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_by_name() {
        for text in [
            "",
            "yesterday",
            "2026-11-21",
            "0000-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
            "2026-13-01T00:00:00Z",
            "<aws.scheduler.scheduled-time>",
        ] {
            assert_eq!(RunId::parse(text), Err(NotATime(text.to_owned())));
        }
    }

    #[test]
    fn last_modified_has_milliseconds_and_sorts_as_text() {
        let early = last_modified(utc_datetime!(2026-11-21 01:02:03.456_789));
        assert_eq!(early, "2026-11-21T01:02:03.456Z");
        assert!(is_last_modified(&early) && !is_last_modified("2026-11-21T01:02:03Z"));
        assert!(!is_last_modified("+2026-11-21T01:02:03.456Z"));
        assert!(early < last_modified(utc_datetime!(2026-11-21 01:02:04)));
    }

    #[test]
    fn the_vendors_timestamps_are_utc_to_the_second() {
        let time = utc_datetime!(2023-01-01 23:43:23);
        assert_eq!(parse_vendor_timestamp("2023-01-01 23:43:23"), Some(time));
        assert_eq!(format_vendor_timestamp(time), "2023-01-01 23:43:23");
        for text in [
            "2023-01-01",
            "2023-01-01T23:43:23",
            "2023-02-30 00:00:00",
            "2023-01-01 23:43:23 ",
            "+2023-01-01 23:43:23",
            "-2023-01-01 23:43:23",
            "",
        ] {
            assert_eq!(parse_vendor_timestamp(text), None, "{text}");
        }
    }
}
