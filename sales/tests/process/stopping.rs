//! SIGTERM: the function hands back what it has not begun, and ends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::function::Function;
use crate::stub::{Stub, VendorReply};
use crate::{CALL, SALE, sales_of};

#[tokio::test]
async fn an_idle_function_ends_soon() {
    // given
    let stub = Stub::start(|_| VendorReply::Silence).await;
    let function = Function::start(&stub);
    stub.until("the function waits for an event", |seen| seen.waits > 0)
        .await;
    stub.until("its extension is ready", |seen| !seen.extensions.is_empty())
        .await;
    assert_eq!(stub.seen().extensions, ["id-of-cascade-graceful-shutdown"]);

    // when
    let told = Instant::now();
    let ended = function.end().await;

    // then
    assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());
    assert_eq!(ended.saying("the function ends, as it was told to").len(), 1);
}

#[tokio::test]
async fn a_poll_whose_vendor_is_slow_hands_back_every_message_and_answers() {
    // given ten messages in work, of which the quota let one or two reach the vendor, and a receive under way
    let stub = Stub::start(|_| VendorReply::Silence).await;
    let message = |id: usize| format!(r#"{{"branch_id": "1", "employee_id": "{id}"}}"#);
    stub.send_messages((0..13).map(message));
    stub.limit_receives(1);
    let variables = [
        ("API_REQUESTS_PER_MINUTE", Some("60")),
        ("API_TIMEOUT_SECONDS", Some("60")),
    ];
    let function = Function::start_with(&stub, &variables);
    stub.send_event("request-1", "{}");
    stub.until("the vendor is asked", |seen| !seen.vendor.is_empty()).await;
    stub.until("more messages are asked for", |seen| {
        seen.aws.get("AmazonSQS.ReceiveMessage") == Some(&2)
    })
    .await;

    // when
    let told = Instant::now();
    function.terminate().await;
    stub.until("the first message is handed back", |seen| {
        !seen.visible_after.is_empty()
    })
    .await;
    stub.allow_receives(1);
    let outcome = stub.outcome().await;
    let ended = function.ended().await;

    // then
    assert!(told.elapsed() < Duration::from_secs(6), "{:?}", told.elapsed());
    assert_eq!(ended.status.code(), Some(0));
    assert!(!outcome.is_error, "{outcome:?}");
    assert_eq!(outcome.body["handed_back"], 13, "{outcome:?}");
    assert_eq!(outcome.body["failed"], 0, "{outcome:?}");
    let seen = stub.seen();
    let mut handed_back = seen.visible_after.clone();
    handed_back.sort();
    let mut expected: Vec<_> = (0..13).map(|place| (format!("receipt-{place}"), 0)).collect();
    expected.sort();
    assert_eq!(handed_back, expected);
    assert!(seen.deleted.is_empty());
    assert!(seen.vendor.len() <= 2, "{:?}", seen.vendor);
}

#[tokio::test]
async fn work_that_ends_soon_is_done_and_answered() {
    // given a direct call whose vendor takes its time
    let may_answer = Arc::new(Semaphore::new(0));
    let held = may_answer.clone();
    let stub = Stub::start(move |_| VendorReply::After(held.clone(), sales_of("1235", &[SALE]).into())).await;
    let function = Function::start(&stub);
    stub.send_event("request-1", CALL);
    stub.until("the vendor is asked", |seen| !seen.vendor.is_empty()).await;

    // when it answers after the function was told to stop
    function.terminate().await;
    may_answer.add_permits(1);

    // then
    let outcome = stub.outcome().await;
    assert_eq!(outcome.body["inserted"], 1, "{outcome:?}");
    assert_eq!(function.ended().await.status.code(), Some(0));
    assert_eq!(stub.seen().items(), 1);
}
