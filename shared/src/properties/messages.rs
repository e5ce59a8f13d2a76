use std::fmt::Debug;

use super::tree;
use crate::id::Id;
use crate::message::{EmployeeMessage, SaleMessage, WorkMessage};
use crate::run::RunId;

/// Of the body of a message, on either queue.
pub fn messages(body: &[u8]) {
    let Ok(body) = std::str::from_utf8(body) else { return };
    if let Some(message) = check::<EmployeeMessage>(body) {
        says(body, "branch_id", &message.branch_id);
    }
    if let Some(message) = check::<SaleMessage>(body) {
        let branch_id = message.branch_id.as_ref();
        says(body, "branch_id", branch_id.expect("a sale message has a branch"));
        says(body, "employee_id", &message.employee_id);
        // Whatever is a sale message has all that an employee message has.
        let employee = EmployeeMessage::from_body(body).expect("a branch and a run");
        assert_eq!(Some(&employee.branch_id), branch_id);
        assert_eq!(employee.run_id, message.run_id);
    }
}

/// What is read can be sent on, and is then read as the same.
fn check<M: WorkMessage + PartialEq + Debug>(body: &str) -> Option<M> {
    let message = M::from_body(body).ok()?;
    let mut sent = message.to_body();
    assert!(sent.chars().all(sqs_takes), "{sent:?}");
    assert_eq!(M::from_body(&sent).expect("it was a message"), message, "{sent}");
    // Fields that we do not know are ignored.
    sent.insert_str(1, r#""colour": ["red"], "#);
    assert_eq!(M::from_body(&sent).expect("it was a message"), message, "{sent}");
    if let Some(run_id) = message.run_id() {
        assert_eq!(RunId::parse(&run_id.to_string()), Ok(run_id));
    }
    Some(message)
}

/// The characters of a message's body.
///
/// Source: "SendMessage", Amazon SQS API Reference.
fn sqs_takes(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

/// An id is the one that the body says.
fn says(body: &str, name: &str, id: &Id) {
    let Some(tree) = tree(body.as_bytes()) else { return };
    match &tree[name] {
        serde_json::Value::String(text) => assert_eq!(id.as_str(), text),
        // What serde_json takes for a float is an integer beyond 64 bits, or `-0`.
        serde_json::Value::Number(number) if number.is_f64() => {
            assert!(
                id.as_str()
                    .trim_start_matches('-')
                    .bytes()
                    .all(|byte| byte.is_ascii_digit())
            );
        }
        serde_json::Value::Number(number) => assert_eq!(id.as_str(), number.to_string()),
        other => panic!("{other} is no id"),
    }
}
