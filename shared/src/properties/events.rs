use std::fmt::Debug;

use serde_json::{Value, json};

use super::tree;
use crate::event::{BranchCall, DirectCall, Event, SaleCall, SalespersonCall};
use crate::queue::Message;
use crate::run::RunId;

/// Of an event, whichever collector it starts.
pub fn events(event: &[u8]) {
    let Ok(event) = std::str::from_utf8(event) else { return };
    let branches = check(event, |call: &BranchCall| {
        json!({
            "branches": call.branches, "run_id": call.run_id, "force": call.force, "verify": call.verify,
            "background": call.background, "accept_deletions": call.accept_deletions,
        })
    });
    let salespersons = check(event, |call: &SalespersonCall| {
        json!({
            "branch_id": call.branch_id, "run_id": call.run_id, "force": call.force, "verify": call.verify,
            "background": call.background, "accept_deletions": call.accept_deletions,
        })
    });
    let sales = check(event, |call: &SaleCall| {
        json!({
            "employee_id": call.employee_id, "branch_id": call.branch_id, "lookback_hours": call.lookback_hours,
            "first_load": call.first_load, "run_id": call.run_id, "force": call.force, "verify": call.verify,
            "background": call.background, "accept_deletions": call.accept_deletions,
        })
    });
    // A direct call is one collector's alone; what is none is the same to all who understand it.
    let mut understood = [branches, salespersons, sales].into_iter().flatten();
    if let Some(seen) = understood.next() {
        assert!(
            understood.all(|other| other == seen && other != Seen::Direct),
            "{event}"
        );
    }
}

/// What an event was taken for, but for a direct call's own fields.
#[derive(Debug, PartialEq)]
enum Seen {
    Schedule(Option<RunId>),
    Direct,
    Records(Vec<Message>),
}

/// What is understood is understood as the same when it is written and read again; what is not, is told with what was
/// expected.
fn check<D: DirectCall + PartialEq + Debug>(event: &str, write: impl Fn(&D) -> Value) -> Option<Seen> {
    let read = match Event::<D>::from_json(event) {
        Ok(read) => read,
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains(D::EXPECTED), "{error}");
            return None;
        }
    };
    let tree = tree(event.as_bytes());
    let has = |name: &str| tree.as_ref().is_none_or(|tree| tree.get(name).is_some());
    let has_not = |name: &str| tree.as_ref().is_none_or(|tree| tree.get(name).is_none());
    let written = match &read {
        Event::Schedule { run_id } => {
            assert!(has_not("Records") && has_not(D::FIELD), "{event}");
            run_id.map_or_else(|| json!({}), |run_id| json!({"run_id": run_id}))
        }
        Event::Direct(call) => {
            assert!(event.trim() == "null" || has(D::FIELD) && has_not("Records"), "{event}");
            write(call)
        }
        Event::Records(messages) => {
            if let Some(tree) = &tree {
                let bodies = tree["Records"]
                    .as_array()
                    .expect("records")
                    .iter()
                    .map(|r| r["body"].as_str());
                assert!(
                    bodies.eq(messages.iter().map(|message| Some(&*message.body))),
                    "{event}"
                );
            }
            json!({"Records": messages.iter().map(record).collect::<Vec<_>>()})
        }
    };
    assert_eq!(
        Event::<D>::from_json(&written.to_string()).expect("it was an event"),
        read,
        "{written}"
    );
    Some(match read {
        Event::Schedule { run_id } => Seen::Schedule(run_id),
        Event::Direct(_) => Seen::Direct,
        Event::Records(messages) => Seen::Records(messages),
    })
}

fn record(message: &Message) -> Value {
    json!({
        "messageId": message.id, "body": message.body, "receiptHandle": message.receipt, "eventSource": "aws:sqs",
        "attributes": {"ApproximateReceiveCount": message.receive_count.to_string()},
    })
}
