//! The queues, as the collectors need them.

use std::time::Duration;

use async_trait::async_trait;

#[cfg(any(test, feature = "memory"))]
pub mod memory;
pub mod sqs;

/// The longest that SQS lets a message be delayed, or be invisible at one go in this pipeline (its visibility
/// time-out).
pub const MAX_DELAY: Duration = Duration::from_secs(900);

/// A message that was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id, which stays the same from receive to receive.
    pub id: String,
    /// Its body.
    pub body: String,
    /// What it is deleted by; new with each receive.
    pub receipt: String,
    /// How often it has been received, this time included.
    pub receive_count: u32,
}

/// A message that can never succeed, with what an operator wants to know of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The body as it was received.
    pub body: String,
    /// Why it cannot succeed.
    pub reason: String,
    /// The run it belongs to.
    pub run_id: String,
}

/// A queue did not do what was asked, after all the tries that make sense. Whatever it was about is still where it was.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The service refused, or could not be reached.
    #[error("SQS did not {action}")]
    Service {
        /// What was asked of it.
        action: &'static str,
        /// What it said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Entries of a batch failed, again and again.
    #[error("SQS did not {action} {failed} of {all} messages: {reason}")]
    Entries {
        /// What was asked of it.
        action: &'static str,
        /// How many of them failed.
        failed: usize,
        /// How many there were.
        all: usize,
        /// What it said of the last of them.
        reason: String,
    },
    /// The queue has no dead-letter queue.
    #[error("the queue {0} has no redrive policy, so that there is nowhere to send a message that cannot succeed")]
    NoDeadLetterQueue(String),
}

/// Where messages are sent.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Sends messages, to be received after `delay` (at most [`MAX_DELAY`]). They are durable once this returns.
    ///
    /// # Errors
    /// If any of them may not have been sent; others may have been.
    async fn send(&self, bodies: Vec<String>, delay: Duration) -> Result<(), QueueError>;
}

/// Where work waits.
#[async_trait]
pub trait WorkQueue: Outbox {
    /// Receives up to `max` messages (1 to 10), waiting up to `wait` for the first.
    ///
    /// # Errors
    /// If the queue cannot be read.
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Message>, QueueError>;

    /// Deletes messages by their receipts.
    ///
    /// # Errors
    /// If any of them could not be deleted: it will be received again.
    async fn delete(&self, receipts: Vec<String>) -> Result<(), QueueError>;

    /// Makes messages visible again after the time given with each receipt.
    ///
    /// # Errors
    /// If it failed for any of them: that one is visible after its time-out.
    async fn make_visible_after(&self, receipts: Vec<(String, Duration)>) -> Result<(), QueueError>;

    /// Sends a message to this queue's dead-letter queue, as its redrive policy names it. The original is not deleted.
    ///
    /// # Errors
    /// If it may not have been sent.
    async fn dead_letter(&self, letter: DeadLetter) -> Result<(), QueueError>;
}
