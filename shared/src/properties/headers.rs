use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use time::UtcDateTime;
use time::macros::utc_datetime;
use url::Url;

use crate::vendor::http::same_origin;
use crate::vendor::link::next_page;
use crate::vendor::{rate_limit, retry_after};

static ASKED: LazyLock<Url> = LazyLock::new(|| {
    let asked = "https://www.dundermifflinpaper.com/sales?employeeID=1235";
    Url::parse(asked).expect("a URL")
});

/// Of an answer's `Link` headers, one a line.
pub fn link(headers: &[u8]) {
    // As the client reads them.
    let headers = String::from_utf8_lossy(headers);
    let headers: Vec<_> = headers.lines().collect();
    let read = |headers: &[&str]| next_page(headers.iter().copied(), &ASKED);

    let next = read(&headers);
    if let Ok(Some(next)) = &next {
        let written = format!("<{next}>; rel=\"next\"");
        assert_eq!(read(&[&written]).as_ref(), Ok(&Some(next.clone())), "{written}");
        // The client follows it only where scheme, host and port are those that were asked.
        let origin = (next.scheme(), next.host_str(), next.port_or_known_default());
        let same = origin == ("https", ASKED.host_str(), Some(443));
        assert_eq!(
            same_origin(&ASKED, next.clone(), "the next page").is_ok(),
            same,
            "{next}"
        );
    }
    // Several headers are one with commas (RFC 9110, section 5.3), and nothing stands after the next page.
    if headers.iter().all(|header| read(&[header]).is_ok()) {
        let first = headers
            .iter()
            .find_map(|header| read(&[header]).expect("it is well-formed"));
        assert_eq!(next, Ok(first));
        assert_eq!(read(&[&headers.join(",")]), next);
    }
    // No other parameter hides a link's relation, or gives it one.
    for header in headers {
        let quoted = header.replace('\\', r"\\").replace('"', r#"\""#);
        let title = |relation: &str| read(&[&format!("</2>; title=\"{quoted}\"; rel={relation}, </3>")]);
        assert_eq!(title("next"), Ok(Some(ASKED.join("/2").expect("a URL"))), "{quoted}");
        assert_eq!(title("prev"), Ok(None), "{quoted}");
    }
}

/// Of a `Retry-After` header.
pub fn retry_after(header: &[u8]) {
    let Ok(header) = std::str::from_utf8(header) else {
        return;
    };
    let early = utc_datetime!(1994-11-06 08:49:37);
    let late = utc_datetime!(2026-11-21 01:00:00);
    let waits = [early, late].map(|now| retry_after::parse(header, now));
    let trimmed = header.trim();
    if !trimmed.is_empty() && trimmed.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = trimmed.parse().unwrap_or(u64::MAX).min(u64::from(u32::MAX));
        assert_eq!(waits, [Some(Duration::from_secs(seconds)); 2]);
        return;
    }
    let [Some(from_early), Some(from_late)] = waits else {
        assert_eq!(waits, [None, None]);
        return;
    };
    // A date comes nearer as time goes by, as long as it is told from forever.
    assert!(from_early.max(from_late) <= retry_after::LONGEST, "{from_early:?}");
    if from_early < retry_after::LONGEST {
        assert_eq!(from_late, from_early.saturating_sub((late - early).unsigned_abs()));
    }
    check_date(from_late, late);
}

/// Of the headers that say what is left of a quota: a name, a colon and a value in each line.
pub fn rate_limit(headers: &[u8]) {
    let headers = String::from_utf8_lossy(headers);
    let get = |name: &str| {
        let mut fields = headers.lines().filter_map(|line| line.split_once(':'));
        let found = fields.find(|(field, _)| field.trim().eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_owned())
    };
    let now = utc_datetime!(2026-11-21 01:00:00);
    let Some(limit) = rate_limit::parse(get, now) else {
        return;
    };
    assert!(limit.reset <= Duration::from_secs(3600), "{limit:?}");
    // Written in any of the forms in use, it says the same.
    let (remaining, reset) = (limit.remaining, limit.reset.as_secs());
    let until = now.unix_timestamp() + i64::try_from(reset).expect("an hour at the most");
    for (name, value) in [
        ("ratelimit", format!("limit=100, remaining={remaining}, reset={reset}")),
        (
            "ratelimit",
            format!("\"a\";r={remaining};t={reset}, \"b\";r={};t=9", u32::MAX),
        ),
        ("x-ratelimit-remaining", remaining.to_string()),
    ] {
        let get = |asked: &str| match asked {
            _ if asked == name => Some(value.clone()),
            "x-ratelimit-reset" => Some(until.to_string()),
            _ => None,
        };
        let read = rate_limit::parse(get, now).map(|limit| limit.remaining);
        assert_eq!(read, Some(remaining), "{value}");
        if remaining < u32::MAX {
            assert_eq!(rate_limit::parse(get, now), Some(limit), "{value}");
        }
    }
}

/// A wait until a date is the wait until that date, written in the form that RFC 9110 prefers.
fn check_date(wait: Duration, now: UtcDateTime) {
    let date = SystemTime::from(now) + wait;
    let written = httpdate::fmt_http_date(date);
    assert_eq!(retry_after::parse(&written, now), Some(wait), "{written}");
    assert_eq!(
        retry_after::parse(&written, UtcDateTime::from(date)),
        Some(Duration::ZERO)
    );
}
