//! Every id once a run: what was done is not done again, and what is known is not compared again.

use super::*;

/// The same message of an earlier and of a later run; it is 01:02.
const EARLIER: &str = r#"{"branch_id": "1", "employee_id": "1235", "run_id": "2026-11-21T00:00:00Z"}"#;
const LATER: &str = r#"{"branch_id": "1", "employee_id": "1235", "run_id": "2026-11-21T01:01:00Z"}"#;

fn first_load(message: &str) -> String {
    message.replace('}', r#", "first_load": true}"#)
}

fn state() -> Arc<MemoryState> {
    Arc::default()
}

#[tokio::test(start_paused = true)]
async fn a_message_of_a_run_that_is_done_costs_one_read_and_no_request() {
    let state = state();
    let world = World::with_state(&state, &[&recent("1", "")]);
    assert_eq!(world.poll_with(MESSAGE).await["inserted"], 1);
    let (reads, writes) = (state.reads(), state.writes());
    for message in [MESSAGE, EARLIER] {
        let answer = world.poll_with(message).await;
        assert_eq!(answer["api_calls"], 0, "{message}");
        assert_eq!((&answer["already_done"], &answer["done"]), (&1.into(), &1.into()));
        assert!(world.queue.bodies().is_empty());
    }
    assert_eq!((state.reads() - reads, state.writes() - writes), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn duplicates_that_are_in_work_at_once_ask_once() {
    let world = World::with_state(&state(), &[]);
    let slow = answer("1235", &[&recent("1", "")]).after(Duration::from_secs(5));
    world.vendor.says_now(sales_of("1235"), slow);
    world.queue.put(MESSAGE);
    let answer = world.poll_with(MESSAGE).await;
    assert_eq!(
        (&answer["api_calls"], &answer["done"], &answer["deferred"]),
        (&1.into(), &1.into(), &1.into())
    );
    // The other one comes back, and uses up none of its tries.
    assert!(matches!(world.queue.waits()[..], [(wait, 0)] if wait <= Duration::from_secs(60)));
    tokio::time::sleep(Duration::from_secs(60)).await;
    let answer = world.answer("{}").await;
    assert_eq!((&answer["api_calls"], &answer["already_done"]), (&0.into(), &1.into()));
}

#[tokio::test(start_paused = true)]
async fn the_same_answer_again_costs_no_read_and_no_write_of_a_row() {
    let world = World::with_state(&state(), &[&recent("1", ""), &sale("2", "2026-11-01 00:00:00", "")]);
    world.poll_with(&first_load(MESSAGE)).await;
    let (reads, writes) = (world.table.reads(), world.table.writes());
    let answer = world.poll_with(LATER).await;
    assert_eq!(
        (&answer["api_calls"], &answer["unchanged"], &answer["skipped"]),
        (&1.into(), &1.into(), &1.into())
    );
    assert_eq!((world.table.reads(), world.table.writes()), (reads, writes));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_the_vendor_knows_by_name_is_not_sent_again() {
    let state = state();
    let world = World::with_state(&state, &[]);
    let named = answer("1235", &[&recent("1", "")]).with_etag("\"v1\"");
    world.vendor.says_now(sales_of("1235"), named);
    world.poll_with(MESSAGE).await;
    let reads = world.table.reads();
    let answered = world.poll_with(LATER).await;
    assert_eq!((&answered["api_calls"], &answered["unchanged"]), (&1.into(), &1.into()));
    assert_eq!(world.vendor.not_modified(), 1);
    assert_eq!(world.table.reads(), reads);
}

#[tokio::test(start_paused = true)]
async fn a_first_load_is_owed_although_a_later_run_has_looked_at_what_is_recent() {
    let world = World::with_state(&state(), &[&recent("1", ""), &sale("2", "2026-11-01 00:00:00", "")]);
    assert_eq!(world.poll_with(LATER).await["skipped"], 1);
    // It is of an earlier run, and the answer is the same.
    assert_eq!(world.poll_with(&first_load(MESSAGE)).await["inserted"], 1);
    assert_eq!(world.sale_ids(), ["1", "2"]);
    assert_eq!(world.poll_with(&first_load(EARLIER)).await["api_calls"], 0);
}

#[tokio::test(start_paused = true)]
async fn a_sale_gets_its_branch_as_soon_as_it_is_known_although_the_answer_is_the_same() {
    let world = World::with_state(&state(), &[&recent("1", "")]);
    world.answer(r#"{"employee_id": 1235}"#).await;
    assert!(!world.row("1").attributes.contains_key("branch_id"));
    let answer = world.poll_with(LATER).await;
    assert_eq!(answer["updated"], 1, "{answer}");
    assert_eq!(world.row("1").attributes["branch_id"], text("1"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_a_rejected_record_is_compared_again() {
    let world = World::with_state(&state(), &[&recent("1", ""), &sale("2", "soon", "")]);
    world.poll_with(MESSAGE).await;
    let reads = world.table.reads();
    let answer = world.poll_with(LATER).await;
    assert_eq!((&answer["unchanged"], &answer["rejected"]), (&1.into(), &1.into()));
    assert_eq!(world.table.reads() - reads, 1);
    // But not for the same run.
    assert_eq!(world.poll_with(LATER).await["api_calls"], 0);
}

#[tokio::test(start_paused = true)]
async fn to_force_is_to_ask_and_to_verify_is_to_compare_all_there_is() {
    let world = World::with_state(&state(), &[&recent("1", ""), &sale("2", "2026-11-01 00:00:00", "")]);
    world.poll_with(&first_load(MESSAGE)).await;
    world.put_row("2", r#"{"colour": "red"}"#, "2026-11-20T00:00:00.000Z");
    let call =
        |more: &str| format!(r#"{{"employee_id": 1235, "branch_id": 1, "run_id": "2026-11-21T01:00:00Z"{more}}}"#);
    let answer = world.answer(&call("")).await;
    assert_eq!((&answer["api_calls"], &answer["updated"]), (&0.into(), &0.into()));
    let answer = world.answer(&call(r#", "force": true"#)).await;
    assert_eq!((&answer["api_calls"], &answer["updated"]), (&1.into(), &0.into()));
    let answer = world.answer(&call(r#", "verify": true"#)).await;
    assert_eq!((&answer["updated"], &answer["unchanged"]), (&1.into(), &1.into()));
    // A message can ask for it, too, once a run.
    let verify = MESSAGE.replace('}', r#", "verify": true}"#);
    assert_eq!(world.poll_with(&verify).await["api_calls"], 0);
}

#[tokio::test(start_paused = true)]
async fn without_the_state_table_the_work_is_done_and_not_remembered() {
    let state = state();
    let world = World::with_state(&state, &[&recent("1", "")]);
    world.poll_with(MESSAGE).await;
    // given rows of which no checkpoint knows
    state.fail(true);
    world.change_sales(&[&recent("1", r#", "paper": "A4""#)]);
    let answer = world.poll_with(LATER).await;
    assert_eq!((&answer["updated"], &answer["failed"]), (&1.into(), &0.into()));
    assert!(answer["state_failures"].as_u64().unwrap() > 0);
    state.fail(false);
    // then a run that can be remembered is
    assert_eq!(world.poll_with(LATER).await["api_calls"], 1);
    assert_eq!(world.poll_with(LATER).await["api_calls"], 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_known_is_no_longer_once_somebody_was_killed_at_work() {
    let state = state();
    let world = World::with_state(&state, &[&recent("1", "")]);
    world.poll_with(MESSAGE).await;
    // given somebody who has written a row and is killed before he can say so
    let other = recent("1", r#", "paper": "A4""#);
    world.vendor.says_now(
        sales_of("1235"),
        super::answer("1235", &[&other]).after(Duration::from_secs(5)),
    );
    world.queue.put(LATER);
    tokio::select! {
        _ = world.answer("{}") => panic!("not killed"),
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
    }
    world.put_row("1", r#"{"branch_id": "1", "paper": "A4"}"#, "2026-11-21T01:02:04.000Z");
    // when the vendor says again what it said before
    world.change_sales(&[&recent("1", "")]);
    tokio::time::sleep(Duration::from_secs(910)).await;
    world.answer("{}").await;
    // then the row is compared
    assert!(!world.row("1").attributes.contains_key("paper"));
}

#[tokio::test(start_paused = true)]
async fn a_run_of_the_future_does_not_make_the_hours_until_then_count_as_done() {
    let world = World::with_state(&state(), &[&recent("1", "")]);
    world.poll_with(&MESSAGE.replace("2026", "2099")).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let next = MESSAGE.replace("T01", "T02");
    assert_eq!(world.poll_with(&next).await["api_calls"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_looks_back_less_far_than_a_run_does_not_do_the_run() {
    let world = World::with_state(&state(), &[&recent("1", ""), &sale("2", "2026-11-20 12:00:00", "")]);
    world
        .answer(r#"{"employee_id": 1235, "branch_id": 1, "lookback_hours": 2}"#)
        .await;
    assert_eq!(world.sale_ids(), ["1"]);
    assert_eq!(world.poll_with(MESSAGE).await["inserted"], 1);
    assert_eq!(world.sale_ids(), ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn who_is_late_past_his_claim_makes_nobody_trust_what_he_may_have_written_over() {
    let state = state();
    let world = World::with_state(&state, &[&recent("1", "")]);
    world.poll_with(&first_load(EARLIER)).await;
    // given somebody who asks, and whose claim is taken from him while he waits
    let changed = recent("1", r#", "paper": "A4""#);
    world.vendor.says_now(
        sales_of("1235"),
        super::answer("1235", &[&changed]).after(Duration::from_secs(5)),
    );
    world.queue.put(MESSAGE);
    let other = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let entry = state.entries()["sales/1235"].clone();
        let known = serde_json::json!({"run_id": "2026-11-21T01:00:00Z", "whole_run_id": "2026-11-21T01:00:00Z",
            "answer": {"rules": 1, "fingerprint": "f", "fetched_at": "x", "gives_branch": true, "effects": {"records": 1}}});
        let next = shared::state::Entry::after(Some(&entry), &known, None).unwrap();
        state.swap("sales/1235", Some(entry.version), &next).await.unwrap();
    };
    tokio::join!(world.answer("{}"), other);
    // then nothing is known any more
    assert!(!state.entries()["sales/1235"].body.contains_key("answer"));
}
