//! A queue in memory, with SQS's visibility and receive counts, for the collectors' tests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{DeadLetter, Message, Outbox, QueueError, WorkQueue};

/// A queue in memory. Its time is tokio's.
#[derive(Debug, Default)]
pub struct MemoryQueue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Waiting>,
    dead_letters: Vec<DeadLetter>,
    next_id: u64,
    failing: bool,
}

#[derive(Clone, Debug)]
struct Waiting {
    id: u64,
    body: String,
    visible_from: Instant,
    receive_count: u32,
}

/// The visibility time-out of the pipeline's queues.
const VISIBILITY: Duration = Duration::from_secs(900);

impl MemoryQueue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message into the queue.
    pub fn put(&self, body: impl Into<String>) {
        self.state().push(body.into(), Duration::ZERO);
    }

    /// The bodies in the queue, visible or not.
    pub fn bodies(&self) -> Vec<String> {
        self.state()
            .waiting
            .iter()
            .map(|waiting| waiting.body.clone())
            .collect()
    }

    /// For each message in the queue: how long until it is visible, and how often it was received.
    pub fn waits(&self) -> Vec<(Duration, u32)> {
        let now = Instant::now();
        let wait = |waiting: &Waiting| {
            (
                waiting.visible_from.saturating_duration_since(now),
                waiting.receive_count,
            )
        };
        self.state().waiting.iter().map(wait).collect()
    }

    /// What was sent to the dead-letter queue.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.state().dead_letters.clone()
    }

    /// Makes every call fail from now on, or no longer.
    pub fn fail(&self, failing: bool) {
        self.state().failing = failing;
    }

    fn answering(&self, action: &'static str) -> Result<MutexGuard<'_, State>, QueueError> {
        let state = self.state();
        if state.failing {
            return Err(QueueError::Service {
                action,
                source: "the queue is down".into(),
            });
        }
        Ok(state)
    }
}

impl State {
    fn push(&mut self, body: String, delay: Duration) {
        self.next_id += 1;
        self.waiting.push(Waiting {
            id: self.next_id,
            body,
            visible_from: Instant::now() + delay,
            receive_count: 0,
        });
    }
}

#[async_trait]
impl Outbox for MemoryQueue {
    async fn send(&self, bodies: Vec<String>, delay: Duration) -> Result<(), QueueError> {
        let mut state = self.answering("take messages")?;
        bodies.into_iter().for_each(|body| state.push(body, delay));
        Ok(())
    }
}

#[async_trait]
impl WorkQueue for MemoryQueue {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Message>, QueueError> {
        let until = Instant::now() + wait;
        loop {
            let now = Instant::now();
            let next_visible = {
                let mut state = self.answering("give messages")?;
                let visible = state
                    .waiting
                    .iter_mut()
                    .filter(|waiting| waiting.visible_from <= now)
                    .take(max);
                let messages: Vec<_> = visible
                    .map(|waiting| {
                        waiting.visible_from = now + VISIBILITY;
                        waiting.receive_count += 1;
                        Message {
                            id: waiting.id.to_string(),
                            body: waiting.body.clone(),
                            receipt: waiting.id.to_string(),
                            receive_count: waiting.receive_count,
                        }
                    })
                    .collect();
                if !messages.is_empty() || now >= until {
                    return Ok(messages);
                }
                state.waiting.iter().map(|waiting| waiting.visible_from).min()
            };
            tokio::time::sleep_until(next_visible.map_or(until, |visible| visible.min(until))).await;
        }
    }

    async fn delete(&self, receipts: Vec<String>) -> Result<(), QueueError> {
        let mut state = self.answering("delete messages")?;
        state
            .waiting
            .retain(|waiting| !receipts.contains(&waiting.id.to_string()));
        Ok(())
    }

    async fn make_visible_after(&self, receipts: Vec<(String, Duration)>) -> Result<(), QueueError> {
        let mut state = self.answering("hand messages back")?;
        for (receipt, after) in receipts {
            if let Some(waiting) = state
                .waiting
                .iter_mut()
                .find(|waiting| waiting.id.to_string() == receipt)
            {
                waiting.visible_from = Instant::now() + after;
            }
        }
        Ok(())
    }

    async fn dead_letter(&self, letter: DeadLetter) -> Result<(), QueueError> {
        self.answering("take a dead letter")?.dead_letters.push(letter);
        Ok(())
    }
}
