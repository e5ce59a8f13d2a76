//! Which run a row belongs to, and what runs say of themselves.

use lake::log::Log;
use lake::runs::ENTRY;
use serde_json::{Value, json};
use shared::state::{Entry, StateTable};

use crate::stage::{Stage, record, text};

const RUN: &str = "2026-11-21T11:00:00Z";

fn account(id: &str, image: Value, sequence: u64) -> Value {
    record(Log::Runs, "MODIFY", &[id], image, sequence)
}

#[tokio::test]
async fn a_row_names_the_newest_run_that_had_begun_when_its_answer_was_fetched() {
    let stage = Stage::new();
    let recent = json!({"recent": ["2026-11-21T10:00:00Z", RUN]});
    stage
        .state
        .swap(ENTRY, None, &Entry::after(None, &recent, None).unwrap())
        .await
        .unwrap();
    let fetched = |sale: &'static str, at: &str, sequence| {
        record(
            Log::Sales,
            "INSERT",
            &[sale, "7"],
            json!({"last_modified": {"S": at}}),
            sequence,
        )
    };
    stage
        .deliver(&[
            fetched("1", "2026-11-21T09:59:59.999Z", 1),
            fetched("2", "2026-11-21T10:00:00.000Z", 2),
            fetched("3", "2026-11-21T11:30:00.000Z", 3),
        ])
        .await;
    assert_eq!(stage.state.reads(), 1);
    let runs: Vec<_> = stage
        .rows(Log::Sales)
        .await
        .into_iter()
        .map(|row| row["run_id"].clone())
        .collect();
    let run = |text: &str| Some(text.to_owned());
    assert_eq!(
        runs,
        [None, run("2026-11-21T10:00:00.000Z"), run("2026-11-21T11:00:00.000Z")]
    );
}

#[tokio::test]
async fn of_an_account_only_the_newest_state_of_a_batch_is_kept_and_other_entries_are_not() {
    let stage = Stage::new();
    let handled = stage
        .call(&json!({"Records": [
            account("runs", json!({}), 1),
            account(&format!("run/{RUN}"), json!({"names_expected": {"SS": ["Scranton"]}}), 2),
            account(&format!("run/{RUN}/1"), json!({"sales_inserted": {"N": "50"}, "listed_at": {"S": "2026-11-21T11:00:05.000Z"}}), 3),
            account(&format!("run/{RUN}"), json!({"names_expected": {"SS": ["Scranton"]}, "names_finished": {"SS": ["Scranton"]}}), 4),
            account(&format!("report/{RUN}"), json!({}), 5),
        ]}))
        .await;
    assert_eq!(
        (handled.counts.records, handled.counts.ignored, handled.counts.rows),
        (5, 2, 2)
    );
    let rows = stage.rows(Log::Runs).await;
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (
            text(&rows[0], "branch_id").as_str(),
            text(&rows[0], "complete").as_str()
        ),
        ("", "true")
    );
    assert_eq!(
        (
            text(&rows[1], "branch_id").as_str(),
            text(&rows[1], "sales_inserted").as_str()
        ),
        ("1", "50")
    );
    assert_eq!(text(&rows[1], "complete"), "true");
    assert!(stage.file_names(Log::Runs).await[0].ends_with("4-2.parquet"));
}

#[tokio::test]
async fn an_account_that_expires_leaves_what_it_said() {
    let stage = Stage::new();
    let id = format!("run/{RUN}");
    stage
        .deliver(&[account(&id, json!({"kind": {"S": "schedule"}}), 1)])
        .await;
    let handled = stage
        .call(&json!({"Records": [record(Log::Runs, "REMOVE", &[&id], json!({}), 2)]}))
        .await;
    assert_eq!((handled.counts.ignored, handled.counts.files), (1, 0));
    assert_eq!(stage.current(Log::Runs).await.len(), 1);
}
