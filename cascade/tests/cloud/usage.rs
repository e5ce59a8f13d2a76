//! What is counted of the requests: bytes, and what AWS would bill, as a client's own SDK asks for it.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{
    AttributeValue, KeysAndAttributes, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure,
};
use cascade::cloud::{Cloud, Provisioned, Usage};

/// A cloud, its places, and a client of its tables.
async fn tables() -> (Cloud, Provisioned, Client) {
    let (cloud, _clock) = crate::cloud().await;
    let places = cloud.provision("dev").await.expect("provisioned");
    let client = Client::new(&cloud.sdk_config());
    (cloud, places, client)
}

/// Read and write units of one table.
fn units(usage: &Usage, table: &str) -> (f64, f64) {
    let used = usage.of(|asked| asked.service == "DynamoDB" && asked.resource == table);
    (used.read_units, used.write_units)
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// Stores a branch of about so many bytes.
async fn put(client: &Client, places: &Provisioned, id: &str, bytes: usize) {
    let put = client.put_item().table_name(&places.branch_table);
    let put = put.item("branch_id", text(id)).item("filler", text("x".repeat(bytes)));
    let put = put.send().await.expect("it is stored");
    assert_eq!(put.consumed_capacity(), None, "nobody asked for it");
}

#[tokio::test]
async fn units_go_by_the_items_size_and_the_reads_consistency_table_by_table() {
    // given
    let (cloud, places, client) = tables().await;
    let before = cloud.usage();
    put(&client, &places, "1", 10).await;
    put(&client, &places, "2", 5_000).await;
    assert_eq!(units(&cloud.usage().since(&before), &places.branch_table), (0.0, 6.0));
    // when: two that are there, of which one takes two units, and one that is not
    for consistent in [true, false] {
        let before = cloud.usage();
        let keys = ["1", "2", "3"].map(|id| [("branch_id".to_owned(), text(id))].into());
        let keys = KeysAndAttributes::builder()
            .set_keys(Some(keys.into()))
            .consistent_read(consistent)
            .build()
            .expect("keys");
        let read = client.batch_get_item().request_items(&places.branch_table, keys);
        let read = read.send().await.expect("they are read");
        // then
        assert_eq!(read.responses().expect("answers")[&places.branch_table].len(), 2);
        assert!(read.consumed_capacity().is_empty());
        let usage = cloud.usage().since(&before);
        let expected = if consistent { 4.0 } else { 2.0 };
        assert_eq!(units(&usage, &places.branch_table), (expected, 0.0));
        assert_eq!(units(&usage, &places.sale_table), (0.0, 0.0));
        assert!(usage.of(|_| true).bytes_out > 5_000);
        assert_eq!(
            usage.requests_by_operation(|_| true),
            [("BatchGetItem".to_owned(), 1)].into()
        );
    }
}

#[tokio::test]
async fn a_write_costs_the_larger_of_what_was_and_what_is_whether_its_condition_is_met_or_not() {
    // given
    let (cloud, places, client) = tables().await;
    put(&client, &places, "1", 5_000).await;
    // when
    let before = cloud.usage();
    put(&client, &places, "1", 10).await;
    // then
    assert_eq!(units(&cloud.usage().since(&before), &places.branch_table), (0.0, 5.0));
    // when
    put(&client, &places, "1", 5_000).await;
    let before = cloud.usage();
    let refused = client
        .put_item()
        .table_name(&places.branch_table)
        .item("branch_id", text("1"))
        .condition_expression("attribute_not_exists(branch_id)")
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .send()
        .await;
    // then
    let refused = refused.expect_err("it is there").into_service_error();
    assert!(refused.is_conditional_check_failed_exception());
    assert_eq!(units(&cloud.usage().since(&before), &places.branch_table), (0.0, 5.0));
}

#[tokio::test]
async fn who_asks_for_the_units_is_told_them() {
    let (cloud, places, client) = tables().await;
    let before = cloud.usage();
    let read = client
        .get_item()
        .table_name(&places.sale_table)
        .key("sale_id", text("1"))
        .key("employee_id", text("1"))
        .return_consumed_capacity(ReturnConsumedCapacity::Total)
        .send()
        .await
        .expect("an answer");
    assert_eq!(
        read.consumed_capacity().and_then(|units| units.capacity_units()),
        Some(0.5)
    );
    assert_eq!(units(&cloud.usage().since(&before), &places.sale_table), (0.5, 0.0));
}

#[tokio::test]
async fn messages_are_counted_by_queue_and_looking_at_a_queue_is_not() {
    // given
    let (cloud, places, _) = tables().await;
    let sqs = aws_sdk_sqs::Client::new(&cloud.sdk_config());
    let before = cloud.usage();
    // when
    for (queue, delay) in [(&places.sale_queue_url, 0), (&places.sale_queue_url, 60)] {
        let send = sqs
            .send_message()
            .queue_url(queue)
            .message_body("a")
            .delay_seconds(delay);
        send.send().await.expect("it is sent");
    }
    let received = sqs.receive_message().queue_url(&places.sale_queue_url).send().await;
    assert_eq!(received.expect("a message").messages().len(), 1);
    // then
    assert_eq!(cloud.messages_in(&places.sale_queue_url).await.expect("a queue"), 2);
    assert_eq!(cloud.messages_in(&places.employee_queue_url).await.expect("a queue"), 0);
    let usage = cloud.usage().since(&before);
    assert_eq!(
        usage.requests_by_operation(|asked| asked.resource == "sale-queue-dev"),
        [("ReceiveMessage".to_owned(), 1), ("SendMessage".to_owned(), 2)].into()
    );
    assert_eq!(usage.of(|_| true).requests, 3);
    assert!(cloud.messages_in("http://127.0.0.1:1/0/none").await.is_err());
}
