//! The vendor's deletions. A record that was in an answer before, and is not in a complete one now, has its row marked,
//! and never erased; a record that is back has it unmarked, as the mark is an attribute that the vendor does not send.
//!
//! What was there before is remembered as a roster, an entry of the state table for each branch name, branch and
//! salesperson that is asked for. It is read only where an answer is not known, and never expires: as long as an answer
//! stays the same, nobody looks at its roster. An id is on it before its row is written, and leaves it only once the mark
//! is durable, so that none is forgotten, whenever somebody is killed. Only whoever has the claim on an id marks its
//! records.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracing::{error, info, warn};

use crate::checkpoint::Visit;
use crate::entity::Entity;
use crate::error_chain;
use crate::id::Id;
use crate::invocation::Invocation;
use crate::state::{StateError, StateTable};
use crate::table::{Table, TableError};
use crate::vendor::Query;
use crate::work::WorkError;

mod made;
mod mark;
mod roster;
mod rules;

use made::Made;
use mark::mark;
pub use rules::{DEFAULT_MAX_PERCENT, DeletionRules};

/// How many ids a log line names.
const MOST_NAMED: usize = 20;

/// All rosters, and what is done by them.
#[derive(Clone)]
pub struct Rosters {
    table: Option<Arc<dyn StateTable>>,
    rules: DeletionRules,
}

/// How many records there were before, and how many of them are missing now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shrinkage {
    /// Before.
    pub before: usize,
    /// Missing now.
    pub missing: usize,
}

impl std::ops::AddAssign for Shrinkage {
    fn add_assign(&mut self, other: Self) {
        self.before += other.before;
        self.missing += other.missing;
    }
}

/// One answer, compared with the roster of those before it.
pub struct RollCall<'a> {
    rules: DeletionRules,
    /// Of all answers that are judged together.
    shrinkage: Shrinkage,
    /// How many records have no usable id: they may be the missing ones.
    unnamed: usize,
    /// Whether a human has seen that they are missing.
    is_accepted: bool,
    call: Call<'a>,
}

/// What came of looking at the roster.
enum Call<'a> {
    /// Nothing is looked for, or there are too many to remember.
    Off,
    /// It could not be looked at: the answer must not be taken for one that is known.
    Unseen,
    /// It was compared with the answer.
    Made(Box<Made<'a>>),
}

impl Rosters {
    /// Rosters in `table`; without one, nobody's deletion is noticed.
    pub fn new(table: Option<Arc<dyn StateTable>>, rules: DeletionRules) -> Self {
        Self { table, rules }
    }

    /// Whether deletions of the records that a query asks for are looked for.
    pub fn are_kept_for(&self, query: &Query) -> bool {
        self.table.is_some() && self.rules.include(query.entity())
    }

    /// Whether a call can accept deletions of a kind.
    ///
    /// # Errors
    /// If it says that it does, and nobody looks for them.
    pub fn check_acceptance(&self, kind: Entity, accepts: bool) -> Result<(), WorkError> {
        let missing = match &self.table {
            _ if !accepts => return Ok(()),
            None => "STATE_DB names no table to remember what was there before",
            Some(_) if !self.rules.include(kind) => "DELETIONS does not name this kind of record",
            Some(_) => return Ok(()),
        };
        Err(WorkError::Permanent(format!(
            "accept_deletions is of no use here: no deletions are looked for, as {missing}"
        )))
    }

    /// Compares the ids of a new answer with the roster, and adds those that are not on it. Has to be called before any row
    /// of the answer is written. `unnamed` is how many of its records have no usable id.
    pub async fn call<'a>(
        &'a self,
        visit: &Visit<'_>,
        present: impl Iterator<Item = &Id>,
        unnamed: usize,
        invocation: &Invocation,
    ) -> RollCall<'a> {
        let task = visit.task();
        let present: BTreeSet<_> = present.map(|id| id.as_str().to_owned()).collect();
        let mut roll_call = RollCall {
            rules: self.rules,
            shrinkage: Shrinkage {
                before: present.len(),
                missing: 0,
            },
            unnamed,
            is_accepted: task.accepts_deletions,
            call: Call::Off,
        };
        let Some(table) = self.table.as_deref().filter(|_| task.keeps_roster) else {
            return roll_call;
        };
        roll_call.call = match Made::begin(table, &task.query, present).await {
            // Another may be at work on the same id, and know better.
            Ok(_) if !visit.is_claimed() => Call::Unseen,
            Ok(Some(made)) => {
                roll_call.shrinkage = made.shrinkage();
                Call::Made(Box::new(made))
            }
            Ok(None) => Call::Off,
            Err(failure) => {
                unreached(&failure, invocation);
                Call::Unseen
            }
        };
        roll_call
    }
}

impl RollCall<'_> {
    /// How much the answer has shrunk.
    pub fn shrinkage(&self) -> Shrinkage {
        self.shrinkage
    }

    /// Judges it by how much all answers have shrunk that were given together.
    pub fn among(self, all: Shrinkage) -> Self {
        Self { shrinkage: all, ..self }
    }

    /// Whether a record's row was marked as deleted, and the record is back: it has to be looked at, however old.
    pub fn is_back(&self, id: &Id) -> bool {
        match &self.call {
            Call::Made(made) => made.returned.contains(id),
            Call::Off | Call::Unseen => false,
        }
    }

    /// Why the missing ones must not be marked.
    fn objection(&self) -> Option<String> {
        let Call::Made(made) = &self.call else { return None };
        if made.missing.is_empty() || self.is_accepted {
            return None;
        }
        let Shrinkage { before, missing } = self.shrinkage;
        let most = self.rules.most_missing(before);
        if missing > most {
            return Some(format!(
                "{missing} of {before} records are missing, and no more than {most} are believed to be deleted at once"
            ));
        }
        let missing = made.missing.len();
        (self.unnamed > 0).then(|| {
            format!(
                "{missing} records are missing, and may be among the {} that have no usable id",
                self.unnamed
            )
        })
    }

    /// Leaves out missing branches that another name leads to now: they were renamed.
    pub async fn leave_out_renamed(&mut self, name: &str, table: &dyn Table, invocation: &Invocation) {
        let Call::Made(made) = &mut self.call else { return };
        match made.renamed(name, table).await {
            Ok(renamed) => {
                made.missing.retain(|id| !renamed.contains(id));
                self.shrinkage.missing -= renamed.len();
                self.shrinkage.before -= renamed.len().min(self.shrinkage.before);
            }
            Err(failure) => {
                warn!(
                    reason = error_chain(&*failure),
                    "it is not known whether missing branches were renamed; deletions are looked for the next time"
                );
                invocation.tally.count(|counts| counts.state_failures += 1);
                self.shrinkage.missing = 0;
                self.call = Call::Unseen;
            }
        }
    }

    /// Marks the rows of those that are missing, of an answer fetched at `fetched_at` about `parent`, and lets the roster
    /// forget them; or holds them back, where too many are. `is_in_step` says that the rows now say all that the answer
    /// says. Answers whether nothing is left open: only then can the answer be known.
    ///
    /// # Errors
    /// If a row could not be read or marked. The roster then has still all of them.
    pub async fn settle(
        self,
        table: &dyn Table,
        parent: Option<&Id>,
        fetched_at: &str,
        is_in_step: bool,
        invocation: &Invocation,
    ) -> Result<bool, TableError> {
        let objection = self.objection();
        let mut made = match self.call {
            Call::Off => return Ok(true),
            Call::Unseen => return Ok(false),
            Call::Made(made) => made,
        };
        let settled = match objection {
            Some(reason) => {
                error!(
                    reason,
                    ids = named(&made.missing),
                    "deletions held back until a direct call with \"accept_deletions\": true"
                );
                let missing = made.missing.len() as u64;
                invocation.tally.count(|counts| counts.held_back += missing);
                made.hold_back().await.map(|()| false)
            }
            None => match made.await_return().await {
                Ok(()) => {
                    let marked = mark(table, &made.missing, parent, fetched_at, &invocation.tally).await?;
                    if marked.written > 0 {
                        info!(
                            rows = marked.written,
                            ids = named(&made.missing),
                            "records have vanished, and their rows are marked as deleted"
                        );
                    }
                    let forgotten = made.forget_missing(&marked, is_in_step).await;
                    forgotten.map(|()| marked.superseded.is_empty())
                }
                Err(failure) => Err(failure),
            },
        };
        Ok(settled.unwrap_or_else(|failure| {
            unreached(&failure, invocation);
            false
        }))
    }
}

/// Ids for a log line.
fn named(ids: &[Id]) -> String {
    let texts: Vec<_> = ids.iter().take(MOST_NAMED).map(Id::as_str).collect();
    match ids.len().saturating_sub(MOST_NAMED) {
        0 => texts.join(", "),
        more => format!("{} and {more} more", texts.join(", ")),
    }
}

fn unreached(failure: &StateError, invocation: &Invocation) {
    warn!(
        reason = error_chain(failure),
        "the roster cannot be reached; deletions are looked for the next time"
    );
    invocation.tally.count(|counts| counts.state_failures += 1);
}
