//! The function as a process, with a runtime API of the test's own.

use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::{get, post};
use lake::log::Log;
use lake::store::Lake;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::timeout;
use url::Url;

use crate::stage::record;

const PATIENT: Duration = Duration::from_secs(60);

type Events = Arc<Mutex<Vec<String>>>;

/// Gives the events out one by one, and then none.
async fn next(State((events, _)): State<(Events, mpsc::UnboundedSender<(String, String)>)>) -> Response {
    let event = events.lock().unwrap().pop();
    let Some(event) = event else {
        return std::future::pending().await;
    };
    let headers = [
        ("lambda-runtime-aws-request-id", "r-1"),
        ("lambda-runtime-deadline-ms", "600000"),
        (
            "lambda-runtime-invoked-function-arn",
            "arn:aws:lambda:us-east-1:1:function:lake-test",
        ),
    ];
    (AppendHeaders(headers), event).into_response()
}

async fn answered(
    State((_, answers)): State<(Events, mpsc::UnboundedSender<(String, String)>)>,
    Path((_, kind)): Path<(String, String)>,
    body: String,
) -> StatusCode {
    answers.send((kind, body)).unwrap();
    StatusCode::ACCEPTED
}

fn command(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lake"));
    command
        .env_clear()
        .envs([
            ("AWS_LAMBDA_FUNCTION_NAME", "lake-test"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "7"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "example"),
        ])
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn lines(output: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(output);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn given_a_stream_event_then_the_process_writes_it_answers_measures_and_ends_when_it_is_told_to() {
    let directory = tempfile::tempdir().unwrap();
    let url = Url::from_directory_path(directory.path()).unwrap();
    let batch = json!({"Records": [record(Log::Sales, "INSERT", &["1", "7"], json!({"amount": {"N": "5"}}), 1)]});
    let unknown = json!({"branches": []});
    // The last one first.
    let events = Arc::new(Mutex::new(vec![unknown.to_string(), batch.to_string()]));
    let (answers, mut answered_with) = mpsc::unbounded_channel();
    let router = Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/{kind}", post(answered))
        .with_state((events, answers));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async { axum::serve(listener, router).await.unwrap() });

    let variables = [
        ("AWS_LAMBDA_RUNTIME_API", address.as_str()),
        ("APP_ENV", "test"),
        ("LAKE_URL", url.as_str()),
        ("BRANCH_DB", "branch-dev"),
        ("SALESPERSON_DB", "salesperson-dev"),
        ("SALE_DB", "sale-dev"),
    ];
    let child = command(&variables).spawn().unwrap();
    let (kind, answer) = timeout(PATIENT, answered_with.recv()).await.unwrap().unwrap();
    assert_eq!(
        (kind.as_str(), answer.as_str()),
        ("response", r#"{"batchItemFailures":[]}"#)
    );
    let (kind, answer) = timeout(PATIENT, answered_with.recv()).await.unwrap().unwrap();
    assert_eq!(kind, "error");
    assert!(
        answer.contains("the event is not understood: its fields are branches"),
        "{answer}"
    );

    let terminated = Command::new("kill")
        .arg(child.id().unwrap().to_string())
        .status()
        .await
        .unwrap();
    assert!(terminated.success());
    let output = timeout(PATIENT, child.wait_with_output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = lines(&output.stdout);
    let metrics: Vec<_> = lines.iter().filter(|line| line.get("_aws").is_some()).collect();
    assert_eq!(metrics.len(), 2);
    for (name, value) in [
        ("LakeRows", json!(1)),
        ("LakeFiles", json!(1)),
        ("function", json!("lake-test")),
    ] {
        assert_eq!(metrics[0][name], value, "{name}");
    }
    assert_eq!(metrics[0]["environment"], "test");
    let done = lines.iter().find(|line| line["message"] == "invocation done").unwrap();
    assert_eq!((&done["rows"], &done["request_id"]), (&json!(1), &json!("r-1")));
    assert_eq!(Lake::open(&url).unwrap().files(Log::Sales).await.unwrap().len(), 1);
}

#[tokio::test]
async fn given_no_settings_then_one_line_names_all_that_is_missing() {
    let output = command(&[("LAKE_URL", "ftp://x")]).output().await.unwrap();
    assert!(!output.status.success());
    let lines = lines(&output.stdout);
    let reason = lines[0]["reason"].as_str().unwrap();
    for part in [
        "APP_ENV is missing",
        "LAKE_URL is not usable",
        "BRANCH_DB is missing",
        "SALE_DB is missing",
    ] {
        assert!(reason.contains(part), "{part} in {reason}");
    }
}
