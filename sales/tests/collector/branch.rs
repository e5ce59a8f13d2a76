//! A sale carries its branch loosely.

use serde_json::json;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_sale_gets_the_branch_under_which_it_was_first_seen_and_keeps_it() {
    let world = World::with_sales(&[&recent("3972", "")]);
    world.poll_with(MESSAGE).await;
    assert_eq!(world.row("3972").attributes["branch_id"], text("1"));

    for later in [&*message("2", "1235"), r#"{"branch_id": 3, "employee_id": 1235}"#] {
        let answer = world.poll_with(later).await;
        assert_eq!((&answer["unchanged"], &answer["updated"]), (&json!(1), &json!(0)));
    }
    world.answer(r#"{"employee_id": 1235}"#).await;
    assert_eq!(world.row("3972").attributes["branch_id"], text("1"));
    assert_eq!(world.table.writes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_late_sale_stands_under_the_new_branch_and_a_correction_leaves_the_old_one() {
    // A sale of the last day at Scranton.
    let before = recent("1", r#", "amount": 10"#);
    let world = World::with_sales(&[&before]);
    world.poll_with(MESSAGE).await;

    // After the move to Stamford another one of that day is published, and the first one is corrected.
    world.change_sales(&[&recent("1", r#", "amount": 12"#), &recent("2", "")]);
    let answer = world.poll_with(&message("11", "1235")).await;

    assert_eq!((&answer["inserted"], &answer["updated"]), (&json!(1), &json!(1)));
    assert_eq!(world.row("1").attributes["amount"], attributes(r#"{"a": 12}"#)["a"]);
    assert_eq!(world.row("1").attributes["branch_id"], text("1"));
    assert_eq!(world.row("2").attributes["branch_id"], text("11"));
    assert_eq!(world.sale_ids(), ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_sale_seen_without_a_branch_gets_one_as_soon_as_it_is_known() {
    let world = World::with_sales(&[&recent("3972", "")]);
    world.answer(r#"{"employee_id": 1235}"#).await;
    assert!(!world.row("3972").attributes.contains_key("branch_id"));

    let answer = world.poll_with(MESSAGE).await;
    assert_eq!(answer["updated"], 1);
    assert_eq!(world.row("3972").attributes["branch_id"], text("1"));

    let answer = world.poll_with(&message("2", "1235")).await;
    assert_eq!(answer["unchanged"], 1);
}

#[tokio::test(start_paused = true)]
async fn the_vendors_own_branch_is_an_attribute_like_any_other() {
    let world = World::with_sales(&[&recent("3972", r#", "branch_id": 7"#)]);
    world.poll_with(MESSAGE).await;
    assert_eq!(
        world.row("3972").attributes["branch_id"],
        attributes(r#"{"a": 7}"#)["a"]
    );

    world.change_sales(&[&recent("3972", r#", "branch_id": 8"#)]);
    assert_eq!(world.poll_with(MESSAGE).await["updated"], 1);
    assert_eq!(
        world.row("3972").attributes["branch_id"],
        attributes(r#"{"a": 8}"#)["a"]
    );
}

#[tokio::test(start_paused = true)]
async fn the_vendors_own_branch_replaces_the_first_seen_one() {
    let world = World::with_sales(&[&recent("3972", "")]);
    world.poll_with(MESSAGE).await;
    world.change_sales(&[&recent("3972", r#", "branch_id": "7""#)]);
    assert_eq!(world.poll_with(MESSAGE).await["updated"], 1);
    assert_eq!(world.row("3972").attributes["branch_id"], text("7"));
}

#[tokio::test(start_paused = true)]
async fn a_correction_by_hand_is_left_as_it_is() {
    let world = World::with_sales(&[&recent("3972", "")]);
    world.poll_with(MESSAGE).await;
    let row = r#"{"transaction_timestamp": "2026-11-21 00:02:03", "branch_id": "13"}"#;
    world.put_row("3972", row, "2026-11-21T01:02:03.456Z");
    world.change_sales(&[&recent("3972", r#", "amount": 1"#)]);
    world.poll_with(MESSAGE).await;
    assert_eq!(world.row("3972").attributes["branch_id"], text("13"));
    assert!(world.row("3972").attributes.contains_key("amount"));
}
