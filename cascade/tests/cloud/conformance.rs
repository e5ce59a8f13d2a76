//! What SQS does, asked of the embedded one and, if `CASCADE_SQS_PEER` names its endpoint, of a second implementation.
//!
//! Two that were written apart and agree are more likely to agree with AWS than one that agrees with its own tests.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::primitives::Blob;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message, MessageAttributeValue,
    MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry,
};
use cascade::cloud::Cloud;
use futures::FutureExt;
use shared::clock::Clock;

const PEER: &str = "CASCADE_SQS_PEER";

/// Where MiniStack 1.5.33 is known to differ, by case, and who is right. A case that stands here must fail there: once
/// it passes, its line goes.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "attribute-bounds",
        "it takes any value of an attribute; the API reference gives bounds",
    ),
    (
        "change-visibility-bounds",
        "it takes any time-out; the API reference says 0 to 43,200 seconds",
    ),
    ("create-redrive", "it compares redrive policies as text; AWS, as JSON"),
    ("dead-letter-sources", "it has no ListDeadLetterSourceQueues"),
    (
        "delay-bounds",
        "it takes any delay; the API reference says 0 to 900 seconds",
    ),
    (
        "delete-twice",
        "it refuses the second time; AWS documents DeleteMessage as idempotent",
    ),
    (
        "fifo",
        "it has FIFO queues; we leave them out, as nothing here uses one",
    ),
    (
        "names",
        "it takes any name; the API reference says letters, digits, hyphens and underscores",
    ),
    (
        "not-in-flight",
        "it changes the visibility of any message; the API reference says MessageNotInflight",
    ),
    (
        "purge",
        "it purges at any time; the API reference says once in 60 seconds",
    ),
    (
        "receive-time-bounds",
        "it takes any time; the API reference gives bounds",
    ),
    ("redrive", "it has no StartMessageMoveTask"),
    ("redrive-destination", "it has no StartMessageMoveTask"),
    ("redrive-pace", "it has no StartMessageMoveTask"),
    (
        "redrive-policy",
        "it answers InvalidAttributeValue; AWS, InvalidParameterValue",
    ),
    ("redrive-refused", "it has no StartMessageMoveTask"),
    (
        "refused-attributes",
        "it takes any attribute; the developer guide restricts names, types and values",
    ),
    (
        "size-attributes",
        "it counts the body only; the developer guide, attributes too",
    ),
    (
        "stale-receipt",
        "it refuses an old receipt; AWS answers success, and may not delete the message",
    ),
];

/// One implementation of SQS.
struct Service {
    sqs: Client,
    /// Names begin with it, so that a peer can be asked more than once.
    prefix: String,
    embedded: Option<(Cloud, Clock)>,
}

impl Service {
    async fn embedded(prefix: String) -> Self {
        let (cloud, clock) = crate::cloud().await;
        Self {
            sqs: Client::new(&cloud.sdk_config()),
            prefix,
            embedded: Some((cloud, clock)),
        }
    }

    fn peer(endpoint: &str, prefix: String) -> Self {
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .endpoint_url(endpoint)
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .build();
        Self {
            sqs: Client::from_conf(config),
            prefix,
            embedded: None,
        }
    }

    /// Lets that much time pass for the service.
    async fn pass(&self, time: Duration) {
        match &self.embedded {
            Some((cloud, clock)) => {
                assert!(clock.advance(time));
                cloud.time_moved();
            }
            None => tokio::time::sleep(time).await,
        }
    }

    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    async fn queue(&self, name: &str, attributes: &[(QueueAttributeName, &str)]) -> String {
        let mut create = self.sqs.create_queue().queue_name(self.name(name));
        for (name, value) in attributes {
            create = create.attributes(name.clone(), *value);
        }
        create.send().await.expect("a queue").queue_url.expect("its URL")
    }

    async fn attribute(&self, url: &str, name: QueueAttributeName) -> Option<String> {
        let get = self.sqs.get_queue_attributes().queue_url(url);
        let answer = get.attribute_names(name.clone()).send().await.expect("attributes");
        answer.attributes()?.get(&name).cloned()
    }

    /// How many messages are visible, in flight and delayed.
    async fn counts(&self, url: &str) -> [String; 3] {
        use QueueAttributeName::*;
        let mut counts = [const { String::new() }; 3];
        let names = [
            ApproximateNumberOfMessages,
            ApproximateNumberOfMessagesNotVisible,
            ApproximateNumberOfMessagesDelayed,
        ];
        for (count, name) in counts.iter_mut().zip(names) {
            *count = self.attribute(url, name).await.expect("a count");
        }
        counts
    }

    /// A queue whose dead letters go to another after `receives`; both URLs.
    async fn redriven_queue(&self, receives: usize) -> (String, String) {
        let dead = self.queue("dead", &[]).await;
        let arn = self.attribute(&dead, QueueAttributeName::QueueArn).await.expect("ARN");
        let policy = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":"{receives}"}}"#);
        let work = self
            .queue("work", &[(QueueAttributeName::RedrivePolicy, policy.as_str())])
            .await;
        (work, dead)
    }

    async fn send(&self, url: &str, body: &str) -> String {
        let sent = self.sqs.send_message().queue_url(url).message_body(body).send().await;
        sent.expect("sent").message_id.expect("its id")
    }

    /// Up to ten messages that are there now, with all their attributes.
    async fn receive(&self, url: &str, visibility: i32) -> Vec<Message> {
        let receive = self
            .sqs
            .receive_message()
            .queue_url(url)
            .max_number_of_messages(10)
            .visibility_timeout(visibility)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .message_attribute_names("All");
        receive.send().await.expect("an answer").messages.unwrap_or_default()
    }
}

/// Runs a case against every implementation there is.
async fn everywhere(case: &str, check: impl AsyncFn(&Service)) {
    static RUNS: AtomicUsize = AtomicUsize::new(0);
    let prefix = || format!("t{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
    check(&Service::embedded(prefix()).await).await;
    let Ok(endpoint) = std::env::var(PEER) else { return };
    let peer = Service::peer(&endpoint, prefix());
    let outcome = AssertUnwindSafe(check(&peer)).catch_unwind().await;
    match (outcome, DIFFERENCES.iter().find(|(name, _)| *name == case)) {
        (Err(panic), None) => std::panic::resume_unwind(panic),
        (Ok(()), Some((_, reason))) => panic!("the peer does as we do, though it was known to differ: {reason}"),
        _ => {}
    }
}

/// The codes that an error came with: its type, and what the older protocol calls it.
#[track_caller]
fn code<T: std::fmt::Debug, E: ProvideErrorMetadata + std::fmt::Debug>(outcome: Result<T, E>) -> String {
    let error = outcome.expect_err("this should have been refused");
    error.code().unwrap_or("none").to_owned()
}

fn text(value: &str) -> MessageAttributeValue {
    let builder = MessageAttributeValue::builder().data_type("String");
    builder.string_value(value).build().expect("an attribute")
}

fn entry(id: impl Into<String>, body: impl Into<String>) -> SendMessageBatchRequestEntry {
    let builder = SendMessageBatchRequestEntry::builder().id(id);
    builder.message_body(body).build().expect("an entry")
}

fn bodies(messages: &[Message]) -> Vec<&str> {
    let mut bodies: Vec<_> = messages.iter().filter_map(Message::body).collect();
    bodies.sort_unstable();
    bodies
}

fn system(message: &Message, name: MessageSystemAttributeName) -> Option<&str> {
    message.attributes()?.get(&name).map(String::as_str)
}

fn receipt(message: &Message) -> &str {
    message.receipt_handle().expect("a receipt handle")
}

#[tokio::test]
async fn a_queue_is_created_once_and_not_with_other_attributes() {
    everywhere("create", async |service| {
        let url = service
            .queue("q", &[(QueueAttributeName::VisibilityTimeout, "900")])
            .await;
        let same = service
            .queue("q", &[(QueueAttributeName::VisibilityTimeout, "900")])
            .await;
        assert_eq!(url, same);
        assert_eq!(service.queue("q", &[]).await, url);

        let other = service
            .sqs
            .create_queue()
            .queue_name(service.name("q"))
            .attributes(QueueAttributeName::VisibilityTimeout, "30");
        let error = other.send().await.expect_err("another time-out").into_service_error();
        assert!(error.is_queue_name_exists(), "{error:?}");
        assert_eq!(error.code(), Some("QueueAlreadyExists"));
    })
    .await;
}

#[tokio::test]
async fn a_queue_with_a_redrive_policy_can_be_created_again_however_the_policy_is_written() {
    everywhere("create-redrive", async |service| {
        let (work, dead) = service.redriven_queue(10).await;
        let arn = service
            .attribute(&dead, QueueAttributeName::QueueArn)
            .await
            .expect("ARN");
        let policy = format!(r#"{{ "maxReceiveCount": 10, "deadLetterTargetArn": "{arn}" }}"#);
        let again = service
            .queue("work", &[(QueueAttributeName::RedrivePolicy, policy.as_str())])
            .await;
        assert_eq!(again, work);
    })
    .await;
}

#[tokio::test]
async fn a_name_that_a_queue_cannot_have_is_refused() {
    everywhere("names", async |service| {
        for name in ["with space", "a/b", "ü", &"x".repeat(81)] {
            let created = service.sqs.create_queue().queue_name(name).send().await;
            assert_eq!(code(created), "InvalidParameterValue", "{name:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_fifo_queue_is_refused() {
    everywhere("fifo", async |service| {
        let create = service
            .sqs
            .create_queue()
            .queue_name(service.name("q.fifo"))
            .attributes(QueueAttributeName::FifoQueue, "true");
        assert_eq!(code(create.send().await), "InvalidParameterValue");
    })
    .await;
}

#[tokio::test]
async fn a_queue_that_is_not_there_has_its_own_error() {
    everywhere("missing", async |service| {
        let url = service.queue("q", &[]).await;
        let found = service
            .sqs
            .get_queue_url()
            .queue_name(service.name("q"))
            .send()
            .await
            .expect("found");
        assert_eq!(found.queue_url(), Some(url.as_str()));

        service
            .sqs
            .delete_queue()
            .queue_url(&url)
            .send()
            .await
            .expect("deleted");
        let missing = "AWS.SimpleQueueService.NonExistentQueue";
        let sent = service
            .sqs
            .send_message()
            .queue_url(&url)
            .message_body("x")
            .send()
            .await;
        let error = sent.expect_err("no queue").into_service_error();
        assert!(error.is_queue_does_not_exist(), "{error:?}");
        assert_eq!(error.code(), Some(missing));
        assert_eq!(
            code(service.sqs.get_queue_url().queue_name(service.name("q")).send().await),
            missing
        );
        assert_eq!(
            code(service.sqs.receive_message().queue_url(&url).send().await),
            missing
        );
        assert_eq!(code(service.sqs.purge_queue().queue_url(&url).send().await), missing);
    })
    .await;
}

#[tokio::test]
async fn queues_are_listed_by_prefix_and_in_pages() {
    everywhere("list", async |service| {
        let mut urls = Vec::new();
        for name in ["a", "b", "c"] {
            urls.push(service.queue(name, &[]).await);
        }
        let list = || service.sqs.list_queues().queue_name_prefix(service.name(""));
        let mut all = list().send().await.expect("a list").queue_urls.unwrap_or_default();
        all.sort();
        assert_eq!(all, urls);

        let first = list().max_results(2).send().await.expect("a page");
        let rest = list()
            .max_results(2)
            .set_next_token(first.next_token.clone())
            .send()
            .await
            .expect("a page");
        let mut paged = [first.queue_urls(), rest.queue_urls()].concat();
        paged.sort();
        assert_eq!((first.queue_urls().len(), paged), (2, urls));
        assert_eq!(rest.next_token, None);
    })
    .await;
}

#[tokio::test]
async fn attributes_have_defaults_and_can_be_set_within_bounds() {
    use QueueAttributeName::*;
    everywhere("attributes", async |service| {
        let url = service.queue("q", &[(DelaySeconds, "7")]).await;
        let get = service.sqs.get_queue_attributes().queue_url(&url).attribute_names(All);
        let all = get.send().await.expect("attributes").attributes.unwrap_or_default();
        for (name, value) in [
            (DelaySeconds, "7"),
            (VisibilityTimeout, "30"),
            (MessageRetentionPeriod, "345600"),
            (MaximumMessageSize, "1048576"),
            (ReceiveMessageWaitTimeSeconds, "0"),
            (ApproximateNumberOfMessages, "0"),
            (ApproximateNumberOfMessagesNotVisible, "0"),
            (ApproximateNumberOfMessagesDelayed, "0"),
        ] {
            assert_eq!(all.get(&name).map(String::as_str), Some(value), "{name}");
        }
        assert!(all[&QueueArn].ends_with(&service.name("q")), "{}", all[&QueueArn]);
        assert!(
            all[&CreatedTimestamp]
                .parse::<u64>()
                .is_ok_and(|seconds| seconds > 1_600_000_000)
        );

        let set = service.sqs.set_queue_attributes().queue_url(&url);
        let set = set.attributes(VisibilityTimeout, "900").send();
        set.await.expect("within bounds");
        assert_eq!(service.attribute(&url, VisibilityTimeout).await.as_deref(), Some("900"));
    })
    .await;
}

#[tokio::test]
async fn attributes_out_of_bounds_or_unknown_are_refused() {
    use QueueAttributeName::*;
    everywhere("attribute-bounds", async |service| {
        let url = service.queue("q", &[]).await;
        let set = |name, value: &str| {
            let set = service.sqs.set_queue_attributes().queue_url(&url);
            set.attributes(name, value).send()
        };
        for (name, value) in [
            (VisibilityTimeout, "43201"),
            (VisibilityTimeout, "soon"),
            (DelaySeconds, "901"),
            (MessageRetentionPeriod, "59"),
            (ReceiveMessageWaitTimeSeconds, "21"),
            (MaximumMessageSize, "1048577"),
        ] {
            assert_eq!(
                code(set(name.clone(), value).await),
                "InvalidAttributeValue",
                "{name} {value}"
            );
        }
        assert_eq!(code(set("Colour".into(), "red").await), "InvalidAttributeName");
    })
    .await;
}

#[tokio::test]
async fn a_redrive_policy_must_name_a_queue_and_a_count() {
    use QueueAttributeName::RedrivePolicy;
    everywhere("redrive-policy", async |service| {
        let (work, dead) = service.redriven_queue(3).await;
        let set = |policy: &str| {
            let set = service.sqs.set_queue_attributes().queue_url(&work);
            set.attributes(RedrivePolicy, policy).send()
        };
        let arn = service
            .attribute(&dead, QueueAttributeName::QueueArn)
            .await
            .expect("ARN");
        let missing = format!(r#"{{"deadLetterTargetArn":"{arn}-missing","maxReceiveCount":3}}"#);
        let never = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":0}}"#);
        for policy in ["{}", "not JSON", &missing, &never] {
            assert_eq!(code(set(policy).await), "InvalidParameterValue", "{policy}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_redrive_policy_can_be_taken_away() {
    everywhere("redrive-policy-removed", async |service| {
        let (work, _dead) = service.redriven_queue(3).await;
        let set = service.sqs.set_queue_attributes().queue_url(&work);
        let set = set.attributes(QueueAttributeName::RedrivePolicy, "").send();
        set.await.expect("taken away");
        assert_eq!(service.attribute(&work, QueueAttributeName::RedrivePolicy).await, None);
    })
    .await;
}

#[tokio::test]
async fn a_message_arrives_as_it_was_sent_with_its_attributes_and_digests() {
    everywhere("round-trip", async |service| {
        // given
        let url = service.queue("q", &[]).await;
        let number = MessageAttributeValue::builder()
            .data_type("Number.tries")
            .string_value("10")
            .build();
        let binary = MessageAttributeValue::builder()
            .data_type("Binary")
            .binary_value(Blob::new([0, 1, 255]))
            .build();
        let body = "{\"branch_id\": \"1\", \"text\": \"ünï \u{1F4C4}\\n\"}\n\t";
        // when
        let sent = service
            .sqs
            .send_message()
            .queue_url(&url)
            .message_body(body)
            .message_attributes("run.id", text("2026-11-21T01:00:00Z"))
            .message_attributes("run.tries", number.expect("an attribute"))
            .message_attributes("bytes", binary.expect("an attribute"))
            .send()
            .await
            .expect("sent");
        let received = service.receive(&url, 30).await;
        // then
        let message = &received[0];
        assert_eq!(message.body(), Some(body));
        assert_eq!(message.message_id(), sent.message_id());
        assert_eq!(message.md5_of_body(), sent.md5_of_message_body());
        assert_eq!(
            message.md5_of_body(),
            Some(format!("{:x}", md5::compute(body)).as_str())
        );
        assert_eq!(message.md5_of_message_attributes(), sent.md5_of_message_attributes());
        assert!(
            sent.md5_of_message_attributes()
                .is_some_and(|digest| digest.len() == 32)
        );
        let attributes = message.message_attributes().expect("attributes");
        assert_eq!(attributes.len(), 3);
        assert_eq!(attributes["run.id"].string_value(), Some("2026-11-21T01:00:00Z"));
        assert_eq!(attributes["run.tries"].data_type(), "Number.tries");
        assert_eq!(attributes["bytes"].binary_value(), Some(&Blob::new([0, 1, 255])));
        assert_eq!(
            system(message, MessageSystemAttributeName::ApproximateReceiveCount),
            Some("1")
        );
        let sent_at = system(message, MessageSystemAttributeName::SentTimestamp);
        assert!(
            sent_at.is_some_and(|time| time.len() == 13),
            "milliseconds: {sent_at:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn only_the_attributes_that_are_asked_for_are_returned() {
    everywhere("wanted-attributes", async |service| {
        let url = service.queue("q", &[]).await;
        for (wanted, expected) in [
            (vec![], vec![]),
            (vec!["run.*"], vec!["run.at", "run.id"]),
            (vec!["reason", "absent"], vec!["reason"]),
            (vec![".*"], vec!["reason", "run.at", "run.id"]),
        ] {
            let sent = service
                .sqs
                .send_message()
                .queue_url(&url)
                .message_body("x")
                .message_attributes("run.id", text("1"))
                .message_attributes("run.at", text("2"))
                .message_attributes("reason", text("3"));
            sent.send().await.expect("sent");
            let receive = service.sqs.receive_message().queue_url(&url);
            let receive = receive.set_message_attribute_names(Some(wanted.iter().map(|&name| name.into()).collect()));
            let message = &receive.send().await.expect("received").messages.unwrap_or_default()[0];
            let mut names: Vec<_> = message
                .message_attributes()
                .into_iter()
                .flatten()
                .map(|(name, _)| name.as_str())
                .collect();
            names.sort_unstable();
            assert_eq!(names, expected, "{wanted:?}");
            assert_eq!(message.attributes(), None);
        }
    })
    .await;
}

#[tokio::test]
async fn a_received_message_is_hidden_until_its_visibility_timeout_is_over() {
    everywhere("visibility", async |service| {
        // given
        let url = service.queue("q", &[]).await;
        let id = service.send(&url, "x").await;
        // when
        let first = service.receive(&url, 1).await;
        // then
        assert_eq!(first.len(), 1);
        assert_eq!(service.counts(&url).await, ["0", "1", "0"]);
        assert!(service.receive(&url, 1).await.is_empty());
        service.pass(Duration::from_millis(1100)).await;
        assert_eq!(service.counts(&url).await, ["1", "0", "0"]);
        let second = service.receive(&url, 30).await;
        assert_eq!(second[0].message_id(), Some(id.as_str()));
        let count = MessageSystemAttributeName::ApproximateReceiveCount;
        assert_eq!(system(&second[0], count), Some("2"));
        let first_time = MessageSystemAttributeName::ApproximateFirstReceiveTimestamp;
        assert_eq!(system(&second[0], first_time.clone()), system(&first[0], first_time));
        assert_ne!(second[0].receipt_handle(), first[0].receipt_handle());
    })
    .await;
}

#[tokio::test]
async fn a_receive_with_no_visibility_timeout_hides_nothing() {
    everywhere("visibility-zero", async |service| {
        let url = service.queue("q", &[]).await;
        service.send(&url, "x").await;
        for count in ["1", "2", "3"] {
            let received = service.receive(&url, 0).await;
            assert_eq!(received.len(), 1);
            assert_eq!(
                system(&received[0], MessageSystemAttributeName::ApproximateReceiveCount),
                Some(count)
            );
        }
        assert_eq!(service.counts(&url).await, ["1", "0", "0"]);
    })
    .await;
}

#[tokio::test]
async fn a_message_can_be_handed_back_or_kept_longer() {
    everywhere("change-visibility", async |service| {
        let url = service.queue("q", &[]).await;
        service.send(&url, "x").await;
        let change = |handle: &str, seconds| {
            let change = service.sqs.change_message_visibility().queue_url(&url);
            change.receipt_handle(handle).visibility_timeout(seconds).send()
        };

        let received = service.receive(&url, 1).await;
        change(receipt(&received[0]), 60).await.expect("kept longer");
        service.pass(Duration::from_millis(1100)).await;
        assert!(service.receive(&url, 30).await.is_empty());

        change(receipt(&received[0]), 0).await.expect("handed back");
        assert_eq!(service.receive(&url, 30).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn visibility_is_changed_only_within_bounds_and_by_a_receipt() {
    everywhere("change-visibility-bounds", async |service| {
        let url = service.queue("q", &[]).await;
        service.send(&url, "x").await;
        let received = service.receive(&url, 30).await;
        for (handle, seconds, expected) in [
            (receipt(&received[0]), 43_201, "InvalidParameterValue"),
            (receipt(&received[0]), -1, "InvalidParameterValue"),
            ("nonsense", 10, "ReceiptHandleIsInvalid"),
        ] {
            let change = service.sqs.change_message_visibility().queue_url(&url);
            let change = change.receipt_handle(handle).visibility_timeout(seconds);
            assert_eq!(code(change.send().await), expected, "{handle} {seconds}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_visibility_of_what_is_not_in_flight_cannot_be_changed() {
    everywhere("not-in-flight", async |service| {
        let url = service.queue("q", &[]).await;
        service.send(&url, "x").await;
        let received = service.receive(&url, 0).await;
        let change = service.sqs.change_message_visibility().queue_url(&url);
        let change = change.receipt_handle(receipt(&received[0])).visibility_timeout(10);
        assert_eq!(code(change.send().await), "AWS.SimpleQueueService.MessageNotInflight");
    })
    .await;
}

#[tokio::test]
async fn a_message_cannot_be_hidden_for_more_than_twelve_hours_since_its_receive() {
    let service = Service::embedded("twelve".into()).await;
    let url = service.queue("q", &[]).await;
    service.send(&url, "x").await;
    let received = service.receive(&url, 30).await;
    service.pass(Duration::from_secs(10)).await;
    let change = |seconds| {
        let change = service.sqs.change_message_visibility().queue_url(&url);
        change
            .receipt_handle(receipt(&received[0]))
            .visibility_timeout(seconds)
            .send()
    };
    assert_eq!(code(change(43_200).await), "InvalidParameterValue");
    change(43_180).await.expect("within twelve hours");
}

#[tokio::test]
async fn a_deleted_message_is_gone() {
    everywhere("delete", async |service| {
        let url = service.queue("q", &[]).await;
        service.send(&url, "x").await;
        let received = service.receive(&url, 0).await;
        let delete = |handle: &str| {
            let delete = service.sqs.delete_message().queue_url(&url);
            delete.receipt_handle(handle).send()
        };
        delete(receipt(&received[0])).await.expect("deleted");
        assert_eq!(service.counts(&url).await, ["0", "0", "0"]);
        assert_eq!(code(delete("nonsense").await), "ReceiptHandleIsInvalid");
    })
    .await;
}

#[tokio::test]
async fn a_message_may_be_deleted_twice() {
    everywhere("delete-twice", async |service| {
        let url = service.queue("q", &[]).await;
        service.send(&url, "x").await;
        let received = service.receive(&url, 30).await;
        for _ in 0..2 {
            let delete = service.sqs.delete_message().queue_url(&url);
            let delete = delete.receipt_handle(receipt(&received[0])).send();
            delete.await.expect("deleted");
        }
    })
    .await;
}

#[tokio::test]
async fn a_receipt_of_an_earlier_receive_deletes_nothing() {
    everywhere("stale-receipt", async |service| {
        let url = service.queue("q", &[]).await;
        service.send(&url, "x").await;
        let first = service.receive(&url, 0).await;
        let second = service.receive(&url, 30).await;
        let delete = |handle: &str| {
            let delete = service.sqs.delete_message().queue_url(&url);
            delete.receipt_handle(handle).send()
        };
        delete(receipt(&first[0])).await.expect("no error");
        assert_eq!(service.counts(&url).await, ["0", "1", "0"]);
        delete(receipt(&second[0])).await.expect("deleted");
        assert_eq!(service.counts(&url).await, ["0", "0", "0"]);
    })
    .await;
}

#[tokio::test]
async fn a_delayed_message_is_not_there_before_its_time() {
    everywhere("delay", async |service| {
        let url = service.queue("q", &[(QueueAttributeName::DelaySeconds, "60")]).await;
        let send = |body: &str, delay| {
            let send = service.sqs.send_message().queue_url(&url).message_body(body);
            send.delay_seconds(delay).send()
        };
        send("at once", 0).await.expect("sent");
        send("soon", 1).await.expect("sent");
        service.send(&url, "as the queue says").await;
        assert_eq!(service.counts(&url).await, ["1", "0", "2"]);
        assert_eq!(bodies(&service.receive(&url, 30).await), ["at once"]);
        service.pass(Duration::from_millis(1100)).await;
        assert_eq!(bodies(&service.receive(&url, 30).await), ["soon"]);
        assert_eq!(service.counts(&url).await, ["0", "2", "1"]);
    })
    .await;
}

#[tokio::test]
async fn a_long_poll_ends_when_a_message_is_sent() {
    everywhere("long-poll-send", async |service| {
        let url = service.queue("q", &[]).await;
        let began = Instant::now();
        let poll = service.sqs.receive_message().queue_url(&url).wait_time_seconds(20);
        let poll = tokio::spawn(poll.send());
        service.send(&url, "x").await;
        let received = poll.await.expect("no panic").expect("an answer");
        assert_eq!(received.messages().len(), 1);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    })
    .await;
}

#[tokio::test]
async fn a_long_poll_ends_when_a_message_becomes_visible() {
    everywhere("long-poll-visible", async |service| {
        let url = service.queue("q", &[]).await;
        service.send(&url, "x").await;
        assert_eq!(service.receive(&url, 1).await.len(), 1);
        let began = Instant::now();
        let poll = service.sqs.receive_message().queue_url(&url).wait_time_seconds(20);
        let received = poll.send().await.expect("an answer");
        assert_eq!(received.messages().len(), 1);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    })
    .await;
}

#[tokio::test]
async fn a_long_poll_ends_when_a_message_is_handed_back() {
    everywhere("long-poll-handed-back", async |service| {
        let url = service.queue("q", &[]).await;
        service.send(&url, "x").await;
        let held = service.receive(&url, 60).await;
        let began = Instant::now();
        let poll = service.sqs.receive_message().queue_url(&url).wait_time_seconds(20);
        let poll = tokio::spawn(poll.send());
        let change = service.sqs.change_message_visibility().queue_url(&url);
        let change = change.receipt_handle(receipt(&held[0])).visibility_timeout(0);
        change.send().await.expect("handed back");
        let received = poll.await.expect("no panic").expect("an answer");
        assert_eq!(received.messages().len(), 1);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    })
    .await;
}

#[tokio::test]
async fn a_long_poll_that_finds_nothing_ends_after_its_time_with_no_messages() {
    everywhere("long-poll-empty", async |service| {
        let url = service
            .queue("q", &[(QueueAttributeName::ReceiveMessageWaitTimeSeconds, "1")])
            .await;
        let began = Instant::now();
        let received = service.sqs.receive_message().queue_url(&url).send().await;
        assert!(received.expect("an answer").messages.is_none());
        assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    })
    .await;
}

#[tokio::test]
async fn advancing_the_clock_makes_messages_due_and_wakes_long_polls() {
    let service = Service::embedded("advance".into()).await;
    let url = service.queue("q", &[]).await;
    let send = service.sqs.send_message().queue_url(&url).message_body("x");
    send.delay_seconds(900).send().await.expect("sent");
    let began = Instant::now();
    let poll = service.sqs.receive_message().queue_url(&url).wait_time_seconds(20);
    let mut poll = tokio::spawn(poll.send());
    // Until the poll is under way there is nothing to wake; before its time it has nothing to tell.
    let (cloud, clock) = service.embedded.as_ref().expect("embedded");
    while cloud.requests().get("SQS.ReceiveMessage") != Some(&1) {
        tokio::task::yield_now().await;
    }
    assert!((&mut poll).now_or_never().is_none());
    assert!(clock.advance(Duration::from_secs(900)));
    cloud.time_moved();
    let received = poll.await.expect("no panic").expect("an answer");
    assert_eq!(received.messages().len(), 1);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_message_is_kept_as_long_as_the_queue_says() {
    let service = Service::embedded("retention".into()).await;
    let url = service
        .queue("q", &[(QueueAttributeName::MessageRetentionPeriod, "60")])
        .await;
    service.send(&url, "x").await;
    service.pass(Duration::from_secs(59)).await;
    assert_eq!(service.counts(&url).await, ["1", "0", "0"]);
    service.pass(Duration::from_secs(1)).await;
    assert_eq!(service.counts(&url).await, ["0", "0", "0"]);
    assert!(service.receive(&url, 30).await.is_empty());
}

#[tokio::test]
async fn a_receive_of_no_or_too_many_messages_is_refused() {
    everywhere("receive-bounds", async |service| {
        let url = service.queue("q", &[]).await;
        let receive = || service.sqs.receive_message().queue_url(&url);
        for wrong in [
            receive().max_number_of_messages(0),
            receive().max_number_of_messages(11),
        ] {
            let input = format!("{:?}", wrong.as_input());
            assert_eq!(code(wrong.send().await), "InvalidParameterValue", "{input}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_receive_waits_and_hides_only_within_bounds() {
    everywhere("receive-time-bounds", async |service| {
        let url = service.queue("q", &[]).await;
        let receive = || service.sqs.receive_message().queue_url(&url);
        for wrong in [
            receive().wait_time_seconds(21),
            receive().wait_time_seconds(-1),
            receive().visibility_timeout(43_201),
            receive().visibility_timeout(-1),
        ] {
            let input = format!("{:?}", wrong.as_input());
            assert_eq!(code(wrong.send().await), "InvalidParameterValue", "{input}");
        }
    })
    .await;
}

#[tokio::test]
async fn messages_of_the_full_size_are_taken_and_larger_ones_refused() {
    everywhere("size", async |service| {
        let url = service.queue("q", &[]).await;
        let full = "\u{e9}".repeat(524_288);
        service.send(&url, &full).await;
        let received = service.receive(&url, 30).await;
        assert_eq!(received[0].body(), Some(full.as_str()));

        let send = |body: String| service.sqs.send_message().queue_url(&url).message_body(body);
        assert_eq!(code(send(format!("{full}x")).send().await), "InvalidParameterValue");
    })
    .await;
}

#[tokio::test]
async fn attributes_count_against_the_size_of_a_message() {
    everywhere("size-attributes", async |service| {
        let url = service.queue("q", &[]).await;
        // Name, type and value: 6 + 6 + 1 bytes.
        for (body, fits) in [(1_048_576 - 13, true), (1_048_576 - 12, false)] {
            let send = service.sqs.send_message().queue_url(&url);
            let send = send
                .message_body("x".repeat(body))
                .message_attributes("reason", text("x"));
            assert_eq!(send.send().await.is_ok(), fits, "{body}");
        }
    })
    .await;
}

#[tokio::test]
async fn messages_that_aws_refuses_are_refused() {
    everywhere("refused-messages", async |service| {
        let url = service.queue("q", &[]).await;
        let send = |body: &str| service.sqs.send_message().queue_url(&url).message_body(body);
        assert_eq!(code(send("").send().await), "MissingParameter");
        assert_eq!(code(send("a\u{0}b").send().await), "InvalidMessageContents");
        assert_eq!(code(send("\u{ffff}").send().await), "InvalidMessageContents");
        assert_eq!(service.counts(&url).await, ["0", "0", "0"]);
    })
    .await;
}

#[tokio::test]
async fn a_delay_out_of_bounds_is_refused() {
    everywhere("delay-bounds", async |service| {
        let url = service.queue("q", &[]).await;
        for delay in [901, -1] {
            let send = service.sqs.send_message().queue_url(&url).message_body("x");
            assert_eq!(code(send.delay_seconds(delay).send().await), "InvalidParameterValue");
        }
    })
    .await;
}

#[tokio::test]
async fn attributes_that_aws_refuses_are_refused() {
    everywhere("refused-attributes", async |service| {
        let url = service.queue("q", &[]).await;
        let send = || service.sqs.send_message().queue_url(&url).message_body("x");
        for name in ["AWS.reason", "amazon.x", ".a", "a.", "a..b", "a b", &"x".repeat(257)] {
            let sent = send().message_attributes(name, text("x")).send().await;
            assert_eq!(code(sent), "InvalidParameterValue", "{name}");
        }
        let typed = |kind: &str, value: &str| {
            let value = MessageAttributeValue::builder().data_type(kind).string_value(value);
            send().message_attributes("name", value.build().expect("an attribute"))
        };
        for (kind, value) in [("String", ""), ("Boolean", "true"), ("Number", "ten"), ("Binary", "x")] {
            let sent = typed(kind, value).send().await;
            assert_eq!(code(sent), "InvalidParameterValue", "{kind} {value}");
        }
        let eleven = (0..11).fold(send(), |send, number| {
            send.message_attributes(format!("a{number}"), text("x"))
        });
        assert_eq!(code(eleven.send().await), "InvalidParameterValue");
    })
    .await;
}

#[tokio::test]
async fn a_batch_is_refused_as_a_whole_if_its_entries_are_not_as_they_must_be() {
    everywhere("batch-bounds", async |service| {
        let url = service.queue("q", &[]).await;
        let send = |entries| {
            let batch = service.sqs.send_message_batch().queue_url(&url);
            batch.set_entries(Some(entries)).send()
        };
        let prefixed = |name: &str| format!("AWS.SimpleQueueService.{name}");
        assert_eq!(code(send(vec![]).await), prefixed("EmptyBatchRequest"));
        let eleven = (0..11).map(|id| entry(id.to_string(), "x")).collect();
        assert_eq!(code(send(eleven).await), prefixed("TooManyEntriesInBatchRequest"));
        let twice = vec![entry("a", "x"), entry("a", "y")];
        assert_eq!(code(send(twice).await), prefixed("BatchEntryIdsNotDistinct"));
        for id in ["", "a b", &"x".repeat(81)] {
            assert_eq!(
                code(send(vec![entry(id, "x")]).await),
                prefixed("InvalidBatchEntryId"),
                "{id:?}"
            );
        }
        let half = "x".repeat(524_288);
        let long = vec![entry("a", &half), entry("b", &half), entry("c", "x")];
        assert_eq!(code(send(long).await), prefixed("BatchRequestTooLong"));
        let full = vec![entry("a", &half), entry("b", &half)];
        assert_eq!(send(full).await.expect("a full batch").successful().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn one_bad_entry_of_a_batch_keeps_no_other_from_being_sent() {
    everywhere("batch-partial", async |service| {
        let url = service.queue("q", &[]).await;
        let batch = service
            .sqs
            .send_message_batch()
            .queue_url(&url)
            .entries(entry("good", "y"))
            .entries(entry("control", "\u{1}"));
        let answer = batch.send().await.expect("an answer");
        let good: Vec<_> = answer.successful().iter().map(|entry| entry.id()).collect();
        let bad: Vec<_> = answer
            .failed()
            .iter()
            .map(|entry| (entry.id(), entry.code(), entry.sender_fault()))
            .collect();
        assert_eq!(good, ["good"]);
        assert_eq!(bad, [("control", "InvalidMessageContents", true)]);
        assert_eq!(bodies(&service.receive(&url, 30).await), ["y"]);
    })
    .await;
}

#[tokio::test]
async fn receipts_can_be_used_in_batches() {
    everywhere("receipt-batches", async |service| {
        let url = service.queue("q", &[]).await;
        for body in ["a", "b", "c"] {
            service.send(&url, body).await;
        }
        let mut received = Vec::new();
        while received.len() < 3 {
            received.extend(service.receive(&url, 60).await);
        }
        let back = |id: &str, handle: &str| {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id(id);
            entry
                .receipt_handle(handle)
                .visibility_timeout(0)
                .build()
                .expect("an entry")
        };
        let changed = service
            .sqs
            .change_message_visibility_batch()
            .queue_url(&url)
            .entries(back("known", receipt(&received[0])))
            .entries(back("unknown", "nonsense"))
            .send()
            .await
            .expect("an answer");
        assert_eq!(changed.successful()[0].id(), "known");
        assert_eq!(changed.failed()[0].code(), "ReceiptHandleIsInvalid");
        assert_eq!(service.counts(&url).await, ["1", "2", "0"]);

        let gone = |id: &str, handle: &str| {
            let entry = DeleteMessageBatchRequestEntry::builder().id(id);
            entry.receipt_handle(handle).build().expect("an entry")
        };
        let deleted = service
            .sqs
            .delete_message_batch()
            .queue_url(&url)
            .entries(gone("one", receipt(&received[1])))
            .entries(gone("unknown", "nonsense"))
            .entries(gone("two", receipt(&received[2])))
            .send()
            .await
            .expect("an answer");
        assert_eq!(deleted.successful().len(), 2);
        assert_eq!(deleted.failed()[0].id(), "unknown");
        assert_eq!(service.counts(&url).await, ["1", "0", "0"]);
    })
    .await;
}

#[tokio::test]
async fn a_message_received_too_often_becomes_a_dead_letter_as_it_was() {
    everywhere("dead-letter", async |service| {
        // given
        let (work, dead) = service.redriven_queue(2).await;
        let send = service.sqs.send_message().queue_url(&work).message_body("poison");
        let send = send.message_attributes("run", text("1"));
        let id = send.send().await.expect("sent").message_id;
        let mut sent_at = None;
        for _ in 0..2 {
            let received = service.receive(&work, 0).await;
            assert_eq!(received.len(), 1);
            sent_at = system(&received[0], MessageSystemAttributeName::SentTimestamp).map(str::to_owned);
        }
        assert_eq!(service.counts(&dead).await, ["0", "0", "0"]);
        // when
        let third = service.receive(&work, 0).await;
        // then
        assert!(third.is_empty());
        assert_eq!(service.counts(&work).await, ["0", "0", "0"]);
        let letters = service.receive(&dead, 30).await;
        assert_eq!(bodies(&letters), ["poison"]);
        assert_eq!(letters[0].message_id(), id.as_deref());
        assert_eq!(
            letters[0].message_attributes().expect("attributes")["run"].string_value(),
            Some("1")
        );
        let system = |name| system(&letters[0], name).map(str::to_owned);
        assert_eq!(system(MessageSystemAttributeName::SentTimestamp), sent_at);
    })
    .await;
}

#[tokio::test]
async fn a_dead_letter_tells_where_it_came_from_and_counts_all_receives() {
    everywhere("dead-letter-source", async |service| {
        let (work, dead) = service.redriven_queue(1).await;
        service.send(&work, "poison").await;
        assert_eq!(service.receive(&work, 0).await.len(), 1);
        assert!(service.receive(&work, 0).await.is_empty());
        let letters = service.receive(&dead, 30).await;
        let source = service.attribute(&work, QueueAttributeName::QueueArn).await;
        let name = MessageSystemAttributeName::DeadLetterQueueSourceArn;
        assert_eq!(system(&letters[0], name), source.as_deref());
        let count = MessageSystemAttributeName::ApproximateReceiveCount;
        assert_eq!(system(&letters[0], count), Some("2"));
    })
    .await;
}

#[tokio::test]
async fn dead_letters_do_not_keep_a_receive_from_the_messages_behind_them() {
    everywhere("dead-letters-ahead", async |service| {
        let (work, dead) = service.redriven_queue(1).await;
        for _ in 0..12 {
            service.send(&work, "poison").await;
        }
        let mut received = 0;
        while received < 12 {
            received += service.receive(&work, 1).await.len();
        }
        service.pass(Duration::from_millis(1100)).await;
        service.send(&work, "good").await;
        let received = service.sqs.receive_message().queue_url(&work).wait_time_seconds(2);
        let received = received.send().await.expect("an answer");
        assert_eq!(bodies(received.messages()), ["good"]);
        assert_eq!(service.counts(&dead).await, ["12", "0", "0"]);
    })
    .await;
}

#[tokio::test]
async fn the_sources_of_a_dead_letter_queue_are_listed() {
    everywhere("dead-letter-sources", async |service| {
        let (work, dead) = service.redriven_queue(1).await;
        let sources = service.sqs.list_dead_letter_source_queues();
        let sources = sources.queue_url(&dead).send().await.expect("a list");
        assert_eq!(sources.queue_urls(), std::slice::from_ref(&work));
        let none = service.sqs.list_dead_letter_source_queues();
        assert!(
            none.queue_url(&work)
                .send()
                .await
                .expect("a list")
                .queue_urls()
                .is_empty()
        );
    })
    .await;
}

#[tokio::test]
async fn dead_letters_are_redriven_to_where_they_came_from_as_new_messages() {
    everywhere("redrive", async |service| {
        // given
        let (work, dead) = service.redriven_queue(1).await;
        let id = service.send(&work, "poison").await;
        assert_eq!(service.receive(&work, 0).await.len(), 1);
        assert!(service.receive(&work, 0).await.is_empty());
        let arn = service
            .attribute(&dead, QueueAttributeName::QueueArn)
            .await
            .expect("ARN");
        // when
        let start = service.sqs.start_message_move_task().source_arn(&arn);
        start.send().await.expect("a task");
        // then
        let poll = service.sqs.receive_message().queue_url(&work).wait_time_seconds(5);
        let poll = poll.message_system_attribute_names(MessageSystemAttributeName::All);
        let received = poll.send().await.expect("an answer").messages.unwrap_or_default();
        assert_eq!(bodies(&received), ["poison"]);
        assert_ne!(received[0].message_id(), Some(id.as_str()));
        let count = MessageSystemAttributeName::ApproximateReceiveCount;
        assert_eq!(system(&received[0], count), Some("1"));
        assert_eq!(service.counts(&dead).await, ["0", "0", "0"]);
        let tasks = service.sqs.list_message_move_tasks().source_arn(&arn);
        let tasks = tasks.send().await.expect("a list");
        let task = &tasks.results()[0];
        assert_eq!(task.status(), Some("COMPLETED"));
        assert_eq!(task.approximate_number_of_messages_moved(), 1);
        assert_eq!(task.approximate_number_of_messages_to_move(), Some(1));
    })
    .await;
}

#[tokio::test]
async fn a_message_sent_to_a_dead_letter_queue_is_redriven_only_to_a_queue_that_is_named() {
    everywhere("redrive-destination", async |service| {
        let (work, dead) = service.redriven_queue(1).await;
        service.send(&dead, "by hand").await;
        let arn = async |url: &str| service.attribute(url, QueueAttributeName::QueueArn).await.expect("ARN");
        let (work_arn, dead_arn) = (arn(&work).await, arn(&dead).await);
        let start = || service.sqs.start_message_move_task().source_arn(&dead_arn);
        let latest = async || {
            let list = service.sqs.list_message_move_tasks().source_arn(&dead_arn);
            list.send().await.expect("a list").results()[0].clone()
        };

        start().send().await.expect("a task");
        let mut task = latest().await;
        while task.status() == Some("RUNNING") {
            task = latest().await;
        }
        assert_eq!(task.status(), Some("FAILED"));
        assert_eq!(task.failure_reason(), Some("CouldNotDetermineMessageSource"));
        assert_eq!(service.counts(&dead).await, ["1", "0", "0"]);

        start().destination_arn(&work_arn).send().await.expect("a task");
        let poll = service.sqs.receive_message().queue_url(&work).wait_time_seconds(5);
        assert_eq!(bodies(poll.send().await.expect("an answer").messages()), ["by hand"]);
    })
    .await;
}

#[tokio::test]
async fn a_redrive_keeps_its_pace_runs_alone_and_can_be_cancelled() {
    everywhere("redrive-pace", async |service| {
        let (work, dead) = service.redriven_queue(1).await;
        for body in ["a", "b", "c", "d"] {
            service.send(&dead, body).await;
        }
        let arn = async |url: &str| service.attribute(url, QueueAttributeName::QueueArn).await.expect("ARN");
        let (work_arn, dead_arn) = (arn(&work).await, arn(&dead).await);
        let start = || {
            let start = service.sqs.start_message_move_task().source_arn(&dead_arn);
            start.destination_arn(&work_arn).max_number_of_messages_per_second(1)
        };
        let handle = start().send().await.expect("a task").task_handle.expect("its handle");
        assert_eq!(code(start().send().await), "InvalidParameterValue");

        let cancel = || service.sqs.cancel_message_move_task().task_handle(&handle).send();
        let moved = cancel()
            .await
            .expect("cancelled")
            .approximate_number_of_messages_moved();
        assert!(moved < 4, "{moved} moved at once");
        let list = || service.sqs.list_message_move_tasks().source_arn(&dead_arn).send();
        while list().await.expect("a list").results()[0].status() != Some("CANCELLED") {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_ne!(service.counts(&dead).await[0], "0");
        let unknown = service.sqs.cancel_message_move_task().task_handle("unknown").send();
        assert_eq!(code(unknown.await), "ResourceNotFoundException");
    })
    .await;
}

#[tokio::test]
async fn only_a_dead_letter_queue_can_be_redriven() {
    everywhere("redrive-refused", async |service| {
        let url = service.queue("q", &[]).await;
        let arn = service
            .attribute(&url, QueueAttributeName::QueueArn)
            .await
            .expect("ARN");
        let start = |arn: &str| service.sqs.start_message_move_task().source_arn(arn).send();
        assert_eq!(code(start(&arn).await), "InvalidParameterValue");
        assert_eq!(
            code(start(&format!("{arn}-missing")).await),
            "ResourceNotFoundException"
        );
    })
    .await;
}

#[tokio::test]
async fn a_queue_is_purged_at_most_once_a_minute() {
    everywhere("purge", async |service| {
        let url = service.queue("q", &[]).await;
        for body in ["a", "b"] {
            service.send(&url, body).await;
        }
        service.receive(&url, 30).await;
        let purge = || service.sqs.purge_queue().queue_url(&url).send();
        purge().await.expect("purged");
        assert_eq!(service.counts(&url).await, ["0", "0", "0"]);
        assert_eq!(code(purge().await), "AWS.SimpleQueueService.PurgeQueueInProgress");
    })
    .await;
}

#[tokio::test]
async fn a_queue_can_be_tagged() {
    everywhere("tags", async |service| {
        let url = service.queue("q", &[]).await;
        let tag = service.sqs.tag_queue().queue_url(&url);
        tag.tags("project", "cascade")
            .tags("stage", "dev")
            .send()
            .await
            .expect("tagged");
        let untag = service.sqs.untag_queue().queue_url(&url).tag_keys("stage");
        untag.send().await.expect("untagged");
        let tags = service
            .sqs
            .list_queue_tags()
            .queue_url(&url)
            .send()
            .await
            .expect("tags");
        let tags = tags.tags().expect("tags");
        assert_eq!(tags.len(), 1);
        assert_eq!(tags["project"], "cascade");
    })
    .await;
}

#[tokio::test]
async fn an_action_that_is_not_provided_says_what_is() {
    let service = Service::embedded("action".into()).await;
    let url = service.queue("q", &[]).await;
    let remove = service.sqs.remove_permission().queue_url(&url).label("x");
    let error = remove.send().await.expect_err("not provided").into_service_error();
    assert_eq!(error.code(), Some("InvalidAction"));
    let message = error.message().unwrap_or_default();
    assert!(
        message.contains("RemovePermission") && message.contains("SendMessageBatch"),
        "{message}"
    );
}
