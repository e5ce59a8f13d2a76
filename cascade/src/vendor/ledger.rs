//! What the vendor was asked and what it answered.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::faults::Fault;
use super::quota::QUOTA_WINDOW;

/// One request the vendor received.
#[derive(Clone, Debug, PartialEq)]
pub struct AnsweredRequest {
    /// When it arrived, since the server's start.
    pub at: Duration,
    /// Path and query as they came.
    pub path_and_query: String,
    /// The HTTP status answered; with a cut connection, the status announced before.
    pub status: u16,
    /// The length of the answer's body in bytes; with a cut connection, the one announced before.
    pub body_bytes: usize,
    /// What was wrong with the answer on purpose. A 429 for want of quota is no fault.
    pub fault: Option<Fault>,
    /// The id of the record that was made invalid, where the fault is a bad record.
    pub spoiled_record: Option<String>,
}

impl AnsweredRequest {
    fn path(&self) -> &str {
        self.path_and_query
            .split_once('?')
            .map_or(self.path_and_query.as_str(), |(path, _)| path)
    }
}

/// A summary of requests, in the order in which they arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// All requests.
    pub requests: usize,
    /// Requests by path, without the query.
    pub by_path: BTreeMap<String, usize>,
    /// Requests by the status answered.
    pub by_status: BTreeMap<u16, usize>,
    /// Requests answered 429, for want of quota or as a fault.
    pub answered_429: usize,
    /// Faults committed, by name.
    pub faults: BTreeMap<&'static str, usize>,
    /// The most requests not answered 429 in any 60 seconds: never more than the quota.
    pub busiest_minute: usize,
    /// The most requests in any 60 seconds, those answered 429 included.
    pub busiest_minute_of_all: usize,
    /// Path and query of what was asked more than once, retries included, and how often.
    pub duplicates: BTreeMap<String, usize>,
    /// Path and query of what was answered in full (200 or 304, no fault) more than once, and how often.
    pub answered_twice: BTreeMap<String, usize>,
}

impl Stats {
    /// The summary of these requests.
    pub fn of(requests: &[AnsweredRequest]) -> Self {
        let mut stats = Self {
            requests: requests.len(),
            ..Self::default()
        };
        for request in requests {
            *stats.by_path.entry(request.path().to_owned()).or_default() += 1;
            *stats.by_status.entry(request.status).or_default() += 1;
            *stats.duplicates.entry(request.path_and_query.clone()).or_default() += 1;
            match request.fault {
                Some(fault) => *stats.faults.entry(fault.name()).or_default() += 1,
                None if matches!(request.status, 200 | 304) => {
                    *stats.answered_twice.entry(request.path_and_query.clone()).or_default() += 1;
                }
                None => {}
            }
        }
        stats.duplicates.retain(|_, asked| *asked > 1);
        stats.answered_twice.retain(|_, answered| *answered > 1);
        stats.answered_429 = stats.by_status.get(&429).copied().unwrap_or(0);
        stats.busiest_minute = busiest_window(requests.iter().filter(|request| request.status != 429));
        stats.busiest_minute_of_all = busiest_window(requests.iter());
        stats
    }
}

/// The maximum over all windows. One that holds the most can be moved to begin with a request, so these suffice.
fn busiest_window<'a>(requests: impl Iterator<Item = &'a AnsweredRequest>) -> usize {
    let times: Vec<Duration> = requests.map(|request| request.at).collect();
    let mut end = 0;
    let mut busiest = 0;
    for (begin, &first) in times.iter().enumerate() {
        while times.get(end).is_some_and(|&at| at < first + QUOTA_WINDOW) {
            end += 1;
        }
        busiest = busiest.max(end - begin);
    }
    busiest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(at_ms: u64, path_and_query: &str, status: u16, fault: Option<Fault>) -> AnsweredRequest {
        AnsweredRequest {
            at: Duration::from_millis(at_ms),
            path_and_query: path_and_query.to_owned(),
            status,
            body_bytes: 0,
            fault,
            spoiled_record: None,
        }
    }

    #[test]
    fn the_busiest_minute_is_found_wherever_it_begins_and_is_60_seconds_long() {
        let at = |times: &[u64]| -> usize {
            let requests: Vec<_> = times.iter().map(|&at| asked(at, "/sales", 200, None)).collect();
            Stats::of(&requests).busiest_minute
        };
        assert_eq!(at(&[]), 0);
        assert_eq!(at(&[0, 59_999]), 2);
        assert_eq!(at(&[0, 60_000]), 1);
        // neither of the calendar minutes holds four
        assert_eq!(at(&[0, 40_000, 50_000, 70_000, 99_999, 130_000]), 4);
    }

    #[test]
    fn refused_requests_are_told_apart_from_those_within_the_quota() {
        let stats = Stats::of(&[
            asked(0, "/sales?employeeID=1", 200, None),
            asked(1, "/sales?employeeID=2", 429, None),
            asked(2, "/sales?employeeID=2", 429, Some(Fault::TooManyRequests)),
            asked(3, "/branches?branch=Utica", 304, None),
        ]);
        assert_eq!((stats.requests, stats.answered_429), (4, 2));
        assert_eq!((stats.busiest_minute, stats.busiest_minute_of_all), (2, 4));
        assert_eq!(
            stats.by_path,
            BTreeMap::from([("/sales".to_owned(), 3), ("/branches".to_owned(), 1)])
        );
        assert_eq!(stats.faults, BTreeMap::from([("too_many_requests", 1)]));
    }

    #[test]
    fn a_retry_is_a_duplicate_but_not_answered_twice() {
        let stats = Stats::of(&[
            asked(0, "/sales?employeeID=1", 503, Some(Fault::Status(503))),
            asked(1, "/sales?employeeID=1", 200, None),
            asked(2, "/sales?employeeID=2", 200, None),
            asked(3, "/sales?employeeID=2", 304, None),
            asked(4, "/sales?employeeID=3", 200, None),
        ]);
        let twice = |id: &str| (format!("/sales?employeeID={id}"), 2);
        assert_eq!(stats.duplicates, BTreeMap::from([twice("1"), twice("2")]));
        assert_eq!(stats.answered_twice, BTreeMap::from([twice("2")]));
    }
}
