//! The branch collector: events go in; rows, messages and answers come out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use branches::{BranchCollector, DEFAULT_BRANCHES};
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use shared::account::Accounts;
use shared::checkpoint::Checkpoints;
use shared::clock::Clock;
use shared::collector::{Call, Handled, handle};
use shared::deletions::{DeletionRules, Rosters};
use shared::entity::Entity;
use shared::jitter::Jitter;
use shared::queue::memory::MemoryQueue;
use shared::queue::{Outbox, QueueError};
use shared::rejections::Rejections;
use shared::state::StateTable;
use shared::state::memory::MemoryState;
use shared::table::memory::MemoryTable;
use shared::value::Value;
use shared::vendor::excerpt::Excerpts;
use shared::vendor::scripted::{Reply, ScriptedVendor};
use shared::vendor::{FetchError, Query};
use time::macros::utc_datetime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

mod deletions;
mod rejected;

const SCHEDULE: &str = include_str!("../../../events/branches-schedule.json");
const SCHEDULER: &str = include_str!("../../../events/branches-scheduler.json");
const ONE_BRANCH: &str = include_str!("../../../events/branch.json");
const ALL_BRANCHES: &str = include_str!("../../../events/branches-all.json");
const RECORDS: &str = include_str!("../../../events/branches-sqs.json");

/// What the collector works with, and the collector.
struct World {
    vendor: Arc<ScriptedVendor>,
    table: Arc<MemoryTable>,
    employee_queue: Arc<MemoryQueue>,
    collector: BranchCollector,
    clock: Clock,
    stop: CancellationToken,
    time_left: Duration,
}

impl World {
    /// A vendor whose every default branch has its place in the list for an id.
    fn new() -> Self {
        Self::build(None)
    }

    /// With a state table.
    fn with_state() -> Self {
        Self::build(Some(Arc::new(MemoryState::default())))
    }

    fn build(state: Option<Arc<dyn StateTable>>) -> Self {
        let clock = Clock::starting_at(utc_datetime!(2026-11-21 01:02:03.456));
        let vendor = Arc::new(ScriptedVendor::new(clock.clone()));
        for (id, name) in (1..).zip(DEFAULT_BRANCHES) {
            let branch = json!({"id": id, "branch_name": name, "employees": 50}).to_string();
            vendor.says(query(name), answer(&[&branch]));
        }
        let table = Arc::new(MemoryTable::new(Entity::Branch));
        let employee_queue = Arc::new(MemoryQueue::default());
        let collector = BranchCollector {
            vendor: vendor.clone(),
            table: table.clone(),
            employee_queue: employee_queue.clone(),
            checkpoints: Checkpoints::new(state.clone(), clock.clone(), Jitter::seeded(1)),
            rosters: Rosters::new(state.clone(), DeletionRules::default()),
            rejections: Rejections::new(state, clock.clone(), Excerpts::default()),
            accounts: Accounts::none(),
        };
        Self {
            vendor,
            table,
            employee_queue,
            collector,
            clock,
            stop: CancellationToken::new(),
            time_left: Duration::from_secs(900),
        }
    }

    async fn handle(&self, event: &str) -> Handled {
        let call = Call {
            request_id: "request".to_owned(),
            now: self.clock.now(),
            deadline: Instant::now() + self.time_left,
            stop: self.stop.clone(),
        };
        handle(&self.collector, event, call).await
    }

    async fn answer(&self, event: &str) -> Json {
        self.handle(event).await.answer.unwrap()
    }

    async fn failure(&self, event: &str) -> String {
        self.handle(event).await.answer.unwrap_err().to_string()
    }

    fn asked(&self) -> Vec<String> {
        let names = self.vendor.asked().into_iter().map(|query| match query {
            Query::Branch(name) => name,
            other => panic!("asked {other:?}"),
        });
        names.collect()
    }

    /// The messages sent, by branch.
    fn sent(&self) -> Vec<(String, String)> {
        let message = |body: String| {
            let message: BTreeMap<String, String> = serde_json::from_str(&body).unwrap();
            assert_eq!(message.len(), 2, "{body}");
            (message["branch_id"].clone(), message["run_id"].clone())
        };
        let mut sent: Vec<_> = self.employee_queue.bodies().into_iter().map(message).collect();
        sent.sort();
        sent
    }

    fn sent_ids(&self) -> Vec<String> {
        self.sent().into_iter().map(|(id, _)| id).collect()
    }

    fn row_ids(&self) -> Vec<String> {
        self.table.rows().keys().map(|key| key.id.to_string()).collect()
    }

    /// The one row's attributes.
    fn row(&self) -> BTreeMap<String, Value> {
        let rows = self.table.rows();
        assert_eq!(rows.len(), 1, "{rows:?}");
        rows.into_values().next().unwrap().attributes
    }
}

fn query(name: &str) -> Query {
    Query::Branch(name.to_owned())
}

fn answer(branches: &[&str]) -> Reply {
    Reply::body(format!(r#"{{"result": [{}]}}"#, branches.join(", ")))
}

fn attributes(json: &str) -> BTreeMap<String, Value> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(json).unwrap();
    let value = |(name, raw)| (name, Value::from_json(raw).unwrap());
    members.into_iter().map(value).collect()
}

fn call(names: &[&str]) -> String {
    json!({ "branches": names }).to_string()
}

fn broken() -> Reply {
    Reply::failure(FetchError::Transient {
        reason: "the vendor answered 500".to_owned(),
        tries: 4,
        malformed: None,
    })
}

#[tokio::test(start_paused = true)]
async fn an_event_that_names_no_branch_means_all_of_them() {
    for event in [SCHEDULE, SCHEDULER, "{}", "null", ALL_BRANCHES, r#"{"branches": null}"#] {
        let world = World::new();
        let answer = world.answer(event).await;
        let mut asked = world.asked();
        asked.sort();
        let mut all = DEFAULT_BRANCHES.map(str::to_owned);
        all.sort();
        assert_eq!(asked, all, "{event}");
        assert_eq!((world.row_ids().len(), world.sent().len()), (13, 13), "{event}");
        assert_eq!(
            (&answer["inserted"], &answer["enqueued"], &answer["runs_begun"]),
            (&json!(13), &json!(13), &json!(1)),
            "{event}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_has_the_contracts_fields() {
    let world = World::new();
    let answer = world.answer(ONE_BRANCH).await;
    for (field, value) in [
        ("statusCode", json!(200)),
        ("run_id", json!("2026-11-21T01:02:03Z")),
        ("api_calls", json!(1)),
        ("inserted", json!(1)),
        ("updated", json!(0)),
        ("unchanged", json!(0)),
        ("skipped", json!(0)),
        ("rejected", json!(0)),
        ("enqueued", json!(1)),
        ("failed", json!(0)),
        // One branch is no run.
        ("runs_begun", json!(0)),
    ] {
        assert_eq!(answer[field], value, "{field}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_direct_call_collects_the_branches_it_names_and_no_others() {
    let world = World::new();
    world.answer(ONE_BRANCH).await;
    assert_eq!(world.asked(), ["Scranton"]);
    assert_eq!(
        world.row(),
        attributes(r#"{"branch_name": "Scranton", "employees": 50}"#)
    );
    assert_eq!(world.sent(), [("1".to_owned(), "2026-11-21T01:02:03Z".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_named_by_the_time_it_was_scheduled_for() {
    for event in [SCHEDULE, SCHEDULER] {
        let world = World::new();
        let answer = world.answer(event).await;
        assert_eq!(answer["run_id"], "2026-11-21T01:00:00Z");
        assert!(world.sent().iter().all(|(_, run_id)| run_id == "2026-11-21T01:00:00Z"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_of_another_shape_is_refused_and_nothing_is_called_or_written() {
    for event in [
        "[]",
        "7",
        "\"Scranton\"",
        "{",
        r#"{"branch": "Scranton"}"#,
        r#"{"branches": "Scranton"}"#,
        r#"{"branches": [1]}"#,
        r#"{"branches": ["Scranton", null]}"#,
        r#"{"branch_id": 234}"#,
        r#"{"source": "aws.s3", "detail-type": "Object Created", "detail": {}}"#,
        r#"{"Records": [{"messageId": "1", "body": "{}", "eventSource": "aws:sns"}]}"#,
        r#"{"Records": [{"messageId": "1"}]}"#,
    ] {
        let world = World::new();
        let handled = world.handle(event).await;
        let error = handled.answer.unwrap_err().to_string();
        assert!(
            error.contains(r#"expected the schedule's event or {}, a direct call such as {"branches": ["Scranton"]}"#),
            "{event}: {error}"
        );
        assert_eq!(handled.run_id, None);
        assert!(world.asked().is_empty() && world.sent().is_empty(), "{event}");
        assert_eq!(world.table.reads() + world.table.writes(), 0, "{event}");
    }
}

#[tokio::test(start_paused = true)]
async fn where_branches_fail_the_others_are_done_and_the_error_names_the_failed_ones() {
    let world = World::new();
    world.vendor.says_now(query("Akron"), broken());
    let gone = FetchError::Permanent("the vendor answered 404 Not Found".to_owned());
    world.vendor.says_now(query("New York"), Reply::failure(gone));
    world.vendor.says_now(query("Utica"), Reply::body(r#"{"result": {}}"#));

    let handled = world.handle(SCHEDULE).await;

    assert_eq!((handled.counts.inserted, handled.counts.enqueued), (10, 10));
    assert_eq!(handled.counts.runs_begun, 0);
    let error = handled.answer.unwrap_err().to_string();
    assert_eq!(
        error,
        "3 of 13 branches failed: Akron: the vendor answered 500, after 4 tries; \
         New York: the vendor answered 404 Not Found; \
         Utica: the vendor's answer is not as expected: the records are not a JSON array"
    );
    assert_eq!((world.row_ids().len(), world.sent().len()), (10, 10));
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_the_vendor_does_not_know_leaves_nothing_behind_and_is_no_failure() {
    let world = World::new();
    world.vendor.says(query("Slough"), answer(&[]));
    let answer = world.answer(&call(&["Slough", "Akron"])).await;
    assert_eq!((&answer["inserted"], &answer["enqueued"]), (&json!(1), &json!(1)));
    assert_eq!(world.sent_ids(), ["2"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_stands_twice_is_asked_for_once() {
    let world = World::new();
    world.answer(&call(&["Akron", "Utica", "Akron"])).await;
    assert_eq!(world.asked(), ["Akron", "Utica"]);
    assert_eq!(world.sent_ids(), ["2", "6"]);
}

/// A queue that takes its time, as a real one does.
struct SlowOutbox(Arc<MemoryQueue>);

#[async_trait]
impl Outbox for SlowOutbox {
    async fn send(&self, bodies: Vec<String>, delay: Duration) -> Result<(), QueueError> {
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.0.send(bodies, delay).await
    }
}

#[tokio::test(start_paused = true)]
async fn two_names_that_lead_to_one_branch_send_one_message() {
    let mut world = World::new();
    world.collector.employee_queue = Arc::new(SlowOutbox(world.employee_queue.clone()));
    let branch = r#"{"id": "1", "branch_name": "Scranton", "employees": 50}"#;
    world.vendor.says(query("scranton"), answer(&[branch]));
    let answer = world.answer(&call(&["Scranton", "scranton"])).await;
    assert_eq!(world.sent_ids(), ["1"]);
    assert_eq!(answer["enqueued"], 1);
    assert_eq!((&answer["inserted"], &answer["unchanged"]), (&json!(1), &json!(1)));
}

#[tokio::test(start_paused = true)]
async fn of_the_same_id_twice_in_one_answer_the_last_stands() {
    let world = World::new();
    let branches = [r#"{"id": 1, "floors": 1}"#, r#"{"id": "1", "floors": 2, "floors": 3}"#];
    world.vendor.says_now(query("Scranton"), answer(&branches));
    let answer = world.answer(ONE_BRANCH).await;
    assert_eq!(world.row(), attributes(r#"{"floors": 3}"#));
    assert_eq!((&answer["inserted"], &answer["enqueued"]), (&json!(1), &json!(1)));
}

#[tokio::test(start_paused = true)]
async fn a_bad_record_is_rejected_and_the_others_are_written() {
    let world = World::new();
    let number = "1".repeat(39);
    let branches = [
        r#"{"id": 1}"#,
        &format!(r#"{{"id": 2, "employees": {number}}}"#),
        r#"{"branch_name": "nameless"}"#,
        r#"{"id": ""}"#,
        r#"{"id": 1.5}"#,
        "7",
        r#"{"id": "eight"}"#,
    ];
    world.vendor.says_now(query("Scranton"), answer(&branches));

    let answer = world.answer(ONE_BRANCH).await;

    assert_eq!((&answer["inserted"], &answer["rejected"]), (&json!(2), &json!(5)));
    assert_eq!(world.row_ids(), ["1", "eight"]);
    // A branch exists, and has employees, whether its own record can be stored or not.
    assert_eq!(world.sent_ids(), ["1", "2", "eight"]);
    assert_eq!(answer["enqueued"], 3);
}

#[tokio::test(start_paused = true)]
async fn a_row_holds_the_vendors_attributes_to_the_last_digit_under_names_that_dynamodb_takes() {
    let world = World::new();
    let branch = r#"{"id": 1, "branch_id": "1", "branch_name": "Scranton", "location": "PA", "Date": null,
        "last_modified": "1999", "area": 12345678901234567890.123456789012345678,
        "lease": {"name": [true, 0.10, {}], "id": 7}}"#;
    world.vendor.says_now(query("Scranton"), answer(&[branch]));
    world.answer(ONE_BRANCH).await;
    let expected = r#"{"branch_name": "Scranton", "branch_location": "PA", "branch_Date": null,
        "branch_last_modified": "1999", "area": 12345678901234567890.123456789012345678,
        "lease": {"name": [true, 0.1, {}], "id": 7}}"#;
    assert_eq!(world.row(), attributes(expected));
    let rows = world.table.rows();
    let last_modified = rows.values().next().unwrap().last_modified.as_deref();
    assert_eq!(last_modified, Some("2026-11-21T01:02:03.456Z"));
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_branch_costs_no_write_and_is_still_sent_on() {
    let world = World::new();
    world.answer("{}").await;
    let (rows, writes) = (world.table.rows(), world.table.writes());
    world.clock.advance(Duration::from_secs(3600));

    let answer = world.answer("{}").await;

    assert_eq!((&answer["unchanged"], &answer["updated"]), (&json!(13), &json!(0)));
    assert_eq!((world.table.rows(), world.table.writes()), (rows, writes));
    assert_eq!(world.sent().len(), 26);
}

#[tokio::test(start_paused = true)]
async fn what_changed_is_written_and_what_vanished_is_removed() {
    let world = World::new();
    world.answer(ONE_BRANCH).await;
    let changed = r#"{"id": 1, "branch_name": "Scranton", "manager": "Michael"}"#;
    world.vendor.says_now(query("Scranton"), answer(&[changed]));
    let answer = world.answer(ONE_BRANCH).await;
    assert_eq!(answer["updated"], 1);
    assert_eq!(
        world.row(),
        attributes(r#"{"branch_name": "Scranton", "manager": "Michael"}"#)
    );
}

#[tokio::test(start_paused = true)]
async fn a_branch_is_done_only_once_its_row_and_its_message_are_durable() {
    let world = World::new();
    world.employee_queue.fail(true);
    let error = world.failure(ONE_BRANCH).await;
    assert_eq!(
        error,
        "1 of 1 branches failed: Scranton: SQS did not take messages: the queue is down"
    );
    world.employee_queue.fail(false);

    world.table.fail_after(Some(0));
    let error = world.failure(&call(&["Akron"])).await;
    assert_eq!(
        error,
        "1 of 1 branches failed: Akron: DynamoDB did not write a row: the table is down"
    );
    world.table.fail_after(None);

    world.answer(&call(&["Scranton", "Akron"])).await;
    assert_eq!((world.row_ids().len(), world.sent_ids().len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn several_branches_are_in_work_at_once() {
    let world = World::new();
    for name in DEFAULT_BRANCHES {
        world
            .vendor
            .says_now(query(name), answer(&[]).after(Duration::from_secs(5)));
    }
    let start = Instant::now();
    world.answer("{}").await;
    assert!(start.elapsed() <= Duration::from_secs(10), "{:?}", start.elapsed());
    assert!(world.vendor.most_at_once() > 1);
}

#[tokio::test(start_paused = true)]
async fn an_invocation_that_is_stopped_or_out_of_time_begins_nothing_and_names_what_was_not_done() {
    let out_of_time = World {
        time_left: Duration::from_secs(11),
        ..World::new()
    };
    let stopped = World::new();
    stopped.stop.cancel();
    for world in [out_of_time, stopped] {
        let error = world.failure(&call(&["Akron", "Utica"])).await;
        assert!(
            error.starts_with("2 of 2 branches failed: Akron: ") && error.contains("; Utica: "),
            "{error}"
        );
        assert!(world.asked().is_empty() && world.row_ids().is_empty() && world.sent().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_takes_too_long_is_broken_off_before_the_invocation_ends() {
    let world = World {
        time_left: Duration::from_secs(30),
        ..World::new()
    };
    let slow = answer(&[r#"{"id": 2}"#]).after(Duration::from_secs(60));
    world.vendor.says_now(query("Akron"), slow);
    let start = Instant::now();
    let error = world.failure(&call(&["Akron", "Utica"])).await;
    assert!(error.starts_with("1 of 2 branches failed: Akron: "), "{error}");
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!(world.sent_ids(), ["6"]);
}

/// An SQS event with these bodies, the first of them with the id `0`.
fn records(bodies: &[&str]) -> String {
    let record = |(id, body): (usize, &&str)| json!({"messageId": id.to_string(), "receiptHandle": "r", "body": body});
    json!({ "Records": bodies.iter().enumerate().map(record).collect::<Vec<_>>() }).to_string()
}

#[tokio::test(start_paused = true)]
async fn the_bodies_of_records_are_events_whose_runs_are_their_own() {
    let world = World::new();
    let answer = world.answer(RECORDS).await;
    assert_eq!(answer, json!({"batchItemFailures": []}));
    let of_run = |run: &str| world.sent().into_iter().filter(|(_, run_id)| run_id == run).count();
    // The first record is a direct call without a run, the second the schedule's event.
    assert_eq!(of_run("2026-11-21T01:02:03Z"), 1);
    assert_eq!(of_run("2026-11-21T01:00:00Z"), 13);
}

#[tokio::test(start_paused = true)]
async fn records_that_fail_again_are_reported_and_the_others_are_done() {
    let world = World::new();
    world.vendor.says_now(query("Akron"), broken());
    let handled = world
        .handle(&records(&[
            &call(&["Akron", "Utica"]),
            "null",
            &call(&["Albany"]),
            "Scranton",
        ]))
        .await;
    assert_eq!(
        handled.answer.unwrap(),
        json!({"batchItemFailures": [{"itemIdentifier": "0"}, {"itemIdentifier": "1"}, {"itemIdentifier": "3"}]})
    );
    // Utica and Albany stand in an event of their own, and among all branches.
    assert_eq!(handled.counts.enqueued, 1 + 12 + 1);
    assert_eq!(world.row_ids().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_record_may_hold_an_event_of_records() {
    let world = World::new();
    world.vendor.says_now(query("Akron"), broken());
    let bad = records(&[&call(&["Akron"]), &call(&["Utica"])]);
    let good = records(&[&call(&["Albany"])]);
    let answer = world.answer(&records(&[&bad, &good])).await;
    assert_eq!(answer, json!({"batchItemFailures": [{"itemIdentifier": "0"}]}));
    assert_eq!(world.sent_ids(), ["6", "8"]);
}

#[tokio::test(start_paused = true)]
async fn no_records_are_no_failures() {
    let world = World::new();
    let answer = world.answer(r#"{"Records": []}"#).await;
    assert_eq!(answer, json!({"batchItemFailures": []}));
    assert!(world.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_tried_again_asks_only_for_the_branches_that_failed() {
    let world = World::with_state();
    world.vendor.says_now(
        query("Utica"),
        Reply::failure(FetchError::Transient {
            reason: "the vendor answered 500".to_owned(),
            tries: 4,
            malformed: None,
        }),
    );
    assert!(world.failure(SCHEDULE).await.contains("1 of 13 branches failed: Utica"));
    world
        .vendor
        .says_now(query("Utica"), answer(&[r#"{"id": 6, "branch_name": "Utica"}"#]));
    let again = world.answer(SCHEDULE).await;
    assert_eq!(
        (&again["api_calls"], &again["enqueued"], &again["already_done"]),
        (&1.into(), &1.into(), &12.into())
    );
    assert_eq!(world.sent_ids().len(), 13);
}

#[tokio::test(start_paused = true)]
async fn branches_that_are_known_are_sent_on_without_reading_a_row() {
    let world = World::with_state();
    world.answer("{}").await;
    let (reads, writes) = (world.table.reads(), world.table.writes());
    let known = world.answer(r#"{"branches": []}"#).await;
    assert_eq!(
        (&known["api_calls"], &known["unchanged"], &known["enqueued"]),
        (&13.into(), &13.into(), &13.into())
    );
    assert_eq!((world.table.reads(), world.table.writes()), (reads, writes));
    // But for those who want to see.
    world.answer(r#"{"branches": ["Utica"], "verify": true}"#).await;
    assert_eq!(world.table.reads(), reads + 1);
    assert!(
        world
            .employee_queue
            .bodies()
            .last()
            .unwrap()
            .contains(r#""verify":true"#)
    );
}

#[tokio::test(start_paused = true)]
async fn more_ids_than_are_remembered_are_sent_on_all_the_same() {
    let world = World::with_state();
    let ids: Vec<_> = (0..4).map(|place| format!("{place}{}", "x".repeat(1500))).collect();
    let branches: Vec<_> = ids.iter().map(|id| format!(r#"{{"id": "{id}"}}"#)).collect();
    let branches: Vec<_> = branches.iter().map(String::as_str).collect();
    world
        .vendor
        .says_now(query("Utica"), answer(&branches).with_etag("\"v1\""));
    for run in 1..=3 {
        let answer = world.answer(r#"{"branches": ["Utica"]}"#).await;
        assert_eq!(answer["enqueued"], 4, "run {run}: {answer}");
    }
    // What cannot be sent on without an answer is always asked for in full.
    assert_eq!(world.vendor.not_modified(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_a_killed_invocation_was_at_is_done_once_its_claim_is_over() {
    let world = World::with_state();
    let slow = answer(&[r#"{"id": 6, "branch_name": "Utica"}"#]).after(Duration::from_secs(30));
    world.vendor.says_now(query("Utica"), slow);
    tokio::select! {
        _ = world.answer(SCHEDULE) => panic!("not killed"),
        () = tokio::time::sleep(Duration::from_secs(20)) => {}
    }
    // As Lambda tries it again, a minute later.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let again = world.answer(SCHEDULE).await;
    assert_eq!(
        (&again["enqueued"], &again["already_done"]),
        (&1.into(), &12.into()),
        "{again}"
    );
}
