//! The vendor over HTTP. The order of the layers is: tries, quota, time-out, call; so that every try pays.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Response, StatusCode};
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{debug, warn};
use url::Url;

use super::quota::{NoPlace, Patience, Quota, Turn};
use super::{Answer, FetchError, Query, Vendor, link, retry_after};
use crate::clock::Clock;
use crate::error_chain;
use crate::invocation::Invocation;
use crate::jitter::Jitter;

/// How often a request that fails in a way that may pass is tried in all, before its message goes back to its queue.
pub const MAX_TRIES: u32 = 4;

/// The wait before the second try; it doubles from try to try, and half of it is random.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);

/// What is waited at least after a 429, whatever `Retry-After` says; it doubles with each 429 in a row.
const THROTTLE_FLOOR: Duration = Duration::from_secs(1);

/// Where the doubling of [`THROTTLE_FLOOR`] ends.
const MAX_THROTTLE_FLOOR: Duration = Duration::from_secs(64);

/// How many pages an answer may have (the contract's section 1).
const MAX_PAGES: usize = 1000;

/// How many redirects one request may take.
const MAX_REDIRECTS: u32 = 10;

/// An answer above this size has to be the only one of its kind in memory. The others hold as much each while they
/// wait for their turn, and there can be fifteen of them.
const LARGE_BODY_BYTES: usize = 256 * 1024;

/// How much of a refusal is read. It is more than an error tells, so that an API key in it is seen whole.
const MAX_REFUSAL_BYTES: usize = 4096;

/// How long is waited for the body of a refusal.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// How much of what the vendor said an error tells.
const MAX_EXCERPT_CHARACTERS: usize = 300;

/// What the client needs to know of the vendor.
#[derive(Clone, Debug)]
pub struct VendorSettings {
    /// Where its API is.
    pub base_url: Url,
    /// Sent as `Authorization: Bearer …`.
    pub api_key: Option<ApiKey>,
    /// Its quota.
    pub requests_per_minute: NonZeroU32,
    /// One request's limit, from the first byte sent to the last received.
    pub time_out: Duration,
    /// How many bytes one answer may have, all pages together: what the function's memory can hold.
    pub max_answer_bytes: usize,
}

/// The vendor's API key. It is in no log, error or table: it has no `Display`, and its `Debug` hides it.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// Takes a key that can stand in a header. Blanks around it are left out, as whoever reads the header does.
    pub fn new(key: String) -> Option<Self> {
        let key = key.trim_matches([' ', '\t']);
        (!key.is_empty() && HeaderValue::from_str(key).is_ok()).then(|| Self(key.to_owned()))
    }

    fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The key as a vendor can repeat it: plain, or as one of JSON's ways to write it.
    fn forms(&self) -> [String; 3] {
        let quoted = serde_json::Value::from(self.0.as_str()).to_string();
        let escaped = quoted[1..quoted.len() - 1].to_owned();
        [escaped.replace('/', "\\/"), escaped, self.0.clone()]
    }

    /// `text` without the key: a vendor can say in its error what it was sent.
    pub(crate) fn redact(&self, text: &str) -> String {
        let redact = |text: String, form: String| text.replace(&form, "[API_KEY]");
        self.forms().into_iter().fold(text.to_owned(), redact)
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// The vendor over HTTP, with one connection pool and one quota for all who share the client.
pub struct VendorClient {
    http: reqwest::Client,
    settings: VendorSettings,
    quota: Quota,
    clock: Clock,
    jitter: Jitter,
    large_bodies: Arc<Semaphore>,
}

/// The client cannot be built: the platform's certificates or TLS are not usable.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be built")]
pub struct ClientError(#[source] reqwest::Error);

/// What one try came to.
enum Try {
    Page { body: Bytes, next: Option<Url> },
    Redirect(Url),
    Throttled { retry_after: Option<Duration> },
    MayPass(String),
    Final(String),
}

/// Tries of one request that failed in a way that may pass.
struct FailedTries {
    /// What the last one ended in.
    reason: String,
    tries: u32,
}

impl From<FailedTries> for FetchError {
    fn from(FailedTries { reason, tries }: FailedTries) -> Self {
        Self::Transient { reason, tries }
    }
}

/// The memory that an answer takes.
#[derive(Default)]
struct Memory {
    bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl VendorClient {
    /// A client of the vendor.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(settings: VendorSettings, clock: Clock, jitter: Jitter) -> Result<Self, ClientError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        headers.extend(
            settings
                .api_key
                .as_ref()
                .and_then(ApiKey::header)
                .map(|value| (header::AUTHORIZATION, value)),
        );
        let http = reqwest::Client::builder()
            .user_agent(concat!("cascade/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            // Redirects are followed here, where each pays for its request and stays on its origin.
            .redirect(reqwest::redirect::Policy::none())
            // A second try that reqwest makes on its own would not pay.
            .retry(reqwest::retry::never())
            .connect_timeout(settings.time_out)
            .build()
            .map_err(ClientError)?;
        Ok(Self {
            http,
            quota: Quota::per_minute(settings.requests_per_minute),
            settings,
            clock,
            jitter,
            large_bodies: Arc::new(Semaphore::new(1)),
        })
    }

    fn url(&self, query: &Query) -> Url {
        let (path, name, value) = query.parts();
        let mut url = self.settings.base_url.clone();
        // An http URL can always have path segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(path);
        }
        url.query_pairs_mut().append_pair(name, value);
        url
    }

    /// One page, with as many tries as make sense; `pages` of the answer are there already.
    async fn page(
        &self,
        mut url: Url,
        turn: &Turn,
        pages: usize,
        invocation: &Invocation,
        quota_until: Instant,
        memory: &mut Memory,
    ) -> Result<(Bytes, Option<Url>, time::UtcDateTime), FetchError> {
        let (mut throttles, mut redirects) = (0, 0);
        let mut failed: Option<FailedTries> = None;
        let held_before = memory.bytes;
        // What a try is that cannot be made any more: not made, if it would have been the first of all; a failure, if
        // others have failed before it, or if the answer is too long for the time there is.
        let out_of_time = |failed: Option<FailedTries>, otherwise: FetchError| match failed {
            _ if invocation.stop.is_cancelled() => FetchError::OutOfTime,
            Some(failed) => failed.into(),
            None if pages > 0 => FetchError::Transient {
                reason: format!("the invocation's time was over after {pages} pages of the answer"),
                tries: 1,
            },
            None => otherwise,
        };
        loop {
            // What was begun is carried through, as long as the vendor does not close the quota.
            let begun = pages > 0 || failed.is_some() || redirects > 0;
            let patience = Patience {
                closed_until: quota_until.min(invocation.work_until),
                taken_until: if begun {
                    invocation.work_until
                } else {
                    quota_until.min(invocation.work_until)
                },
            };
            match self.quota.acquire(turn, patience, &invocation.stop).await {
                Ok(waited) => invocation.tally.count(|counts| {
                    counts.quota_wait_ms += u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
                }),
                Err(NoPlace::Closed(wait)) => return Err(FetchError::Quota { wait }),
                Err(NoPlace::Taken(wait)) => return Err(out_of_time(failed, FetchError::Quota { wait })),
                Err(NoPlace::Stopped) => return Err(FetchError::OutOfTime),
            }
            if !invocation.has_time_for(self.settings.time_out) {
                return Err(out_of_time(failed, FetchError::OutOfTime));
            }
            invocation.tally.count(|counts| counts.api_calls += 1);
            let asked_at = self.clock.now();
            memory.bytes = held_before;
            match self.try_once(&url, memory).await {
                Try::Page { body, next } => return Ok((body, next, asked_at)),
                Try::Redirect(target) if redirects < MAX_REDIRECTS => {
                    redirects += 1;
                    url = target;
                }
                Try::Redirect(_) => {
                    return Err(FetchError::Permanent(format!("more than {MAX_REDIRECTS} redirects")));
                }
                Try::Throttled { retry_after } => {
                    invocation.tally.count(|counts| counts.api_throttles += 1);
                    let floor = (THROTTLE_FLOOR * 2u32.saturating_pow(throttles)).min(MAX_THROTTLE_FLOOR);
                    throttles += 1;
                    let wait = retry_after.unwrap_or_default().max(floor) + self.jitter.up_to(THROTTLE_FLOOR / 2);
                    debug!(wait_seconds = wait.as_secs_f64(), "the vendor answered 429");
                    self.quota.close_for(wait);
                }
                Try::MayPass(reason) => {
                    let tries = failed.map_or(1, |failed| failed.tries + 1);
                    if invocation.stop.is_cancelled() {
                        // What cannot be tried again now has not failed for good: it is handed back.
                        return Err(FetchError::OutOfTime);
                    }
                    let failure = FailedTries { reason, tries };
                    let backoff = self.jitter.around(FIRST_BACKOFF * 2u32.pow(tries - 1));
                    if tries >= MAX_TRIES || !invocation.has_time_for(backoff + self.settings.time_out) {
                        return Err(failure.into());
                    }
                    warn!(
                        reason = failure.reason,
                        attempt = tries,
                        backoff_seconds = backoff.as_secs_f64(),
                        "a request failed and is tried again"
                    );
                    failed = Some(failure);
                    tokio::select! {
                        () = invocation.stop.cancelled() => return Err(FetchError::OutOfTime),
                        () = tokio::time::sleep(backoff) => {}
                    }
                }
                Try::Final(reason) => return Err(FetchError::Permanent(reason)),
            }
        }
    }

    async fn try_once(&self, url: &Url, memory: &mut Memory) -> Try {
        let limit = self.settings.time_out;
        let started = Instant::now();
        let response = match timeout(limit, self.http.get(url.clone()).send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Try::MayPass(describe(error)),
            Err(_) => return Try::MayPass(format!("no answer within {} s", limit.as_secs())),
        };
        let status = response.status();
        match status {
            StatusCode::TOO_MANY_REQUESTS => Try::Throttled {
                retry_after: response
                    .headers()
                    .get(header::RETRY_AFTER)
                    .and_then(|value| value.to_str().ok())
                    .and_then(|value| retry_after::parse(value, self.clock.now())),
            },
            _ if status.is_success() => {
                let next = match next_page(&response, url) {
                    Ok(next) => next,
                    Err(reason) => return Try::Final(reason),
                };
                match self.body(response, started, memory).await {
                    Ok(body) => match check(&body, |said| self.excerpt(said)) {
                        Ok(()) => Try::Page { body, next },
                        Err(reason) => Try::MayPass(reason),
                    },
                    Err(failed) => failed,
                }
            }
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => match redirect_target(&response, url) {
                Ok(target) => Try::Redirect(target),
                Err(reason) => Try::Final(reason),
            },
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => {
                Try::MayPass(format!("the vendor answered {status}"))
            }
            _ if status.is_server_error() => Try::MayPass(format!("the vendor answered {status}")),
            _ => Try::Final(self.refusal(status, response).await),
        }
    }

    /// The body, as far as its time and the function's memory allow.
    async fn body(&self, mut response: Response, started: Instant, memory: &mut Memory) -> Result<Bytes, Try> {
        let mut time_left = self.settings.time_out.saturating_sub(started.elapsed());
        let most = self.settings.max_answer_bytes;
        let too_large = || {
            Try::Final(format!(
                "the answer is larger than the {most} bytes that fit into memory"
            ))
        };
        let announced = usize::try_from(response.content_length().unwrap_or(0)).unwrap_or(usize::MAX);
        if announced > most.saturating_sub(memory.bytes) {
            return Err(too_large());
        }
        let mut body = Vec::with_capacity(announced.min(LARGE_BODY_BYTES));
        loop {
            let asked = Instant::now();
            let chunk = match timeout(time_left, response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(body.into()),
                Ok(Err(error)) => return Err(Try::MayPass(describe(error))),
                Err(_) => {
                    let limit = self.settings.time_out.as_secs();
                    return Err(Try::MayPass(format!("the answer was not complete within {limit} s")));
                }
            };
            time_left = time_left.saturating_sub(asked.elapsed());
            memory.bytes += chunk.len();
            if memory.bytes > most {
                return Err(too_large());
            }
            if memory.bytes > LARGE_BODY_BYTES && memory.permit.is_none() {
                // Waiting for memory is not the vendor's fault, and takes none of its time. The semaphore is never closed.
                memory.permit = self.large_bodies.clone().acquire_owned().await.ok();
                body.reserve_exact(announced.saturating_sub(body.len()));
            }
            body.extend_from_slice(&chunk);
        }
    }

    async fn refusal(&self, status: StatusCode, mut response: Response) -> String {
        let ends = Instant::now() + REFUSAL_TIME;
        let mut said = Vec::new();
        while said.len() <= MAX_REFUSAL_BYTES
            && let Ok(Ok(Some(chunk))) = timeout_at(ends, response.chunk()).await
        {
            said.extend_from_slice(&chunk);
        }
        let said = self.excerpt(&said);
        let separator = if said.is_empty() { "" } else { ": " };
        format!("the vendor answered {status}{separator}{said}")
    }

    /// What the vendor said, as far as an error tells it: without the API key, and without what may be the beginning of
    /// one where the text was cut.
    fn excerpt(&self, said: &[u8]) -> String {
        let text = String::from_utf8_lossy(&said[..said.len().min(MAX_REFUSAL_BYTES)]);
        let (text, key_length) = match &self.settings.api_key {
            Some(key) => (key.redact(&text), key.forms()[0].len()),
            None => (text.into_owned(), 0),
        };
        let text = text.trim();
        let mut sound = text.chars().count();
        if said.len() > MAX_REFUSAL_BYTES {
            sound = sound.saturating_sub(key_length);
        }
        text.chars().take(sound.min(MAX_EXCERPT_CHARACTERS)).collect()
    }
}

#[async_trait]
impl Vendor for VendorClient {
    async fn fetch(&self, query: &Query, invocation: &Invocation, quota_until: Instant) -> Result<Answer, FetchError> {
        let turn = self.quota.turn();
        let mut memory = Memory::default();
        let mut pages = Vec::new();
        let mut fetched_at = None;
        let mut next = Some(self.url(query));
        while let Some(url) = next {
            if pages.len() == MAX_PAGES {
                return Err(FetchError::Permanent(format!(
                    "the answer has more than {MAX_PAGES} pages"
                )));
            }
            let (body, following, asked_at) = self
                .page(url, &turn, pages.len(), invocation, quota_until, &mut memory)
                .await?;
            fetched_at.get_or_insert(asked_at);
            pages.push(body);
            next = following;
        }
        Ok(Answer {
            pages,
            fetched_at: fetched_at.unwrap_or_else(|| self.clock.now()),
            _memory: memory.permit,
        })
    }

    fn pace(&self) -> Duration {
        self.quota.pace()
    }

    fn time_out(&self) -> Duration {
        self.settings.time_out
    }
}

/// Whether a body with status 200 is JSON, and no error; `excerpt` makes of an error what can be told of it. What the
/// body says otherwise is checked later.
fn check(body: &[u8], excerpt: impl FnOnce(&[u8]) -> String) -> Result<(), String> {
    // A raw value is checked for its grammar and its encoding, and costs no memory.
    let whole: &RawValue = serde_json::from_slice(body).map_err(|error| {
        let how = if error.is_eof() {
            "ends too early"
        } else {
            "is not JSON"
        };
        format!("the answer {how} ({} bytes)", body.len())
    })?;
    // A map takes no array for an object, and of a name that stands twice the last one.
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(whole.get()).unwrap_or_default();
    match members.get("error") {
        Some(error) if error.get() != "null" => Err(format!(
            "the vendor answered with an error: {}",
            excerpt(error.get().as_bytes())
        )),
        _ => Ok(()),
    }
}

fn next_page(response: &Response, url: &Url) -> Result<Option<Url>, String> {
    let headers: Vec<_> = response
        .headers()
        .get_all(header::LINK)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    let next = link::next_page(headers.iter().map(AsRef::as_ref), url)
        .map_err(|error| format!("the vendor answered with {error}"))?;
    next.map(|next| same_origin(url, next, "the next page")).transpose()
}

fn redirect_target(response: &Response, url: &Url) -> Result<Url, String> {
    let target = response
        .headers()
        .get(header::LOCATION)
        .and_then(|location| location.to_str().ok())
        .and_then(|location| url.join(location).ok())
        .ok_or_else(|| format!("the vendor answered {} without a usable Location", response.status()))?;
    same_origin(url, target, "a redirect")
}

pub(crate) fn same_origin(asked: &Url, target: Url, what: &str) -> Result<Url, String> {
    // A blob has the origin of the URL inside it, and cannot be asked for.
    if target.origin() == asked.origin() && target.scheme() == asked.scheme() {
        return Ok(target);
    }
    let origin = |url: &Url| url.origin().ascii_serialization();
    Err(format!(
        "{what} leads to another origin, {} instead of {}",
        origin(&target),
        origin(asked)
    ))
}

/// A transport error, without the URL: its path is known, and it could hold a secret.
fn describe(error: reqwest::Error) -> String {
    error_chain(&error.without_url())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &[u8]) -> Result<(), String> {
        super::check(body, |said| String::from_utf8_lossy(said).into_owned())
    }

    #[test]
    fn a_body_is_json_and_no_error() {
        for body in [
            r#"{"result": []}"#,
            "[]",
            r#"["an array's first element is no error"]"#,
            "7",
            r#"{"error": null, "result": []}"#,
            r#"{"error": "old", "error": null, "result": []}"#,
            r#"{"result": {"error": "nested"}}"#,
        ] {
            assert_eq!(check(body.as_bytes()), Ok(()), "{body}");
        }
        for (body, reason) in [
            ("", "ends too early"),
            (r#"{"result": [{"id": 1"#, "ends too early"),
            ("<html>", "is not JSON"),
            (r#"{"result": []} x"#, "is not JSON"),
            (r#"{"error": "quota"}"#, r#"with an error: "quota""#),
            (r#"{"error": null, "error": 7}"#, "with an error: 7"),
            (
                r#"{"result": [], "error": {"code": 7}}"#,
                r#"with an error: {"code": 7}"#,
            ),
        ] {
            let error = check(body.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{body}: {error}");
        }
        assert!(check(b"{\"a\": \"\xff\"}").is_err());
    }

    #[test]
    fn an_api_key_is_never_shown() {
        let key = ApiKey::new("\ts3c/ret\" ".to_owned()).unwrap();
        assert_eq!(format!("{key:?}"), "ApiKey(…)");
        for repeated in [r#"s3c/ret""#, r#"s3c/ret\""#, r#"s3c\/ret\""#] {
            assert_eq!(
                key.redact(&format!("Bearer {repeated} is not valid")),
                "Bearer [API_KEY] is not valid"
            );
        }
        assert!(!format!("{:?}", key.header().unwrap()).contains("s3c"));
        for unusable in ["line\nbreak", " ", ""] {
            assert!(ApiKey::new(unusable.to_owned()).is_none());
        }
    }

    #[test]
    fn the_next_page_and_redirects_stay_on_their_origin() {
        let asked = Url::parse("https://vendor.test/api/sales").unwrap();
        let target = |url: &str| same_origin(&asked, Url::parse(url).unwrap(), "a redirect");
        assert!(target("https://vendor.test:443/other?x=1").is_ok());
        for url in [
            "http://vendor.test/",
            "https://vendor.test:8443/",
            "https://evil.test/?k=1",
            "data:text/plain,x",
            "blob:https://vendor.test/",
        ] {
            let error = target(url).unwrap_err();
            assert!(error.contains("another origin") && !error.contains("k=1"), "{error}");
        }
    }
}
