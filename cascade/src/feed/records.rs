//! A stream's records and a table's items in the form in which Lambda delivers records.

use std::collections::HashMap;

use aws_sdk_dynamodbstreams::types::Record;
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

/// A record that says that an item was put, as Lambda would deliver it.
pub(super) fn of_item(
    keys: &[&str],
    item: &HashMap<String, aws_sdk_dynamodb::types::AttributeValue>,
    sequence: &str,
    unix_seconds: i64,
) -> Value {
    let image: Map<String, Value> = item
        .iter()
        .map(|(name, attribute)| (name.clone(), stored(attribute)))
        .collect();
    let keys: Map<String, Value> = keys
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), image.get(*key)?.clone())))
        .collect();
    json!({
        "eventID": "", "eventName": "INSERT", "eventSource": "aws:dynamodb", "awsRegion": "",
        "dynamodb": {
            "ApproximateCreationDateTime": unix_seconds, "Keys": keys, "NewImage": image, "SequenceNumber": sequence,
            "SizeBytes": 0,
        },
    })
}

fn streamed(item: Option<&HashMap<String, aws_sdk_dynamodbstreams::types::AttributeValue>>) -> Value {
    let attributes = item.into_iter().flatten();
    attributes
        .map(|(name, attribute)| (name.clone(), record(attribute)))
        .collect::<Map<_, _>>()
        .into()
}

/// The two clients have a type each for the same attribute values.
macro_rules! attribute_json {
    ($name:ident, $type:ty) => {
        fn $name(attribute: &$type) -> Value {
            use $type as Attribute;
            match attribute {
                Attribute::S(text) => json!({ "S": text }),
                Attribute::N(number) => json!({ "N": number }),
                Attribute::Bool(flag) => json!({ "BOOL": flag }),
                Attribute::Null(_) => json!({ "NULL": true }),
                Attribute::L(elements) => json!({ "L": elements.iter().map($name).collect::<Vec<_>>() }),
                Attribute::M(members) => {
                    let members = members.iter().map(|(name, member)| (name.clone(), $name(member)));
                    json!({ "M": members.collect::<Map<_, _>>() })
                }
                Attribute::Ss(texts) => json!({ "SS": texts }),
                Attribute::Ns(numbers) => json!({ "NS": numbers }),
                Attribute::B(bytes) => json!({ "B": STANDARD.encode(bytes) }),
                Attribute::Bs(all) => json!({ "BS": all.iter().map(|bytes| STANDARD.encode(bytes)).collect::<Vec<_>>() }),
                // One that DynamoDB has come to have since: the lake refuses it by name.
                other => json!({ "unknown": format!("{other:?}") }),
            }
        }
    };
}

attribute_json!(record, aws_sdk_dynamodbstreams::types::AttributeValue);
attribute_json!(stored, aws_sdk_dynamodb::types::AttributeValue);

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodbstreams::primitives::DateTime;
    use aws_sdk_dynamodbstreams::types::{AttributeValue, OperationType, StreamRecord};
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

    #[test]
    fn an_item_reads_as_one_that_was_put() {
        use aws_sdk_dynamodb::types::AttributeValue;
        let item = HashMap::from([
            ("branch_id".to_owned(), AttributeValue::S("1".to_owned())),
            ("rent".to_owned(), AttributeValue::N("7".to_owned())),
        ]);
        let record = of_item(&["branch_id"], &item, "0", 5);
        let change = Change::read(&record.to_string(), &["branch_id"]).unwrap();
        assert_eq!(
            (change.operation, change.keys["branch_id"].as_str()),
            (Operation::Insert, "1")
        );
        assert_eq!(change.image.len(), 1);
    }
}
