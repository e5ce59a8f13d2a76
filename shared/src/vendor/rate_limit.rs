//! What a vendor says is left of its quota, in the headers of an answer.
//!
//! Sources: `X-RateLimit-Remaining` and `X-RateLimit-Reset` as widely used (seconds, or seconds since 1970); the IETF's
//! "RateLimit header fields for HTTP" in its earlier form (`RateLimit-Remaining`, `RateLimit-Reset`), its middle one
//! (`RateLimit: limit=50, remaining=7, reset=30`) and its later one (`RateLimit: "default";r=7;t=30`).

use std::time::Duration;

use time::UtcDateTime;

/// The window where the vendor does not say when the quota is whole again (the contract's section 1).
const WINDOW: Duration = Duration::from_secs(60);

/// The longest that a reset can be away: what is further is a mistake, or another quota, such as a day's.
const LONGEST_RESET: Duration = Duration::from_secs(3600);

/// From here on a number of seconds is taken to count from 1970.
const LEAST_EPOCH: u64 = 1_000_000_000;

/// What is left of a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many requests.
    pub remaining: u32,
    /// For how long.
    pub reset: Duration,
}

/// Reads the headers; `get` gives the text of one by its name. `None` if they say nothing that can be understood.
pub fn parse(get: impl Fn(&str) -> Option<String>, now: UtcDateTime) -> Option<RateLimit> {
    let number = |name: &str| get(name).and_then(|text| whole(&text));
    let (remaining, reset) = if let Some(remaining) = number("x-ratelimit-remaining") {
        (remaining, number("x-ratelimit-reset"))
    } else if let Some(remaining) = number("ratelimit-remaining") {
        (remaining, number("ratelimit-reset"))
    } else {
        strictest(&get("ratelimit")?)?
    };
    let reset = match reset {
        None => WINDOW,
        Some(epoch) if epoch >= LEAST_EPOCH => {
            let now = u64::try_from(now.unix_timestamp()).unwrap_or(0);
            Duration::from_secs(epoch.saturating_sub(now))
        }
        Some(seconds) => Duration::from_secs(seconds),
    };
    (reset <= LONGEST_RESET).then(|| RateLimit {
        remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
        reset,
    })
}

fn whole(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Of the limits that a `RateLimit` field names, the one of which the least is left.
fn strictest(field: &str) -> Option<(u64, Option<u64>)> {
    let parameter = |text: &str, names: [&str; 2]| {
        text.split([';', ','])
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| names.contains(&name.trim()))
            .and_then(|(_, value)| whole(value))
    };
    let limit = |text: &str| Some((parameter(text, ["r", "remaining"])?, parameter(text, ["t", "reset"])));
    if field.contains("remaining") {
        // One limit, whose parts are set apart by commas.
        return limit(field);
    }
    field
        .split(',')
        .filter_map(limit)
        .min_by_key(|(remaining, _)| *remaining)
}

#[cfg(test)]
mod tests {
    use time::macros::utc_datetime;

    fn parse(headers: &[(&str, &str)]) -> Option<(u32, u64)> {
        let get = |name: &str| {
            let found = headers.iter().find(|(header, _)| *header == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let limit = super::parse(get, utc_datetime!(2026-11-21 01:00))?;
        Some((limit.remaining, limit.reset.as_secs()))
    }

    #[test]
    fn each_form_in_use_is_understood() {
        for (headers, expected) in [
            (
                vec![("x-ratelimit-remaining", "7"), ("x-ratelimit-reset", "30")],
                (7, 30),
            ),
            (
                vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795222842")],
                (0, 42),
            ),
            (
                vec![("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1795222000")],
                (0, 0),
            ),
            (vec![("x-ratelimit-remaining", "7")], (7, 60)),
            (vec![("ratelimit-remaining", " 7 "), ("ratelimit-reset", "30")], (7, 30)),
            (vec![("ratelimit", "limit=50, remaining=7, reset=30")], (7, 30)),
            (vec![("ratelimit", r#""default";r=7;t=30"#)], (7, 30)),
            (vec![("ratelimit", r#""day";r=700;t=3000, "minute";r=7;t=30"#)], (7, 30)),
            (
                vec![("x-ratelimit-remaining", "99999999999"), ("x-ratelimit-reset", "1")],
                (u32::MAX, 1),
            ),
        ] {
            assert_eq!(parse(&headers), Some(expected), "{headers:?}");
        }
    }

    #[test]
    fn what_is_not_understood_says_nothing() {
        for headers in [
            vec![],
            vec![("x-ratelimit-reset", "30")],
            vec![("x-ratelimit-remaining", "-1")],
            vec![("x-ratelimit-remaining", "some")],
            vec![("x-ratelimit-remaining", "7"), ("x-ratelimit-reset", "86400")],
            vec![("ratelimit", r#""default";t=30"#)],
            vec![("ratelimit", "")],
        ] {
            assert_eq!(parse(&headers), None, "{headers:?}");
        }
    }
}
