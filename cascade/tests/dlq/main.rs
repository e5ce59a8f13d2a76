//! Dead letters: looked at, sent again, thrown away.

mod command;
mod functions;
mod letters;
mod scripted;

use std::net::Ipv4Addr;

use aws_sdk_sqs::types::{MessageAttributeValue, MessageSystemAttributeName};
use cascade::cloud::{Cloud, CloudOptions, Provisioned};
use cascade::dead_letters::{DeadLetterQueue, DeadLetters, Filter, Found, Look, Newcomers, Thoroughness};
use cascade::pipeline::{Depth, depth};
use shared::clock::Clock;
use shared::jitter::Jitter;
use shared::lambda::install_tls;
use time::UtcDateTime;
use time::macros::utc_datetime;
use tokio_util::sync::CancellationToken;

/// What time it is at the start of every test.
const START: UtcDateTime = utc_datetime!(2026-11-21 01:00);

const NOT_FOUND: &str = "the vendor answered 404 Not Found";

/// A cloud in memory, whose time a test can move on.
struct House {
    cloud: Cloud,
    clock: Clock,
    places: Provisioned,
    sqs: aws_sdk_sqs::Client,
    stop: CancellationToken,
}

impl House {
    async fn start() -> Self {
        install_tls();
        let clock = Clock::starting_at(START);
        let options = CloudOptions {
            data: None,
            address: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            clock: clock.clone(),
        };
        let cloud = Cloud::start(options).await.expect("the cloud starts");
        Self {
            places: cloud.provision("test").await.expect("tables and queues"),
            sqs: aws_sdk_sqs::Client::new(&cloud.sdk_config()),
            stop: CancellationToken::new(),
            cloud,
            clock,
        }
    }

    fn dead_letters(&self) -> DeadLetters {
        DeadLetters::new(
            &self.cloud.sdk_config(),
            "test",
            Thoroughness::Exact,
            Jitter::random(),
            self.stop.clone(),
        )
    }

    async fn found(&self, queue: DeadLetterQueue) -> Found {
        self.dead_letters()
            .find(queue)
            .await
            .expect("an answer")
            .expect("a queue")
    }

    /// All letters of a queue.
    async fn look(&self, queue: DeadLetterQueue) -> Look {
        let found = self.found(queue).await;
        self.dead_letters()
            .look(&found, &Filter::default(), usize::MAX, Newcomers::Shown, &|_| {})
            .await
    }

    /// How many messages can be received from a queue at once, and how many are hidden.
    async fn waiting(&self, url: &str) -> (u64, u64) {
        let Depth { waiting, in_flight, .. } = depth(&self.sqs, url).await.expect("a depth");
        (waiting, in_flight)
    }

    fn move_on(&self, hours: u64) {
        self.clock.advance(std::time::Duration::from_secs(hours * 3600));
        self.cloud.time_moved();
    }
}

/// Sends a letter as a collector does.
async fn send_letter(sqs: &aws_sdk_sqs::Client, url: &str, body: &str, reason: &str) {
    send(
        sqs,
        url,
        body,
        &[("reason", reason), ("run_id", "2026-11-21T01:00:00Z")],
    )
    .await;
}

async fn send(sqs: &aws_sdk_sqs::Client, url: &str, body: &str, attributes: &[(&str, &str)]) {
    let mut send = sqs.send_message().queue_url(url).message_body(body);
    for (name, value) in attributes {
        let value = MessageAttributeValue::builder()
            .data_type("String")
            .string_value(*value)
            .build()
            .expect("an attribute");
        send = send.message_attributes(*name, value);
    }
    send.send().await.expect("sent");
}

/// Receives all that is visible in a queue, and leaves it hidden: bodies, how many attributes each has, and how often each was
/// received.
async fn receive_all(sqs: &aws_sdk_sqs::Client, url: &str) -> Vec<(String, usize, String)> {
    let mut all = Vec::new();
    loop {
        let receive = sqs.receive_message().queue_url(url).max_number_of_messages(10);
        let receive = receive
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::All);
        let messages = receive.send().await.expect("an answer").messages.unwrap_or_default();
        if messages.is_empty() {
            all.sort();
            return all;
        }
        for message in messages {
            let count = MessageSystemAttributeName::ApproximateReceiveCount;
            let count = message.attributes.as_ref().and_then(|all| all.get(&count)).cloned();
            let attributes = message.message_attributes.map_or(0, |attributes| attributes.len());
            all.push((message.body.unwrap_or_default(), attributes, count.unwrap_or_default()));
        }
    }
}
