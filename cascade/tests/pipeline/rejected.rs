//! What the vendor sends and nobody can store is listed until it is mended.

use serde_json::json;

use crate::command::{User, small_world};

#[tokio::test]
async fn a_rejected_record_is_listed_until_it_is_mended() {
    // given
    let user = User::new();
    let vendor = user.start_vendor();
    let unlucky = small_world().expected_salespersons().swap_remove(7).id;
    let fault = json!({"path": "/sales", "id": unlucky, "fault": {"bad_record": "too_many_digits"}});
    vendor.tell(json!({ "targets": [fault] })).await;
    let run = ["run", "--data", "data", "--vendor", &vendor.url, "--quota", "60000"];
    let (list, list_json) = (["rejected", "--data", "data"], ["rejected", "--data", "data", "--json"]);
    // when
    user.cascade(&run).assert_status(0);
    // then
    let listed = user.cascade(&list_json);
    listed.assert_status(0);
    let questions = listed.json()["questions"].clone();
    assert_eq!(questions.as_array().map(Vec::len), Some(1), "{questions}");
    let (question, record) = (&questions[0], &questions[0]["records"][0]);
    assert_eq!(
        (&question["kind"], &question["asked_for"], &question["total"]),
        (&json!("sales"), &json!(unlucky), &json!(1))
    );
    let (id, reason) = (
        record["id"].as_str().expect("an id"),
        record["reason"].as_str().expect("a reason"),
    );
    assert!(reason.contains("\"ledger_position\" cannot be stored"), "{reason}");
    assert!(
        record["sample"]
            .as_str()
            .is_some_and(|sample| sample.contains("ledger_position"))
    );
    assert_eq!(record["times"], 1);
    // and as words, after a second run
    user.cascade(&run).assert_status(0);
    let words = user.cascade(&list);
    words.assert_status(0);
    let row = words.stdout.lines().find(|line| line.contains(id)).expect("a row");
    assert!(row.contains(&unlucky) && row.trim_end().ends_with('2'), "{row}");
    // and when it is mended
    vendor.tell(json!({})).await;
    user.cascade(&run).assert_status(0);
    let words = user.cascade(&list);
    words.assert_status(0);
    assert_eq!(
        words.stdout,
        "Nothing is rejected: all that the vendor sent is stored.\n"
    );
}

#[test]
fn where_there_has_been_no_run_there_is_nothing_to_list() {
    let user = User::new();
    let listed = user.cascade(&["rejected", "--data", "data"]);
    listed.assert_status(2);
    assert!(listed.stderr.contains("there has been no run yet"), "{}", listed.stderr);
    let aws = user.cascade(&["rejected", "--aws"]);
    aws.assert_status(2);
    assert!(aws.stderr.contains("--environment <NAME>"), "{}", aws.stderr);
}
