//! Letters that were received, and are hidden from others until they are deleted or handed back.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use aws_sdk_sqs::types::{BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, MessageSystemAttributeName};
use futures::{StreamExt, stream};
use shared::error_chain;
use shared::queue::WorkQueue;
use shared::queue::sqs::SqsQueue;
use tokio::time::Instant;

use super::{DeadLetterError, DeadLetterQueue, HIDDEN, Letter, Thoroughness};

/// How many letters are handed back by one request, which is as many as SQS takes, and how many requests run at once.
const BATCH: usize = 10;
const TASKS: usize = 8;

/// How often letters that SQS fails to hand back are tried, and how long after the first time. The wait doubles.
const TRIES: u32 = 5;
const FIRST_BACKOFF: Duration = Duration::from_millis(100);

/// What is held of one queue.
pub(super) struct Hold {
    /// Who receives.
    receiver: aws_sdk_sqs::Client,
    /// Who hands back, and tries hard.
    sqs: aws_sdk_sqs::Client,
    url: String,
    source: SqsQueue,
    queue: DeadLetterQueue,
    thoroughness: Thoroughness,
    /// Every letter that was ever received: in a long redrive some come back, and are not to be taken for others.
    seen: HashSet<String>,
    /// Letters that came back since the last new one did.
    again: HashSet<String>,
    /// Letters that are where they go, and have no business here any more.
    delivered: HashSet<String>,
    /// The letters that are to be handed back, by their ids.
    kept: HashMap<String, Kept>,
}

/// What a letter is handed back by.
struct Kept {
    receipt: String,
    received_at: Instant,
}

/// What receiving has brought.
pub(super) enum Received {
    /// Letters that have not been received before.
    New(Vec<Letter>),
    /// There seem to be no more.
    Nothing,
    /// Letters that are kept go round and round, and nothing new comes between them: there may or may not be more.
    Round,
}

impl Hold {
    pub(super) fn new(
        receiver: aws_sdk_sqs::Client,
        sqs: aws_sdk_sqs::Client,
        url: String,
        source: SqsQueue,
        queue: DeadLetterQueue,
        thoroughness: Thoroughness,
    ) -> Self {
        Self {
            receiver,
            sqs,
            url,
            source,
            queue,
            thoroughness,
            seen: HashSet::new(),
            again: HashSet::new(),
            delivered: HashSet::new(),
            kept: HashMap::new(),
        }
    }

    /// Receives up to `most` letters that have not been received before.
    pub(super) async fn receive(&mut self, most: usize) -> Result<Received, DeadLetterError> {
        let mut empty = 0;
        while empty < self.thoroughness.empty_receives() {
            // Taken before the request, so that no letter counts as hidden for longer than it is.
            let received_at = Instant::now();
            let received = self
                .receiver
                .receive_message()
                .queue_url(&self.url)
                .max_number_of_messages(i32::try_from(most).unwrap_or(1))
                .visibility_timeout(i32::try_from(HIDDEN.as_secs()).unwrap_or(i32::MAX))
                .wait_time_seconds(i32::try_from(self.thoroughness.wait().as_secs()).unwrap_or(0))
                .message_system_attribute_names(MessageSystemAttributeName::All)
                .message_attribute_names("All")
                .send()
                .await
                .map_err(|failure| {
                    let full = failure.as_service_error().is_some_and(|error| error.is_over_limit());
                    let what = if full {
                        "see more: SQS has given out as many messages as it does at once"
                    } else {
                        "receive letters"
                    };
                    DeadLetterError::new(what, &failure)
                })?;
            let messages = received.messages.unwrap_or_default();
            // Letters that were kept and come back say nothing of what else is there: only an answer without any does.
            empty = if messages.is_empty() { empty + 1 } else { 0 };
            let (mut news, mut round) = (Vec::new(), false);
            for message in messages {
                let letter = Letter::read(self.queue, message, received_at);
                if self.seen.insert(letter.id.clone()) {
                    news.push(letter);
                } else if self.delivered.contains(&letter.id) && self.delete_again(&letter).await {
                    // SQS may give out once more what was deleted.
                } else {
                    self.keep(&letter);
                    round |= !self.again.insert(letter.id);
                }
            }
            if !news.is_empty() {
                self.again.clear();
                return Ok(Received::New(news));
            }
            if round {
                return Ok(Received::Round);
            }
        }
        Ok(Received::Nothing)
    }

    /// Deletes a letter that is delivered; `false` if that fails.
    async fn delete_again(&self, letter: &Letter) -> bool {
        match self.source.delete(vec![letter.receipt.clone()]).await {
            Ok(()) => true,
            Err(failure) => {
                tracing::warn!(
                    id = letter.id,
                    reason = error_chain(&failure),
                    "a delivered letter came back"
                );
                false
            }
        }
    }

    /// Has a letter handed back at the end.
    pub(super) fn keep(&mut self, letter: &Letter) {
        let kept = Kept {
            receipt: letter.receipt.clone(),
            received_at: letter.received_at,
        };
        self.kept.insert(letter.id.clone(), kept);
    }

    /// Has a letter that is where it goes deleted, should it be received once more.
    pub(super) fn delivered(&mut self, id: String) {
        self.delivered.insert(id);
    }

    /// Makes all that was kept visible at once; answers what went wrong.
    pub(super) async fn hand_back(self) -> Vec<String> {
        // What was received longer ago is visible again by itself.
        let hidden = |kept: &Kept| kept.received_at.elapsed() < HIDDEN;
        let receipts: Vec<_> = self
            .kept
            .into_values()
            .filter(hidden)
            .map(|kept| kept.receipt)
            .collect();
        let parts: Vec<_> = receipts.chunks(BATCH).map(<[_]>::to_vec).collect();
        let (sqs, url) = (&self.sqs, self.url.as_str());
        let failures: Vec<String> = stream::iter(parts)
            .map(async |part| make_visible(sqs, url, part).await.err())
            .buffer_unordered(TASKS)
            .filter_map(async |failure| failure)
            .collect()
            .await;
        let minutes = HIDDEN.as_secs() / 60;
        failures
            .into_iter()
            .map(|failure| {
                format!("letters stay hidden, and come back by themselves within {minutes} minutes: {failure}")
            })
            .collect()
    }
}

/// Makes up to [`BATCH`] letters visible.
async fn make_visible(sqs: &aws_sdk_sqs::Client, url: &str, mut receipts: Vec<String>) -> Result<(), String> {
    let mut tries = 0;
    loop {
        let entry = |(place, receipt): (usize, &String)| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(place.to_string())
                .receipt_handle(receipt)
                .visibility_timeout(0)
                .build()
        };
        let entries: Result<Vec<_>, _> = receipts.iter().enumerate().map(entry).collect();
        let request = sqs.change_message_visibility_batch().queue_url(url);
        let answer = request
            .set_entries(Some(entries.map_err(|failure| error_chain(&failure))?))
            .send()
            .await
            .map_err(|failure| error_chain(&failure))?;
        let failed: Vec<_> = answer.failed.into_iter().filter(|error| !is_visible(error)).collect();
        let Some(last) = failed.last() else { return Ok(()) };
        tries += 1;
        if tries == TRIES || failed.iter().any(|error| error.sender_fault) {
            return Err(format!(
                "SQS did not hand back {} of {} messages: {} {}",
                failed.len(),
                receipts.len(),
                last.code(),
                last.message().unwrap_or_default()
            ));
        }
        // The entries' ids are their places.
        receipts = failed
            .iter()
            .filter_map(|error| receipts.get(error.id().parse::<usize>().ok()?).cloned())
            .collect();
        tokio::time::sleep(FIRST_BACKOFF * 2u32.pow(tries - 1)).await;
    }
}

/// Whether a letter could not be made visible because it is so already, or is gone. SQS says it in two ways.
fn is_visible(error: &BatchResultErrorEntry) -> bool {
    error.code().ends_with("MessageNotInflight")
        || error
            .message()
            .is_some_and(|message| message.contains("not available for visibility timeout change"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_that_is_visible_already_needs_no_handing_back() {
        let error = |code: &str, message: &str| {
            BatchResultErrorEntry::builder()
                .id("0")
                .code(code)
                .message(message)
                .sender_fault(true)
                .build()
                .unwrap()
        };
        let unavailable = "Value r for parameter ReceiptHandle is invalid. Reason: Message does not exist or is not \
                           available for visibility timeout change.";
        assert!(is_visible(&error("MessageNotInflight", "")));
        assert!(is_visible(&error("AWS.SimpleQueueService.MessageNotInflight", "")));
        assert!(is_visible(&error("InvalidParameterValue", unavailable)));
        assert!(!is_visible(&error(
            "ReceiptHandleIsInvalid",
            "The receipt handle is not valid."
        )));
    }
}
