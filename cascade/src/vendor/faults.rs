//! What the vendor does wrong on purpose.

use std::collections::HashMap;

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A rate never hits the same path and query more often than this in a row, so that a client that tries once more
/// than this gets its answer, however high the rate.
pub const MAX_RATED_FAULTS_IN_A_ROW: u32 = 3;

/// One thing that can be wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// 429 with `Retry-After`, although within the quota.
    TooManyRequests,
    /// This status, 400 to 599, with a JSON error body.
    Status(u16),
    /// The right answer, but only after [`Faults::slow_for_ms`].
    Slow,
    /// The headers of the right answer, half of its body, then the end of the connection.
    CutConnection,
    /// Status 200 and a correct `Content-Length`, but the JSON stops short.
    TruncatedBody,
    /// `{"error": …}` with status 200.
    ErrorBody,
    /// A page of HTML with status 200.
    NotJson,
    /// The record in the middle of the answer (among salespersons, if it lists employees) is made invalid.
    /// An answer without records is left as it is.
    BadRecord(BadRecord),
}

impl Fault {
    /// The name as it stands in [`super::Stats::faults`].
    pub fn name(self) -> &'static str {
        match self {
            Self::TooManyRequests => "too_many_requests",
            Self::Status(_) => "status",
            Self::Slow => "slow",
            Self::CutConnection => "cut_connection",
            Self::TruncatedBody => "truncated_body",
            Self::ErrorBody => "error_body",
            Self::NotJson => "not_json",
            Self::BadRecord(_) => "bad_record",
        }
    }
}

/// How a record is made invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BadRecord {
    /// There is no `id`.
    MissingId,
    /// The `id` is neither an integer nor a string.
    IdOfWrongType,
    /// The `transaction_timestamp` is no time. Records without one get [`BadRecord::TooManyDigits`] instead.
    UnreadableTimestamp,
    /// A number of 40 significant digits.
    TooManyDigits,
}

impl BadRecord {
    const ALL: [Self; 4] = [
        Self::MissingId,
        Self::IdOfWrongType,
        Self::UnreadableTimestamp,
        Self::TooManyDigits,
    ];

    /// `record`, a JSON object that begins with its `id`, made invalid in this way.
    pub(super) fn spoil(self, record: &str) -> String {
        const TIMESTAMP: &str = r#""transaction_timestamp":""#;
        let after_id = record.find(',').unwrap_or(record.len());
        match (self, record.find(TIMESTAMP)) {
            (Self::MissingId, _) => format!("{{{}", &record[(after_id + 1).min(record.len())..]),
            (Self::IdOfWrongType, _) => format!(r#"{{"id":[true]{}"#, &record[after_id..]),
            (Self::UnreadableTimestamp, Some(at)) => {
                let value = at + TIMESTAMP.len();
                let end = record[value..].find('"').map_or(value, |length| value + length);
                format!("{}around noon{}", &record[..value], &record[end..])
            }
            (Self::UnreadableTimestamp, None) | (Self::TooManyDigits, _) => format!(
                r#"{},"ledger_position":1234567890123456789012345678901234567.891{}"#,
                &record[..after_id],
                &record[after_id..]
            ),
        }
    }
}

/// How often a request gets each fault: 0 to 1 each, and at most 1 together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FaultRates {
    /// See [`Fault::TooManyRequests`].
    pub too_many_requests: f64,
    /// [`Fault::Status`] with 500, 502, 503 or 504.
    pub server_error: f64,
    /// See [`Fault::Slow`].
    pub slow: f64,
    /// See [`Fault::CutConnection`].
    pub cut_connection: f64,
    /// See [`Fault::TruncatedBody`].
    pub truncated_body: f64,
    /// See [`Fault::ErrorBody`].
    pub error_body: f64,
    /// See [`Fault::NotJson`].
    pub not_json: f64,
    /// [`Fault::BadRecord`] of any kind.
    pub bad_record: f64,
}

impl FaultRates {
    fn by_name(&self) -> [(&'static str, f64); 8] {
        [
            ("too_many_requests", self.too_many_requests),
            ("server_error", self.server_error),
            ("slow", self.slow),
            ("cut_connection", self.cut_connection),
            ("truncated_body", self.truncated_body),
            ("error_body", self.error_body),
            ("not_json", self.not_json),
            ("bad_record", self.bad_record),
        ]
    }

    fn draw(&self, rng: &mut Rng) -> Option<Fault> {
        let mut left = rng.f64();
        let server_error = [500, 502, 503, 504][rng.usize(0..4)];
        let bad_record = BadRecord::ALL[rng.usize(0..BadRecord::ALL.len())];
        for (rate, fault) in [
            (self.too_many_requests, Fault::TooManyRequests),
            (self.server_error, Fault::Status(server_error)),
            (self.slow, Fault::Slow),
            (self.cut_connection, Fault::CutConnection),
            (self.truncated_body, Fault::TruncatedBody),
            (self.error_body, Fault::ErrorBody),
            (self.not_json, Fault::NotJson),
            (self.bad_record, Fault::BadRecord(bad_record)),
        ] {
            if left < rate {
                return Some(fault);
            }
            left -= rate;
        }
        None
    }
}

/// A fault for the requests about one id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// `/branches`, `/employees` or `/sales`.
    pub path: String,
    /// The value of that path's query parameter: a branch's name, a branch's id or an employee's id.
    pub id: String,
    /// What is wrong with the answer; all pages of an answer count as requests of their own.
    pub fault: Fault,
    /// How many more times; always, if absent.
    #[serde(default)]
    pub times: Option<u32>,
}

/// What the vendor is told to do wrong. The default is nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// How often any request gets each fault.
    pub rates: FaultRates,
    /// Faults for particular requests. They go before the rates, the first that fits and has any times left.
    pub targets: Vec<Target>,
    /// How long [`Fault::Slow`] takes, in milliseconds.
    pub slow_for_ms: u64,
    /// What [`Fault::TooManyRequests`] says to wait, in seconds.
    pub retry_after_seconds: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            rates: FaultRates::default(),
            targets: Vec::new(),
            // Longer than the collectors' default time-out.
            slow_for_ms: 12_000,
            retry_after_seconds: 1,
        }
    }
}

impl Faults {
    /// Spreads `rate` evenly over all faults that a retry mends: everything but bad records, which would be
    /// missing until the next run.
    ///
    /// # Errors
    /// If `rate` is not from 0 to 1.
    pub fn at_rate(rate: f64) -> Result<Self, FaultsError> {
        let each = rate / 7.0;
        let faults = Self {
            rates: FaultRates {
                too_many_requests: each,
                server_error: each,
                slow: each,
                cut_connection: each,
                truncated_body: each,
                error_body: each,
                not_json: each,
                bad_record: 0.0,
            },
            ..Self::default()
        };
        if (0.0..=1.0).contains(&rate) {
            Ok(faults)
        } else {
            Err(FaultsError::Rate { name: "total", rate })
        }
    }

    /// These faults and this target.
    pub fn with_target(mut self, path: &str, id: &str, fault: Fault, times: Option<u32>) -> Self {
        self.targets.push(Target {
            path: path.to_owned(),
            id: id.to_owned(),
            fault,
            times,
        });
        self
    }

    /// Whether the vendor can do all this.
    ///
    /// # Errors
    /// The first rate, status, path or duration that makes no sense.
    pub fn validate(&self) -> Result<(), FaultsError> {
        let rates = self.rates.by_name();
        let total = ("total", rates.iter().map(|(_, rate)| rate).sum::<f64>());
        // Rates that should add up to exactly 1 may exceed it in the last bit.
        let total = (
            total.0,
            if total.1 > 1.0 && total.1 < 1.0 + 1e-9 {
                1.0
            } else {
                total.1
            },
        );
        for (name, rate) in rates.into_iter().chain([total]) {
            if !(0.0..=1.0).contains(&rate) {
                return Err(FaultsError::Rate { name, rate });
            }
        }
        for target in &self.targets {
            if !matches!(target.path.as_str(), "/branches" | "/employees" | "/sales") {
                return Err(FaultsError::Path(target.path.clone()));
            }
            if let Fault::Status(status) = target.fault
                && !(400..=599).contains(&status)
            {
                return Err(FaultsError::Status(status));
            }
        }
        let (slow, wait) = (self.slow_for_ms / 1_000, self.retry_after_seconds);
        for (name, seconds) in [("slow_for_ms", slow), ("retry_after_seconds", wait)] {
            if seconds > 86_400 {
                return Err(FaultsError::Duration { name, seconds });
            }
        }
        Ok(())
    }
}

/// Why the vendor cannot do what it is told.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum FaultsError {
    /// A rate that is no probability.
    #[error("fault rate {name} is {rate}: expected a number from 0 to 1")]
    Rate {
        /// Which one.
        name: &'static str,
        /// What it is.
        rate: f64,
    },
    /// A status that is no error.
    #[error("fault status is {0}: expected 400 to 599")]
    Status(u16),
    /// A path the API does not have.
    #[error("fault target path is {0:?}: expected /branches, /employees or /sales")]
    Path(String),
    /// A wait nobody would sit out.
    #[error("{name} is {seconds} s: expected at most a day")]
    Duration {
        /// Which one.
        name: &'static str,
        /// What it is.
        seconds: u64,
    },
}

/// Decides request by request. What the n-th request for a path and query gets depends only on the seed, on that path
/// and query and on n, so that it does not matter in which order concurrent requests arrive. Requests refused for
/// want of quota are not shown to it, because they depend on just that order.
#[derive(Debug)]
pub(super) struct FaultSource {
    seed: u64,
    pub(super) faults: Faults,
    asked: HashMap<String, Asked>,
}

#[derive(Debug, Default)]
struct Asked {
    times: u64,
    rated_faults_in_a_row: u32,
}

impl FaultSource {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            seed,
            faults,
            asked: HashMap::new(),
        }
    }

    /// What is wrong with the answer to this request. Uses up one time of a target.
    pub(super) fn next(&mut self, path: &str, id: Option<&str>, path_and_query: &str) -> Option<Fault> {
        let asked = self.asked.entry(path_and_query.to_owned()).or_default();
        asked.times += 1;
        let fits =
            |target: &&mut Target| target.path == path && Some(target.id.as_str()) == id && target.times != Some(0);
        if let Some(target) = self.faults.targets.iter_mut().find(fits) {
            target.times = target.times.map(|times| times - 1);
            return Some(target.fault);
        }
        let mut rng = Rng::with_seed(fingerprint(self.seed, path_and_query, asked.times));
        let drawn = self.faults.rates.draw(&mut rng);
        let fault = drawn.filter(|_| asked.rated_faults_in_a_row < MAX_RATED_FAULTS_IN_A_ROW);
        asked.rated_faults_in_a_row = if fault.is_some() {
            asked.rated_faults_in_a_row + 1
        } else {
            0
        };
        fault
    }
}

/// FNV-1a: the same number on every machine and in every version.
fn fingerprint(seed: u64, text: &str, times: u64) -> u64 {
    let bytes = seed
        .to_le_bytes()
        .into_iter()
        .chain(text.bytes())
        .chain(times.to_le_bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE_SALE: &str =
        r#"{"id":"DM-7","transaction_timestamp":"2023-01-01 23:43:23","amount":19.90,"customer":{"id":1}}"#;

    fn drawn(source: &mut FaultSource, employee: u32) -> Option<Fault> {
        let id = employee.to_string();
        source.next("/sales", Some(&id), &format!("/sales?employeeID={id}"))
    }

    #[test]
    fn the_order_of_arrival_changes_no_fault() {
        // given
        let faults = Faults::at_rate(0.4).unwrap();
        let (mut rounds, mut in_turn) = (FaultSource::new(5, faults.clone()), FaultSource::new(5, faults));
        // when: the same requests, interleaved and one employee after the other
        let mut interleaved = HashMap::new();
        for round in 0..6 {
            for employee in (0..50).rev() {
                interleaved.insert((employee, round), drawn(&mut rounds, employee));
            }
        }
        // then
        let mut hit = 0;
        for employee in 0..50 {
            for round in 0..6 {
                let fault = drawn(&mut in_turn, employee);
                assert_eq!(fault, interleaved[&(employee, round)]);
                hit += usize::from(fault.is_some());
            }
        }
        assert!((60..180).contains(&hit), "{hit} of 300 at a rate of 0.4");
        // and another seed hits others
        let mut other = FaultSource::new(6, Faults::at_rate(0.4).unwrap());
        assert!((0..50).any(|employee| drawn(&mut other, employee) != interleaved[&(employee, 0)]));
    }

    #[test]
    fn a_rate_of_one_still_lets_every_fourth_try_through() {
        let mut faults = Faults::default();
        faults.rates.error_body = 1.0;
        let mut source = FaultSource::new(1, faults);
        let answers: Vec<bool> = (0..8).map(|_| drawn(&mut source, 1).is_some()).collect();
        assert_eq!(answers, [true, true, true, false, true, true, true, false]);
    }

    #[test]
    fn a_total_rate_reaches_every_fault_a_retry_mends() {
        let mut source = FaultSource::new(1, Faults::at_rate(0.7).unwrap());
        let mut seen: Vec<_> = (0..500)
            .filter_map(|employee| drawn(&mut source, employee))
            .map(Fault::name)
            .collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(
            seen,
            [
                "cut_connection",
                "error_body",
                "not_json",
                "slow",
                "status",
                "too_many_requests",
                "truncated_body"
            ]
        );
    }

    #[test]
    fn a_target_hits_its_own_requests_as_often_as_it_says() {
        // given
        let truncated = Faults::default().with_target("/sales", "2", Fault::TruncatedBody, Some(2));
        let mut source = FaultSource::new(1, truncated.with_target("/sales", "3", Fault::Status(404), None));
        // when / then
        assert_eq!(drawn(&mut source, 1), None);
        let answers: Vec<_> = (0..3).map(|_| drawn(&mut source, 2)).collect();
        assert_eq!(answers, [Some(Fault::TruncatedBody), Some(Fault::TruncatedBody), None]);
        assert!((0..9).all(|_| drawn(&mut source, 3) == Some(Fault::Status(404))));
        assert_eq!(source.next("/employees", Some("3"), "/employees?branchID=3"), None);
    }

    #[test]
    fn a_spoiled_record_is_still_json_but_wrong_in_the_one_way() {
        let spoiled = |how: BadRecord| -> serde_json::Value { serde_json::from_str(&how.spoil(ONE_SALE)).unwrap() };
        assert!(spoiled(BadRecord::MissingId).get("id").is_none());
        assert!(spoiled(BadRecord::IdOfWrongType)["id"].is_array());
        assert_eq!(
            spoiled(BadRecord::UnreadableTimestamp)["transaction_timestamp"],
            "around noon"
        );
        assert_eq!(spoiled(BadRecord::UnreadableTimestamp)["id"], "DM-7");
        let digits = BadRecord::TooManyDigits.spoil(ONE_SALE);
        let number = digits
            .split(',')
            .find_map(|field| field.strip_prefix(r#""ledger_position":"#))
            .unwrap();
        assert_eq!(number.bytes().filter(u8::is_ascii_digit).count(), 40);
        assert_eq!(spoiled(BadRecord::TooManyDigits)["customer"]["id"], 1);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let refused = |faults: Faults| faults.validate().unwrap_err().to_string();
        let mut faults = Faults::default();
        faults.rates.slow = f64::NAN;
        assert_eq!(
            refused(faults.clone()),
            "fault rate slow is NaN: expected a number from 0 to 1"
        );
        faults.rates.slow = 0.6;
        faults.rates.not_json = 0.6;
        assert_eq!(
            refused(faults),
            "fault rate total is 1.2: expected a number from 0 to 1"
        );
        let status = Faults::default().with_target("/sales", "1", Fault::Status(200), None);
        assert_eq!(refused(status), "fault status is 200: expected 400 to 599");
        let path = Faults::default().with_target("/sale", "1", Fault::Slow, None);
        assert_eq!(
            refused(path),
            "fault target path is \"/sale\": expected /branches, /employees or /sales"
        );
        assert!(Faults::at_rate(-0.1).is_err());
        assert_eq!(Faults::at_rate(1.0).unwrap().validate(), Ok(()));
    }
}
