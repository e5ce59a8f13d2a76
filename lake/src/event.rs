//! What starts the function: a stream's records, the schedule, or a call for compaction or for mending; told apart by shape.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::change::Head;
use crate::compaction::{LogName, Part};
use crate::log::Log;

/// An event, told apart by its shape.
#[derive(Debug)]
pub enum Event {
    /// Records of a table's stream, in their order, as an event source mapping delivers them.
    Records(Vec<Delivered>),
    /// The schedule's event, `{}`, or a direct call such as `{"compact": {"log": "sales", "date": "2026-11-21"}}`: small files are
    /// put together.
    Compact(Part),
    /// A direct call: `{"rebuild": true}`, or of one log `{"rebuild": {"log": "sales"}}`. What the tables hold and the lake does not is
    /// written.
    Rebuild(Option<Log>),
}

/// A record as it was delivered.
#[derive(Debug)]
pub struct Delivered {
    /// What can be told of any record.
    pub head: Head,
    /// The whole of it.
    pub text: Box<RawValue>,
}

/// An event of none of the expected shapes. Nothing was written.
#[derive(Debug, thiserror::Error)]
#[error(
    "the event is not understood: {0}; expected the records of a DynamoDB stream \
     {{\"Records\": [{{\"eventSource\": \"aws:dynamodb\", \"dynamodb\": …}}]}}, the schedule's event or {{}}, or a call such as \
     {{\"compact\": {{\"log\": \"sales\", \"date\": \"2026-11-21\"}}}}, {{\"rebuild\": true}} or \
     {{\"rebuild\": {{\"log\": \"sales\"}}}}"
)]
pub struct UnknownEvent(String);

#[derive(Deserialize)]
struct Records {
    #[serde(rename = "Records")]
    records: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    compact: Option<Part>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RebuildCall {
    rebuild: Box<RawValue>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RebuildPart {
    log: LogName,
}

impl Event {
    /// Tells an event by its shape.
    ///
    /// # Errors
    /// If it has none of the expected ones; the error names them.
    pub fn from_json(raw: &str) -> Result<Self, UnknownEvent> {
        Self::read(raw).map_err(UnknownEvent)
    }

    fn read(raw: &str) -> Result<Self, String> {
        let fields: BTreeMap<String, &RawValue> = parsed(raw)?;
        let text = |name: &str| -> Option<String> { serde_json::from_str(fields.get(name)?.get()).ok() };
        if fields.contains_key("Records") {
            let Records { records } = parsed(raw)?;
            let records = records.into_iter().enumerate().map(|(index, text)| {
                let head = Head::of(text.get());
                match head.source.as_deref() {
                    Some("aws:dynamodb") => Ok(Delivered { head, text }),
                    other => {
                        let source = other.unwrap_or("nowhere");
                        Err(format!("record {index} comes from {source}, not from aws:dynamodb"))
                    }
                }
            });
            return records.collect::<Result<_, _>>().map(Self::Records);
        }
        if fields.is_empty() {
            return Ok(Self::Compact(Part::default()));
        }
        let scheduler = matches!(text("source").as_deref(), Some("aws.events" | "aws.scheduler"));
        if scheduler && text("detail-type").as_deref() == Some("Scheduled Event") {
            return Ok(Self::Compact(Part::default()));
        }
        if fields.contains_key("compact") {
            let Call { compact } = parsed(raw)?;
            return Ok(Self::Compact(compact.unwrap_or_default()));
        }
        if fields.contains_key("rebuild") {
            let RebuildCall { rebuild } = parsed(raw)?;
            return match rebuild.get() {
                "true" => Ok(Self::Rebuild(None)),
                part if part.starts_with('{') => {
                    let RebuildPart { log: LogName(log) } = parsed(part)?;
                    Ok(Self::Rebuild(Some(log)))
                }
                other => Err(format!("its rebuild is {other}, expected true")),
            };
        }
        let names: Vec<_> = fields.keys().map(String::as_str).collect();
        Err(format!("its fields are {}", names.join(", ")))
    }
}

fn parsed<'de, T: Deserialize<'de>>(raw: &'de str) -> Result<T, String> {
    serde_json::from_str(raw).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compaction::Day;
    use time::macros::date;

    fn compact(event: &str) -> Part {
        match Event::from_json(event).unwrap() {
            Event::Compact(part) => part,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_schedule_and_an_empty_object_compact_everything() {
        let rule = r#"{"version": "0", "detail-type": "Scheduled Event", "source": "aws.events", "time": "2026-11-21T01:00:00Z",
            "detail": {}}"#;
        for event in ["{}", r#"{"compact": {}}"#, r#"{"compact": null}"#, rule] {
            assert_eq!(compact(event), Part::default(), "{event}");
        }
    }

    #[test]
    fn a_call_can_name_the_part_that_is_compacted() {
        let part = compact(r#"{"compact": {"log": "sales", "date": "2026-11-21"}}"#);
        assert_eq!(part.log, Some(LogName(Log::Sales)));
        assert_eq!(part.date, Some(Day(date!(2026 - 11 - 21))));
    }

    #[test]
    fn a_call_asks_for_what_the_lake_lacks_of_all_logs_or_of_one() {
        let sample = include_str!("../../events/lake-rebuild.json");
        assert!(matches!(Event::from_json(sample), Ok(Event::Rebuild(None))));
        let one = Event::from_json(r#"{"rebuild": {"log": "sales"}}"#);
        assert!(matches!(one, Ok(Event::Rebuild(Some(Log::Sales)))), "{one:?}");
    }

    #[test]
    fn records_are_those_of_dynamodb() {
        let Event::Records(records) = Event::from_json(
            r#"{"Records": [{"eventSource": "aws:dynamodb", "dynamodb": 5}, {"eventSource": "aws:dynamodb"}]}"#,
        )
        .unwrap() else {
            panic!("no records")
        };
        assert_eq!(records.len(), 2);
        assert!(matches!(Event::from_json(r#"{"Records": []}"#), Ok(Event::Records(none)) if none.is_empty()));
    }

    #[test]
    fn anything_else_is_an_error_that_names_what_was_expected() {
        for (event, reason) in [
            ("", "EOF"),
            ("null", "expected a map"),
            ("[]", "expected a map"),
            (r#"{"branches": []}"#, "its fields are branches"),
            (r#"{"Records": 5}"#, "expected a sequence"),
            (
                r#"{"Records": [{"eventSource": "aws:sqs"}]}"#,
                "record 0 comes from aws:sqs, not from aws:dynamodb",
            ),
            (r#"{"Records": [5]}"#, "record 0 comes from nowhere"),
            (
                r#"{"compact": {"log": "sale"}}"#,
                r#""sale" is no log, expected branches"#,
            ),
            (r#"{"compact": {"date": "today"}}"#, r#""today" is no date"#),
            (r#"{"compact": {"table": "x"}}"#, "unknown field `table`"),
            (r#"{"compact": {}, "other": 1}"#, "unknown field `other`"),
            (r#"{"compact": {}, "rebuild": true}"#, "unknown field `rebuild`"),
            (r#"{"rebuild": true, "other": 1}"#, "unknown field `other`"),
            (r#"{"rebuild": false}"#, "its rebuild is false, expected true"),
            (r#"{"rebuild": {"log": "sale"}}"#, r#""sale" is no log"#),
            (r#"{"rebuild": {}}"#, "missing field `log`"),
        ] {
            let error = Event::from_json(event).unwrap_err().to_string();
            assert!(error.contains(reason), "{event}: {error}");
            assert!(
                error.contains("expected the records of a DynamoDB stream {\"Records\""),
                "{error}"
            );
        }
    }
}
