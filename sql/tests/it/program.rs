//! The program, as a shell starts it.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;

use crate::streams::{Streams, sale};

/// A data directory with a lake of three sales.
async fn data() -> tempfile::TempDir {
    let data = tempfile::tempdir().unwrap();
    let streams = Streams::new().await;
    for (sequence, amount) in [(1, "1.5"), (2, "20"), (3, "0.25")] {
        let image = json!({"amount": {"N": amount}, "product": {"S": "Ledger"}});
        streams
            .deliver(&[sale("INSERT", sequence, &sequence.to_string(), image)])
            .await;
    }
    streams.save(&data.path().join("lake")).await;
    data
}

fn sql(folder: &Path, arguments: &[&str]) -> Output {
    sql_with_input(folder, arguments, "")
}

fn sql_with_input(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut program = Command::new(env!("CARGO_BIN_EXE_cascade-sql"))
        .args(arguments)
        .current_dir(folder)
        .env_remove("AWS_PROFILE")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    program.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    program.wait_with_output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

const SUM: &str = "SELECT count(*) AS sales, sum(amount) AS amount FROM sales";

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_answered_from_wherever_it_comes() {
    let data = data().await;
    let folder = data.path();
    std::fs::write(folder.join("question.sql"), format!("-- How much?\n{SUM};\n")).unwrap();
    let lake = folder.join("lake").display().to_string();
    for (arguments, input) in [
        (vec!["--data", ".", "--format", "csv", SUM], ""),
        (vec!["--lake", lake.as_str(), "--format", "csv", SUM], ""),
        (vec!["--data", ".", "--format", "csv", "-f", "question.sql"], ""),
        (vec!["--data", ".", "--format", "csv"], SUM),
    ] {
        let (status, answer, summary) = said(&sql_with_input(folder, &arguments, input));
        assert_eq!(
            (status, answer.as_str()),
            (Some(0), "sales,amount\n3,21.75\n"),
            "{arguments:?}: {summary}"
        );
        assert!(summary.starts_with("1 row. ") && summary.ends_with(" s\n"), "{summary}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_and_columns_are_listed() {
    let data = data().await;
    let (status, tables, _) = said(&sql(data.path(), &["--data", ".", "\\d"]));
    assert_eq!(status, Some(0));
    for table in ["branches ", "sales_changes ", "runs ", "freshness ", "sales_log "] {
        assert!(tables.lines().any(|line| line.starts_with(table)), "{table}: {tables}");
    }
    let (_, columns, _) = said(&sql(data.path(), &["--data", ".", "\\d sales"]));
    assert!(
        columns.contains("\namount                 decimal(38, 10)\n"),
        "{columns}"
    );
    let (status, _, error) = said(&sql(data.path(), &["--data", ".", "\\d sale"]));
    assert_eq!(
        (status, error.as_str()),
        (Some(2), "error: there is no table sale\nhint: did you mean sales?\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_says_where_it_ends_early() {
    let data = data().await;
    let (status, answer, summary) = said(&sql(
        data.path(),
        &["--data", ".", "--limit", "2", "SELECT amount FROM sales"],
    ));
    assert_eq!((status, answer.lines().count()), (Some(0), 4));
    assert!(
        summary.starts_with("The first 2 rows, and there are more (--limit)."),
        "{summary}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_to_a_file_that_is_whole_or_not_there() {
    let data = data().await;
    let folder = data.path();
    let (status, answer, _) = said(&sql(
        folder,
        &["--data", ".", "--format", "parquet", "-o", "sum.parquet", SUM],
    ));
    assert_eq!((status, answer.as_str()), (Some(0), ""));
    assert_eq!(&std::fs::read(folder.join("sum.parquet")).unwrap()[..4], b"PAR1");
    let failing = "SELECT CAST(product AS bigint) FROM sales";
    let (status, _, error) = said(&sql(
        folder,
        &["--data", ".", "--format", "csv", "-o", "none.csv", failing],
    ));
    assert_eq!(status, Some(2), "{error}");
    let mut names: Vec<_> = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["lake", "sum.parquet"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_done_is_said_with_status_2() {
    let data = data().await;
    for (arguments, error) in [
        (
            vec![SUM],
            "error: there is no lake in .cascade/lake; a run makes one (`cargo run`), and --data or --lake",
        ),
        (
            vec!["--data", ".", "SELECT amuont FROM sales"],
            "error: there is no column amuont\n --> line 1, column 8\n",
        ),
        (
            vec!["--data", ".", "DROP VIEW sales"],
            "error: the lake is only read here",
        ),
        (
            vec!["--data", ".", "--format", "parquet", SUM],
            "error: Parquet is written to a file; expected --output FILE",
        ),
        (vec!["--data", "."], "error: there is no question; expected SELECT"),
        (
            vec!["--data", ".", "-f", "none.sql"],
            "error: could not read none.sql: No such file",
        ),
        (
            vec!["--data", ".", "-o", "none/x.csv", SUM],
            "error: could not write none/x.csv: ",
        ),
        (
            vec!["--lake", "gs://bucket", SUM],
            "error: invalid value 'gs://bucket' for '--lake <PLACE>': expected a directory",
        ),
        (
            vec!["--data", ".", "--lake", "x", SUM],
            "error: the argument '--data <DIR>' cannot be used with '--lake <PLACE>'",
        ),
        (
            vec!["--memory", "1", SUM],
            "error: invalid value '1' for '--memory <SIZE>': expected a size such as 512M",
        ),
    ] {
        let (status, answer, said) = said(&sql(data.path(), &arguments));
        assert_eq!((status, answer.as_str()), (Some(2), ""), "{arguments:?}: {said}");
        assert!(said.starts_with(error), "{arguments:?}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_only_the_beginning_sees_no_error() {
    let data = data().await;
    let mut program = Command::new(env!("CARGO_BIN_EXE_cascade-sql"))
        .args([
            "--data",
            ".",
            "--format",
            "csv",
            "SELECT * FROM generate_series(1, 1000000)",
        ])
        .current_dir(data.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(program.stdout.take());
    let output = program.wait_with_output().unwrap();
    assert_eq!(
        (output.status.code(), output.stderr.as_slice()),
        (Some(0), b"".as_slice())
    );
}
