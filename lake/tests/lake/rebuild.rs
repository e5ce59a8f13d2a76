//! A log that its stream no longer has everything for is mended from the table.

use lake::change::{Change, table_keys};
use lake::counts::Counts;
use lake::log::Log;
use lake::runs::Runs;
use serde_json::{Value, json};

use crate::stage::{NOON, Stage, record, text};

fn fetched(minute: u8) -> Value {
    json!({"amount": {"N": minute.to_string()}, "last_modified": {"S": format!("2026-11-21T11:{minute:02}:00.000Z")}})
}

/// An item of the table of sales, as the change that put it.
fn item(sale: &str, image: Value) -> Change {
    let record = record(Log::Sales, "INSERT", &[sale, "7"], image, 0);
    Change::read(&record.to_string(), &table_keys(Log::Sales)).unwrap()
}

async fn rebuild(stage: &Stage, items: Vec<Change>) -> Counts {
    stage
        .lake
        .rebuild(Log::Sales, items, &Runs::default(), NOON)
        .await
        .unwrap()
}

async fn amounts(stage: &Stage) -> Vec<(String, String)> {
    let current = stage.current(Log::Sales).await;
    current
        .values()
        .map(|row| (text(row, "sale_id"), text(row, "amount")))
        .collect()
}

fn amount(sale: &str, minute: u8) -> (String, String) {
    (sale.to_owned(), format!("{minute}.0000000000"))
}

#[tokio::test]
async fn given_an_empty_lake_then_every_row_of_the_table_comes_before_anything_of_the_stream() {
    let stage = Stage::new();
    let counts = rebuild(&stage, vec![item("1", fetched(1)), item("2", fetched(2))]).await;
    assert_eq!((counts.rows, counts.files), (2, 1));
    assert_eq!(amounts(&stage).await, [amount("1", 1), amount("2", 2)]);
    for row in stage.rows(Log::Sales).await {
        assert_eq!(
            (text(&row, "sequence"), text(&row, "operation")),
            ("0".repeat(40), "insert".to_owned())
        );
    }
    stage
        .deliver(&[record(Log::Sales, "MODIFY", &["1", "7"], fetched(3), 1)])
        .await;
    assert_eq!(amounts(&stage).await, [amount("1", 3), amount("2", 2)]);
}

#[tokio::test]
async fn given_a_gap_then_what_is_missing_older_or_gone_is_mended_and_the_rest_is_left() {
    let stage = Stage::new();
    let insert = |sale: &str, minute, sequence| record(Log::Sales, "INSERT", &[sale, "7"], fetched(minute), sequence);
    stage
        .deliver(&[insert("1", 1, 5), insert("2", 1, 6), insert("3", 1, 7)])
        .await;
    // In between, lost: 2 was changed, 3 removed, 4 inserted, 5 inserted and marked as deleted.
    let mut deleted = fetched(2);
    deleted["deleted_at"] = json!({"S": "2026-11-21T11:30:00.000Z"});
    let table = || {
        vec![
            item("1", fetched(1)),
            item("2", fetched(2)),
            item("4", fetched(2)),
            item("5", deleted.clone()),
        ]
    };
    assert_eq!(rebuild(&stage, table()).await.rows, 4);
    let mended = [amount("1", 1), amount("2", 2), amount("4", 2)];
    assert_eq!(amounts(&stage).await, mended);
    // Once more there is nothing to mend, and what the stream says next comes after it.
    assert_eq!(rebuild(&stage, table()).await, Counts::default());
    stage.deliver(&[insert("3", 4, 9)]).await;
    assert_eq!(
        amounts(&stage).await,
        [amount("1", 1), amount("2", 2), amount("3", 4), amount("4", 2)]
    );
}

#[tokio::test]
async fn given_two_rebuilds_of_as_many_rows_then_neither_overwrites_the_other() {
    let stage = Stage::new();
    rebuild(&stage, vec![item("1", fetched(1))]).await;
    rebuild(&stage, vec![item("1", fetched(1)), item("2", fetched(1))]).await;
    rebuild(
        &stage,
        vec![item("1", fetched(1)), item("2", fetched(1)), item("3", fetched(1))],
    )
    .await;
    assert_eq!(amounts(&stage).await.len(), 3);
    assert_eq!(stage.file_names(Log::Sales).await.len(), 3);
}

#[tokio::test]
async fn accounts_of_runs_are_taken_too_and_what_else_the_table_holds_is_not() {
    let stage = Stage::new();
    let entry = |id: &str| {
        let image = json!({"last_at": {"S": "2026-11-21T11:00:00.000Z"}, "api_calls": {"N": "3"}});
        Change::read(
            &record(Log::Runs, "INSERT", &[id], image, 0).to_string(),
            &table_keys(Log::Runs),
        )
        .unwrap()
    };
    let entries = || vec![entry("run/2026-11-21T11:00:00Z"), entry("freshness")];
    let rebuild = async |entries| {
        stage
            .lake
            .rebuild(Log::Runs, entries, &Runs::default(), NOON)
            .await
            .unwrap()
    };
    assert_eq!(rebuild(entries()).await.rows, 1);
    assert_eq!(rebuild(entries()).await.rows, 0);
    assert_eq!(text(&stage.rows(Log::Runs).await[0], "api_calls"), "3");
    // A run that is no longer kept in the table stays.
    assert_eq!(rebuild(Vec::new()).await.rows, 0);
}
