//! Sales that the vendor has taken back, and those that are back.

use serde_json::json;

use super::*;

/// Two days old: outside of the lookback.
fn old(sale_id: &str) -> String {
    sale(sale_id, "2026-11-19 00:00:00", "")
}

/// A world whose deletions of sales are looked for, and in which everything is looked at once.
async fn world(sales: &[&str]) -> (World, Arc<MemoryState>) {
    let state = Arc::new(MemoryState::default());
    let mut world = World::with_state(&state, sales);
    let rules = DeletionRules::of(&[Entity::Sale]).with_max_percent(50);
    world.collector.rosters = Rosters::new(Some(state.clone()), rules);
    let first_load = r#"{"employee_id": 1235, "branch_id": 1, "first_load": true}"#;
    world.answer(first_load).await;
    (world, state)
}

async fn next_run(world: &World) -> Json {
    world.clock.advance(Duration::from_secs(60));
    world.answer(r#"{"employee_id": 1235, "branch_id": 1}"#).await
}

fn counts(answer: &Json) -> [u64; 5] {
    ["inserted", "updated", "deleted", "held_back", "skipped"].map(|name| answer[name].as_u64().unwrap())
}

fn marked(world: &World) -> Vec<String> {
    let rows = world.table.rows().into_iter();
    rows.filter(|(_, row)| row.is_deleted())
        .map(|(key, _)| key.id.to_string())
        .collect()
}

fn roster(state: &MemoryState) -> Json {
    state.entries()["roster/sales/1235"].body.clone().into()
}

#[tokio::test(start_paused = true)]
async fn sales_that_were_taken_back_are_marked_however_old_where_the_setting_says_so() {
    let all = [recent("1", ""), old("2"), recent("3", ""), old("4")];
    let all = all.each_ref().map(String::as_str);
    let (told, state) = world(&all).await;
    told.change_sales(&all[2..]);
    let answer = next_run(&told).await;
    assert_eq!(
        (counts(&answer), marked(&told)),
        ([0, 0, 2, 0, 1], vec!["1".to_owned(), "2".to_owned()])
    );
    assert_eq!(roster(&state), json!({"ids": ["3", "4"], "gone": ["1", "2"]}));
    // The branch it was first seen under stays.
    assert_eq!(told.row("2").attributes["branch_id"], text("1"));
    let writes = told.table.writes();
    assert_eq!(counts(&next_run(&told).await)[..4], [0; 4]);
    assert_eq!(told.table.writes(), writes);

    // By default nobody looks for them.
    let state = Arc::new(MemoryState::default());
    let world = World::with_state(&state, &all);
    next_run(&world).await;
    world.change_sales(&all[2..]);
    assert_eq!(counts(&next_run(&world).await)[..4], [0; 4]);
    assert!(!state.entries().contains_key("roster/sales/1235"));
}

#[tokio::test(start_paused = true)]
async fn a_sale_that_is_back_is_unmarked_although_it_is_older_than_the_lookback() {
    let all = [recent("1", ""), old("2"), old("3")];
    let all = all.each_ref().map(String::as_str);
    let (world, state) = world(&all).await;
    world.change_sales(&[all[0], all[2]]);
    assert_eq!(counts(&next_run(&world).await), [0, 0, 1, 0, 1]);
    world.change_sales(&all);
    assert_eq!(counts(&next_run(&world).await), [0, 1, 0, 0, 1]);
    assert_eq!(marked(&world), [""; 0]);
    assert_eq!(roster(&state), json!({"ids": ["1", "2", "3"]}));
    // From then on it is too old to be looked at, as before.
    world.change_sales(&[&recent("1", r#", "paper": "A4""#), all[1], all[2]]);
    assert_eq!(counts(&next_run(&world).await), [0, 1, 0, 0, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_sale_that_is_back_is_looked_at_until_its_row_says_so() {
    let all = [recent("1", ""), old("2")];
    let all = all.each_ref().map(String::as_str);
    let (world, state) = world(&all).await;
    world.change_sales(&all[..1]);
    next_run(&world).await;
    // given a record that cannot be stored as it is back
    world.change_sales(&[
        all[0],
        r#"{"id": 2, "transaction_timestamp": "2026-11-19 00:00:00", "": 1}"#,
    ]);
    assert_eq!(next_run(&world).await["rejected"], 1);
    assert_eq!(roster(&state), json!({"ids": ["1", "2"], "gone": ["2"]}));
    world.change_sales(&all);
    assert_eq!(counts(&next_run(&world).await), [0, 1, 0, 0, 0]);
    assert_eq!(marked(&world), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_sale_that_was_too_old_to_be_stored_and_is_taken_back_leaves_nothing_behind() {
    let state = Arc::new(MemoryState::default());
    let mut world = World::with_state(&state, &[&recent("1", ""), &old("2")]);
    world.collector.rosters = Rosters::new(Some(state.clone()), DeletionRules::of(&[Entity::Sale]));
    next_run(&world).await;
    world.change_sales(&[&recent("1", "")]);
    assert_eq!(counts(&next_run(&world).await)[..4], [0; 4]);
    assert_eq!(
        (world.sale_ids(), roster(&state)),
        (vec!["1".to_owned()], json!({"ids": ["1"]}))
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_shrank_too_much_marks_nothing_until_a_human_believes_it() {
    let all = [recent("1", ""), old("2"), old("3")];
    let all = all.each_ref().map(String::as_str);
    let (world, _) = world(&all).await;
    world.change_sales(&all[..1]);
    for _ in 0..2 {
        assert_eq!(counts(&next_run(&world).await), [0, 0, 0, 2, 0]);
    }
    let answer = world.answer(r#"{"employee_id": 1235, "accept_deletions": true}"#).await;
    assert_eq!(counts(&answer), [0, 0, 2, 0, 0]);
    assert_eq!(marked(&world), ["2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn more_sales_than_fit_into_an_entry_are_collected_without_their_deletions() {
    let sales: Vec<_> = (0..160)
        .map(|id| recent(&format!("\"{id:03}{}\"", "x".repeat(2000)), ""))
        .collect();
    let sales: Vec<_> = sales.iter().map(String::as_str).collect();
    let (world, state) = world(&sales).await;
    assert_eq!(roster(&state), json!({"ids": [], "is_too_long": true}));
    // The answer is known all the same, and what is there is said once.
    let (reads, version) = (world.table.reads(), state.entries()["roster/sales/1235"].version);
    assert_eq!(next_run(&world).await["unchanged"], 160);
    assert_eq!(world.table.reads(), reads);
    world.change_sales(&sales[..159]);
    assert_eq!(counts(&next_run(&world).await)[..4], [0; 4]);
    assert_eq!(state.entries()["roster/sales/1235"].version, version);
    // Once they are few enough, those that vanish from then on are noticed.
    world.change_sales(&sales[..100]);
    assert_eq!(counts(&next_run(&world).await)[..4], [0; 4]);
    world.change_sales(&sales[..99]);
    assert_eq!(counts(&next_run(&world).await)[..4], [0, 0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_call_cannot_accept_what_nobody_looks_for() {
    let world = World::with_state(&Arc::default(), &[&recent("1", "")]);
    let error = world.handle(r#"{"employee_id": 1235, "accept_deletions": true}"#).await;
    let error = error.answer.unwrap_err().to_string();
    assert!(error.contains("DELETIONS does not name this kind of record"), "{error}");
    assert!(world.vendor.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_sale_that_is_back_before_the_roster_forgot_it_is_unmarked_all_the_same() {
    let all = [recent("1", ""), old("2")];
    let all = all.each_ref().map(String::as_str);
    let (world, state) = world(&all).await;
    // given somebody who was killed between the mark and the roster
    world.put_row(
        "2",
        r#"{"transaction_timestamp": "2026-11-19 00:00:00", "branch_id": "1", "deleted_at": "2026-11-21T01:02:03.456Z"}"#,
        "2026-11-21T01:02:03.456Z",
    );
    let entry = state.entries()["roster/sales/1235"].clone();
    let noted = json!({"ids": ["1", "2"], "gone": ["2"]});
    let noted = shared::state::Entry::after(Some(&entry), &noted, None).unwrap();
    state
        .swap("roster/sales/1235", Some(entry.version), &noted)
        .await
        .unwrap();
    // when the vendor says again what is not known any more
    world.change_sales(&[&recent("1", r#", "paper": "A4""#), all[1]]);
    assert_eq!(counts(&next_run(&world).await), [0, 2, 0, 0, 0]);
    assert_eq!((marked(&world), roster(&state)), (vec![], json!({"ids": ["1", "2"]})));
}

#[tokio::test(start_paused = true)]
async fn where_some_that_are_gone_were_forgotten_whatever_is_new_may_be_one_of_them() {
    let all = [recent("1", ""), old("2")];
    let all = all.each_ref().map(String::as_str);
    let (world, state) = world(&all).await;
    world.change_sales(&all[..1]);
    assert_eq!(counts(&next_run(&world).await), [0, 0, 1, 0, 0]);
    // given more that are gone than a roster remembers
    let entry = state.entries()["roster/sales/1235"].clone();
    let noted = json!({"ids": ["1"], "forgot_gone": true});
    let noted = shared::state::Entry::after(Some(&entry), &noted, None).unwrap();
    let id = "roster/sales/1235";
    state.swap(id, Some(entry.version), &noted).await.unwrap();
    // when one of those comes back
    world.change_sales(&all);
    assert_eq!(counts(&next_run(&world).await), [0, 1, 0, 0, 0]);
    assert_eq!(marked(&world), [""; 0]);
}
