//! The API over HTTP, on loopback.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, ETAG, HOST, IF_NONE_MATCH, LINK, RETRY_AFTER,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use futures::stream;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::clock::Clock;
use thiserror::Error;
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::faults::{Fault, FaultSource, Faults, FaultsError, Target};
use super::ledger::{AnsweredRequest, Stats};
use super::page::{Endpoint, Page, write_page};
use super::quota::Quota;
use super::world::{Changes, World, WorldError, WorldOptions};

/// Bodies from this size on are kept until the world changes, because they take long to write and to fingerprint.
const BODIES_KEPT_FROM_BYTES: usize = 1 << 20;
const MAX_ADVANCE_HOURS: u64 = 24 * 366;
/// HTTP dates have four-digit years.
const LAST_YEAR: i32 = 9_990;
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// How `Retry-After` is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RetryAfterForm {
    /// Whole seconds, rounded up.
    #[default]
    Seconds,
    /// An HTTP date by the vendor's clock, which the `Date` header shows too; rounded up to the second.
    HttpDate,
}

/// How the `rel="next"` URL is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkForm {
    /// With scheme and host.
    Absolute,
    /// From the path on.
    Relative,
    /// In turns: absolute, from the path on, from the `?` on.
    #[default]
    Mixed,
}

/// How a vendor is to be.
#[derive(Clone)]
pub struct VendorOptions {
    /// What there is to be sold.
    pub world: WorldOptions,
    /// What time it is at the vendor's. The world catches up with it before each answer.
    pub clock: Clock,
    /// The address to listen on.
    pub address: IpAddr,
    /// The port; 0 for any free one.
    pub port: u16,
    /// Requests allowed in any 60 seconds; no quota at all if `None`.
    pub requests_per_minute: Option<usize>,
    /// The form of `Retry-After`.
    pub retry_after: RetryAfterForm,
    /// Records on a page; all of them if `None` (or 0).
    pub page_size: Option<usize>,
    /// The form of the link to the next page.
    pub links: LinkForm,
    /// Whether answers have an `ETag`, by which they can be asked for on a condition.
    pub etags: bool,
    /// If set, required as `Authorization: Bearer …`.
    pub api_key: Option<String>,
    /// What goes wrong from the start.
    pub faults: Faults,
}

impl VendorOptions {
    /// A vendor of the usual size that does nothing wrong, with 300 requests a minute and answers of one page, on any
    /// free port of 127.0.0.1. The world starts at the clock's present time.
    pub fn new(seed: u64, clock: Clock) -> Self {
        Self {
            world: WorldOptions::new(seed, clock.now()),
            clock,
            address: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            requests_per_minute: Some(300),
            retry_after: RetryAfterForm::default(),
            page_size: None,
            links: LinkForm::default(),
            etags: true,
            api_key: None,
            faults: Faults::default(),
        }
    }
}

/// Why the vendor did not start.
#[derive(Debug, Error)]
pub enum VendorError {
    /// The world cannot be made.
    #[error("cannot make the vendor's world")]
    World(#[from] WorldError),
    /// The faults make no sense.
    #[error("cannot arrange the vendor's faults")]
    Faults(#[from] FaultsError),
    /// The port cannot be had.
    #[error(
        "cannot listen on {address}; choose an address of this machine, and another port, or 0 for any that is free"
    )]
    Listen {
        /// The address and port asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// A running vendor. Dropping it ends it too, but does not wait.
///
/// Besides the API it answers, outside quota, ledger and API key: `GET /_vendor/stats`; `POST /_vendor/faults` with
/// [`Faults`] as JSON, which replace those before; `POST /_vendor/advance` with `{"hours": 1}`, which moves a simulated
/// clock. The ledger keeps every request for as long as the vendor runs.
pub struct VendorServer {
    url: String,
    vendor: Arc<Vendor>,
    closing: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl VendorServer {
    /// Starts to listen, on tokio's current runtime.
    ///
    /// # Errors
    /// If the world or the faults asked for are impossible, or the port cannot be had.
    pub async fn start(options: VendorOptions) -> Result<Self, VendorError> {
        options.faults.validate()?;
        let world = World::new(options.world)?;
        let address = SocketAddr::from((options.address, options.port));
        let listen_error = |source| VendorError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen_error)?;
        let url = format!("http://{}", listener.local_addr().map_err(listen_error)?);
        let (closing, mut closed) = watch::channel(false);
        let vendor = Arc::new(Vendor {
            clock: options.clock,
            started: Instant::now(),
            retry_after: options.retry_after,
            page_size: options.page_size.filter(|&size| size > 0),
            etags: options.etags,
            links: options.links,
            authorization: options.api_key.map(|key| format!("Bearer {key}")),
            authority: url.trim_start_matches("http://").to_owned(),
            closed: closed.clone(),
            desk: Mutex::new(Desk {
                quota: options.requests_per_minute.map(Quota::new),
                faults: FaultSource::new(world.options().seed, options.faults),
                ledger: Vec::new(),
                kept_bodies: HashMap::new(),
                kept_at_hour: 0,
            }),
            world: Mutex::new(world),
        });
        let router = Router::new()
            .route("/_vendor/stats", get(report))
            .route("/_vendor/faults", post(replace_faults))
            .route("/_vendor/advance", post(advance))
            .fallback(answer)
            .with_state(Arc::clone(&vendor));
        let listener = listener.tap_io(|stream| {
            // Only a matter of latency, so nothing depends on it.
            let _ = stream.set_nodelay(true);
        });
        let serving = tokio::spawn(async move {
            let until_closed = async move {
                // An error means that the server was dropped, which ends it as well.
                let _ = closed.wait_for(|closed| *closed).await;
            };
            // The listener's own errors are retried inside; there is no other.
            let _ = axum::serve(listener, router).with_graceful_shutdown(until_closed).await;
        });
        Ok(Self {
            url,
            vendor,
            closing,
            serving,
        })
    }

    /// Where it listens: `http://127.0.0.1:PORT`, without a slash at the end.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A summary of all requests so far.
    pub fn stats(&self) -> Stats {
        self.stats_since(0)
    }

    /// A summary of the requests after the first `requests`: those of the latest run, given the count before it.
    pub fn stats_since(&self, requests: usize) -> Stats {
        Stats::of(self.vendor.desk().ledger.get(requests..).unwrap_or_default())
    }

    /// How many requests there were so far.
    pub fn count(&self) -> usize {
        self.vendor.desk().ledger.len()
    }

    /// Every request so far, in the order in which they arrived.
    pub fn requests(&self) -> Vec<AnsweredRequest> {
        self.vendor.desk().ledger.clone()
    }

    /// What goes wrong, to be changed while the vendor runs.
    pub fn faults(&self) -> FaultsHandle {
        FaultsHandle(Arc::clone(&self.vendor))
    }

    /// The truth, caught up with the clock. Nobody is answered while the guard is held.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.vendor.world()
    }

    /// Corrects so many sales at once, spread evenly over all that can be reached: see [`World::correct_evenly`]. Answers
    /// how many were corrected.
    pub fn correct_sales(&self, count: usize) -> usize {
        let mut desk = self.vendor.desk();
        desk.kept_bodies.clear();
        self.vendor.world().correct_evenly(count)
    }

    /// Answers what has been asked, cuts slow answers short, and ends. After five seconds it no longer waits for
    /// clients that do not take their answers.
    pub async fn shutdown(mut self) {
        self.closing.send_replace(true);
        if tokio::time::timeout(SHUTDOWN_GRACE, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
    }
}

/// The switch for a running vendor's faults.
#[derive(Clone)]
pub struct FaultsHandle(Arc<Vendor>);

impl FaultsHandle {
    /// The faults as they are now: targets have fewer times left after each hit.
    pub fn get(&self) -> Faults {
        self.0.desk().faults.faults.clone()
    }

    /// Replaces all faults. How often each path and query was asked is not forgotten.
    ///
    /// # Errors
    /// If they make no sense; those before stay in force.
    pub fn set(&self, faults: Faults) -> Result<(), FaultsError> {
        faults.validate()?;
        self.0.desk().faults.faults = faults;
        Ok(())
    }

    /// Adds one target to the faults in force.
    ///
    /// # Errors
    /// If it makes no sense.
    pub fn add(&self, target: Target) -> Result<(), FaultsError> {
        let mut desk = self.0.desk();
        let mut faults = desk.faults.faults.clone();
        faults.targets.push(target);
        faults.validate()?;
        desk.faults.faults = faults;
        Ok(())
    }
}

struct Vendor {
    clock: Clock,
    started: Instant,
    retry_after: RetryAfterForm,
    page_size: Option<usize>,
    etags: bool,
    links: LinkForm,
    authorization: Option<String>,
    authority: String,
    closed: watch::Receiver<bool>,
    /// Locked before the world, never after it.
    desk: Mutex<Desk>,
    world: Mutex<World>,
}

/// Where requests are counted and answered, one at a time.
struct Desk {
    quota: Option<Quota>,
    faults: FaultSource,
    ledger: Vec<AnsweredRequest>,
    /// By path and query, all of the same hour of the world.
    kept_bodies: HashMap<String, Page>,
    kept_at_hour: u64,
}

struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    body: Bytes,
    cut: bool,
    delay: Duration,
}

impl Reply {
    fn new(status: StatusCode, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            headers: vec![(CONTENT_TYPE, content_type.to_owned())],
            body: body.into(),
            cut: false,
            delay: Duration::ZERO,
        }
    }

    fn error(status: StatusCode, message: &str) -> Self {
        Self::new(status, "application/json", json!({ "error": message }).to_string())
    }

    fn with_header(mut self, name: HeaderName, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    fn into_response(self) -> Response<Body> {
        let length = self.body.len();
        let mut response = Response::new(if self.cut {
            half_of(self.body)
        } else {
            Body::from(self.body)
        });
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            if let Ok(value) = HeaderValue::try_from(value) {
                response.headers_mut().insert(name, value);
            }
        }
        if self.cut {
            response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        response
    }
}

/// Half of `body`, then an error, at which hyper closes the connection.
fn half_of(body: Bytes) -> Body {
    let mut half = Some(body.slice(..body.len() / 2));
    let mut flushed = false;
    Body::from_stream(stream::poll_fn(move |context| match half.take() {
        Some(bytes) => Poll::Ready(Some(Ok(bytes))),
        // hyper sends what it has when it is kept waiting; at an error it would throw it away.
        None if !flushed => {
            flushed = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
        None => Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::ConnectionAborted)))),
    }))
}

impl Vendor {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.advance_to(self.clock.now());
        world
    }

    fn answer(&self, request: &Parts) -> Reply {
        let mut desk = self.desk();
        let now = Instant::now();
        let path_and_query = request.uri.path_and_query().map_or("/", |text| text.as_str());
        let (reply, fault, spoiled_record) = match desk.quota.as_mut().map_or(Ok(()), |quota| quota.check(now)) {
            Err(wait) => (self.too_many_requests(wait), None, None),
            Ok(()) => self.answer_within_quota(&mut desk, request, path_and_query),
        };
        if reply.status != StatusCode::TOO_MANY_REQUESTS
            && let Some(quota) = &mut desk.quota
        {
            quota.count(now);
        }
        desk.ledger.push(AnsweredRequest {
            at: now - self.started,
            path_and_query: path_and_query.to_owned(),
            status: reply.status.as_u16(),
            body_bytes: reply.body.len(),
            fault,
            spoiled_record,
        });
        reply.with_header(DATE, httpdate::fmt_http_date(self.time_in(Duration::ZERO)))
    }

    fn answer_within_quota(
        &self,
        desk: &mut Desk,
        request: &Parts,
        path_and_query: &str,
    ) -> (Reply, Option<Fault>, Option<String>) {
        let path = request.uri.path();
        let query = Query::<Vec<(String, String)>>::try_from_uri(&request.uri)
            .map(|query| query.0)
            .unwrap_or_default();
        let value_of = |name: &str| {
            query
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        let id = Endpoint::of(path).and_then(|endpoint| value_of(endpoint.parameter()));
        let fault = desk.faults.next(path, id, path_and_query);
        let faults = &desk.faults.faults;
        let (slow_for, retry_after) = (
            Duration::from_millis(faults.slow_for_ms),
            Duration::from_secs(faults.retry_after_seconds),
        );

        // These need nothing of the right answer.
        match fault {
            Some(Fault::TooManyRequests) => return (self.too_many_requests(retry_after), fault, None),
            Some(Fault::Status(status)) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                return (Reply::error(status, "the vendor has a bad day"), fault, None);
            }
            Some(Fault::ErrorBody) => {
                return (
                    Reply::error(StatusCode::OK, "the books are being balanced, try later"),
                    fault,
                    None,
                );
            }
            Some(Fault::NotJson) => {
                let page = "<!DOCTYPE html><title>Dunder Mifflin</title><p>We will be right back.";
                return (
                    Reply::new(StatusCode::OK, "text/html; charset=utf-8", page),
                    fault,
                    None,
                );
            }
            Some(Fault::Slow | Fault::CutConnection | Fault::TruncatedBody | Fault::BadRecord(_)) | None => {}
        }
        let damage = match fault {
            Some(fault @ (Fault::CutConnection | Fault::TruncatedBody | Fault::BadRecord(_))) => Some(fault),
            _ => None,
        };
        let page = match self.page(desk, request, path_and_query, value_of, damage) {
            Ok(page) => page,
            // There are no records to damage, but it can still be slow.
            Err(mut refusal) => {
                let slow = fault.filter(|&fault| fault == Fault::Slow);
                refusal.delay = if slow.is_some() { slow_for } else { Duration::ZERO };
                return (refusal, slow, None);
            }
        };
        let PageReply {
            mut reply,
            spoiled_record,
        } = page;
        match fault {
            Some(Fault::Slow) => reply.delay = slow_for,
            Some(Fault::CutConnection) => reply.cut = true,
            Some(Fault::TruncatedBody) => reply.body.truncate(reply.body.len() * 2 / 3),
            Some(Fault::BadRecord(_)) if spoiled_record.is_none() => return (reply, None, None),
            _ => {}
        }
        (reply, fault, spoiled_record)
    }

    /// The right answer, or the refusal that is right. A damaged answer is always sent whole: a 304 has no body that
    /// could be damaged.
    fn page<'q>(
        &self,
        desk: &mut Desk,
        request: &Parts,
        path_and_query: &str,
        value_of: impl Fn(&str) -> Option<&'q str>,
        damage: Option<Fault>,
    ) -> Result<PageReply, Reply> {
        let headers = &request.headers;
        if let Some(expected) = &self.authorization
            && headers
                .get(AUTHORIZATION)
                .is_none_or(|given| given.as_bytes() != expected.as_bytes())
        {
            return Err(Reply::error(
                StatusCode::UNAUTHORIZED,
                "expected Authorization: Bearer with a valid API key",
            ));
        }
        let path = request.uri.path();
        let Some(endpoint) = Endpoint::of(path) else {
            return Err(Reply::error(
                StatusCode::NOT_FOUND,
                &format!("no such path: {path}; expected /branches, /employees or /sales"),
            ));
        };
        if request.method != Method::GET {
            return Err(Reply::error(StatusCode::METHOD_NOT_ALLOWED, "expected GET"));
        }
        let parameter = endpoint.parameter();
        let Some(id) = value_of(parameter).filter(|value| !value.is_empty()) else {
            return Err(Reply::error(
                StatusCode::BAD_REQUEST,
                &format!("missing query parameter: {parameter}"),
            ));
        };
        let number = match value_of("page").map(str::parse::<usize>) {
            None => 1,
            Some(Ok(number)) if number > 0 => number,
            Some(_) => {
                return Err(Reply::error(
                    StatusCode::BAD_REQUEST,
                    "query parameter page: expected an integer from 1",
                ));
            }
        };
        let world = self.world();
        if desk.kept_at_hour != world.changes().hours {
            desk.kept_at_hour = world.changes().hours;
            desk.kept_bodies.clear();
        }
        let spoil = match damage {
            Some(Fault::BadRecord(how)) => Some(how),
            _ => None,
        };
        let kept = desk
            .kept_bodies
            .get(path_and_query)
            .filter(|_| spoil.is_none())
            .cloned();
        let Some(page) = kept.or_else(|| write_page(&world, endpoint, id, number, self.page_size, spoil)) else {
            return Err(Reply::error(
                StatusCode::NOT_FOUND,
                &format!("no such {parameter}: {id}"),
            ));
        };
        drop(world);
        if spoil.is_none() && page.body.len() >= BODIES_KEPT_FROM_BYTES {
            desk.kept_bodies.insert(path_and_query.to_owned(), page.clone());
        }
        let unchanged = damage.is_none() && self.etags && if_none_match(headers, &page.etag);
        let mut reply = if unchanged {
            Reply::new(StatusCode::NOT_MODIFIED, "application/json", Bytes::new())
        } else {
            Reply::new(StatusCode::OK, "application/json", page.body)
        };
        if !page.is_last {
            reply = reply.with_header(LINK, self.link_to_next(request, number.saturating_add(1)));
        }
        if self.etags {
            reply = reply.with_header(ETAG, page.etag);
        }
        Ok(PageReply {
            reply,
            spoiled_record: page.spoiled_record,
        })
    }

    fn link_to_next(&self, request: &Parts, next: usize) -> String {
        let query = request.uri.query().unwrap_or_default();
        let kept: Vec<&str> = query
            .split('&')
            .filter(|pair| !pair.is_empty() && !pair.starts_with("page="))
            .collect();
        let query = format!("?{}&page={next}", kept.join("&"));
        let path = request.uri.path();
        let host = request
            .headers
            .get(HOST)
            .and_then(|host| host.to_str().ok())
            .unwrap_or(&self.authority);
        let target = match (self.links, next % 3) {
            (LinkForm::Absolute, _) | (LinkForm::Mixed, 2) => format!("http://{host}{path}{query}"),
            (LinkForm::Relative, _) | (LinkForm::Mixed, 0) => format!("{path}{query}"),
            (LinkForm::Mixed, _) => query,
        };
        format!("<{target}>; rel=\"next\"")
    }

    fn too_many_requests(&self, wait: Duration) -> Reply {
        let value = match self.retry_after {
            RetryAfterForm::Seconds => whole_seconds(wait).to_string(),
            RetryAfterForm::HttpDate => {
                // The date has no fraction of a second, so that of the present has to be rounded up as well.
                httpdate::fmt_http_date(self.time_in(wait + Duration::from_nanos(999_999_999)))
            }
        };
        Reply::error(StatusCode::TOO_MANY_REQUESTS, "too many requests").with_header(RETRY_AFTER, value)
    }

    fn time_in(&self, wait: Duration) -> SystemTime {
        // HTTP dates begin with the epoch.
        SystemTime::from(OffsetDateTime::from(self.clock.now())).max(SystemTime::UNIX_EPOCH) + wait
    }

    fn report(&self) -> Report {
        let (now, changes) = (self.clock.now(), self.world().changes());
        Report {
            stats: Stats::of(&self.desk().ledger),
            now: now.truncate_to_second().to_string(),
            changes,
        }
    }
}

struct PageReply {
    reply: Reply,
    spoiled_record: Option<String>,
}

/// What `GET /_vendor/stats` answers.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    stats: Stats,
    now: String,
    changes: Changes,
}

fn whole_seconds(wait: Duration) -> u64 {
    wait.as_secs() + u64::from(wait.subsec_nanos() > 0)
}

fn if_none_match(headers: &HeaderMap, etag: &str) -> bool {
    let given = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    given
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.trim_start_matches("W/") == etag)
}

async fn answer(State(vendor): State<Arc<Vendor>>, request: Request) -> Response<Body> {
    let (parts, _) = request.into_parts();
    let reply = vendor.answer(&parts);
    if !reply.delay.is_zero() {
        let mut closed = vendor.closed.clone();
        tokio::select! {
            () = tokio::time::sleep(reply.delay) => {}
            _ = closed.wait_for(|closed| *closed) => {}
        }
    }
    reply.into_response()
}

async fn report(State(vendor): State<Arc<Vendor>>) -> Response<Body> {
    report_of(&vendor)
}

fn report_of(vendor: &Vendor) -> Response<Body> {
    match serde_json::to_vec(&vendor.report()) {
        Ok(body) => Reply::new(StatusCode::OK, "application/json", body).into_response(),
        Err(error) => Reply::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()).into_response(),
    }
}

async fn replace_faults(State(vendor): State<Arc<Vendor>>, body: Bytes) -> Response<Body> {
    let faults = match serde_json::from_slice::<Faults>(&body) {
        Ok(faults) => faults,
        Err(error) => return Reply::error(StatusCode::BAD_REQUEST, &format!("faults: {error}")).into_response(),
    };
    match FaultsHandle(Arc::clone(&vendor)).set(faults) {
        Ok(()) => report_of(&vendor),
        Err(error) => Reply::error(StatusCode::BAD_REQUEST, &error.to_string()).into_response(),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    hours: u64,
}

async fn advance(State(vendor): State<Arc<Vendor>>, body: Bytes) -> Response<Body> {
    let hours = match serde_json::from_slice::<Advance>(&body) {
        Ok(Advance { hours }) if hours <= MAX_ADVANCE_HOURS => hours,
        Ok(Advance { hours }) => {
            let message = format!("hours is {hours}: expected at most {MAX_ADVANCE_HOURS}");
            return Reply::error(StatusCode::BAD_REQUEST, &message).into_response();
        }
        Err(error) => return Reply::error(StatusCode::BAD_REQUEST, &format!("advance: {error}")).into_response(),
    };
    if vendor.clock.now().year() >= LAST_YEAR {
        return Reply::error(StatusCode::CONFLICT, "the end of time is near").into_response();
    }
    if !vendor.clock.advance(Duration::from_secs(hours * 3_600)) {
        return Reply::error(
            StatusCode::CONFLICT,
            "the vendor runs by the machine's clock, which cannot be moved",
        )
        .into_response();
    }
    report_of(&vendor)
}
