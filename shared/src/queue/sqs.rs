//! The queues on SQS: the only module that knows its SDK.

use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::SdkError;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
    MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName, SendMessageBatchRequestEntry,
};
use serde::Deserialize;
use tokio::sync::OnceCell;

use super::{DeadLetter, MAX_DELAY, Message, Outbox, QueueError, WorkQueue};
use crate::jitter::Jitter;

/// How many entries SQS takes in a batch.
const BATCH: usize = 10;

/// How often the failed entries of a batch are sent again before that is an error.
const BATCH_TRIES: u32 = 6;

/// The wait before failed entries are sent again; it doubles from try to try.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// The bytes of bodies that go into one batch: under SQS's oldest and smallest limit, whatever the account's is.
const BATCH_BYTES: usize = 200_000;

/// How much of a reason goes into a message attribute.
const MAX_REASON_CHARACTERS: usize = 1000;

/// One queue of SQS.
pub struct SqsQueue {
    client: Client,
    url: String,
    jitter: Jitter,
    dead_letter_url: OnceCell<String>,
}

impl SqsQueue {
    /// The queue at `url`.
    pub fn new(client: Client, url: String, jitter: Jitter) -> Self {
        Self {
            client,
            url,
            jitter,
            dead_letter_url: OnceCell::new(),
        }
    }

    /// The URL of this queue's dead-letter queue, found through its redrive policy.
    async fn dead_letter_url(&self) -> Result<&str, QueueError> {
        let find = || async {
            let attributes = self
                .client
                .get_queue_attributes()
                .queue_url(&self.url)
                .attribute_names(QueueAttributeName::RedrivePolicy)
                .send()
                .await
                .map_err(|error| service("tell a queue's redrive policy", error))?;
            let arn = attributes
                .attributes()
                .and_then(|attributes| attributes.get(&QueueAttributeName::RedrivePolicy))
                .and_then(|policy| serde_json::from_str::<RedrivePolicy>(policy).ok())
                .map(|policy| policy.dead_letter_target_arn)
                .ok_or_else(|| QueueError::NoDeadLetterQueue(self.url.clone()))?;
            // arn:aws:sqs:region:account:name
            let mut parts = arn.rsplit(':');
            let (Some(name), Some(account)) = (parts.next(), parts.next()) else {
                return Err(QueueError::NoDeadLetterQueue(self.url.clone()));
            };
            let found = self
                .client
                .get_queue_url()
                .queue_name(name)
                .queue_owner_aws_account_id(account)
                .send()
                .await
                .map_err(|error| service("find a dead-letter queue", error))?;
            found
                .queue_url
                .ok_or_else(|| QueueError::NoDeadLetterQueue(self.url.clone()))
        };
        self.dead_letter_url.get_or_try_init(find).await.map(String::as_str)
    }

    /// Sends entries in batches, and the failed ones of each again.
    async fn in_batches<E, F, Fut>(&self, action: &'static str, batches: Vec<Vec<E>>, send: F) -> Result<(), QueueError>
    where
        E: Clone,
        F: Fn(Vec<E>) -> Fut,
        Fut: Future<Output = Result<Vec<BatchResultErrorEntry>, QueueError>>,
    {
        let all = batches.iter().map(Vec::len).sum();
        let (mut lost, mut last_reason) = (0, String::new());
        for batch in batches {
            let mut entries = batch;
            let mut tries = 0;
            loop {
                let failed = send(entries.clone()).await?;
                tries += 1;
                // The entries' ids are their places in the batch.
                let again = |error: &BatchResultErrorEntry| !error.sender_fault && tries < BATCH_TRIES;
                if let Some(error) = failed.iter().rfind(|error| !again(error)) {
                    last_reason = format!("{} {}", error.code(), error.message().unwrap_or_default());
                }
                lost += failed.iter().filter(|error| !again(error)).count();
                entries = failed
                    .iter()
                    .filter(|error| again(error))
                    .filter_map(|error| entries.get(error.id().parse::<usize>().ok()?).cloned())
                    .collect();
                if entries.is_empty() {
                    break;
                }
                tokio::time::sleep(self.jitter.around(FIRST_BACKOFF * 2u32.pow(tries - 1))).await;
            }
        }
        if lost == 0 {
            return Ok(());
        }
        Err(QueueError::Entries {
            action,
            failed: lost,
            all,
            reason: last_reason,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RedrivePolicy {
    dead_letter_target_arn: String,
}

#[async_trait]
impl Outbox for SqsQueue {
    async fn send(&self, bodies: Vec<String>, delay: Duration) -> Result<(), QueueError> {
        let delay = i32::try_from(delay.min(MAX_DELAY).as_secs()).unwrap_or(0);
        self.in_batches("take", batches_by_size(bodies), |bodies| async move {
            let entries = numbered(bodies, |id, body| {
                SendMessageBatchRequestEntry::builder()
                    .id(id)
                    .message_body(body)
                    .delay_seconds(delay)
                    .build()
            })?;
            let sent = self
                .client
                .send_message_batch()
                .queue_url(&self.url)
                .set_entries(Some(entries))
                .send()
                .await;
            Ok(sent.map_err(|error| service("take messages", error))?.failed)
        })
        .await
    }
}

#[async_trait]
impl WorkQueue for SqsQueue {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Message>, QueueError> {
        let received = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::try_from(max.clamp(1, BATCH)).unwrap_or(1))
            .wait_time_seconds(i32::try_from(wait.as_secs()).unwrap_or(0))
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .send()
            .await
            .map_err(|error| service("give messages", error))?;
        let messages = received
            .messages
            .unwrap_or_default()
            .into_iter()
            .map(|message| Message {
                receive_count: message
                    .attributes
                    .as_ref()
                    .and_then(|attributes| attributes.get(&MessageSystemAttributeName::ApproximateReceiveCount))
                    .and_then(|count| count.parse().ok())
                    .unwrap_or(1),
                id: message.message_id.unwrap_or_default(),
                body: message.body.unwrap_or_default(),
                receipt: message.receipt_handle.unwrap_or_default(),
            });
        Ok(messages.collect())
    }

    async fn delete(&self, receipts: Vec<String>) -> Result<(), QueueError> {
        self.in_batches("delete", batches(receipts), |receipts| async move {
            let entries = numbered(receipts, |id, receipt| {
                DeleteMessageBatchRequestEntry::builder()
                    .id(id)
                    .receipt_handle(receipt)
                    .build()
            })?;
            let deleted = self
                .client
                .delete_message_batch()
                .queue_url(&self.url)
                .set_entries(Some(entries))
                .send()
                .await;
            Ok(deleted.map_err(|error| service("delete messages", error))?.failed)
        })
        .await
    }

    async fn make_visible_after(&self, receipts: Vec<(String, Duration)>) -> Result<(), QueueError> {
        self.in_batches("hand back", batches(receipts), |receipts| async move {
            let entries = numbered(receipts, |id, (receipt, after)| {
                let seconds = i32::try_from(after.min(MAX_DELAY).as_secs()).unwrap_or(0);
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(id)
                    .receipt_handle(receipt)
                    .visibility_timeout(seconds)
                    .build()
            })?;
            let request = self
                .client
                .change_message_visibility_batch()
                .queue_url(&self.url)
                .set_entries(Some(entries));
            Ok(request
                .send()
                .await
                .map_err(|error| service("hand messages back", error))?
                .failed)
        })
        .await
    }

    async fn dead_letter(&self, letter: DeadLetter) -> Result<(), QueueError> {
        let url = self.dead_letter_url().await?;
        let mut request = self.client.send_message().queue_url(url).message_body(letter.body);
        for (name, value) in [("reason", letter.reason), ("run_id", letter.run_id)] {
            let attribute = MessageAttributeValue::builder()
                .data_type("String")
                .string_value(attribute_text(&value))
                .build()
                .map_err(|error| QueueError::Service {
                    action: "take a dead letter",
                    source: error.into(),
                })?;
            request = request.message_attributes(name, attribute);
        }
        request
            .send()
            .await
            .map_err(|error| service("take a dead letter", error))?;
        Ok(())
    }
}

fn batches<T>(items: Vec<T>) -> Vec<Vec<T>> {
    let mut items = items.into_iter();
    std::iter::from_fn(|| Some(items.by_ref().take(BATCH).collect::<Vec<_>>()).filter(|batch| !batch.is_empty()))
        .collect()
}

fn batches_by_size(bodies: Vec<String>) -> Vec<Vec<String>> {
    let mut batches: Vec<Vec<String>> = Vec::new();
    let mut bytes = 0;
    for body in bodies {
        bytes += body.len();
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH && bytes <= BATCH_BYTES => batch.push(body),
            _ => {
                bytes = body.len();
                batches.push(vec![body]);
            }
        }
    }
    batches
}

/// Entries with their places as ids.
fn numbered<T, E>(
    items: Vec<T>,
    entry: impl Fn(String, T) -> Result<E, aws_sdk_sqs::error::BuildError>,
) -> Result<Vec<E>, QueueError> {
    items
        .into_iter()
        .enumerate()
        .map(|(place, item)| entry(place.to_string(), item))
        .collect::<Result<_, _>>()
        .map_err(|error| QueueError::Service {
            action: "accept a batch",
            source: error.into(),
        })
}

fn service<E, R>(action: &'static str, error: SdkError<E, R>) -> QueueError
where
    E: std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    QueueError::Service {
        action,
        source: Box::new(error),
    }
}

/// A text as SQS takes it for an attribute: not empty, not too long, of characters that XML knows.
fn attribute_text(text: &str) -> String {
    let text: String = text
        .chars()
        .take(MAX_REASON_CHARACTERS)
        .map(|character| match character {
            '\t' | '\n' | '\r' | '\u{20}'..='\u{fffd}' | '\u{10000}'.. => character,
            _ => '\u{fffd}',
        })
        .collect();
    if text.is_empty() { "unknown".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_at_most_ten_entries_and_leave_none_out() {
        assert_eq!(
            batches((0..21).collect()).iter().map(Vec::len).collect::<Vec<_>>(),
            [10, 10, 1]
        );
        assert!(batches(Vec::<u8>::new()).is_empty());
    }

    #[test]
    fn batches_of_large_bodies_stay_under_the_limit_of_bytes() {
        let bodies: Vec<_> = [150_000, 50_000, 1, 250_000, 10].map(|bytes| "x".repeat(bytes)).into();
        let sizes: Vec<Vec<_>> = batches_by_size(bodies)
            .iter()
            .map(|b| b.iter().map(String::len).collect())
            .collect();
        assert_eq!(sizes, [vec![150_000, 50_000], vec![1], vec![250_000], vec![10]]);
        assert_eq!(batches_by_size(vec![String::new(); 25]).len(), 3);
    }

    #[test]
    fn a_reason_is_text_that_sqs_takes() {
        assert_eq!(attribute_text("a\u{0}b\u{ffff}c\n"), "a\u{fffd}b\u{fffd}c\n");
        assert_eq!(attribute_text(""), "unknown");
        assert_eq!(attribute_text(&"ü".repeat(5000)).chars().count(), 1000);
    }
}
