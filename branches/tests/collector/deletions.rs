//! Branches that the vendor does not know any more, and those that are back.

use shared::id::Id;
use shared::record::Key;

use super::*;

const UTICA: &str = r#"{"id": 6, "branch_name": "Utica", "employees": 50}"#;

/// A world whose deletions are looked for by `rules`, after a first run.
async fn world(rules: DeletionRules) -> (World, Arc<MemoryState>) {
    let state = Arc::new(MemoryState::default());
    let mut world = World::build(Some(state.clone()));
    world.collector.rosters = Rosters::new(Some(state.clone()), rules);
    world.answer("{}").await;
    (world, state)
}

fn key(branch_id: &str) -> Key {
    Key {
        id: Id::new(branch_id.to_owned()).unwrap(),
        parent: None,
    }
}

/// Since when a branch is deleted, and when its row was written.
fn marked(world: &World, branch_id: &str) -> (Option<String>, String) {
    let row = world.table.rows()[&key(branch_id)].clone();
    let deleted_at = match row.attributes.get("deleted_at") {
        Some(Value::String(time)) => Some(time.clone()),
        None => None,
        other => panic!("{other:?}"),
    };
    (deleted_at, row.last_modified.unwrap())
}

fn marked_ids(world: &World) -> Vec<String> {
    let rows = world.table.rows().into_iter();
    let marked = rows.filter(|(_, row)| row.attributes.contains_key("deleted_at"));
    marked.map(|(key, _)| key.id.to_string()).collect()
}

fn roster(state: &MemoryState, name: &str) -> Json {
    let entry = state.entries().remove(&format!("roster/branches/{name}"));
    entry.map_or(Json::Null, |entry| entry.body["ids"].clone())
}

/// Runs an hour later.
async fn next_run(world: &World) -> Json {
    world.clock.advance(Duration::from_secs(3600));
    world.answer("{}").await
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_is_no_more_is_marked_and_never_erased() {
    let (world, state) = world(DeletionRules::default()).await;
    let before = world.table.rows();
    world.vendor.says_now(query("Utica"), answer(&[]));
    let answer = next_run(&world).await;
    assert_eq!(
        (
            &answer["deleted"],
            &answer["held_back"],
            &answer["updated"],
            &answer["enqueued"]
        ),
        (&json!(1), &json!(0), &json!(0), &json!(12))
    );
    let now = "2026-11-21T02:02:03.456Z".to_owned();
    assert_eq!(marked(&world, "6"), (Some(now.clone()), now));
    let mut after = world.table.rows();
    let row = after.get_mut(&key("6")).unwrap();
    row.attributes.remove("deleted_at");
    row.last_modified.clone_from(&before[&key("6")].last_modified);
    assert_eq!(after, before, "nothing else has changed");
    assert_eq!(roster(&state, "Utica"), json!([]));

    // then, an hour later, nobody looks at it again
    let (reads, writes) = (world.table.reads(), world.table.writes());
    let answer = next_run(&world).await;
    assert_eq!(answer["deleted"], 0);
    assert_eq!((world.table.reads(), world.table.writes()), (reads, writes));
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_is_back_is_unmarked() {
    let (world, _) = world(DeletionRules::default()).await;
    world.vendor.says_now(query("Utica"), answer(&[]));
    next_run(&world).await;
    world.vendor.says_now(query("Utica"), answer(&[UTICA]));
    let answer = next_run(&world).await;
    assert_eq!((&answer["updated"], &answer["deleted"]), (&json!(1), &json!(0)));
    assert_eq!(marked(&world, "6"), (None, "2026-11-21T03:02:03.456Z".to_owned()));
    assert!(world.sent_ids().contains(&"6".to_owned()));
    // and is marked anew if it goes again
    world.vendor.says_now(query("Utica"), super::answer(&[]));
    assert_eq!(next_run(&world).await["deleted"], 1);
    assert_eq!(marked_ids(&world), ["6"]);
}

#[tokio::test(start_paused = true)]
async fn a_vendor_that_has_lost_its_branches_is_not_believed_until_a_human_does() {
    let (world, state) = world(DeletionRules::default()).await;
    for name in DEFAULT_BRANCHES {
        world.vendor.says_now(query(name), answer(&[]));
    }
    for _ in 0..2 {
        let answer = next_run(&world).await;
        assert_eq!((&answer["held_back"], &answer["deleted"]), (&json!(13), &json!(0)));
        assert_eq!(marked_ids(&world), [""; 0]);
        assert_eq!(roster(&state, "Utica"), json!(["6"]));
    }
    let answer = world.answer(r#"{"branches": [], "accept_deletions": true}"#).await;
    assert_eq!((&answer["held_back"], &answer["deleted"]), (&json!(0), &json!(13)));
    assert_eq!(marked_ids(&world).len(), 13);
}

#[tokio::test(start_paused = true)]
async fn of_thirteen_branches_three_may_vanish_at_once_and_four_are_held_back() {
    for (vanished, deleted, held_back) in [(3, 3, 0), (4, 0, 4)] {
        let (world, _) = world(DeletionRules::default()).await;
        for name in &DEFAULT_BRANCHES[..vanished] {
            world.vendor.says_now(query(name), answer(&[]));
        }
        let answer = next_run(&world).await;
        assert_eq!(
            (&answer["deleted"], &answer["held_back"]),
            (&json!(deleted), &json!(held_back))
        );
        assert_eq!(marked_ids(&world).len(), deleted);
    }
    let (world, _) = world(DeletionRules::default().with_max_percent(100)).await;
    for name in DEFAULT_BRANCHES {
        world.vendor.says_now(query(name), answer(&[]));
    }
    assert_eq!(next_run(&world).await["deleted"], 13);
}

#[tokio::test(start_paused = true)]
async fn a_branch_that_was_renamed_is_not_deleted() {
    let (world, state) = world(DeletionRules::default()).await;
    let renamed = UTICA.replace("\"Utica\"", "\"Utica East\"");
    world.vendor.says_now(query("Utica"), answer(&[]));
    world.vendor.says(query("Utica East"), answer(&[&renamed]));
    world.clock.advance(Duration::from_secs(3600));
    // Whichever name is asked for first, and whether at once or one after the other.
    let answer = world.answer(&call(&["Utica", "Utica East"])).await;
    assert_eq!((&answer["updated"], &answer["deleted"]), (&json!(1), &json!(0)));
    assert_eq!(
        (roster(&state, "Utica"), roster(&state, "Utica East")),
        (json!([]), json!(["6"]))
    );
    world.vendor.says_now(query("Utica East"), super::answer(&[]));
    world
        .vendor
        .says(query("Utica West"), super::answer(&[&renamed.replace("East", "West")]));
    world.answer(&call(&["Utica West"])).await;
    assert_eq!(world.answer(&call(&["Utica East"])).await["deleted"], 0);
    // A branch that no other name leads to is gone, whatever its row says.
    world.vendor.says_now(query("Utica West"), super::answer(&[]));
    assert_eq!(world.answer(&call(&["Utica West"])).await["deleted"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_branch_whose_record_is_rejected_is_not_deleted_and_one_without_an_id_may_be_any() {
    let (world, _) = world(DeletionRules::default()).await;
    let unstorable = format!(r#"{{"id": 6, "employees": {}}}"#, "1".repeat(39));
    world.vendor.says_now(query("Utica"), answer(&[&unstorable]));
    let rejected = next_run(&world).await;
    assert_eq!(
        (&rejected["rejected"], &rejected["deleted"], &rejected["held_back"]),
        (&json!(1), &json!(0), &json!(0))
    );
    world
        .vendor
        .says_now(query("Utica"), answer(&[r#"{"branch_name": "Utica"}"#]));
    let nameless = next_run(&world).await;
    assert_eq!((&nameless["deleted"], &nameless["held_back"]), (&json!(0), &json!(1)));
    assert_eq!(marked_ids(&world), [""; 0]);
    let accepted = world
        .answer(r#"{"branches": ["Utica"], "accept_deletions": true}"#)
        .await;
    assert_eq!((&accepted["deleted"], &accepted["held_back"]), (&json!(1), &json!(0)));
}

#[tokio::test(start_paused = true)]
async fn a_name_is_not_done_before_the_mark_is_durable() {
    let (world, state) = world(DeletionRules::default()).await;
    world.vendor.says_now(query("Utica"), answer(&[]));
    world.table.fail_after(Some(0));
    let run = r#"{"branches": [], "run_id": "2026-11-21T02:00:00Z"}"#;
    world.clock.advance(Duration::from_secs(3600));
    let error = world.failure(run).await;
    assert_eq!(
        error,
        "1 of 13 branches failed: Utica: DynamoDB did not write a row: the table is down"
    );
    assert_eq!((marked_ids(&world).len(), roster(&state, "Utica")), (0, json!(["6"])));
    // as Lambda tries it again
    world.table.fail_after(None);
    let again = world.answer(run).await;
    assert_eq!((&again["deleted"], &again["api_calls"]), (&json!(1), &json!(1)));
}

#[tokio::test(start_paused = true)]
async fn where_deletions_are_not_looked_for_nothing_is_marked_and_nothing_can_be_accepted() {
    let accept = r#"{"branches": ["Utica"], "accept_deletions": true}"#;
    let (off, state) = world(DeletionRules::parse("employees,sales").unwrap()).await;
    off.vendor.says_now(query("Utica"), answer(&[]));
    let answer = next_run(&off).await;
    assert_eq!((&answer["deleted"], &answer["held_back"]), (&json!(0), &json!(0)));
    assert_eq!(roster(&state, "Utica"), Json::Null);
    let asked = off.vendor.asked().len();
    let error = off.failure(accept).await;
    assert!(error.contains("DELETIONS does not name this kind of record"), "{error}");
    let error = World::new().failure(accept).await;
    assert!(error.contains("STATE_DB names no table"), "{error}");
    assert_eq!(off.vendor.asked().len(), asked, "nothing is asked");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_accepts_deletions_is_not_done_before_though_its_run_is() {
    let (world, _) = world(DeletionRules::default()).await;
    let run = |accept: bool| {
        let run = r#"{"branches": ["Utica", "Akron"], "run_id": "2026-11-21T02:00:00Z", "accept_deletions": "#;
        format!("{run}{accept}}}")
    };
    for name in ["Utica", "Akron"] {
        world.vendor.says_now(query(name), answer(&[]));
    }
    world.clock.advance(Duration::from_secs(3600));
    assert_eq!(world.answer(&run(false)).await["held_back"], 2);
    assert_eq!(world.answer(&run(false)).await["already_done"], 2);
    assert_eq!(world.answer(&run(true)).await["deleted"], 2);
}
