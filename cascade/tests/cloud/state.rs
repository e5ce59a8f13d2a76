//! The state table as the collectors use it, over the AWS SDK.

use std::collections::BTreeSet;

use serde_json::json;
use shared::state::dynamodb::DynamoState;
use shared::state::{Addition, Entry, StateTable, Swapped};
use time::macros::utc_datetime;

use crate::cloud;

fn addition(number: u64, members: &[&str], text: &str) -> Addition {
    Addition {
        numbers: [("api_calls", number)].into(),
        sets: [
            ("finished", members.iter().map(|member| (*member).to_owned()).collect()),
            ("dead", BTreeSet::new()),
        ]
        .into(),
        first: [("first_at", text.to_owned())].into(),
        last: [("last_at", text.to_owned())].into(),
        expires_at: Some(utc_datetime!(2026-12-21 01:00)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn additions_add_up_whoever_makes_them_and_whatever_is_added_twice() {
    let (cloud, _) = cloud().await;
    let places = cloud.provision("test").await.unwrap();
    let state = &DynamoState::new(&cloud.sdk_config(), places.state_table);
    let additions = [
        addition(1, &["b", "a"], "1"),
        addition(2, &["b"], "2"),
        addition(4, &["c"], "3"),
    ];

    // As the port says, and as the table does it.
    let mut expected: Option<Entry> = None;
    for addition in &additions {
        let added = state.add("run/1", addition).await.unwrap();
        expected = Some(addition.to(expected.as_ref()));
        assert_eq!(Some(&added), expected.as_ref());
    }
    let entry = state.read("run/1").await.unwrap().unwrap();
    assert_eq!(
        serde_json::Value::Object(entry.body),
        json!({"api_calls": 7, "finished": ["a", "b", "c"], "first_at": "1", "last_at": "3"})
    );

    let many = (0..40).map(|number| async move {
        let member = number.to_string();
        state.add("run/2", &addition(1, &[&member], "x")).await.unwrap()
    });
    let entries = futures::future::join_all(many).await;
    let last = entries.iter().max_by_key(|entry| entry.version).unwrap();
    assert_eq!((last.version, &last.body["api_calls"]), (40, &json!(40)));
    assert_eq!(last.body["finished"].as_array().unwrap().len(), 40);
    // Whoever adds the last member is the only one who sees them all.
    let complete = |entry: &&Entry| entry.body["finished"].as_array().is_some_and(|all| all.len() == 40);
    assert_eq!(entries.iter().filter(complete).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_swap_finds_what_somebody_else_has_written() {
    let (cloud, _) = cloud().await;
    let places = cloud.provision("test").await.unwrap();
    let state = DynamoState::new(&cloud.sdk_config(), places.state_table);
    let first = Entry::after(None, &json!({"recent": ["1"]}), None).unwrap();
    assert_eq!(state.swap("runs", None, &first).await.unwrap(), Swapped::Done);
    let other = Entry::after(None, &json!({"recent": ["2"]}), None).unwrap();
    assert_eq!(
        state.swap("runs", None, &other).await.unwrap(),
        Swapped::Conflict(Some(first.clone()))
    );
    let next = Entry::after(Some(&first), &json!({"recent": ["1", "2"]}), None).unwrap();
    assert_eq!(state.swap("runs", Some(1), &next).await.unwrap(), Swapped::Done);
}
