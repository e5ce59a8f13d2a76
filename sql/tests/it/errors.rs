//! What is said of a question that has no answer.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use sql::console::Console;
use sql::output::Format;
use sql::session::Lake;

use crate::losing::Losing;
use crate::streams::{MEMORY, Streams, sale};

async fn refusal(question: &str) -> String {
    let console = Streams::new().await.console(Format::Csv).await;
    let refused = console.answer(question, &mut Vec::new()).await;
    refused.unwrap_err().show()
}

#[tokio::test]
async fn a_name_that_nothing_has_is_pointed_at_and_a_close_one_is_suggested() {
    assert_eq!(
        refusal("SELECT sum(amuont)\nFROM sales").await,
        "there is no column amuont\n --> line 1, column 12\n  |\n1 | SELECT sum(amuont)\n  |            ^^^^^^ did you mean amount?"
    );
    assert_eq!(
        refusal("SELECT *\nFROM\tslaes").await,
        "there is no table slaes\n --> line 2, column 6\n  |\n2 | FROM\tslaes\n  |     \t^^^^^ did you mean sales?"
    );
    assert_eq!(
        refusal("SELECT smu(amount) FROM sales").await,
        "there is no function smu\n --> line 1, column 8\n  |\n1 | SELECT smu(amount) FROM sales\n  |        ^^^ did you mean sum?"
    );
    assert_eq!(
        refusal("SELECT s.amount, b.rnet FROM sales s JOIN branches b ON b.branch_id = s.branch_id").await,
        "there is no column rnet in b\n --> line 1, column 18\n  |\n1 | SELECT s.amount, b.rnet FROM sales s JOIN branches b ON \
         b.branch_id = s.branch_id\n  |                  ^^^^^^ did you mean rent?"
    );
    assert_eq!(
        refusal("SELECT x.amount FROM sales s").await,
        "there is no table x\n --> line 1, column 8\n  |\n1 | SELECT x.amount FROM sales s\n  |        ^^^^^^^^ did you mean s?"
    );
}

#[tokio::test]
async fn where_no_name_is_close_those_that_there_are_are_listed() {
    let refused = refusal("SELECT wages FROM branches").await;
    assert!(
        refused.contains("^^^^^ there are attributes, branch_id, branch_location, branch_name,"),
        "{refused}"
    );
    let refused = refusal("SELECT 1 FROM customers").await;
    assert!(
        refused.contains("^^^^^^^^^ there are branches, salespersons, sales,"),
        "{refused}"
    );
    assert!(refused.contains("freshness"), "{refused}");
}

#[tokio::test]
async fn an_ambiguous_name_and_one_that_is_not_grouped_are_pointed_at() {
    let refused = refusal("SELECT branch_id FROM sales s JOIN branches b ON s.branch_id = b.branch_id").await;
    assert!(
        refused.starts_with("branch_id could be a column of more than one table\n --> line 1, column 8\n")
            && refused.ends_with("^^^^^^^^^ did you mean s.branch_id or b.branch_id?"),
        "{refused}"
    );
    let refused = refusal("SELECT branch_id, sum(amount) FROM sales").await;
    assert!(
        refused.contains("must appear in GROUP BY") && refused.contains("line 1, column 8"),
        "{refused}"
    );
}

#[tokio::test]
async fn what_is_no_sql_is_pointed_at() {
    assert_eq!(
        refusal("SELECT *\nFORM sales").await,
        "expected end of statement, found FORM\n --> line 2, column 1\n  |\n2 | FORM sales\n  | ^^^^"
    );
    assert_eq!(
        refusal("SELECT * FROM sales WHERE").await,
        "expected an expression, found the end\n --> line 1, column 26\n  |\n1 | SELECT * FROM sales WHERE\n  |                          ^"
    );
}

#[tokio::test]
async fn nothing_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.csv").display().to_string();
    for statement in [
        format!("COPY (SELECT 1) TO '{path}'"),
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{path}'"),
        "CREATE TABLE t AS SELECT 1".to_owned(),
        "INSERT INTO sales_log SELECT * FROM sales_log".to_owned(),
        "SET datafusion.catalog.format = 'CSV'".to_owned(),
        "WITH a AS (SELECT 1) SELECT 1 INTO t".to_owned(),
    ] {
        let refused = refusal(&statement).await;
        assert!(
            refused.starts_with("the lake is only read here: expected SELECT,"),
            "{statement}: {refused}"
        );
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    // Nor is any other file of this machine a table.
    let refused = refusal("SELECT * FROM '/etc/passwd'").await;
    assert!(refused.starts_with("there is no table /etc/passwd"), "{refused}");
}

#[tokio::test]
async fn what_goes_wrong_on_the_way_is_said_plainly() {
    for (question, message) in [
        ("SELECT CAST('Toner' AS bigint)", "Cannot cast string 'Toner'"),
        ("SELECT 1 / 0", "Divide by zero"),
        (
            "SELECT json_extract_scalar('{}', 'a.b')",
            "'a.b' is no JSON path: expected $, then",
        ),
        ("SELECT date_diff('fortnight', now(), now())", "no unit 'fortnight'"),
        (
            "SELECT date_diff('day', 1, now())",
            "two dates or timestamps; it was given Utf8, Int64",
        ),
    ] {
        let refused = refusal(question).await;
        assert!(refused.contains(message), "{question}: {refused}");
    }
}

#[tokio::test]
async fn a_question_that_needs_too_much_memory_ends_in_an_error() {
    let streams = Streams::new().await;
    let lake = Lake::over(streams.objects.clone(), 64 << 20).await.unwrap();
    let console = Console::new(lake, Format::Csv, None, || None, |_| {});
    let greedy =
        "SELECT count(*) FROM generate_series(1, 6000000) a JOIN generate_series(1, 6000000) b ON a.value = b.value";
    let refused = console.answer(greedy, &mut Vec::new()).await.unwrap_err().show();
    assert!(
        refused.starts_with("the question needs more memory than it may use") && refused.contains("--memory"),
        "{refused}"
    );
    // What can be put aside is: this sorts more than it may hold.
    let sorted = "SELECT max(place) FROM (SELECT row_number() OVER (ORDER BY repeat(CAST(value AS VARCHAR), 20) DESC) AS place \
                  FROM generate_series(1, 1000000))";
    let mut answer = Vec::new();
    console.answer(sorted, &mut answer).await.unwrap();
    assert!(String::from_utf8(answer).unwrap().ends_with("\n1000000\n"));
}

#[tokio::test]
async fn a_sum_that_does_not_fit_is_an_error_and_no_other_number() {
    let largest = "99999999999999999999999999999999999999";
    for (question, words) in [
        (
            format!("SELECT sum(a) FROM (VALUES ({largest}), ({largest})) AS t (a)"),
            "the sum is larger than a decimal(38, 0) has room for",
        ),
        (
            format!("SELECT k, sum(a) FROM (VALUES (1, {largest}), (2, 1), (1, {largest})) AS t (k, a) GROUP BY k"),
            "the sum is larger than a decimal(38, 0) has room for",
        ),
        (
            "SELECT sum(a) FROM (VALUES (9223372036854775807), (1)) AS t (a)".to_owned(),
            "the sum is larger than 9223372036854775807, the largest bigint",
        ),
        (
            "SELECT sum(a) OVER (ORDER BY a) FROM (VALUES (9223372036854775806), (9223372036854775807)) AS t (a)"
                .to_owned(),
            "the sum is larger than 9223372036854775807, the largest bigint",
        ),
    ] {
        let refused = refusal(&question).await;
        assert!(refused.contains(words), "{question}: {refused}");
    }
}

#[tokio::test]
async fn a_broken_file_is_named() {
    let streams = Streams::new().await;
    streams.deliver(&[sale("INSERT", 1, "1", json!({}))]).await;
    streams.break_file("changes/sales/date=2026-11-21/broken.parquet").await;
    let console = streams.console(Format::Csv).await;
    let refused = console
        .answer("SELECT * FROM sales", &mut Vec::new())
        .await
        .unwrap_err();
    let refused = refused.show();
    assert!(
        refused.contains("the file changes/sales/date=2026-11-21/broken.parquet of the lake is broken"),
        "{refused}"
    );
    assert!(refused.contains("cascade lake rebuild"), "{refused}");
}

#[tokio::test]
async fn two_columns_of_one_name_are_refused_where_readers_know_columns_by_name() {
    let question = "SELECT a.value, b.value FROM generate_series(1, 1) AS a, generate_series(1, 1) AS b";
    for format in [Format::Json, Format::Parquet] {
        let console = Streams::new().await.console(format).await;
        let mut to = Vec::new();
        let refused = console.answer(question, &mut to).await.unwrap_err().show();
        assert!(refused.contains("two columns are called value"), "{refused}");
        assert!(to.is_empty());
    }
    let console = Streams::new().await.console(Format::Csv).await;
    let mut to = Vec::new();
    console.answer(question, &mut to).await.unwrap();
    assert_eq!(String::from_utf8(to).unwrap(), "value,value\n1,1\n");
}

#[tokio::test]
async fn a_question_without_end_can_be_given_up() {
    let console = Streams::new().await.console(Format::Csv).await;
    for endless in [
        "SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100000) b, generate_series(1, 100000) c",
        "SELECT max(a.value + b.value) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b",
    ] {
        // given nobody but this thread to notice that time is up
        let mut answer = Vec::new();
        let answered = tokio::time::timeout(Duration::from_millis(500), console.answer(endless, &mut answer)).await;
        assert!(answered.is_err(), "{endless}");
    }
}

#[tokio::test]
async fn files_are_listed_once_a_question_however_often_it_names_them() {
    let streams = Streams::new().await;
    let one = |number: u64| sale("INSERT", number, &number.to_string(), json!({"amount": {"N": "1"}}));
    streams.deliver(&[one(1)]).await;
    let store = Arc::new(Losing::new(streams.objects.clone(), 0));
    let lake = Lake::over(store.clone(), MEMORY).await.unwrap();
    let console = Console::new(lake, Format::Csv, None, || None, |_| {});
    let question = "SELECT (SELECT count(*) FROM sales), (SELECT count(*) FROM sales_changes), count(*) FROM sales_log";
    for sales in [1, 2] {
        let mut answer = Vec::new();
        console.answer(question, &mut answer).await.unwrap();
        // then each question sees what is there now, and all of it the same files
        let row = format!("\n{sales},{sales},{sales}\n");
        assert!(String::from_utf8(answer).unwrap().ends_with(&row));
        assert_eq!(store.take_listed(), ["changes/sales"]);
        streams.deliver(&[one(2)]).await;
    }
}

#[tokio::test]
async fn a_file_that_is_gone_once_is_looked_for_anew_and_then_reported() {
    let streams = Streams::new().await;
    for number in 1..=3 {
        let image = json!({"amount": {"N": "1.5"}});
        streams
            .deliver(&[sale("INSERT", number, &number.to_string(), image)])
            .await;
    }
    for (losses, expected) in [
        (1, Ok("3,4.5")),
        (
            2,
            Err("files of the lake were replaced by a compaction while they were read"),
        ),
    ] {
        let store = Arc::new(Losing::new(streams.objects.clone(), losses));
        let lake = Lake::over(store, MEMORY).await.unwrap();
        let console = Console::new(lake, Format::Csv, None, || None, |_| {});
        let mut answer = Vec::new();
        let answered = console
            .answer("SELECT count(amount), sum(amount) FROM sales", &mut answer)
            .await;
        match expected {
            Ok(row) => assert!(answered.is_ok() && String::from_utf8(answer).unwrap().ends_with(&format!("\n{row}\n"))),
            Err(message) => assert!(answered.unwrap_err().show().starts_with(message)),
        }
    }
}
