//! Salespersons who have left a branch, and those who are back.

use shared::change::Row;
use shared::state::{Entry, StateTable, Swapped};

use super::*;

/// A world whose deletions are looked for by `rules`.
fn world_of(rules: DeletionRules) -> (World, Arc<MemoryState>) {
    let state = Arc::new(MemoryState::default());
    let mut world = World::build(Some(state.clone()));
    world.collector.rosters = Rosters::new(Some(state.clone()), rules);
    (world, state)
}

/// A world whose branch 1 has these salespersons, after a first run.
async fn world(ids: impl IntoIterator<Item = u32>) -> (World, Arc<MemoryState>) {
    let (world, state) = world_of(DeletionRules::default());
    staff(&world, ids);
    next_run(&world).await;
    (world, state)
}

fn employs(world: &World, employees: &[&str]) {
    world.vendor.says_now(employees_of("1"), answer("1", employees));
}

fn staff(world: &World, ids: impl IntoIterator<Item = u32>) {
    let employees: Vec<_> = ids.into_iter().map(|id| salesperson(&id.to_string())).collect();
    employs(world, &employees.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Collects branch 1 an hour later.
async fn next_run(world: &World) -> Json {
    world.clock.advance(Duration::from_secs(3600));
    world.answer(r#"{"branch_id": 1}"#).await
}

fn counts(answer: &Json) -> [u64; 4] {
    ["inserted", "updated", "deleted", "held_back"].map(|name| answer[name].as_u64().unwrap())
}

fn marked_at(world: &World, branch_id: &str) -> Vec<String> {
    let rows = world.table.rows().into_iter();
    let marked = rows.filter(|(key, row)| key.parent == Some(id(branch_id)) && row.is_deleted());
    marked.map(|(key, _)| key.id.to_string()).collect()
}

fn stored(world: &World, employee_id: &str) -> Row {
    let key = Key {
        id: id(employee_id),
        parent: Some(id("1")),
    };
    world.table.rows()[&key].clone()
}

fn roster(state: &MemoryState) -> Json {
    state.entries()["roster/employees/1"].body["ids"].clone()
}

#[tokio::test(start_paused = true)]
async fn whoever_has_left_or_sells_no_more_is_marked_and_nobody_else() {
    let (world, state) = world(1..=7).await;
    let unstorable = format!(
        r#"{{"id": 3, "occupation": "salesperson", "badge": {}}}"#,
        "1".repeat(39)
    );
    let staff: Vec<_> = (4..=7).map(|id| salesperson(&id.to_string())).collect();
    let mut staff: Vec<_> = staff.iter().map(String::as_str).collect();
    staff.extend([r#"{"id": 2, "occupation": "accountant"}"#, &unstorable]);
    employs(&world, &staff);

    let answer = next_run(&world).await;

    assert_eq!((counts(&answer), &answer["rejected"]), ([0, 0, 2, 0], &json!(1)));
    assert_eq!(marked_at(&world, "1"), ["1", "2"]);
    let row = stored(&world, "1");
    let deleted_at = Some(Value::String(row.last_modified.clone().unwrap()));
    assert_eq!(row.attributes.get("deleted_at"), deleted_at.as_ref());
    assert_eq!(row.last_modified.as_deref(), Some("2026-11-21T03:02:03.456Z"));
    assert_eq!(
        row.attributes.get("occupation"),
        Some(&Value::String("salesperson".to_owned()))
    );
    assert_eq!(roster(&state), json!(["3", "4", "5", "6", "7"]));
    // No message about them.
    assert_eq!(answer["enqueued"], 5);
}

#[tokio::test(start_paused = true)]
async fn who_is_back_is_unmarked_once_a_first_load_is_on_its_way() {
    let (world, _) = world(1..=3).await;
    staff(&world, 1..=2);
    next_run(&world).await;
    assert_eq!(marked_at(&world, "1"), ["3"]);
    let sent = world.sent().len();
    staff(&world, 1..=3);
    world.sale_queue.fail(true);
    assert!(world.handle(r#"{"branch_id": 1}"#).await.answer.is_err());
    assert_eq!(marked_at(&world, "1"), ["3"], "no row before its message");
    world.sale_queue.fail(false);

    let answer = next_run(&world).await;

    assert_eq!(counts(&answer), [0, 1, 0, 0]);
    assert_eq!(marked_at(&world, "1"), [""; 0]);
    let expected = first_loads(&[("1", "1", false), ("2", "1", false), ("3", "1", true)]);
    assert_eq!(world.first_loads().split_off(sent), expected);
    // and from then on he is one like the others
    let answer = next_run(&world).await;
    assert_eq!((counts(&answer), &answer["unchanged"]), ([0; 4], &json!(3)));
    assert_eq!(world.first_loads().last(), Some(&first_loads(&[("3", "1", false)])[0]));
}

#[tokio::test(start_paused = true)]
async fn a_transfer_marks_the_row_at_the_old_branch_and_owes_a_first_load_at_the_new_one() {
    let (world, _) = world(1..=3).await;
    staff(&world, 1..=2);
    world.vendor.says(employees_of("2"), answer("2", &[&salesperson("3")]));
    let at_new = world.answer(r#"{"branch_id": 2}"#).await;
    let at_old = next_run(&world).await;
    assert_eq!((counts(&at_new), counts(&at_old)), ([1, 0, 0, 0], [0, 0, 1, 0]));
    assert_eq!(
        (marked_at(&world, "1"), marked_at(&world, "2")),
        (vec!["3".to_owned()], vec![])
    );
    assert!(world.first_loads().contains(&first_loads(&[("3", "2", true)])[0]));
    // and back
    staff(&world, 1..=3);
    world.vendor.says_now(employees_of("2"), answer("2", &[]));
    next_run(&world).await;
    world.answer(r#"{"branch_id": 2}"#).await;
    assert_eq!(
        (marked_at(&world, "1"), marked_at(&world, "2")),
        (vec![], vec!["3".to_owned()])
    );
    let back = world
        .first_loads()
        .into_iter()
        .filter(|sent| *sent == first_loads(&[("3", "1", true)])[0]);
    assert_eq!(back.count(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_shrank_too_much_marks_nobody_until_a_human_believes_it() {
    let (world, state) = world(1..=10).await;
    staff(&world, 1..=6);
    for _ in 0..2 {
        // Each run looks anew.
        assert_eq!(counts(&next_run(&world).await), [0, 0, 0, 4]);
    }
    assert_eq!(marked_at(&world, "1"), [""; 0]);
    assert_eq!(roster(&state).as_array().unwrap().len(), 10);
    // Those who are new meanwhile do not make those who are missing fewer.
    staff(&world, (1..=6).chain(20..=60));
    assert_eq!(counts(&next_run(&world).await), [41, 0, 0, 4]);
    assert_eq!(counts(&next_run(&world).await), [0, 0, 0, 4]);
    let accepted = world.answer(r#"{"branch_id": 1, "accept_deletions": true}"#).await;
    assert_eq!(counts(&accepted), [0, 0, 4, 0]);
    assert_eq!(marked_at(&world, "1"), ["10", "7", "8", "9"]);
    // From then on the answer is known, and of 47 a few may leave.
    let reads = world.table.reads();
    assert_eq!(counts(&next_run(&world).await), [0; 4]);
    assert_eq!(world.table.reads(), reads);
    staff(&world, (1..=6).chain(30..=60));
    assert_eq!(counts(&next_run(&world).await), [0, 0, 10, 0]);
}

#[tokio::test(start_paused = true)]
async fn those_who_were_held_back_and_are_there_again_are_no_longer_missing() {
    let (world, state) = world(1..=10).await;
    staff(&world, 1..=6);
    next_run(&world).await;
    staff(&world, 1..=10);
    assert_eq!(counts(&next_run(&world).await), [0; 4]);
    assert!(!state.entries()["roster/employees/1"].body.contains_key("before_hold"));
}

#[tokio::test(start_paused = true)]
async fn a_salesperson_without_a_usable_id_may_be_any_of_those_who_are_missing() {
    let (world, _) = world(1..=7).await;
    let mut employees: Vec<_> = (2..=7).map(|id| salesperson(&id.to_string())).collect();
    for (nameless, deleted, held_back) in [
        (r#"{"id": null, "occupation": "salesperson"}"#, 0, 1),
        ("7", 0, 1),
        // Who sells nothing is none of those who did.
        (r#"{"id": null, "occupation": "accountant"}"#, 1, 0),
    ] {
        employees.push(nameless.to_owned());
        employs(&world, &employees.iter().map(String::as_str).collect::<Vec<_>>());
        assert_eq!(counts(&next_run(&world).await)[2..], [deleted, held_back], "{nameless}");
        employees.pop();
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_was_written_from_a_later_answer_is_left_alone_and_stays_on_the_roster() {
    let (world, state) = world(1..=3).await;
    let mut later = stored(&world, "3");
    later.last_modified = Some("2026-11-22T00:00:00.000Z".to_owned());
    let key = Key {
        id: id("3"),
        parent: Some(id("1")),
    };
    world.table.put(key, later.clone());
    staff(&world, 1..=2);
    assert_eq!(counts(&next_run(&world).await), [0; 4]);
    assert_eq!((stored(&world, "3"), roster(&state)), (later, json!(["1", "2", "3"])));
    world.clock.advance(Duration::from_secs(24 * 3600));
    assert_eq!(counts(&next_run(&world).await), [0, 0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_changes_before_it_is_marked_keeps_the_change() {
    let (world, _) = world(1..=3).await;
    let mut changed = stored(&world, "3");
    changed.attributes.insert("note".to_owned(), Value::Bool(true));
    changed.last_modified = Some("2026-11-21T02:30:00.000Z".to_owned());
    let key = Key {
        id: id("3"),
        parent: Some(id("1")),
    };
    world.table.put_before_next_write(key, changed);
    staff(&world, 1..=2);
    assert_eq!(counts(&next_run(&world).await), [0, 0, 1, 0]);
    let row = stored(&world, "3");
    assert!(row.is_deleted() && row.attributes.contains_key("note"));
}

#[tokio::test(start_paused = true)]
async fn a_vendor_may_say_of_its_own_who_is_deleted() {
    let own = |deleted_at: &str| format!(r#"{{"id": 3, "occupation": "salesperson", "deleted_at": {deleted_at}}}"#);
    let (world, _) = world_of(DeletionRules::default());
    let others = [1, 2].map(|id| salesperson(&id.to_string()));
    let employ = |record: &str| employs(&world, &[&others[0], &others[1], record]);
    employ(&own("\"2026-11-20T01:02:03.456Z\""));
    next_run(&world).await;
    assert_eq!(world.first_loads().last(), Some(&first_loads(&[("3", "1", true)])[0]));
    // given a change elsewhere, its attribute is one like any other, and no first load is owed again
    employ(&own("\"2026-11-20T01:02:03.456Z\"").replace('}', r#", "desk": 4}"#));
    assert_eq!(counts(&next_run(&world).await), [0, 1, 0, 0]);
    assert_eq!(world.first_loads().last(), Some(&first_loads(&[("3", "1", false)])[0]));
    // when the record vanishes, the row says already that it is deleted
    let row = stored(&world, "3");
    employs(&world, &[&others[0], &others[1]]);
    assert_eq!(counts(&next_run(&world).await), [0; 4]);
    assert_eq!(stored(&world, "3"), row);
    // and what is no time of our form is no mark
    for (no_mark, value) in [
        ("null", Value::Null),
        ("false", Value::Bool(false)),
        ("\"yesterday\"", Value::String("yesterday".to_owned())),
    ] {
        employ(&own(no_mark));
        assert_eq!(counts(&next_run(&world).await), [0, 1, 0, 0], "{no_mark}");
        employs(&world, &[&others[0], &others[1]]);
        assert_eq!(counts(&next_run(&world).await), [0, 0, 1, 0], "{no_mark}");
        assert!(stored(&world, "3").is_deleted(), "{no_mark}");
        employ(&own(no_mark));
        assert_eq!(counts(&next_run(&world).await), [0, 1, 0, 0], "{no_mark}");
        assert_eq!(stored(&world, "3").attributes["deleted_at"], value);
    }
}

#[tokio::test(start_paused = true)]
async fn a_roster_is_read_only_for_a_new_answer_and_written_only_if_somebody_comes_or_goes() {
    let (world, state) = world(1..=3).await;
    let version = || state.entries()["roster/employees/1"].version;
    assert_eq!(version(), 1);
    // The claim is read and written, the checkpoint written; and it is read whose sales come first.
    let (reads, writes) = (state.reads(), state.writes());
    next_run(&world).await;
    assert_eq!((state.reads() - reads, state.writes() - writes), (2, 2));
    // when something changes, but nobody comes or goes
    let employees = [1, 2, 3].map(|id| format!(r#"{{"id": {id}, "occupation": "salesperson", "desk": 1}}"#));
    employs(&world, &employees.each_ref().map(String::as_str));
    let (reads, writes) = (state.reads(), state.writes());
    assert_eq!(counts(&next_run(&world).await), [0, 3, 0, 0]);
    assert_eq!((state.reads() - reads, state.writes() - writes), (3, 2));
    // Whoever comes is on it before the rows are written, whoever goes leaves it after.
    staff(&world, 2..=4);
    next_run(&world).await;
    assert_eq!(version(), 3);
    assert_eq!(state.entries()["roster/employees/1"].expires_at, None);
}

#[tokio::test(start_paused = true)]
async fn where_somebody_is_killed_nobody_is_forgotten() {
    let (world, state) = world(1..=3).await;
    // given somebody who is killed after a new row, and before he can say that he was there
    staff(&world, 1..=4);
    world.table.fail_after(Some(1));
    world.sale_queue.fail(false);
    world.answer(r#"{"branch_id": 1}"#).await;
    world.table.fail_after(None);
    let entry = state.entries()["employees/1"].clone();
    let claimed = json!({"claim": {"by": "somebody", "until": 0}});
    let claimed = Entry::after(Some(&entry), &claimed, None).unwrap();
    let swapped = state.swap("employees/1", Some(entry.version), &claimed).await.unwrap();
    assert_eq!(swapped, Swapped::Done);
    // when whoever was new is gone again
    staff(&world, 1..=3);
    assert_eq!(counts(&next_run(&world).await), [0, 0, 1, 0]);
    assert_eq!(marked_at(&world, "1"), ["4"]);
}

#[tokio::test(start_paused = true)]
async fn rows_that_are_marked_already_are_not_marked_again() {
    let (world, state) = world(1..=3).await;
    staff(&world, 1..=2);
    next_run(&world).await;
    // given somebody who was killed between the mark and the roster
    let entry = state.entries()["roster/employees/1"].clone();
    let before = Entry::after(Some(&entry), &json!({"ids": ["1", "2", "3"]}), None).unwrap();
    state
        .swap("roster/employees/1", Some(entry.version), &before)
        .await
        .unwrap();
    let (row, writes) = (stored(&world, "3"), world.table.writes());
    employs(
        &world,
        &[&salesperson("1"), r#"{"id": 2, "occupation": "Salesperson"}"#],
    );
    assert_eq!(counts(&next_run(&world).await), [0, 1, 0, 0]);
    assert_eq!((stored(&world, "3"), world.table.writes() - writes), (row, 1));
    assert_eq!(roster(&state), json!(["1", "2"]));
}

#[tokio::test(start_paused = true)]
async fn where_the_state_table_is_down_the_next_run_looks() {
    let (world, state) = world(1..=3).await;
    staff(&world, 1..=2);
    state.fail(true);
    let answer = next_run(&world).await;
    assert_eq!((counts(&answer), &answer["unchanged"]), ([0; 4], &json!(2)));
    assert!(answer["state_failures"].as_u64().unwrap() > 0);
    state.fail(false);
    assert_eq!(counts(&next_run(&world).await), [0, 0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_known_before_deletions_were_looked_for_is_compared_once_more() {
    let (mut world, state) = world_of(DeletionRules::parse("none").unwrap());
    staff(&world, 1..=3);
    next_run(&world).await;
    assert!(!state.entries().contains_key("roster/employees/1"));
    world.collector.rosters = Rosters::new(Some(state.clone()), DeletionRules::default());
    next_run(&world).await;
    assert_eq!(roster(&state), json!(["1", "2", "3"]));
    let reads = world.table.reads();
    next_run(&world).await;
    assert_eq!(world.table.reads(), reads);
    staff(&world, 2..=3);
    assert_eq!(counts(&next_run(&world).await), [0, 0, 1, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_call_cannot_accept_what_nobody_looks_for() {
    let (world, _) = world_of(DeletionRules::parse("branches").unwrap());
    staff(&world, 1..=3);
    let accept = r#"{"branch_id": 1, "accept_deletions": true}"#;
    let error = world.handle(accept).await.answer.unwrap_err().to_string();
    assert!(error.contains("DELETIONS does not name this kind of record"), "{error}");
    assert!(world.vendor.asked().is_empty());
}
