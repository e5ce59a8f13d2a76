//! The `Retry-After` header, in both of its forms (RFC 9110, section 10.2.3).

use std::time::{Duration, SystemTime};

use time::UtcDateTime;

/// The longest wait that is told from forever, 136 years. Any time can have it added.
pub const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

/// The wait that a `Retry-After` header asks for: seconds, or a date, taken from `now`. A date that is past asks for
/// none. `None` if it is neither.
pub fn parse(header: &str, now: UtcDateTime) -> Option<Duration> {
    let header = header.trim();
    if !header.is_empty() && header.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(header.parse().map_or(LONGEST, Duration::from_secs).min(LONGEST));
    }
    let date = httpdate::parse_http_date(header).ok()?;
    let wait = date.duration_since(SystemTime::from(now)).unwrap_or_default();
    Some(wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::utc_datetime;

    #[test]
    fn seconds_and_dates_of_all_three_forms_are_understood() {
        let now = utc_datetime!(1994-11-06 08:49:07);
        for (header, seconds) in [
            ("30", 30),
            (" 0 ", 0),
            ("99999999999999999999999", u64::from(u32::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", 30),
            ("Sunday, 06-Nov-94 08:49:37 GMT", 30),
            ("Sun Nov  6 08:49:37 1994", 30),
            ("Sun, 06 Nov 1994 08:49:00 GMT", 0),
        ] {
            assert_eq!(parse(header, now), Some(Duration::from_secs(seconds)), "{header}");
        }
    }

    #[test]
    fn no_wait_is_longer_than_the_longest() {
        for header in ["4294967296", "Fri, 31 Dec 9999 23:59:59 GMT"] {
            assert_eq!(
                parse(header, utc_datetime!(2026-11-21 01:00)),
                Some(LONGEST),
                "{header}"
            );
        }
    }

    #[test]
    fn anything_else_is_as_good_as_absent() {
        for header in [
            "",
            "-1",
            "1.5",
            "soon",
            "+3",
            "2026-11-21T01:00:00Z",
            "Sun, 99 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(parse(header, utc_datetime!(2026-11-21 01:00)), None, "{header}");
        }
    }
}
