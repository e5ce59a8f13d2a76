//! SNS: what is published reaches queues and the outbox.

use std::time::Duration;

use aws_sdk_sns::Client;
use aws_sdk_sns::error::ProvideErrorMetadata;
use aws_sdk_sns::types::MessageAttributeValue;
use cascade::cloud::Cloud;
use serde_json::{Value, json};
use time::macros::utc_datetime;

const ADDRESS: &str = "analyst@example.org";

async fn topic(sns: &Client) -> String {
    let created = sns.create_topic().name("alarms").send().await.expect("a topic");
    created.topic_arn.expect("its ARN")
}

async fn queue(cloud: &Cloud) -> (aws_sdk_sqs::Client, String, String) {
    let sqs = aws_sdk_sqs::Client::new(&cloud.sdk_config());
    let created = sqs.create_queue().queue_name("inbox").send().await.expect("a queue");
    let url = created.queue_url.expect("its URL");
    (sqs, url, "arn:aws:sqs:us-east-1:000000000000:inbox".into())
}

fn text(value: &str) -> MessageAttributeValue {
    let builder = MessageAttributeValue::builder().data_type("String");
    builder.string_value(value).build().expect("an attribute")
}

#[tokio::test]
async fn a_message_reaches_a_queue_in_its_envelope() {
    // given
    let (cloud, _clock) = crate::cloud().await;
    let sns = Client::new(&cloud.sdk_config());
    let arn = topic(&sns).await;
    let (sqs, url, queue_arn) = queue(&cloud).await;
    let subscribe = sns.subscribe().topic_arn(&arn).protocol("sqs").endpoint(&queue_arn);
    subscribe.send().await.expect("subscribed");
    // when
    let published = sns
        .publish()
        .topic_arn(&arn)
        .subject("Rows <updated> & more")
        .message("{\"rows\": 5}")
        .message_attributes("table", text("sale-dev"))
        .send()
        .await
        .expect("published");
    // then
    let received = sqs.receive_message().queue_url(&url).send().await.expect("an answer");
    let envelope: Value = serde_json::from_str(received.messages()[0].body().expect("a body")).expect("JSON");
    assert_eq!(envelope["Type"], "Notification");
    assert_eq!(envelope["MessageId"].as_str(), published.message_id());
    assert_eq!(envelope["TopicArn"], arn);
    assert_eq!(envelope["Subject"], "Rows <updated> & more");
    assert_eq!(envelope["Message"], "{\"rows\": 5}");
    assert_eq!(
        envelope["MessageAttributes"],
        json!({"table": {"Type": "String", "Value": "sale-dev"}})
    );
    let timestamp = envelope["Timestamp"].as_str().unwrap_or_default();
    assert!(
        timestamp.starts_with("2026-11-21T01:00:0") && timestamp.len() == 24,
        "{timestamp}"
    );
}

#[tokio::test]
async fn a_queue_that_wants_messages_raw_gets_them_so_and_wakes_for_them() {
    let (cloud, _clock) = crate::cloud().await;
    let sns = Client::new(&cloud.sdk_config());
    let arn = topic(&sns).await;
    let (sqs, url, queue_arn) = queue(&cloud).await;
    let subscribe = sns.subscribe().topic_arn(&arn).protocol("sqs").endpoint(&queue_arn);
    let subscribe = subscribe.attributes("RawMessageDelivery", "true");
    subscribe.send().await.expect("subscribed");

    let began = std::time::Instant::now();
    let poll = sqs.receive_message().queue_url(&url).wait_time_seconds(20);
    let poll = tokio::spawn(poll.message_attribute_names("All").send());
    let publish = sns.publish().topic_arn(&arn).message("plain");
    publish
        .message_attributes("table", text("sale-dev"))
        .send()
        .await
        .expect("published");
    let received = poll.await.expect("no panic").expect("an answer");
    let message = &received.messages()[0];
    assert_eq!(message.body(), Some("plain"));
    let attributes = message.message_attributes().expect("attributes");
    assert_eq!(attributes["table"].string_value(), Some("sale-dev"));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_mail_subscriber_gets_nothing_but_a_question_until_the_answer() {
    // given
    let (cloud, _clock) = crate::cloud().await;
    let sns = Client::new(&cloud.sdk_config());
    let arn = topic(&sns).await;
    let subscribe = || {
        sns.subscribe()
            .topic_arn(&arn)
            .protocol("email")
            .endpoint(ADDRESS)
            .send()
    };
    let publish = |message: &str| sns.publish().topic_arn(&arn).message(message).send();
    let list = || sns.list_subscriptions_by_topic().topic_arn(&arn).send();
    // when
    let subscribed = subscribe().await.expect("subscribed");
    subscribe().await.expect("again, which changes nothing");
    publish("too early").await.expect("published");
    // then
    assert_eq!(subscribed.subscription_arn(), Some("pending confirmation"));
    let listed = list().await.expect("a list");
    assert_eq!(listed.subscriptions().len(), 1);
    assert_eq!(
        listed.subscriptions()[0].subscription_arn(),
        Some("PendingConfirmation")
    );
    let mails = cloud.outbox().await.expect("the outbox");
    assert_eq!(mails.len(), 1);
    let token = mails[0].confirmation_token.as_deref().expect("a token");

    // when
    let confirm = |token: &str| sns.confirm_subscription().topic_arn(&arn).token(token).send();
    let wrong = confirm("wrong").await.expect_err("refused");
    assert_eq!(wrong.code(), Some("InvalidParameter"));
    let confirmed = confirm(token).await.expect("confirmed");
    publish("in time").await.expect("published");
    // then
    let listed = list().await.expect("a list");
    assert_eq!(
        listed.subscriptions()[0].subscription_arn(),
        confirmed.subscription_arn()
    );
    let mails = cloud.outbox().await.expect("the outbox");
    assert_eq!(mails.len(), 2);
    assert_eq!((mails[1].to.as_str(), mails[1].body.as_str()), (ADDRESS, "in time"));
    assert_eq!(mails[1].subject, "AWS Notification Message");
    assert_eq!(mails[1].topic_arn, arn);
    assert!(mails[1].sent_at >= utc_datetime!(2026-11-21 01:00));

    // when
    let unsubscribe = sns.unsubscribe();
    let unsubscribe = unsubscribe.subscription_arn(confirmed.subscription_arn().expect("an ARN"));
    unsubscribe.send().await.expect("unsubscribed");
    publish("too late").await.expect("published");
    // then
    assert_eq!(cloud.outbox().await.expect("the outbox").len(), 2);
}

#[tokio::test]
async fn the_outbox_is_kept() {
    let clock = shared::clock::Clock::starting_at(utc_datetime!(2026-11-21 01:00));
    let data = tempfile::tempdir().expect("a directory");
    let cloud = crate::start(Some(data.path().into()), &clock).await;
    let sns = Client::new(&cloud.sdk_config());
    let arn = topic(&sns).await;
    let subscribe = sns.subscribe().topic_arn(&arn).protocol("email").endpoint(ADDRESS);
    subscribe.send().await.expect("subscribed");
    let before = cloud.outbox().await.expect("the outbox");
    cloud.shutdown().await.expect("closed");
    let cloud = crate::start(Some(data.path().into()), &clock).await;
    assert_eq!(cloud.outbox().await.expect("the outbox"), before);
}

#[tokio::test]
async fn topics_and_subscriptions_can_be_looked_at_and_removed() {
    let (cloud, _clock) = crate::cloud().await;
    let sns = Client::new(&cloud.sdk_config());
    let arn = topic(&sns).await;
    assert_eq!(topic(&sns).await, arn);
    let subscribe = sns.subscribe().topic_arn(&arn).protocol("email").endpoint(ADDRESS);
    let subscribed = subscribe
        .return_subscription_arn(true)
        .send()
        .await
        .expect("subscribed");
    let subscription = subscribed.subscription_arn().expect("its ARN");

    let set = sns.set_topic_attributes().topic_arn(&arn);
    let set = set.attribute_name("DisplayName").attribute_value("Cascade");
    set.send().await.expect("set");
    let attributes = sns
        .get_topic_attributes()
        .topic_arn(&arn)
        .send()
        .await
        .expect("attributes");
    let attributes = attributes.attributes().expect("attributes");
    assert_eq!(attributes["DisplayName"], "Cascade");
    assert_eq!(attributes["SubscriptionsPending"], "1");
    let of = sns.get_subscription_attributes().subscription_arn(subscription);
    let of = of.send().await.expect("attributes").attributes.unwrap_or_default();
    assert_eq!(
        (of["PendingConfirmation"].as_str(), of["Endpoint"].as_str()),
        ("true", ADDRESS)
    );

    sns.delete_topic().topic_arn(&arn).send().await.expect("deleted");
    assert!(sns.list_topics().send().await.expect("a list").topics().is_empty());
    assert!(
        sns.list_subscriptions()
            .send()
            .await
            .expect("a list")
            .subscriptions()
            .is_empty()
    );
}

#[tokio::test]
async fn topics_are_listed_in_pages() {
    let (cloud, _clock) = crate::cloud().await;
    let sns = Client::new(&cloud.sdk_config());
    for number in 0..101 {
        let create = sns.create_topic().name(format!("t{number:03}"));
        create.send().await.expect("a topic");
    }
    let first = sns.list_topics().send().await.expect("a page");
    assert_eq!(first.topics().len(), 100);
    let rest = sns.list_topics().set_next_token(first.next_token).send();
    let rest = rest.await.expect("a page");
    assert_eq!((rest.topics().len(), rest.next_token), (1, None));
}

#[tokio::test]
async fn what_sns_does_not_take_is_refused_with_its_reason() {
    let (cloud, _clock) = crate::cloud().await;
    let sns = Client::new(&cloud.sdk_config());
    let arn = topic(&sns).await;
    let missing = sns.publish().topic_arn(format!("{arn}-missing")).message("x");
    let error = missing.send().await.expect_err("no topic").into_service_error();
    assert!(error.is_not_found_exception(), "{error:?}");

    let publish = || sns.publish().topic_arn(&arn);
    for wrong in [
        publish().message(""),
        publish().message("x".repeat(262_145)),
        publish().message("x").subject("y".repeat(101)),
        publish().message("x").subject("two\nlines"),
        publish().message("{\"sqs\": \"x\"}").message_structure("json"),
        sns.publish().phone_number("+1").message("x"),
    ] {
        let error = wrong.send().await.expect_err("refused").into_service_error();
        assert!(error.is_invalid_parameter_exception(), "{error:?}");
    }
    let subscribe = |protocol: &str, endpoint: &str| {
        let subscribe = sns.subscribe().topic_arn(&arn).protocol(protocol);
        subscribe.endpoint(endpoint).send()
    };
    for (protocol, endpoint) in [("email", "nobody"), ("sqs", "inbox"), ("https", "https://example.org")] {
        let error = subscribe(protocol, endpoint).await.expect_err("refused");
        assert_eq!(error.code(), Some("InvalidParameter"), "{protocol} {endpoint}");
    }
    let other = sns.list_platform_applications().send().await.expect_err("not provided");
    assert_eq!(other.code(), Some("InvalidAction"));
    let message = other.message().unwrap_or_default();
    assert!(
        message.contains("ListPlatformApplications") && message.contains("Subscribe"),
        "{message}"
    );
}

#[tokio::test]
async fn each_protocol_gets_its_own_text_where_the_message_has_one() {
    let (cloud, _clock) = crate::cloud().await;
    let sns = Client::new(&cloud.sdk_config());
    let arn = topic(&sns).await;
    let (sqs, url, queue_arn) = queue(&cloud).await;
    let subscribe = sns.subscribe().topic_arn(&arn).protocol("sqs").endpoint(&queue_arn);
    subscribe
        .attributes("RawMessageDelivery", "true")
        .send()
        .await
        .expect("subscribed");
    for (message, expected) in [
        (json!({"default": "d", "sqs": "q"}), "q"),
        (json!({"default": "d", "email": "e"}), "d"),
    ] {
        let publish = sns.publish().topic_arn(&arn).message(message.to_string());
        publish.message_structure("json").send().await.expect("published");
        let received = sqs.receive_message().queue_url(&url).send().await.expect("an answer");
        assert_eq!(received.messages()[0].body(), Some(expected));
    }
}
