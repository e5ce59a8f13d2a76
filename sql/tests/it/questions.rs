//! The five questions of the README.

use serde_json::json;

use crate::streams::{Streams, account, branch, sale, salesperson};

const QUESTIONS: [&str; 5] = [
    include_str!("../../questions/1-sales-by-branch-and-month.sql"),
    include_str!("../../questions/2-best-salespersons.sql"),
    include_str!("../../questions/3-booked-before-published-after-a-transfer.sql"),
    include_str!("../../questions/4-changes-since-yesterday.sql"),
    include_str!("../../questions/5-freshness-by-branch.sql"),
];

/// Jim moves from Scranton to Stamford in the second run; one sale of his is published in the third.
async fn transfer() -> Streams {
    let streams = Streams::new().await;
    let named = |name: &str| json!({"branch_name": {"S": name}});
    let jim = json!({"employee_name": {"S": "Jim"}});
    let gone = json!({"employee_name": {"S": "Jim"}, "deleted_at": {"S": "2026-11-21T01:00:30.000Z"}});
    let sold = |branch_id: &str, at: &str, amount: &str, fetched_at: &str| {
        json!({
            "branch_id": {"S": branch_id}, "transaction_timestamp": {"S": at}, "amount": {"N": amount},
            "last_modified": {"S": fetched_at},
        })
    };
    let (first, second, third) = (
        "2026-11-20T00:00:09.000Z",
        "2026-11-21T00:00:09.000Z",
        "2026-11-21T01:00:09.000Z",
    );
    // By the machine's clock all of it happens at one moment, days later.
    let then = 5 * 24 * 60;
    let fetched = |mut image: serde_json::Value, at: &str| {
        image["last_modified"] = json!({"S": at});
        image
    };
    streams
        .deliver(&[
            branch("INSERT", 1, "1", fetched(named("Scranton"), first)).at(then),
            branch("INSERT", 2, "2", fetched(named("Stamford"), first)).at(then),
            salesperson("INSERT", 1, ("7", "1"), fetched(jim.clone(), first)).at(then),
            sale_of(1, "old", sold("1", "2026-10-31 23:59:59", "10.10", first)).at(then),
        ])
        .await;
    streams
        .deliver(&[
            salesperson("INSERT", 2, ("7", "2"), fetched(jim, second)).at(then),
            salesperson("MODIFY", 3, ("7", "1"), fetched(gone, second)).at(then),
            sale_of(2, "new", sold("2", "2026-11-20 12:00:00", "0.01", second)).at(then),
        ])
        .await;
    streams
        .deliver(&[
            sale_of(3, "late", sold("1", "2026-11-20 22:00:00", "5", third)).at(then),
            sale_of(4, "next", sold("2", "2026-11-21 00:30:00", "7.5", third)).at(then),
        ])
        .await;
    streams
}

fn sale_of(sequence: u64, sale_id: &str, image: serde_json::Value) -> crate::streams::Record {
    sale("INSERT", sequence, sale_id, image)
}

#[tokio::test]
async fn sales_are_counted_by_branch_and_month() {
    assert_eq!(
        transfer().await.ask(QUESTIONS[0]).await,
        [
            "2026-11-01,Scranton,1,5",
            "2026-11-01,Stamford,2,7.51",
            "2026-10-01,Scranton,1,10.1"
        ]
    );
}

#[tokio::test]
async fn the_best_salesperson_is_named_once_after_a_transfer() {
    assert_eq!(transfer().await.ask(QUESTIONS[1]).await, ["Jim,Stamford,4,22.61"]);
}

#[tokio::test]
async fn a_sale_that_a_transfer_overtook_is_found_and_no_other() {
    assert_eq!(
        transfer().await.ask(QUESTIONS[2]).await,
        ["Jim,Scranton,Stamford,late,2026-11-20 22:00:00,2026-11-21 01:00:00,Scranton,5"]
    );
}

#[tokio::test]
async fn who_is_new_was_not_transferred() {
    let streams = Streams::new().await;
    let fetched = |at: &str| json!({"employee_name": {"S": "Pam"}, "last_modified": {"S": at}});
    let late = json!({
        "branch_id": {"S": "1"}, "transaction_timestamp": {"S": "2026-11-20 22:00:00"}, "amount": {"N": "5"},
        "last_modified": {"S": "2026-11-21T01:00:09.000Z"},
    });
    streams
        .deliver(&[salesperson(
            "INSERT",
            1,
            ("7", "1"),
            fetched("2026-11-21T00:00:09.000Z"),
        )])
        .await;
    streams.deliver(&[sale_of(1, "late", late)]).await;
    assert_eq!(streams.ask("SELECT count(*) FROM sales").await, ["1"]);
    assert_eq!(streams.ask(QUESTIONS[2]).await, [""; 0]);
}

#[tokio::test]
async fn changes_are_those_of_the_day_before_the_newest() {
    assert_eq!(
        transfer().await.ask(QUESTIONS[3]).await,
        ["sale,insert,3", "salesperson,delete,1", "salesperson,insert,1"]
    );
}

#[tokio::test]
async fn freshness_is_told_by_branch() {
    let streams = transfer().await;
    let listed = json!({"listed_at": {"S": "2026-11-21T01:00:09.000Z"}});
    streams
        .deliver(&[
            account(1, "run/2026-11-21T00:00:00Z/1", listed.clone()),
            account(2, "run/2026-11-21T00:00:00Z/2", listed.clone()),
            account(3, "run/2026-11-21T01:00:00Z/2", listed),
        ])
        .await;
    assert_eq!(
        streams.ask(QUESTIONS[4]).await,
        [
            "Scranton,2026-11-21 00:00:00,2026-11-21 01:00:00",
            "Stamford,2026-11-21 01:00:00,2026-11-21 01:00:00",
        ]
    );
}
