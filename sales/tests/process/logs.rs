//! What the function writes to its standard output. That every line is an object, and that no secret is in any of them,
//! is checked wherever a function ends.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::function::{Ended, Function};
use crate::stub::{Stub, VendorReply};
use crate::{CALL, SALE, sales_of};

const EVENT: &str = r#"{"run_id": "2026-11-21T01:00:00Z", "employee_id": 1235, "lookback_hours": 0}"#;

/// What a function leaves behind that met a bad record, then a vendor that repeats the key, at a level.
async fn log_at(level: &str) -> Ended {
    let body = sales_of("1235", &[SALE, r#"{"id": 3973}"#]);
    let stub = Stub::start(move |target| match target {
        "/vendor/sales?employeeID=1235" => VendorReply::ok(body.clone()),
        _ => VendorReply::Answer(
            StatusCode::UNAUTHORIZED,
            format!("{} is no key", crate::function::API_KEY).into(),
        ),
    })
    .await;
    let function = Function::start_with(&stub, &[("LOGGING_LEVEL", Some(level))]);
    assert_eq!(stub.invoke("request-1", EVENT).await.body["rejected"], 1);
    assert!(stub.invoke("request-2", r#"{"employee_id": 1}"#).await.is_error);
    function.end().await
}

fn about_first(line: &Value) {
    for (field, value) in [
        ("function", "sale-collector-test"),
        ("version", "7"),
        ("request_id", "request-1"),
        ("run_id", "2026-11-21T01:00:00Z"),
    ] {
        assert_eq!(line[field], value, "{field} in {line}");
    }
    assert!(line["timestamp"].is_string());
}

#[tokio::test]
async fn log_lines_tell_function_version_request_and_run() {
    let ended = log_at("INFO").await;

    let rejected = ended.saying("record rejected");
    assert_eq!(rejected.len(), 1);
    about_first(rejected[0]);
    assert_eq!(
        (&rejected[0]["level"], &rejected[0]["record"]),
        (&json!("WARN"), &json!("3973"))
    );
    assert!(
        rejected[0]["reason"]
            .as_str()
            .unwrap()
            .contains("transaction_timestamp")
    );

    let done = ended.saying("invocation done");
    assert_eq!(done.len(), 1);
    about_first(done[0]);
    for (count, value) in [("inserted", 1), ("rejected", 1), ("api_calls", 1), ("failed", 0)] {
        assert_eq!(done[0][count], value, "{count} in {}", done[0]);
    }

    let failed = ended.saying("invocation failed");
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["request_id"], "request-2");
    assert!(failed[0]["reason"].as_str().unwrap().contains("401 Unauthorized"));
}

#[tokio::test]
async fn lines_about_a_message_carry_its_ids_and_its_run() {
    let stub = Stub::start(|_| VendorReply::ok(sales_of("1235", &[r#"{"id": 3973}"#]))).await;
    let body = r#"{"branch_id": "1", "employee_id": "1235", "run_id": "2026-11-21T00:00:00Z"}"#;
    stub.send_messages([body.to_owned()]);
    let function = Function::start(&stub);
    let outcome = stub.invoke("request-1", r#"{"run_id": "2026-11-21T01:00:00Z"}"#).await;
    assert_eq!(outcome.body["run_id"], "2026-11-21T01:00:00Z");

    let ended = function.end().await;

    let rejected = ended.saying("record rejected");
    assert_eq!(rejected.len(), 1);
    for (field, value) in [
        ("run_id", "2026-11-21T00:00:00Z"),
        ("branch_id", "1"),
        ("employee_id", "1235"),
        ("message_id", "message-0"),
        ("request_id", "request-1"),
    ] {
        assert_eq!(rejected[0][field], value, "{field}");
    }
    about_first(ended.saying("invocation done")[0]);
}

#[tokio::test]
async fn each_invocation_leaves_one_line_of_metrics() {
    let ended = log_at("INFO").await;
    let metrics = ended.metrics();
    assert_eq!(metrics.len(), 2);
    for line in &metrics {
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], "Cascade");
        assert_eq!(directive["Dimensions"], json!([["function", "environment"]]));
        assert_eq!(
            (&line["function"], &line["environment"]),
            (&json!("sale-collector-test"), &json!("test"))
        );
        assert!(line["_aws"]["Timestamp"].as_i64().unwrap() > 1_700_000_000_000);
        let names: Vec<_> = directive["Metrics"]
            .as_array()
            .unwrap()
            .iter()
            .map(|metric| &metric["Name"])
            .collect();
        for name in [
            "RecordsInserted",
            "RecordsUpdated",
            "RecordsUnchanged",
            "RecordsSkipped",
            "RecordsRejected",
            "MessagesDone",
            "MessagesFailed",
            "MessagesDeadLettered",
            "ApiCalls",
            "ApiThrottles",
            "QuotaWait",
        ] {
            assert!(names.contains(&&json!(name)), "{name}");
            assert!(line[name].is_number(), "{name} in {line}");
        }
    }
    let of_first = metrics.iter().find(|line| line["request_id"] == "request-1").unwrap();
    for (name, value) in [("RecordsInserted", 1), ("RecordsRejected", 1), ("ApiCalls", 1)] {
        assert_eq!(of_first[name], value, "{name}");
    }
}

#[tokio::test]
async fn a_level_silences_what_is_below_it() {
    let ended = log_at("ERROR").await;
    let levels: Vec<_> = ended.lines.iter().filter_map(|line| line.get("level")).collect();
    assert!(!levels.is_empty());
    assert!(levels.iter().all(|level| *level == "ERROR"), "{levels:?}");
    assert_eq!(ended.metrics().len(), 2);
}

#[tokio::test]
async fn no_secret_is_told_at_the_most_talkative_level() {
    let ended = log_at("TRACE").await;
    assert!(ended.lines.iter().any(|line| line["level"] == "TRACE"));
    about_first(ended.saying("invocation done")[0]);
}

#[tokio::test]
async fn an_event_is_served_where_nothing_is_said_of_its_run() {
    let stub = Stub::start(|_| VendorReply::ok(sales_of("1235", &[SALE]))).await;
    let function = Function::start(&stub);
    let run_id = stub.invoke("request-1", CALL).await.body["run_id"].clone();
    let ended = function.end().await;
    assert_eq!(ended.saying("invocation done")[0]["run_id"], run_id);
    assert_eq!(ended.metrics()[0]["run_id"], run_id);
}
