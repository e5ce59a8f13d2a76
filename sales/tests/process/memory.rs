//! The function's memory: 128 MB, of which an answer of 20 MB must leave some.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::function::Function;
use crate::stub::{Stub, VendorReply};

/// What the function's memory may come to at its highest.
const MOST_MB: u64 = 100;

const SALES: usize = 100_000;

const FIRST_ID: usize = 1_000_000;

/// An answer of 20 MB: 100,000 sales.
fn large_answer(employee_id: &str) -> Bytes {
    use std::fmt::Write;

    let mut body = format!(r#"{{"result": {{"employee_id": {employee_id}, "sales": ["#);
    for place in 0..SALES {
        let comma = if place == 0 { "" } else { ", " };
        let id = FIRST_ID + place;
        let _ = write!(
            body,
            r#"{comma}{{"id": {id}, "transaction_timestamp": "2023-01-01 23:43:23", "amount": {place}.25, "product": "copy paper, 500 sheets, bright white", "customer": {{"id": {place}, "name": "Dunmore High School"}}, "items": [1, 2]}}"#
        );
    }
    body.push_str("]}}");
    body.into()
}

/// The most memory that the process has had so far, in MB.
fn peak_mb(function: &Function) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", function.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kb: u64 = line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap();
    kb / 1024
}

/// The row of a sale of [`large_answer`].
fn row(sale_id: &str, employee_id: &str) -> Option<Value> {
    let place = sale_id.parse::<usize>().ok()? - FIRST_ID;
    Some(json!({
        "sale_id": {"S": sale_id},
        "employee_id": {"S": employee_id},
        "branch_id": {"S": "1"},
        "transaction_timestamp": {"S": "2023-01-01 23:43:23"},
        "amount": {"N": format!("{place}.25")},
        "product": {"S": "copy paper, 500 sheets, bright white"},
        "customer": {"M": {"id": {"N": place.to_string()}, "name": {"S": "Dunmore High School"}}},
        // A reserved word.
        "sale_items": {"L": [{"N": "1"}, {"N": "2"}]},
        "last_modified": {"S": "2023-01-02T01:00:00.000Z"},
    }))
}

/// The same, but of one sale in twenty there is none.
fn row_of_most(sale_id: &str, employee_id: &str) -> Option<Value> {
    let place: usize = sale_id.parse().ok()?;
    row(sale_id, employee_id).filter(|_| !place.is_multiple_of(20))
}

/// A vendor whose every salesperson has an answer of 20 MB.
fn large_vendor(target: &str) -> VendorReply {
    let employee_id = target.rsplit('=').next().unwrap();
    let body = large_answer(employee_id);
    assert!(body.len() > 20_000_000, "{}", body.len());
    VendorReply::ok(body)
}

#[tokio::test(flavor = "multi_thread")]
async fn sixteen_answers_of_20_mb_at_once_are_worked_through_in_less_than_100_mb() {
    // given sixteen messages, one of them a first load of which most is in the table already
    let stub = Stub::start(large_vendor).await;
    stub.has_rows(row_of_most);
    let message = |id| {
        format!(
            r#"{{"branch_id": "1", "employee_id": "{id}", "first_load": {}}}"#,
            id == 0
        )
    };
    stub.send_messages((0..16).map(message));
    let function = Function::start_with(
        &stub,
        &[
            ("API_TIMEOUT_SECONDS", Some("120")),
            ("POLL_WINDOW_SECONDS", Some("600")),
        ],
    );

    // when
    let outcome = stub.invoke("request-1", "{}").await;

    // then
    let peak = peak_mb(&function);
    println!("peak RSS with 16 answers of 20 MB at once: {peak} MB");
    for (count, value) in [
        ("done", 16),
        ("inserted", SALES / 20),
        ("unchanged", SALES / 20 * 19),
        ("skipped", SALES * 15),
        ("api_calls", 16),
    ] {
        assert_eq!(outcome.body[count], value, "{count} in {outcome:?}");
    }
    assert!(peak < MOST_MB, "{peak} MB");
    function.end().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes over a minute in a debug build; the test above sends the same answer with fewer inserts"]
async fn a_hundred_thousand_inserts_take_less_than_100_mb() {
    let stub = Stub::start(large_vendor).await;
    let function = Function::start(&stub);
    stub.until("the function waits for an event", |seen| seen.waits > 0)
        .await;
    println!("peak RSS at its start: {} MB", peak_mb(&function));

    let first = stub.invoke("request-1", crate::CALL).await;

    println!("peak RSS after 100,000 inserts: {} MB", peak_mb(&function));
    assert_eq!(first.body["inserted"], SALES, "{first:?}");
    assert_eq!(stub.seen().items(), SALES);

    let second = stub.invoke("request-2", crate::CALL).await;

    let peak = peak_mb(&function);
    println!("peak RSS after 100,000 unchanged: {peak} MB");
    assert_eq!(second.body["unchanged"], SALES, "{second:?}");
    assert!(peak < MOST_MB, "{peak} MB");
    function.end().await;
}
