//! What the runs' accounts say, as far as the page shows it: those of the last runs, read again as long as they change.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use shared::account::Kind;
use shared::account::entries::{BranchAccount, Numbers, RunAccount, State, branch_entry_id, run_entry_id};
use shared::account::freshness::FRESHNESS;
use shared::account::register::{RUNS, Runs};
use shared::entity::Entity;
use shared::id::Id;
use shared::quota::calendar::Calendar;
use shared::quota::ledger::CALENDAR;
use shared::run::RunId;
use shared::state::StateError;
use shared::state::dynamodb::DynamoState;

use super::snapshot::{RowFigures, RunFigures, RunState, SalesFigures, SalesOfBranch};

/// How many runs are shown.
pub(super) const SHOWN: usize = 24;

/// How many of the newest runs are read every time. Of the others one is read each time: little is added to them, by a redrive or
/// a message that comes again.
const NEWEST: usize = 2;

/// How long a run may stand still, with nothing in the queues and nothing asked of the vendor, until it no longer counts as
/// collecting, by the environment's clock.
const STANDSTILL: std::time::Duration = std::time::Duration::from_secs(300);

/// The accounts of the last runs, and what else the state table tells.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// The runs that are shown, in order.
    recent: Vec<RunId>,
    runs: BTreeMap<RunId, Run>,
    complete: BTreeMap<String, RunId>,
    /// The quota's calendar, if there is one.
    pub(super) calendar: Option<Calendar>,
    /// How often it was read.
    turns: usize,
    /// How many rows were written while somebody looked, by kind.
    pub(super) written: [u64; 3],
}

#[derive(Debug, Default)]
struct Run {
    account: RunAccount,
    branches: BTreeMap<String, BranchAccount>,
}

#[derive(Default, Deserialize)]
struct Freshness {
    #[serde(default)]
    branches: BTreeMap<String, RunId>,
}

impl Book {
    /// Reads what may have changed.
    ///
    /// # Errors
    /// If the state table cannot be read, or says what nobody here has written.
    pub(super) async fn read(&mut self, state: &DynamoState) -> Result<(), StateError> {
        let is_first = self.turns == 0;
        let watched = self.watched();
        let mut ids = vec![CALENDAR.to_owned(), RUNS.to_owned(), FRESHNESS.to_owned()];
        ids.extend(watched.iter().map(|run_id| run_entry_id(*run_id)));
        let mut entries = state.read_all(&ids).await?;
        self.calendar = entries.remove(CALENDAR).map(|entry| entry.read()).transpose()?;
        let freshness: Option<Freshness> = entries.remove(FRESHNESS).map(|entry| entry.read()).transpose()?;
        self.complete = freshness.unwrap_or_default().branches;
        let runs: Option<Runs> = entries.remove(RUNS).map(|entry| entry.read()).transpose()?;
        let mut recent = runs.unwrap_or_default().recent;
        recent.drain(..recent.len().saturating_sub(SHOWN));

        let new: Vec<_> = recent
            .iter()
            .filter(|run_id| !self.runs.contains_key(run_id))
            .copied()
            .collect();
        if !new.is_empty() {
            let ids: Vec<_> = new.iter().map(|run_id| run_entry_id(*run_id)).collect();
            entries.extend(state.read_all(&ids).await?);
        }
        let before = self.counted();
        self.runs.retain(|run_id, _| recent.contains(run_id));
        for run_id in watched.iter().chain(&new).filter(|run_id| recent.contains(run_id)) {
            if let Some(entry) = entries.get(&run_entry_id(*run_id)) {
                let run = self.runs.entry(*run_id).or_default();
                run.account = RunAccount::read(entry)?;
            }
        }
        self.recent = recent
            .into_iter()
            .filter(|run_id| self.runs.contains_key(run_id))
            .collect();
        self.read_branches(state, &watched, &new).await?;
        if !is_first {
            self.add_written(&before);
        }
        self.turns += 1;
        Ok(())
    }

    /// The runs that are read this time.
    fn watched(&self) -> BTreeSet<RunId> {
        let (older, newest) = self.recent.split_at(self.recent.len().saturating_sub(NEWEST));
        let mut watched: BTreeSet<_> = newest.iter().copied().collect();
        watched.extend(self.turn_of(older));
        watched
    }

    /// The one of the older runs whose turn it is.
    fn turn_of(&self, older: &[RunId]) -> Option<RunId> {
        older.get(self.turns.checked_rem(older.len())?).copied()
    }

    /// Reads the accounts of branches: of the newest runs those that are not complete, of the others all.
    async fn read_branches(
        &mut self,
        state: &DynamoState,
        watched: &BTreeSet<RunId>,
        new: &[RunId],
    ) -> Result<(), StateError> {
        let newest = self.recent.iter().rev().take(NEWEST).copied().collect::<BTreeSet<_>>();
        let mut wanted = BTreeMap::new();
        for run_id in watched.iter().chain(new) {
            let Some(run) = self.runs.get(run_id) else { continue };
            let account = &run.account;
            for id in account.branches_expected.union(&account.branches_finished) {
                let known = run.branches.get(id).map(BranchAccount::state);
                if known == Some(State::Complete) && newest.contains(run_id) {
                    continue;
                }
                if let Ok(branch_id) = Id::new(id.clone()) {
                    wanted.insert(branch_entry_id(*run_id, &branch_id), (*run_id, id.clone()));
                }
            }
        }
        let ids: Vec<_> = wanted.keys().cloned().collect();
        for (entry_id, entry) in state.read_all(&ids).await? {
            let Some((run_id, branch_id)) = wanted.remove(&entry_id) else {
                continue;
            };
            if let Some(run) = self.runs.get_mut(&run_id) {
                run.branches.insert(branch_id, BranchAccount::read(&entry)?);
            }
        }
        Ok(())
    }

    /// How many rows each run has written, by kind.
    fn counted(&self) -> BTreeMap<RunId, [u64; 3]> {
        let written = |run: &Run| {
            run.numbers()
                .rows
                .map(|rows| rows.inserted + rows.updated + rows.deleted)
        };
        self.runs.iter().map(|(run_id, run)| (*run_id, written(run))).collect()
    }

    fn add_written(&mut self, before: &BTreeMap<RunId, [u64; 3]>) {
        for (run_id, now) in self.counted() {
            let before = before.get(&run_id).copied().unwrap_or_default();
            for (sum, (now, before)) in self.written.iter_mut().zip(now.into_iter().zip(before)) {
                *sum += now.saturating_sub(before);
            }
        }
    }

    /// The runs, the oldest first. `now` is the time by which they are dated; `is_at_rest` says that nothing is in the queues,
    /// and nothing is asked of the vendor.
    pub(super) fn runs(&self, now: time::UtcDateTime, is_at_rest: bool) -> Vec<RunFigures> {
        let last = self.recent.last();
        let shown = self
            .recent
            .iter()
            .filter_map(|run_id| Some((run_id, self.runs.get(run_id)?)));
        shown
            .map(|(run_id, run)| run.figures(*run_id, Some(run_id) == last, now, is_at_rest))
            .collect()
    }

    /// The branches that are known, with the newest run that each is complete for.
    pub(super) fn branches(&self) -> BTreeMap<String, Option<RunId>> {
        let expected = self.runs.values().flat_map(|run| &run.account.branches_expected);
        let mut branches: BTreeMap<_, _> = expected.map(|id| (id.clone(), None)).collect();
        branches.extend(self.complete.iter().map(|(id, run_id)| (id.clone(), Some(*run_id))));
        branches
    }

    /// The sales that each run has inserted for each branch.
    pub(super) fn sales(&self) -> SalesFigures {
        let inserted = |id: &str, run_id: &RunId| {
            let branch = self.runs.get(run_id)?.branches.get(id)?;
            let [_, _, sales] = branch.numbers.rows;
            // Of one that is not begun it is not known how many it will be.
            (sales.inserted > 0 || branch.state() != State::Open).then_some(sales.inserted)
        };
        let ids: BTreeSet<_> = self.runs.values().flat_map(|run| run.branches.keys()).collect();
        let branches = ids.into_iter().map(|id| SalesOfBranch {
            id: id.clone(),
            inserted: self.recent.iter().map(|run_id| inserted(id, run_id)).collect(),
        });
        SalesFigures {
            runs: self.recent.clone(),
            branches: branches.collect(),
        }
    }
}

impl Run {
    /// What was done in all: the run has an account of its own, and one for each branch.
    fn numbers(&self) -> Numbers {
        let mut numbers = self.account.numbers;
        self.branches.values().for_each(|branch| numbers += branch.numbers);
        numbers
    }

    fn figures(&self, run_id: RunId, is_newest: bool, now: time::UtcDateTime, is_at_rest: bool) -> RunFigures {
        let account = &self.account;
        let accounts = self.branches.values();
        let numbers = self.numbers();
        let firsts = accounts.clone().filter_map(|branch| branch.first_at.as_ref());
        let lasts = accounts.clone().filter_map(|branch| branch.last_at.as_ref());
        let last_at = lasts.chain(&account.last_at).max().cloned();
        let stands_still = || {
            let last = last_at.as_deref().and_then(|at| RunId::parse(at).ok());
            is_at_rest && last.is_none_or(|last| last < RunId::scheduled_for(now - STANDSTILL))
        };
        let state = match account.state() {
            State::Complete => RunState::Complete,
            // An hourly run is overtaken by the next one; a backfill goes on beside them.
            State::Open if (is_newest || account.kind == Some(Kind::Backfill)) && !stands_still() => {
                RunState::Collecting
            }
            State::Open | State::Incomplete => RunState::Incomplete,
        };
        let part = |all: &BTreeSet<String>, done: &BTreeSet<String>| (all.intersection(done).count(), all.len());
        let salespersons = accounts
            .clone()
            .map(|branch| part(&branch.salespersons_expected, &branch.salespersons_finished))
            .fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1));
        let reasons = account
            .reasons
            .iter()
            .chain(accounts.flat_map(|branch| &branch.reasons));
        RunFigures {
            run_id,
            kind: account.kind.map(Kind::name),
            first_at: firsts.chain(&account.first_at).min().cloned(),
            last_at: last_at.clone(),
            state,
            names: part(&account.names_expected, &account.names_finished),
            branches: part(&account.branches_expected, &account.branches_finished),
            salespersons,
            reasons: reasons.take(5).cloned().collect(),
            api_calls: numbers.api_calls,
            api_throttles: numbers.api_throttles,
            rejected: numbers.rejected,
            dead_lettered: numbers.dead_lettered,
            held_back: numbers.held_back,
            rows: Entity::ALL
                .map(Entity::name)
                .into_iter()
                .zip(numbers.rows.map(RowFigures::from))
                .collect(),
        }
    }
}
