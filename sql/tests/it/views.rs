//! The views, over logs with duplicates, deletions and compactions.

use serde_json::{Value, json};

use crate::streams::{Record, Streams, account, branch, sale, salesperson};

fn worth(amount: &str) -> Value {
    json!({"amount": {"N": amount}})
}

fn deleted(amount: &str) -> Value {
    json!({"amount": {"N": amount}, "deleted_at": {"S": "2026-11-21T01:00:31.000Z"}})
}

const SALES: &str = "SELECT sale_id, amount FROM sales ORDER BY sale_id";

/// Of four sales: corrected, taken back, taken back and given again, removed.
fn history() -> Vec<Record> {
    vec![
        sale("INSERT", 98, "a", worth("1")),
        sale("INSERT", 99, "b", worth("2")),
        sale("MODIFY", 100, "a", worth("1.5")),
        sale("MODIFY", 101, "b", deleted("2")),
        sale("INSERT", 102, "c", worth("3")),
        sale("MODIFY", 103, "c", deleted("3")),
        sale("MODIFY", 104, "c", worth("3")).at(24 * 60),
        sale("INSERT", 105, "d", worth("4")).at(24 * 60),
        sale("REMOVE", 106, "d", json!({})).at(24 * 60),
    ]
}

#[tokio::test]
async fn the_present_is_the_newest_change_of_each_without_what_is_deleted() {
    // given a history that arrives piece by piece, not in its order
    let streams = Streams::new().await;
    let history = history();
    for piece in [&history[6..], &history[..3], &history[3..6]] {
        streams.deliver(piece).await;
    }
    // then 100 is newer than 99, and what was deleted is not there
    assert_eq!(streams.ask(SALES).await, ["a,1.5", "c,3"]);
    // when everything is deleted
    streams
        .deliver(&[
            sale("MODIFY", 107, "a", deleted("1.5")),
            sale("REMOVE", 108, "c", json!({})),
        ])
        .await;
    assert!(streams.ask(SALES).await.is_empty());
    // and one of them comes back
    streams.deliver(&[sale("MODIFY", 109, "a", worth("9"))]).await;
    assert_eq!(streams.ask(SALES).await, ["a,9"]);
}

#[tokio::test]
async fn a_change_that_is_stored_twice_counts_once() {
    // given the same changes in batches that are cut differently
    let streams = Streams::new().await;
    let history = history();
    streams.deliver(&history).await;
    let once = streams.ask("SELECT * FROM sales_changes ORDER BY sequence").await;
    streams.deliver(&history[..5]).await;
    streams.deliver(&history[2..]).await;
    // then those of the first day are in the files twice, and those of the second in the same file as before
    assert_eq!(streams.ask("SELECT count(*) FROM sales_log").await, ["18"]);
    // and in no view
    assert_eq!(streams.ask("SELECT * FROM sales_changes ORDER BY sequence").await, once);
    assert_eq!(once.len(), 9);
    assert_eq!(streams.ask(SALES).await, ["a,1.5", "c,3"]);
}

#[tokio::test]
async fn a_compaction_changes_no_answer() {
    let streams = Streams::new().await;
    let history = history();
    for piece in history.chunks(2) {
        streams.deliver(piece).await;
    }
    let questions = [
        SALES,
        "SELECT operation, sale_id, amount, deleted_at, sequence, date FROM sales_changes ORDER BY sequence",
        "SELECT date, count(*), sum(amount) FROM sales_changes GROUP BY date ORDER BY date",
        "SELECT count(*) FROM sales_changes WHERE date = '2026-11-22'",
    ];
    let mut before = Vec::new();
    for question in questions {
        before.push(streams.ask(question).await);
    }
    assert_eq!(before[3], ["3"]);
    let files = streams.files().await.len();
    // when files are put together, and those that are replaced are still there
    streams.compact().await;
    assert!(streams.files().await.len() > files);
    assert_ne!(streams.ask("SELECT count(*) FROM sales_log").await, ["9"]);
    for (question, before) in questions.iter().zip(&before) {
        assert_eq!(&streams.ask(question).await, before, "{question}");
    }
    // and when they are not
    streams.advance(2);
    streams.compact().await;
    assert!(streams.files().await.len() < files);
    assert_eq!(streams.ask("SELECT count(*) FROM sales_log").await, ["9"]);
    for (question, before) in questions.iter().zip(&before) {
        assert_eq!(&streams.ask(question).await, before, "{question}");
    }
}

#[tokio::test]
async fn numbers_are_exact_to_the_last_digit() {
    let streams = Streams::new().await;
    let largest = "9999999999999999999999999999.9999999999";
    streams
        .deliver(&[
            sale("INSERT", 1, "a", worth("1234567890.123456789")),
            sale("INSERT", 2, "b", worth("0.0000000001")),
            sale("INSERT", 3, "c", worth("-0.1")),
            sale("INSERT", 4, "d", worth("0.2")),
            sale("INSERT", 5, "e", worth(largest)),
            // Of more digits than the column has: kept beside the columns.
            sale("INSERT", 6, "f", worth("1234567890.12345678901")),
        ])
        .await;
    assert_eq!(
        streams
            .ask("SELECT sum(amount), min(amount) FROM sales WHERE sale_id < 'e'")
            .await,
        ["1234567890.2234567891,-0.1"]
    );
    assert_eq!(
        streams.ask("SELECT amount FROM sales WHERE sale_id = 'e'").await,
        [largest]
    );
    assert_eq!(
        streams
            .ask("SELECT amount, json_extract_scalar(attributes, '$.amount') FROM sales WHERE sale_id = 'f'")
            .await,
        [",1234567890.12345678901"]
    );
    // A number with a point is exact, too, as it is in Athena.
    assert_eq!(
        streams
            .ask("SELECT 0.1 + 0.2, sum(amount) * 1.1 FROM sales WHERE sale_id = 'd'")
            .await,
        ["0.3,0.22"]
    );
}

#[tokio::test]
async fn every_attribute_can_be_asked_for() {
    let streams = Streams::new().await;
    let image = json!({
        "product": {"S": "Toner, \"black\""},
        "quantity": {"N": "12"},
        "transaction_timestamp": {"S": "2026-11-20 23:43:23"},
        "branch_id": {"S": "234"},
        "note": {"NULL": true},
        "customer": {"M": {"name": {"S": "Café"}, "id": {"N": "400"}}},
        "tags": {"L": [{"S": "web"}, {"N": "1.50"}]},
    });
    streams.deliver(&[sale("INSERT", 1, "a", image)]).await;
    assert_eq!(
        streams
            .ask(
                "SELECT product, quantity, transaction_timestamp, branch_id, note, last_modified, run_id, \
                 json_extract_scalar(attributes, '$.customer.name'), json_extract(attributes, '$.tags') FROM sales"
            )
            .await,
        [
            "\"Toner, \"\"black\"\"\",12,2026-11-20 23:43:23,234,,2026-11-21 01:00:30.250,2026-11-21 01:00:00,Café,\
             \"[\"\"web\"\",1.5]\""
        ]
    );
}

#[tokio::test]
async fn a_log_without_files_is_an_empty_table() {
    let streams = Streams::new().await;
    streams
        .deliver(&[branch("INSERT", 1, "1", json!({"branch_name": {"S": "Scranton"}}))])
        .await;
    for table in [
        "sales",
        "salespersons",
        "sales_changes",
        "runs",
        "runs_by_branch",
        "sales_log",
        "runs_log",
    ] {
        assert!(
            streams.ask(&format!("SELECT * FROM {table}")).await.is_empty(),
            "{table}"
        );
    }
    assert_eq!(streams.ask("SELECT count(*), sum(amount) FROM sales").await, ["0,"]);
    assert_eq!(
        streams
            .ask("SELECT branch_id, branch_name, complete_up_to FROM freshness")
            .await,
        ["1,Scranton,"]
    );
}

#[tokio::test]
async fn a_salesperson_has_a_row_for_each_branch() {
    let streams = Streams::new().await;
    let pam = json!({"employee_name": {"S": "Pam"}, "commission_rate": {"N": "0.0125"}});
    let gone = json!({"employee_name": {"S": "Pam"}, "deleted_at": {"S": "2026-11-21T02:00:00.000Z"}});
    streams
        .deliver(&[
            salesperson("INSERT", 1, ("7", "1"), pam.clone()),
            salesperson("INSERT", 2, ("7", "2"), pam),
            salesperson("MODIFY", 3, ("7", "1"), gone),
        ])
        .await;
    assert_eq!(
        streams
            .ask("SELECT employee_id, branch_id, employee_name, commission_rate FROM salespersons")
            .await,
        ["7,2,Pam,0.0125"]
    );
    assert_eq!(
        streams
            .ask("SELECT operation, branch_id FROM salespersons_changes ORDER BY sequence")
            .await,
        ["insert,1", "insert,2", "delete,1"]
    );
}

#[tokio::test]
async fn runs_say_what_they_did_and_up_to_when_a_branch_is_complete() {
    let streams = Streams::new().await;
    let named = |name: &str| json!({"branch_name": {"S": name}});
    let whole = |finished: &[&str]| {
        json!({
            "kind": {"S": "schedule"}, "first_at": {"S": "2026-11-21T00:00:01.000Z"},
            "last_at": {"S": "2026-11-21T00:05:00.000Z"}, "names_expected": {"SS": ["Scranton", "Akron"]},
            "names_finished": {"SS": ["Scranton", "Akron"]}, "branches_expected": {"SS": ["1", "2"]},
            "branches_finished": {"SS": finished}, "api_calls": {"N": "2"}, "branches_inserted": {"N": "2"},
        })
    };
    let part = |finished: &[&str]| {
        json!({
            "first_at": {"S": "2026-11-21T00:00:02.000Z"}, "last_at": {"S": "2026-11-21T00:04:00.000Z"},
            "listed_at": {"S": "2026-11-21T00:01:00.000Z"}, "salespersons_expected": {"SS": ["7", "8"]},
            "salespersons_finished": {"SS": finished}, "api_calls": {"N": "3"}, "sales_inserted": {"N": "50"},
        })
    };
    let (early, late) = ("2026-11-21T00:00:00Z", "2026-11-21T01:00:00Z");
    streams
        .deliver(&[
            branch("INSERT", 1, "1", named("Scranton")),
            branch("INSERT", 2, "2", named("Akron")),
        ])
        .await;
    streams
        .deliver(&[
            account(1, &format!("run/{early}"), whole(&["1"])),
            account(2, &format!("run/{early}/1"), part(&["7"])),
            account(3, &format!("run/{early}/1"), part(&["7", "8"])),
            account(4, &format!("run/{early}/2"), part(&["7", "8"])),
            account(5, &format!("run/{early}"), whole(&["1", "2"])),
            account(6, &format!("run/{late}"), whole(&["1"])),
            account(7, &format!("run/{late}/1"), part(&["7", "8"])),
            account(8, &format!("run/{late}/2"), part(&["7"])),
        ])
        .await;
    assert_eq!(
        streams
            .ask(
                "SELECT run_id, kind, complete, branches_expected, branches_finished, salespersons_expected, \
                 salespersons_finished, api_calls, branches_inserted, sales_inserted, first_at, last_at FROM runs \
                 ORDER BY run_id"
            )
            .await,
        [
            "2026-11-21 00:00:00,schedule,true,2,2,4,4,8,2,100,2026-11-21 00:00:01,2026-11-21 00:05:00",
            "2026-11-21 01:00:00,schedule,false,2,1,4,3,8,2,100,2026-11-21 00:00:01,2026-11-21 00:05:00",
        ]
    );
    assert_eq!(
        streams
            .ask("SELECT run_id, branch_id, complete FROM runs_by_branch ORDER BY run_id, branch_id")
            .await,
        [
            "2026-11-21 00:00:00,1,true",
            "2026-11-21 00:00:00,2,true",
            "2026-11-21 01:00:00,1,true",
            "2026-11-21 01:00:00,2,false",
        ]
    );
    assert_eq!(
        streams
            .ask("SELECT branch_name, complete_up_to FROM freshness ORDER BY branch_name")
            .await,
        ["Akron,2026-11-21 00:00:00", "Scranton,2026-11-21 01:00:00"]
    );
}
