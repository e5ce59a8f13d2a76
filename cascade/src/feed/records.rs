//! A stream's records in the form in which Lambda delivers records.

use std::collections::HashMap;

use aws_sdk_dynamodbstreams::types::{AttributeValue, Record};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

/// A record as Lambda delivers it.
///
/// Source: "Using AWS Lambda with Amazon DynamoDB: example event", AWS Lambda Developer Guide.
pub(super) fn of_stream(record: &Record, stream_arn: &str) -> Value {
    let change = record.dynamodb();
    let mut dynamodb = Map::new();
    if let Some(change) = change {
        let created = change.approximate_creation_date_time();
        dynamodb.extend([
            (
                "ApproximateCreationDateTime".to_owned(),
                json!(created.map(|time| time.secs())),
            ),
            ("Keys".to_owned(), streamed(change.keys())),
            ("SequenceNumber".to_owned(), json!(change.sequence_number())),
            ("SizeBytes".to_owned(), json!(change.size_bytes().unwrap_or_default())),
            (
                "StreamViewType".to_owned(),
                json!(change.stream_view_type().map(|kind| kind.as_str())),
            ),
        ]);
        if let Some(image) = change.new_image() {
            dynamodb.insert("NewImage".to_owned(), streamed(Some(image)));
        }
    }
    json!({
        "eventID": record.event_id(),
        "eventName": record.event_name().map(|name| name.as_str()),
        "eventVersion": record.event_version(),
        "eventSource": record.event_source(),
        "awsRegion": record.aws_region(),
        "dynamodb": dynamodb,
        "eventSourceARN": stream_arn,
    })
}

fn streamed(item: Option<&HashMap<String, AttributeValue>>) -> Value {
    let attributes = item.into_iter().flatten();
    attributes
        .map(|(name, attribute)| (name.clone(), record(attribute)))
        .collect::<Map<_, _>>()
        .into()
}

fn record(attribute: &AttributeValue) -> Value {
    match attribute {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(number) => json!({ "N": number }),
        AttributeValue::Bool(flag) => json!({ "BOOL": flag }),
        AttributeValue::Null(_) => json!({ "NULL": true }),
        AttributeValue::L(elements) => json!({ "L": elements.iter().map(record).collect::<Vec<_>>() }),
        AttributeValue::M(members) => {
            let members = members.iter().map(|(name, member)| (name.clone(), record(member)));
            json!({ "M": members.collect::<Map<_, _>>() })
        }
        AttributeValue::Ss(texts) => json!({ "SS": texts }),
        AttributeValue::Ns(numbers) => json!({ "NS": numbers }),
        AttributeValue::B(bytes) => json!({ "B": STANDARD.encode(bytes) }),
        AttributeValue::Bs(all) => json!({ "BS": all.iter().map(|bytes| STANDARD.encode(bytes)).collect::<Vec<_>>() }),
        // One that DynamoDB has come to have since: the lake refuses it by name.
        other => json!({ "unknown": format!("{other:?}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodbstreams::primitives::DateTime;
    use aws_sdk_dynamodbstreams::types::{OperationType, StreamRecord};
    use lake::change::{Change, Operation};

    #[test]
    fn a_record_reads_as_one_that_lambda_delivers() {
        let change = StreamRecord::builder()
            .keys("branch_id", AttributeValue::S("1".to_owned()))
            .new_image("branch_id", AttributeValue::S("1".to_owned()))
            .new_image("rent", AttributeValue::N("1.10".to_owned()))
            .new_image("tags", AttributeValue::Ss(vec!["b".to_owned(), "a".to_owned()]))
            .new_image("seal", AttributeValue::B(vec![0, 255].into()))
            .new_image(
                "open",
                AttributeValue::L(vec![AttributeValue::Bool(true), AttributeValue::Null(true)]),
            )
            .sequence_number("100000000000000000001")
            .approximate_creation_date_time(DateTime::from_secs(5))
            .build();
        let record = Record::builder()
            .event_name(OperationType::Modify)
            .event_id("1")
            .event_source("aws:dynamodb")
            .aws_region("x")
            .dynamodb(change)
            .build();
        let record = of_stream(&record, "arn:aws:dynamodb:x:1:table/branch-local/stream/1");
        let change = Change::read(&record.to_string(), &["branch_id"]).unwrap();
        assert_eq!((change.operation, change.changed_at), (Operation::Update, 5000));
        assert_eq!(
            lake::json::object(&change.image).unwrap(),
            r#"{"open":[true,null],"rent":1.1,"seal":"AP8=","tags":["a","b"]}"#
        );
    }
}
