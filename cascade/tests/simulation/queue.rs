//! The queues, as SQS has them: at least once, in hardly any order, with answers that get lost and batches that half fail.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use shared::queue::{DeadLetter, Message, Outbox, QueueError, WorkQueue};

use crate::plan::{Fault, Sabotage};
use crate::process::{Process, Work};
use crate::sim::{Die, Sim, lock, on_the_wire};
use crate::world::World;

const VISIBILITY: Duration = Duration::from_secs(900);
const MAX_RECEIVES: u32 = 10;

/// How often a receive that waits looks again.
const LOOK: Duration = Duration::from_millis(200);

#[derive(Clone, Debug)]
struct Waiting {
    id: u64,
    body: String,
    visible_from: Duration,
    first_received: Option<Duration>,
    receives: u32,
    /// The last receipt.
    receipt: String,
}

/// A message that was sent, and when.
struct Sent {
    at: Duration,
    body: String,
    work: Work,
}

pub(crate) struct Queue {
    name: &'static str,
    waiting: Vec<Waiting>,
    dead: Vec<String>,
    sent: Vec<Sent>,
}

impl Queue {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            waiting: Vec::new(),
            dead: Vec::new(),
            sent: Vec::new(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether a message could be received within `wait`.
    pub(crate) fn has_something(&self, now: Duration, wait: Duration) -> bool {
        self.waiting.iter().any(|waiting| waiting.visible_from <= now + wait)
    }

    pub(crate) fn bodies(&self) -> Vec<String> {
        self.waiting.iter().map(|waiting| waiting.body.clone()).collect()
    }

    /// Whether the dead-letter queue has a message, or it was sent again since it was received.
    pub(crate) fn is_elsewhere(&self, body: &str, received_at: Duration) -> bool {
        self.dead.iter().any(|dead| dead == body)
            || self.sent.iter().any(|sent| sent.at > received_at && sent.body == body)
    }

    /// Whether a message still waits, or is a dead letter.
    pub(crate) fn is_waiting(&self, body: &str) -> bool {
        self.waiting.iter().any(|waiting| waiting.body == body) || self.dead.iter().any(|dead| dead == body)
    }

    pub(crate) fn was_sent(&self, is_it: impl Fn(&Work) -> bool) -> bool {
        self.sent.iter().any(|sent| is_it(&sent.work))
    }

    pub(crate) fn was_sent_since(&self, since: Duration, is_it: impl Fn(&Work) -> bool) -> bool {
        self.sent.iter().any(|sent| sent.at >= since && is_it(&sent.work))
    }

    pub(crate) fn sent_bodies(&self) -> BTreeSet<String> {
        self.sent.iter().map(|sent| sent.body.clone()).collect()
    }

    /// Sends all dead letters again.
    pub(crate) fn redrive(&mut self, sim: &Sim) {
        for body in std::mem::take(&mut self.dead) {
            self.push(sim, body, Duration::ZERO);
        }
    }

    fn push(&mut self, sim: &Sim, body: String, delay: Duration) {
        let now = sim.elapsed();
        sim.note(|| format!("{} queue takes {body} after {delay:?}", self.name));
        self.sent.push(Sent {
            at: now,
            work: Work::of(&body),
            body: body.clone(),
        });
        self.waiting.push(Waiting {
            id: sim.number(),
            body,
            visible_from: now + delay,
            first_received: None,
            receives: 0,
            receipt: String::new(),
        });
    }

    fn give(&mut self, sim: &Sim, max: usize) -> Vec<Message> {
        let now = sim.elapsed();
        let name = self.name;
        let dead = &mut self.dead;
        self.waiting.retain(|waiting| {
            let is_dead = waiting.receives >= MAX_RECEIVES && waiting.visible_from <= now;
            if is_dead {
                sim.note(|| format!("{name} queue gives up {}", waiting.body));
                dead.push(waiting.body.clone());
            }
            !is_dead
        });
        let mut visible: Vec<usize> = (0..self.waiting.len())
            .filter(|index| self.waiting[*index].visible_from <= now)
            .collect();
        if sim.plan.has(Fault::Reordering) {
            sim.throw(Die::Order, |rng| rng.shuffle(&mut visible));
        }
        visible.truncate(max);
        visible
            .into_iter()
            .map(|index| {
                let waiting = &mut self.waiting[index];
                // Another server of the queue's may not know of it yet.
                if !sim.strikes(Fault::Duplicates, 12) {
                    waiting.visible_from = now + VISIBILITY;
                }
                waiting.receives += 1;
                waiting.receipt = format!("{}-{}", waiting.id, waiting.receives);
                waiting.first_received.get_or_insert(now);
                sim.note(|| format!("{name} queue gives {} as {}", waiting.body, waiting.receipt));
                Message {
                    id: waiting.id.to_string(),
                    body: waiting.body.clone(),
                    receipt: waiting.receipt.clone(),
                    receive_count: waiting.receives,
                }
            })
            .collect()
    }

    /// Deletes a message; answers its body and when it was first received, if it was there.
    fn remove(&mut self, sim: &Sim, receipt: &str) -> Option<(String, Duration)> {
        let id = receipt.split('-').next()?;
        let index = self.waiting.iter().position(|waiting| waiting.id.to_string() == id)?;
        let gone = self.waiting.remove(index);
        sim.note(|| format!("{} queue deletes {} by {receipt}", self.name, gone.body));
        let received = gone.first_received.unwrap_or_default();
        if sim.strikes(Fault::Duplicates, 12) {
            // A server of the queue's was away as it was deleted, and is back.
            sim.note(|| format!("{} queue keeps a copy of {}", self.name, gone.body));
            self.waiting.push(gone.clone());
        }
        Some((gone.body, received))
    }
}

/// Loses what a process had received and will not delete any more, as no queue should.
pub(crate) fn lose(world: &World, process: &Process) {
    for queue in [&world.employee_queue, &world.sale_queue] {
        for receipt in process.receipts() {
            lock(queue).waiting.retain(|waiting| waiting.receipt != receipt);
        }
    }
}

/// One process's way to a queue.
pub(crate) struct SimQueue {
    pub(crate) world: Arc<World>,
    pub(crate) process: Arc<Process>,
    pub(crate) which: fn(&World) -> &Mutex<Queue>,
}

fn failure(action: &'static str) -> QueueError {
    QueueError::Service {
        action,
        source: "throttled".into(),
    }
}

/// What becomes of a call about several messages.
enum Fate {
    Done,
    /// It is refused.
    Refused,
    /// It is done, but its answer gets lost.
    Unheard,
    /// It is done for every other message only.
    Half,
}

impl SimQueue {
    /// Does something to each of several messages, or to some of them.
    async fn batch<T: Send + 'static>(
        &self,
        action: &'static str,
        entries: Vec<T>,
        mut each: impl FnMut(&World, &Process, T) + Send + 'static,
    ) -> Result<(), QueueError> {
        let (world, process) = (self.world.clone(), self.process.clone());
        on_the_wire(async move {
            let sim = &world.sim;
            let fate = if sim.strikes(Fault::LostAnswers, 15) {
                match sim.throw(Die::Fault(Fault::LostAnswers), |rng| rng.bool()) {
                    true => Fate::Unheard,
                    false => Fate::Refused,
                }
            } else if sim.strikes(Fault::HalfBatches, 10) {
                Fate::Half
            } else {
                Fate::Done
            };
            sim.latency(25).await;
            let all = entries.len();
            let mut failed = 0;
            for (index, entry) in entries.into_iter().enumerate() {
                match fate {
                    Fate::Refused => failed += 1,
                    Fate::Half if index % 2 == 0 => failed += 1,
                    Fate::Done | Fate::Unheard | Fate::Half => each(&world, &process, entry),
                }
            }
            sim.latency(25).await;
            match fate {
                Fate::Done => Ok(()),
                Fate::Half if failed == 0 => Ok(()),
                Fate::Half => Err(QueueError::Entries {
                    action,
                    failed,
                    all,
                    reason: "throttled".to_owned(),
                }),
                Fate::Refused | Fate::Unheard => Err(failure(action)),
            }
        })
        .await
    }
}

#[async_trait]
impl Outbox for SimQueue {
    async fn send(&self, bodies: Vec<String>, delay: Duration) -> Result<(), QueueError> {
        let which = self.which;
        self.batch("take messages", bodies, move |world, _, body| {
            let sabotage = world.sim.plan.sabotage;
            let loses = match sabotage {
                Some(Sabotage::LoseCopies) => delay > Duration::ZERO,
                Some(Sabotage::LoseSends) => world.sim.throw(Die::World, |rng| rng.u32(0..5) == 0),
                _ => false,
            };
            if !loses {
                lock(which(world)).push(&world.sim, body, delay);
            }
        })
        .await
    }
}

#[async_trait]
impl WorkQueue for SimQueue {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Message>, QueueError> {
        let (world, which, process) = (self.world.clone(), self.which, self.process.clone());
        on_the_wire(async move {
            let sim = &world.sim;
            let until = sim.elapsed() + wait;
            sim.latency(10).await;
            let fault = sim
                .strikes(Fault::LostAnswers, 25)
                .then(|| sim.throw(Die::Fault(Fault::LostAnswers), |rng| rng.bool()));
            if fault == Some(false) {
                return Err(failure("give messages"));
            }
            let messages = loop {
                let messages = lock(which(&world)).give(sim, max);
                if !messages.is_empty() || sim.elapsed() >= until {
                    break messages;
                }
                tokio::time::sleep(LOOK).await;
            };
            if sim.plan.sabotage == Some(Sabotage::DeleteOnReceive) {
                for message in &messages {
                    let gone = lock(which(&world)).remove(sim, &message.receipt);
                    if let Some((body, received)) = gone {
                        world.check_gone(&body, received);
                    }
                }
            }
            sim.latency(10).await;
            if fault.is_some() {
                return Err(failure("give messages"));
            }
            for message in &messages {
                process.takes(message.receipt.clone(), Work::of(&message.body));
            }
            Ok(messages)
        })
        .await
    }

    async fn delete(&self, receipts: Vec<String>) -> Result<(), QueueError> {
        let which = self.which;
        self.batch("delete messages", receipts, move |world, process, receipt| {
            let gone = lock(which(world)).remove(&world.sim, &receipt);
            process.lays_down(&receipt);
            if let Some((body, received)) = gone {
                world.check_gone(&body, received);
            }
        })
        .await
    }

    async fn make_visible_after(&self, receipts: Vec<(String, Duration)>) -> Result<(), QueueError> {
        let which = self.which;
        self.batch(
            "hand messages back",
            receipts,
            move |world, process, (receipt, after)| {
                process.lays_down(&receipt);
                let mut queue = lock(which(world));
                // A receipt that is not the last one changes nothing.
                if let Some(waiting) = queue.waiting.iter_mut().find(|waiting| waiting.receipt == receipt) {
                    waiting.visible_from = world.sim.elapsed() + after;
                }
            },
        )
        .await
    }

    async fn dead_letter(&self, letter: DeadLetter) -> Result<(), QueueError> {
        let which = self.which;
        self.batch("take a dead letter", vec![letter.body], move |world, _, body| {
            world.sim.note(|| format!("dead letter {body}"));
            lock(which(world)).dead.push(body);
        })
        .await
    }
}
