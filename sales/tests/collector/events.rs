//! What starts the collector, what it answers, and which sales it then looks at.

use std::time::Duration;

use sales::lookback::Lookback;
use serde_json::json;
use shared::vendor::FetchError;
use shared::vendor::scripted::Reply;

use super::*;

const POLL: &str = include_str!("../../../events/poll.json");
const DIRECT: &str = include_str!("../../../events/sale.json");
const DIRECT_ALL: &str = include_str!("../../../events/sale-all.json");
const RECORDS: &str = include_str!("../../../events/sales-sqs.json");
const FIRST_LOAD: &str = include_str!("../../../events/sales-first-load.json");

/// Sales of an hour ago, of just within a day, of just over a day, and of long ago.
fn aged_sales() -> Vec<String> {
    [
        ("1", "2026-11-21 00:00:00"),
        ("2", "2026-11-20 01:02:04"),
        ("3", "2026-11-20 01:02:03"),
        ("4", "1949-03-01 09:00:00"),
    ]
    .map(|(id, booked)| sale(id, booked, ""))
    .into()
}

/// A vendor that answers sales of all ages for employees 1235, 34646 and 34647.
fn world() -> World {
    let world = World::new();
    let sales = aged_sales();
    let sales: Vec<_> = sales.iter().map(String::as_str).collect();
    for employee_id in ["1235", "34646", "34647"] {
        world.vendor.says(sales_of(employee_id), answer(employee_id, &sales));
    }
    world
}

#[tokio::test(start_paused = true)]
async fn a_poll_writes_the_recent_sales_of_its_messages_and_counts_the_others() {
    let world = world();
    world.queue.put(MESSAGE);

    let answer = world.answer(POLL).await;

    for (field, value) in [
        ("statusCode", json!(200)),
        ("run_id", json!("2026-11-21T01:01:00Z")),
        ("api_calls", json!(1)),
        ("inserted", json!(2)),
        ("updated", json!(0)),
        ("unchanged", json!(0)),
        ("skipped", json!(2)),
        ("rejected", json!(0)),
        ("enqueued", json!(0)),
        ("failed", json!(0)),
    ] {
        assert_eq!(answer[field], value, "{field}");
    }
    assert_eq!(world.sale_ids(), ["1", "2"]);
    assert!(world.queue.bodies().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_lookback_ends_at_the_time_the_answer_was_fetched_not_before() {
    let world = World::new();
    let edge = [
        sale("1", "2026-11-20 01:02:04", ""),
        sale("2", "2026-11-20 01:02:03", ""),
    ];
    world
        .vendor
        .says(sales_of("1235"), answer("1235", &[&edge[0], &edge[1]]));
    world.queue.put(MESSAGE);
    assert_eq!(world.answer("{}").await["skipped"], 1);

    // A poll ends two seconds after its queue is empty; an hour later both are old.
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(world.poll_with(MESSAGE).await["skipped"], 2);
}

#[tokio::test(start_paused = true)]
async fn without_a_lookback_all_sales_are_looked_at() {
    let mut world = world();
    world.collector.lookback = Lookback::hours(0);
    let answer = world.poll_with(MESSAGE).await;
    assert_eq!((&answer["inserted"], &answer["skipped"]), (&json!(4), &json!(0)));
}

#[tokio::test(start_paused = true)]
async fn a_first_load_looks_at_all_sales_whatever_the_lookback() {
    for (first_load, inserted) in [("true", 4), ("false", 2)] {
        let world = world();
        let message = format!(r#"{{"branch_id": 1, "employee_id": 1235, "first_load": {first_load}}}"#);
        let answer = world.poll_with(&message).await;
        assert_eq!(answer["inserted"], inserted, "{message}");
        assert_eq!(answer["skipped"], 4 - inserted, "{message}");
    }
    let world = world();
    assert_eq!(world.answer(FIRST_LOAD).await, json!({"batchItemFailures": []}));
    assert_eq!(world.sale_ids().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_direct_call_may_say_how_far_to_look_back() {
    for (event, inserted) in [
        (DIRECT, 2),
        (DIRECT_ALL, 4),
        (r#"{"employee_id": "34646", "lookback_hours": 1}"#, 0),
        (r#"{"employee_id": 34646, "lookback_hours": 2}"#, 1),
        (r#"{"employee_id": 34646, "lookback_hours": 25}"#, 3),
        (r#"{"employee_id": 34646, "lookback_hours": 2, "first_load": true}"#, 4),
    ] {
        let world = world();
        let answer = world.answer(event).await;
        assert_eq!(answer["inserted"], inserted, "{event}");
        assert_eq!(answer["skipped"], 4 - inserted, "{event}");
        assert_eq!(world.vendor.asked(), [sales_of("34646")]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_direct_call_leaves_the_queue_alone() {
    let world = world();
    world.queue.put(MESSAGE);
    let answer = world.answer(DIRECT).await;
    assert_eq!(answer["run_id"], "2026-11-21T01:02:03Z");
    assert_eq!(world.queue.waits(), [(Duration::ZERO, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_direct_call_whose_work_fails_ends_in_an_error_that_says_why() {
    for (reply, reason) in [
        (answer("34647", &[]), "it is about employee_id 34647, not 34646"),
        (
            Reply::failure(FetchError::Permanent("the vendor answered 404 Not Found".to_owned())),
            "404 Not Found",
        ),
        (broken(), "the vendor answered 500, after 4 tries"),
    ] {
        let world = World::new();
        world.vendor.says(sales_of("34646"), reply);
        let error = world.handle(DIRECT).await.answer.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert!(world.sale_ids().is_empty());
    }
    let world = world();
    world.table.fail_after(Some(0));
    let error = world.handle(DIRECT).await.answer.unwrap_err().to_string();
    assert_eq!(error, "DynamoDB did not write a row: the table is down");
}

#[tokio::test(start_paused = true)]
async fn an_event_of_another_shape_is_refused_and_nothing_is_called_or_written() {
    for event in [
        "null",
        "[]",
        "\"1235\"",
        r#"{"branches": []}"#,
        r#"{"branch_id": 234}"#,
        r#"{"employee_id": null}"#,
        r#"{"employee_id": ""}"#,
        r#"{"employee_id": 1e3}"#,
        r#"{"employee_id": 34646, "lookback_hours": -1}"#,
        r#"{"employee_id": 34646, "lookback_hours": 0.5}"#,
        r#"{"employee_id": 34646, "lookback_hours": "0"}"#,
        r#"{"employee_id": 34646, "lookback": 0}"#,
        r#"{"Records": [7]}"#,
    ] {
        let world = world();
        world.queue.put(MESSAGE);
        let error = world.handle(event).await.answer.unwrap_err().to_string();
        assert!(
            error.contains(r#"{"employee_id": 34646, "branch_id": 234"#),
            "{event}: {error}"
        );
        assert!(world.vendor.asked().is_empty(), "{event}");
        assert_eq!(world.table.reads() + world.table.writes(), 0, "{event}");
        assert_eq!(world.queue.waits(), [(Duration::ZERO, 0)], "{event}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_an_events_records_only_those_that_may_succeed_later_are_reported() {
    let world = World::new();
    world.vendor.says(sales_of("34646"), Reply::body(r#"{"result": 7}"#));
    world.vendor.says(sales_of("34647"), broken());
    let handled = world.handle(RECORDS).await;
    assert_eq!(
        handled.answer.unwrap(),
        json!({"batchItemFailures": [{"itemIdentifier": "059f36b4-87a3-44ab-83d2-661975470002"}]})
    );
    let letters = world.queue.dead_letters();
    assert_eq!((letters.len(), &*letters[0].run_id), (1, "2026-11-21T01:00:00Z"));
    assert_eq!((handled.counts.failed, handled.counts.dead_lettered), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_events_records_are_all_worked_through() {
    let world = world();
    let handled = world.handle(RECORDS).await;
    assert_eq!(handled.answer.unwrap(), json!({"batchItemFailures": []}));
    assert_eq!((handled.counts.done, handled.counts.inserted), (2, 4));
    assert_eq!(
        world.answer(r#"{"Records": []}"#).await,
        json!({"batchItemFailures": []})
    );
}
