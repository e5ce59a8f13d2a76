//! What the collectors hand each other over SQS (the contract's section 4).

use serde::{Deserialize, Serialize};

use crate::account::Piece;
use crate::id::Id;
use crate::quota::Class;
use crate::run::RunId;

/// On the employee queue: collect this branch's salespersons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmployeeMessage {
    /// The branch to ask for.
    pub branch_id: Id,
    /// The run it belongs to; where absent, the time of the invocation that reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Whether all rows are compared, whatever is known of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verify: bool,
    /// Whether it waits for what live work leaves of the quota, as a backfill or a redrive does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
}

/// On the sale queue: collect this employee's sales.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaleMessage {
    /// The branch in whose answer the employee stood; a sale message always has it, a direct call may not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch_id: Option<Id>,
    /// The employee to ask for.
    pub employee_id: Id,
    /// The run it belongs to; where absent, the time of the invocation that reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Whether all the sales are owed, whatever the lookback.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub first_load: bool,
    /// Whether all rows are compared, whatever is known of them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verify: bool,
    /// Whether it waits for what live work leaves of the quota, as a backfill or a redrive does.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub background: bool,
}

/// A message that is not as the contract's section 4 says. No further try can mend it.
#[derive(Debug, thiserror::Error)]
#[error("the message is not as expected ({expected}): {reason}")]
pub struct Malformed {
    expected: &'static str,
    reason: String,
}

/// A message of a work queue.
pub trait WorkMessage: Serialize + Sized {
    /// The message's body. Of the characters that an id can have, SQS takes two only in escaped form.
    fn to_body(&self) -> String {
        let body = serde_json::json!(self).to_string();
        body.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff")
    }

    /// Reads a message's body.
    ///
    /// # Errors
    /// If it is not as the contract's section 4 says.
    fn from_body(body: &str) -> Result<Self, Malformed>;

    /// The run it belongs to, if it says so.
    fn run_id(&self) -> Option<RunId>;

    /// What it is for.
    fn class(&self) -> Class;

    /// The piece of a run's work that it asks for, if it says all that makes one.
    fn piece(&self) -> Option<Piece>;

    /// Makes it belong to a run.
    fn belong_to(&mut self, run_id: RunId);

    /// Puts the ids of what is worked on into the span of its log lines.
    fn record_ids(&self, span: &tracing::Span);
}

impl WorkMessage for EmployeeMessage {
    fn from_body(body: &str) -> Result<Self, Malformed> {
        read(body, r#"{"branch_id": "1", "run_id": "2026-11-21T01:00:00Z"}"#)
    }

    fn run_id(&self) -> Option<RunId> {
        self.run_id
    }

    fn class(&self) -> Class {
        Class::of(self.background)
    }

    fn piece(&self) -> Option<Piece> {
        Some(Piece::Branch(self.branch_id.clone()))
    }

    fn belong_to(&mut self, run_id: RunId) {
        self.run_id = Some(run_id);
    }

    fn record_ids(&self, span: &tracing::Span) {
        span.record("branch_id", self.branch_id.as_str());
    }
}

impl WorkMessage for SaleMessage {
    fn from_body(body: &str) -> Result<Self, Malformed> {
        const EXPECTED: &str = r#"{"branch_id": "1", "employee_id": "1235", "run_id": "2026-11-21T01:00:00Z"}"#;
        let message: Self = read(body, EXPECTED)?;
        match message.branch_id {
            Some(_) => Ok(message),
            None => Err(Malformed {
                expected: EXPECTED,
                reason: "missing field `branch_id`".to_owned(),
            }),
        }
    }

    fn run_id(&self) -> Option<RunId> {
        self.run_id
    }

    fn class(&self) -> Class {
        Class::of(self.background)
    }

    fn piece(&self) -> Option<Piece> {
        Some(Piece::Salesperson {
            branch_id: self.branch_id.clone()?,
            employee_id: self.employee_id.clone(),
            first_load: self.first_load,
        })
    }

    fn belong_to(&mut self, run_id: RunId) {
        self.run_id = Some(run_id);
    }

    fn record_ids(&self, span: &tracing::Span) {
        span.record("employee_id", self.employee_id.as_str());
        if let Some(branch_id) = &self.branch_id {
            span.record("branch_id", branch_id.as_str());
        }
    }
}

fn read<'de, T: Deserialize<'de>>(body: &'de str, expected: &'static str) -> Result<T, Malformed> {
    // serde would take an array for a struct.
    if !body.trim_start().starts_with('{') {
        return Err(Malformed {
            expected,
            reason: "it is not a JSON object".to_owned(),
        });
    }
    serde_json::from_str(body).map_err(|error| Malformed {
        expected,
        reason: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_sent_as_the_contract_says() {
        let run_id = Some(RunId::parse("2026-11-21T01:00:00Z").unwrap());
        let branch_id = Id::new("1".to_owned()).unwrap();
        let employee = EmployeeMessage {
            branch_id: branch_id.clone(),
            run_id,
            verify: false,
            background: false,
        };
        assert_eq!(
            serde_json::to_string(&employee).unwrap(),
            r#"{"branch_id":"1","run_id":"2026-11-21T01:00:00Z"}"#
        );
        let mut sale = SaleMessage {
            branch_id: Some(branch_id),
            employee_id: Id::new("1235".to_owned()).unwrap(),
            run_id,
            first_load: false,
            verify: false,
            background: false,
        };
        assert_eq!(
            serde_json::to_string(&sale).unwrap(),
            r#"{"branch_id":"1","employee_id":"1235","run_id":"2026-11-21T01:00:00Z"}"#
        );
        sale.first_load = true;
        let body = serde_json::to_string(&sale).unwrap();
        assert!(body.ends_with(r#""first_load":true}"#));
        assert_eq!(SaleMessage::from_body(&body).unwrap(), sale);
    }

    #[test]
    fn every_id_makes_a_body_that_sqs_takes() {
        let branch_id = Id::new("a\u{fffe}\u{ffff}\u{1}é".to_owned()).unwrap();
        let message = EmployeeMessage {
            branch_id,
            run_id: None,
            verify: false,
            background: false,
        };
        let body = message.to_body();
        assert_eq!(body, r#"{"branch_id":"a\ufffe\uffff\u0001é"}"#);
        assert_eq!(EmployeeMessage::from_body(&body).unwrap(), message);
    }

    #[test]
    fn ids_may_be_integers_fields_unknown_and_the_run_absent() {
        let message = SaleMessage::from_body(r#"{"employee_id": 1235, "branch_id": 1, "colour": "red"}"#).unwrap();
        assert_eq!(message.employee_id.as_str(), "1235");
        assert_eq!(message.run_id, None);
        assert!(!message.first_load);
    }

    #[test]
    fn anything_else_is_malformed_and_says_why() {
        for (body, reason) in [
            ("", "not a JSON object"),
            ("Scranton", "not a JSON object"),
            (r#"["1"]"#, "not a JSON object"),
            ("{'branch_id': '1'}", "key must be a string"),
            (r#"{"branch": 1}"#, "missing field `branch_id`"),
            (r#"{"branch_id": ""}"#, "an id is an empty string"),
            (r#"{"branch_id": 1.5}"#, "a number that is no integer"),
            (r#"{"branch_id": 1, "run_id": "now"}"#, "\"now\" is not a time"),
            (r#"{"branch_id": 1} x"#, "trailing characters"),
        ] {
            let error = EmployeeMessage::from_body(body).unwrap_err().to_string();
            assert!(error.contains(reason), "{body}: {error}");
        }
        for body in [r#"{"branch_id": 1}"#, r#"{"employee_id": 1}"#] {
            let error = SaleMessage::from_body(body).unwrap_err().to_string();
            assert!(error.contains("missing field"), "{body}: {error}");
        }
    }
}
