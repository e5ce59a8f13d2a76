//! The salesperson collector: asks the vendor for a branch's employees, writes the salespersons that changed, and sends
//! the id of each on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::value::RawValue;
use shared::account::{Accounts, Ending, Piece};
use shared::change::Row;
use shared::checkpoint::{Checkpoints, Effects, Finding, Task, Thoroughness, Visit};
use shared::collector::{Collector, InvocationError};
use shared::deletions::Rosters;
use shared::entity::{DELETED_AT, Entity};
use shared::event::SalespersonCall;
use shared::id::Id;
use shared::invocation::Invocation;
use shared::jitter::Jitter;
use shared::message::{EmployeeMessage, SaleMessage, WorkMessage};
use shared::queue::{Message, Outbox, WorkQueue};
use shared::quota::Class;
use shared::record::{Key, Record};
use shared::rejections::{Rejected, Rejections};
use shared::run::{RunId, last_modified};
use shared::sync::{Synced, read_records, slices, write_changes};
use shared::table::Table;
use shared::vendor::answer::{Shape, Sketch, Unnamed, distinct, records};
use shared::vendor::{Answer, Query, Vendor};
use shared::work::{Desk, WorkError, Worker};
use tokio::time::Instant;
use tracing::{Instrument, error_span};

/// The salesperson collector.
pub struct SalespersonCollector {
    /// Whom to ask.
    pub vendor: Arc<dyn Vendor>,
    /// Where salespersons are written.
    pub table: Arc<dyn Table>,
    /// Where branches' ids come from.
    pub employee_queue: Arc<dyn WorkQueue>,
    /// Where salespersons' ids are sent.
    pub sale_queue: Arc<dyn Outbox>,
    /// How long a poll takes new messages.
    pub poll_window: Duration,
    /// Randomness for the delays of messages that failed.
    pub jitter: Jitter,
    /// What is remembered of each branch.
    pub checkpoints: Checkpoints,
    /// Where the runs keep account of their pieces.
    pub accounts: Accounts,
    /// By which it is noticed who has left.
    pub rosters: Rosters,
    /// What is remembered of records that were rejected.
    pub rejections: Rejections,
}

/// One branch's salespersons.
struct Order<'a> {
    branch_id: &'a Id,
    /// The run that the messages sent on belong to.
    run_id: RunId,
    task: Task,
}

impl SalespersonCollector {
    fn desk(&self) -> Desk<'_, Self> {
        Desk {
            worker: self,
            queue: &*self.employee_queue,
            window: self.poll_window,
            jitter: &self.jitter,
            accounts: &self.accounts,
        }
    }

    /// What is to be done about one branch.
    fn task(&self, branch_id: &Id, run_id: Option<RunId>) -> Task {
        let query = Query::Employees(branch_id.clone());
        Task {
            keeps_roster: self.rosters.are_kept_for(&query),
            ..Task::new(query, run_id)
        }
    }

    async fn collect(&self, order: &Order<'_>, invocation: &Invocation, quota_until: Instant) -> Result<(), WorkError> {
        let Some(mut visit) = self.checkpoints.begin(&order.task, invocation).await? else {
            return Ok(());
        };
        let result = self.visit(&mut visit, order, invocation, quota_until).await;
        visit.end(result, invocation).await
    }

    async fn visit(
        &self,
        visit: &mut Visit<'_>,
        order: &Order<'_>,
        invocation: &Invocation,
        quota_until: Instant,
    ) -> Result<Effects, WorkError> {
        let fetched = self
            .rejections
            .fetch(&*self.vendor, visit, invocation, quota_until)
            .await?;
        let effects = match visit.find(fetched) {
            Finding::New(answer) => self.write_salespersons(visit, &answer, order, invocation).await?,
            Finding::Known { answer, mut effects } => {
                if let Some(answer) = answer {
                    // There may be more of them than are remembered.
                    let employees = records(&answer.pages, order.shape())?;
                    let (sketches, _) = salespersons(employees, order.branch_id);
                    effects.sent_on = sketches.into_iter().map(|sketch| sketch.id).collect();
                }
                let first = self.rejections.come_first(Entity::Sale, invocation).await;
                effects.sent_on.sort_by_key(|id| !first.contains(id.as_str()));
                // Each has a row, so that no first load is owed.
                let messages = effects.sent_on.iter().map(|id| order.message(id, false)).collect();
                self.send(messages, invocation).await?;
                invocation.tally.count(|counts| counts.unchanged += effects.records);
                effects
            }
        };
        self.accounts
            .expect_salespersons(order.run_id, order.branch_id, &effects.sent_on, &invocation.tally)
            .await;
        Ok(effects)
    }

    async fn write_salespersons(
        &self,
        visit: &mut Visit<'_>,
        answer: &Answer,
        order: &Order<'_>,
        invocation: &Invocation,
    ) -> Result<Effects, WorkError> {
        let employees = self
            .rejections
            .records(visit, answer, order.shape(), invocation)
            .await?;
        let (mut sketches, unnamed) = salespersons(employees, order.branch_id);
        let first = self.rejections.come_first(Entity::Sale, invocation).await;
        sketches.sort_by_key(|sketch| !first.contains(sketch.id.as_str()));
        let recalled = self.rejections.recall(visit, invocation).await;
        let mut rejected = Rejected::default();
        unnamed
            .iter()
            .for_each(|unnamed| rejected.add_unnamed(unnamed, &invocation.tally));
        let sent_on: Vec<_> = sketches.iter().map(|sketch| sketch.id.clone()).collect();
        let roll_call = self
            .rosters
            .call(visit, sent_on.iter(), unnamed.len(), invocation)
            .await;
        let fetched_at = last_modified(answer.fetched_at);
        let mut synced = Synced::default();
        for slice in slices(sketches) {
            synced += self.sync_slice(slice, order, &fetched_at, invocation).await?;
        }
        let is_in_step = unnamed.is_empty() && synced.is_whole();
        rejected += synced.rejected;
        self.rejections
            .remember(visit, recalled, &rejected, &fetched_at, invocation)
            .await;
        let is_settled = roll_call
            .settle(&*self.table, Some(order.branch_id), &fetched_at, is_in_step, invocation)
            .await?;
        Ok(Effects {
            records: sent_on.len() as u64,
            skipped: 0,
            sent_on,
            is_whole: is_in_step && is_settled,
        })
    }

    async fn sync_slice(
        &self,
        slice: Vec<Sketch<'_>>,
        order: &Order<'_>,
        fetched_at: &str,
        invocation: &Invocation,
    ) -> Result<Synced, WorkError> {
        let branch_id = order.branch_id;
        let (records, unreadable) = read_records(Entity::Salesperson, &slice, Some(branch_id), None, &invocation.tally);
        let key = |sketch: &Sketch<'_>| Key {
            id: sketch.id.clone(),
            parent: Some(branch_id.clone()),
        };
        let rows = self.table.read(slice.iter().map(key).collect()).await?;
        let owes_all = |sketch: &Sketch<'_>| {
            let record = records.iter().find(|record| record.key.id == sketch.id);
            owes_first_load(rows.get(&key(sketch)), record)
        };
        let first_loads = slice.iter().filter(|sketch| owes_all(sketch));
        let first_loads: Vec<_> = first_loads.map(|sketch| sketch.id.clone()).collect();
        self.accounts
            .expect_first_loads(order.run_id, branch_id, &first_loads, &invocation.tally)
            .await;
        let message = |sketch: &Sketch<'_>| order.message(&sketch.id, owes_all(sketch));
        // Before the rows: a row without its message would look as if the first load had been asked for.
        self.send(slice.iter().map(message).collect(), invocation).await?;
        let mut synced = write_changes(&*self.table, &slice, records, rows, fetched_at, &invocation.tally).await?;
        synced.rejected += unreadable;
        Ok(synced)
    }

    async fn send(&self, messages: Vec<String>, invocation: &Invocation) -> Result<(), WorkError> {
        let count = messages.len() as u64;
        self.sale_queue.send(messages, Duration::ZERO).await?;
        invocation.tally.count(|counts| counts.enqueued += count);
        Ok(())
    }
}

/// Whether all sales of a salesperson are owed: there is no row yet, or he is back, and nobody has asked for the sales of
/// the time in between.
fn owes_first_load(row: Option<&Row>, record: Option<&Record>) -> bool {
    let Some(row) = row else { return true };
    // The vendor may send an attribute of this name, too: then it is no mark.
    let sent = record.and_then(|record| record.attributes.get(DELETED_AT));
    row.is_deleted() && row.attributes.get(DELETED_AT) != sent
}

/// The salespersons among employees, and what has no usable id.
fn salespersons<'a>(employees: Vec<&'a RawValue>, branch_id: &Id) -> (Vec<Sketch<'a>>, Vec<Unnamed<'a>>) {
    let (mut sketches, mut unnamed) = distinct(Entity::Salesperson, employees, Some(branch_id));
    sketches.retain(|sketch| sketch.head.is_salesperson());
    // Whoever is no salesperson is none of ours, whatever the record is like; of what is no object nobody can tell.
    unnamed.retain(|unnamed| unnamed.head.is_salesperson() || !unnamed.is_object);
    (sketches, unnamed)
}

impl Order<'_> {
    /// Where the employees stand in the answer.
    fn shape(&self) -> Shape<'_> {
        Shape::Under {
            id_name: "branch_id",
            id: self.branch_id,
            list: "employees",
        }
    }

    /// The message that sends a salesperson's id on.
    fn message(&self, employee_id: &Id, first_load: bool) -> String {
        let message = SaleMessage {
            branch_id: Some(self.branch_id.clone()),
            employee_id: employee_id.clone(),
            run_id: Some(self.run_id),
            first_load,
            verify: self.task.thoroughness == Thoroughness::Verify,
            background: self.task.class == Class::Background,
        };
        message.to_body()
    }
}

#[async_trait]
impl Worker for SalespersonCollector {
    type Message = EmployeeMessage;

    async fn work(
        &self,
        message: EmployeeMessage,
        invocation: &Invocation,
        quota_until: Instant,
    ) -> Result<(), WorkError> {
        let run_id = message.run_id.unwrap_or(invocation.run_id);
        let order = Order {
            branch_id: &message.branch_id,
            run_id,
            task: Task {
                class: Class::of(message.background),
                thoroughness: Thoroughness::of(false, message.verify),
                ..self.task(&message.branch_id, Some(run_id))
            },
        };
        self.collect(&order, invocation, quota_until).await
    }

    fn pace(&self) -> Duration {
        self.vendor.pace()
    }

    fn least_time(&self) -> Duration {
        self.vendor.time_out()
    }
}

#[async_trait]
impl Collector for SalespersonCollector {
    type Call = SalespersonCall;

    const NAME: &'static str = "salesperson-collector";

    fn run_id(call: &SalespersonCall) -> Option<RunId> {
        call.run_id
    }

    async fn scheduled(&self, invocation: &Invocation) -> Result<(), InvocationError> {
        Ok(self.desk().poll(invocation).await?)
    }

    async fn direct(&self, call: SalespersonCall, invocation: &Invocation) -> Result<(), InvocationError> {
        self.rosters
            .check_acceptance(Entity::Salesperson, call.accept_deletions)?;
        let span = error_span!("call", branch_id = call.branch_id.as_str());
        let order = Order {
            branch_id: &call.branch_id,
            run_id: invocation.run_id,
            task: Task {
                class: Class::of(call.background),
                thoroughness: Thoroughness::of(call.force || call.accept_deletions, call.verify),
                accepts_deletions: call.accept_deletions,
                ..self.task(&call.branch_id, call.run_id)
            },
        };
        let work = self.collect(&order, invocation, invocation.work_until);
        invocation
            .within_time(work)
            .instrument(span)
            .await
            .map_err(WorkError::from)??;
        let piece = Piece::Branch(call.branch_id);
        self.accounts
            .settle(invocation.run_id, &piece, Ending::Done, &invocation.tally, invocation)
            .await;
        Ok(())
    }

    async fn records(&self, messages: Vec<Message>, invocation: &Invocation) -> Vec<String> {
        self.desk().records(messages, invocation).await
    }
}
