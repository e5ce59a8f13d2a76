//! The sale collector: asks the vendor for a salesperson's sales, and writes those that changed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;
use shared::account::{Accounts, Ending, Piece};
use shared::checkpoint::{Checkpoints, Effects, Finding, Task, Thoroughness, Visit};
use shared::collector::{Collector, InvocationError};
use shared::deletions::Rosters;
use shared::entity::Entity;
use shared::event::SaleCall;
use shared::id::Id;
use shared::invocation::Invocation;
use shared::jitter::Jitter;
use shared::message::SaleMessage;
use shared::queue::{Message, WorkQueue};
use shared::quota::Class;
use shared::rejections::{Rejected, Rejections};
use shared::run::{RunId, last_modified};
use shared::sync::sync;
use shared::table::Table;
use shared::vendor::answer::{Shape, Sketch, Unnamed, distinct, records};
use shared::vendor::{Answer, Query, Vendor};
use shared::work::{Desk, WorkError, Worker};
use time::UtcDateTime;
use tokio::time::Instant;
use tracing::{Instrument, error_span};

pub mod lookback;

use lookback::{Lookback, Recency};

/// The sale collector.
pub struct SaleCollector {
    /// Whom to ask.
    pub vendor: Arc<dyn Vendor>,
    /// Where sales are written.
    pub table: Arc<dyn Table>,
    /// Where salespersons' ids come from.
    pub sale_queue: Arc<dyn WorkQueue>,
    /// How far back a sale still counts as recent.
    pub lookback: Lookback,
    /// How long a poll takes new messages.
    pub poll_window: Duration,
    /// Randomness for the delays of messages that failed.
    pub jitter: Jitter,
    /// What is remembered of each salesperson.
    pub checkpoints: Checkpoints,
    /// Where the runs keep account of their pieces.
    pub accounts: Accounts,
    /// By which it is noticed which sales were taken back.
    pub rosters: Rosters,
    /// What is remembered of records that were rejected.
    pub rejections: Rejections,
}

/// One salesperson's sales.
struct Order<'a> {
    employee_id: &'a Id,
    /// Given to sales that are seen for the first time.
    branch_id: Option<&'a Id>,
    lookback: Lookback,
    class: Class,
    /// The run they are collected for; without one they are collected whatever was done before.
    run_id: Option<RunId>,
    thoroughness: Thoroughness,
    accepts_deletions: bool,
}

/// The sales of an answer.
struct Sales<'a> {
    all: Vec<Sketch<'a>>,
    /// What has no usable id.
    unnamed: Vec<Unnamed<'a>>,
}

/// Those of them that are looked at.
struct Looked<'a> {
    recent: Vec<Sketch<'a>>,
    skipped: u64,
    /// Those that cannot be stored: they have no usable id, or no time that can be right.
    rejected: Rejected,
}

impl SaleCollector {
    fn desk(&self) -> Desk<'_, Self> {
        Desk {
            worker: self,
            queue: &*self.sale_queue,
            window: self.poll_window,
            jitter: &self.jitter,
            accounts: &self.accounts,
        }
    }

    async fn collect(&self, order: Order<'_>, invocation: &Invocation, quota_until: Instant) -> Result<(), WorkError> {
        let query = Query::Sales(order.employee_id.clone());
        let task = Task {
            class: order.class,
            keeps_roster: self.rosters.are_kept_for(&query),
            accepts_deletions: order.accepts_deletions,
            // To verify is to compare all there is.
            lookback: match order.thoroughness {
                Thoroughness::Verify => None,
                Thoroughness::Usual | Thoroughness::Force => order.lookback.duration(),
            },
            gives_branch: order.branch_id.is_some(),
            is_part_of_a_run: !order.lookback.reaches_back_as_far_as(self.lookback),
            thoroughness: order.thoroughness,
            ..Task::new(query, order.run_id)
        };
        let Some(mut visit) = self.checkpoints.begin(&task, invocation).await? else {
            return Ok(());
        };
        let result = self.visit(&mut visit, &order, &task, invocation, quota_until).await;
        visit.end(result, invocation).await
    }

    async fn visit(
        &self,
        visit: &mut Visit<'_>,
        order: &Order<'_>,
        task: &Task,
        invocation: &Invocation,
        quota_until: Instant,
    ) -> Result<Effects, WorkError> {
        let lookback = Lookback::within(task.lookback);
        let fetched = self
            .rejections
            .fetch(&*self.vendor, visit, invocation, quota_until)
            .await?;
        let finding = visit.find(fetched);
        let effects = match &finding {
            Finding::Known { answer: None, effects } => effects.clone(),
            Finding::Known {
                answer: Some(answer), ..
            } => {
                let sales = Sales::of(records(&answer.pages, order.shape())?, order.employee_id);
                sales
                    .judge(lookback, |_| false, answer.fetched_at, invocation)
                    .effects()
            }
            Finding::New(answer) => self.write_sales(visit, answer, order, lookback, invocation).await?,
        };
        invocation.tally.count(|counts| {
            counts.skipped += effects.skipped;
            if matches!(finding, Finding::Known { .. }) {
                counts.unchanged += effects.records;
            }
        });
        Ok(effects)
    }

    async fn write_sales(
        &self,
        visit: &mut Visit<'_>,
        answer: &Answer,
        order: &Order<'_>,
        lookback: Lookback,
        invocation: &Invocation,
    ) -> Result<Effects, WorkError> {
        let records = self
            .rejections
            .records(visit, answer, order.shape(), invocation)
            .await?;
        let sales = Sales::of(records, order.employee_id);
        let recalled = self.rejections.recall(visit, invocation).await;
        let ids = sales.all.iter().map(|sketch| &sketch.id);
        let roll_call = self.rosters.call(visit, ids, sales.unnamed.len(), invocation).await;
        let was_rejected = |id: &Id| recalled.as_ref().is_some_and(|recalled| recalled.names(id.as_str()));
        let has_to_be = |id: &Id| was_rejected(id) || roll_call.is_back(id);
        let mut looked = sales.judge(lookback, has_to_be, answer.fetched_at, invocation);
        looked.recent.sort_by_key(|sketch| !was_rejected(&sketch.id));
        let mut effects = looked.effects();
        let fetched_at = last_modified(answer.fetched_at);
        let synced = sync(
            &*self.table,
            looked.recent,
            Some(order.employee_id),
            order.branch_id,
            &fetched_at,
            &invocation.tally,
        )
        .await?;
        effects.is_whole &= synced.is_whole();
        looked.rejected += synced.rejected;
        self.rejections
            .remember(visit, recalled, &looked.rejected, &fetched_at, invocation)
            .await;
        effects.is_whole &= roll_call
            .settle(
                &*self.table,
                Some(order.employee_id),
                &fetched_at,
                effects.is_whole,
                invocation,
            )
            .await?;
        Ok(effects)
    }
}

impl Order<'_> {
    /// Where the sales stand in the answer.
    fn shape(&self) -> Shape<'_> {
        Shape::Under {
            id_name: "employee_id",
            id: self.employee_id,
            list: "sales",
        }
    }
}

impl<'a> Sales<'a> {
    fn of(records: Vec<&'a RawValue>, employee_id: &Id) -> Self {
        let (all, unnamed) = distinct(Entity::Sale, records, Some(employee_id));
        Self { all, unnamed }
    }

    /// Tells those that are looked at, in an answer fetched at `now`: the recent ones, and whatever has to be,
    /// however old. The others are counted, and logged where they cannot be stored.
    fn judge(
        self,
        lookback: Lookback,
        has_to_be: impl Fn(&Id) -> bool,
        now: UtcDateTime,
        invocation: &Invocation,
    ) -> Looked<'a> {
        let mut rejected = Rejected::default();
        self.unnamed
            .iter()
            .for_each(|unnamed| rejected.add_unnamed(unnamed, &invocation.tally));
        let (mut recent, mut skipped) = (self.all, 0);
        recent.retain(|sketch| {
            let lookback = if has_to_be(&sketch.id) { Lookback::ALL } else { lookback };
            match lookback.judge(sketch.head.transaction_timestamp, now) {
                Ok(Recency::Recent) => true,
                Ok(Recency::Old) => {
                    skipped += 1;
                    false
                }
                Err(rejection) => {
                    rejected.add(&sketch.id, sketch.raw.get(), &rejection, &invocation.tally);
                    false
                }
            }
        });
        Looked {
            recent,
            skipped,
            rejected,
        }
    }
}

impl Looked<'_> {
    /// What has become of the answer once what is recent stands in the table.
    fn effects(&self) -> Effects {
        Effects {
            records: self.recent.len() as u64,
            skipped: self.skipped,
            sent_on: Vec::new(),
            is_whole: self.rejected.is_empty(),
        }
    }
}

#[async_trait]
impl Worker for SaleCollector {
    type Message = SaleMessage;

    async fn work(&self, message: SaleMessage, invocation: &Invocation, quota_until: Instant) -> Result<(), WorkError> {
        let order = Order {
            employee_id: &message.employee_id,
            branch_id: message.branch_id.as_ref(),
            lookback: if message.first_load {
                Lookback::ALL
            } else {
                self.lookback
            },
            class: Class::of(message.background),
            run_id: message.run_id,
            thoroughness: Thoroughness::of(false, message.verify),
            accepts_deletions: false,
        };
        self.collect(order, invocation, quota_until).await
    }

    fn pace(&self) -> Duration {
        self.vendor.pace()
    }

    fn least_time(&self) -> Duration {
        self.vendor.time_out()
    }
}

#[async_trait]
impl Collector for SaleCollector {
    type Call = SaleCall;

    const NAME: &'static str = "sale-collector";

    fn run_id(call: &SaleCall) -> Option<RunId> {
        call.run_id
    }

    async fn scheduled(&self, invocation: &Invocation) -> Result<(), InvocationError> {
        self.accounts.note_staleness(&invocation.tally).await;
        Ok(self.desk().poll(invocation).await?)
    }

    async fn direct(&self, call: SaleCall, invocation: &Invocation) -> Result<(), InvocationError> {
        self.rosters.check_acceptance(Entity::Sale, call.accept_deletions)?;
        let order = Order {
            employee_id: &call.employee_id,
            branch_id: call.branch_id.as_ref(),
            lookback: match call.lookback_hours {
                _ if call.first_load => Lookback::ALL,
                Some(hours) => Lookback::hours(hours),
                None => self.lookback,
            },
            class: Class::of(call.background),
            run_id: call.run_id,
            thoroughness: Thoroughness::of(call.force || call.accept_deletions, call.verify),
            accepts_deletions: call.accept_deletions,
        };
        let span = error_span!(
            "call",
            employee_id = call.employee_id.as_str(),
            branch_id = call.branch_id.as_ref().map(Id::as_str),
        );
        let work = self.collect(order, invocation, invocation.work_until);
        invocation
            .within_time(work)
            .instrument(span)
            .await
            .map_err(WorkError::from)??;
        // Without a run it is a piece of work by itself.
        if let (Some(run_id), Some(branch_id)) = (call.run_id, call.branch_id) {
            let piece = Piece::Salesperson {
                branch_id,
                employee_id: call.employee_id,
                first_load: call.first_load,
            };
            self.accounts
                .settle(run_id, &piece, Ending::Done, &invocation.tally, invocation)
                .await;
        }
        Ok(())
    }

    async fn records(&self, messages: Vec<Message>, invocation: &Invocation) -> Vec<String> {
        self.desk().records(messages, invocation).await
    }
}
