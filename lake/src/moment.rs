//! Times and days as the lake counts them: milliseconds and days since 1970.

use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, UtcDateTime};

const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");

/// The first day of 1970, as `time` counts days.
const FIRST_DAY: i32 = 2_440_588;

/// A time in milliseconds since 1970.
pub(crate) fn milliseconds(time: UtcDateTime) -> i64 {
    // A time's range is some 20,000 years, which fits into milliseconds many times over.
    (time.unix_timestamp_nanos() / 1_000_000) as i64
}

/// The time so many milliseconds after 1970; `None` if the calendar ends before.
pub fn time_of(milliseconds: i64) -> Option<UtcDateTime> {
    UtcDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000).ok()
}

/// Reads a time as `last_modified` holds it.
pub(crate) fn of_last_modified(text: &str) -> Option<i64> {
    if !shared::run::is_last_modified(text) {
        return None;
    }
    of_rfc3339(text)
}

/// Reads a time in the form of RFC 3339.
pub(crate) fn of_rfc3339(text: &str) -> Option<i64> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Some(milliseconds(time.checked_to_utc()?))
}

/// Reads the vendor's `2023-01-01 23:43:23`.
pub(crate) fn of_vendor_timestamp(text: &str) -> Option<i64> {
    shared::run::parse_vendor_timestamp(text).map(milliseconds)
}

/// Reads a day such as `2023-01-01`, in days since 1970.
pub(crate) fn day(text: &str) -> Option<i32> {
    Some(parse_date(text)?.to_julian_day() - FIRST_DAY)
}

/// The day so many days after 1970's first; `None` if the calendar ends before.
pub(crate) fn date_of(days: i32) -> Option<Date> {
    Date::from_julian_day(days.checked_add(FIRST_DAY)?).ok()
}

/// Reads a day such as `2023-01-01`, and nothing else.
pub(crate) fn parse_date(text: &str) -> Option<Date> {
    Date::parse(text, DAY).ok().filter(|_| text.len() == 10)
}

/// A day as text.
pub(crate) fn format_date(date: Date) -> String {
    // The format has no part that a date could lack.
    date.format(DAY).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::utc_datetime;

    #[test]
    fn times_and_days_are_counted_from_1970() {
        assert_eq!(day("1970-01-01"), Some(0));
        assert_eq!(day("1969-12-31"), Some(-1));
        assert_eq!(day("2026-11-21"), Some(20_778));
        assert_eq!(date_of(20_778).map(format_date).as_deref(), Some("2026-11-21"));
        assert_eq!(of_vendor_timestamp("1970-01-01 00:00:01"), Some(1000));
        assert_eq!(of_last_modified("1970-01-01T00:00:00.001Z"), Some(1));
        assert_eq!(of_rfc3339("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(time_of(1_795_222_861_500), Some(utc_datetime!(2026-11-21 01:01:01.5)));
        assert_eq!(milliseconds(utc_datetime!(1969-12-31 23:59:59.999)), -1);
    }

    #[test]
    fn other_forms_are_no_times_and_no_days() {
        for text in [
            "",
            "2026-13-01",
            "+2026-11-21",
            "2026-11-21 ",
            "2026-1-2",
            "21.11.2026",
            "2026-11-21T00:00:00Z",
        ] {
            assert_eq!(day(text), None, "{text}");
            assert_eq!(of_last_modified(text), None, "{text}");
        }
        assert_eq!(time_of(i64::MAX), None);
    }
}
