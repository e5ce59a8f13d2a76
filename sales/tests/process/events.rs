//! Events go in by Lambda's runtime API, and answers come out.

use axum::http::StatusCode;
use serde_json::json;

use crate::function::{API_KEY, Function};
use crate::stub::{Stub, VendorReply};
use crate::{CALL, SALE, sales_of};

#[tokio::test]
async fn a_direct_call_answers_as_the_contract_says_and_a_second_one_writes_nothing() {
    // given
    let old = r#"{"id": "a", "transaction_timestamp": "yesterday"}"#;
    let body = sales_of("1235", &[SALE, old]);
    let stub = Stub::start(move |_| VendorReply::ok(body.clone())).await;
    let function = Function::start(&stub);

    // when
    let event = CALL.replace('{', r#"{"run_id": "2026-11-21T01:00:00Z", "#);
    let outcome = stub.invoke("request-1", &event).await;

    // then
    assert!(!outcome.is_error, "{outcome:?}");
    assert_eq!(outcome.request_id, "request-1");
    for (field, value) in [
        ("statusCode", json!(200)),
        ("run_id", json!("2026-11-21T01:00:00Z")),
        ("api_calls", json!(1)),
        ("inserted", json!(1)),
        ("updated", json!(0)),
        ("unchanged", json!(0)),
        ("skipped", json!(0)),
        ("rejected", json!(1)),
        ("enqueued", json!(0)),
        ("failed", json!(0)),
    ] {
        assert_eq!(outcome.body[field], value, "{field} in {}", outcome.body);
    }
    {
        let seen = stub.seen();
        let bearer = format!("Bearer {API_KEY}");
        assert_eq!(
            seen.vendor,
            [("/vendor/sales?employeeID=1235".to_owned(), Some(bearer))]
        );
        let item = seen.item("3972", "1235").unwrap();
        assert_eq!(item["amount"], json!({"N": "12.5"}));
        assert_eq!(item["branch_id"], json!({"S": "1"}));
        assert!(item["last_modified"]["S"].as_str().unwrap().ends_with('Z'));
    }

    // and when it is called again
    let outcome = stub.invoke("request-2", &event).await;

    // then
    assert_eq!(outcome.request_id, "request-2");
    assert_eq!(
        (&outcome.body["inserted"], &outcome.body["unchanged"]),
        (&json!(0), &json!(1))
    );
    function.end().await;
}

#[tokio::test]
async fn the_schedules_event_polls_the_queue_and_deletes_what_is_done() {
    let stub = Stub::start(|_| VendorReply::ok(sales_of("1235", &[SALE]))).await;
    stub.send_messages([r#"{"branch_id": "1", "employee_id": "1235", "first_load": true}"#.to_owned()]);
    let function = Function::start(&stub);
    let event = r#"{"source": "aws.events", "detail-type": "Scheduled Event", "time": "2026-11-21T01:00:00Z"}"#;

    let outcome = stub.invoke("request-1", event).await;

    assert!(!outcome.is_error, "{outcome:?}");
    assert_eq!(outcome.body["run_id"], "2026-11-21T01:00:00Z");
    assert_eq!(
        (&outcome.body["inserted"], &outcome.body["failed"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(stub.seen().deleted, ["receipt-0"]);
    function.end().await;
}

#[tokio::test]
async fn records_are_answered_with_those_that_have_to_come_again() {
    let stub = Stub::start(|_| VendorReply::ok(sales_of("1235", &[SALE]))).await;
    let function = Function::start(&stub);

    let empty = stub.invoke("request-1", r#"{"Records": []}"#).await;
    let record = json!({"Records": [{
        "messageId": "m-1",
        "receiptHandle": "r-1",
        "eventSource": "aws:sqs",
        "body": r#"{"branch_id": "1", "employee_id": "1235"}"#,
    }]});
    let one = stub.invoke("request-2", &record.to_string()).await;

    for outcome in [empty, one] {
        assert!(!outcome.is_error, "{outcome:?}");
        assert_eq!(outcome.body, json!({"batchItemFailures": []}));
    }
    assert_eq!(stub.seen().vendor.len(), 1);
    function.end().await;
}

#[tokio::test]
async fn an_unknown_event_is_an_error_that_says_what_was_expected_and_nothing_is_called() {
    let stub = Stub::start(|_| VendorReply::Silence).await;
    let function = Function::start(&stub);
    for event in [
        r#"{"branches": ["Scranton"]}"#,
        "[]",
        "null",
        r#""sales""#,
        r#"{"employee_id": 1.5}"#,
        r#"{"employee_id": 1235, "lookback_hours": -1}"#,
    ] {
        let outcome = stub.invoke("request-1", event).await;
        assert!(outcome.is_error, "{event}: {outcome:?}");
        assert!(!outcome.body["errorType"].as_str().unwrap().is_empty());
        let message = outcome.body["errorMessage"].as_str().unwrap();
        assert!(message.contains(r#"{"employee_id": 34646"#), "{event}: {message}");
        assert!(message.contains("Records"), "{event}: {message}");
    }
    {
        let seen = stub.seen();
        assert!(seen.vendor.is_empty());
        assert!(seen.aws.is_empty(), "{:?}", seen.aws);
    }
    function.end().await;
}

#[tokio::test]
async fn an_event_that_is_not_json_is_an_error_and_the_next_one_is_served() {
    let stub = Stub::start(|_| VendorReply::ok(sales_of("1235", &[SALE]))).await;
    let function = Function::start(&stub);
    for event in ["{'employee_id': 1235}", ""] {
        let outcome = stub.invoke("request-1", event).await;
        assert!(outcome.is_error, "{event}: {outcome:?}");
    }
    assert!(stub.seen().vendor.is_empty());
    assert_eq!(stub.invoke("request-2", CALL).await.body["inserted"], 1);
    function.end().await;
}

#[tokio::test]
async fn every_digit_of_an_id_and_of_a_number_survives() {
    let (employee, branch) = ("123456789012345678901234567890", "98765432109876543210987654321");
    let sale = r#"{"id": 340282366920938463463374607431768211457, "transaction_timestamp": "2023-01-01 23:43:23",
        "amount": 0.12345678901234567890123456789012345678}"#;
    let body = sales_of(employee, &[sale]);
    let stub = Stub::start(move |_| VendorReply::ok(body.clone())).await;
    let function = Function::start(&stub);

    let event = format!(r#"{{"employee_id": {employee}, "branch_id": {branch}, "lookback_hours": 0}}"#);
    let outcome = stub.invoke("request-1", &event).await;

    assert_eq!(outcome.body["inserted"], 1, "{outcome:?}");
    {
        let seen = stub.seen();
        assert_eq!(seen.vendor[0].0, format!("/vendor/sales?employeeID={employee}"));
        let item = seen.item("340282366920938463463374607431768211457", employee).unwrap();
        assert_eq!(item["branch_id"], json!({"S": branch}));
        let amount = item["amount"]["N"].as_str().unwrap();
        assert_eq!(
            amount.trim_start_matches('0'),
            ".12345678901234567890123456789012345678"
        );
    }
    function.end().await;
}

#[tokio::test]
async fn a_direct_call_whose_work_fails_ends_in_an_error_and_the_next_one_is_served() {
    let stub = Stub::start(|target| match target {
        "/vendor/sales?employeeID=404" => VendorReply::Answer(
            StatusCode::NOT_FOUND,
            format!("{API_KEY} finds no such employee").into(),
        ),
        "/vendor/sales?employeeID=7" => VendorReply::ok(r#"{"result": []}"#),
        _ => VendorReply::ok(sales_of("1235", &[])),
    })
    .await;
    let function = Function::start(&stub);

    let refused = stub.invoke("request-1", r#"{"employee_id": 404}"#).await;
    let malformed = stub.invoke("request-2", r#"{"employee_id": 7}"#).await;
    let done = stub.invoke("request-3", r#"{"employee_id": 1235}"#).await;

    assert!(refused.is_error);
    assert_eq!(
        refused.body["errorMessage"],
        "the vendor answered 404 Not Found: [API_KEY] finds no such employee"
    );
    assert!(malformed.is_error);
    let message = malformed.body["errorMessage"].as_str().unwrap();
    assert!(message.contains("result is not a JSON object"), "{message}");
    assert!(!done.is_error, "{done:?}");
    function.end().await;
}

#[tokio::test]
async fn a_runtime_without_extensions_will_do() {
    let stub = Stub::with_extensions(false, |_| VendorReply::ok(sales_of("1235", &[SALE]))).await;
    let function = Function::start(&stub);
    assert_eq!(stub.invoke("request-1", CALL).await.body["inserted"], 1);
    function.end().await;
}
