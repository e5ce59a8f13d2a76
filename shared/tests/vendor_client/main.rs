//! The vendor's client over real HTTP, against a server that answers byte by byte as a script says.

mod answers;
mod failures;
mod memory;
mod scripted;
mod secrets;
mod throttling;

use std::num::NonZeroU32;
use std::time::Duration;

use scripted::ScriptedVendor;
use shared::clock::Clock;
use shared::id::Id;
use shared::invocation::{Invocation, SETTLING_TIME};
use shared::jitter::Jitter;
use shared::quota::{Quota, QuotaSettings};
use shared::vendor::client::{ApiKey, VendorClient, VendorSettings};
use shared::vendor::{Answer, FetchError, Fetched, Query, Vendor};
use time::UtcDateTime;
use time::macros::utc_datetime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const NOW: UtcDateTime = utc_datetime!(2026-11-21 01:00);

/// Long enough for a busy machine, and short enough for a test that waits in vain.
const PATIENT: Duration = Duration::from_secs(20);

/// A client of a scripted vendor, in an invocation of its own.
struct Bench {
    client: VendorClient,
    invocation: Invocation,
    clock: Clock,
    quota_until: Instant,
}

impl Bench {
    fn new(vendor: &ScriptedVendor) -> Self {
        Self::with(vendor, |_| {})
    }

    fn with(vendor: &ScriptedVendor, change: impl FnOnce(&mut VendorSettings)) -> Self {
        // As good as no quota.
        Self::within(vendor, NonZeroU32::MAX, change)
    }

    /// With a quota of so many requests a minute.
    fn with_quota(vendor: &ScriptedVendor, requests_per_minute: u32) -> Self {
        Self::within(vendor, NonZeroU32::new(requests_per_minute).unwrap(), |_| {})
    }

    fn within(
        vendor: &ScriptedVendor,
        requests_per_minute: NonZeroU32,
        change: impl FnOnce(&mut VendorSettings),
    ) -> Self {
        shared::lambda::install_tls();
        let mut settings = VendorSettings {
            base_url: vendor.url(""),
            api_key: None,
            time_out: PATIENT,
            max_answer_bytes: 64 * 1024 * 1024,
        };
        change(&mut settings);
        let clock = Clock::starting_at(NOW);
        let deadline = Instant::now() + Duration::from_secs(900);
        let quota = Quota::own(QuotaSettings::per_minute(requests_per_minute));
        Self {
            client: VendorClient::new(&settings, quota, clock.clone(), Jitter::seeded(7)).unwrap(),
            invocation: Invocation::new(None, NOW, deadline, CancellationToken::new()),
            clock,
            quota_until: deadline,
        }
    }

    /// A client with an API key.
    fn with_key(vendor: &ScriptedVendor, key: &str) -> Self {
        Self::with(vendor, |settings| settings.api_key = ApiKey::new(key.to_owned()))
    }

    /// Its invocation has so much time left for work.
    fn with_time_left(mut self, left: Duration) -> Self {
        let deadline = Instant::now() + left + SETTLING_TIME;
        self.invocation = Invocation::new(None, NOW, deadline, CancellationToken::new());
        self
    }

    async fn fetch(&self) -> Result<Answer, FetchError> {
        self.ask("1235").await
    }

    async fn ask(&self, employee_id: &str) -> Result<Answer, FetchError> {
        let query = Query::Sales(Id::new(employee_id.to_owned()).unwrap());
        let fetched = self
            .client
            .fetch(&query.into(), &self.invocation, self.quota_until)
            .await?;
        match fetched {
            Fetched::Answer(answer) => Ok(answer),
            Fetched::NotModified { .. } => panic!("no condition was sent along"),
        }
    }

    /// The pages of the answer, as text.
    async fn pages(&self) -> Result<Vec<String>, FetchError> {
        let answer = self.fetch().await?;
        let text = |page| String::from_utf8(Vec::from(page)).unwrap();
        Ok(answer.pages.into_iter().map(text).collect())
    }

    fn api_calls(&self) -> u64 {
        self.invocation.tally.counts().api_calls
    }
}

/// The reason of a permanent error.
fn permanent<T: std::fmt::Debug>(result: Result<T, FetchError>) -> String {
    match result {
        Err(FetchError::Permanent(reason)) => reason,
        other => panic!("expected a permanent error, got {other:?}"),
    }
}

/// The reason of a transient error, and how often it was tried.
fn transient<T: std::fmt::Debug>(result: Result<T, FetchError>) -> (String, u32) {
    match result {
        Err(FetchError::Transient { reason, tries, .. }) => (reason, tries),
        other => panic!("expected a transient error, got {other:?}"),
    }
}
