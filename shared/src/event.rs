//! What starts a collector: the schedule, a direct call, or messages that SQS delivers; told apart by shape.

use std::collections::BTreeMap;

use aws_lambda_events::event::sqs::SqsEvent;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::id::Id;
use crate::queue::Message;
use crate::run::RunId;

/// An event, told apart by its shape.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<D> {
    /// The schedule's event, or `{}`: do what the collector does by itself.
    Schedule {
        /// The time it was scheduled for; absent in `{}`.
        run_id: Option<RunId>,
    },
    /// One piece of work, called for directly.
    Direct(D),
    /// Messages, as an event source mapping or a redrive delivers them.
    Records(Vec<Message>),
}

/// The direct call of one collector.
pub trait DirectCall: DeserializeOwned {
    /// The field that tells this call from the other events.
    const FIELD: &'static str;
    /// What the call looks like, for the error about anything else.
    const EXPECTED: &'static str;
    /// What the event `null` means, if it means anything.
    const NULL: Option<fn() -> Self> = None;
}

/// An event of none of the expected shapes. Nothing was called and nothing was written.
#[derive(Debug, thiserror::Error)]
#[error(
    "the event is not understood: {reason}; expected the schedule's event or {{}}, a direct call such as {direct}, \
     or an SQS event {{\"Records\": [{{\"messageId\": …, \"body\": …}}]}}"
)]
pub struct UnknownEvent {
    reason: String,
    direct: &'static str,
}

/// A direct call of the branch collector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BranchCall {
    /// The branches' names; none means all.
    #[serde(default, deserialize_with = "null_as_default")]
    pub branches: Vec<String>,
    /// The run it belongs to.
    #[serde(default)]
    pub run_id: Option<RunId>,
    /// Whether the vendor is asked even if the run is done, and without a condition.
    #[serde(default)]
    pub force: bool,
    /// Whether, beyond that, all rows are compared, whatever is known of them.
    #[serde(default)]
    pub verify: bool,
    /// Whether it waits for what live work leaves of the quota.
    #[serde(default)]
    pub background: bool,
    /// Whether what has vanished is marked as deleted however much it is; the vendor is then asked as with `force`.
    #[serde(default)]
    pub accept_deletions: bool,
}

/// A direct call of the salesperson collector.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SalespersonCall {
    /// The branch whose salespersons to collect.
    pub branch_id: Id,
    /// The run it belongs to.
    #[serde(default)]
    pub run_id: Option<RunId>,
    /// Whether the vendor is asked even if the run is done, and without a condition.
    #[serde(default)]
    pub force: bool,
    /// Whether, beyond that, all rows are compared, whatever is known of them.
    #[serde(default)]
    pub verify: bool,
    /// Whether it waits for what live work leaves of the quota.
    #[serde(default)]
    pub background: bool,
    /// Whether what has vanished is marked as deleted however much it is; the vendor is then asked as with `force`.
    #[serde(default)]
    pub accept_deletions: bool,
}

/// A direct call of the sale collector.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaleCall {
    /// The employee whose sales to collect.
    pub employee_id: Id,
    /// The branch that a sale seen for the first time is given.
    #[serde(default)]
    pub branch_id: Option<Id>,
    /// How far back to look, in hours, in place of `SALES_LOOKBACK_HOURS`; `0`: all sales.
    #[serde(default)]
    pub lookback_hours: Option<u32>,
    /// Whether all the sales are owed, as in a sale message.
    #[serde(default)]
    pub first_load: bool,
    /// The run it belongs to.
    #[serde(default)]
    pub run_id: Option<RunId>,
    /// Whether the vendor is asked even if the run is done, and without a condition.
    #[serde(default)]
    pub force: bool,
    /// Whether, beyond that, all rows are compared, whatever is known of them.
    #[serde(default)]
    pub verify: bool,
    /// Whether it waits for what live work leaves of the quota.
    #[serde(default)]
    pub background: bool,
    /// Whether what has vanished is marked as deleted however much it is; the vendor is then asked as with `force`.
    #[serde(default)]
    pub accept_deletions: bool,
}

impl DirectCall for BranchCall {
    const FIELD: &'static str = "branches";
    const EXPECTED: &'static str = r#"{"branches": ["Scranton"]}"#;
    const NULL: Option<fn() -> Self> = Some(Self::default);
}

impl DirectCall for SalespersonCall {
    const FIELD: &'static str = "branch_id";
    const EXPECTED: &'static str = r#"{"branch_id": 234}"#;
}

impl DirectCall for SaleCall {
    const FIELD: &'static str = "employee_id";
    const EXPECTED: &'static str = r#"{"employee_id": 34646, "branch_id": 234, "lookback_hours": 0}"#;
}

impl<D: DirectCall> Event<D> {
    /// Tells an event by its shape.
    ///
    /// # Errors
    /// If it has none of the expected ones; the error names them.
    pub fn from_json(raw: &str) -> Result<Self, UnknownEvent> {
        Self::read(raw).map_err(|reason| UnknownEvent {
            reason,
            direct: D::EXPECTED,
        })
    }

    fn read(raw: &str) -> Result<Self, String> {
        let raw: &RawValue = serde_json::from_str(raw).map_err(|error| format!("it is not JSON ({error})"))?;
        let raw = raw.get();
        if let ("null", Some(call)) = (raw, D::NULL) {
            return Ok(Self::Direct(call()));
        }
        if !raw.starts_with('{') {
            return Err("it is not a JSON object".to_owned());
        }
        let fields: BTreeMap<String, &RawValue> = parsed(raw)?;
        let text = |name: &str| -> Option<String> { serde_json::from_str(fields.get(name)?.get()).ok() };

        if fields.contains_key("Records") {
            return records(raw).map(Self::Records);
        }
        if fields.contains_key(D::FIELD) {
            return parsed(raw).map(Self::Direct);
        }
        let scheduler = matches!(text("source").as_deref(), Some("aws.events" | "aws.scheduler"));
        let run_field = if scheduler && text("detail-type").as_deref() == Some("Scheduled Event") {
            fields.get("time")
        } else if fields.keys().all(|name| name == "run_id") {
            fields.get("run_id")
        } else {
            let names: Vec<_> = fields.keys().map(String::as_str).collect();
            return Err(format!("its fields are {}", names.join(", ")));
        };
        let run_id = run_field.map(|time| parsed::<RunId>(time.get())).transpose()?;
        Ok(Self::Schedule { run_id })
    }
}

fn parsed<'de, T: Deserialize<'de>>(raw: &'de str) -> Result<T, String> {
    serde_json::from_str(raw).map_err(|error| error.to_string())
}

fn records(raw: &str) -> Result<Vec<Message>, String> {
    let event: SqsEvent = parsed(raw)?;
    let message = |(index, record): (usize, aws_lambda_events::event::sqs::SqsMessage)| {
        let missing = |what: &str| format!("record {index} has no {what}");
        if let Some(source) = record.event_source.filter(|source| source != "aws:sqs") {
            return Err(format!("record {index} comes from {source}, not from aws:sqs"));
        }
        Ok(Message {
            id: record.message_id.ok_or_else(|| missing("messageId"))?,
            body: record.body.ok_or_else(|| missing("body"))?,
            receipt: record.receipt_handle.unwrap_or_default(),
            receive_count: record
                .attributes
                .get("ApproximateReceiveCount")
                .and_then(|count| count.parse().ok())
                .unwrap_or(1),
        })
    };
    event.records.into_iter().enumerate().map(message).collect()
}

fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str) -> Option<RunId> {
        Some(RunId::parse(text).unwrap())
    }

    const RULE: &str = r#"{"version": "0", "id": "5", "detail-type": "Scheduled Event", "source": "aws.events",
        "account": "1", "time": "2026-11-21T01:00:00Z", "region": "x", "resources": [], "detail": {}}"#;

    #[test]
    fn the_schedules_events_carry_the_time_they_were_scheduled_for() {
        for event in [
            RULE.to_owned(),
            RULE.replace("aws.events", "aws.scheduler").replace("{}}", "\"{}\"}"),
        ] {
            assert_eq!(
                Event::<SaleCall>::from_json(&event).unwrap(),
                Event::Schedule {
                    run_id: run("2026-11-21T01:00:00Z")
                }
            );
        }
        assert_eq!(
            Event::<SaleCall>::from_json("{}").unwrap(),
            Event::Schedule { run_id: None }
        );
        assert_eq!(
            Event::<BranchCall>::from_json(r#"{"run_id": "2026-11-21T01:00:00Z"}"#).unwrap(),
            Event::Schedule {
                run_id: run("2026-11-21T01:00:00Z")
            }
        );
    }

    #[test]
    fn direct_calls_take_ids_of_both_kinds_with_every_digit() {
        let Event::Direct(call) =
            Event::<SaleCall>::from_json(r#"{"employee_id": 123456789012345678901234567890, "branch_id": "234"}"#)
                .unwrap()
        else {
            panic!("no direct call")
        };
        assert_eq!(call.employee_id.as_str(), "123456789012345678901234567890");
        assert_eq!(call.branch_id.unwrap().as_str(), "234");
        assert_eq!(call.lookback_hours, None);
    }

    #[test]
    fn all_branches_are_meant_by_none_and_by_null() {
        for event in ["null", r#"{"branches": []}"#, r#"{"branches": null}"#] {
            let event = Event::<BranchCall>::from_json(event).unwrap();
            assert_eq!(event, Event::Direct(BranchCall::default()));
        }
    }

    #[test]
    fn sqs_records_become_messages() {
        let event = r#"{"Records": [{"messageId": "m1", "receiptHandle": "r1", "body": "{}", "eventSource": "aws:sqs",
            "attributes": {"ApproximateReceiveCount": "3"}, "messageAttributes": {}, "awsRegion": "x",
            "eventSourceARN": "arn:aws:sqs:x:1:employee-queue-dev", "md5OfBody": "x"}]}"#;
        let expected = Message {
            id: "m1".to_owned(),
            body: "{}".to_owned(),
            receipt: "r1".to_owned(),
            receive_count: 3,
        };
        assert_eq!(
            Event::<SaleCall>::from_json(event).unwrap(),
            Event::Records(vec![expected])
        );
        assert_eq!(
            Event::<SaleCall>::from_json(r#"{"Records": []}"#).unwrap(),
            Event::Records(vec![])
        );
    }

    #[test]
    fn anything_else_is_refused_and_says_what_was_expected() {
        for event in [
            "null",
            "[]",
            "7",
            "\"Scranton\"",
            "{",
            "",
            r#"{"branches": ["Scranton"]}"#,
            r#"{"branch_id": 234}"#,
            r#"{"employee_id": 1.5}"#,
            r#"{"employee_id": null}"#,
            r#"{"employee_id": 1, "lookback_hours": -1}"#,
            r#"{"employee_id": 1, "lookback_hours": 1.5}"#,
            r#"{"employee_id": 1, "lookback_hours": "24"}"#,
            r#"{"employee_id": 1, "lookback_hour": 0}"#,
            r#"{"employee_id": 1, "accept_deletions": "yes"}"#,
            r#"{"accept_deletions": true}"#,
            r#"{"run_id": "yesterday"}"#,
            r#"{"source": "aws.s3", "detail-type": "Object Created"}"#,
            r#"{"Records": {}}"#,
            r#"{"Records": [{"eventSource": "aws:s3", "s3": {}}]}"#,
            r#"{"Records": [{"messageId": "1"}]}"#,
            &RULE.replace("2026-11-21T01:00:00Z", "soon"),
        ] {
            let error = Event::<SaleCall>::from_json(event).unwrap_err().to_string();
            assert!(
                error.contains("expected the schedule's event or {}, a direct call such as"),
                "{event}: {error}"
            );
            assert!(error.contains(r#"{"employee_id": 34646"#), "{event}: {error}");
        }
        for event in [
            r#"{"branches": "Scranton"}"#,
            r#"{"branches": [1]}"#,
            r#"{"branch_id": 1}"#,
        ] {
            let error = Event::<BranchCall>::from_json(event).unwrap_err().to_string();
            assert!(error.contains(r#"{"branches": ["Scranton"]}"#), "{event}: {error}");
        }
    }
}
