//! The vendor over HTTP: one request, sent once. The only module that imports reqwest for the vendor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Response, StatusCode};
use serde_json::value::RawValue;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use super::client::{ApiKey, VendorSettings};
use super::excerpt::Excerpts;
use super::transport::{Exchange, Memory, Outcome, Transport};
use super::{link, rate_limit, retry_after};
use crate::clock::Clock;
use crate::error_chain;

/// An answer above this size has to be the only one of its kind in memory. The others hold as much each while they
/// wait for their turn, and there can be fifteen of them.
const LARGE_BODY_BYTES: usize = 256 * 1024;

/// How much of a refusal is read. It is more than an error tells, so that an API key in it is seen whole.
const MAX_REFUSAL_BYTES: usize = 4096;

/// How long is waited for the body of a refusal.
const REFUSAL_TIME: Duration = Duration::from_secs(1);

/// How much of what the vendor said an error tells.
const MAX_EXCERPT_CHARACTERS: usize = 300;

/// The longest entity tag that is kept.
const MAX_ETAG_BYTES: usize = 1024;

/// The client cannot be built: the platform's certificates or TLS are not usable.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be built")]
pub struct ClientError(#[source] reqwest::Error);

/// How much of a body that is no answer is kept.
const MALFORMED_BYTES: usize = 4096;

/// The vendor over HTTP, with one connection pool.
pub struct HttpTransport {
    http: reqwest::Client,
    excerpts: Excerpts,
    time_out: Duration,
    max_answer_bytes: usize,
    clock: Clock,
    large_bodies: Arc<Semaphore>,
}

impl HttpTransport {
    /// A way to the vendor. `clock` tells how long it is until a date in `Retry-After`.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(settings: &VendorSettings, clock: Clock) -> Result<Self, ClientError> {
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
            // Redirects are followed by the client, where each pays for its request and stays on its origin.
            .redirect(reqwest::redirect::Policy::none())
            // A second try that reqwest makes on its own would not pay.
            .retry(reqwest::retry::never())
            .connect_timeout(settings.time_out)
            .build()
            .map_err(ClientError)?;
        Ok(Self {
            http,
            excerpts: Excerpts::new(settings.api_key.clone()),
            time_out: settings.time_out,
            max_answer_bytes: settings.max_answer_bytes,
            clock,
            large_bodies: Arc::new(Semaphore::new(1)),
        })
    }

    async fn outcome(
        &self,
        response: Response,
        url: &Url,
        is_conditional: bool,
        started: Instant,
        memory: &mut Memory,
    ) -> Outcome {
        let status = response.status();
        match status {
            StatusCode::TOO_MANY_REQUESTS => Outcome::Throttled {
                retry_after: response
                    .headers()
                    .get(header::RETRY_AFTER)
                    .and_then(|value| value.to_str().ok())
                    .and_then(|value| retry_after::parse(value, self.clock.now())),
            },
            StatusCode::NOT_MODIFIED if is_conditional => Outcome::NotModified,
            _ if status.is_success() => {
                let etag = etag(&response);
                let next = match next_page(&response, url) {
                    Ok(next) => next,
                    Err(reason) => return Outcome::Final(reason),
                };
                match self.body(response, started, memory).await {
                    Ok(body) => match check(&body, |said| self.excerpt(said)) {
                        Ok(()) => Outcome::Page { body, next, etag },
                        Err(reason) => Outcome::MayPass {
                            reason,
                            malformed: Some(self.excerpts.of(&body, MALFORMED_BYTES)),
                        },
                    },
                    Err(failed) => failed,
                }
            }
            StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT => match redirect_target(&response, url) {
                Ok(target) => Outcome::Redirect(target),
                Err(reason) => Outcome::Final(reason),
            },
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => {
                Outcome::may_pass(format!("the vendor answered {status}"))
            }
            _ if status.is_server_error() => Outcome::may_pass(format!("the vendor answered {status}")),
            _ => Outcome::Final(self.refusal(status, response).await),
        }
    }

    /// The body, as far as its time and the function's memory allow.
    async fn body(&self, mut response: Response, started: Instant, memory: &mut Memory) -> Result<Bytes, Outcome> {
        let mut time_left = self.time_out.saturating_sub(started.elapsed());
        let most = self.max_answer_bytes;
        let too_large = || {
            Outcome::Final(format!(
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
                Ok(Err(error)) => return Err(Outcome::may_pass(describe(error))),
                Err(_) => {
                    let limit = self.time_out.as_secs();
                    return Err(Outcome::may_pass(format!(
                        "the answer was not complete within {limit} s"
                    )));
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

    /// What the vendor said, as far as an error tells it.
    fn excerpt(&self, said: &[u8]) -> String {
        let text = self.excerpts.of(said, MAX_REFUSAL_BYTES);
        text.trim().chars().take(MAX_EXCERPT_CHARACTERS).collect()
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn get(&self, url: &Url, etag: Option<&str>, memory: &mut Memory) -> Exchange {
        let limit = self.time_out;
        let started = Instant::now();
        let mut request = self.http.get(url.clone());
        if let Some(etag) = etag {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let response = match timeout(limit, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Outcome::may_pass(describe(error)).into(),
            Err(_) => return Outcome::may_pass(format!("no answer within {} s", limit.as_secs())).into(),
        };
        let rate_limit = rate_limit::parse(text_of(response.headers()), self.clock.now());
        let told_at = Instant::now();
        Exchange {
            outcome: self.outcome(response, url, etag.is_some(), started, memory).await,
            rate_limit: rate_limit.map(|limit| (limit, told_at)),
        }
    }
}

/// The headers that are text.
fn text_of(headers: &HeaderMap) -> impl Fn(&str) -> Option<String> {
    |name| {
        let values: Vec<_> = headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .collect();
        (!values.is_empty()).then(|| values.join(", "))
    }
}

fn etag(response: &Response) -> Option<String> {
    let etag = response.headers().get(header::ETAG)?.to_str().ok()?;
    (etag.len() <= MAX_ETAG_BYTES).then(|| etag.to_owned())
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
