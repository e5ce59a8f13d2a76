//! The page and its events over HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY, SET_COOKIE,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use futures::stream::{self, Stream};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::DashboardError;
use super::access::Access;
use super::board::{Board, Posted, Reader};

/// How often something is sent at the least, so that whoever listens knows that he is heard.
const BEAT: Duration = Duration::from_secs(5);

/// How long the browser waits before it comes back after the connection was lost.
const RETRY: Duration = Duration::from_secs(1);

/// How long somebody waits for the first figures.
const FIRST: Duration = Duration::from_secs(30);

/// How long requests that are still running at the end are waited for.
const GRACE: Duration = Duration::from_secs(2);

/// What the page may do: load its own files, listen to its own events, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// The files of the page: path, kind, text.
const FILES: [(&str, &str, &str); 7] = [
    ("/", HTML, include_str!("page/page.html")),
    ("/page.css", CSS, include_str!("page/page.css")),
    ("/page.js", SCRIPT, include_str!("page/page.js")),
    ("/charts.js", SCRIPT, include_str!("page/charts.js")),
    ("/dom.js", SCRIPT, include_str!("page/dom.js")),
    ("/sections.js", SCRIPT, include_str!("page/sections.js")),
    ("/text.js", SCRIPT, include_str!("page/text.js")),
];
const ICON: (&str, &str, &str) = ("/icon.svg", "image/svg+xml", include_str!("page/icon.svg"));

/// A page that is served. Dropping it ends it without waiting.
pub struct Server {
    url: String,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

struct Gate {
    access: Access,
    port: u16,
}

struct Page {
    board: Board,
    stop: CancellationToken,
}

impl Server {
    /// Serves the page on `address`, to whom `access` lets in, with what is posted on `board`.
    ///
    /// # Errors
    /// If the port cannot be listened on.
    pub async fn start(address: SocketAddr, access: Access, board: Board) -> Result<Self, DashboardError> {
        let listen = |source| DashboardError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let plain = format!("http://{}/", reachable(address));
        let url = match &access {
            Access::Loopback => plain,
            Access::Token(token) => token.address(&plain),
        };
        let stop = CancellationToken::new();
        let page = Arc::new(Page {
            board,
            stop: stop.clone(),
        });
        let gate = Arc::new(Gate {
            access,
            port: address.port(),
        });
        let files = FILES
            .iter()
            .chain([&ICON])
            .fold(Router::new(), |router, (path, kind, text)| {
                router.route(path, get(move || async move { ([(CONTENT_TYPE, *kind)], *text) }))
            });
        let router = files
            .route("/events", get(events))
            .route("/snapshot.json", get(snapshot))
            .method_not_allowed_fallback(|| async {
                (
                    StatusCode::METHOD_NOT_ALLOWED,
                    "This page is only read: ask with GET.\n",
                )
            })
            .fallback(|| async { (StatusCode::NOT_FOUND, "There is only the page, at /.\n") })
            .with_state(page)
            .layer(from_fn_with_state(gate, guard));
        let listener = listener.tap_io(|connection| {
            // Only a matter of latency, so nothing depends on it.
            let _ = connection.set_nodelay(true);
        });
        let serve = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let serving = tokio::spawn(async {
            if let Err(failure) = serve.await {
                tracing::error!(
                    error = &failure as &dyn std::error::Error,
                    "the page is no longer served"
                );
            }
        });
        Ok(Self { url, stop, serving })
    }

    /// Where the page is, with the token if it needs one.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends all connections.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if timeout(GRACE, &mut self.serving).await.is_err() {
            self.serving.abort();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// An address that a browser on this machine can open: where all addresses are listened on, loopback is one of them.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        ip if ip.is_ipv4() => std::net::Ipv4Addr::LOCALHOST.into(),
        _ => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}

/// Lets in whom the gate admits, and says in every answer what it may be used for.
async fn guard(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let mut response = match gate.access.judge(&head, gate.port) {
        Ok(admitted) => {
            let mut response = next.run(Request::from_parts(head, body)).await;
            if let Some(Ok(mut cookie)) = admitted.cookie.map(HeaderValue::try_from) {
                cookie.set_sensitive(true);
                response.headers_mut().insert(SET_COOKIE, cookie);
            }
            response
        }
        Err(refusal) => (refusal.status(), refusal.text()).into_response(),
    };
    protect(response.headers_mut());
    response
}

fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// The latest figures, whole.
async fn snapshot(State(page): State<Arc<Page>>) -> Response {
    let mut reader = page.board.read();
    // What was posted while nobody read may be old.
    if reader
        .latest
        .borrow()
        .as_ref()
        .is_none_or(|posted| posted.at.elapsed() > BEAT)
    {
        let next = tokio::select! {
            next = timeout(FIRST, reader.latest.changed()) => next.is_ok_and(|changed| changed.is_ok()),
            () = page.stop.cancelled() => false,
        };
        if !next {
            let text = "There are no figures yet; ask again in a moment.\n";
            return (StatusCode::SERVICE_UNAVAILABLE, text).into_response();
        }
    }
    let latest = reader.latest.borrow_and_update().clone();
    let figures = latest.map(|posted| message(posted.figures.clone(), &posted));
    axum::response::Response::builder()
        .header(CONTENT_TYPE, "application/json")
        .body(Value::Object(figures.unwrap_or_default()).to_string().into())
        .unwrap_or_default()
}

/// What has changed, as it changes.
async fn events(State(page): State<Arc<Page>>) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let listener = Listener {
        reader: page.board.read(),
        stop: page.stop.clone(),
        sent: None,
        has_begun: false,
    };
    Sse::new(stream::unfold(listener, |mut listener| async move {
        let event = listener.next().await?;
        Some((Ok(event), listener))
    }))
}

/// A page that is open.
struct Listener {
    reader: Reader,
    stop: CancellationToken,
    sent: Option<Arc<Posted>>,
    has_begun: bool,
}

impl Listener {
    /// The next event; `None` at the end.
    async fn next(&mut self) -> Option<Event> {
        if !self.has_begun {
            self.has_begun = true;
            if self.reader.latest.borrow().is_some() {
                self.reader.latest.mark_changed();
            }
            return Some(
                Event::default()
                    .retry(RETRY)
                    .comment("the figures of a Cascade environment"),
            );
        }
        tokio::select! {
            () = self.stop.cancelled() => return None,
            changed = self.reader.latest.changed() => changed.ok()?,
            () = tokio::time::sleep(BEAT) => {}
        }
        let latest = self.reader.latest.borrow_and_update().clone();
        let Some(latest) = latest else {
            return Some(Event::default().comment("no figures yet"));
        };
        let changed = latest.since(self.sent.as_deref());
        let name = if changed.is_empty() { "beat" } else { "figures" };
        let data = Value::Object(message(changed, &latest)).to_string();
        self.sent = Some(latest);
        Some(Event::default().event(name).data(data))
    }
}

/// Sections with what time it was, and how long ago that is.
fn message(mut sections: Map<String, Value>, posted: &Posted) -> Map<String, Value> {
    let age = Instant::now().saturating_duration_since(posted.at);
    sections.insert(
        "age_ms".to_owned(),
        json!(u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
    );
    sections.insert("clock".to_owned(), json!(posted.clocks));
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_is_told_can_be_opened() {
        for (bound, told) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("10.0.0.7:2", "10.0.0.7:2"),
            ("0.0.0.0:3", "127.0.0.1:3"),
            ("[::]:4", "[::1]:4"),
        ] {
            assert_eq!(reachable(bound.parse().unwrap()).to_string(), told);
        }
    }

    #[test]
    fn the_page_names_no_other_host() {
        for (path, _, text) in FILES.iter().chain([&ICON]) {
            let others: Vec<_> = text
                .match_indices("//")
                .filter(|(place, _)| text[..*place].ends_with("http:") || text[..*place].ends_with("https:"))
                .map(|(place, _)| text[place..].chars().take(20).collect::<String>())
                // The name of a language, which nothing is fetched from.
                .filter(|named| !named.starts_with("//www.w3.org/2000/sv"))
                .collect();
            assert!(others.is_empty(), "{path}: {others:?}");
        }
    }
}
