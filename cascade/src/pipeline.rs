//! The three collectors put together over one cloud and one vendor, and run through.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_sqs::types::QueueAttributeName;
use branches::BranchCollector;
use sales::SaleCollector;
use sales::lookback::Lookback;
use salespersons::SalespersonCollector;
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::account::Accounts;
use shared::checkpoint::{Checkpoints, Thoroughness};
use shared::clock::Clock;
use shared::collector::{Call, Collector, Handled, handle_in_view};
use shared::deletions::Rosters;
use shared::entity::Entity;
use shared::error_chain;
use shared::jitter::Jitter;
use shared::queue::sqs::SqsQueue;
use shared::rejections::Rejections;
use shared::run::RunId;
use shared::table::dynamodb::DynamoTable;
use shared::tally::{Counts, Tally};
use shared::vendor::Vendor;
use thiserror::Error;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::cloud::Provisioned;

/// How long an invocation may take, as the functions' time-out has it.
const TIME_OUT: Duration = Duration::from_secs(900);

/// How long a poll takes new messages. Longer than on AWS, where the next poll is a minute away: what waits for the quota is
/// kept at hand for all of the vendor's window, while a delay in the queue would pass on a simulated clock in no time.
const POLL_WINDOW: Duration = Duration::from_secs(90);

/// How long a simulated clock is moved on at a time while every message is waiting for its next try.
const SKIP: Duration = Duration::from_secs(15);

/// How often the clock is moved on in a row without any message coming up before the run is given up: longer than any
/// delay or visibility time-out.
const MOST_SKIPS: u32 = 2 * 900 / 15;

/// How long to wait before looking again, where the clock cannot be moved on.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The three stages of the cascade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The branch collector.
    Branches,
    /// The salesperson collector.
    Salespersons,
    /// The sale collector.
    Sales,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Branches, Self::Salespersons, Self::Sales];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Branches => "branches",
            Self::Salespersons => "salespersons",
            Self::Sales => "sales",
        }
    }
}

/// What each stage has done so far, for whoever watches.
#[derive(Debug, Default)]
pub struct View(Mutex<[StageView; 3]>);

#[derive(Debug, Default)]
struct StageView {
    ended: Counts,
    running: Vec<Arc<Tally>>,
}

impl View {
    /// The counts of one stage, those of invocations that are still running included.
    pub fn counts(&self, stage: Stage) -> Counts {
        let stages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let view = &stages[stage as usize];
        let mut counts = view.ended;
        view.running.iter().for_each(|tally| counts += tally.counts());
        counts
    }

    fn begin(&self, stage: Stage) -> Arc<Tally> {
        let tally = Arc::new(Tally::default());
        let mut stages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stages[stage as usize].running.push(tally.clone());
        tally
    }

    fn end(&self, stage: Stage, tally: &Arc<Tally>) {
        let mut stages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let view = &mut stages[stage as usize];
        view.ended += tally.counts();
        view.running.retain(|running| !Arc::ptr_eq(running, tally));
    }
}

/// How many messages a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Depth {
    /// Ready to be received.
    pub waiting: u64,
    /// Received and not yet deleted, or hidden until their next try.
    pub in_flight: u64,
    /// Sent with a delay that is not over.
    pub delayed: u64,
}

impl Depth {
    /// All of them.
    pub fn all(self) -> u64 {
        self.waiting + self.in_flight + self.delayed
    }
}

/// A queue could not be looked at.
#[derive(Debug, Error)]
#[error("could not look at the queue {url}: {reason}")]
pub struct DepthError {
    url: String,
    reason: String,
}

/// How many messages the queue at `url` holds.
///
/// # Errors
/// If it cannot be asked.
pub async fn depth(sqs: &aws_sdk_sqs::Client, url: &str) -> Result<Depth, DepthError> {
    let names = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ];
    let answer = sqs
        .get_queue_attributes()
        .queue_url(url)
        .set_attribute_names(Some(names.to_vec()))
        .send()
        .await
        .map_err(|error| DepthError {
            url: url.to_owned(),
            reason: error_chain(&error),
        })?;
    let attributes = answer.attributes.unwrap_or_default();
    let [waiting, in_flight, delayed] = names.map(|name| {
        attributes
            .get(&name)
            .and_then(|count| count.parse().ok())
            .unwrap_or_default()
    });
    Ok(Depth {
        waiting,
        in_flight,
        delayed,
    })
}

/// How a pipeline is put together.
pub struct PipelineOptions {
    /// Whom the collectors ask. They share it, and with it the quota.
    pub vendor: Arc<dyn Vendor>,
    /// What is remembered of each id.
    pub checkpoints: Checkpoints,
    /// Where the runs keep account of themselves.
    pub accounts: Accounts,
    /// By which deletions are noticed.
    pub rosters: Rosters,
    /// What is remembered of records that were rejected.
    pub rejections: Rejections,
    /// How far back a sale still counts as recent.
    pub lookback: Lookback,
    /// What time it is.
    pub clock: Clock,
    /// Randomness for waits.
    pub jitter: Jitter,
    /// Cancelled when everything is to stop.
    pub stop: CancellationToken,
}

/// The three collectors over one cloud and one vendor.
pub struct Pipeline {
    branches: BranchCollector,
    salespersons: SalespersonCollector,
    sales: SaleCollector,
    sqs: aws_sdk_sqs::Client,
    places: Provisioned,
    clock: Clock,
    stop: CancellationToken,
}

/// What an hourly run came to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RunOutcome {
    /// The run.
    pub run_id: String,
    /// What each stage did.
    pub stages: BTreeMap<String, Counts>,
    /// Errors that invocations ended in.
    pub errors: Vec<String>,
    /// What is left in the work queues, by name.
    pub left: BTreeMap<String, Depth>,
    /// What is in the dead-letter queues of the work queues, by name.
    pub dead_letters: BTreeMap<String, u64>,
    /// How many of them came with this run, whoever sent them there: a collector, or the queue itself.
    pub new_dead_letters: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// How far the simulated clock was moved on over waits, in seconds.
    pub skipped_seconds: u64,
}

impl RunOutcome {
    /// The counts of one stage.
    pub fn stage(&self, stage: Stage) -> Counts {
        self.stages.get(stage.name()).copied().unwrap_or_default()
    }

    /// The counts of all stages together.
    pub fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.stages.values().for_each(|counts| total += *counts);
        total
    }

    /// The fewest requests that the run can be done with: one an id.
    pub fn least_requests(&self, branches: usize) -> u64 {
        branches as u64 + self.stage(Stage::Branches).enqueued + self.stage(Stage::Salespersons).enqueued
    }

    /// Whether every branch was collected and every message was done.
    pub fn is_complete(&self) -> bool {
        self.errors.is_empty() && self.new_dead_letters == 0 && self.left.values().all(|depth| depth.all() == 0)
    }
}

impl Pipeline {
    /// Puts the collectors together with clients of the cloud that `aws` leads to.
    pub fn new(aws: &SdkConfig, places: Provisioned, options: PipelineOptions) -> Self {
        let dynamodb = aws_sdk_dynamodb::Client::new(aws);
        let sqs = aws_sdk_sqs::Client::new(aws);
        let table = |name: &str, entity| {
            Arc::new(DynamoTable::new(
                dynamodb.clone(),
                name.to_owned(),
                entity,
                options.jitter.clone(),
            ))
        };
        let queue = |url: &str| Arc::new(SqsQueue::new(sqs.clone(), url.to_owned(), options.jitter.clone()));
        Self {
            branches: BranchCollector {
                vendor: options.vendor.clone(),
                table: table(&places.branch_table, Entity::Branch),
                employee_queue: queue(&places.employee_queue_url),
                checkpoints: options.checkpoints.clone(),
                accounts: options.accounts.clone(),
                rosters: options.rosters.clone(),
                rejections: options.rejections.clone(),
            },
            salespersons: SalespersonCollector {
                vendor: options.vendor.clone(),
                table: table(&places.salesperson_table, Entity::Salesperson),
                employee_queue: queue(&places.employee_queue_url),
                sale_queue: queue(&places.sale_queue_url),
                poll_window: POLL_WINDOW,
                jitter: options.jitter.clone(),
                checkpoints: options.checkpoints.clone(),
                accounts: options.accounts.clone(),
                rosters: options.rosters.clone(),
                rejections: options.rejections.clone(),
            },
            sales: SaleCollector {
                vendor: options.vendor.clone(),
                table: table(&places.sale_table, Entity::Sale),
                sale_queue: queue(&places.sale_queue_url),
                lookback: options.lookback,
                poll_window: POLL_WINDOW,
                jitter: options.jitter.clone(),
                checkpoints: options.checkpoints,
                accounts: options.accounts,
                rosters: options.rosters,
                rejections: options.rejections,
            },
            sqs,
            places,
            clock: options.clock,
            stop: options.stop,
        }
    }

    /// Calls one stage's collector with an event, as Lambda would.
    pub async fn invoke(&self, stage: Stage, event: &str, view: &View) -> Handled {
        match stage {
            Stage::Branches => self.call(&self.branches, stage, event, view).await,
            Stage::Salespersons => self.call(&self.salespersons, stage, event, view).await,
            Stage::Sales => self.call(&self.sales, stage, event, view).await,
        }
    }

    async fn call<C: Collector>(&self, collector: &C, stage: Stage, event: &str, view: &View) -> Handled {
        let now = self.clock.now();
        let call = Call {
            request_id: format!("local-{}-{}", stage.name(), now.unix_timestamp_nanos() / 1_000_000),
            now,
            deadline: Instant::now() + TIME_OUT,
            stop: self.stop.clone(),
        };
        let tally = view.begin(stage);
        let handled = handle_in_view(collector, event, call, tally.clone()).await;
        view.end(stage, &tally);
        handled
    }

    /// One hourly run: the branch collector once, then polls until both queues are empty and nothing is in flight.
    /// Where all that is left waits for its next try, a simulated clock is moved on; `moved` is told of it.
    ///
    /// # Errors
    /// If the queues cannot be looked at.
    pub async fn run(
        &self,
        run_id: RunId,
        thoroughness: Thoroughness,
        view: &View,
        mut moved: impl FnMut(),
    ) -> Result<RunOutcome, DepthError> {
        let started = Instant::now();
        let dead_letters_before: u64 = self.dead_letters().await?.values().sum();
        let event = json!({ "run_id": run_id.to_string() }).to_string();
        let begin = match thoroughness {
            Thoroughness::Usual => event.clone(),
            Thoroughness::Force => json!({ "branches": [], "run_id": run_id, "force": true }).to_string(),
            Thoroughness::Verify => json!({ "branches": [], "run_id": run_id, "verify": true }).to_string(),
        };
        let mut errors = Vec::new();
        let mut note = |handled: Handled| errors.extend(handled.answer.err().map(|failure| error_chain(&failure)));
        note(self.invoke(Stage::Branches, &begin, view).await);
        let worked = self.drain(&event, view, &mut moved, &mut note).await?;
        let mut left = BTreeMap::new();
        for url in [&self.places.employee_queue_url, &self.places.sale_queue_url] {
            left.insert(queue_name(url), self.depth(url).await?);
        }
        let dead_letters = self.dead_letters().await?;
        Ok(RunOutcome {
            run_id: run_id.to_string(),
            stages: Stage::ALL
                .map(|stage| (stage.name().to_owned(), view.counts(stage)))
                .into(),
            errors,
            left,
            new_dead_letters: dead_letters.values().sum::<u64>().saturating_sub(dead_letters_before),
            dead_letters,
            seconds: started.elapsed().as_secs_f64(),
            skipped_seconds: worked.as_secs(),
        })
    }

    /// Polls until both queues are empty and nothing is in flight, without beginning a run: for what somebody else has sent.
    ///
    /// # Errors
    /// If the queues cannot be looked at.
    pub async fn work_through(
        &self,
        run_id: RunId,
        view: &View,
        mut moved: impl FnMut(),
    ) -> Result<Vec<String>, DepthError> {
        let event = json!({ "run_id": run_id.to_string() }).to_string();
        let mut errors = Vec::new();
        let mut note = |handled: Handled| errors.extend(handled.answer.err().map(|failure| error_chain(&failure)));
        self.drain(&event, view, &mut moved, &mut note).await?;
        Ok(errors)
    }

    /// Polls until both queues are empty; answers how far the simulated clock was moved on.
    async fn drain(
        &self,
        event: &str,
        view: &View,
        moved: &mut impl FnMut(),
        note: &mut impl FnMut(Handled),
    ) -> Result<Duration, DepthError> {
        let (mut skips, mut skipped) = (0, Duration::ZERO);
        while !self.stop.is_cancelled() {
            let left = [
                self.depth(&self.places.employee_queue_url).await?,
                self.depth(&self.places.sale_queue_url).await?,
            ];
            if left.iter().all(|depth| depth.all() == 0) {
                break;
            }
            if left.iter().all(|depth| depth.waiting == 0) {
                // All that is left is hidden: it waits for its next try, and a poll would find nothing.
                if !self.clock.advance(SKIP) {
                    sleep(LOOK_AGAIN).await;
                    continue;
                }
                moved();
                skips += 1;
                skipped += SKIP;
                if skips > MOST_SKIPS {
                    break;
                }
                continue;
            }
            skips = 0;
            let (salespersons, sales) = tokio::join!(
                self.invoke(Stage::Salespersons, event, view),
                self.invoke(Stage::Sales, event, view),
            );
            let failed = salespersons.answer.is_err() || sales.answer.is_err();
            note(salespersons);
            note(sales);
            if failed {
                break;
            }
        }
        Ok(skipped)
    }

    async fn depth(&self, url: &str) -> Result<Depth, DepthError> {
        depth(&self.sqs, url).await
    }

    /// What is in the dead-letter queues of the work queues, by name.
    async fn dead_letters(&self) -> Result<BTreeMap<String, u64>, DepthError> {
        let mut dead_letters = BTreeMap::new();
        for url in [
            &self.places.employee_dead_letter_queue_url,
            &self.places.sale_dead_letter_queue_url,
        ] {
            dead_letters.insert(queue_name(url), self.depth(url).await?.all());
        }
        Ok(dead_letters)
    }
}

/// A queue's name, which its URL ends in.
pub fn queue_name(url: &str) -> String {
    url.rsplit('/').next().unwrap_or(url).to_owned()
}
