//! What cannot be stored is remembered, and comes first.

use shared::rejections::Remembered;
use shared::state::{Entry, StateTable};

use super::*;

fn world(employees: &[&str]) -> (World, Arc<MemoryState>) {
    let state = Arc::new(MemoryState::default());
    let world = World::build(Some(state.clone()));
    world.vendor.says(employees_of("1"), answer("1", employees));
    (world, state)
}

fn remembered(state: &MemoryState) -> Remembered {
    state.entries()["rejected/employees/1"].read().unwrap()
}

/// As the sale collector notes whose sales were rejected.
async fn reject_sales_of(state: &MemoryState, ids: &[&str]) {
    let index = Entry::after(None, &json!({ "ids": ids }), None).unwrap();
    state.swap("rejected/sales", None, &index).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rejected_salesperson_is_remembered_until_mended() {
    let bad = r#"{"id": 2, "occupation": "salesperson", "": 1}"#;
    let (world, state) = world(&[
        &salesperson("1"),
        bad,
        r#"{"id": 3, "occupation": "accountant", "": 1}"#,
    ]);
    world.answer(r#"{"branch_id": 1}"#).await;
    let noted = remembered(&state);
    assert_eq!((noted.total, &*noted.records[0].id), (1, "2"));
    assert_eq!(noted.records[0].sighting.sample, bad);
    world
        .vendor
        .says_now(employees_of("1"), answer("1", &[&salesperson("1"), &salesperson("2")]));
    world.answer(r#"{"branch_id": 1}"#).await;
    assert!(remembered(&state).is_empty());
}

#[tokio::test(start_paused = true)]
async fn salespersons_whose_sales_were_rejected_are_sent_on_first_whether_the_answer_is_new_or_known() {
    let employees = ["5", "6", "7", "8"].map(salesperson);
    let (world, state) = world(&employees.each_ref().map(String::as_str));
    reject_sales_of(&state, &["8", "6", "99"]).await;
    for (run, first_load) in [("new", true), ("known", false)] {
        let sent = world.sent().len();
        world.answer(r#"{"branch_id": 1}"#).await;
        let expected = ["6", "8", "5", "7"].map(|id| (id, "1", first_load));
        assert_eq!(world.first_loads().split_off(sent), first_loads(&expected), "{run}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_malformed_answer_is_remembered() {
    let (world, state) = world(&[]);
    world.vendor.says_now(employees_of("1"), answer("2", &[]));
    world.employee_queue.put(MESSAGE);
    assert_eq!(world.answer("{}").await["dead_lettered"], 1);
    let malformed = remembered(&state).malformed.unwrap();
    assert_eq!(
        malformed.reason,
        "the vendor's answer is not as expected: it is about branch_id 2, not 1"
    );
    assert_eq!(malformed.sample, body("2", &[]));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_is_remembered_until_there_is_one_though_it_is_known() {
    let (world, state) = world(&[&salesperson("1")]);
    world.answer(r#"{"branch_id": 1}"#).await;
    world.vendor.says_now(
        employees_of("1"),
        Reply::failure(FetchError::Transient {
            reason: "the answer is not JSON (8 bytes)".to_owned(),
            tries: 4,
            malformed: Some("<html>no".to_owned()),
        }),
    );
    world
        .employee_queue
        .put(r#"{"branch_id": 1, "run_id": "2026-12-01T00:00:00Z"}"#);
    world.answer("{}").await;
    let malformed = remembered(&state).malformed.unwrap();
    assert_eq!(
        (&*malformed.reason, &*malformed.sample),
        ("the answer is not JSON (8 bytes)", "<html>no")
    );
    world
        .vendor
        .says_now(employees_of("1"), answer("1", &[&salesperson("1")]));
    world.answer(r#"{"branch_id": 1}"#).await;
    assert!(remembered(&state).is_empty());
}
