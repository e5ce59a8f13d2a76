//! Letters that were received, and are hidden from others until they are deleted or handed back.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use aws_sdk_sqs::types::MessageSystemAttributeName;
use futures::{StreamExt, stream};
use shared::error_chain;
use shared::queue::WorkQueue;
use shared::queue::sqs::SqsQueue;

use super::{DeadLetterError, DeadLetterQueue, HIDDEN, Letter, Thoroughness};

/// How many letters are handed back by one task of several that run at once.
const HANDED_BACK_TOGETHER: usize = 100;
const TASKS: usize = 8;

/// What is held of one queue.
pub(super) struct Hold {
    sqs: aws_sdk_sqs::Client,
    url: String,
    source: SqsQueue,
    queue: DeadLetterQueue,
    thoroughness: Thoroughness,
    /// Every letter that was ever received: in a long redrive some come back, and are not to be taken for others.
    seen: HashSet<String>,
    /// The receipts of the letters that are to be handed back, by their ids.
    kept: HashMap<String, String>,
}

impl Hold {
    pub(super) fn new(
        sqs: aws_sdk_sqs::Client,
        url: String,
        source: SqsQueue,
        queue: DeadLetterQueue,
        thoroughness: Thoroughness,
    ) -> Self {
        Self {
            sqs,
            url,
            source,
            queue,
            thoroughness,
            seen: HashSet::new(),
            kept: HashMap::new(),
        }
    }

    /// Receives up to `most` letters that have not been received before; `None` if there seem to be none.
    pub(super) async fn receive(&mut self, most: usize) -> Result<Option<Vec<Letter>>, DeadLetterError> {
        let mut empty = 0;
        while empty < self.thoroughness.empty_receives() {
            let received = self
                .sqs
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
            let mut news = Vec::new();
            for message in received.messages.unwrap_or_default() {
                let letter = Letter::read(self.queue, message);
                if self.seen.insert(letter.id.clone()) {
                    news.push(letter);
                } else {
                    self.keep(&letter);
                }
            }
            if !news.is_empty() {
                return Ok(Some(news));
            }
            empty += 1;
        }
        Ok(None)
    }

    /// Has a letter handed back at the end.
    pub(super) fn keep(&mut self, letter: &Letter) {
        self.kept.insert(letter.id.clone(), letter.receipt.clone());
    }

    /// Makes all that was kept visible at once; answers what went wrong.
    pub(super) async fn hand_back(self) -> Vec<String> {
        let receipts: Vec<_> = self
            .kept
            .into_values()
            .map(|receipt| (receipt, Duration::ZERO))
            .collect();
        let parts: Vec<_> = receipts.chunks(HANDED_BACK_TOGETHER).map(<[_]>::to_vec).collect();
        let source = &self.source;
        stream::iter(parts)
            .map(async |part| source.make_visible_after(part).await.err())
            .buffer_unordered(TASKS)
            .filter_map(async |failure| {
                let failure = error_chain(&failure?);
                let minutes = HIDDEN.as_secs() / 60;
                Some(format!(
                    "letters stay hidden, and come back by themselves within {minutes} minutes: {failure}"
                ))
            })
            .collect()
            .await
    }
}
