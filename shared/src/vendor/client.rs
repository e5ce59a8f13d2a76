//! The vendor, asked with as many tries as make sense, within its quota. The order of the layers is: tries, quota,
//! time-out, call; so that every try pays. The last two are the [`Transport`]'s.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::HeaderValue;
use time::UtcDateTime;
use tokio::time::Instant;
use tracing::{debug, warn};
use url::Url;

use super::http::{ClientError, HttpTransport};
use super::transport::{Exchange, Memory, Outcome, Transport};
use super::{Answer, FetchError, Fetched, Query, Question, Vendor};
use crate::clock::Clock;
use crate::invocation::Invocation;
use crate::jitter::Jitter;
use crate::quota::{NoPlace, Patience, Quota, Turn};

/// How often a request that fails in a way that may pass is tried in all, before its message goes back to its queue.
pub const MAX_TRIES: u32 = 4;

/// The wait before the second try; it doubles from try to try, and half of it is random.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);

/// What is waited at least after a 429, whatever `Retry-After` says; it doubles with each 429 in a row.
const THROTTLE_FLOOR: Duration = Duration::from_secs(1);

/// Where the doubling of [`THROTTLE_FLOOR`] ends.
const MAX_THROTTLE_FLOOR: Duration = Duration::from_secs(64);

/// How old the vendor's word about what is left of its quota may be.
const LONGEST_RATE_LIMIT_AGE: Duration = Duration::from_secs(1);

/// How many pages an answer may have (the contract's section 1).
const MAX_PAGES: usize = 1000;

/// How many redirects one request may take.
const MAX_REDIRECTS: u32 = 10;

/// What the client needs to know of the vendor.
#[derive(Clone, Debug)]
pub struct VendorSettings {
    /// Where its API is.
    pub base_url: Url,
    /// Sent as `Authorization: Bearer …`.
    pub api_key: Option<ApiKey>,
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

    pub(super) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", self.0)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The key as a vendor can repeat it: plain, or as one of JSON's ways to write it.
    pub(super) fn forms(&self) -> [String; 3] {
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

/// The vendor, with one quota for all who share the client.
pub struct VendorClient<T = HttpTransport> {
    transport: T,
    base_url: Url,
    time_out: Duration,
    quota: Quota,
    clock: Clock,
    jitter: Jitter,
}

/// Tries of one request that failed in a way that may pass.
struct FailedTries {
    /// What the last one ended in.
    reason: String,
    tries: u32,
    /// How its body begins, if it is no answer.
    malformed: Option<String>,
}

impl From<FailedTries> for FetchError {
    fn from(failed: FailedTries) -> Self {
        Self::Transient {
            reason: failed.reason,
            tries: failed.tries,
            malformed: failed.malformed,
        }
    }
}

/// What a page belongs to.
struct PageOf<'a> {
    /// The answer's place in line.
    turn: &'a Turn,
    /// The entity tag that is sent along.
    etag: Option<&'a str>,
    /// How many pages of the answer are there already.
    pages: usize,
    /// How long its first request can wait for the quota.
    quota_until: Instant,
}

/// What one page of an answer came to.
enum Page {
    Body {
        body: Bytes,
        next: Option<Url>,
        etag: Option<String>,
        asked_at: UtcDateTime,
    },
    NotModified {
        asked_at: UtcDateTime,
    },
}

impl VendorClient {
    /// A client that reaches the vendor over HTTP.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(settings: &VendorSettings, quota: Quota, clock: Clock, jitter: Jitter) -> Result<Self, ClientError> {
        let transport = HttpTransport::new(settings, clock.clone())?;
        Ok(Self::over(transport, settings, quota, clock, jitter))
    }
}

impl<T: Transport> VendorClient<T> {
    /// A client that reaches the vendor by `transport`.
    pub fn over(transport: T, settings: &VendorSettings, quota: Quota, clock: Clock, jitter: Jitter) -> Self {
        Self {
            transport,
            base_url: settings.base_url.clone(),
            time_out: settings.time_out,
            quota,
            clock,
            jitter,
        }
    }

    fn url(&self, query: &Query) -> Url {
        let (path, name, value) = query.parts();
        let mut url = self.base_url.clone();
        // An http URL can always have path segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push(path);
        }
        url.query_pairs_mut().append_pair(name, value);
        url
    }

    /// One page, with as many tries as make sense.
    async fn page(
        &self,
        mut url: Url,
        page: PageOf<'_>,
        invocation: &Invocation,
        memory: &mut Memory,
    ) -> Result<Page, FetchError> {
        let PageOf {
            turn,
            etag,
            pages,
            quota_until,
        } = page;
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
                malformed: None,
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
            let place = self.quota.acquire(turn, patience, &invocation.stop).await;
            let failures = self.quota.take_failures();
            invocation.tally.count(|counts| counts.state_failures += failures);
            match place {
                Ok(waited) => invocation.tally.count(|counts| {
                    counts.quota_wait_ms += u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
                }),
                Err(NoPlace::Closed(wait)) => return Err(FetchError::Quota { wait }),
                Err(NoPlace::Taken(wait)) => return Err(out_of_time(failed, FetchError::Quota { wait })),
                Err(NoPlace::Stopped) => return Err(FetchError::OutOfTime),
            }
            if !invocation.has_time_for(self.time_out) {
                return Err(out_of_time(failed, FetchError::OutOfTime));
            }
            invocation.tally.count(|counts| counts.api_calls += 1);
            let asked_at = self.clock.now();
            memory.bytes = held_before;
            let Exchange { outcome, rate_limit } = self.transport.get(&url, etag, memory).await;
            // What was said before a long body has been overtaken by others' requests.
            if let Some((limit, told_at)) = rate_limit
                && told_at.elapsed() < LONGEST_RATE_LIMIT_AGE
            {
                self.quota.correct(limit.remaining, limit.reset).await;
            }
            match outcome {
                Outcome::Page { body, next, etag } => {
                    return Ok(Page::Body {
                        body,
                        next,
                        etag,
                        asked_at,
                    });
                }
                Outcome::NotModified => return Ok(Page::NotModified { asked_at }),
                Outcome::Redirect(target) if redirects < MAX_REDIRECTS => {
                    redirects += 1;
                    url = target;
                }
                Outcome::Redirect(_) => {
                    return Err(FetchError::Permanent(format!("more than {MAX_REDIRECTS} redirects")));
                }
                Outcome::Throttled { retry_after } => {
                    invocation.tally.count(|counts| counts.api_throttles += 1);
                    let floor = (THROTTLE_FLOOR * 2u32.saturating_pow(throttles)).min(MAX_THROTTLE_FLOOR);
                    throttles += 1;
                    let wait = retry_after.unwrap_or_default().max(floor) + self.jitter.up_to(THROTTLE_FLOOR / 2);
                    debug!(wait_seconds = wait.as_secs_f64(), "the vendor answered 429");
                    self.quota.close_for(wait).await;
                }
                Outcome::MayPass { reason, malformed } => {
                    let tries = failed.map_or(1, |failed| failed.tries + 1);
                    if invocation.stop.is_cancelled() {
                        // What cannot be tried again now has not failed for good: it is handed back.
                        return Err(FetchError::OutOfTime);
                    }
                    let failure = FailedTries {
                        reason,
                        tries,
                        malformed,
                    };
                    let backoff = self.jitter.around(FIRST_BACKOFF * 2u32.pow(tries - 1));
                    if tries >= MAX_TRIES || !invocation.has_time_for(backoff + self.time_out) {
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
                        biased;
                        () = invocation.stop.cancelled() => return Err(FetchError::OutOfTime),
                        () = tokio::time::sleep(backoff) => {}
                    }
                }
                Outcome::Final(reason) => return Err(FetchError::Permanent(reason)),
            }
        }
    }
}

#[async_trait]
impl<T: Transport> Vendor for VendorClient<T> {
    async fn fetch(
        &self,
        question: &Question,
        invocation: &Invocation,
        quota_until: Instant,
    ) -> Result<Fetched, FetchError> {
        let turn = self.quota.turn(question.class);
        let mut memory = Memory::default();
        let mut pages = Vec::new();
        let mut fetched_at = None;
        let mut first_etag = None;
        let mut next = Some(self.url(&question.query));
        while let Some(url) = next {
            if pages.len() == MAX_PAGES {
                return Err(FetchError::Permanent(format!(
                    "the answer has more than {MAX_PAGES} pages"
                )));
            }
            // A condition is about the first page alone.
            let etag = question.etag.as_deref().filter(|_| pages.is_empty());
            let page = PageOf {
                turn: &turn,
                etag,
                pages: pages.len(),
                quota_until,
            };
            match self.page(url, page, invocation, &mut memory).await? {
                Page::NotModified { asked_at } => return Ok(Fetched::NotModified { asked_at }),
                Page::Body {
                    body,
                    next: following,
                    etag,
                    asked_at,
                } => {
                    fetched_at.get_or_insert(asked_at);
                    first_etag = etag.filter(|_| pages.is_empty() && following.is_none());
                    pages.push(body);
                    next = following;
                }
            }
        }
        Ok(Fetched::Answer(Answer {
            pages,
            fetched_at: fetched_at.unwrap_or_else(|| self.clock.now()),
            etag: first_etag,
            _memory: memory.permit,
        }))
    }

    fn pace(&self) -> Duration {
        self.quota.pace()
    }

    fn time_out(&self) -> Duration {
        self.time_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
