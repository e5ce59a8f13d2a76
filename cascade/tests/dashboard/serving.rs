//! The page over HTTP: its files, its events, and who gets them.

use std::net::SocketAddr;
use std::time::Duration;

use cascade::dashboard::{Access, Board, Clocks, Posted, Server};
use reqwest::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HOST, ORIGIN, SET_COOKIE};
use reqwest::{Client, Response, StatusCode, Url};
use serde_json::{Value, json};
use shared::lambda::install_tls;
use tokio::time::{Instant, timeout};

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(30);

fn client() -> Client {
    install_tls();
    Client::new()
}

async fn serve(address: &str, board: &Board) -> Server {
    let address: SocketAddr = address.parse().expect("an address");
    Server::start(address, Access::of(address.ip()), board.clone())
        .await
        .expect("a port")
}

fn post(board: &Board, figures: Value) {
    let Value::Object(figures) = figures else {
        panic!("no object")
    };
    board.post(Posted {
        figures,
        clocks: Clocks::default(),
        at: Instant::now(),
    });
}

async fn get(url: &str, path: &str) -> Response {
    let url = Url::parse(url).and_then(|url| url.join(path)).expect("a URL");
    client().get(url).send().await.expect("an answer")
}

/// The events of a connection.
struct Events {
    response: Response,
    text: String,
}

impl Events {
    async fn open(url: &str) -> Self {
        Self {
            response: get(url, "/events").await,
            text: String::new(),
        }
    }

    /// The lines of the next event; `None` at the end.
    async fn next(&mut self) -> Option<Vec<String>> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let lines = event.lines().map(str::to_owned).collect();
                self.text = rest.to_owned();
                return Some(lines);
            }
            let chunk = timeout(PATIENCE, self.response.chunk())
                .await
                .expect("in time")
                .ok()??;
            self.text.push_str(std::str::from_utf8(&chunk).expect("text"));
        }
    }

    /// The name and the data of the next event.
    async fn named(&mut self) -> (String, Value) {
        let lines = self.next().await.expect("an event");
        let after = |start: &str| lines.iter().find_map(|line| line.strip_prefix(start)).expect("a field");
        let data = serde_json::from_str(after("data: ")).expect("JSON");
        (after("event: ").to_owned(), data)
    }
}

#[tokio::test]
async fn the_page_is_its_own_files_under_a_policy_that_admits_no_others() {
    let server = serve("127.0.0.1:0", &Board::default()).await;
    let page = get(server.url(), "/").await;
    assert_eq!(page.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
    let text = page.text().await.expect("text");
    let named = text.split('"').filter(|part| part.starts_with('/'));
    let mut files: Vec<_> = named.map(str::to_owned).collect();
    files.extend(["/charts.js", "/dom.js", "/sections.js", "/text.js"].map(str::to_owned));
    assert!(files.len() >= 7, "{files:?}");
    for file in files {
        let response = get(server.url(), &file).await;
        assert_eq!(response.status(), StatusCode::OK, "{file}");
        let policy = response.headers()[CONTENT_SECURITY_POLICY].to_str().expect("text");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; "),
            "{policy}"
        );
        assert!(
            !policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
    }
    let scripts = text.matches("<script").count();
    assert_eq!(
        text.matches("<script type=\"module\" src=\"/").count(),
        scripts,
        "no inline script"
    );
    assert!(!text.contains("style=") && !text.contains("<style"), "no inline style");
    assert_eq!(get(server.url(), "/nothing").await.status(), StatusCode::NOT_FOUND);
    let posted = client().post(server.url()).send().await.expect("an answer");
    assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn events_bring_everything_once_and_then_what_has_changed() {
    let board = Board::default();
    let server = serve("127.0.0.1:0", &board).await;
    post(&board, json!({"status": {"rows": 1}, "runs": []}));
    let mut events = Events::open(server.url()).await;
    assert_eq!(events.response.headers()[CONTENT_TYPE], "text/event-stream");
    let first = events.next().await.expect("an event");
    assert!(first.contains(&"retry: 1000".to_owned()), "{first:?}");

    let (name, data) = events.named().await;
    assert_eq!(
        (name.as_str(), &data["status"], &data["runs"]),
        ("figures", &json!({"rows": 1}), &json!([]))
    );
    assert!(data["age_ms"].is_u64() && data["clock"]["now"].is_string(), "{data}");

    post(&board, json!({"status": {"rows": 2}, "runs": []}));
    let (name, data) = events.named().await;
    assert_eq!(
        (name.as_str(), &data["status"], data.get("runs")),
        ("figures", &json!({"rows": 2}), None)
    );

    post(&board, json!({"status": {"rows": 2}, "runs": []}));
    let (name, data) = events.named().await;
    assert_eq!((name.as_str(), data.get("status")), ("beat", None));
    assert!(data["age_ms"].is_u64(), "{data}");
}

#[tokio::test]
async fn whoever_listens_counts_as_a_reader_until_he_goes_and_the_end_of_the_server_ends_his_events() {
    let board = Board::default();
    let server = serve("127.0.0.1:0", &board).await;
    let mut events = Events::open(server.url()).await;
    events.next().await.expect("an event");
    assert_eq!(board.readers(), 1);
    let address = server.url().to_owned();
    timeout(PATIENCE, server.shutdown()).await.expect("in time");
    assert_eq!(events.next().await, None);
    assert_eq!(board.readers(), 0);
    // And the port is free for the next one.
    let url = Url::parse(&address).expect("a URL");
    let again = serve(&format!("127.0.0.1:{}", url.port().expect("a port")), &board).await;
    assert_eq!(again.url(), address);
}

#[tokio::test]
async fn the_snapshot_is_the_latest_figures_whole() {
    let board = Board::default();
    let server = serve("127.0.0.1:0", &board).await;
    post(&board, json!({"status": {"rows": 1}, "runs": []}));
    let text = get(server.url(), "/snapshot.json").await.text().await.expect("text");
    let snapshot: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (&snapshot["status"], &snapshot["runs"]),
        (&json!({"rows": 1}), &json!([]))
    );
    assert_eq!(board.readers(), 0);
}

#[tokio::test]
async fn on_loopback_another_name_and_another_sites_page_are_refused() {
    let board = Board::default();
    let server = serve("127.0.0.1:0", &board).await;
    let refused = client()
        .get(server.url())
        .header(HOST, "rebound.example")
        .send()
        .await
        .expect("an answer");
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(refused.text().await.expect("text").contains("http://localhost"));
    let events = format!("{}events", server.url());
    let refused = client()
        .get(events)
        .header(ORIGIN, "https://example.com")
        .send()
        .await
        .expect("an answer");
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert_eq!(board.readers(), 0);
}

#[tokio::test]
async fn elsewhere_the_token_in_the_address_opens_the_page_and_a_cookie_the_rest() {
    let board = Board::default();
    let server = serve("0.0.0.0:0", &board).await;
    post(&board, json!({"runs": []}));
    let (plain, token) = server.url().split_once("?token=").expect("a token");
    for path in [
        "/",
        "/page.js",
        "/events",
        "/snapshot.json",
        "/?token=guessed",
        "/nothing",
    ] {
        let refused = get(plain, path).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert!(refused.headers().get(SET_COOKIE).is_none());
        let text = refused.text().await.expect("text");
        assert!(
            text.starts_with("This page needs its token") && !text.contains(token),
            "{text}"
        );
    }
    let page = get(server.url(), "").await;
    assert_eq!(page.status(), StatusCode::OK);
    let cookie = page.headers()[SET_COOKIE].to_str().expect("text").to_owned();
    let (pair, attributes) = cookie.split_once(';').expect("attributes");
    assert!(
        attributes.contains("HttpOnly") && attributes.contains("SameSite=Strict"),
        "{attributes}"
    );
    let snapshot = client()
        .get(format!("{plain}snapshot.json"))
        .header(COOKIE, pair)
        .send()
        .await;
    assert_eq!(snapshot.expect("an answer").status(), StatusCode::OK);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_with_what_to_do() {
    let board = Board::default();
    let server = serve("127.0.0.1:0", &board).await;
    let port = Url::parse(server.url()).expect("a URL").port().expect("a port");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let failure = Server::start(address, Access::Loopback, board)
        .await
        .err()
        .expect("taken");
    let said = failure.to_string();
    assert!(
        said.contains(&address.to_string()) && said.contains("another port"),
        "{said}"
    );
}

#[tokio::test]
async fn an_address_of_no_machine_here_is_named_with_those_that_would_do() {
    // An address of the documentation's.
    let address = SocketAddr::from(([203, 0, 113, 9], 0));
    let failure = Server::start(address, Access::Loopback, Board::default()).await;
    let said = failure.err().expect("no address of this machine").to_string();
    assert!(said.contains("203.0.113.9") && said.contains("0.0.0.0"), "{said}");
}

#[tokio::test]
async fn other_paths_and_other_methods_are_told_what_there_is() {
    let server = serve("127.0.0.1:0", &Board::default()).await;
    let missing = get(server.url(), "nowhere").await;
    assert_eq!(missing.status(), StatusCode::NOT_FOUND);
    assert!(missing.text().await.expect("text").contains("the page, at /"));
    for path in ["", "events", "snapshot.json"] {
        let posted = client().post(format!("{}{path}", server.url())).send().await;
        let posted = posted.expect("an answer");
        assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert!(posted.text().await.expect("text").contains("GET"));
    }
}
