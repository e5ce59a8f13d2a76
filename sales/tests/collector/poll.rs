//! What becomes of each message, and when a poll takes no more of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use serde_json::json;
use shared::queue::{DeadLetter, Message, Outbox, QueueError, WorkQueue};
use shared::vendor::FetchError;
use shared::vendor::scripted::Reply;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A queue with messages for so many employees, and a vendor that takes its time to answer that each has one sale.
fn busy_world(employees: usize, answer_takes: Duration) -> World {
    let world = World::new();
    for employee_id in (0..employees).map(|employee| employee.to_string()) {
        let reply = answer(&employee_id, &[&recent("1", "")]).after(answer_takes);
        world.vendor.says(sales_of(&employee_id), reply);
        world.queue.put(message("1", &employee_id));
    }
    world
}

/// How many messages of the queue are untouched.
fn untouched(world: &World) -> usize {
    world
        .queue
        .waits()
        .into_iter()
        .filter(|wait| *wait == (Duration::ZERO, 0))
        .count()
}

/// An SQS event that delivers what can be received from the world's queue.
async fn delivered(world: &World) -> String {
    let messages = world.queue.receive(10, Duration::ZERO).await.unwrap();
    let record = |message: &Message| {
        json!({
            "messageId": message.id,
            "receiptHandle": message.receipt,
            "body": message.body,
            "attributes": {"ApproximateReceiveCount": message.receive_count.to_string()},
            "eventSource": "aws:sqs",
        })
    };
    json!({ "Records": messages.iter().map(record).collect::<Vec<_>>() }).to_string()
}

#[tokio::test(start_paused = true)]
async fn a_message_is_deleted_once_its_rows_are_there_and_the_poll_ends_when_the_queue_is_empty() {
    let world = busy_world(25, Duration::ZERO);
    let start = Instant::now();
    let answer = world.answer("{}").await;
    assert_eq!((&answer["done"], &answer["inserted"]), (&json!(25), &json!(25)));
    assert!(world.queue.bodies().is_empty());
    assert!(start.elapsed() < 5 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_twice_changes_nothing_the_second_time() {
    let world = World::with_sales(&[&recent("1", "")]);
    world.queue.put(MESSAGE);
    let answer = world.poll_with(MESSAGE).await;
    assert_eq!((&answer["inserted"], &answer["unchanged"]), (&json!(1), &json!(1)));
    assert_eq!(world.sale_ids(), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn several_messages_are_in_work_at_once() {
    let world = busy_world(10, 9 * SECOND);
    let start = Instant::now();
    world.answer("{}").await;
    assert!(start.elapsed() < 15 * SECOND, "{:?}", start.elapsed());
    assert_eq!(world.vendor.most_at_once(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_may_succeed_later_stays_with_a_growing_delay_and_the_poll_succeeds() {
    let world = World::new();
    world.vendor.says(sales_of("1235"), broken());
    world.queue.put(MESSAGE);
    let mut last = Duration::ZERO;
    for receive_count in 1..=5 {
        let answer = world.answer("{}").await;
        assert_eq!((&answer["statusCode"], &answer["failed"]), (&json!(200), &json!(1)));
        let waits = world.queue.waits();
        assert_eq!((waits.len(), waits[0].1), (1, receive_count));
        // The poll has waited for further messages since.
        let delay = waits[0].0 + 2 * SECOND;
        assert!(delay > last && delay <= 900 * SECOND, "{delay:?} after {last:?}");
        last = delay;
        tokio::time::sleep(waits[0].0).await;
    }
    assert_eq!(world.queue.bodies(), [MESSAGE]);

    world.change_sales(&[&recent("1", "")]);
    assert_eq!(world.answer("{}").await["inserted"], 1);
    assert!(world.queue.bodies().is_empty() && world.queue.dead_letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn where_messages_fail_the_others_are_done() {
    let world = busy_world(4, SECOND);
    world.vendor.says_now(sales_of("1"), broken());
    world.vendor.says_now(sales_of("2"), Reply::body("7"));
    let answer = world.answer("{}").await;
    assert_eq!(
        (&answer["done"], &answer["failed"], &answer["dead_lettered"]),
        (&json!(2), &json!(1), &json!(1))
    );
    assert_eq!(world.queue.bodies(), [message("1", "1")]);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_can_never_succeed_goes_to_the_dead_letter_queue_with_reason_and_run() {
    for (reply, reason) in [
        (
            Reply::failure(FetchError::Permanent("the vendor answered 404 Not Found".to_owned())),
            "the vendor answered 404 Not Found",
        ),
        (
            answer("1236", &[]),
            "the vendor's answer is not as expected: it is about employee_id 1236, not 1235",
        ),
        (
            Reply::body(r#"{"result": {"employee_id": 1235}}"#),
            "the vendor's answer is not as expected: it has no sales",
        ),
        (
            Reply::body(r#"{"result": {"employee_id": 1235, "sales": null}}"#),
            "the vendor's answer is not as expected: the records are not a JSON array",
        ),
    ] {
        let world = World::new();
        world.vendor.says(sales_of("1235"), reply);
        let answer = world.poll_with(MESSAGE).await;
        let letter = DeadLetter {
            body: MESSAGE.to_owned(),
            reason: reason.to_owned(),
            run_id: "2026-11-21T01:00:00Z".to_owned(),
        };
        assert_eq!(world.queue.dead_letters(), [letter]);
        assert!(world.queue.bodies().is_empty());
        assert_eq!((&answer["failed"], &answer["dead_lettered"]), (&json!(0), &json!(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_message_is_asked_nothing_about() {
    for (body, reason) in [
        ("{'employee_id': '1235'}", "key must be a string"),
        (r#"{"employee_id": "1235"}"#, "missing field `branch_id`"),
        (
            r#"{"employee_id": "1235", "branch_id": null}"#,
            "missing field `branch_id`",
        ),
        (r#"{"employee_id": "", "branch_id": 1}"#, "an id is an empty string"),
        (
            r#"{"employee_id": 1, "branch_id": 1, "first_load": "yes"}"#,
            "expected a boolean",
        ),
        (
            r#"{"employee_id": 1, "branch_id": 1, "run_id": "today"}"#,
            "\"today\" is not a time",
        ),
    ] {
        let world = World::new();
        world.poll_with(body).await;
        let letters = world.queue.dead_letters();
        assert_eq!((letters.len(), &*letters[0].body), (1, body));
        assert!(letters[0].reason.contains(reason), "{}", letters[0].reason);
        assert_eq!(letters[0].run_id, "2026-11-21T01:02:03Z");
        assert!(world.vendor.asked().is_empty() && world.queue.bodies().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_without_a_run_belongs_to_the_invocations() {
    let world = World::new();
    let gone = FetchError::Permanent("gone".to_owned());
    world.vendor.says(sales_of("1235"), Reply::failure(gone));
    world
        .poll_with(r#"{"branch_id": 1, "employee_id": 1235, "colour": "red"}"#)
        .await;
    assert_eq!(world.queue.dead_letters()[0].run_id, "2026-11-21T01:02:03Z");
}

#[tokio::test(start_paused = true)]
async fn waiting_for_quota_is_no_failure_and_uses_up_no_try() {
    for (wait, delay) in [
        (120 * SECOND, 120 * SECOND),
        (Duration::from_millis(61_500), 62 * SECOND),
        (3600 * SECOND, 900 * SECOND),
    ] {
        let world = World::new();
        world
            .vendor
            .says(sales_of("1235"), Reply::failure(FetchError::Quota { wait }));
        world.vendor.says(sales_of("1235"), answer("1235", &[&recent("1", "")]));
        world.queue.put(MESSAGE);

        let start = Instant::now();
        let answer = world.answer("{}").await;
        let waits = world.queue.waits();

        assert_eq!(world.queue.bodies(), [MESSAGE]);
        assert_eq!(waits, [(delay - start.elapsed(), 0)]);
        assert_eq!(
            (&answer["failed"], &answer["deferred"], &answer["api_calls"]),
            (&json!(0), &json!(1), &json!(0))
        );
        tokio::time::sleep(waits[0].0).await;
        assert_eq!(world.answer("{}").await["inserted"], 1);
        assert!(world.queue.bodies().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_quota_has_no_place_for_one_message_the_others_are_left_untouched() {
    let world = World::new();
    let wait = 120 * SECOND;
    world
        .vendor
        .says(sales_of("1235"), Reply::failure(FetchError::Quota { wait }));
    for _ in 0..40 {
        world.queue.put(MESSAGE);
    }
    let answer = world.answer("{}").await;
    let deferred = answer["deferred"].as_u64().unwrap();
    assert!((1..=20).contains(&deferred), "{answer}");
    assert_eq!(answer["failed"], 0);
    assert_eq!(untouched(&world) as u64, 40 - deferred);
    assert!(world.queue.waits().into_iter().all(|(_, receives)| receives == 0));
}

#[tokio::test(start_paused = true)]
async fn a_poll_takes_no_new_message_after_its_window() {
    let world = busy_world(200, 7 * SECOND);
    let start = Instant::now();
    let answer = world.answer("{}").await;
    // Sixteen at once, begun at the seconds 0, 7, … 49.
    assert_eq!(answer["done"], 128);
    assert_eq!((world.queue.bodies().len(), untouched(&world)), (72, 72));
    assert!(start.elapsed() < 60 * SECOND, "{:?}", start.elapsed());
}

/// A queue that waits whole seconds only, as SQS does, and counts how often it is asked for messages.
#[derive(Default)]
struct WholeSeconds {
    queue: Arc<MemoryQueue>,
    receives: AtomicUsize,
}

#[async_trait]
impl Outbox for WholeSeconds {
    async fn send(&self, bodies: Vec<String>, delay: Duration) -> Result<(), QueueError> {
        self.queue.send(bodies, delay).await
    }
}

#[async_trait]
impl WorkQueue for WholeSeconds {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Message>, QueueError> {
        self.receives.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(10)).await;
        self.queue.receive(max, Duration::from_secs(wait.as_secs())).await
    }

    async fn delete(&self, receipts: Vec<String>) -> Result<(), QueueError> {
        self.queue.delete(receipts).await
    }

    async fn make_visible_after(&self, receipts: Vec<(String, Duration)>) -> Result<(), QueueError> {
        self.queue.make_visible_after(receipts).await
    }

    async fn dead_letter(&self, letter: DeadLetter) -> Result<(), QueueError> {
        self.queue.dead_letter(letter).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_without_messages_is_asked_no_more_often_than_a_long_poll_allows() {
    let mut world = busy_world(1, 60 * SECOND);
    let queue = Arc::new(WholeSeconds {
        queue: world.queue.clone(),
        ..WholeSeconds::default()
    });
    world.collector.sale_queue = queue.clone();
    let answer = world.answer("{}").await;
    assert_eq!(answer["done"], 1);
    // One that finds the message, and then one every two seconds of the window.
    let receives = queue.receives.load(Ordering::SeqCst);
    assert!((20..=27).contains(&receives), "{receives}");
}

#[tokio::test(start_paused = true)]
async fn the_shortest_window_is_long_enough_to_empty_a_queue() {
    // A window of a second, of which a moment has passed.
    let mut world = busy_world(25, Duration::ZERO);
    world.collector.poll_window = Duration::from_millis(999);
    assert_eq!(world.answer("{}").await["done"], 25);
}

#[tokio::test(start_paused = true)]
async fn a_poll_takes_no_more_messages_than_the_quota_has_places_for() {
    let world = busy_world(20, 45 * SECOND);
    world.vendor.set_pace(10 * SECOND);
    let answer = world.answer("{}").await;
    // Five in the whole window, and one in the seconds that are left when they are done.
    assert_eq!(answer["done"], 6);
    assert_eq!((world.queue.bodies().len(), untouched(&world)), (14, 14));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_that_cannot_end_before_the_deadline() {
    // Three seconds are kept for settling, and a request may take ten.
    for (time_left, done) in [(12, 0), (13, 1), (40, 4)] {
        let world = World {
            time_left: time_left * SECOND,
            ..busy_world(80, 8 * SECOND)
        };
        let start = Instant::now();
        let answer = world.answer("{}").await;
        // Sixteen at once, begun at the seconds 0, 8, 16, 24 as far as there is time.
        assert_eq!(answer["done"], 16 * done, "{time_left} s");
        assert_eq!(untouched(&world), 80 - 16 * done, "{time_left} s");
        assert!(start.elapsed() < time_left * SECOND, "{time_left} s");
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_outlasts_the_deadline_is_handed_back_before_it() {
    let world = World {
        time_left: 30 * SECOND,
        ..busy_world(1, 60 * SECOND)
    };
    let start = Instant::now();
    let answer = world.answer("{}").await;
    assert!(start.elapsed() < 30 * SECOND, "{:?}", start.elapsed());
    assert_eq!((&answer["handed_back"], &answer["failed"]), (&json!(1), &json!(0)));
    assert_eq!(world.queue.waits(), [(Duration::ZERO, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_function_that_was_told_to_stop_takes_no_message() {
    let world = busy_world(3, Duration::ZERO);
    world.stop.cancel();
    let answer = world.answer("{}").await;
    assert_eq!(answer["statusCode"], 200);
    assert_eq!(untouched(&world), 3);
    assert!(world.vendor.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_was_received_and_not_begun_when_the_function_is_told_to_stop_is_handed_back_at_once() {
    let world = busy_world(1, 30 * SECOND);
    let start = Instant::now();
    let stopping = async {
        tokio::time::sleep(SECOND).await;
        world.stop.cancel();
        // It is received by the request that is already waiting for one.
        world.queue.put(MESSAGE);
    };

    let (handled, ()) = tokio::join!(world.handle("{}"), stopping);

    assert_eq!(handled.answer.unwrap()["statusCode"], 200);
    assert_eq!((handled.counts.handed_back, handled.counts.failed), (2, 0));
    assert_eq!(world.queue.waits(), [(Duration::ZERO, 1), (Duration::ZERO, 1)]);
    assert_eq!(world.vendor.asked(), [sales_of("0")]);
    assert!(start.elapsed() < 4 * SECOND, "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn work_that_is_nearly_done_when_the_function_is_told_to_stop_is_finished() {
    let world = busy_world(1, 2 * SECOND);
    let stopping = async {
        tokio::time::sleep(SECOND).await;
        world.stop.cancel();
    };
    let (handled, ()) = tokio::join!(world.handle("{}"), stopping);
    assert_eq!((handled.counts.done, handled.counts.handed_back), (1, 0));
    assert!(world.queue.bodies().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_cannot_be_read_is_an_error_once_what_was_received_is_settled() {
    let world = busy_world(1, 8 * SECOND);
    let failing = async {
        tokio::time::sleep(SECOND).await;
        world.queue.fail(true);
        tokio::time::sleep(4 * SECOND).await;
        world.queue.fail(false);
    };
    let (handled, ()) = tokio::join!(world.handle("{}"), failing);
    let error = handled.answer.unwrap_err().to_string();
    assert_eq!(error, "SQS did not give messages");
    assert_eq!((handled.counts.done, world.sale_ids().len()), (1, 1));
    assert!(world.queue.bodies().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_done_but_cannot_be_deleted_comes_again_and_changes_nothing() {
    let world = busy_world(1, 8 * SECOND);
    let failing = async {
        tokio::time::sleep(SECOND).await;
        world.queue.fail(true);
    };
    let (handled, ()) = tokio::join!(world.handle("{}"), failing);
    assert_eq!((handled.counts.inserted, handled.counts.failed), (1, 1));

    world.queue.fail(false);
    tokio::time::sleep(900 * SECOND).await;
    assert_eq!(world.answer("{}").await["unchanged"], 1);
    assert_eq!(world.table.writes(), 1);
    assert!(world.queue.bodies().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_delivered_message_that_fails_stays_invisible_for_longer_from_try_to_try() {
    let world = World::new();
    world.vendor.says(sales_of("1235"), broken());
    world.queue.put(MESSAGE);
    let mut last = Duration::ZERO;
    for receive_count in 1..=3 {
        let event = delivered(&world).await;
        assert_eq!(
            world.answer(&event).await,
            json!({"batchItemFailures": [{"itemIdentifier": "1"}]})
        );
        let waits = world.queue.waits();
        assert_eq!((waits.len(), waits[0].1), (1, receive_count));
        assert!(waits[0].0 > last, "{waits:?}");
        last = waits[0].0;
        tokio::time::sleep(last).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_delivered_message_that_waits_for_quota_is_handed_on_and_not_reported() {
    let world = World::new();
    let wait = 120 * SECOND;
    world
        .vendor
        .says(sales_of("1235"), Reply::failure(FetchError::Quota { wait }));
    world.queue.put(MESSAGE);
    let event = delivered(&world).await;
    assert_eq!(world.answer(&event).await, json!({"batchItemFailures": []}));
    // Whoever delivered the original deletes it; the copy has used up no try.
    assert_eq!(world.queue.bodies(), [MESSAGE, MESSAGE]);
    assert_eq!(world.queue.waits()[1], (wait, 0));
}

#[tokio::test(start_paused = true)]
async fn a_delivered_message_that_is_safe_nowhere_else_is_reported() {
    for (body, reply) in [
        (MESSAGE, Reply::failure(FetchError::Quota { wait: 120 * SECOND })),
        ("no message", answer("1235", &[])),
    ] {
        let world = World::new();
        world.vendor.says(sales_of("1235"), reply);
        world.queue.put(body);
        let event = delivered(&world).await;
        world.queue.fail(true);
        let handled = world.handle(&event).await;
        assert_eq!(
            handled.answer.unwrap(),
            json!({"batchItemFailures": [{"itemIdentifier": "1"}]})
        );
        assert_eq!((handled.counts.failed, handled.counts.dead_lettered), (1, 0));
        assert_eq!(world.queue.bodies(), [body]);
    }
}

#[tokio::test(start_paused = true)]
async fn delivered_messages_that_were_not_begun_are_visible_at_once_and_reported() {
    let stopped = busy_world(2, Duration::ZERO);
    stopped.stop.cancel();
    let out_of_time = World {
        time_left: 12 * SECOND,
        ..busy_world(2, Duration::ZERO)
    };
    for world in [stopped, out_of_time] {
        let event = delivered(&world).await;
        let answer = world.answer(&event).await;
        assert_eq!(answer["batchItemFailures"].as_array().unwrap().len(), 2);
        assert_eq!(world.queue.waits(), [(Duration::ZERO, 1), (Duration::ZERO, 1)]);
        assert!(world.vendor.asked().is_empty());
    }
}
