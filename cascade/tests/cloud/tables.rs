//! DynamoDB through the cloud's port, and what is provisioned in it.

use std::collections::{BTreeMap, HashMap};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, KeysAndAttributes, PutRequest,
    ReturnValuesOnConditionCheckFailure, ScalarAttributeType, StreamViewType, WriteRequest,
};
use aws_sdk_sqs::types::QueueAttributeName;
use cascade::cloud::Cloud;
use shared::change::{Change, Row};
use shared::entity::Entity;
use shared::id::Id;
use shared::jitter::Jitter;
use shared::record::{Key, Record};
use shared::sync::{Synced, write_changes};
use shared::table::dynamodb::DynamoTable;
use shared::table::{Table, Write, Written};
use shared::tally::{Counts, Tally};
use shared::value::Value;

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

fn number(value: &str) -> AttributeValue {
    AttributeValue::N(value.into())
}

#[tokio::test]
async fn a_table_without_a_stream_is_given_one() {
    let (cloud, _clock) = crate::cloud().await;
    let tables = Client::new(&cloud.sdk_config());
    // given, as a version made it for which nobody read its stream
    let key = AttributeDefinition::builder()
        .attribute_name("id")
        .attribute_type(ScalarAttributeType::S);
    let schema = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash);
    let create = tables
        .create_table()
        .table_name("sync-dev")
        .billing_mode(BillingMode::PayPerRequest);
    let create = create.attribute_definitions(key.build().expect("a key"));
    create
        .key_schema(schema.build().expect("a schema"))
        .send()
        .await
        .expect("a table");
    // when
    for _ in 0..2 {
        cloud.provision("dev").await.expect("provisioned");
    }
    // then
    let description = tables
        .describe_table()
        .table_name("sync-dev")
        .send()
        .await
        .expect("a table");
    let stream = description
        .table()
        .and_then(|table| table.stream_specification())
        .expect("a stream");
    assert_eq!(stream.stream_view_type(), Some(&StreamViewType::NewImage));
}

#[tokio::test]
async fn an_environment_is_provisioned_as_the_contract_says_and_only_once() {
    let (cloud, _clock) = crate::cloud().await;
    // when
    let first = cloud.provision("dev").await.expect("provisioned");
    let second = cloud.provision("dev").await.expect("provisioned again");
    // then
    assert_eq!(first, second);
    let tables = Client::new(&cloud.sdk_config());
    for (table, keys) in [
        ("branch-dev", vec!["branch_id"]),
        ("salesperson-dev", vec!["employee_id", "branch_id"]),
        ("sale-dev", vec!["sale_id", "employee_id"]),
        ("sync-dev", vec!["id"]),
    ] {
        let description = tables.describe_table().table_name(table).send().await.expect("a table");
        let description = description.table().expect("a table");
        let schema: Vec<_> = description
            .key_schema()
            .iter()
            .map(|key| key.attribute_name())
            .collect();
        assert_eq!(schema, keys);
        let stream = description.stream_specification().expect("a stream");
        assert_eq!(stream.stream_view_type(), Some(&StreamViewType::NewImage));
    }
    let queues = aws_sdk_sqs::Client::new(&cloud.sdk_config());
    let listed = queues.list_queues().send().await.expect("a list");
    let mut names: Vec<_> = listed
        .queue_urls()
        .iter()
        .filter_map(|url| url.rsplit('/').next())
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "branch-function-dead-letter-queue-dev",
            "employee-function-dead-letter-queue-dev",
            "employee-queue-dev",
            "employee-workload-dead-letter-queue-dev",
            "sale-function-dead-letter-queue-dev",
            "sale-queue-dev",
            "sale-workload-dead-letter-queue-dev",
        ]
    );
    let attribute = async |url: &str, name: QueueAttributeName| {
        let get = queues
            .get_queue_attributes()
            .queue_url(url)
            .attribute_names(name.clone());
        let attributes = get.send().await.expect("attributes").attributes;
        attributes
            .and_then(|mut attributes| attributes.remove(&name))
            .unwrap_or_default()
    };
    let policy = attribute(&first.sale_queue_url, QueueAttributeName::RedrivePolicy).await;
    let policy: serde_json::Value = serde_json::from_str(&policy).expect("JSON");
    assert_eq!(policy["maxReceiveCount"], 10);
    assert_eq!(
        policy["deadLetterTargetArn"],
        "arn:aws:sqs:us-east-1:000000000000:sale-workload-dead-letter-queue-dev"
    );
    assert_eq!(
        attribute(&first.sale_queue_url, QueueAttributeName::VisibilityTimeout).await,
        "900"
    );
    assert_eq!(
        attribute(
            &first.sale_dead_letter_queue_url,
            QueueAttributeName::MessageRetentionPeriod
        )
        .await,
        "1209600"
    );
}

#[tokio::test]
async fn an_environment_whose_name_cannot_be_used_is_refused_by_name() {
    let (cloud, _clock) = crate::cloud().await;
    let error = cloud.provision("no good").await.expect_err("refused");
    assert!(error.to_string().contains("no good"), "{error}");
}

#[tokio::test]
async fn a_conditional_write_that_fails_returns_what_is_stored() {
    let (cloud, _clock) = crate::cloud().await;
    let table = cloud.provision("dev").await.expect("provisioned").branch_table;
    let tables = Client::new(&cloud.sdk_config());
    let update = |at: &str| {
        tables
            .update_item()
            .table_name(&table)
            .key("branch_id", text("1"))
            .update_expression("SET last_modified = :at")
            .condition_expression("attribute_not_exists(last_modified) OR last_modified < :at")
            .expression_attribute_values(":at", text(at))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
    };
    update("2026-11-21T01:00:00.000Z").await.expect("the first write");
    let error = update("2026-11-21T00:59:59.999Z").await.expect_err("an earlier fetch");
    let UpdateItemError::ConditionalCheckFailedException(failed) = error.into_service_error() else {
        panic!("another error than a failed condition");
    };
    let stored = failed.item().expect("the item");
    assert_eq!(stored["last_modified"], text("2026-11-21T01:00:00.000Z"));
    assert_eq!(cloud.requests()["DynamoDB.UpdateItem"], 2);
}

#[tokio::test]
async fn numbers_are_exact_and_normalised() {
    let (cloud, _clock) = crate::cloud().await;
    let table = cloud.provision("dev").await.expect("provisioned").branch_table;
    let tables = Client::new(&cloud.sdk_config());
    let digits = "12345678901234567890123456789012345678";
    for (written, read) in [("1.10", "1.1"), ("1e2", "100"), ("-0", "0"), (digits, digits)] {
        let put = tables.put_item().table_name(&table).item("branch_id", text("1"));
        put.item("n", number(written)).send().await.expect("written");
        let get = tables.get_item().table_name(&table).key("branch_id", text("1"));
        let item = get.send().await.expect("read").item.expect("an item");
        assert_eq!(item["n"], number(read), "{written}");
    }
    let put = tables.put_item().table_name(&table).item("branch_id", text("1"));
    let refused = put.item("n", number(&format!("{digits}9"))).send().await;
    assert!(refused.is_err(), "39 digits were taken");
}

#[tokio::test]
async fn requests_and_answers_of_fifteen_megabytes_pass_and_a_hundred_keys_are_read_at_once() {
    let (cloud, _clock) = crate::cloud().await;
    let table = cloud.provision("dev").await.expect("provisioned").branch_table;
    let tables = Client::new(&cloud.sdk_config());
    // 399 KB as an item, and half as much again as JSON, where each quotation mark takes two bytes.
    let filling = "\"x".repeat(199_500);
    for batch in 0..4 {
        let writes = (0..25).map(|index| {
            let id = (batch * 25 + index).to_string();
            let put = PutRequest::builder().item("branch_id", text(id));
            // Most of the items in one request, to come near the limit on its body.
            let put = put.item("filling", text(if batch == 0 { &filling } else { "x" }));
            WriteRequest::builder()
                .put_request(put.build().expect("an item"))
                .build()
        });
        let write = tables.batch_write_item().request_items(&table, writes.collect());
        let answer = write.send().await.expect("written");
        assert!(answer.unprocessed_items().is_none_or(HashMap::is_empty));
    }
    let read = async |ids: std::ops::Range<u32>| {
        let keys = ids.map(|id| HashMap::from([("branch_id".to_owned(), text(id.to_string()))]));
        let keys = KeysAndAttributes::builder().set_keys(Some(keys.collect())).build();
        let get = tables.batch_get_item().request_items(&table, keys.expect("keys"));
        let answer = get.send().await.expect("read");
        assert!(answer.unprocessed_keys().is_none_or(HashMap::is_empty));
        answer
            .responses
            .and_then(|mut tables| tables.remove(&table))
            .unwrap_or_default()
    };
    let large = read(0..25).await;
    assert_eq!(large.len(), 25);
    assert!(large.iter().all(|item| item["filling"] == text(&filling)));
    let update = tables
        .update_item()
        .table_name(&table)
        .update_expression("REMOVE filling");
    for id in 0..25 {
        let update = update.clone().key("branch_id", text(id.to_string()));
        update.send().await.expect("updated");
    }
    assert_eq!(read(0..100).await.len(), 100);
}

#[tokio::test]
async fn a_request_for_none_of_the_services_is_told_what_is_here() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (cloud, _clock) = crate::cloud().await;
    let address = cloud.endpoint().replace("http://", "");
    let mut connection = tokio::net::TcpStream::connect(address).await.expect("connected");
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    connection.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.expect("answered");
    assert!(
        answer.starts_with("HTTP/1.1 404") && answer.contains("AWS_ENDPOINT_URL"),
        "{answer}"
    );
}

/// The branch table as the collectors have it.
async fn branch_table(cloud: &Cloud) -> DynamoTable {
    let name = cloud.provision("dev").await.expect("provisioned").branch_table;
    DynamoTable::new(
        Client::new(&cloud.sdk_config()),
        name,
        Entity::Branch,
        Jitter::seeded(1),
    )
}

fn branch(json: serde_json::Value) -> Record {
    let raw = serde_json::value::to_raw_value(&json).expect("JSON");
    Record::from_json(Entity::Branch, &raw, None, None).expect("a record")
}

/// Sixty records, each of every type of value, with a number of 38 digits.
fn sixty(colour: &str) -> Vec<Record> {
    let exact: serde_json::Value = serde_json::from_str(r#"[null, true, {"a": [{}]}, "x"]"#).expect("JSON");
    let record = |id: u32| {
        let mut record = branch(serde_json::json!({ "id": id, "colour": colour, "nested": exact }));
        let digits = format!("-1234567890123456789012345678901234.56{id:02}");
        let number: Box<serde_json::value::RawValue> = serde_json::from_str(&digits).expect("a number");
        let number = Value::from_json(&number).expect("a value");
        record.attributes.insert("exact".to_owned(), number);
        record
    };
    (0..60).map(record).collect()
}

fn keys(records: &[Record]) -> Vec<Key> {
    records.iter().map(|record| record.key.clone()).collect()
}

/// As the sync does it, from rows that were read some time ago.
async fn write(table: &DynamoTable, records: Vec<Record>, rows: HashMap<Key, Row>, at: &str) -> (Synced, Counts) {
    let tally = Tally::default();
    let synced = write_changes(table, &[], records, rows, at, &tally)
        .await
        .expect("written");
    (synced, tally.counts())
}

const EARLY: &str = "2026-11-21T01:00:00.000Z";
const NOW: &str = "2026-11-21T02:00:00.000Z";
const LATE: &str = "2026-11-21T03:00:00.000Z";

#[tokio::test]
async fn sixty_new_rows_take_three_requests_and_come_back_exactly() {
    let (cloud, _clock) = crate::cloud().await;
    let table = branch_table(&cloud).await;
    // when
    let (synced, counts) = write(&table, sixty("red"), HashMap::new(), NOW).await;
    // then
    assert_eq!((synced, counts.inserted), (Synced::default(), 60));
    let requests = cloud.requests();
    assert_eq!(requests["DynamoDB.BatchExecuteStatement"], 3);
    assert!(!requests.contains_key("DynamoDB.PutItem"), "{requests:?}");
    let rows = table.read(keys(&sixty("red"))).await.expect("rows");
    for record in sixty("red") {
        assert_eq!(rows[&record.key].attributes, record.attributes);
        assert_eq!(rows[&record.key].last_modified.as_deref(), Some(NOW));
    }

    // and when some of it changes
    let mut records = sixty("blue");
    for record in &mut records[..50] {
        record.attributes.remove("nested");
    }
    let (_, counts) = write(&table, records.clone(), rows, LATE).await;
    // then
    assert_eq!((counts.updated, counts.unchanged), (60, 0));
    assert_eq!(cloud.requests()["DynamoDB.BatchExecuteStatement"], 6);
    let rows = table.read(keys(&records)).await.expect("rows");
    for record in records {
        assert_eq!(rows[&record.key].attributes, record.attributes);
        assert_eq!(rows[&record.key].last_modified.as_deref(), Some(LATE));
    }
}

#[tokio::test]
async fn rows_that_others_wrote_in_between_are_compared_anew_and_the_rest_of_their_batch_is_written() {
    let (cloud, _clock) = crate::cloud().await;
    let table = branch_table(&cloud).await;
    // given rows that are there although none were read
    let (_, counts) = write(&table, sixty("green")[..2].to_vec(), HashMap::new(), EARLY).await;
    assert_eq!(counts.inserted, 2);
    write(&table, sixty("grey")[2..4].to_vec(), HashMap::new(), LATE).await;
    write(&table, sixty("red")[4..6].to_vec(), HashMap::new(), EARLY).await;
    // when
    let (synced, counts) = write(&table, sixty("red"), HashMap::new(), NOW).await;
    // then
    assert_eq!((counts.inserted, counts.updated, counts.unchanged), (54, 2, 4));
    assert_eq!((synced.rejected.total(), synced.superseded), (0, 2));

    // and given that rows change, and that one goes, after all were read
    let read = table.read(keys(&sixty(""))).await.expect("rows");
    let seen: HashMap<_, _> = read.clone();
    write(&table, sixty("pink")[40..44].to_vec(), read, "2026-11-21T02:00:00.001Z").await;
    let tables = Client::new(&cloud.sdk_config());
    let delete = tables
        .delete_item()
        .table_name("branch-dev")
        .key("branch_id", text("59"));
    delete.send().await.expect("deleted");
    // when
    let (synced, counts) = write(&table, sixty("blue"), seen, "2026-11-21T02:30:00.000Z").await;
    // then
    assert_eq!((counts.inserted, counts.updated, counts.unchanged), (1, 57, 2));
    assert_eq!(synced.superseded, 2);
    let colours = table.read(keys(&sixty(""))).await.expect("rows").into_values();
    let mut seen = BTreeMap::new();
    for row in colours {
        let Value::String(colour) = &row.attributes["colour"] else {
            panic!("no colour: {row:?}")
        };
        *seen.entry(colour.clone()).or_insert(0) += 1;
    }
    assert_eq!(seen, [("blue".to_owned(), 58), ("grey".to_owned(), 2)].into());
}

#[tokio::test]
async fn a_record_that_the_table_refuses_costs_none_of_its_batch_and_odd_names_are_written_too() {
    let (cloud, _clock) = crate::cloud().await;
    let table = branch_table(&cloud).await;
    let mut records = sixty("red");
    let empty_name = Value::Object([(String::new(), Value::Null)].into());
    records[13].attributes.insert("refused".to_owned(), empty_name);
    for (record, name) in records[20..]
        .iter_mut()
        .zip(["it's", "a\"b", "a.b", "a[0]", "?", "'} --", "a\\"])
    {
        record.attributes.insert(name.to_owned(), Value::Bool(true));
    }
    // when
    let (synced, counts) = write(&table, records.clone(), HashMap::new(), NOW).await;
    // then
    assert_eq!((synced.rejected.total(), counts.rejected, counts.inserted), (1, 1, 59));
    let rows = table.read(keys(&records)).await.expect("rows");
    assert!(!rows.contains_key(&records[13].key));
    for record in records.iter().filter(|record| record.key.id.as_str() != "13") {
        assert_eq!(rows[&record.key].attributes, record.attributes);
    }
    // 52 in batches, and the refused one by itself after its batch.
    let requests = cloud.requests();
    assert_eq!(requests["DynamoDB.BatchExecuteStatement"], 3);
    assert_eq!(requests["DynamoDB.PutItem"], 8);
}

#[tokio::test]
async fn a_batch_that_is_refused_as_a_whole_is_written_row_by_row() {
    let (cloud, _clock) = crate::cloud().await;
    let table = branch_table(&cloud).await;
    let key = Key {
        id: Id::new("1".to_owned()).expect("an id"),
        parent: None,
    };
    let value = Value::Null;
    let write = Write {
        key: &key,
        seen: None,
        change: Change::Insert([("a", &value)].into()),
    };
    // when DynamoDB is sent one key twice
    let results = table.write_all(&[write.clone(), write], NOW).await;
    // then
    let mut results: Vec<_> = results.into_iter().map(|result| result.expect("known")).collect();
    results.sort_by_key(|result| *result != Written::Done);
    assert_eq!(results[0], Written::Done);
    assert!(matches!(&results[1], Written::Changed(Some(row)) if row.last_modified.as_deref() == Some(NOW)));
    assert_eq!(cloud.requests()["DynamoDB.PutItem"], 2);
}
