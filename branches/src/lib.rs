//! The branch collector: asks the vendor for each branch, writes what changed, and sends each branch's id on.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use shared::account::{Accounts, Kind};
use shared::checkpoint::{Checkpoints, Effects, Finding, Task, Thoroughness, Visit};
use shared::collector::{Collector, InvocationError};
use shared::deletions::{Rosters, Shrinkage};
use shared::entity::Entity;
use shared::event::{BranchCall, Event};
use shared::id::Id;
use shared::invocation::Invocation;
use shared::message::{EmployeeMessage, WorkMessage};
use shared::queue::{Message, Outbox};
use shared::quota::Class;
use shared::rejections::{Rejected, Rejections};
use shared::run::{RunId, last_modified};
use shared::sync::sync;
use shared::table::Table;
use shared::vendor::answer::{Shape, distinct, records};
use shared::vendor::{Answer, Query, Vendor};
use shared::work::WorkError;
use tracing::{Instrument, error, error_span, info, warn};

mod missing;

use missing::{Answered, Called, Collected};

/// The branches that are collected where the event names none (the contract's section 2).
pub const DEFAULT_BRANCHES: [&str; 13] = [
    "Scranton",
    "Akron",
    "Buffalo",
    "Rochester",
    "Syracuse",
    "Utica",
    "Binghamton",
    "Albany",
    "Nashua",
    "Pittsfield",
    "Stamford",
    "Yonkers",
    "New York",
];

/// How many branches are in work at once. The quota paces them; this only keeps a slow answer from holding up the rest.
const BRANCHES_AT_ONCE: usize = 8;

/// The branch collector.
pub struct BranchCollector {
    /// Whom to ask.
    pub vendor: Arc<dyn Vendor>,
    /// Where branches are written.
    pub table: Arc<dyn Table>,
    /// Where their ids are sent.
    pub employee_queue: Arc<dyn Outbox>,
    /// What is remembered of each branch's name.
    pub checkpoints: Checkpoints,
    /// Where the runs keep account of their pieces.
    pub accounts: Accounts,
    /// By which it is noticed which branches are no more.
    pub rosters: Rosters,
    /// What is remembered of records that were rejected.
    pub rejections: Rejections,
}

/// Which branches are collected.
struct Order {
    kind: Kind,
    /// By name; none means all of them.
    names: Vec<String>,
    /// The run they are collected for; without one they are collected whatever was done before.
    run_id: Option<RunId>,
    thoroughness: Thoroughness,
    class: Class,
    accepts_deletions: bool,
}

impl Order {
    /// What the schedule asks for.
    fn scheduled(run_id: Option<RunId>) -> Self {
        Self {
            kind: Kind::Schedule,
            names: Vec::new(),
            run_id,
            thoroughness: Thoroughness::Usual,
            class: Class::Live,
            accepts_deletions: false,
        }
    }
}

impl From<BranchCall> for Order {
    fn from(call: BranchCall) -> Self {
        Self {
            kind: Kind::Call,
            names: call.branches,
            run_id: call.run_id,
            thoroughness: Thoroughness::of(call.force || call.accept_deletions, call.verify),
            accepts_deletions: call.accept_deletions,
            class: Class::of(call.background),
        }
    }
}

impl BranchCollector {
    /// Collects branches. Where one fails the others go on.
    async fn collect(&self, order: Order, invocation: &Invocation) -> Result<(), InvocationError> {
        let Order {
            kind,
            mut names,
            run_id,
            thoroughness,
            class,
            accepts_deletions,
        } = order;
        self.rosters.check_acceptance(Entity::Branch, accepts_deletions)?;
        let is_run = names.is_empty();
        if is_run {
            names = DEFAULT_BRANCHES.map(str::to_owned).into();
        }
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        if names.len() > 1 {
            let first = self.rejections.come_first(Entity::Branch, invocation).await;
            names.sort_by_key(|name| !first.contains(name));
        }
        let all = names.len();
        let begin = async |names: &[String]| {
            self.accounts
                .begin(invocation.run_id, kind, names, &invocation.tally)
                .await
        };
        let unbegun = if begin(&names).await { Vec::new() } else { names.clone() };
        let sent = Mutex::new(HashSet::new());
        let tasks: Vec<_> = names
            .into_iter()
            .map(|name| {
                let query = Query::Branch(name.clone());
                let task = Task {
                    class,
                    thoroughness,
                    accepts_deletions,
                    keeps_roster: self.rosters.are_kept_for(&query),
                    ..Task::new(query, run_id)
                };
                (name, task, invocation.counted_apart())
            })
            .collect();
        let work: Vec<_> = tasks
            .iter()
            .map(|(name, task, counted)| self.collect_branch(name, task, counted, &sent))
            .collect();
        let results: Vec<_> = futures::stream::iter(work)
            .buffer_unordered(BRANCHES_AT_ONCE)
            .collect()
            .await;
        let (mut failed, mut shrunk, mut others) = (Vec::new(), Vec::new(), Shrinkage::default());
        for result in results {
            match result {
                Ok(Collected::Done(shrinkage)) => others += shrinkage,
                Ok(Collected::Shrunk(answered)) => shrunk.push(*answered),
                Err(failure) => failed.push(failure),
            }
        }
        failed.extend(self.end_shrunk(shrunk, others).await);
        if !unbegun.is_empty() && !begin(&unbegun).await {
            warn!("the run is not in the register of runs, and nobody will be told what it came to");
        }
        failed.sort();
        if failed.is_empty() {
            invocation.tally.count(|counts| counts.runs_begun += u64::from(is_run));
            Ok(())
        } else {
            Err(InvocationError::Branches { failed, all })
        }
    }

    /// Collects one branch; an error is its name and the reason.
    async fn collect_branch<'a>(
        &'a self,
        name: &'a str,
        task: &'a Task,
        counted: &'a Invocation,
        sent: &Mutex<HashSet<Id>>,
    ) -> Result<Collected<'a>, String> {
        let result = within_span(name, self.visit_branch(name, task, counted, sent), counted).await;
        match &result {
            // Its work ends when all names are known.
            Ok(Collected::Shrunk(_)) => {}
            Ok(Collected::Done(_)) => self.settle(name, None, counted).await,
            Err(failure) => self.settle(name, Some(failure), counted).await,
        }
        result
    }

    /// Tells the run's account how the work on a name ended.
    async fn settle(&self, name: &str, failure: Option<&str>, counted: &Invocation) {
        // A failure's text begins with the name, and so do the account's reasons.
        let reason = failure.map(|failure| failure.strip_prefix(name).unwrap_or(failure).trim_start_matches(": "));
        self.accounts
            .settle_name(counted.run_id, name, reason, &counted.tally, counted)
            .await;
    }

    async fn visit_branch<'a>(
        &'a self,
        name: &'a str,
        task: &'a Task,
        invocation: &'a Invocation,
        sent: &Mutex<HashSet<Id>>,
    ) -> Result<Collected<'a>, WorkError> {
        let begun = loop {
            match self.checkpoints.begin(task, invocation).await {
                // Nobody else would come back to it: Lambda tries an invocation again before the claim of one that was
                // killed is over.
                Err(WorkError::Busy { wait }) if invocation.has_time_for(wait + self.vendor.time_out()) => {
                    info!(
                        wait_seconds = wait.as_secs_f64(),
                        "somebody else is at work on this branch"
                    );
                    tokio::time::sleep(wait).await;
                }
                begun => break begun?,
            }
        };
        let Some(mut visit) = begun else {
            return Ok(Collected::Done(Shrinkage::default()));
        };
        match self.sync_branch(&mut visit, sent, invocation).await {
            Ok((effects, called)) => {
                let answered = Answered {
                    name,
                    counted: invocation,
                    visit,
                    effects,
                    called,
                };
                self.end_if_none_is_missing(answered).await
            }
            Err(failure) => {
                visit.end(Err(failure), invocation).await?;
                Ok(Collected::Done(Shrinkage::default()))
            }
        }
    }

    async fn sync_branch<'a>(
        &'a self,
        visit: &mut Visit<'_>,
        sent: &Mutex<HashSet<Id>>,
        invocation: &Invocation,
    ) -> Result<(Effects, Option<Called<'a>>), WorkError> {
        let fetched = self
            .rejections
            .fetch(&*self.vendor, visit, invocation, invocation.work_until)
            .await?;
        let mut called = None;
        let effects = match visit.find(fetched) {
            Finding::Known { answer, mut effects } => {
                if let Some(answer) = answer {
                    // There may be more of them than are remembered.
                    let (sketches, _) = distinct(Entity::Branch, records(&answer.pages, Shape::List)?, None);
                    effects.sent_on = sketches.into_iter().map(|sketch| sketch.id).collect();
                }
                invocation.tally.count(|counts| counts.unchanged += effects.records);
                effects
            }
            Finding::New(answer) => {
                let (effects, of_answer) = self.write_branches(visit, &answer, invocation).await?;
                called = Some(of_answer);
                effects
            }
        };

        // Two names can lead to one branch; its employees are asked for once. An id is taken before its message is sent,
        // so that another name cannot send it meanwhile; if the sending fails, the invocation does.
        let new: Vec<_> = {
            let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
            let ids = effects.sent_on.iter().cloned();
            ids.filter(|id| sent.insert(id.clone())).collect()
        };
        let message = |id: &Id| {
            let message = EmployeeMessage {
                branch_id: id.clone(),
                run_id: Some(invocation.run_id),
                verify: visit.task().thoroughness == Thoroughness::Verify,
                background: visit.task().class == Class::Background,
            };
            message.to_body()
        };
        self.employee_queue
            .send(new.iter().map(message).collect(), Duration::ZERO)
            .await?;
        invocation.tally.count(|counts| counts.enqueued += new.len() as u64);
        self.accounts
            .expect_branches(invocation.run_id, &effects.sent_on, &invocation.tally)
            .await;
        Ok((effects, called))
    }

    async fn write_branches(
        &self,
        visit: &mut Visit<'_>,
        answer: &Answer,
        invocation: &Invocation,
    ) -> Result<(Effects, Called<'_>), WorkError> {
        let records = self.rejections.records(visit, answer, Shape::List, invocation).await?;
        let (sketches, unnamed) = distinct(Entity::Branch, records, None);
        if sketches.is_empty() && unnamed.is_empty() {
            warn!("the vendor knows no branch of this name");
        }
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
        let synced = sync(&*self.table, sketches, None, None, &fetched_at, &invocation.tally).await?;
        let is_whole = unnamed.is_empty() && synced.is_whole();
        rejected += synced.rejected;
        self.rejections
            .remember(visit, recalled, &rejected, &fetched_at, invocation)
            .await;
        let effects = Effects {
            records: sent_on.len() as u64,
            skipped: 0,
            sent_on,
            is_whole,
        };
        Ok((effects, Called { roll_call, fetched_at }))
    }

    /// Does what one record of the dead-letter queue asks for: its body is an event.
    async fn redo(&self, message: &Message, invocation: &Invocation) -> Result<(), InvocationError> {
        let order = match Event::<BranchCall>::from_json(&message.body)? {
            Event::Schedule { run_id } => Order::scheduled(run_id),
            Event::Direct(call) => call.into(),
            Event::Records(messages) => {
                // An event of records whose invocation failed as a whole holds events, too.
                let mut result = Ok(());
                for message in messages {
                    result = result.and(Box::pin(self.redo(&message, invocation)).await);
                }
                return result;
            }
        };
        // Counted with the invocation, but of the run that the event belongs to.
        let redone = Invocation {
            run_id: order.run_id.unwrap_or(invocation.run_id),
            scheduled: order.run_id,
            ..invocation.counted_apart()
        };
        let span = error_span!("event", message_id = message.id, run_id = %redone.run_id);
        self.collect(order, &redone).instrument(span).await
    }
}

/// Works on one branch while there is time; an error is its name and the reason.
async fn within_span<T>(
    name: &str,
    work: impl Future<Output = Result<T, WorkError>>,
    invocation: &Invocation,
) -> Result<T, String> {
    let span = error_span!("branch", branch_name = name);
    async {
        let result = invocation
            .within_time(work)
            .await
            .unwrap_or_else(|out_of_time| Err(out_of_time.into()));
        result.map_err(|failure| {
            error!(reason = %failure, "branch failed");
            format!("{name}: {failure}")
        })
    }
    .instrument(span)
    .await
}

#[async_trait]
impl Collector for BranchCollector {
    type Call = BranchCall;

    const NAME: &'static str = "branch-collector";

    fn run_id(call: &BranchCall) -> Option<RunId> {
        call.run_id
    }

    async fn scheduled(&self, invocation: &Invocation) -> Result<(), InvocationError> {
        self.collect(Order::scheduled(invocation.scheduled), invocation).await
    }

    async fn direct(&self, call: BranchCall, invocation: &Invocation) -> Result<(), InvocationError> {
        self.collect(call.into(), invocation).await
    }

    async fn records(&self, messages: Vec<Message>, invocation: &Invocation) -> Vec<String> {
        let mut failed = Vec::new();
        for message in messages {
            match self.redo(&message, invocation).await {
                Ok(()) => invocation.tally.count(|counts| counts.done += 1),
                Err(failure) => {
                    error!(
                        message_id = message.id,
                        reason = shared::error_chain(&failure),
                        "event failed again"
                    );
                    invocation.tally.count(|counts| counts.failed += 1);
                    failed.push(message.id);
                }
            }
        }
        failed
    }
}
