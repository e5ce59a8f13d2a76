//! What becomes of each record of an answer.

use std::time::Duration;

use serde_json::json;
use shared::vendor::scripted::Reply;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_row_holds_the_vendors_attributes_and_when_the_answer_was_fetched() {
    let members = r#", "sale_id": "3972", "employee_id": 1235, "total": 0.10, "date": "today", "Year": 2026,
        "order_lines": [{"name": "A4", "count": 12345678901234567890123456789012345678}, null, false]"#;
    let world = World::with_sales(&[&recent("3972", members)]);
    world.poll_with(MESSAGE).await;
    let row = world.row("3972");
    let expected = r#"{"branch_id": "1", "transaction_timestamp": "2026-11-21 00:02:03", "sale_total": 0.1,
        "sale_date": "today", "sale_Year": 2026,
        "order_lines": [{"name": "A4", "count": 12345678901234567890123456789012345678}, null, false]}"#;
    assert_eq!(row.attributes, attributes(expected));
    assert_eq!(row.last_modified.as_deref(), Some("2026-11-21T01:02:03.456Z"));
}

#[tokio::test(start_paused = true)]
async fn an_attribute_with_a_keys_name_and_another_value_is_kept_beside_the_key() {
    let world = World::with_sales(&[&recent("3972", r#", "employee_id": 9, "last_modified": null"#)]);
    world.poll_with(MESSAGE).await;
    let row = world.row("3972").attributes;
    assert_eq!(row["sale_employee_id"], attributes(r#"{"a": 9}"#)["a"]);
    assert_eq!(row["sale_last_modified"], Value::Null);
}

#[tokio::test(start_paused = true)]
async fn the_same_sale_of_two_employees_is_two_rows() {
    let world = World::with_sales(&[&recent("1", "")]);
    world.vendor.says(sales_of("8"), answer("8", &[&recent("1", "")]));
    world.queue.put(message("1", "8"));
    assert_eq!(world.poll_with(MESSAGE).await["inserted"], 2);
    assert_eq!(world.sale_ids(), ["1", "1"]);
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_sale_costs_no_write_however_its_numbers_are_written() {
    let world = World::with_sales(&[
        &recent("1", r#", "amount": 1.10, "list": [1e2, {"a": -0.0}]"#),
        &recent("2", ""),
    ]);
    world.poll_with(MESSAGE).await;
    let (rows, writes) = (world.table.rows(), world.table.writes());
    world.clock.advance(Duration::from_secs(60));
    world.change_sales(&[
        &recent("2", ""),
        &recent("\"1\"", r#", "list": [100, {"a": 0}], "amount": 1.1"#),
    ]);

    let answer = world.poll_with(MESSAGE).await;

    assert_eq!((&answer["unchanged"], &answer["updated"]), (&json!(2), &json!(0)));
    assert_eq!((world.table.rows(), world.table.writes()), (rows, writes));
}

#[tokio::test(start_paused = true)]
async fn the_last_digit_is_a_change_and_so_is_the_type() {
    let amounts = [
        "1.1",
        "1.1000000000000000000000000000000000001",
        "\"1.1\"",
        "[1.1]",
        "null",
    ];
    let sale_of = |amount: &str| recent("1", &format!(r#", "amount": {amount}"#));
    let world = World::with_sales(&[&sale_of("false")]);
    world.poll_with(MESSAGE).await;
    for amount in amounts {
        world.change_sales(&[&sale_of(amount)]);
        assert_eq!(world.poll_with(MESSAGE).await["updated"], 1, "{amount}");
        let expected = &attributes(&format!(r#"{{"a": {amount}}}"#))["a"];
        assert_eq!(&world.row("1").attributes["amount"], expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_changed_is_written_and_what_vanished_is_removed() {
    let world = World::with_sales(&[&recent("1", r#", "amount": 1, "note": "x""#)]);
    world.poll_with(MESSAGE).await;
    world.clock.advance(Duration::from_secs(60));
    world.change_sales(&[&recent("1", r#", "amount": 2"#)]);

    let answer = world.poll_with(MESSAGE).await;

    assert_eq!(answer["updated"], 1);
    let row = world.row("1");
    assert_eq!(
        row.attributes,
        attributes(r#"{"transaction_timestamp": "2026-11-21 00:02:03", "amount": 2, "branch_id": "1"}"#)
    );
    // The first poll took two seconds: so long it waited for a further message.
    assert_eq!(row.last_modified.as_deref(), Some("2026-11-21T01:03:05.456Z"));
}

#[tokio::test(start_paused = true)]
async fn a_sale_in_the_future_or_without_a_readable_time_is_rejected_even_where_all_are_looked_at() {
    let sales = [
        sale("1", "2026-11-22 01:02:04", ""),
        sale("2", "2026-11-22 01:02:03", ""),
        sale("3", "yesterday", ""),
        sale("4", "2026-11-21T00:00:00Z", ""),
        sale("5", "2026-02-30 00:00:00", ""),
        r#"{"id": 6, "transaction_timestamp": 1795222800}"#.to_owned(),
        r#"{"id": 7, "transaction_timestamp": null}"#.to_owned(),
        r#"{"id": 8}"#.to_owned(),
    ];
    let sales: Vec<_> = sales.iter().map(String::as_str).collect();
    for event in [
        r#"{"employee_id": 1235, "lookback_hours": 0}"#,
        r#"{"employee_id": 1235}"#,
    ] {
        let world = World::with_sales(&sales);
        let answer = world.answer(event).await;
        assert_eq!(world.sale_ids(), ["2"], "{event}");
        assert_eq!(
            (&answer["rejected"], &answer["skipped"]),
            (&json!(7), &json!(0)),
            "{event}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_record_is_rejected_and_the_others_are_written() {
    let number = "1".repeat(39);
    let text = "x".repeat(400 * 1024);
    let deep = format!("{}{}", "[".repeat(40), "]".repeat(40));
    let world = World::with_sales(&[
        &recent("1", ""),
        &recent("2", &format!(r#", "amount": {number}"#)),
        &recent("3", r#", "amount": 1e126"#),
        &recent("4", r#", "date": 1, "sale_date": 2"#),
        &recent("5", &format!(r#", "note": "{text}""#)),
        &recent("6", &format!(r#", "note": {deep}"#)),
        &recent("7", r#", "": 1"#),
        &recent("8", r#", "note": "\udfff""#),
        &recent("\"\"", ""),
        &recent("null", ""),
        r#"{"transaction_timestamp": "2026-11-21 00:02:03"}"#,
        "null",
        &recent("9", ""),
    ]);
    let answer = world.poll_with(MESSAGE).await;
    assert_eq!(world.sale_ids(), ["1", "9"]);
    assert_eq!((&answer["inserted"], &answer["rejected"]), (&json!(2), &json!(11)));
    assert_eq!((&answer["done"], &answer["failed"]), (&json!(1), &json!(0)));
    assert!(world.queue.dead_letters().is_empty());
}

#[tokio::test(start_paused = true)]
async fn of_the_same_id_twice_in_one_answer_the_last_stands() {
    let world = World::with_sales(&[
        &recent("1", r#", "amount": 1"#),
        &recent("2", ""),
        &recent("\"1\"", r#", "amount": 2, "amount": 3"#),
        &sale("2", "2020-01-01 00:00:00", ""),
    ]);
    let answer = world.poll_with(MESSAGE).await;
    assert_eq!((&answer["inserted"], &answer["skipped"]), (&json!(1), &json!(1)));
    assert_eq!(world.row("1").attributes["amount"], attributes(r#"{"a": 3}"#)["a"]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_fetched_earlier_never_overwrites_a_later_one() {
    let world = World::new();
    let slow = answer("1235", &[&recent("1", r#", "amount": 1"#)]).after(Duration::from_secs(5));
    world.vendor.says(sales_of("1235"), slow);
    world
        .vendor
        .says(sales_of("1235"), answer("1235", &[&recent("1", r#", "amount": 2"#)]));
    let event = r#"{"employee_id": 1235}"#;
    let later = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.answer(event).await
    };

    let (earlier, later) = tokio::join!(world.answer(event), later);

    assert_eq!((&later["inserted"], &earlier["unchanged"]), (&json!(1), &json!(1)));
    assert_eq!(world.row("1").attributes["amount"], attributes(r#"{"a": 2}"#)["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_sync_that_breaks_off_is_finished_by_the_next_try() {
    let sales: Vec<_> = (1000..1250).map(|id| recent(&id.to_string(), "")).collect();
    let world = World::with_sales(&sales.iter().map(String::as_str).collect::<Vec<_>>());
    world.table.fail_after(Some(130));
    let answer = world.poll_with(MESSAGE).await;
    assert_eq!((&answer["inserted"], &answer["failed"]), (&json!(130), &json!(1)));

    world.table.fail_after(None);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let answer = world.answer("{}").await;

    assert_eq!((&answer["inserted"], &answer["unchanged"]), (&json!(120), &json!(130)));
    assert_eq!((world.sale_ids().len(), world.table.writes()), (250, 250));
    assert!(world.queue.bodies().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_paged_answer_is_applied_when_all_of_it_is_as_expected() {
    let page = |employee_id: &str, sale_id: &str| {
        let sale = recent(sale_id, "");
        format!(r#"{{"result": {{"employee_id": {employee_id}, "sales": [{sale}]}}}}"#)
    };
    let world = World::new();
    let pages = [page("1235", "1"), page("\"1235\"", "2")];
    world.vendor.says(sales_of("1235"), Reply::pages(pages));
    let answer = world.poll_with(MESSAGE).await;
    assert_eq!((&answer["inserted"], &answer["api_calls"]), (&json!(2), &json!(2)));

    let world = World::new();
    let pages = [page("1235", "1"), page("1236", "2")];
    world.vendor.says(sales_of("1235"), Reply::pages(pages));
    let answer = world.poll_with(MESSAGE).await;
    assert_eq!((&answer["inserted"], &answer["dead_lettered"]), (&json!(0), &json!(1)));
    assert!(world.sale_ids().is_empty());
}
