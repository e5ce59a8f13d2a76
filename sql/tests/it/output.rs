//! Answers, as each format has them.

use serde_json::json;
use sql::console::Console;
use sql::output::{Format, OutputFile};
use sql::session::Lake;

use crate::streams::{MEMORY, Streams, ask, sale};

/// The answer as a table in a terminal of 80 columns.
async fn table(question: &str, limit: Option<usize>) -> String {
    let streams = Streams::new().await;
    let lake = Lake::over(streams.objects.clone(), MEMORY).await.unwrap();
    ask(&Console::new(lake, Format::Table, limit, || Some(80), |_| {}), question).await
}

async fn written(format: Format, question: &str) -> String {
    ask(&Streams::new().await.console(format).await, question).await
}

/// Values of all kinds.
const VALUES: &str = "SELECT 'Toner, \"black\"' AS product, CAST(12.30 AS decimal(38, 10)) AS amount, 7 AS quantity, \
                      TIMESTAMP '2026-11-21 01:00:00.250' AS booked, DATE '2026-11-21' AS day, true AS open, '' AS note, \
                      CAST(NULL AS varchar) AS nothing";

#[tokio::test]
async fn a_table_aligns_numbers_at_their_end_and_at_their_point() {
    let question = "SELECT * FROM (VALUES ('Akron', CAST(1234.5 AS decimal(38, 10)), 7), ('New York', CAST(0.25 AS decimal(38, \
                    10)), 12345), (NULL, NULL, NULL), ('NULL', CAST(-3 AS decimal(38, 10)), -1)) AS t(branch, amount, sales)";
    assert_eq!(
        table(question, None).await,
        " branch      amount   sales\n\
         ────────────────────────────\n \
         Akron      1234.50       7\n \
         New York      0.25   12345\n \
         NULL          NULL    NULL\n \
         \"NULL\"       -3.00      -1\n"
    );
}

#[tokio::test]
async fn a_table_shows_no_more_rows_than_it_may() {
    let series = "SELECT value FROM generate_series(1, 5) ORDER BY value";
    let lines = |table: String| table.lines().count();
    assert_eq!(lines(table(series, Some(3)).await), 2 + 3);
    assert_eq!(lines(table(series, Some(5)).await), 2 + 5);
    assert_eq!(lines(table(series, None).await), 2 + 5);
}

#[tokio::test]
async fn a_text_that_is_too_wide_is_broken_and_a_number_never() {
    let shown = table(
        "SELECT repeat('word ', 30) AS text, 12345678901234567 AS number, repeat('x', 30) AS more",
        None,
    )
    .await;
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    assert!(shown.contains("12345678901234567"), "{shown}");
    assert_eq!(shown.matches("word").count(), 30, "{shown}");
}

#[tokio::test]
async fn what_does_not_fit_side_by_side_is_shown_line_by_line() {
    let shown = table(&format!("{VALUES}, repeat('x', 90) AS long, 1 AS one"), None).await;
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[0].starts_with("── 1 ───") && lines[0].chars().count() == 80,
        "{shown}"
    );
    assert_eq!(
        lines[1..4],
        ["product   Toner, \"black\"", "amount    12.3", "quantity  7"]
    );
    assert_eq!(lines[8], "nothing   NULL");
    assert_eq!(lines[9], format!("long      {}", "x".repeat(90)));
}

#[tokio::test]
async fn nothing_that_is_shown_commands_the_terminal() {
    let shown = table("SELECT chr(27) || '[31mred' || chr(10) || 'next' AS \"a\tb\"", None).await;
    assert_eq!(shown, " a\\tb\n───────────────\n \\u{1b}[31mred\n next\n");
}

#[tokio::test]
async fn csv_tells_an_empty_text_from_null() {
    assert_eq!(
        written(Format::Csv, VALUES).await,
        "product,amount,quantity,booked,day,open,note,nothing\n\
         \"Toner, \"\"black\"\"\",12.3,7,2026-11-21 01:00:00.250,2026-11-21,true,\"\",\n"
    );
    assert_eq!(
        written(Format::Csv, "SELECT 'a' || chr(10) || 'b' AS \"x,y\", ' c '").await,
        "\"x,y\",' c '\n\"a\nb\", c \n"
    );
}

#[tokio::test]
async fn json_keeps_every_digit() {
    assert_eq!(
        written(Format::Json, VALUES).await,
        "[\n{\"product\":\"Toner, \\\"black\\\"\",\"amount\":12.3,\"quantity\":7,\"booked\":\"2026-11-21T01:00:00.250\",\
         \"day\":\"2026-11-21\",\"open\":true,\"note\":\"\",\"nothing\":null}\n]\n"
    );
    let exact = "SELECT 1234567890.12345678901 AS a, 9007199254740993 AS b UNION ALL SELECT -0.5, NULL ORDER BY a DESC";
    assert_eq!(
        written(Format::Json, exact).await,
        "[\n{\"a\":1234567890.12345678901,\"b\":9007199254740993},\n{\"a\":-0.5,\"b\":null}\n]\n"
    );
    assert_eq!(
        written(
            Format::Json,
            "SELECT array_agg(value) AS all FROM generate_series(1, 3)"
        )
        .await,
        "[\n{\"all\":[1,2,3]}\n]\n"
    );
}

#[tokio::test]
async fn what_is_computed_is_called_by_its_text_or_by_its_place() {
    assert_eq!(
        written(
            Format::Csv,
            "SELECT value, max( value ), count(*), count(*), (SELECT 1), (SELECT 2) FROM generate_series(1, 1) GROUP BY value"
        )
        .await,
        "value,max(value),count(*),_col3,_col4,_col5\n1,1,1,1,1,2\n"
    );
    assert_eq!(
        written(Format::Csv, "SELECT 1, 1 UNION ALL SELECT 2, 2 ORDER BY 1").await,
        "1,_col1\n1,1\n2,2\n"
    );
}

#[tokio::test]
async fn columns_that_differ_by_a_cast_alone_are_told_apart() {
    for (text, answer) in [
        ("SELECT CAST(value AS VARCHAR), value", "_col0,value\n1,1\n"),
        (
            "SELECT CAST(value AS DOUBLE), CAST(value AS VARCHAR)",
            "CAST(value AS DOUBLE),_col1\n1.0,1\n",
        ),
        ("SELECT value, *", "_col0,value\n1,1\n"),
        ("SELECT value + 1, *", "value + 1,value\n2,1\n"),
    ] {
        let text = format!("{text} FROM generate_series(1, 1)");
        let found = written(Format::Csv, &text).await;
        let found = found.split_once('\n').map(|(_, rows)| rows);
        assert_eq!(found, answer.split_once('\n').map(|(_, rows)| rows), "{text}");
    }
}

#[tokio::test]
async fn an_answer_without_rows_has_its_columns_all_the_same() {
    let nothing = "SELECT sale_id, amount FROM sales";
    assert_eq!(written(Format::Csv, nothing).await, "sale_id,amount\n");
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&written(Format::Json, nothing).await).unwrap(),
        json!([])
    );
    assert_eq!(table(nothing, None).await, " sale_id   amount\n──────────────────\n");
}

#[tokio::test]
async fn parquet_keeps_the_columns_types() {
    // given an answer in a file
    let streams = Streams::new().await;
    streams
        .deliver(&[sale(
            "INSERT",
            1,
            "a",
            json!({"amount": {"N": "1234567890.123456789"}, "quantity": {"N": "3"}}),
        )])
        .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("answer.parquet");
    let mut file = OutputFile::create(&path).unwrap();
    let question = "SELECT sale_id, amount, quantity, last_modified, note FROM sales";
    streams
        .console(Format::Parquet)
        .await
        .answer(question, &mut file)
        .await
        .unwrap();
    file.finish().unwrap();
    // then it holds them as the lake does
    let file = std::fs::File::open(&path).unwrap();
    let reader = datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let types: Vec<String> = reader
        .schema()
        .fields()
        .iter()
        .map(|field| field.data_type().to_string())
        .collect();
    assert_eq!(
        types,
        ["Utf8", "Decimal128(38, 10)", "Int64", "Timestamp(ms, \"UTC\")", "Utf8"]
    );
    let batches: Vec<_> = reader.build().unwrap().collect::<Result<_, _>>().unwrap();
    let amount = datafusion::common::cast::as_decimal128_array(batches[0].column(1)).unwrap();
    assert_eq!(amount.value(0), 12_345_678_901_234_567_890);
}

#[tokio::test]
async fn only_a_table_takes_more_than_one_statement() {
    let streams = Streams::new().await;
    let two = "SELECT 1 AS a; SELECT 2 AS b;";
    assert_eq!(table(two, None).await, " a\n───\n 1\n b\n───\n 2\n");
    for format in [Format::Csv, Format::Json, Format::Parquet] {
        let refused = streams
            .console(format)
            .await
            .answer(two, &mut Vec::new())
            .await
            .unwrap_err();
        assert!(
            refused.show().starts_with("there are 2 statements; expected one"),
            "{}",
            refused.show()
        );
    }
}
