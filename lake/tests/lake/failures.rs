//! What is not understood, and what cannot be written.

use std::sync::Arc;

use lake::handler::Reason;
use lake::log::Log;
use object_store::memory::InMemory;
use serde_json::{Value, json};

use crate::compaction::Failing;
use crate::stage::{Stage, record, record_at};
use time::macros::utc_datetime;

fn sale(sequence: u64) -> Value {
    record(Log::Sales, "INSERT", &[&sequence.to_string(), "7"], json!({}), sequence)
}

#[tokio::test]
async fn given_a_record_that_is_not_understood_then_all_before_it_is_durable_and_it_is_handed_back() {
    let stage = Stage::new();
    let mut bad = sale(3);
    bad["dynamodb"]["NewImage"]["amount"] = json!({"N": "a lot"});
    let handled = stage.call(&json!({"Records": [sale(1), sale(2), bad, sale(4)]})).await;
    assert_eq!(
        handled.answer.unwrap(),
        json!({"batchItemFailures": [{"itemIdentifier": "3"}]})
    );
    assert!(matches!(handled.failure.unwrap().reason, Reason::Unreadable(_)));
    assert_eq!(
        (handled.counts.records, handled.counts.rows, handled.counts.refused),
        (4, 2, 1)
    );
    assert_eq!(stage.rows(Log::Sales).await.len(), 2);
    // The same again, as Lambda sends it from there, and then what follows.
    let again = stage.call(&json!({"Records": [bad_of(3)]})).await;
    assert_eq!(
        again.answer.unwrap(),
        json!({"batchItemFailures": [{"itemIdentifier": "3"}]})
    );
    stage.deliver(&[sale(4)]).await;
    assert_eq!(stage.rows(Log::Sales).await.len(), 3);
}

fn bad_of(sequence: u64) -> Value {
    let mut bad = sale(sequence);
    bad["eventName"] = json!("PURGE");
    bad
}

#[tokio::test]
async fn given_a_stream_of_a_table_that_it_is_not_told_of_then_its_record_is_handed_back_by_name() {
    let stage = Stage::new();
    let mut other = sale(1);
    other["eventSourceARN"] = json!("arn:aws:dynamodb:us-east-1:1:table/sale-prod/stream/1");
    let handled = stage.call(&json!({ "Records": [other] })).await;
    let reason = handled.failure.unwrap().reason.to_string();
    assert!(
        reason.contains("table/sale-prod/stream/1\" is that of no table that the lake is told of"),
        "{reason}"
    );
}

#[tokio::test]
async fn given_a_record_that_cannot_be_handed_back_then_the_invocation_fails_after_what_was_before_it() {
    let stage = Stage::new();
    let mut nameless = sale(2);
    nameless["dynamodb"].as_object_mut().unwrap().remove("SequenceNumber");
    let handled = stage.call(&json!({"Records": [sale(1), nameless]})).await;
    let error = handled.answer.unwrap_err().to_string();
    assert_eq!(error, "record 1 has no SequenceNumber by which it could be handed back");
    assert_eq!(stage.rows(Log::Sales).await.len(), 1);
}

#[tokio::test]
async fn given_a_store_that_does_not_write_then_everything_is_handed_back_and_comes_again() {
    let objects = Arc::new(Failing::over(InMemory::new()));
    let stage = Stage::over(objects.clone());
    objects.fail_after(0);
    let handled = stage.call(&json!({"Records": [sale(1), sale(2)]})).await;
    assert_eq!(
        handled.answer.unwrap(),
        json!({"batchItemFailures": [{"itemIdentifier": "1"}]})
    );
    assert!(matches!(handled.failure.unwrap().reason, Reason::Lake(_)));
    assert_eq!((handled.counts.failed, handled.counts.rows), (2, 0));
    objects.mend();
    stage.deliver(&[sale(1), sale(2)]).await;
    assert_eq!(stage.rows(Log::Sales).await.len(), 2);
}

#[tokio::test]
async fn given_one_file_of_two_that_is_not_written_then_the_first_record_of_that_one_is_handed_back() {
    let objects = Arc::new(Failing::over(InMemory::new()));
    let stage = Stage::over(objects.clone());
    let yesterday = utc_datetime!(2026-11-20 12:00);
    let late = record_at(Log::Sales, "INSERT", &["1", "7"], json!({}), 1, yesterday);
    objects.fail_after(1);
    let handled = stage.call(&json!({"Records": [late, sale(2), sale(3)]})).await;
    assert_eq!(
        handled.answer.unwrap(),
        json!({"batchItemFailures": [{"itemIdentifier": "2"}]})
    );
    assert_eq!(handled.counts.rows, 1);
}

#[tokio::test]
async fn given_a_state_table_that_is_down_then_rows_are_written_without_their_run() {
    let stage = Stage::new();
    stage.state.fail(true);
    let mut new = sale(1);
    new["dynamodb"]["NewImage"]["gift"] = json!({"BOOL": true});
    let handled = stage.call(&json!({ "Records": [new] })).await;
    assert_eq!(handled.answer.unwrap(), json!({"batchItemFailures": []}));
    // For the runs, and for the attributes.
    assert_eq!((handled.counts.state_failures, handled.counts.new_attributes), (2, 1));
    assert_eq!(stage.rows(Log::Sales).await[0]["run_id"], None);
}

#[tokio::test]
async fn a_new_attribute_and_a_value_that_does_not_fit_are_counted_and_kept() {
    let stage = Stage::new();
    let record = |sequence: u64| {
        let image = json!({"gift": {"BOOL": true}, "amount": {"S": "a lot"}, "note": {"NULL": true}});
        record(Log::Sales, "INSERT", &["1", "7"], image, sequence)
    };
    let first = stage.call(&json!({"Records": [record(1)]})).await.counts;
    // The amount is of another type than its column, as well.
    assert_eq!((first.new_attributes, first.unfit_values), (2, 1));
    let second = stage.call(&json!({"Records": [record(2)]})).await.counts;
    assert_eq!((second.new_attributes, second.unfit_values), (0, 1));
    let row = &stage.rows(Log::Sales).await[0];
    assert_eq!(row["amount"], None);
    assert_eq!(
        row["attributes"].as_deref(),
        Some(r#"{"amount":"a lot","gift":true,"note":null}"#)
    );
}

#[tokio::test]
async fn another_event_is_an_error_and_writes_nothing() {
    let stage = Stage::new();
    let handled = stage.call(&json!({"branches": ["Scranton"]})).await;
    let error = handled.answer.unwrap_err().to_string();
    assert!(
        error.starts_with("the event is not understood: its fields are branches; expected the records"),
        "{error}"
    );
}
