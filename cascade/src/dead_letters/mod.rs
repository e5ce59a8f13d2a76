//! Dead letters: what they are, looking at them, and sending them back to where they failed.
//!
//! A queue can only be looked into by receiving from it, which hides what is received from everybody else. Whatever is
//! received here is therefore held: it is either deleted, once it is safely where it goes, or handed back at the end, also
//! of a command that is interrupted or fails half-way. After a kill it comes back by itself, [`HIDDEN`] later.

mod courier;
mod hold;
mod letter;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_sqs::types::QueueAttributeName;
use futures::StreamExt;
use futures::stream;
use shared::error_chain;
use shared::jitter::Jitter;
use shared::queue::WorkQueue;
use shared::queue::sqs::SqsQueue;
use thiserror::Error;
use time::UtcDateTime;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::cloud::CURRENT_TIME;
use crate::pipeline::{Depth, Stage, depth};
pub use courier::{CollectorHere, Courier, FunctionCourier, WorkQueueCourier};
use hold::{Hold, Received};
pub use letter::{Filter, Letter};

/// How long a letter that was received stays hidden from others: longer than a function's time-out, which is the longest
/// that anything here takes for one letter.
pub const HIDDEN: Duration = Duration::from_secs(960);

/// Why a letter of which only the beginning is known is not sent again.
pub const TRUNCATED: &str = "only the beginning of the event was kept here, so that it cannot be sent again; show it, invoke the function by \
     hand with the whole of it, and discard it";

/// How many letters are on their way at once.
const AT_ONCE: usize = 10;

/// How often AWS is asked in all for what somebody waits to see. What has been begun is tried as often as the SDK does.
const LOOKING_TRIES: u32 = 2;

/// After so many failures in a row the next letter would fail, too.
const FAILURES_IN_A_ROW: u32 = 10;

/// The queues for what has failed (the contract's section 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadLetterQueue {
    /// Messages of the employee queue.
    EmployeeWorkload,
    /// Messages of the sale queue.
    SaleWorkload,
    /// Invocations of the branch collector.
    BranchFunction,
    /// Invocations of the salesperson collector.
    EmployeeFunction,
    /// Invocations of the sale collector.
    SaleFunction,
}

/// Where a dead letter failed, and is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A work queue, by its name without the environment.
    WorkQueue(&'static str),
    /// A collector's function.
    Function(Stage),
}

impl DeadLetterQueue {
    /// All of them, work first.
    pub const ALL: [Self; 5] = [
        Self::EmployeeWorkload,
        Self::SaleWorkload,
        Self::BranchFunction,
        Self::EmployeeFunction,
        Self::SaleFunction,
    ];

    /// What it is called on the command line.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::EmployeeWorkload => "employee",
            Self::SaleWorkload => "sale",
            Self::BranchFunction => "branch-function",
            Self::EmployeeFunction => "employee-function",
            Self::SaleFunction => "sale-function",
        }
    }

    /// Its name in an environment.
    pub fn name(self, environment: &str) -> String {
        let name = match self {
            Self::EmployeeWorkload => "employee-workload-dead-letter-queue",
            Self::SaleWorkload => "sale-workload-dead-letter-queue",
            Self::BranchFunction => "branch-function-dead-letter-queue",
            Self::EmployeeFunction => "employee-function-dead-letter-queue",
            Self::SaleFunction => "sale-function-dead-letter-queue",
        };
        format!("{name}-{environment}")
    }

    /// Where its letters failed.
    pub fn origin(self) -> Origin {
        match self {
            Self::EmployeeWorkload => Origin::WorkQueue("employee-queue"),
            Self::SaleWorkload => Origin::WorkQueue("sale-queue"),
            Self::BranchFunction => Origin::Function(Stage::Branches),
            Self::EmployeeFunction => Origin::Function(Stage::Salespersons),
            Self::SaleFunction => Origin::Function(Stage::Sales),
        }
    }
}

impl Origin {
    /// The queue's or the function's name in an environment.
    pub fn name(self, environment: &str) -> String {
        let name = match self {
            Self::WorkQueue(name) => name,
            Self::Function(Stage::Branches) => "branch-collector",
            Self::Function(Stage::Salespersons) => "salesperson-collector",
            Self::Function(Stage::Sales) => "sale-collector",
        };
        format!("{name}-{environment}")
    }
}

/// A service did not do what was asked.
#[derive(Debug, Error)]
#[error("could not {action}: {reason}")]
pub struct DeadLetterError {
    action: String,
    reason: String,
}

impl DeadLetterError {
    fn new(action: impl Into<String>, failure: &dyn std::error::Error) -> Self {
        Self {
            action: action.into(),
            reason: error_chain(failure),
        }
    }
}

/// How thoroughly a queue has to be asked before it counts as empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thoroughness {
    /// The embedded queues: a receive sees every message that is there.
    Exact,
    /// SQS: a receive asks some of its servers, or all of them if it waits; and even then one answer proves nothing.
    Distributed,
}

impl Thoroughness {
    /// How long a receive waits.
    fn wait(self) -> Duration {
        match self {
            Self::Exact => Duration::ZERO,
            Self::Distributed => Duration::from_secs(1),
        }
    }

    /// How many receives in a row have to bring nothing.
    fn empty_receives(self) -> u32 {
        match self {
            Self::Exact => 1,
            Self::Distributed => 3,
        }
    }
}

/// The dead-letter queues of one environment.
pub struct DeadLetters {
    sqs: aws_sdk_sqs::Client,
    /// For looking: soon tells that there is no answer.
    looking: aws_sdk_sqs::Client,
    environment: String,
    thoroughness: Thoroughness,
    jitter: Jitter,
    stop: CancellationToken,
}

/// A dead-letter queue that is there.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which one it is.
    pub queue: DeadLetterQueue,
    /// About how many messages it holds.
    pub depth: Depth,
    /// What time it is there.
    pub now: UtcDateTime,
    url: String,
}

impl Found {
    /// Whether a letter was sent after this look at the queue: one that is redriven can fail and come back at once.
    fn precedes(&self, letter: &Letter) -> bool {
        letter.sent_at.is_some_and(|sent_at| sent_at > self.now)
    }
}

/// What a look does with letters that were sent after it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Newcomers {
    /// It shows them as it does all others.
    Shown,
    /// It only counts them, as [`DeadLetters::act`] does.
    Counted,
}

/// What a look into a queue has shown.
#[derive(Debug, Default)]
pub struct Look {
    /// The letters that the filter admits, oldest first.
    pub letters: Vec<Letter>,
    /// How many letters that the filter admits were only counted, because they were sent after the look began.
    pub newer: u64,
    /// Whether there may be more of them.
    pub cut: bool,
    /// What went wrong on the way.
    pub problems: Vec<String>,
}

/// What is done with letters.
pub enum Action<'a> {
    /// They are sent again, and deleted once they are there.
    Redrive(&'a dyn Courier),
    /// They are deleted.
    Discard,
}

/// What became of a queue's letters.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Letters that are where they should be, and no longer here.
    pub done: u64,
    /// Letters that could not be sent or deleted, and are still here.
    pub failed: u64,
    /// Letters that were sent after the look at the queue, and were left: what is redriven can fail and come back at once, and
    /// would go round and round.
    pub newer: u64,
    /// Whether it ended before all letters that the filter admits were looked at.
    pub cut: bool,
    /// What went wrong, each thing once.
    pub problems: Vec<String>,
}

impl Outcome {
    fn problem(&mut self, what: String) {
        if !self.problems.contains(&what) {
            self.problems.push(what);
        }
    }
}

/// What became of one letter.
enum Fate {
    /// It had this id.
    Done(String),
    /// It is still here.
    Kept(Letter, String),
    /// It is still here, and where it goes as well.
    Delivered(Letter, String),
    /// It is still here, because only its beginning is known.
    Truncated(Letter),
    /// All is to end.
    NotBegun(Letter),
}

impl DeadLetters {
    /// The dead-letter queues of `environment`. Once `stop` is cancelled nothing new is begun, and all that is held is handed
    /// back.
    pub fn new(
        config: &SdkConfig,
        environment: &str,
        thoroughness: Thoroughness,
        jitter: Jitter,
        stop: CancellationToken,
    ) -> Self {
        let retry = RetryConfig::standard().with_max_attempts(LOOKING_TRIES);
        Self {
            sqs: aws_sdk_sqs::Client::new(config),
            looking: aws_sdk_sqs::Client::new(&config.to_builder().retry_config(retry).build()),
            environment: environment.to_owned(),
            thoroughness,
            jitter,
            stop,
        }
    }

    /// Finds a dead-letter queue; `None` if there is no such queue.
    ///
    /// # Errors
    /// If SQS cannot be asked.
    pub async fn find(&self, queue: DeadLetterQueue) -> Result<Option<Found>, DeadLetterError> {
        let name = queue.name(&self.environment);
        let Some(url) = self.url(&name).await? else {
            return Ok(None);
        };
        let asking = format!("look at the queue {name}");
        let depth = depth(&self.looking, &url)
            .await
            .map_err(|error| DeadLetterError::new(asking.as_str(), &error))?;
        Ok(Some(Found {
            queue,
            depth,
            now: self.now(&url, asking).await?,
            url,
        }))
    }

    /// The time that messages' ages are measured by.
    async fn now(&self, url: &str, asking: String) -> Result<UtcDateTime, DeadLetterError> {
        if self.thoroughness == Thoroughness::Distributed {
            return Ok(SystemTime::now().into());
        }
        let name = QueueAttributeName::from(CURRENT_TIME);
        let told = self
            .looking
            .get_queue_attributes()
            .queue_url(url)
            .attribute_names(name.clone())
            .send()
            .await
            .map_err(|error| DeadLetterError::new(asking, &error))?;
        let told = told.attributes.and_then(|attributes| attributes.get(&name).cloned());
        Ok(told
            .as_deref()
            .and_then(letter::time_of)
            .unwrap_or_else(|| SystemTime::now().into()))
    }

    /// The URL of a queue; `None` if there is none of that name.
    async fn url(&self, name: &str) -> Result<Option<String>, DeadLetterError> {
        match self.looking.get_queue_url().queue_name(name).send().await {
            Ok(found) => Ok(found.queue_url),
            Err(failure)
                if failure
                    .as_service_error()
                    .is_some_and(|error| error.is_queue_does_not_exist()) =>
            {
                Ok(None)
            }
            Err(failure) => Err(DeadLetterError::new(format!("look at the queue {name}"), &failure)),
        }
    }

    /// Whoever takes letters back to a work queue; `None` if there is no such queue.
    ///
    /// # Errors
    /// If SQS cannot be asked.
    pub async fn work_queue(&self, name: &str) -> Result<Option<WorkQueueCourier>, DeadLetterError> {
        let name = format!("{name}-{}", self.environment);
        Ok(self.url(&name).await?.map(|url| WorkQueueCourier(self.queue(url))))
    }

    fn queue(&self, url: String) -> SqsQueue {
        SqsQueue::new(self.sqs.clone(), url, self.jitter.clone())
    }

    /// Looks at up to `limit` letters that `filter` admits, and hands all of them back. `seen` is told how many letters more
    /// have been received.
    pub async fn look(
        &self,
        found: &Found,
        filter: &Filter,
        limit: usize,
        newcomers: Newcomers,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Look {
        let mut hold = self.hold(found, self.looking.clone());
        let mut look = Look::default();
        while !self.stop.is_cancelled() {
            match hold.receive(AT_ONCE).await {
                Ok(Received::New(letters)) => {
                    seen(letters.len() as u64);
                    for letter in letters {
                        hold.keep(&letter);
                        if !filter.admits(&letter, found.now) {
                            continue;
                        }
                        if newcomers == Newcomers::Counted && found.precedes(&letter) {
                            look.newer += 1;
                        } else if look.letters.len() == limit {
                            look.cut = true;
                        } else {
                            look.letters.push(letter);
                        }
                    }
                }
                Ok(Received::Nothing) => break,
                Ok(Received::Round) => look.cut = true,
                Err(failure) => {
                    look.cut = true;
                    look.problems.push(failure.to_string());
                    break;
                }
            }
            if look.cut {
                break;
            }
        }
        look.cut |= self.stop.is_cancelled();
        look.problems.extend(hold.hand_back().await);
        look.letters.sort_by_key(|letter| letter.sent_at);
        look
    }

    /// Does something with up to `limit` letters that `filter` admits, at most `rate` of them a second, and hands the others
    /// back. `dealt_with` is told how many letters more are done or have failed.
    pub async fn act(
        &self,
        found: &Found,
        filter: &Filter,
        limit: usize,
        rate: Option<NonZeroU32>,
        action: &Action<'_>,
        dealt_with: &(dyn Fn(u64) + Sync),
    ) -> Outcome {
        let at_once = match action {
            Action::Redrive(courier) => courier.at_once().clamp(1, AT_ONCE),
            Action::Discard => AT_ONCE,
        };
        let queue = self.queue(found.url.clone());
        let mut hold = self.hold(found, self.sqs.clone());
        let mut pace = rate.map(every);
        let mut outcome = Outcome {
            cut: self.stop.is_cancelled(),
            ..Outcome::default()
        };
        let mut failures = 0;
        let mut left = limit;
        while !outcome.cut {
            let letters = match hold.receive(at_once).await {
                Ok(Received::New(letters)) => letters,
                Ok(Received::Nothing) => break,
                Ok(Received::Round) => {
                    outcome.cut = true;
                    break;
                }
                Err(failure) => {
                    outcome.cut = true;
                    outcome.problem(failure.to_string());
                    break;
                }
            };
            let mut wanted = Vec::new();
            for letter in letters {
                if !filter.admits(&letter, found.now) {
                    hold.keep(&letter);
                } else if found.precedes(&letter) {
                    hold.keep(&letter);
                    outcome.newer += 1;
                } else if left == 0 {
                    hold.keep(&letter);
                    outcome.cut = true;
                } else {
                    left -= 1;
                    wanted.push(letter);
                }
            }
            let fates = self.deal_with(wanted, &queue, action, &mut pace, at_once).await;
            dealt_with(fates.len() as u64);
            for fate in fates {
                match fate {
                    Fate::Done(id) => {
                        hold.delivered(id);
                        outcome.done += 1;
                        failures = 0;
                    }
                    Fate::Delivered(letter, reason) => {
                        hold.delivered(letter.id.clone());
                        hold.keep(&letter);
                        outcome.failed += 1;
                        outcome.problem(reason);
                        failures += 1;
                    }
                    Fate::Truncated(letter) => {
                        hold.keep(&letter);
                        outcome.failed += 1;
                        outcome.problem(TRUNCATED.to_owned());
                    }
                    Fate::Kept(letter, reason) => {
                        hold.keep(&letter);
                        outcome.failed += 1;
                        outcome.problem(reason);
                        failures += 1;
                    }
                    Fate::NotBegun(letter) => hold.keep(&letter),
                }
            }
            if failures >= FAILURES_IN_A_ROW {
                outcome.cut = true;
                outcome.problem(format!(
                    "{failures} letters failed one after the other, and no others were tried"
                ));
            }
            outcome.cut |= self.stop.is_cancelled();
        }
        for problem in hold.hand_back().await {
            outcome.problem(problem);
        }
        outcome
    }

    async fn deal_with(
        &self,
        letters: Vec<Letter>,
        queue: &SqsQueue,
        action: &Action<'_>,
        pace: &mut Option<Interval>,
        at_once: usize,
    ) -> Vec<Fate> {
        let pace = tokio::sync::Mutex::new(pace);
        let all = letters.into_iter().map(|letter| {
            let pace = &pace;
            async move {
                if let Some(pace) = pace.lock().await.as_mut() {
                    tokio::select! {
                        () = self.stop.cancelled() => {}
                        _ = pace.tick() => {}
                    }
                }
                if self.stop.is_cancelled() {
                    return Fate::NotBegun(letter);
                }
                if letter.truncated && matches!(action, Action::Redrive(_)) {
                    return Fate::Truncated(letter);
                }
                if let Action::Redrive(courier) = action
                    && let Err(reason) = courier.deliver(&letter).await
                {
                    return Fate::Kept(letter, reason);
                }
                match queue.delete(vec![letter.receipt.clone()]).await {
                    Ok(()) => Fate::Done(letter.id),
                    Err(failure) => {
                        let failure = error_chain(&failure);
                        match action {
                            Action::Redrive(_) => Fate::Delivered(
                                letter,
                                format!("sent, but still here, too, and harmless to be sent again: {failure}"),
                            ),
                            Action::Discard => Fate::Kept(letter, failure),
                        }
                    }
                }
            }
        });
        stream::iter(all).buffer_unordered(at_once).collect().await
    }

    fn hold(&self, found: &Found, receiver: aws_sdk_sqs::Client) -> Hold {
        Hold::new(
            receiver,
            self.sqs.clone(),
            found.url.clone(),
            self.queue(found.url.clone()),
            found.queue,
            self.thoroughness,
        )
    }
}

/// Evenly, so many times a second.
fn every(rate: NonZeroU32) -> Interval {
    let mut interval = interval(Duration::from_secs(1) / rate.get());
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Letters that failed alike.
#[derive(Debug)]
pub struct Group {
    /// The queue that they are in.
    pub queue: DeadLetterQueue,
    /// Why they failed; where the reasons differ in numbers alone, with `…` for those.
    pub reason: String,
    /// How old they are.
    pub age: AgeBand,
    /// The letters, oldest first.
    pub letters: Vec<Letter>,
}

/// How old a letter is, as far as it matters: whether it belongs to what goes wrong now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AgeBand {
    /// Over a day, or it is not known.
    Days,
    /// Over an hour.
    Hours,
    /// Up to an hour.
    Minutes,
}

impl AgeBand {
    fn of(age: Option<Duration>) -> Self {
        match age {
            Some(age) if age <= Duration::from_secs(3600) => Self::Minutes,
            Some(age) if age <= Duration::from_secs(24 * 3600) => Self::Hours,
            _ => Self::Days,
        }
    }
}

/// Groups letters by queue, reason and age: queues in their order, then reasons by name, then the oldest first.
pub fn grouped(letters: Vec<Letter>, now: impl Fn(DeadLetterQueue) -> UtcDateTime) -> Vec<Group> {
    let mut groups: BTreeMap<(DeadLetterQueue, String, AgeBand), Vec<Letter>> = BTreeMap::new();
    for letter in letters {
        let age = AgeBand::of(letter.age(now(letter.queue)));
        let key = (letter.queue, letter::kind_of(&letter.reason), age);
        groups.entry(key).or_default().push(letter);
    }
    groups
        .into_iter()
        .map(|((queue, kind, age), mut letters)| {
            letters.sort_by_key(|letter| letter.sent_at);
            let alike = letters.iter().all(|letter| letter.reason == letters[0].reason);
            Group {
                queue,
                reason: if alike { letters[0].reason.clone() } else { kind },
                age,
                letters,
            }
        })
        .collect()
}
