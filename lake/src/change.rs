//! A change: what one record of a table's stream says.

use std::collections::{BTreeMap, HashMap};

use aws_lambda_events::event::dynamodb::EventRecord;
use serde::Deserialize;
use serde_dynamo::{AttributeValue, Item};
use serde_json::value::RawValue;
use shared::change::is_marked;
use shared::value::Value;

use crate::json::{self, NotANumber};
use crate::log::{LAST_MODIFIED, Log, SEQUENCE_DIGITS};
use crate::moment;

/// What happened to an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// It was not there before.
    Insert,
    /// It was there, and is another now.
    Update,
    /// It is there, and says that the vendor no longer has the record.
    Delete,
    /// It is no longer there.
    Remove,
}

impl Operation {
    /// Its name in the logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Remove => "remove",
        }
    }
}

/// One record of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What happened.
    pub operation: Operation,
    /// The key's attributes.
    pub keys: BTreeMap<String, String>,
    /// The item after the change, its key left out; empty if it is no longer there.
    pub image: BTreeMap<String, Value>,
    /// When the record was made, in milliseconds since 1970.
    pub changed_at: i64,
    /// Its number, as the logs have it.
    pub sequence: Sequence,
}

/// A record's number in its stream, of [`SEQUENCE_DIGITS`] digits.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sequence(String);

impl Sequence {
    /// The number that comes before every one of a stream.
    pub fn zero() -> Self {
        Self("0".repeat(SEQUENCE_DIGITS))
    }

    /// A stream's number, with the zeros that it lacks; `None` if it is no number, or too long for one.
    pub fn parse(text: &str) -> Option<Self> {
        let is_number =
            !text.is_empty() && text.len() <= SEQUENCE_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| Self(format!("{text:0>SEQUENCE_DIGITS$}")))
    }

    /// The number after it; after the last one, that one again.
    #[must_use]
    pub fn next(&self) -> Self {
        let mut digits = self.0.clone().into_bytes();
        for digit in digits.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return Self(String::from_utf8_lossy(&digits).into_owned());
            }
            *digit = b'0';
        }
        self.clone()
    }

    /// All its digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a record of a stream cannot be understood. None that DynamoDB sends is known to be like that.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is not of the form that Lambda gives a stream's record.
    #[error("it is not a record of a DynamoDB stream")]
    Form(#[source] serde_json::Error),
    /// Its stream is none of those that the lake is told of.
    #[error("its stream {0:?} is that of no table that the lake is told of")]
    Table(String),
    /// It has no number.
    #[error("its SequenceNumber is {0:?}, expected 1 to {SEQUENCE_DIGITS} digits")]
    Sequence(String),
    /// It is of another kind.
    #[error("its eventName is {0:?}, expected INSERT, MODIFY or REMOVE")]
    Name(String),
    /// It does not say what it is about.
    #[error("its key has no text {0:?}")]
    Key(String),
    /// It does not say what the item is like now.
    #[error("it has no new image; expected a stream of new images")]
    NoImage,
    /// It does not say when it was made.
    #[error("it has no ApproximateCreationDateTime")]
    NoTime,
    /// It holds what DynamoDB does not.
    #[error(transparent)]
    Number(#[from] NotANumber),
    /// An entry of the state table that is not as the account of a run.
    #[error("its attribute {attribute:?} is not as in the account of a run, expected {expected}")]
    Account {
        /// The attribute.
        attribute: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A value has no text.
    #[error("it cannot be written as JSON")]
    Json(#[source] serde_json::Error),
}

/// Where a record comes from, and its number: as much as can be told of one that is not understood otherwise.
#[derive(Debug, Default, Deserialize)]
pub struct Head {
    /// The service: `aws:dynamodb`.
    #[serde(default, rename = "eventSource")]
    pub source: Option<String>,
    /// The stream.
    #[serde(default, rename = "eventSourceARN")]
    pub stream: Option<String>,
    #[serde(default)]
    dynamodb: Option<Box<RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
struct HeadOfRecord {
    #[serde(default, rename = "SequenceNumber")]
    sequence: Option<String>,
}

impl Head {
    /// Reads as much as is there.
    pub fn of(record: &str) -> Self {
        serde_json::from_str(record).unwrap_or_default()
    }

    /// The number as the stream has it.
    pub fn sequence(&self) -> Option<String> {
        let record: HeadOfRecord = serde_json::from_str(self.dynamodb.as_ref()?.get()).ok()?;
        record.sequence.filter(|text| !text.is_empty())
    }

    /// The name of the table whose stream it is.
    pub fn table(&self) -> Option<&str> {
        table_of(self.stream.as_deref()?)
    }
}

/// The table in a stream's ARN: `arn:aws:dynamodb:…:table/sale-dev/stream/2026-11-21T01:00:00.000`.
pub fn table_of(stream: &str) -> Option<&str> {
    let (_, rest) = stream.split_once(":table/")?;
    rest.split('/').next().filter(|name| !name.is_empty())
}

impl Change {
    /// Reads a record as Lambda delivers it, of the stream of a table with the key `keys`.
    ///
    /// # Errors
    /// If it is not as DynamoDB sends them.
    pub fn read(record: &str, keys: &[&str]) -> Result<Self, Unreadable> {
        let record: EventRecord = serde_json::from_str(record).map_err(Unreadable::Form)?;
        let sequence = record.change.sequence_number.unwrap_or_default();
        let sequence = Sequence::parse(&sequence).ok_or(Unreadable::Sequence(sequence))?;
        let mut item = record.change.keys.into_inner();
        let keys = take_keys(&mut item, keys)?;
        let operation = match record.event_name.as_str() {
            "INSERT" => Operation::Insert,
            "MODIFY" => Operation::Update,
            "REMOVE" => Operation::Remove,
            _ => return Err(Unreadable::Name(record.event_name)),
        };
        let mut image = json::values(record.change.new_image.into_inner())?;
        if operation == Operation::Remove {
            image.clear();
        } else if image.is_empty() {
            return Err(Unreadable::NoImage);
        }
        image.retain(|name, _| !keys.contains_key(name));
        let changed_at = match record.change.approximate_creation_date_time.timestamp_millis() {
            // A record need not have one; whoever reads it gets the first moment of 1970 instead.
            0 => fetched_at(&image).ok_or(Unreadable::NoTime)?,
            made_at => made_at,
        };
        Ok(Self {
            operation: operation.marked(&image),
            keys,
            image,
            changed_at,
            sequence,
        })
    }
}

impl Change {
    /// An item of a table with the key `keys`, as the change that put it; when, and with which number, is not known.
    ///
    /// # Errors
    /// If it is not as DynamoDB has them.
    pub fn of_item(item: Item, keys: &[&str]) -> Result<Self, Unreadable> {
        let mut item = item.into_inner();
        let keys = take_keys(&mut item, keys)?;
        let image = json::values(item)?;
        Ok(Self {
            operation: Operation::Insert.marked(&image),
            keys,
            image,
            changed_at: 0,
            sequence: Sequence::zero(),
        })
    }
}

fn take_keys(
    item: &mut HashMap<String, AttributeValue>,
    keys: &[&str],
) -> Result<BTreeMap<String, String>, Unreadable> {
    keys.iter()
        .map(|key| match item.remove(*key) {
            Some(AttributeValue::S(text)) => Ok(((*key).to_owned(), text)),
            _ => Err(Unreadable::Key((*key).to_owned())),
        })
        .collect()
}

impl Operation {
    /// A change that leaves an item marked as deleted is a deletion.
    pub(crate) fn marked(self, image: &BTreeMap<String, Value>) -> Self {
        if is_marked(image) { Self::Delete } else { self }
    }
}

fn fetched_at(image: &BTreeMap<String, Value>) -> Option<i64> {
    match image.get(LAST_MODIFIED)? {
        Value::String(text) => moment::of_last_modified(text),
        _ => None,
    }
}

/// The key's attributes in the table that a log's stream comes from.
pub fn table_keys(log: Log) -> Vec<&'static str> {
    match log {
        Log::Runs => vec![shared::state::dynamodb::ID],
        Log::Branches | Log::Salespersons | Log::Sales => log.keys(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(name: &str, image: serde_json::Value) -> serde_json::Value {
        json!({
            "eventID": "1", "eventName": name, "eventVersion": "1.1", "eventSource": "aws:dynamodb", "awsRegion": "x",
            "eventSourceARN": "arn:aws:dynamodb:us-east-1:1:table/branch-dev/stream/2026-11-21T00:00:00.000",
            "dynamodb": {
                "ApproximateCreationDateTime": 1_795_222_861, "Keys": {"branch_id": {"S": "1"}}, "NewImage": image,
                "SequenceNumber": "4421584500000000017450439091", "SizeBytes": 26, "StreamViewType": "NEW_IMAGE"
            }
        })
    }

    fn read(record: &serde_json::Value) -> Result<Change, Unreadable> {
        Change::read(&record.to_string(), &["branch_id"])
    }

    #[test]
    fn a_record_is_read_with_its_number_its_time_and_its_image() {
        let change = read(&record(
            "MODIFY",
            json!({"branch_id": {"S": "1"}, "rent": {"N": "1.10"}}),
        ))
        .unwrap();
        assert_eq!(change.operation, Operation::Update);
        assert_eq!(change.keys["branch_id"], "1");
        assert_eq!(change.image.keys().collect::<Vec<_>>(), ["rent"]);
        assert_eq!(change.changed_at, 1_795_222_861_000);
        assert_eq!(change.sequence.as_str(), "0000000000004421584500000000017450439091");
    }

    #[test]
    fn an_item_marked_as_deleted_is_a_deletion_until_the_mark_is_gone() {
        let marked = json!({"branch_id": {"S": "1"}, "deleted_at": {"S": "2026-11-21T01:02:03.456Z"}});
        assert_eq!(read(&record("MODIFY", marked)).unwrap().operation, Operation::Delete);
        let back = json!({"branch_id": {"S": "1"}, "deleted_at": {"NULL": true}});
        assert_eq!(read(&record("MODIFY", back)).unwrap().operation, Operation::Update);
        // The vendor may send an attribute of that name, too.
        for own in [
            json!({"BOOL": false}),
            json!({"S": ""}),
            json!({"N": "0"}),
            json!({"S": "2026-11-21"}),
            json!({"SS": ["a"]}),
        ] {
            let there = json!({"branch_id": {"S": "1"}, "deleted_at": own});
            assert_eq!(read(&record("INSERT", there)).unwrap().operation, Operation::Insert);
        }
        let mut gone = record("REMOVE", json!(null));
        gone["dynamodb"].as_object_mut().unwrap().remove("NewImage");
        assert_eq!(read(&gone).unwrap().operation, Operation::Remove);
    }

    #[test]
    fn a_record_without_a_time_was_made_when_its_answer_was_fetched() {
        let image = json!({"branch_id": {"S": "1"}, "last_modified": {"S": "2026-11-21T01:02:03.456Z"}});
        let mut record = record("INSERT", image);
        record["dynamodb"]
            .as_object_mut()
            .unwrap()
            .remove("ApproximateCreationDateTime");
        assert_eq!(read(&record).unwrap().changed_at, 1_795_222_923_456);
        record["dynamodb"]["NewImage"] = json!({"branch_id": {"S": "1"}});
        assert_eq!(
            read(&record).unwrap_err().to_string(),
            "it has no ApproximateCreationDateTime"
        );
    }

    #[test]
    fn what_is_no_record_of_the_tables_stream_is_refused_by_name() {
        let good = record("INSERT", json!({"branch_id": {"S": "1"}}));
        let with = |pointer: &str, value: serde_json::Value| {
            let mut record = good.clone();
            *record.pointer_mut(pointer).unwrap() = value;
            read(&record).unwrap_err().to_string()
        };
        assert!(read(&good).is_ok());
        for (pointer, value, reason) in [
            (
                "/eventName",
                json!("PURGE"),
                r#"its eventName is "PURGE", expected INSERT, MODIFY or REMOVE"#,
            ),
            (
                "/dynamodb/SequenceNumber",
                json!("12x"),
                r#"its SequenceNumber is "12x", expected 1 to 40 digits"#,
            ),
            (
                "/dynamodb/Keys",
                json!({"branch_id": {"N": "1"}}),
                r#"its key has no text "branch_id""#,
            ),
            (
                "/dynamodb/NewImage",
                json!({}),
                "it has no new image; expected a stream of new images",
            ),
            (
                "/dynamodb/NewImage",
                json!({"a": {"N": "x"}}),
                r#"the number "x" is not a decimal number"#,
            ),
            ("/dynamodb", json!(5), "it is not a record of a DynamoDB stream"),
        ] {
            assert_eq!(with(pointer, value), reason);
        }
    }

    #[test]
    fn of_what_is_not_understood_source_and_number_are_told_all_the_same() {
        let mut record = record("INSERT", json!({"a": {"X": 5}}));
        record["awsRegion"] = json!(7);
        let head = Head::of(&record.to_string());
        assert_eq!(head.sequence().as_deref(), Some("4421584500000000017450439091"));
        assert_eq!(head.table(), Some("branch-dev"));
        assert_eq!(head.source.as_deref(), Some("aws:dynamodb"));
        assert_eq!(Head::of("[]").sequence(), None);
    }

    #[test]
    fn numbers_of_a_stream_are_in_order_as_text() {
        let number = |text: &str| Sequence::parse(text).unwrap();
        assert!(Sequence::zero() < number("9") && number("9") < number("10"));
        assert_eq!(number("10").as_str().len(), SEQUENCE_DIGITS);
        assert_eq!(
            (Sequence::zero().next(), number("1299").next()),
            (number("1"), number("1300"))
        );
        let last = number(&"9".repeat(SEQUENCE_DIGITS));
        assert_eq!(last.next(), last);
        for text in ["", "-1", "1 ", &"1".repeat(41)] {
            assert_eq!(Sequence::parse(text), None, "{text}");
        }
    }
}
