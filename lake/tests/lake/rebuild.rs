//! A log that its stream no longer has everything for is mended from the table.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use lake::counts::Counts;
use lake::log::Log;
use lake::rebuild::Rebuild;
use lake::runs::Runs;
use lake::tables::{Page, TableError, TableReader};
use serde_dynamo::Item;
use serde_json::{Value, json};
use shared::collector::Call;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::stage::{NOON, Stage, record, text};

/// A table of items, two on a page. The others are empty.
struct Table {
    log: Log,
    items: Vec<Value>,
    pages: AtomicUsize,
}

#[async_trait]
impl TableReader for Table {
    async fn page(&self, log: Log, from: Option<HashMap<String, String>>) -> Result<Page, TableError> {
        self.pages.fetch_add(1, Ordering::SeqCst);
        if log != self.log {
            return Ok(Page::default());
        }
        let from: usize = from.map_or(0, |from| from["at"].parse().unwrap());
        let all = self
            .items
            .iter()
            .map(|item| serde_json::from_value::<Item>(item.clone()).unwrap());
        Ok(Page {
            items: all.skip(from).take(2).collect(),
            next: (from + 2 < self.items.len()).then(|| [("at".to_owned(), (from + 2).to_string())].into()),
        })
    }
}

fn table(log: Log, items: Vec<Value>) -> Table {
    Table {
        log,
        items,
        pages: AtomicUsize::new(0),
    }
}

fn fetched(minute: u8) -> Value {
    json!({"amount": {"N": minute.to_string()}, "last_modified": {"S": format!("2026-11-21T11:{minute:02}:00.000Z")}})
}

/// An item of the table of sales.
fn item(sale: &str, mut image: Value) -> Value {
    image["sale_id"] = json!({ "S": sale });
    image["employee_id"] = json!({"S": "7"});
    image
}

async fn rebuild_log(stage: &Stage, log: Log, items: Vec<Value>) -> Counts {
    let rebuild = Rebuild {
        lake: &stage.lake,
        tables: &table(log, items),
        runs: &Runs::default(),
        now: NOON,
        ends: &|| false,
    };
    let mut counts = Counts::default();
    assert!(rebuild.log(log, &mut counts).await.unwrap());
    counts
}

async fn rebuild(stage: &Stage, items: Vec<Value>) -> Counts {
    rebuild_log(stage, Log::Sales, items).await
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
    let entry =
        |id: &str| json!({"id": {"S": id}, "last_at": {"S": "2026-11-21T11:00:00.000Z"}, "api_calls": {"N": "3"}});
    let entries = || vec![entry("run/2026-11-21T11:00:00Z"), entry("freshness")];
    let rebuild = async |entries| rebuild_log(&stage, Log::Runs, entries).await;
    assert_eq!(rebuild(entries()).await.rows, 1);
    assert_eq!(rebuild(entries()).await.rows, 0);
    assert_eq!(text(&stage.rows(Log::Runs).await[0], "api_calls"), "3");
    // A run that is no longer kept in the table stays.
    assert_eq!(rebuild(Vec::new()).await.rows, 0);
}

/// A call of the function that mends from `table`, with so many seconds left.
async fn call(stage: Stage, table: Arc<Table>, event: Value, seconds: u64) -> (Stage, Value) {
    let call = Call {
        request_id: "r-1".to_owned(),
        now: stage.clock.now(),
        deadline: Instant::now() + Duration::from_secs(seconds),
        stop: CancellationToken::new(),
    };
    let stage = Stage {
        function: stage.function.with_reader(table),
        ..stage
    };
    let answer = stage.function.handle(&event.to_string(), call).await.answer.unwrap();
    (stage, answer)
}

#[tokio::test(start_paused = true)]
async fn a_call_of_the_function_writes_what_the_lake_lacks_and_says_how_far_it_came() {
    let items = (1..=5).map(|sale| item(&sale.to_string(), fetched(1))).collect();
    let table = Arc::new(table(Log::Sales, items));
    let (stage, answer) = call(Stage::new(), table.clone(), json!({"rebuild": true}), 30).await;
    assert_eq!((&answer["complete"], &answer["rows"]), (&json!(false), &json!(0)));
    assert_eq!(answer["left"], json!(["branches", "salespersons", "sales", "runs"]));
    assert!(answer["next"].as_str().unwrap().contains("call again"), "{answer}");
    let (stage, answer) = call(stage, table.clone(), json!({"rebuild": {"log": "branches"}}), 900).await;
    assert_eq!(answer["rebuilt"], json!({"branches": 0}));
    let (stage, answer) = call(stage, table.clone(), json!({"rebuild": true}), 900).await;
    assert_eq!(
        answer["rebuilt"],
        json!({"branches": 0, "salespersons": 0, "sales": 5, "runs": 0})
    );
    assert_eq!(
        (&answer["complete"], &answer["statusCode"]),
        (&json!(true), &json!(200))
    );
    assert_eq!(amounts(&stage).await.len(), 5);
    let (_, answer) = call(stage, table, json!({"rebuild": true}), 900).await;
    assert_eq!((&answer["rows"], &answer["complete"]), (&json!(0), &json!(true)));
}

#[tokio::test]
async fn given_no_time_left_amid_a_table_then_what_was_read_is_written_and_nothing_is_taken_for_removed() {
    let stage = Stage::new();
    stage
        .deliver(&[record(Log::Sales, "INSERT", &["9", "7"], fetched(1), 1)])
        .await;
    let table = table(
        Log::Sales,
        (1..=5).map(|sale| item(&sale.to_string(), fetched(1))).collect(),
    );
    let mut counts = Counts::default();
    let ends = || table.pages.load(Ordering::SeqCst) == 2;
    let rebuild = Rebuild {
        lake: &stage.lake,
        tables: &table,
        runs: &Runs::default(),
        now: NOON,
        ends: &ends,
    };
    assert!(!rebuild.log(Log::Sales, &mut counts).await.unwrap());
    assert_eq!((counts.rows, amounts(&stage).await.len()), (4, 5));
    assert_eq!(
        self::rebuild(&stage, table.items).await.rows,
        2,
        "the fifth, and 9 is gone"
    );
    assert_eq!(amounts(&stage).await.len(), 5);
}

#[tokio::test]
async fn what_the_stream_is_yet_to_say_comes_after_what_the_table_said_whatever_other_keys_are_at() {
    let stage = Stage::new();
    let insert = |sale: &str, minute, sequence| record(Log::Sales, "INSERT", &[sale, "7"], fetched(minute), sequence);
    stage.deliver(&[insert("1", 1, 5), insert("2", 1, 90)]).await;
    // 1 was changed and that is lost; its next change, numbered before the newest of another shard's, is on its way.
    assert_eq!(
        rebuild(&stage, vec![item("1", fetched(2)), item("2", fetched(1))])
            .await
            .rows,
        1
    );
    assert_eq!(amounts(&stage).await, [amount("1", 2), amount("2", 1)]);
    stage.deliver(&[insert("1", 3, 50)]).await;
    assert_eq!(amounts(&stage).await, [amount("1", 3), amount("2", 1)]);
}

#[tokio::test]
async fn an_item_that_cannot_be_a_row_is_counted_and_is_not_taken_for_removed() {
    let stage = Stage::new();
    stage
        .deliver(&[record(Log::Sales, "INSERT", &["1", "7"], fetched(1), 1)])
        .await;
    let unusable = item("1", json!({"amount": {"N": "x"}}));
    let counts = rebuild(&stage, vec![unusable, item("2", fetched(1))]).await;
    assert_eq!((counts.refused, counts.rows), (1, 1));
    assert_eq!(amounts(&stage).await, [amount("1", 1), amount("2", 1)]);
}

#[tokio::test]
async fn a_function_that_cannot_read_tables_says_so() {
    let handled = Stage::new().call(&json!({"rebuild": true})).await;
    assert_eq!(
        handled.answer.unwrap_err().to_string(),
        "there are no tables here that the lake could be mended from"
    );
}
