//! The environment variables (the contract's section 3), read and checked before anything is built.

use std::num::NonZeroU32;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use url::Url;

use crate::deletions::{DEFAULT_MAX_PERCENT, DeletionRules};
use crate::quota::QuotaSettings;
use crate::secret::SecretArn;
use crate::vendor::client::{ApiKey, VendorSettings};

/// The vendor's API, where `API_BASE_URL` names no other.
pub const DEFAULT_API_BASE_URL: &str = "https://www.dundermifflinpaper.com";

/// The variable that names the secret with the vendor's key.
pub const API_KEY_SECRET_ARN: &str = "API_KEY_SECRET_ARN";

/// How many instances there may be where `COLLECTOR_INSTANCES` does not say: what the templates reserve.
const DEFAULT_INSTANCES: u32 = 9;

/// The largest answer that is taken where the function's memory is not known, in bytes.
const DEFAULT_MAX_ANSWER_BYTES: usize = 512 * 1024 * 1024;

/// What every collector is told.
#[derive(Clone, Debug)]
pub struct CollectorSettings {
    /// `LOGGING_LEVEL`
    pub level: LevelFilter,
    /// `APP_ENV`, the environment's name.
    pub environment: String,
    /// `DB`, this collector's table.
    pub table: String,
    /// `API_…`; its key is not known yet where [`Self::api_key_secret`] is set.
    pub vendor: VendorSettings,
    /// The vendor's quota.
    pub quota: QuotaSettings,
    /// `STATE_DB`, the table of what all instances share; without one a process keeps the quota by itself.
    pub state_table: Option<String>,
    /// `DELETIONS` and `DELETIONS_MAX_PERCENT`: which of the vendor's deletions are looked for.
    pub deletions: DeletionRules,
    /// `API_KEY_SECRET_ARN`, the secret that holds the vendor's key.
    pub api_key_secret: Option<SecretArn>,
    /// `REPORT_TOPIC_ARN`, the topic that is told what a run came to; without one only the log is.
    pub report_topic: Option<String>,
}

/// Missing or unusable variables, all of them at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the environment is not usable: {}", .0.join("; "))]
pub struct ConfigError(Vec<String>);

impl ConfigError {
    /// Each variable that is missing or unusable, and what it should hold.
    pub fn problems(&self) -> &[String] {
        &self.0
    }
}

/// Reads variables, and gathers what is wrong with them.
pub struct Variables<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    problems: Vec<String>,
}

impl<'a> Variables<'a> {
    /// Reads variables through `get`.
    pub fn new(get: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self {
            get,
            problems: Vec::new(),
        }
    }

    /// The variables of this process.
    pub fn of_process() -> Variables<'static> {
        Variables::new(&|name| std::env::var(name).ok())
    }

    /// The value of a variable that can be absent. An empty one is absent: that is how a template leaves one out.
    pub fn optional(&self, name: &str) -> Option<String> {
        (self.get)(name).filter(|value| !value.is_empty())
    }

    /// A text that has to be there.
    pub fn required(&mut self, name: &str, expected: &str) -> Option<String> {
        let value = self.optional(name);
        if value.is_none() {
            self.problems.push(format!("{name} is missing, expected {expected}"));
        }
        value
    }

    /// The URL of a queue.
    pub fn queue_url(&mut self, name: &str) -> Option<String> {
        let expected = "a queue's URL (https://sqs.…)";
        let value = self.required(name, expected)?;
        let usable = http_url(&value).is_some();
        self.usable(name, expected, usable.then_some(value))
    }

    /// A whole number of seconds, hours, … in a range, with a default.
    pub fn whole(&mut self, name: &str, expected: &str, range: std::ops::RangeInclusive<u32>, default: u32) -> u32 {
        match self.optional(name) {
            None => default,
            Some(value) => {
                let number = value.parse().ok().filter(|number| range.contains(number));
                self.usable(name, expected, number).unwrap_or(default)
            }
        }
    }

    /// Notes that a variable's value is unusable, if it is. The value itself is not shown: it can be a secret.
    pub fn usable<T>(&mut self, name: &str, expected: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.problems.push(format!("{name} is not usable, expected {expected}"));
        }
        value
    }

    /// `LOGGING_LEVEL`
    pub fn level(&mut self) -> Option<LevelFilter> {
        match self.optional("LOGGING_LEVEL") {
            None => Some(LevelFilter::INFO),
            Some(level) => self.usable(
                "LOGGING_LEVEL",
                "DEBUG, INFO, WARNING, ERROR or TRACE",
                parse_level(&level),
            ),
        }
    }

    /// `APP_ENV`
    pub fn environment(&mut self) -> Option<String> {
        self.required("APP_ENV", "the environment's name, such as dev")
    }

    /// `POLL_WINDOW_SECONDS`
    pub fn poll_window(&mut self) -> Duration {
        let expected = "a whole number of seconds from 1 to 900";
        Duration::from_secs(self.whole("POLL_WINDOW_SECONDS", expected, 1..=900, 50).into())
    }

    /// `SALES_LOOKBACK_HOURS`
    pub fn lookback_hours(&mut self) -> u32 {
        self.whole(
            "SALES_LOOKBACK_HOURS",
            "a whole number of hours from 0",
            0..=u32::MAX,
            24,
        )
    }

    /// `DELETIONS` and `DELETIONS_MAX_PERCENT`
    fn deletions(&mut self) -> Option<DeletionRules> {
        let rules = match self.optional("DELETIONS") {
            None => Some(DeletionRules::default()),
            Some(kinds) => self.usable(
                "DELETIONS",
                "branches, employees, sales or several of them with commas between, or none",
                DeletionRules::parse(&kinds),
            ),
        };
        let max_percent = self.whole(
            "DELETIONS_MAX_PERCENT",
            "a whole number of percent from 0 to 100",
            0..=100,
            DEFAULT_MAX_PERCENT.into(),
        );
        Some(rules?.with_max_percent(u8::try_from(max_percent).unwrap_or(DEFAULT_MAX_PERCENT)))
    }

    /// What every collector is told; `None` if any of it is missing or unusable.
    pub fn collector(&mut self) -> Option<CollectorSettings> {
        let level = self.level();
        let environment = self.environment();
        let table = self.required("DB", "the name of this collector's table");
        let base_url = match self.optional("API_BASE_URL") {
            None => http_url(DEFAULT_API_BASE_URL),
            Some(url) => self.usable(
                "API_BASE_URL",
                "the vendor's http or https URL, without a query",
                base_url(&url),
            ),
        };
        let api_key = match self.optional("API_KEY") {
            None => Some(None),
            Some(key) => self
                .usable("API_KEY", "text that can stand in an HTTP header", ApiKey::new(key))
                .map(Some),
        };
        let api_key_secret = match self.optional(API_KEY_SECRET_ARN) {
            None => Some(None),
            Some(arn) => self
                .usable(
                    API_KEY_SECRET_ARN,
                    "a secret's ARN (arn:aws:secretsmanager:…:secret:…)",
                    SecretArn::parse(&arn),
                )
                .map(Some),
        };
        if self.optional("API_KEY").is_some() && self.optional(API_KEY_SECRET_ARN).is_some() {
            self.problems.push(format!(
                "API_KEY and {API_KEY_SECRET_ARN} are both set, expected one of them"
            ));
        }
        let expected = "the vendor's quota, a whole number of requests from 1";
        let requests_per_minute: Option<NonZeroU32> = match self.required("API_REQUESTS_PER_MINUTE", expected) {
            None => None,
            Some(quota) => self.usable("API_REQUESTS_PER_MINUTE", expected, quota.parse().ok()),
        };
        let share_percent = self.whole(
            "API_QUOTA_SHARE",
            "a whole number of percent from 1 to 100",
            1..=100,
            100,
        );
        let requests_per_second = self.whole(
            "API_REQUESTS_PER_SECOND",
            "a whole number of requests from 1, or nothing",
            1..=u32::MAX,
            0,
        );
        let instances = self.whole(
            "COLLECTOR_INSTANCES",
            "how many instances of all collectors may run at once, from 1",
            1..=u32::MAX,
            DEFAULT_INSTANCES,
        );
        let time_out = self.whole(
            "API_TIMEOUT_SECONDS",
            "a whole number of seconds from 1 to 900",
            1..=900,
            10,
        );
        let report_topic = match self.optional("REPORT_TOPIC_ARN") {
            None => Some(None),
            Some(arn) => {
                let is_topic = arn.starts_with("arn:") && arn.split(':').nth(2) == Some("sns");
                self.usable(
                    "REPORT_TOPIC_ARN",
                    "a topic's ARN (arn:aws:sns:…)",
                    is_topic.then_some(Some(arn)),
                )
            }
        };
        let deletions = self.deletions();
        // Lambda sets it; its runtime client would end in a panic over one that is no number.
        let memory_mib: Option<Option<usize>> = match self.optional("AWS_LAMBDA_FUNCTION_MEMORY_SIZE") {
            None => Some(None),
            Some(memory) => self
                .usable(
                    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
                    "the function's memory, a whole number of MB",
                    memory.parse::<i32>().ok().and_then(|memory| memory.try_into().ok()),
                )
                .map(Some),
        };
        Some(CollectorSettings {
            level: level?,
            environment: environment?,
            table: table?,
            vendor: VendorSettings {
                base_url: base_url?,
                api_key: api_key?,
                time_out: Duration::from_secs(time_out.into()),
                // What is left is for the process itself and for the slices in work.
                max_answer_bytes: memory_mib?.map_or(DEFAULT_MAX_ANSWER_BYTES, |memory| memory * 1024 * 1024 / 8 * 3),
            },
            quota: QuotaSettings {
                requests_per_minute: requests_per_minute?,
                share_percent,
                // Zero stands for an absent one alone.
                requests_per_second: NonZeroU32::new(requests_per_second),
                instances: NonZeroU32::new(instances).unwrap_or(NonZeroU32::MIN),
            },
            state_table: self.optional("STATE_DB"),
            deletions: deletions?,
            api_key_secret: api_key_secret?,
            report_topic: report_topic?,
        })
    }

    /// The settings, if nothing was missing or unusable.
    ///
    /// # Errors
    /// One error that names everything that was.
    pub fn finish<T>(self, settings: Option<T>) -> Result<T, ConfigError> {
        match settings {
            Some(settings) if self.problems.is_empty() => Ok(settings),
            _ => Err(ConfigError(self.problems)),
        }
    }
}

/// A level by one of the names that the contract allows, in any case of letters.
pub fn parse_level(name: &str) -> Option<LevelFilter> {
    Some(match name.to_ascii_uppercase().as_str() {
        "TRACE" => LevelFilter::TRACE,
        "DEBUG" => LevelFilter::DEBUG,
        "INFO" => LevelFilter::INFO,
        "WARNING" | "WARN" => LevelFilter::WARN,
        "ERROR" => LevelFilter::ERROR,
        _ => return None,
    })
}

fn http_url(text: &str) -> Option<Url> {
    Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn base_url(text: &str) -> Option<Url> {
    http_url(text).filter(|url| url.query().is_none() && url.fragment().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::Entity;

    const MINIMUM: [(&str, &str); 3] = [
        ("APP_ENV", "dev"),
        ("DB", "branch-dev"),
        ("API_REQUESTS_PER_MINUTE", "50"),
    ];

    fn collector(variables: &[(&str, &str)]) -> Result<CollectorSettings, String> {
        let get = |name: &str| {
            let found = variables.iter().rev().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let mut variables = Variables::new(&get);
        let settings = variables.collector();
        variables.finish(settings).map_err(|error| error.to_string())
    }

    fn with(name: &'static str, value: &'static str) -> Result<CollectorSettings, String> {
        collector(&[MINIMUM.as_slice(), &[(name, value)]].concat())
    }

    #[test]
    fn what_is_absent_or_empty_has_its_default() {
        for settings in [
            collector(&MINIMUM).unwrap(),
            with("API_KEY", "").unwrap(),
            with("API_KEY_SECRET_ARN", "").unwrap(),
        ] {
            assert_eq!(settings.level, LevelFilter::INFO);
            assert_eq!(settings.vendor.base_url.as_str(), "https://www.dundermifflinpaper.com/");
            assert_eq!(settings.vendor.time_out, Duration::from_secs(10));
            assert!(settings.vendor.api_key.is_none());
            assert!(settings.api_key_secret.is_none());
            assert_eq!(settings.state_table, None);
            assert_eq!(settings.deletions, DeletionRules::parse("branches,employees").unwrap());
            let quota = settings.quota;
            assert_eq!((quota.share_percent, quota.requests_per_second), (100, None));
            assert_eq!(quota.instances.get(), 9);
        }
    }

    #[test]
    fn one_error_names_everything_that_is_missing_or_unusable() {
        let error = collector(&[("LOGGING_LEVEL", "LOUD"), ("DB", ""), ("API_TIMEOUT_SECONDS", "1.5")]).unwrap_err();
        assert_eq!(
            error,
            "the environment is not usable: LOGGING_LEVEL is not usable, expected DEBUG, INFO, WARNING, ERROR or TRACE; \
             APP_ENV is missing, expected the environment's name, such as dev; \
             DB is missing, expected the name of this collector's table; \
             API_REQUESTS_PER_MINUTE is missing, expected the vendor's quota, a whole number of requests from 1; \
             API_TIMEOUT_SECONDS is not usable, expected a whole number of seconds from 1 to 900"
        );
    }

    #[test]
    fn deletions_are_looked_for_as_told() {
        let sales = with("DELETIONS", "sales").unwrap().deletions;
        assert_eq!(sales, DeletionRules::of(&[Entity::Sale]));
        let none = with("DELETIONS_MAX_PERCENT", "0").unwrap().deletions;
        assert_eq!(none, DeletionRules::default().with_max_percent(0));
        assert_eq!(
            with("DELETIONS", "all").unwrap_err(),
            "the environment is not usable: DELETIONS is not usable, expected branches, employees, sales or several of \
             them with commas between, or none"
        );
    }

    #[test]
    fn a_value_that_may_be_a_secret_is_not_shown() {
        for (name, value) in [
            ("API_KEY", "s3cret\n"),
            ("API_BASE_URL", "ftp://user:s3cret@vendor.test"),
        ] {
            let error = with(name, value).unwrap_err();
            assert!(error.contains(name) && !error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn unusable_values_are_refused() {
        for (name, value) in [
            ("API_REQUESTS_PER_MINUTE", "0"),
            ("API_REQUESTS_PER_MINUTE", "-50"),
            ("API_REQUESTS_PER_MINUTE", "fifty"),
            ("API_QUOTA_SHARE", "0"),
            ("API_QUOTA_SHARE", "101"),
            ("API_REQUESTS_PER_SECOND", "0"),
            ("COLLECTOR_INSTANCES", "0"),
            ("API_TIMEOUT_SECONDS", "0"),
            ("API_BASE_URL", "vendor.test"),
            ("API_BASE_URL", "https://vendor.test/?key=1"),
            ("API_KEY_SECRET_ARN", "vendor-key"),
            ("REPORT_TOPIC_ARN", "reports"),
            ("DELETIONS", "salespersons"),
            ("DELETIONS_MAX_PERCENT", "101"),
            ("LOGGING_LEVEL", "2"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "-128"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128 MB"),
        ] {
            assert!(with(name, value).unwrap_err().contains(name), "{name}={value}");
        }
    }

    #[test]
    fn the_key_comes_from_one_place() {
        let arn = (
            "API_KEY_SECRET_ARN",
            "arn:aws:secretsmanager:us-east-1:123456789012:secret:k",
        );
        let both = collector(&[MINIMUM.as_slice(), &[("API_KEY", "s3cret"), arn]].concat()).unwrap_err();
        assert_eq!(
            both,
            "the environment is not usable: API_KEY and API_KEY_SECRET_ARN are both set, expected one of them"
        );
        let settings = with(arn.0, arn.1).unwrap();
        assert!(settings.vendor.api_key.is_none() && settings.api_key_secret.is_some());
        assert!(with("API_KEY", "s3cret").unwrap().api_key_secret.is_none());
    }

    #[test]
    fn levels_go_by_the_names_of_the_contract() {
        for (name, level) in [
            ("DEBUG", LevelFilter::DEBUG),
            ("WARNING", LevelFilter::WARN),
            ("WARN", LevelFilter::WARN),
            ("error", LevelFilter::ERROR),
            ("TRACE", LevelFilter::TRACE),
        ] {
            assert_eq!(with("LOGGING_LEVEL", name).unwrap().level, level);
        }
    }

    #[test]
    fn the_largest_answer_follows_the_functions_memory() {
        let settings = with("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128").unwrap();
        assert_eq!(settings.vendor.max_answer_bytes, 48 * 1024 * 1024);
    }
}
