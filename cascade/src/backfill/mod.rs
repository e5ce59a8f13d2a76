//! Backfill: the queues are filled again from the tables, as background work, so that what the tables hold is compared
//! with what the vendor says now.
//!
//! A backfill is a run of its own, with an account and a report. How far the filling of the queues is stands in the state
//! table, so that one that was broken off goes on where it stopped.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use serde::{Deserialize, Serialize};
use shared::account::entries::State as Extent;
use shared::account::report::Report;
use shared::account::{Accounts, Kind};
use shared::clock::Clock;
use shared::entity::DELETED_AT;
use shared::error_chain;
use shared::id::Id;
use shared::invocation::Invocation;
use shared::message::{EmployeeMessage, SaleMessage, WorkMessage};
use shared::queue::Outbox;

use shared::run::{RunId, is_last_modified};
use shared::state::{Entry, StateTable, Swapped};
use shared::tally::Tally;
use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub mod scope;

use scope::Scope;

/// The entry of the state table that says how far it is.
const ENTRY: &str = "backfill";

/// How many rows are read before their messages are sent and the progress is noted.
pub const PAGE: i32 = 500;

/// How long the state table may take for one step.
const STEP: Duration = Duration::from_secs(60);

/// The tables that a backfill reads.
#[derive(Clone, Debug)]
pub struct Tables {
    /// `branch-${Environment}`
    pub branches: String,
    /// `salesperson-${Environment}`
    pub salespersons: String,
    /// `sale-${Environment}`
    pub sales: String,
}

/// Fills the queues again.
pub struct Backfill {
    /// The tables' client.
    pub dynamodb: aws_sdk_dynamodb::Client,
    /// Where the rows are.
    pub tables: Tables,
    /// Where branches' ids go.
    pub employee_queue: Arc<dyn Outbox>,
    /// Where salespersons' ids go.
    pub sale_queue: Arc<dyn Outbox>,
    /// Where the progress is noted.
    pub state: Arc<dyn StateTable>,
    /// Where the run's account is kept.
    pub accounts: Accounts,
    /// What time it is.
    pub clock: Clock,
    /// How many rows are read before their messages are sent, as [`PAGE`].
    pub page: i32,
}

/// Why the queues are not filled.
#[derive(Debug, Error)]
pub enum BackfillError {
    /// Another one is under way.
    #[error(
        "a backfill of {scope} was begun as run {run_id} and has not filled its queues yet; go on with it by asking for the \
         same again, or give it up with --abandon"
    )]
    Unfinished {
        /// What it fills.
        scope: Scope,
        /// Its run.
        run_id: RunId,
    },
    /// There is nothing to fill the queues with.
    #[error("there is no row of {0}, so that there is nothing to fill again")]
    Nothing(Scope),
    /// A service did not do what was asked.
    #[error("could not {action}: {reason}")]
    Service {
        /// What was asked.
        action: &'static str,
        /// What it said.
        reason: String,
    },
}

/// How far the filling is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    scope: Scope,
    run_id: RunId,
    /// The key of the last row of which a message was sent; none before the first.
    #[serde(default)]
    after: BTreeMap<String, String>,
    /// Whether the run's account is begun: there is something to fill.
    has_begun: bool,
    /// Whether the branches' messages are sent.
    has_asked_branches: bool,
    is_filled: bool,
}

/// A backfill whose queues are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Filled {
    /// Its run.
    pub run_id: RunId,
    /// How many messages were sent in this call: to the employee queue, to the sale queue.
    pub sent: (usize, usize),
    /// Whether it went on where an earlier call had stopped.
    pub resumed: bool,
}

/// How far a backfill's work is.
#[derive(Clone, Debug)]
pub struct Extents {
    /// Salespersons collected, and known.
    pub salespersons: (usize, usize),
    /// Whether anything more will be done.
    pub is_over: bool,
    /// What it came to so far.
    pub report: Report,
}

impl Backfill {
    /// Fills the queues with everything in `scope`, or goes on with it. `told` is told how many messages were sent.
    ///
    /// # Errors
    /// If another one is unfinished, there is nothing in the scope, or a service fails; asking again goes on from there.
    pub async fn fill(&self, scope: &Scope, mut told: impl FnMut(usize)) -> Result<Filled, BackfillError> {
        let (mut entry, mut progress, resumed) = self.open(scope).await?;
        let run_id = progress.run_id;
        let mut sent = (0, 0);
        // Who was asked for by this call. What an earlier one had sent may be sent once more: it is done once all the same.
        let mut asked_branches = BTreeSet::new();
        let mut asked: BTreeSet<(Id, Id)> = BTreeSet::new();
        if scope.asks_branches() {
            asked_branches = self.branch_ids(scope).await?;
            if !progress.has_asked_branches {
                if !asked_branches.is_empty() {
                    self.begin(&mut progress).await?;
                    sent.0 += self.ask_branches(run_id, &asked_branches).await?;
                    told(sent.0);
                }
                progress.has_asked_branches = true;
                entry = self.write(Some(&entry), &progress).await?;
            }
        }
        loop {
            let mut page = self.page(scope, &progress.after).await?;
            // Rows of one salesperson, or his sales, lie on many pages.
            page.salespersons
                .retain(|salesperson| asked.insert(salesperson.clone()));
            if !page.salespersons.is_empty() {
                self.begin(&mut progress).await?;
                if scope.asks_branches() {
                    // A branch whose own record cannot be stored has no row, and may have salespersons.
                    let found = page.salespersons.iter().map(|(branch_id, _)| branch_id.clone());
                    let unasked: BTreeSet<_> = found.filter(|id| asked_branches.insert(id.clone())).collect();
                    sent.0 += self.ask_branches(run_id, &unasked).await?;
                }
                sent.1 += self.ask_salespersons(run_id, &page.salespersons).await?;
                told(sent.0 + sent.1);
            }
            if page.after.is_empty() {
                break;
            }
            progress.after = page.after;
            entry = self.write(Some(&entry), &progress).await?;
        }
        if progress.has_begun {
            self.end(scope, run_id).await?;
        }
        progress.is_filled = true;
        self.write(Some(&entry), &progress).await?;
        if progress.has_begun {
            Ok(Filled { run_id, sent, resumed })
        } else {
            Err(BackfillError::Nothing(scope.clone()))
        }
    }

    /// Begins the run. Its one name stands for the filling itself: until that is done the run is not over, whatever is done
    /// already.
    async fn begin(&self, progress: &mut Progress) -> Result<(), BackfillError> {
        if progress.has_begun {
            return Ok(());
        }
        let tally = Tally::default();
        let name = progress.scope.to_string();
        self.accounts
            .begin(progress.run_id, Kind::Backfill, &[name], &tally)
            .await;
        progress.has_begun = true;
        accounted(&tally)
    }

    async fn ask_branches(&self, run_id: RunId, ids: &BTreeSet<Id>) -> Result<usize, BackfillError> {
        let tally = Tally::default();
        let expected: Vec<_> = ids.iter().cloned().collect();
        self.accounts.expect_branches(run_id, &expected, &tally).await;
        accounted(&tally)?;
        let messages = ids.iter().map(|id| {
            let message = EmployeeMessage {
                branch_id: id.clone(),
                run_id: Some(run_id),
                verify: true,
                background: true,
            };
            message.to_body()
        });
        self.send(&*self.employee_queue, messages.collect()).await
    }

    async fn ask_salespersons(&self, run_id: RunId, salespersons: &BTreeSet<(Id, Id)>) -> Result<usize, BackfillError> {
        let tally = Tally::default();
        let mut messages = Vec::new();
        let mut by_branch: BTreeMap<&Id, Vec<Id>> = BTreeMap::new();
        for (branch_id, employee_id) in salespersons {
            by_branch.entry(branch_id).or_default().push(employee_id.clone());
        }
        for (branch_id, employees) in by_branch {
            let branch = std::slice::from_ref(branch_id);
            self.accounts.expect_branches(run_id, branch, &tally).await;
            self.accounts
                .expect_salespersons(run_id, branch_id, &employees, &tally)
                .await;
            messages.extend(employees.into_iter().map(|employee_id| {
                let message = SaleMessage {
                    branch_id: Some(branch_id.clone()),
                    employee_id,
                    run_id: Some(run_id),
                    first_load: false,
                    verify: true,
                    background: true,
                };
                message.to_body()
            }));
        }
        accounted(&tally)?;
        self.send(&*self.sale_queue, messages).await
    }

    /// Tells the account that the queues are filled.
    async fn end(&self, scope: &Scope, run_id: RunId) -> Result<(), BackfillError> {
        let invocation = self.invocation();
        let tally = &invocation.tally;
        if !scope.asks_branches() {
            // No message of the branches' own will say that their salespersons are known.
            let branch_ids = self.report(run_id).await?.branch_ids.into_iter();
            for branch_id in branch_ids.filter_map(|id| Id::new(id).ok()) {
                self.accounts.choose(run_id, &branch_id, tally, &invocation).await;
            }
        }
        let name = scope.to_string();
        self.accounts.settle_name(run_id, &name, None, tally, &invocation).await;
        accounted(tally)
    }

    /// Gives up an unfinished backfill: what is in the queues is worked through, the rest is not sent.
    ///
    /// # Errors
    /// If the state table cannot be written.
    pub async fn abandon(&self) -> Result<Option<Scope>, BackfillError> {
        let Some(entry) = self.state.read(ENTRY).await.map_err(state)? else {
            return Ok(None);
        };
        let progress: Progress = entry.read().map_err(state)?;
        if progress.is_filled {
            return Ok(None);
        }
        let abandoned = Progress {
            is_filled: true,
            ..progress.clone()
        };
        self.write(Some(&entry), &abandoned).await?;
        if progress.has_begun {
            // So that whoever reads of it one day, as it will not be complete, is told why.
            let invocation = self.invocation();
            let (run_id, name) = (progress.run_id, progress.scope.to_string());
            let reason = Some("it was given up before its queues were filled");
            self.accounts
                .settle_name(run_id, &name, reason, &invocation.tally, &invocation)
                .await;
            accounted(&invocation.tally)?;
        }
        Ok(Some(progress.scope))
    }

    /// How far the work is.
    ///
    /// # Errors
    /// If the account cannot be read.
    pub async fn extents(&self, run_id: RunId) -> Result<Extents, BackfillError> {
        let report = self.report(run_id).await?;
        Ok(Extents {
            salespersons: report.salespersons,
            is_over: report.extent != Extent::Open,
            report,
        })
    }

    async fn report(&self, run_id: RunId) -> Result<Report, BackfillError> {
        self.accounts.report_of(run_id).await.map_err(state)
    }

    /// What is noted of this backfill, or a new note.
    async fn open(&self, scope: &Scope) -> Result<(Entry, Progress, bool), BackfillError> {
        let seen = self.state.read(ENTRY).await.map_err(state)?;
        if let Some(entry) = &seen {
            let progress: Progress = entry.read().map_err(state)?;
            if !progress.is_filled && progress.scope == *scope {
                return Ok((entry.clone(), progress, true));
            }
            if !progress.is_filled {
                return Err(BackfillError::Unfinished {
                    scope: progress.scope,
                    run_id: progress.run_id,
                });
            }
        }
        let progress = Progress {
            scope: scope.clone(),
            run_id: RunId::scheduled_for(self.clock.now()),
            after: BTreeMap::new(),
            has_begun: false,
            has_asked_branches: false,
            is_filled: false,
        };
        let entry = self.write(seen.as_ref(), &progress).await?;
        Ok((entry, progress, false))
    }

    async fn write(&self, seen: Option<&Entry>, progress: &Progress) -> Result<Entry, BackfillError> {
        let next = Entry::after(seen, progress, None).map_err(state)?;
        let version = seen.map(|seen| seen.version);
        match self.state.swap(ENTRY, version, &next).await.map_err(state)? {
            Swapped::Done => Ok(next),
            Swapped::Conflict(_) => Err(BackfillError::Service {
                action: "note how far the backfill is",
                reason: "somebody else is at work on a backfill; wait for it, and ask again".to_owned(),
            }),
        }
    }

    fn invocation(&self) -> Invocation {
        Invocation::new(None, self.clock.now(), Instant::now() + STEP, CancellationToken::new())
    }

    async fn send(&self, queue: &dyn Outbox, messages: Vec<String>) -> Result<usize, BackfillError> {
        let count = messages.len();
        if count > 0 {
            let sent = queue.send(messages, Duration::ZERO).await;
            sent.map_err(|failure| BackfillError::Service {
                action: "fill a queue",
                reason: error_chain(&failure),
            })?;
        }
        Ok(count)
    }

    /// The ids of the scope's branches. One that is asked for by its id is asked for though it is marked as deleted.
    async fn branch_ids(&self, scope: &Scope) -> Result<BTreeSet<Id>, BackfillError> {
        if let Some(branch_id) = scope.branch() {
            let answer = self
                .dynamodb
                .get_item()
                .table_name(&self.tables.branches)
                .key("branch_id", AttributeValue::S(branch_id.as_str().to_owned()))
                .projection_expression("branch_id")
                .send()
                .await
                .map_err(read)?;
            return Ok(answer.item.map(|_| branch_id).into_iter().collect());
        }
        let mut pages = self
            .dynamodb
            .scan()
            .table_name(&self.tables.branches)
            .projection_expression("branch_id, deleted_at")
            .into_paginator()
            .items()
            .send();
        let mut ids = BTreeSet::new();
        while let Some(item) = pages.next().await {
            let item = item.map_err(read)?;
            ids.extend(id(&item, "branch_id").filter(|_| !is_marked(&item)));
        }
        Ok(ids)
    }

    /// The salespersons of the next rows.
    async fn page(&self, scope: &Scope, after: &BTreeMap<String, String>) -> Result<Page, BackfillError> {
        let start = after
            .iter()
            .map(|(name, key)| (name.clone(), AttributeValue::S(key.clone())));
        let start: HashMap<_, _> = start.collect();
        let start = Some(start).filter(|start| !start.is_empty());
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let scan = self
            .dynamodb
            .scan()
            .limit(self.page)
            .set_exclusive_start_key(start.clone())
            .projection_expression("employee_id, branch_id, deleted_at");
        let (items, last) = match scope {
            Scope::Employee(employee_id) => {
                let answer = self
                    .dynamodb
                    .query()
                    .table_name(&self.tables.salespersons)
                    .key_condition_expression("employee_id = :id")
                    .expression_attribute_values(":id", text(employee_id))
                    .projection_expression("employee_id, branch_id")
                    .set_exclusive_start_key(start)
                    .send()
                    .await
                    .map_err(read)?;
                (answer.items, answer.last_evaluated_key)
            }
            Scope::All => {
                let answer = scan.table_name(&self.tables.salespersons).send().await.map_err(read)?;
                (answer.items, answer.last_evaluated_key)
            }
            Scope::Branch(branch_id) => {
                let answer = scan
                    .table_name(&self.tables.salespersons)
                    .filter_expression("branch_id = :id")
                    .expression_attribute_values(":id", text(branch_id))
                    .send()
                    .await
                    .map_err(read)?;
                (answer.items, answer.last_evaluated_key)
            }
            Scope::Days { from, to } => {
                let answer = scan
                    .table_name(&self.tables.sales)
                    .filter_expression("transaction_timestamp BETWEEN :from AND :to")
                    .expression_attribute_values(":from", text(&format!("{from} 00:00:00")))
                    .expression_attribute_values(":to", text(&format!("{to} 23:59:59")))
                    .send()
                    .await
                    .map_err(read)?;
                (answer.items, answer.last_evaluated_key)
            }
        };
        let mut salespersons = BTreeSet::new();
        // Who has left is asked for only by his own id. Of a sale that was taken back the salesperson is asked like any other.
        let looks_for_marks = matches!(scope, Scope::All | Scope::Branch(_));
        for item in items.unwrap_or_default() {
            if looks_for_marks && is_marked(&item) {
                continue;
            }
            // A sale that nobody knows a branch of belongs to none: its salesperson's other rows name his.
            if let (Some(employee_id), Some(branch_id)) = (id(&item, "employee_id"), id(&item, "branch_id")) {
                salespersons.insert((branch_id, employee_id));
            }
        }
        let last = last.unwrap_or_default().into_iter();
        Ok(Page {
            salespersons,
            after: last
                .filter_map(|(name, key)| Some((name, key.as_s().ok()?.clone())))
                .collect(),
        })
    }
}

/// An account that lacks something would never be complete.
fn accounted(tally: &Tally) -> Result<(), BackfillError> {
    if tally.counts().state_failures == 0 {
        return Ok(());
    }
    Err(BackfillError::Service {
        action: "keep account of the backfill",
        reason: "the state table cannot be written; the same command goes on from here".to_owned(),
    })
}

/// The salespersons of some rows, each with a branch, and the key of the last of the rows; no key: there are no more.
struct Page {
    salespersons: BTreeSet<(Id, Id)>,
    after: BTreeMap<String, String>,
}

/// Whether a row is marked as deleted.
fn is_marked(item: &HashMap<String, AttributeValue>) -> bool {
    let mark = item.get(DELETED_AT).and_then(|mark| mark.as_s().ok());
    mark.is_some_and(|mark| is_last_modified(mark))
}

fn id(item: &HashMap<String, AttributeValue>, name: &str) -> Option<Id> {
    match item.get(name)? {
        // A branch that the vendor itself gives a sale can be a number.
        AttributeValue::S(text) | AttributeValue::N(text) => Id::new(text.clone()).ok(),
        _ => None,
    }
}

fn state(failure: shared::state::StateError) -> BackfillError {
    BackfillError::Service {
        action: "use the state table",
        reason: error_chain(&failure),
    }
}

fn read<E: std::error::Error>(failure: E) -> BackfillError {
    BackfillError::Service {
        action: "read the rows",
        reason: error_chain(&failure),
    }
}
