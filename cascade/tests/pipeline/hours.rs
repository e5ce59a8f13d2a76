//! What changes at the vendor from hour to hour, and what of it arrives.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use cascade::vendor::{World, WorldOptions};
use time::Duration as Span;

use crate::harness::{House, START, Setup};
use crate::model::{Json, Rows, Tables};

const HOUR: Duration = Duration::from_secs(3_600);

/// How many rows of a table are new in `after`, and how many say something else than in `before`.
fn differences(before: &Rows, after: &Rows) -> (u64, u64) {
    let new = after.keys().filter(|key| !before.contains_key(*key)).count();
    let changed = after
        .iter()
        .filter(|(key, row)| before.get(*key).is_some_and(|old| old != *row));
    (new as u64, changed.count() as u64)
}

/// Runs, and checks that the tables then say what the model says, and that exactly the rows that differ were written.
async fn run_and_compare(house: &House, model: &mut Tables) {
    let before = house.tables().await;
    let recent_from = house.clock.now() - Span::hours(24);
    let writes = house.writes();
    let outcome = house.complete_run().await;
    model.observe(&house.vendor.world(), Some(recent_from));
    let after = house.tables().await;
    after.assert_same(model);
    let (mut new, mut changed) = (0, 0);
    for (before, after) in [
        (&before.branches, &after.branches),
        (&before.salespersons, &after.salespersons),
        (&before.sales, &after.sales),
    ] {
        let differences = differences(before, after);
        new += differences.0;
        changed += differences.1;
    }
    let total = outcome.total();
    assert_eq!(
        (total.inserted, total.updated),
        (new, changed),
        "run {}",
        outcome.run_id
    );
    assert_eq!(house.writes() - writes, new + changed);
    let rewritten = after
        .written
        .iter()
        .filter(|(key, at)| before.written.get(*key).is_some_and(|old| old != *at));
    assert_eq!(
        rewritten.count() as u64,
        changed,
        "what did not change keeps its last_modified"
    );
}

#[tokio::test]
async fn changed_vanished_and_late_records_arrive_and_nothing_else_is_written() {
    // given
    let setup = Setup {
        salespersons: 3,
        sales: 40,
        ..Setup::small(21)
    };
    let house = House::start(setup).await;
    let mut model = Tables::default();
    run_and_compare(&house, &mut model).await;
    let first = model.clone();
    // when / then
    for hours in [2, 4, 6] {
        house.advance(HOUR * hours);
        run_and_compare(&house, &mut model).await;
    }
    // then all kinds of news were among it
    let changes = house.vendor.world().changes();
    for (kind, count) in [
        ("new", changes.new_sales),
        ("late", changes.late_sales),
        ("corrected", changes.corrected_sales),
        ("attribute added", changes.attributes_added),
        ("attribute removed", changes.attributes_removed),
        ("deleted", changes.deleted_sales),
        ("hired", changes.hires),
    ] {
        assert!(count > 0, "no {kind}: {changes:?}");
    }
    let vanished = first.sales.iter().filter(|(key, row)| {
        row.contains_key("note") && model.sales.get(*key).is_some_and(|now| !now.contains_key("note"))
    });
    assert!(vanished.count() > 0, "no attribute vanished from a row");
    // and a sale that the vendor has taken back keeps its row
    let known = Tables::after_first_load(&house.vendor.world());
    let left_behind = model.sales.keys().filter(|key| !known.sales.contains_key(*key));
    assert!(left_behind.count() > 0, "no row of a deleted sale");
}

/// The first hour that begins with a salesperson at another branch than the hour before, of whom a sale without a
/// branch is published an hour later: that hour, the salesperson, the old branch, the new one, and the sale.
struct Move {
    hour: u32,
    employee_id: String,
    from: String,
    to: String,
    sale_id: String,
}

fn first_move(setup: &Setup) -> Move {
    let mut options = WorldOptions::new(setup.seed, START);
    options.salespersons_per_branch = setup.salespersons;
    options.sales_per_salesperson = setup.sales;
    let mut now = World::new(options).expect("a world");
    for hour in 1..1_000 {
        let before = now.clone();
        now.advance_to(START + Span::hours(hour.into()));
        let mut next = now.clone();
        next.advance_to(START + Span::hours(i64::from(hour) + 1));
        for person in now.expected_salespersons() {
            let old = before
                .expected_salespersons()
                .into_iter()
                .find(|old| old.id == person.id);
            let Some(old) = old.filter(|old| old.branch_id != person.branch_id) else {
                continue;
            };
            let known = Tables::after_first_load(&now);
            let late = next.expected_sales().into_iter().find(|sale| {
                sale.employee_id == person.id
                    && sale.branch_id == person.branch_id
                    && sale.booked < START + Span::hours(hour.into())
                    && !sale.json.contains("branch_id")
                    && !known.sale_ids().contains(sale.id.as_str())
            });
            if let Some(sale) = late {
                return Move {
                    hour,
                    employee_id: person.id,
                    from: old.branch_id,
                    to: person.branch_id,
                    sale_id: sale.id,
                };
            }
        }
    }
    panic!("nobody moves: choose another seed");
}

#[tokio::test]
async fn a_transfer_rewrites_no_sale_and_a_late_one_is_kept_under_the_new_branch() {
    // given a salesperson about to move
    let setup = Setup::small(22);
    let moved = first_move(&setup);
    let house = House::start(setup).await;
    house.advance(HOUR * (moved.hour - 1));
    let mut model = Tables::default();
    run_and_compare(&house, &mut model).await;
    let sales_of_mover = |tables: &Tables| -> Vec<String> {
        let of_mover = tables
            .sales
            .keys()
            .filter(|(_, employee)| *employee == moved.employee_id);
        of_mover.map(|(id, _)| id.clone()).collect()
    };
    let before = house.tables().await;
    assert!(!sales_of_mover(&before).is_empty());
    // when the move is seen
    house.advance(HOUR);
    run_and_compare(&house, &mut model).await;
    // then there is a row for either branch, and the sales stay where they were first seen
    let after = house.tables().await;
    for branch in [&moved.from, &moved.to] {
        let key = (moved.employee_id.clone(), branch.clone());
        assert!(after.salespersons.contains_key(&key), "{key:?}");
    }
    for id in sales_of_mover(&before) {
        let key = (id, moved.employee_id.clone());
        assert_eq!(after.sales[&key]["branch_id"], Json::text(&moved.from), "{key:?}");
    }
    // and when a sale of the last day at the old branch is published
    house.advance(HOUR);
    run_and_compare(&house, &mut model).await;
    // then it is there, once, under the branch it was first seen at
    let late = (moved.sale_id.clone(), moved.employee_id.clone());
    let tables = house.tables().await;
    assert_eq!(tables.sales[&late]["branch_id"], Json::text(&moved.to));
    assert_eq!(tables.sales.keys().filter(|(id, _)| *id == moved.sale_id).count(), 1);
    // and when somebody corrects the branch by hand
    let update = aws_sdk_dynamodb::Client::new(&house.cloud.sdk_config())
        .update_item()
        .table_name(&house.places.sale_table)
        .key("sale_id", AttributeValue::S(late.0.clone()))
        .key("employee_id", AttributeValue::S(late.1.clone()))
        .update_expression("SET branch_id = :branch")
        .expression_attribute_values(":branch", AttributeValue::S(moved.from.clone()));
    update.send().await.expect("updated");
    let writes = house.writes();
    house.complete_run().await;
    // then it stays corrected, and nothing is written
    assert_eq!(house.tables().await.sales[&late]["branch_id"], Json::text(&moved.from));
    assert_eq!(house.writes(), writes);
}
