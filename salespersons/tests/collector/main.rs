//! The salesperson collector: events and messages go in; rows, messages and answers come out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use salespersons::SalespersonCollector;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use shared::account::Accounts;
use shared::checkpoint::Checkpoints;
use shared::clock::Clock;
use shared::collector::{Call, Handled, handle};
use shared::deletions::{DeletionRules, Rosters};
use shared::entity::Entity;
use shared::id::Id;
use shared::jitter::Jitter;
use shared::queue::DeadLetter;
use shared::queue::memory::MemoryQueue;
use shared::record::Key;
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

const POLL: &str = include_str!("../../../events/poll.json");
const DIRECT: &str = include_str!("../../../events/salesperson.json");
const RECORDS: &str = include_str!("../../../events/salespersons-sqs.json");

/// The message that the branch collector sends for branch 1.
const MESSAGE: &str = r#"{"branch_id": "1", "run_id": "2026-11-21T01:00:00Z"}"#;

/// What the collector works with, and the collector.
struct World {
    vendor: Arc<ScriptedVendor>,
    table: Arc<MemoryTable>,
    employee_queue: Arc<MemoryQueue>,
    sale_queue: Arc<MemoryQueue>,
    collector: SalespersonCollector,
    clock: Clock,
}

impl World {
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
        let table = Arc::new(MemoryTable::new(Entity::Salesperson));
        let employee_queue = Arc::new(MemoryQueue::default());
        let sale_queue = Arc::new(MemoryQueue::default());
        let collector = SalespersonCollector {
            vendor: vendor.clone(),
            table: table.clone(),
            employee_queue: employee_queue.clone(),
            sale_queue: sale_queue.clone(),
            poll_window: Duration::from_secs(50),
            jitter: Jitter::seeded(1),
            checkpoints: Checkpoints::new(state.clone(), clock.clone(), Jitter::seeded(2)),
            rosters: Rosters::new(state.clone(), DeletionRules::default()),
            rejections: Rejections::new(state, clock.clone(), Excerpts::default()),
            accounts: Accounts::none(),
        };
        Self {
            vendor,
            table,
            employee_queue,
            sale_queue,
            collector,
            clock,
        }
    }

    /// A vendor whose branch 1 has these employees, and a message that asks for them.
    fn with_employees(employees: &[&str]) -> Self {
        let world = Self::new();
        world.vendor.says(employees_of("1"), answer("1", employees));
        world.employee_queue.put(MESSAGE);
        world
    }

    async fn handle(&self, event: &str) -> Handled {
        let call = Call {
            request_id: "request".to_owned(),
            now: self.clock.now(),
            deadline: Instant::now() + Duration::from_secs(900),
            stop: CancellationToken::new(),
        };
        handle(&self.collector, event, call).await
    }

    async fn answer(&self, event: &str) -> Json {
        self.handle(event).await.answer.unwrap()
    }

    /// Lets the message that was left in the queue become visible, and polls again.
    async fn poll_later(&self) -> Json {
        tokio::time::sleep(Duration::from_secs(900)).await;
        self.answer("{}").await
    }

    /// The messages sent to the sale queue.
    fn sent(&self) -> Vec<Json> {
        let bodies = self.sale_queue.bodies();
        bodies.iter().map(|body| serde_json::from_str(body).unwrap()).collect()
    }

    /// Employee, branch and whether it is the first load, of each message sent.
    fn first_loads(&self) -> Vec<(String, String, bool)> {
        let text = |message: &Json, name: &str| message[name].as_str().unwrap().to_owned();
        self.sent()
            .iter()
            .map(|message| {
                let first_load = message.get("first_load").is_some_and(|first| first == true);
                (text(message, "employee_id"), text(message, "branch_id"), first_load)
            })
            .collect()
    }

    fn keys(&self) -> Vec<(String, String)> {
        let key = |key: &Key| (key.id.to_string(), key.parent.as_ref().unwrap().to_string());
        self.table.rows().keys().map(key).collect()
    }

    fn row(&self, employee_id: &str, branch_id: &str) -> BTreeMap<String, Value> {
        let key = Key {
            id: id(employee_id),
            parent: Some(id(branch_id)),
        };
        self.table.rows()[&key].attributes.clone()
    }
}

fn id(text: &str) -> Id {
    Id::new(text.to_owned()).unwrap()
}

fn employees_of(branch_id: &str) -> Query {
    Query::Employees(id(branch_id))
}

fn body(branch_id: &str, employees: &[&str]) -> String {
    let employees = employees.join(", ");
    format!(r#"{{"result": {{"branch_id": {branch_id}, "employees": [{employees}]}}}}"#)
}

fn answer(branch_id: &str, employees: &[&str]) -> Reply {
    Reply::body(body(branch_id, employees))
}

fn salesperson(employee_id: &str) -> String {
    format!(r#"{{"id": {employee_id}, "occupation": "salesperson"}}"#)
}

fn attributes(json: &str) -> BTreeMap<String, Value> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(json).unwrap();
    let value = |(name, raw)| (name, Value::from_json(raw).unwrap());
    members.into_iter().map(value).collect()
}

fn text_pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect()
}

fn first_loads(expected: &[(&str, &str, bool)]) -> Vec<(String, String, bool)> {
    let owned = |(employee, branch, first): &(&str, &str, bool)| ((*employee).to_owned(), (*branch).to_owned(), *first);
    expected.iter().map(owned).collect()
}

#[tokio::test(start_paused = true)]
async fn a_poll_writes_the_salespersons_of_its_messages_and_sends_each_on() {
    let world = World::with_employees(&[
        r#"{"id": 1234, "occupation": "data engineer", "name": "John Doe"}"#,
        r#"{"id": 1235, "occupation": "salesperson", "name": "Jim Halpert", "branch_id": 1, "desk": 4.50}"#,
    ]);

    let answer = world.answer(POLL).await;

    assert_eq!(world.keys(), text_pairs(&[("1235", "1")]));
    assert_eq!(
        world.row("1235", "1"),
        attributes(r#"{"occupation": "salesperson", "employee_name": "Jim Halpert", "desk": 4.5}"#)
    );
    assert_eq!(
        world.sent(),
        [json!({"branch_id": "1", "employee_id": "1235", "run_id": "2026-11-21T01:00:00Z", "first_load": true})]
    );
    assert!(world.employee_queue.bodies().is_empty());
    for (field, value) in [
        ("statusCode", json!(200)),
        ("run_id", json!("2026-11-21T01:01:00Z")),
        ("api_calls", json!(1)),
        ("inserted", json!(1)),
        ("updated", json!(0)),
        ("unchanged", json!(0)),
        ("skipped", json!(0)),
        ("rejected", json!(0)),
        ("enqueued", json!(1)),
        ("failed", json!(0)),
    ] {
        assert_eq!(answer[field], value, "{field}");
    }
}

#[tokio::test(start_paused = true)]
async fn runs_travel_on_and_a_message_without_one_belongs_to_the_invocations() {
    let world = World::new();
    for branch_id in ["1", "2"] {
        world
            .vendor
            .says(employees_of(branch_id), answer(branch_id, &[&salesperson("7")]));
    }
    world.employee_queue.put(MESSAGE);
    world.employee_queue.put(r#"{"branch_id": 2}"#);

    let answer = world.answer("{}").await;

    let runs: Vec<_> = world.sent().iter().map(|sent| sent["run_id"].clone()).collect();
    assert_eq!(runs, ["2026-11-21T01:00:00Z", "2026-11-21T01:02:03Z"]);
    assert_eq!(answer["run_id"], "2026-11-21T01:02:03Z");
}

#[tokio::test(start_paused = true)]
async fn an_occupation_is_salesperson_in_any_case_of_letters() {
    let employee = |number: u32, occupation: Json| json!({"id": number, "occupation": occupation}).to_string();
    let employees = [
        employee(1, json!("salesperson")),
        employee(2, json!("Salesperson")),
        employee(3, json!("SALESPERSON")),
        employee(4, json!("salespersons")),
        employee(5, json!(null)),
        employee(6, json!(["salesperson"])),
        r#"{"id": 7}"#.to_owned(),
    ];
    let world = World::with_employees(&employees.each_ref().map(String::as_str));
    let answer = world.answer("{}").await;
    assert_eq!(world.keys(), text_pairs(&[("1", "1"), ("2", "1"), ("3", "1")]));
    assert_eq!((&answer["enqueued"], &answer["rejected"]), (&json!(3), &json!(0)));
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_an_employee_who_is_no_salesperson_is_none_of_ours() {
    let number = "1".repeat(39);
    let world = World::with_employees(&[
        &format!(r#"{{"id": 1, "occupation": "accountant", "badge": {number}}}"#),
        r#"{"occupation": "accountant"}"#,
        r#"{"id": null}"#,
    ]);
    let answer = world.answer("{}").await;
    assert_eq!((&answer["rejected"], &answer["enqueued"]), (&json!(0), &json!(0)));
    assert!(world.keys().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_bad_record_is_rejected_and_its_salesperson_still_sent_on_if_the_id_is_usable() {
    let number = "1".repeat(39);
    let long = "x".repeat(2049);
    let world = World::with_employees(&[
        &format!(r#"{{"id": 1, "occupation": "salesperson", "badge": {number}}}"#),
        r#"{"id": 2, "occupation": "salesperson", "name": "a", "employee_name": "b"}"#,
        r#"{"id": 3, "occupation": "salesperson", "\ud800": "half a character"}"#,
        r#"{"id": "", "occupation": "salesperson"}"#,
        r#"{"id": true, "occupation": "salesperson"}"#,
        r#"{"occupation": "salesperson"}"#,
        &format!(r#"{{"id": "{long}", "occupation": "salesperson"}}"#),
        "[]",
        &salesperson("4"),
    ]);

    let answer = world.answer("{}").await;

    assert_eq!(
        (&answer["inserted"], &answer["rejected"], &answer["enqueued"]),
        (&json!(1), &json!(8), &json!(4))
    );
    assert_eq!(world.keys(), text_pairs(&[("4", "1")]));
    let sent = world.first_loads();
    assert_eq!(
        sent,
        first_loads(&[("1", "1", true), ("2", "1", true), ("3", "1", true), ("4", "1", true)])
    );
}

#[tokio::test(start_paused = true)]
async fn of_the_same_id_twice_in_one_answer_the_last_stands_and_is_sent_on_once() {
    let world = World::with_employees(&[
        r#"{"id": 1, "occupation": "salesperson", "desk": 1}"#,
        r#"{"id": 2, "occupation": "salesperson"}"#,
        r#"{"id": "1", "occupation": "salesperson", "desk": 2}"#,
        r#"{"id": 2, "occupation": "accountant"}"#,
    ]);
    let answer = world.answer("{}").await;
    assert_eq!((&answer["inserted"], &answer["enqueued"]), (&json!(1), &json!(1)));
    assert_eq!(
        world.row("1", "1"),
        attributes(r#"{"occupation": "salesperson", "desk": 2}"#)
    );
}

#[tokio::test(start_paused = true)]
async fn the_records_of_all_pages_are_one_answer() {
    let world = World::new();
    let pages = [body("1", &[&salesperson("5")]), body("\"1\"", &[&salesperson("6")])];
    world.vendor.says(employees_of("1"), Reply::pages(pages));
    let answer = world.answer(r#"{"branch_id": "1"}"#).await;
    assert_eq!((&answer["inserted"], &answer["api_calls"]), (&json!(2), &json!(2)));
}

#[tokio::test(start_paused = true)]
async fn it_is_the_first_load_exactly_where_there_is_no_row_for_employee_and_branch() {
    let world = World::with_employees(&[&salesperson("7")]);
    world.answer("{}").await;
    assert_eq!(world.first_loads(), first_loads(&[("7", "1", true)]));

    // A second salesperson comes, and the first one works at a second branch.
    let both = [&*salesperson("7"), &*salesperson("8")];
    world.vendor.says_now(employees_of("1"), answer("1", &both));
    world.vendor.says(employees_of("2"), answer("2", &[&salesperson("7")]));
    world.employee_queue.put(MESSAGE);
    world.employee_queue.put(r#"{"branch_id": "2"}"#);
    world.answer("{}").await;
    assert_eq!(
        world.first_loads()[1..],
        first_loads(&[("7", "1", false), ("8", "1", true), ("7", "2", true)])
    );
    assert_eq!(world.keys(), text_pairs(&[("7", "1"), ("7", "2"), ("8", "1")]));
}

#[tokio::test(start_paused = true)]
async fn no_row_is_written_before_its_message_is_durable() {
    let world = World::with_employees(&[&salesperson("7")]);
    world.sale_queue.fail(true);
    let answer = world.answer("{}").await;
    assert_eq!((&answer["failed"], &answer["enqueued"]), (&json!(1), &json!(0)));
    assert_eq!((world.keys().len(), world.table.writes()), (0, 0));
    assert_eq!(world.employee_queue.bodies(), [MESSAGE]);

    world.sale_queue.fail(false);
    let answer = world.poll_later().await;
    assert_eq!((&answer["failed"], &answer["inserted"]), (&json!(0), &json!(1)));
    assert_eq!(world.first_loads(), first_loads(&[("7", "1", true)]));
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_message_and_row_still_owes_the_first_load() {
    let world = World::with_employees(&[&salesperson("7")]);
    world.table.fail_after(Some(0));
    assert_eq!(world.answer("{}").await["failed"], 1);
    assert!(world.keys().is_empty());
    world.table.fail_after(None);
    assert_eq!(world.poll_later().await["inserted"], 1);
    world.employee_queue.put(MESSAGE);
    world.answer("{}").await;
    assert_eq!(
        world.first_loads(),
        first_loads(&[("7", "1", true), ("7", "1", true), ("7", "1", false)])
    );
}

#[tokio::test(start_paused = true)]
async fn a_crash_amid_a_long_answer_owes_the_first_load_of_exactly_those_without_a_row() {
    let employees: Vec<_> = (1000..1250).map(|id| salesperson(&id.to_string())).collect();
    let employees: Vec<_> = employees.iter().map(String::as_str).collect();
    let world = World::with_employees(&employees);
    world.table.fail_after(Some(130));
    assert_eq!(world.answer("{}").await["failed"], 1);
    assert_eq!(world.keys().len(), 130);
    let with_row: Vec<_> = world.keys().into_iter().map(|(employee_id, _)| employee_id).collect();
    let sent_before = world.sent().len();

    world.table.fail_after(None);
    let answer = world.poll_later().await;

    assert_eq!((&answer["inserted"], &answer["unchanged"]), (&json!(120), &json!(130)));
    let sent = world.first_loads().split_off(sent_before);
    assert_eq!(sent.len(), 250);
    for (employee_id, _, first_load) in sent {
        assert_eq!(first_load, !with_row.contains(&employee_id), "{employee_id}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_salesperson_costs_no_write_and_is_still_sent_on() {
    let world = World::with_employees(&[r#"{"id": 7, "occupation": "salesperson", "quota": 1.10, "a": {"b": [1]}}"#]);
    world.answer("{}").await;
    let (rows, writes) = (world.table.rows(), world.table.writes());
    let same = r#"{"a": {"b": [1.0]}, "quota": 11e-1, "occupation": "salesperson", "id": "7"}"#;
    world.vendor.says_now(employees_of("1"), answer("1", &[same]));
    world.clock.advance(Duration::from_secs(3600));
    world.employee_queue.put(MESSAGE);

    let answer = world.answer("{}").await;

    assert_eq!((&answer["unchanged"], &answer["enqueued"]), (&json!(1), &json!(1)));
    assert_eq!((world.table.rows(), world.table.writes()), (rows, writes));
}

#[tokio::test(start_paused = true)]
async fn a_direct_call_collects_one_branch_and_leaves_the_queue_alone() {
    let world = World::new();
    world
        .vendor
        .says(employees_of("234"), answer("234", &[&salesperson("34646")]));
    world.employee_queue.put(MESSAGE);
    let answer = world.answer(DIRECT).await;
    assert_eq!(world.vendor.asked(), [employees_of("234")]);
    assert_eq!(
        world.sent(),
        [json!({"branch_id": "234", "employee_id": "34646", "run_id": "2026-11-21T01:02:03Z", "first_load": true})]
    );
    assert_eq!((&answer["inserted"], &answer["enqueued"]), (&json!(1), &json!(1)));
    assert_eq!(world.employee_queue.waits(), [(Duration::ZERO, 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_direct_call_whose_work_fails_ends_in_an_error_that_says_why() {
    let wait = Duration::from_secs(1200);
    for (reply, reason) in [
        (answer("235", &[]), "it is about branch_id 235, not 234"),
        (
            Reply::failure(FetchError::Permanent("the vendor answered 404 Not Found".to_owned())),
            "404 Not Found",
        ),
        (
            Reply::failure(FetchError::Transient {
                reason: "the vendor answered 503".to_owned(),
                tries: 4,
                malformed: None,
            }),
            "503, after 4 tries",
        ),
        (
            Reply::failure(FetchError::Quota { wait }),
            "no place for another 1200 s",
        ),
        (answer("234", &[]).after(Duration::from_secs(1000)), "time was over"),
    ] {
        let world = World::new();
        world.vendor.says(employees_of("234"), reply);
        let error = world.handle(DIRECT).await.answer.unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
        assert!(world.sent().is_empty() && world.keys().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_of_another_shape_is_refused_and_nothing_is_called_or_written() {
    for event in [
        "null",
        "[]",
        r#"{"branches": ["Scranton"]}"#,
        r#"{"employee_id": 34646, "branch_id": 234}"#,
        r#"{"branch_id": null}"#,
        r#"{"branch_id": ""}"#,
        r#"{"branch_id": 1.5}"#,
        r#"{"branch_id": [234]}"#,
        r#"{"Records": "none"}"#,
    ] {
        let world = World::new();
        world.employee_queue.put(MESSAGE);
        let error = world.handle(event).await.answer.unwrap_err().to_string();
        assert!(error.contains(r#"{"branch_id": 234}"#), "{event}: {error}");
        assert!(world.vendor.asked().is_empty() && world.sent().is_empty(), "{event}");
        assert_eq!(world.table.reads() + world.table.writes(), 0, "{event}");
        assert_eq!(world.employee_queue.waits(), [(Duration::ZERO, 0)], "{event}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_can_never_succeed_goes_to_the_dead_letter_queue_with_reason_and_run() {
    let not_as_expected = "the vendor's answer is not as expected: ";
    for (message, reply, reason) in [
        (
            MESSAGE,
            Reply::body(r#"{"result": []}"#),
            format!("{not_as_expected}result is not a JSON object"),
        ),
        (
            MESSAGE,
            Reply::body("[]"),
            format!("{not_as_expected}the answer is not a JSON object"),
        ),
        (
            MESSAGE,
            answer("2", &[]),
            format!("{not_as_expected}it is about branch_id 2, not 1"),
        ),
        (
            MESSAGE,
            Reply::pages([body("1", &[&salesperson("7")]), body("2", &[])]),
            format!("{not_as_expected}it is about branch_id 2, not 1"),
        ),
        (
            MESSAGE,
            Reply::failure(FetchError::Permanent("the vendor answered 403 Forbidden".to_owned())),
            "the vendor answered 403 Forbidden".to_owned(),
        ),
    ] {
        let world = World::new();
        world.vendor.says(employees_of("1"), reply);
        world.employee_queue.put(message);
        let answer = world.answer("{}").await;
        let letter = DeadLetter {
            body: message.to_owned(),
            reason,
            run_id: "2026-11-21T01:00:00Z".to_owned(),
        };
        assert_eq!(world.employee_queue.dead_letters(), [letter]);
        assert!(world.employee_queue.bodies().is_empty() && world.keys().is_empty() && world.sent().is_empty());
        assert_eq!((&answer["failed"], &answer["dead_lettered"]), (&json!(0), &json!(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_none_is_asked_nothing_about() {
    for message in [
        "",
        "{'branch_id': '1'}",
        r#"{"branch": 1}"#,
        r#"{"branch_id": {}}"#,
        r#"["1"]"#,
    ] {
        let world = World::with_employees(&[]);
        world.employee_queue.put(message);
        let answer = world.answer("{}").await;
        let letters = world.employee_queue.dead_letters();
        assert_eq!((letters.len(), &*letters[0].body), (1, message));
        assert!(
            letters[0].reason.contains("the message is not as expected"),
            "{}",
            letters[0].reason
        );
        // It names no run that could be read.
        assert_eq!(letters[0].run_id, "2026-11-21T01:02:03Z");
        // The good one beside it was done.
        assert_eq!((world.vendor.asked().len(), &answer["done"]), (1, &json!(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn of_an_events_records_only_those_that_may_succeed_later_are_reported() {
    let world = World::new();
    let broken = FetchError::Transient {
        reason: "the vendor answered 500".to_owned(),
        tries: 4,
        malformed: None,
    };
    world.vendor.says(employees_of("234"), answer("999", &[]));
    world.vendor.says(employees_of("235"), Reply::failure(broken));
    let handled = world.handle(RECORDS).await;
    assert_eq!(
        handled.answer.unwrap(),
        json!({"batchItemFailures": [{"itemIdentifier": "059f36b4-87a3-44ab-83d2-661975470002"}]})
    );
    assert_eq!(world.employee_queue.dead_letters().len(), 1);
    assert_eq!((handled.counts.failed, handled.counts.dead_lettered), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn an_events_records_are_worked_through_with_their_runs() {
    let world = World::new();
    for branch_id in ["234", "235"] {
        world
            .vendor
            .says(employees_of(branch_id), answer(branch_id, &[&salesperson("7")]));
    }
    assert_eq!(world.answer(RECORDS).await, json!({"batchItemFailures": []}));
    assert_eq!(world.keys(), text_pairs(&[("7", "234"), ("7", "235")]));
    assert!(world.sent().iter().all(|sent| sent["run_id"] == "2026-11-21T01:00:00Z"));
    let answer = world.answer(r#"{"Records": []}"#).await;
    assert_eq!(answer, json!({"batchItemFailures": []}));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_known_sends_each_salesperson_on_without_reading_a_row() {
    let world = World::with_state();
    let employees = [
        r#"{"id": 1235, "occupation": "salesperson"}"#,
        r#"{"id": 1236, "occupation": "accountant"}"#,
        r#"{"id": 1237, "occupation": "Salesperson"}"#,
    ];
    // The vendor knows the second answer by its name, and sends the others in full.
    let named = answer("1", &employees).with_etag("\"v1\"");
    world.vendor.says(employees_of("1"), named);
    world.employee_queue.put(MESSAGE);
    assert_eq!(world.answer("{}").await["inserted"], 2);
    let (reads, writes) = (world.table.reads(), world.table.writes());
    for (minute, not_modified) in [("01", 1), ("02", 2)] {
        world
            .employee_queue
            .put(MESSAGE.replace("T01:00", &format!("T01:{minute}")));
        let known = world.answer("{}").await;
        assert_eq!(
            (&known["unchanged"], &known["enqueued"]),
            (&2.into(), &2.into()),
            "{known}"
        );
        assert_eq!(world.vendor.not_modified(), not_modified);
    }
    assert_eq!((world.table.reads(), world.table.writes()), (reads, writes));
    let first_loads: Vec<_> = world
        .first_loads()
        .into_iter()
        .map(|(id, _, first)| (id, first))
        .collect();
    let expected = [
        ("1235", true),
        ("1237", true),
        ("1235", false),
        ("1237", false),
        ("1235", false),
        ("1237", false),
    ];
    assert_eq!(first_loads, expected.map(|(id, first)| (id.to_owned(), first)));
}

#[tokio::test(start_paused = true)]
async fn a_branch_is_asked_for_once_a_run_and_its_messages_are_sent_once() {
    let world = World::with_state();
    world.vendor.says(
        employees_of("1"),
        answer("1", &[r#"{"id": 1235, "occupation": "salesperson"}"#]),
    );
    world.employee_queue.put(MESSAGE);
    world.answer("{}").await;
    world.employee_queue.put(MESSAGE);
    let again = world.answer("{}").await;
    assert_eq!(
        (&again["api_calls"], &again["already_done"], &again["enqueued"]),
        (&0.into(), &1.into(), &0.into())
    );
    assert_eq!(world.sent().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_message_asks_for_goes_on_with_those_it_leads_to() {
    let world = World::with_state();
    world.vendor.says(
        employees_of("1"),
        answer("1", &[r#"{"id": 1235, "occupation": "salesperson"}"#]),
    );
    world
        .employee_queue
        .put(MESSAGE.replace('}', r#", "verify": true, "background": true}"#));
    world.answer("{}").await;
    assert_eq!(
        (&world.sent()[0]["verify"], &world.sent()[0]["background"]),
        (&true.into(), &true.into())
    );
}
