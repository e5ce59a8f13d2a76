//! Functions that Athena has, as Athena has them.

use crate::streams::Streams;

/// What an expression over one value comes to, as CSV.
async fn value(expression: &str) -> String {
    Streams::new()
        .await
        .ask(&format!("SELECT {expression} AS value"))
        .await
        .join("\n")
}

// Source of the JSON examples: the comment on `io.trino.operator.scalar.JsonExtract` in Trino.
const STORE: &str = r#"'{"store": {"book": [
    {"author": "Nigel Rees", "price": 8.95, "contributors": [["Adam", "Levine"], ["Bob", "Strong"]]},
    {"author": "Evelyn Waugh", "isbn": "0-553-21311-3", "last_owner": null}],
    "bicycle": {"color": "red", "price": 19.95}}}'"#;

#[tokio::test]
async fn a_sum_is_exact_null_of_nothing_and_slides() {
    for (question, answer) in [
        (
            "SELECT sum(a) FROM (VALUES (1.10), (NULL), (2.25)) AS t (a)",
            vec!["3.35"],
        ),
        (
            "SELECT sum(a), sum(DISTINCT a) FROM (VALUES (1), (1), (NULL)) AS t (a)",
            vec!["2,1"],
        ),
        ("SELECT sum(value) FROM generate_series(1, 3) WHERE value > 3", vec![""]),
        (
            "SELECT sum(a) FROM (VALUES (9223372036854775807), (1), (-1)) AS t (a)",
            vec!["9223372036854775807"],
        ),
        (
            "SELECT sum(value) OVER (ORDER BY value ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM generate_series(1, 4)",
            vec!["1", "3", "5", "7"],
        ),
        (
            "SELECT value % 2, sum(value) FROM generate_series(1, 4) GROUP BY 1 ORDER BY 1",
            vec!["0,6", "1,4"],
        ),
        (
            "SELECT sum(CAST(value AS DOUBLE)) FROM generate_series(1, 3)",
            vec!["6.0"],
        ),
    ] {
        assert_eq!(Streams::new().await.ask(question).await, answer, "{question}");
    }
}

#[tokio::test]
async fn json_is_taken_apart_as_trino_does() {
    for (path, scalar, json) in [
        ("$.store.book[0].author", "Nigel Rees", "\"\"\"Nigel Rees\"\"\""),
        ("$.store.bicycle.price", "19.95", "19.95"),
        ("$.store.book[0].isbn", "", ""),
        ("$.store.book[1].last_owner", "", "null"),
        ("$.store.book[0].contributors[0][1]", "Levine", "\"\"\"Levine\"\"\""),
        (
            "$[\"store\"][\"book\"][0][\"author\"]",
            "Nigel Rees",
            "\"\"\"Nigel Rees\"\"\"",
        ),
        (
            "$.store.book[0].contributors[0]",
            "",
            "\"[\"\"Adam\"\",\"\"Levine\"\"]\"",
        ),
        (
            "$.store.bicycle",
            "",
            "\"{\"\"color\"\":\"\"red\"\",\"\"price\"\":19.95}\"",
        ),
    ] {
        assert_eq!(
            value(&format!("json_extract_scalar({STORE}, '{path}')")).await,
            scalar,
            "{path}"
        );
        assert_eq!(value(&format!("json_extract({STORE}, '{path}')")).await, json, "{path}");
    }
}

#[tokio::test]
async fn a_path_can_come_from_a_row_and_null_stays_null() {
    let streams = Streams::new().await;
    let rows = "SELECT json_extract_scalar(json, path) FROM (VALUES \
                ('{\"a\": 1, \"b\": 2}', '$.a'), ('{\"a\": 1, \"b\": 2}', '$.b'), (NULL, '$.a'), ('{}', NULL), ('nonsense', '$')\
                ) AS t(json, path)";
    assert_eq!(streams.ask(rows).await, ["1", "2", "", "", ""]);
    for null in [
        "json_extract_scalar(NULL, '$')",
        "json_extract_scalar('1', NULL)",
        "json_extract(NULL, NULL)",
    ] {
        assert_eq!(value(&format!("{null} IS NULL")).await, "true", "{null}");
    }
}

#[tokio::test]
async fn a_number_out_of_json_can_be_calculated_with_exactly() {
    let number = "CAST(json_extract_scalar('{\"n\": 1234567890.12345678901}', '$.n') AS decimal(38, 11))";
    assert_eq!(
        value(&format!("{number} + 0.00000000001")).await,
        "1234567890.12345678902"
    );
}

#[tokio::test]
async fn whole_units_between_two_moments_are_counted() {
    let late = "TIMESTAMP '2026-11-21 01:30:00'";
    for (unit, from, whole) in [
        ("minute", "TIMESTAMP '2026-11-21 00:00:30'", "89"),
        ("hour", "TIMESTAMP '2026-11-21 00:00:30'", "1"),
        ("day", "DATE '2026-11-20'", "1"),
        ("month", "DATE '2026-10-22'", "0"),
        ("month", "DATE '2026-10-21'", "1"),
        ("year", "DATE '2028-02-29'", "-1"),
    ] {
        assert_eq!(
            value(&format!("date_diff('{unit}', {from}, {late})")).await,
            whole,
            "{unit} from {from}"
        );
    }
    assert_eq!(value(&format!("date_diff('day', NULL, {late}) IS NULL")).await, "true");
}

#[tokio::test]
async fn what_analysts_use_every_day_is_there() {
    for (expression, expected) in [
        ("round(2.345, 2)", "2.35"),
        ("abs(-1.5)", "1.5"),
        ("regexp_like('Toner, black', '^Toner')", "true"),
        (
            "date_trunc('month', TIMESTAMP '2026-11-21 01:30:00')",
            "2026-11-01 00:00:00",
        ),
        ("extract(year FROM DATE '2026-11-21')", "2026"),
        ("count(*) FILTER (WHERE true)", "1"),
        ("upper(substr('scranton', 1, 3))", "SCR"),
        ("coalesce(NULL, 'x')", "x"),
    ] {
        assert_eq!(value(expression).await, expected, "{expression}");
    }
}
