//! `cascade dashboard` and the page of `cascade up` as their user has them.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use reqwest::Url;
use serde_json::{Value, json};
use shared::lambda::install_tls;
use tempfile::TempDir;

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// A small world.
const SMALL: [&str; 6] = ["--salespersons", "1", "--sales", "2", "--start", "2026-11-21T01:00:00Z"];

struct User {
    directory: TempDir,
}

/// A command that is running; it is killed when this is dropped.
struct Started {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    said: String,
}

impl User {
    fn new() -> Self {
        install_tls();
        Self {
            directory: TempDir::new().expect("a directory"),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cascade"));
        command
            .args(arguments)
            .args(["--data", "data"])
            .current_dir(self.directory.path())
            .env_remove("API_KEY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    async fn finish(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        let running = tokio::task::spawn_blocking(move || command.output().expect("it starts"));
        tokio::time::timeout(PATIENCE, running)
            .await
            .expect("in time")
            .expect("an output")
    }

    fn start(&self, arguments: &[&str]) -> Started {
        Started::of(self.command(arguments))
    }

    /// Starts `cascade dashboard --aws` where the AWS environment leads to an embedded cloud.
    fn start_aws(&self, endpoint: &str) -> Started {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cascade"));
        command
            .args([
                "dashboard",
                "--aws",
                "--environment",
                "local",
                "--quota",
                "50",
                "--port",
                "0",
            ])
            .current_dir(self.directory.path())
            .env("AWS_ENDPOINT_URL", endpoint)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Started::of(command)
    }

    async fn status(&self) -> Value {
        let finished = self.finish(&["status", "--json"]).await;
        serde_json::from_slice(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
    }
}

impl Started {
    fn of(mut command: Command) -> Self {
        let mut child = command.spawn().expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        Self {
            child,
            output,
            said: String::new(),
        }
    }

    /// The address of the page, once it is told.
    fn page(&mut self) -> Url {
        loop {
            let start = self.said.len();
            let read = self.output.read_line(&mut self.said).expect("text");
            assert!(read > 0, "it ended: {}", self.said);
            if let Some(address) = self.said[start..].strip_prefix("The page is at ") {
                return Url::parse(address.trim()).expect("a URL");
            }
        }
    }

    /// Ends it as Ctrl-C does, and answers its status.
    async fn interrupt(mut self) -> Option<i32> {
        let kill = format!("kill -INT {}", self.child.id());
        let sent = Command::new("sh").args(["-c", &kill]).status().expect("a shell");
        assert!(sent.success());
        let ended = tokio::task::spawn_blocking(move || {
            let status = self.child.wait().expect("a child").code();
            let mut rest = String::new();
            self.output.read_to_string(&mut rest).expect("text");
            status
        });
        tokio::time::timeout(PATIENCE, ended)
            .await
            .expect("in time")
            .expect("a status")
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn snapshot(page: &Url) -> Value {
    let url = page.join("/snapshot.json").expect("a URL");
    let text = reqwest::get(url).await.expect("an answer").text().await.expect("text");
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_of_data_that_nobody_uses_shows_the_last_run_and_what_status_prints() {
    let user = User::new();
    let run = user.finish(&[&["run"], &SMALL[..]].concat()).await;
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let before = user.status().await;

    let mut dashboard = user.start(&["dashboard", "--port", "0"]);
    let page = dashboard.page();
    let shown = snapshot(&page).await;
    assert_eq!(shown["problem"], Value::Null);
    assert_eq!(shown["status"], before);
    let run = &shown["runs"][0];
    assert_eq!(
        (&run["state"], &run["salespersons"]),
        (&json!("complete"), &json!([13, 13]))
    );
    assert_eq!(run["rows"]["sale"]["inserted"], 26);
    assert_eq!(shown["branches"].as_array().map(Vec::len), Some(13));
    assert_eq!(shown["quota"]["limit"], 240);
    // Others find the data through it.
    assert_eq!(user.status().await, before);
    assert_eq!(dashboard.interrupt().await, Some(0));
    assert_eq!(user.status().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_page_shows_what_the_running_cloud_holds() {
    let user = User::new();
    let ports = [
        "--port",
        "0",
        "--vendor-port",
        "0",
        "--dashboard-port",
        "0",
        "--no-schedule",
    ];
    let mut up = user.start(&[&["up"], &ports[..], &SMALL[..]].concat());
    let own = up.page();
    let mut dashboard = user.start(&["dashboard", "--port", "0"]);
    let second = dashboard.page();
    assert_ne!(own.port(), second.port());
    let (shown, also) = (snapshot(&own).await, snapshot(&second).await);
    assert_eq!(shown["status"], also["status"]);
    assert_eq!(shown["status"], user.status().await);
    assert_eq!(dashboard.interrupt().await, Some(0));
    assert_eq!(up.interrupt().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_aws_the_page_is_refreshed_slower_and_says_what_that_costs() {
    let user = User::new();
    let run = user.finish(&[&["run"], &SMALL[..]].concat()).await;
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let ports = [
        "--port",
        "0",
        "--vendor-port",
        "0",
        "--dashboard-port",
        "0",
        "--no-schedule",
    ];
    let mut up = user.start(&[&["up"], &ports[..]].concat());
    up.page();
    let state: Value =
        serde_json::from_slice(&std::fs::read(user.directory.path().join("data/state.json")).expect("a state"))
            .expect("JSON");
    let mut dashboard = user.start_aws(state["endpoint"].as_str().expect("an endpoint"));
    let page = dashboard.page();
    let mut told = String::new();
    dashboard.output.read_line(&mut told).expect("text");
    assert!(told.contains("AWS is asked about 62 times a minute"), "{told}");
    let shown = snapshot(&page).await;
    assert_eq!(shown["problem"], Value::Null);
    let place = json!({"environment": "local", "site": "aws", "version": env!("CARGO_PKG_VERSION"),
        "every_seconds": 10, "requests_a_minute": 62});
    assert_eq!(shown["place"], place);
    assert_eq!(
        (&shown["runs"][0]["state"], &shown["quota"]["limit"]),
        (&json!("complete"), &json!(50))
    );
    assert_eq!(dashboard.interrupt().await, Some(0));
    assert_eq!(up.interrupt().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_loopback_the_token_is_told_once_and_logged_nowhere() {
    let user = User::new();
    let ports = [
        "--port",
        "0",
        "--vendor-port",
        "0",
        "--dashboard-port",
        "0",
        "--no-schedule",
        "--bind",
        "0.0.0.0",
    ];
    let mut up = user.start(&[&["up"], &ports[..], &SMALL[..]].concat());
    let page = up.page();
    let (_, token) = page.query_pairs().find(|(name, _)| name == "token").expect("a token");
    let mut plain = page.clone();
    plain.set_query(None);
    assert_eq!(reqwest::get(plain).await.expect("an answer").status(), 401);
    assert_eq!(reqwest::get(page.clone()).await.expect("an answer").status(), 200);
    assert_eq!(up.interrupt().await, Some(0));
    let log = std::fs::read_to_string(user.directory.path().join("data/log.jsonl")).expect("a log");
    assert!(!log.contains(&*token));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_nothing_to_show_it_is_said_what_makes_something() {
    let user = User::new();
    let finished = user.finish(&["dashboard", "--port", "0"]).await;
    let said = String::from_utf8_lossy(&finished.stderr).into_owned();
    assert_eq!(finished.status.code(), Some(2), "{said}");
    assert!(said.contains("there has been no run yet"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_served_is_said_with_what_would_do() {
    let user = User::new();
    for (option, value, wanted) in [
        ("--every", "0", "from 1"),
        ("--bind", "localhost", "invalid IP address"),
        ("--quota", "50", "--aws"),
    ] {
        let finished = user.finish(&["dashboard", "--port", "0", option, value]).await;
        let said = String::from_utf8_lossy(&finished.stderr).into_owned();
        assert_eq!(finished.status.code(), Some(2), "{said}");
        assert!(said.contains(wanted), "{said}");
    }
}
