//! Every run keeps account of itself: which pieces of work it consists of, which of them are done, and what was done.
//!
//! The account lies in the state table. What makes up a run is a set, and what is done another: adding to a set twice
//! changes nothing, so that a message that comes again leaves the account right, and whoever adds the last piece sees that it
//! is the last. A run has an entry of its own, and one for each branch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::entity::Entity;
use crate::error_chain;
use crate::id::Id;
use crate::invocation::Invocation;
use crate::jitter::Jitter;
use crate::run::{RunId, last_modified};
use crate::state::{Addition, Entry, StateError, StateTable, Swapped};
use crate::tally::{Counts, Gap, Tally};
use crate::topic::Topic;

pub mod entries;
pub mod freshness;
pub mod register;
pub mod report;

use entries::{BranchAccount, RunAccount, State, branch_entry_id, run_entry_id};
use report::Report;

/// How long an account is kept after it was last added to.
pub const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The longest text of a reason that is kept, in bytes.
const LONGEST_REASON: usize = 300;

/// Why a piece that is done does not count as such.
const NOT_ADDED: &str = "it is done, but what it leads to could not be added to the run's account";

/// How many accounts of branches are read at once for a report.
const READ_AT_ONCE: usize = 8;

/// How long whoever has taken a report upon himself is trusted to send it.
const REPORTING: Duration = Duration::from_secs(60);

/// What an account may take of the time that is kept for settling.
const LEAST_TIME: Duration = Duration::from_secs(1);

/// How long a backfill is waited for before it is reported as it is: as long as the queues keep a message.
const BACKFILL_LASTS: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// How often a register is tried against others in a row.
const MAX_CONFLICTS: u32 = 20;

/// What began a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The schedule.
    Schedule,
    /// A direct call.
    Call,
    /// A backfill.
    Backfill,
}

impl Kind {
    /// Its name in the account.
    pub fn name(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Call => "call",
            Self::Backfill => "backfill",
        }
    }
}

/// A piece of a run's work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A branch, by its id: its salespersons are asked for.
    Branch(Id),
    /// A salesperson at a branch, whose sales are asked for.
    Salesperson {
        /// The branch.
        branch_id: Id,
        /// The salesperson.
        employee_id: Id,
        /// Whether all sales are owed, not only recent ones.
        first_load: bool,
    },
}

impl Piece {
    fn branch_id(&self) -> &Id {
        match self {
            Self::Branch(branch_id) | Self::Salesperson { branch_id, .. } => branch_id,
        }
    }

    fn entity(&self) -> Entity {
        match self {
            Self::Branch(_) => Entity::Salesperson,
            Self::Salesperson { .. } => Entity::Sale,
        }
    }
}

/// How the work on a piece ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending<'a> {
    /// It is done.
    Done,
    /// It lies in a dead-letter queue, for this reason.
    DeadLetter(&'a str),
    /// It has failed several times, for this reason, and will be tried again.
    Failing(&'a str),
    /// It will be tried again.
    Open,
}

/// The accounts of all runs.
#[derive(Clone)]
pub struct Accounts {
    table: Option<Arc<dyn StateTable>>,
    topic: Option<Arc<dyn Topic>>,
    clock: Clock,
    jitter: Jitter,
    environment: String,
    requests_per_minute: Option<u32>,
    /// Whether whoever adds the last piece reports the run.
    is_reporter: bool,
}

impl Accounts {
    /// Accounts in `table`; without one, none are kept. Of what a run came to, `topic` is told; without one, the log.
    /// `requests_per_minute` is the quota that reports compare with, where it is known.
    pub fn new(
        table: Option<Arc<dyn StateTable>>,
        topic: Option<Arc<dyn Topic>>,
        clock: Clock,
        jitter: Jitter,
        environment: String,
        requests_per_minute: Option<u32>,
    ) -> Self {
        Self {
            table,
            topic,
            clock,
            jitter,
            environment,
            requests_per_minute,
            is_reporter: true,
        }
    }

    /// The same accounts, kept by somebody who reports nothing: a run that is over by his addition is reported by the next
    /// scheduled run. For whoever cannot reach the topic.
    #[must_use]
    pub fn without_reports(self) -> Self {
        Self {
            is_reporter: false,
            ..self
        }
    }

    /// Keeps no accounts, for tests of what has nothing to do with them.
    pub fn none() -> Self {
        Self::new(None, None, Clock::system(), Jitter::seeded(0), String::new(), None)
    }

    /// Begins a run of these branches, or begins it again. Before a scheduled one, runs that were begun earlier and are
    /// not reported are reported as they are. Answers whether all of that is durable: where it is not, nobody would be told
    /// what the run came to, and it is to be begun again as soon as may be.
    pub async fn begin(&self, run_id: RunId, kind: Kind, names: &[String], tally: &Tally) -> bool {
        let Some(table) = &self.table else { return true };
        let begun = async {
            let mut addition = self.addition(Entity::Branch, Counts::default());
            addition.first.insert("kind", kind.name().to_owned());
            addition.sets.insert("names_expected", names.iter().cloned().collect());
            let entry = table.add(&run_entry_id(run_id), &addition).await?;
            for late in register::begin(&**table, run_id, kind).await? {
                if !self.may_still_end(&**table, late).await? {
                    self.report(&**table, late).await?;
                }
            }
            // Where it is begun only after its work, or again, it may be over.
            self.report_if_over(&**table, run_id, &entry).await
        };
        let begun = begun.await;
        let is_begun = begun.is_ok();
        self.note(begun, tally);
        is_begun
    }

    /// Whether a run is none of the schedule's that ends by itself, but not within the hour: a backfill takes as long as it
    /// takes, though no longer than a queue keeps its messages.
    async fn may_still_end(&self, table: &dyn StateTable, run_id: RunId) -> Result<bool, StateError> {
        let Some(entry) = table.read(&run_entry_id(run_id)).await? else {
            return Ok(false);
        };
        let run = RunAccount::read(&entry)?;
        let is_young = self.clock.now() - run_id.time() < BACKFILL_LASTS;
        Ok(run.kind == Some(Kind::Backfill) && run.state() == State::Open && is_young)
    }

    /// These branches belong to a run. It is called before what led to them is noted as done.
    pub async fn expect_branches(&self, run_id: RunId, branch_ids: &[Id], tally: &Tally) {
        let expected = Self::members("branches_expected", branch_ids);
        self.expect(&run_entry_id(run_id), expected, tally).await;
    }

    /// These salespersons of a branch belong to a run. It is called before the branch is noted as done.
    pub async fn expect_salespersons(&self, run_id: RunId, branch_id: &Id, employee_ids: &[Id], tally: &Tally) {
        let mut expected = Self::members("salespersons_expected", employee_ids);
        expected.first.insert("branch_id", branch_id.as_str().to_owned());
        self.expect(&branch_entry_id(run_id, branch_id), expected, tally).await;
    }

    fn members(set: &'static str, ids: &[Id]) -> Addition {
        Addition {
            sets: [(set, ids.iter().map(|id| id.as_str().to_owned()).collect())].into(),
            ..Addition::default()
        }
    }

    /// Of these salespersons of a branch all sales are owed. It is called before their messages are sent: a second message,
    /// sent once their rows are there, would not say so.
    pub async fn expect_first_loads(&self, run_id: RunId, branch_id: &Id, employee_ids: &[Id], tally: &Tally) {
        let expected = Self::members("first_loads_expected", employee_ids);
        self.expect(&branch_entry_id(run_id, branch_id), expected, tally).await;
    }

    async fn expect(&self, entry: &str, expected: Addition, tally: &Tally) {
        let Some(table) = &self.table else { return };
        if expected.sets.values().all(BTreeSet::is_empty) {
            return;
        }
        let mut addition = self.addition(Entity::Branch, Counts::default());
        addition.sets.extend(expected.sets);
        addition.first.extend(expected.first);
        let added = table.add(entry, &addition).await;
        if added.is_err() {
            tally.note_gap(Gap::NotAdded);
        }
        self.note(added.map(drop), tally);
    }

    /// The work on a branch's name ended, counted in `tally`: it is done, or `failure` says why not yet.
    pub async fn settle_name(
        &self,
        run_id: RunId,
        name: &str,
        failure: Option<&str>,
        tally: &Tally,
        invocation: &Invocation,
    ) {
        let Some(table) = &self.table else { return };
        let mut addition = self.addition(Entity::Branch, tally.counts());
        let (set, member) = match (failure, tally.gap()) {
            (Some(reason), _) => ("reasons", reason_of(name, reason)),
            (None, None) => ("names_finished", name.to_owned()),
            (None, Some(Gap::Superseded)) => ("names_superseded", name.to_owned()),
            (None, Some(Gap::NotAdded)) => ("reasons", reason_of(name, NOT_ADDED)),
        };
        addition.sets.insert(set, [member].into());
        let settled = async {
            let entry = table.add(&run_entry_id(run_id), &addition).await?;
            self.report_if_over(&**table, run_id, &entry).await
        };
        self.note(self.in_time(settled, invocation).await, &invocation.tally);
    }

    /// The work on a piece ended, counted in `tally`. What it caused has to be durable, and its message still has to be
    /// there: if it comes again it is settled again.
    pub async fn settle(
        &self,
        run_id: RunId,
        piece: &Piece,
        ending: Ending<'_>,
        tally: &Tally,
        invocation: &Invocation,
    ) {
        let Some(table) = &self.table else { return };
        let mut addition = self.addition(piece.entity(), tally.counts());
        let ending = match ending {
            Ending::Done if tally.gap() == Some(Gap::NotAdded) => Ending::Failing(NOT_ADDED),
            ending => ending,
        };
        if ending == Ending::Open && addition.numbers.is_empty() {
            return;
        }
        let branch_id = piece.branch_id();
        addition.first.insert("branch_id", branch_id.as_str().to_owned());
        match (piece, ending) {
            (_, Ending::Open) => {}
            (Piece::Branch(id) | Piece::Salesperson { employee_id: id, .. }, Ending::Failing(reason)) => {
                addition.sets.insert("reasons", [reason_of(id.as_str(), reason)].into());
            }
            // For this run nothing follows; but what follows for the later one may not be done yet.
            (Piece::Branch(_), Ending::Done) if tally.gap() == Some(Gap::Superseded) => {
                addition.first.insert("superseded_at", self.now());
            }
            (Piece::Branch(_), Ending::Done) => drop(addition.first.insert("listed_at", self.now())),
            (Piece::Branch(_), Ending::DeadLetter(reason)) => {
                addition.first.insert("dead_at", self.now());
                addition
                    .sets
                    .insert("reasons", [reason_of(branch_id.as_str(), reason)].into());
            }
            // Where it is done for a later run, it says all the more what this one wants to know.
            (
                Piece::Salesperson {
                    employee_id,
                    first_load,
                    ..
                },
                Ending::Done,
            ) => {
                let finished: BTreeSet<_> = [employee_id.as_str().to_owned()].into();
                if *first_load {
                    addition.sets.insert("first_loads_finished", finished.clone());
                }
                addition.sets.insert("salespersons_finished", finished);
            }
            (Piece::Salesperson { employee_id, .. }, Ending::DeadLetter(reason)) => {
                let id = employee_id.as_str();
                addition.sets.insert("salespersons_dead", [id.to_owned()].into());
                addition.sets.insert("reasons", [reason_of(id, reason)].into());
            }
        }
        let settled = async {
            let entry = table.add(&branch_entry_id(run_id, branch_id), &addition).await?;
            match ending {
                Ending::Open | Ending::Failing(_) => Ok(()),
                Ending::Done | Ending::DeadLetter(_) => {
                    let account = BranchAccount::read(&entry)?;
                    self.end_branch_if_over(&**table, run_id, branch_id, &account).await
                }
            }
        };
        self.note(self.in_time(settled, invocation).await, &invocation.tally);
    }

    /// These salespersons of a branch are all that a run asks for there: the branch itself is not asked who there is, so that
    /// its data is none the fresher when they are done.
    pub async fn choose(&self, run_id: RunId, branch_id: &Id, tally: &Tally, invocation: &Invocation) {
        let Some(table) = &self.table else { return };
        let mut addition = self.addition(Entity::Salesperson, Counts::default());
        addition.first.insert("branch_id", branch_id.as_str().to_owned());
        addition.first.insert("chosen_at", self.now());
        let chosen = async {
            let entry = table.add(&branch_entry_id(run_id, branch_id), &addition).await?;
            let account = BranchAccount::read(&entry)?;
            self.end_branch_if_over(&**table, run_id, branch_id, &account).await
        };
        self.note(self.in_time(chosen, invocation).await, tally);
    }

    /// Tells the run where all that it does about a branch is done, or dead.
    async fn end_branch_if_over(
        &self,
        table: &dyn StateTable,
        run_id: RunId,
        branch_id: &Id,
        account: &BranchAccount,
    ) -> Result<(), StateError> {
        let set = match account.state() {
            State::Open => return Ok(()),
            State::Complete => "branches_finished",
            State::Incomplete => "branches_ended",
        };
        if set == "branches_finished" && account.listed_at.is_some() {
            freshness::complete(table, branch_id, run_id).await?;
        }
        let mut addition = self.addition(Entity::Branch, Counts::default());
        addition.sets.insert(set, [branch_id.as_str().to_owned()].into());
        let entry = table.add(&run_entry_id(run_id), &addition).await?;
        self.report_if_over(table, run_id, &entry).await
    }

    async fn report_if_over(&self, table: &dyn StateTable, run_id: RunId, entry: &Entry) -> Result<(), StateError> {
        let run = RunAccount::read(entry)?;
        match run.state() {
            // A direct call to a later collector is a piece of work, and nobody waits for its report.
            _ if run.kind.is_none() || !self.is_reporter => Ok(()),
            State::Open => Ok(()),
            State::Complete | State::Incomplete => self.report(table, run_id).await,
        }
    }

    /// Reports a run, if that has not been done.
    async fn report(&self, table: &dyn StateTable, run_id: RunId) -> Result<(), StateError> {
        let by = self.jitter.token();
        let Some(claim) = register::claim_report(table, run_id, &by, self.clock.now(), REPORTING).await? else {
            return Ok(());
        };
        let report = self.gather(table, run_id).await?;
        info!(
            run_id = %run_id,
            state = report.state_name(),
            requests = report.requests,
            rejected = report.rejected,
            missing = report.missing.len(),
            "run reported"
        );
        let sent = match &self.topic {
            Some(topic) => topic.publish(&report.notice()).await,
            None => Ok(()),
        };
        match sent {
            Ok(()) => {
                register::reported(table, run_id, &claim, self.clock.now()).await?;
                if report.kind == Some(Kind::Schedule) {
                    freshness::note_expected(table, &report.branch_ids, run_id, report.is_complete()).await?;
                }
                Ok(())
            }
            Err(failure) => {
                warn!(run_id = %run_id, reason = error_chain(&failure), "the report will be sent with the next run");
                register::give_back(table, run_id, &claim).await
            }
        }
    }

    /// What a run has come to so far.
    ///
    /// # Errors
    /// If its account cannot be read.
    pub async fn report_of(&self, run_id: RunId) -> Result<Report, StateError> {
        match &self.table {
            Some(table) => self.gather(&**table, run_id).await,
            None => Err(StateError {
                action: "be read",
                source: "there is no state table".into(),
            }),
        }
    }

    async fn gather(&self, table: &dyn StateTable, run_id: RunId) -> Result<Report, StateError> {
        let run = match table.read(&run_entry_id(run_id)).await? {
            Some(entry) => RunAccount::read(&entry)?,
            None => RunAccount::default(),
        };
        let ids: Vec<_> = run
            .branches_expected
            .iter()
            .filter_map(|id| Id::new(id.clone()).ok())
            .collect();
        let read = ids.into_iter().map(async |id| {
            let entry = table.read(&branch_entry_id(run_id, &id)).await?;
            let account = entry.as_ref().map(BranchAccount::read).transpose()?;
            Ok((id, account.unwrap_or_default()))
        });
        let branches: Vec<Result<(Id, BranchAccount), StateError>> =
            futures::stream::iter(read).buffered(READ_AT_ONCE).collect().await;
        let branches = branches.into_iter().collect::<Result<BTreeMap<_, _>, _>>()?;
        Ok(Report::new(
            &self.environment,
            run_id,
            self.requests_per_minute,
            &run,
            &branches,
        ))
    }

    /// Notes how old the data of the branch is that is least fresh: how long ago the last run was due that it is complete
    /// for. Where that is not known nothing is noted, which is an alarm, too.
    pub async fn note_staleness(&self, tally: &Tally) {
        let Some(table) = &self.table else { return };
        match freshness::oldest(&**table).await {
            Ok(Some(run_id)) => {
                // A run of the future is as fresh as can be.
                tally.note_staleness((self.clock.now() - run_id.time()).try_into().unwrap_or_default());
            }
            Ok(None) => {}
            Err(failure) => self.note(Err(failure), tally),
        }
    }

    fn now(&self) -> String {
        last_modified(self.clock.now())
    }

    /// What every addition says.
    fn addition(&self, entity: Entity, counts: Counts) -> Addition {
        Addition {
            numbers: entries::numbers(entity, counts),
            first: [("first_at", self.now())].into(),
            last: [("last_at", self.now())].into(),
            expires_at: Some(self.clock.now() + KEPT),
            ..Addition::default()
        }
    }

    /// Accounts come after the work; where the invocation's time is over, it is its last second.
    async fn in_time(
        &self,
        settled: impl Future<Output = Result<(), StateError>>,
        invocation: &Invocation,
    ) -> Result<(), StateError> {
        let until = invocation.work_until.max(Instant::now() + LEAST_TIME);
        tokio::time::timeout_at(until, settled).await.unwrap_or_else(|_| {
            Err(StateError {
                action: "be added to",
                source: "the invocation's time was over".into(),
            })
        })
    }

    fn note(&self, noted: Result<(), StateError>, tally: &Tally) {
        if let Err(failure) = noted {
            warn!(
                reason = error_chain(&failure),
                "the state table cannot be reached; the run's account lacks what was done"
            );
            tally.count(|counts| counts.state_failures += 1);
        }
    }
}

/// `id: reason`, not too long.
fn reason_of(id: &str, reason: &str) -> String {
    let text = format!("{id}: {reason}");
    let end = text.floor_char_boundary(LONGEST_REASON);
    text[..end].to_owned()
}

/// Writes a register anew until nobody was in between. `next` says what it shall say; `None`: it says so already.
async fn rewrite<T: Default + Serialize + serde::de::DeserializeOwned>(
    table: &dyn StateTable,
    id: &str,
    next: impl Fn(T) -> Option<T>,
) -> Result<(), StateError> {
    let mut entry = table.read(id).await?;
    for _ in 0..MAX_CONFLICTS {
        let before = entry.as_ref().map(Entry::read).transpose()?.unwrap_or_default();
        let Some(after) = next(before) else {
            return Ok(());
        };
        let after = Entry::after(entry.as_ref(), &after, None)?;
        match table
            .swap(id, entry.as_ref().map(|entry| entry.version), &after)
            .await?
        {
            Swapped::Done => return Ok(()),
            Swapped::Conflict(current) => entry = current,
        }
    }
    Err(StateError {
        action: "be written",
        source: format!("{id} was written by others {MAX_CONFLICTS} times in between").into(),
    })
}

#[cfg(test)]
mod tests;
