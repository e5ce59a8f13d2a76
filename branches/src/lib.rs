//! The branch collector: asks the vendor for each branch, writes what changed, and sends each branch's id on.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use shared::account::{Accounts, Kind};
use shared::checkpoint::{Checkpoints, Effects, Finding, Task, Thoroughness, Visit};
use shared::collector::{Collector, InvocationError};
use shared::entity::Entity;
use shared::event::{BranchCall, Event};
use shared::id::Id;
use shared::invocation::Invocation;
use shared::message::{EmployeeMessage, WorkMessage};
use shared::queue::{Message, Outbox};
use shared::quota::Class;
use shared::run::{RunId, last_modified};
use shared::sync::{reject_unnamed, sync};
use shared::table::Table;
use shared::vendor::answer::{Shape, distinct, records};
use shared::vendor::{Answer, Query, Vendor};
use shared::work::WorkError;
use tracing::{Instrument, error, error_span, info, warn};

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
        }
    }
}

impl From<BranchCall> for Order {
    fn from(call: BranchCall) -> Self {
        Self {
            kind: Kind::Call,
            names: call.branches,
            run_id: call.run_id,
            thoroughness: Thoroughness::of(call.force, call.verify),
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
        } = order;
        let is_run = names.is_empty();
        if is_run {
            names = DEFAULT_BRANCHES.map(str::to_owned).into();
        }
        let mut seen = HashSet::new();
        names.retain(|name| seen.insert(name.clone()));
        let all = names.len();
        self.accounts
            .begin(invocation.run_id, kind, &names, &invocation.tally)
            .await;
        let sent = Mutex::new(HashSet::new());
        let work: Vec<_> = names
            .into_iter()
            .map(|name| {
                let task = Task {
                    class,
                    thoroughness,
                    ..Task::new(Query::Branch(name.clone()), run_id)
                };
                self.collect_branch(name, task, &sent, invocation)
            })
            .collect();
        let results: Vec<_> = futures::stream::iter(work)
            .buffer_unordered(BRANCHES_AT_ONCE)
            .collect()
            .await;
        let mut failed: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        failed.sort();
        if failed.is_empty() {
            invocation.tally.count(|counts| counts.runs_begun += u64::from(is_run));
            Ok(())
        } else {
            Err(InvocationError::Branches { failed, all })
        }
    }

    /// Collects one branch; an error is its name and the reason.
    async fn collect_branch(
        &self,
        name: String,
        task: Task,
        sent: &Mutex<HashSet<Id>>,
        invocation: &Invocation,
    ) -> Result<(), String> {
        let span = error_span!("branch", branch_name = name);
        async {
            let counted = invocation.counted_apart();
            let work = self.visit_branch(&task, sent, &counted);
            let result = invocation
                .within_time(work)
                .await
                .unwrap_or_else(|out_of_time| Err(out_of_time.into()))
                .map_err(|failure| failure.to_string());
            let failure = result.as_ref().err().map(String::as_str);
            self.accounts
                .settle_name(invocation.run_id, &name, failure, &counted.tally, invocation)
                .await;
            result.map_err(|failure| {
                error!(reason = failure, "branch failed");
                format!("{name}: {failure}")
            })
        }
        .instrument(span)
        .await
    }

    async fn visit_branch(
        &self,
        task: &Task,
        sent: &Mutex<HashSet<Id>>,
        invocation: &Invocation,
    ) -> Result<(), WorkError> {
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
            return Ok(());
        };
        let result = self.sync_branch(&mut visit, task, sent, invocation).await;
        visit.end(result, invocation).await
    }

    async fn sync_branch(
        &self,
        visit: &mut Visit<'_>,
        task: &Task,
        sent: &Mutex<HashSet<Id>>,
        invocation: &Invocation,
    ) -> Result<Effects, WorkError> {
        let fetched = self
            .vendor
            .fetch(&visit.question(), invocation, invocation.work_until)
            .await?;
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
            Finding::New(answer) => self.write_branches(&answer, invocation).await?,
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
                verify: task.thoroughness == Thoroughness::Verify,
                background: task.class == Class::Background,
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
        Ok(effects)
    }

    async fn write_branches(&self, answer: &Answer, invocation: &Invocation) -> Result<Effects, WorkError> {
        let (sketches, unnamed) = distinct(Entity::Branch, records(&answer.pages, Shape::List)?, None);
        if sketches.is_empty() && unnamed.is_empty() {
            warn!("the vendor knows no branch of this name");
        }
        unnamed
            .iter()
            .for_each(|unnamed| reject_unnamed(unnamed, &invocation.tally));
        let sent_on: Vec<_> = sketches.iter().map(|sketch| sketch.id.clone()).collect();
        let synced = sync(
            &*self.table,
            sketches,
            None,
            None,
            &last_modified(answer.fetched_at),
            &invocation.tally,
        )
        .await?;
        Ok(Effects {
            records: sent_on.len() as u64,
            skipped: 0,
            sent_on,
            is_whole: unnamed.is_empty() && synced.is_whole(),
        })
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
