//! `cascade dlq` as its user has it: options in; output, exit status and messages out.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use cascade::cloud::{Cloud, CloudOptions, Provisioned};
use cascade::pipeline::depth;
use cascade::state::{Source, State, Wish};
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::lambda::install_tls;
use tempfile::TempDir;
use time::UtcDateTime;
use time::macros::utc_datetime;

use crate::functions::StubLambda;
use crate::{NOT_FOUND, receive_all, send, send_letter};

/// What time it is at the start of every test: so long ago that with `--aws`, where ages are measured by the machine's
/// clock, no letter is newer than that.
const LONG_AGO: UtcDateTime = utc_datetime!(2020-11-21 01:00);

/// Longer than anything here takes, so that what hangs fails.
const PATIENCE: Duration = Duration::from_secs(60);

const SECRET: &str = "s3cr3t-of-the-account";

/// A data directory as a run leaves it, and the command on it.
struct User {
    directory: TempDir,
}

/// A cloud on a data directory, in this process.
struct Held {
    cloud: Cloud,
    places: Provisioned,
    sqs: aws_sdk_sqs::Client,
    clock: Clock,
    state: State,
}

impl Held {
    async fn waiting(&self, url: &str) -> (u64, u64) {
        let depth = depth(&self.sqs, url).await.expect("a depth");
        (depth.waiting, depth.in_flight)
    }

    /// Ends it as a run does, so that the next one goes on from its time.
    async fn end(mut self) {
        self.state.endpoint = None;
        self.state.reach(self.clock.now()).expect("written");
        self.cloud.shutdown().await.expect("closed");
    }
}

impl User {
    fn new() -> Self {
        install_tls();
        let directory = TempDir::new().expect("a directory");
        let wish = Wish {
            seed: Some(71),
            salespersons: Some(2),
            sales: Some(5),
            start: Some(LONG_AGO),
        };
        let state = State::of_simulation(&directory.path().join("data"), wish);
        state.expect("nothing is there").save().expect("written");
        Self { directory }
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Starts a cloud on the data, which nobody else can use until it ends. The command finds it by what the state says.
    async fn hold(&self) -> Held {
        let mut state = State::load(&self.data()).expect("readable").expect("a state");
        let Source::Simulated(simulation) = &state.source else {
            panic!("a simulation")
        };
        let clock = simulation.clock(true);
        let options = CloudOptions {
            data: Some(self.data()),
            address: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            clock: clock.clone(),
        };
        let cloud = Cloud::start(options).await.expect("the directory is free");
        state.endpoint = Some(cloud.endpoint());
        state.save().expect("written");
        Held {
            places: cloud.provision("local").await.expect("tables and queues"),
            sqs: aws_sdk_sqs::Client::new(&cloud.sdk_config()),
            cloud,
            clock,
            state,
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cascade"));
        command
            .arg("dlq")
            .args(arguments)
            .current_dir(self.directory.path())
            .env_remove("API_KEY")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `cascade dlq` on the data directory to its end. It runs beside this test's own cloud.
    async fn dlq(&self, arguments: &[&str]) -> Finished {
        let command = self.command(&[arguments, &["--data", "data"]].concat());
        finish(command).await
    }

    /// Runs `cascade dlq --aws` against a cloud and a Lambda.
    async fn dlq_aws(&self, held: &Held, lambda: &str, arguments: &[&str]) -> Finished {
        finish(self.aws_command(held, lambda, arguments)).await
    }

    fn aws_command(&self, held: &Held, lambda: &str, arguments: &[&str]) -> Command {
        let mut command = self.command(&[arguments, &["--aws", "--environment", "local"]].concat());
        command
            .env("AWS_ENDPOINT_URL_SQS", held.cloud.endpoint())
            .env("AWS_ENDPOINT_URL_LAMBDA", lambda)
            .env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", SECRET)
            .env("AWS_SESSION_TOKEN", SECRET);
        command
    }
}

struct Finished {
    status: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Finished {
    fn of(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    #[track_caller]
    fn assert_status(&self, status: i32) {
        assert_eq!(self.status, Some(status), "{}\n{}", self.stdout, self.stderr);
    }

    #[track_caller]
    fn assert_says(&self, what: &str) {
        assert!(
            self.stdout.contains(what) || self.stderr.contains(what),
            "{what}?\n{}\n{}",
            self.stdout,
            self.stderr
        );
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

async fn finish(mut command: Command) -> Finished {
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(PATIENCE, output).await.expect("it ends");
    Finished::of(output.expect("no panic").expect("it starts"))
}

#[tokio::test]
async fn what_a_dry_run_says_is_done_with_yes() {
    // given
    let user = User::new();
    let held = user.hold().await;
    let url = held.places.employee_dead_letter_queue_url.clone();
    for body in [r#"{"branch_id":"1"}"#, r#"{"branch_id":"2"}"#] {
        send_letter(&held.sqs, &url, body, NOT_FOUND).await;
    }
    held.end().await;

    let list = user.dlq(&["list"]).await;
    list.assert_status(0);
    list.assert_says(NOT_FOUND);
    list.assert_says("2 letters");
    // when
    let dry = user.dlq(&["redrive", "employee", "--older-than", "0s"]).await;
    // then
    dry.assert_status(0);
    dry.assert_says("employee-queue-local");
    dry.assert_says("nothing has been changed");
    dry.assert_says("cascade dlq redrive employee --older-than 0s --data data --yes");
    let list = user.dlq(&["list", "--json"]).await.json();
    let group = &list["groups"][0];
    assert_eq!(
        json!([group["queue"], group["reason"], group["letters"], group["runs"]]),
        json!(["employee", NOT_FOUND, 2, ["2026-11-21T01:00:00Z"]])
    );
    // and when
    let done = user.dlq(&["redrive", "employee", "--older-than", "0s", "--yes"]).await;
    // then
    done.assert_status(0);
    done.assert_says("2 letters redriven.");
    user.dlq(&["list"]).await.assert_says("No dead letters.");
    let held = user.hold().await;
    let bodies: Vec<_> = receive_all(&held.sqs, &held.places.employee_queue_url).await;
    assert_eq!(bodies.len(), 2);
    // As background work, which leaves live work its quota.
    assert_eq!(
        (bodies[0].0.as_str(), bodies[0].1),
        (r#"{"background":true,"branch_id":"1"}"#, 0)
    );
    held.end().await;
}

#[tokio::test]
async fn letters_are_shown_with_their_bodies_in_full_and_nothing_that_steers_a_terminal() {
    let user = User::new();
    let held = user.hold().await;
    let url = held.places.sale_dead_letter_queue_url.clone();
    send_letter(
        &held.sqs,
        &url,
        r#"{"employee_id":123456789012345678901234567890}"#,
        NOT_FOUND,
    )
    .await;
    send_letter(&held.sqs, &url, "no JSON \u{9b}2J", "the vendor said \u{9b}31m").await;
    held.end().await;

    let show = user.dlq(&["show", "sale"]).await;
    show.assert_status(0);
    for line in [
        "run     2026-11-21T01:00:00Z",
        "\"employee_id\": 123456789012345678901234567890",
        "no JSON \\u{9b}2J",
    ] {
        show.assert_says(line);
    }
    assert!(!show.stdout.contains('\u{9b}'), "{}", show.stdout);

    let show = user.dlq(&["show", "--json", "--reason", "404"]).await.json();
    assert_eq!(show["letters"].as_array().map(Vec::len), Some(1));
    let letter = &show["letters"][0];
    assert_eq!(letter["body"], r#"{"employee_id":123456789012345678901234567890}"#);
    assert_eq!(json!([letter["queue"], letter["reason"]]), json!(["sale", NOT_FOUND]));
}

#[tokio::test]
async fn discard_deletes_with_yes_alone_and_only_from_queues_that_are_named() {
    let user = User::new();
    let held = user.hold().await;
    for url in [
        &held.places.employee_dead_letter_queue_url,
        &held.places.sale_dead_letter_queue_url,
    ] {
        send_letter(&held.sqs, url, "{}", NOT_FOUND).await;
    }
    held.end().await;

    user.dlq(&["discard", "--yes"]).await.assert_status(2);
    let dry = user.dlq(&["discard", "sale"]).await;
    dry.assert_status(0);
    dry.assert_says("1 letter would be deleted");
    let list = user.dlq(&["list", "--json"]).await.json();
    assert_eq!(list["groups"].as_array().map(Vec::len), Some(2));
    let done = user.dlq(&["discard", "sale", "--yes", "--json"]).await;
    done.assert_status(0);
    assert_eq!(done.json()["queues"][0]["deleted"], 1);
    let list = user.dlq(&["list", "--json"]).await.json();
    assert_eq!(list["groups"].as_array().map(Vec::len), Some(1));
    assert_eq!(list["groups"][0]["queue"], "employee");
}

#[tokio::test]
async fn without_aws_an_event_is_worked_on_by_the_collector_in_this_process() {
    // given one that can succeed and one that cannot
    let user = User::new();
    let held = user.hold().await;
    let url = held.places.branch_function_dead_letter_queue_url.clone();
    send(
        &held.sqs,
        &url,
        r#"{"branches": ["Scranton"]}"#,
        &[("ErrorMessage", "timed out")],
    )
    .await;
    send(
        &held.sqs,
        &url,
        r#"{"towns": ["Scranton"]}"#,
        &[("ErrorMessage", "not understood")],
    )
    .await;
    held.end().await;
    user.dlq(&["redrive"])
        .await
        .assert_says("the collector of branches, here");
    // when
    let done = user.dlq(&["redrive", "--yes"]).await;
    // then
    done.assert_status(1);
    done.assert_says("1 letter redriven; 1 letter failed");
    done.assert_says("the event is not understood");
    let held = user.hold().await;
    assert_eq!(held.waiting(&url).await, (1, 0));
    assert_eq!(held.waiting(&held.places.employee_queue_url).await, (1, 0));
    held.end().await;
}

#[tokio::test]
async fn while_another_process_has_the_cloud_messages_are_redriven_and_events_stay() {
    // given
    let user = User::new();
    let held = user.hold().await;
    send_letter(&held.sqs, &held.places.sale_dead_letter_queue_url, "{}", NOT_FOUND).await;
    send(&held.sqs, &held.places.sale_function_dead_letter_queue_url, "{}", &[]).await;
    // when
    let dry = user.dlq(&["redrive"]).await;
    let done = user.dlq(&["redrive", "--yes"]).await;
    // then
    dry.assert_status(1);
    dry.assert_says("1 letter would be redriven");
    dry.assert_says("sale-function would stay: another process has the data directory");
    done.assert_status(1);
    done.assert_says("1 letter redriven.");
    done.assert_says("error: sale-function: another process has the data directory");
    assert_eq!(held.waiting(&held.places.sale_dead_letter_queue_url).await, (0, 0));
    assert_eq!(held.waiting(&held.places.sale_queue_url).await, (1, 0));
    assert_eq!(
        held.waiting(&held.places.sale_function_dead_letter_queue_url).await,
        (1, 0)
    );
    // and what is not meant may stay without an error
    for arguments in [
        &["redrive", "--reason", "404"][..],
        &["redrive", "--reason", "404", "--yes"],
    ] {
        user.dlq(arguments).await.assert_status(0);
    }
    held.end().await;
}

#[tokio::test]
async fn on_aws_messages_go_to_their_queue_and_events_to_lambda_and_no_secret_is_told() {
    // given
    let user = User::new();
    let held = user.hold().await;
    send_letter(&held.sqs, &held.places.employee_dead_letter_queue_url, "{}", NOT_FOUND).await;
    send(
        &held.sqs,
        &held.places.employee_function_dead_letter_queue_url,
        r#"{"branch_id":1}"#,
        &[],
    )
    .await;
    let lambda = StubLambda::start(StatusCode::ACCEPTED).await;
    // when
    let dry = user
        .dlq_aws(&held, &lambda.endpoint, &["redrive", "employee", "employee-function"])
        .await;
    // then
    dry.assert_status(0);
    dry.assert_says("employee-queue-local");
    dry.assert_says("salesperson-collector-local");
    dry.assert_says("--aws --environment local --yes");
    assert!(lambda.calls().is_empty());
    // and when
    let done = user
        .dlq_aws(
            &held,
            &lambda.endpoint,
            &["redrive", "employee", "employee-function", "--yes"],
        )
        .await;
    // then
    done.assert_status(0);
    done.assert_says("2 letters redriven.");
    done.assert_says("employee-function: 1 letter handed to Lambda");
    let call = ("salesperson-collector-local", "Event", r#"{"branch_id":1}"#);
    let call = (call.0.to_owned(), call.1.to_owned(), call.2.to_owned());
    assert_eq!(lambda.calls(), [call]);
    assert_eq!(held.waiting(&held.places.employee_queue_url).await, (1, 0));
    // and when an event cannot be sent
    send(
        &held.sqs,
        &held.places.employee_function_dead_letter_queue_url,
        "{}",
        &[],
    )
    .await;
    let refusing = StubLambda::start(StatusCode::FORBIDDEN).await;
    let failed = user
        .dlq_aws(&held, &refusing.endpoint, &["redrive", "employee-function", "--yes"])
        .await;
    // then
    failed.assert_status(1);
    failed.assert_says("error: employee-function: the function salesperson-collector-local was not called");
    assert_eq!(
        held.waiting(&held.places.employee_function_dead_letter_queue_url).await,
        (1, 0)
    );
    for finished in [dry, done, failed] {
        assert!(!finished.stdout.contains(SECRET) && !finished.stderr.contains(SECRET));
    }
    held.end().await;
}

#[tokio::test]
async fn ctrl_c_hands_back_what_is_held() {
    // given
    let user = User::new();
    let held = user.hold().await;
    let (work, dead) = (
        &held.places.employee_queue_url,
        &held.places.employee_dead_letter_queue_url,
    );
    for _ in 0..8 {
        send_letter(&held.sqs, dead, "{}", NOT_FOUND).await;
    }
    let arguments = ["redrive", "employee", "--rate", "1", "--yes", "--data", "data"];
    let mut child = user.command(&arguments).spawn().expect("it starts");
    let began = Instant::now();
    while held.waiting(work).await.0 == 0 {
        assert!(began.elapsed() < PATIENCE, "nothing arrives");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // when
    interrupt(&child);
    // then
    let ended = tokio::task::spawn_blocking(move || {
        child.wait().expect("a child");
        child.wait_with_output().expect("its output")
    });
    let ended = Finished::of(
        tokio::time::timeout(PATIENCE, ended)
            .await
            .expect("it ends")
            .expect("no panic"),
    );
    ended.assert_status(1);
    ended.assert_says("Interrupted");
    let (redriven, _) = held.waiting(work).await;
    assert!(redriven < 8, "{redriven}");
    assert_eq!(held.waiting(dead).await, (8 - redriven, 0));
    held.end().await;
}

#[tokio::test]
async fn ctrl_c_ends_what_waits_for_an_answer_of_aws() {
    // given an AWS that takes connections and says nothing
    let user = User::new();
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let mut command = user.command(&["list", "--aws", "--environment", "local"]);
    command
        .env("AWS_ENDPOINT_URL", endpoint)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", SECRET);
    let mut child = command.spawn().expect("it starts");
    let connection = tokio::time::timeout(PATIENCE, silent.accept()).await;
    let _connection = connection.expect("it asks").expect("a connection");
    // when
    interrupt(&child);
    let began = Instant::now();
    // then
    while child.try_wait().expect("a child").is_none() {
        assert!(began.elapsed() < Duration::from_secs(4), "it waits on");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ended = Finished::of(child.wait_with_output().expect("its output"));
    ended.assert_status(1);
    ended.assert_says("No dead letters were seen");
    ended.assert_says("Interrupted");
}

#[tokio::test]
async fn a_second_ctrl_c_does_not_wait_for_what_is_under_way() {
    // given a Lambda that takes connections and says nothing
    let user = User::new();
    let held = user.hold().await;
    let url = &held.places.sale_function_dead_letter_queue_url;
    send(&held.sqs, url, "{}", &[]).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let mut command = user.aws_command(&held, &endpoint, &["redrive", "sale-function", "--yes"]);
    let mut child = command.spawn().expect("it starts");
    let connection = tokio::time::timeout(PATIENCE, silent.accept()).await;
    let _connection = connection.expect("it asks").expect("a connection");
    // when
    let began = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        assert!(began.elapsed() < Duration::from_secs(10), "it waits on");
        interrupt(&child);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // then
    let ended = Finished::of(child.wait_with_output().expect("its output"));
    ended.assert_status(130);
    ended.assert_says("come back by themselves within 16 minutes");
    assert_eq!(held.waiting(url).await, (0, 1));
    held.end().await;
}

#[tokio::test]
async fn where_the_work_queue_is_gone_a_dry_run_says_so_as_the_redrive_does() {
    let user = User::new();
    let held = user.hold().await;
    let url = &held.places.sale_dead_letter_queue_url;
    send_letter(&held.sqs, url, "{}", NOT_FOUND).await;
    let gone = held.sqs.delete_queue().queue_url(&held.places.sale_queue_url);
    gone.send().await.expect("deleted");
    for arguments in [&["redrive", "sale"][..], &["redrive", "sale", "--yes"]] {
        let refused = user.dlq(arguments).await;
        refused.assert_status(1);
        refused.assert_says("there is no queue sale-queue-local to send them to");
    }
    assert_eq!(held.waiting(url).await, (1, 0));
    held.end().await;
}

fn interrupt(child: &Child) {
    let kill = format!("kill -INT {}", child.id());
    let sent = Command::new("sh").args(["-c", &kill]).status().expect("a shell");
    assert!(sent.success(), "{kill}");
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_what_was_expected() {
    let user = User::new();
    for (arguments, said) in [
        (
            &["list", "employees"][..],
            "possible values: employee, sale, branch-function",
        ),
        (&["list", "--older-than", "2"], "such as 90s, 2h"),
        (&["redrive", "--rate", "0"], "expected a whole number from 1"),
        (&["show", "--limit", "0"], "expected a whole number from 1"),
        (
            &["list", "--environment", "nowhere"],
            "employee-workload-dead-letter-queue-nowhere",
        ),
    ] {
        let refused = user.dlq(arguments).await;
        refused.assert_status(2);
        refused.assert_says(said);
    }
    let nothing = finish(user.command(&["list", "--data", "elsewhere"])).await;
    nothing.assert_status(2);
    nothing.assert_says("there has been no run yet");
    finish(user.command(&["list", "--aws"]))
        .await
        .assert_says("--environment <NAME>");
}
