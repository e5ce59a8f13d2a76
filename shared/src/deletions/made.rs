//! An answer's ids beside those of its roster: what is missing, and what the roster says from then on.

use std::collections::{BTreeSet, HashSet};
use std::error::Error;

use tracing::{info, warn};

use super::Shrinkage;
use super::mark::Marked;
use super::roster::Roster;
use crate::checkpoint::entry_id;
use crate::id::Id;
use crate::record::Key;
use crate::state::{Entry, StateError, StateTable, Swapped};
use crate::table::{MAX_READ, Table};
use crate::value::Value;
use crate::vendor::Query;

/// How often a roster is written anew because somebody else wrote it in between.
const MAX_CONFLICTS: u32 = 20;

/// The attribute of a branch by which it is asked for.
const BRANCH_NAME: &str = "branch_name";

/// A roll call that was made.
pub(super) struct Made<'a> {
    table: &'a dyn StateTable,
    entry_id: String,
    /// The roster as it was written last.
    entry: Option<Entry>,
    /// Those who are on it, as far as this roll call knows.
    known: BTreeSet<String>,
    /// How many were on it before.
    before: usize,
    present: BTreeSet<String>,
    /// Those who were on it, and are not present.
    pub(super) missing: Vec<Id>,
    /// Those whose rows were marked before, and who are present.
    pub(super) returned: HashSet<Id>,
    /// Whether those whose rows are marked have to be remembered.
    remembers_gone: bool,
}

impl<'a> Made<'a> {
    /// Reads the roster of a query, adds those that are new, and finds those that are missing; `None` if they are too many
    /// to remember.
    pub(super) async fn begin(
        table: &'a dyn StateTable,
        query: &Query,
        present: BTreeSet<String>,
    ) -> Result<Option<Self>, StateError> {
        let entry_id = roster_id(query);
        let mut made = Self {
            table,
            entry: table.read(&entry_id).await?,
            entry_id,
            known: BTreeSet::new(),
            before: 0,
            present,
            missing: Vec::new(),
            returned: HashSet::new(),
            // Only sales can be too old to be looked at when they are back.
            remembers_gone: matches!(query, Query::Sales(_)),
        };
        Ok(made.call().await?.then_some(made))
    }

    async fn call(&mut self) -> Result<bool, StateError> {
        for _ in 0..MAX_CONFLICTS {
            let before = Roster::read(self.entry.as_ref());
            let mut after = before.clone();
            after.is_too_long = false;
            after.ids.extend(self.present.iter().cloned());
            let after = after.fitted();
            if after != before {
                let next = Entry::after(self.entry.as_ref(), &after, None)?;
                let seen = self.entry.as_ref().map(|entry| entry.version);
                match self.table.swap(&self.entry_id, seen, &next).await? {
                    Swapped::Done => self.entry = Some(next),
                    Swapped::Conflict(current) => {
                        self.entry = current;
                        continue;
                    }
                }
            }
            if after.is_too_long {
                if !before.is_too_long {
                    warn!(
                        records = self.present.len(),
                        "there are too many records to remember them: their deletions are not noticed"
                    );
                }
                return Ok(false);
            }
            let is_missing = |id: &&String| !self.present.contains(*id);
            self.missing = ids(before.ids.iter().filter(is_missing));
            self.returned = ids(before.gone.iter().filter(|id| !is_missing(id)));
            if before.forgot_gone {
                let new: HashSet<Id> = ids(self.present.iter().filter(|id| !before.ids.contains(*id)));
                self.returned.extend(new);
            }
            self.before = before.before();
            self.known = after.ids;
            return Ok(true);
        }
        Err(self.never_still())
    }

    /// How much the answer has shrunk. Where none is missing, it speaks for itself.
    pub(super) fn shrinkage(&self) -> Shrinkage {
        Shrinkage {
            before: match self.missing.len() {
                0 => self.present.len(),
                _ => self.before,
            },
            missing: self.missing.len(),
        }
    }

    /// Leaves the roster as it is: the missing ones were not believed to be gone.
    pub(super) async fn hold_back(&mut self) -> Result<(), StateError> {
        let before = self.before;
        self.write(|roster| roster.before_hold = Some(before)).await
    }

    /// Sees to it that the missing ones are looked at when they are back, however old. Has to be durable before their rows
    /// are marked.
    pub(super) async fn await_return(&mut self) -> Result<(), StateError> {
        if !self.remembers_gone || self.missing.is_empty() {
            return Ok(());
        }
        let missing: Vec<_> = self.missing.iter().map(text).collect();
        self.write(|roster| roster.add_gone(&missing)).await
    }

    /// Lets the roster forget the missing ones, whose rows are marked, but for those whose rows are another's; and, if the
    /// rows say all that the answer says, that those who are back were gone.
    pub(super) async fn forget_missing(&mut self, marked: &Marked, is_in_step: bool) -> Result<(), StateError> {
        let present = self.present.clone();
        let open: Vec<_> = marked.superseded.iter().map(text).collect();
        let never_stored: Vec<_> = marked.without_row.iter().map(text).collect();
        self.write(|roster| {
            roster.before_hold = None;
            roster.ids = present.iter().chain(&open).cloned().collect();
            // Nobody has anything to unmark of those that were never stored.
            let is_over = |id: &String| never_stored.contains(id) || (is_in_step && present.contains(id));
            roster.gone.retain(|id| !is_over(id));
        })
        .await
    }

    /// Those of the missing branches whose row has another name by now, and that are on the roster of that name.
    pub(super) async fn renamed(
        &self,
        name: &str,
        rows: &dyn Table,
    ) -> Result<HashSet<Id>, Box<dyn Error + Send + Sync>> {
        let mut renamed = HashSet::new();
        for slice in self.missing.chunks(MAX_READ) {
            let key = |id: &Id| Key {
                id: id.clone(),
                parent: None,
            };
            for (key, row) in rows.read(slice.iter().map(key).collect()).await? {
                let new_name = match row.attributes.get(BRANCH_NAME) {
                    Some(Value::String(other)) if other != name && !row.is_deleted() => other,
                    _ => continue,
                };
                let entry_id = roster_id(&Query::Branch(new_name.clone()));
                let of_new_name = Roster::read(self.table.read(&entry_id).await?.as_ref());
                if of_new_name.ids.contains(key.id.as_str()) {
                    info!(branch_id = %key.id, new_name, "the branch has another name now");
                    renamed.insert(key.id);
                }
            }
        }
        Ok(renamed)
    }

    /// Writes what `change` makes of the roster, however often others have added to it meanwhile.
    async fn write(&mut self, change: impl Fn(&mut Roster)) -> Result<(), StateError> {
        for _ in 0..MAX_CONFLICTS {
            let current = Roster::read(self.entry.as_ref());
            if current.is_too_long {
                return Ok(());
            }
            let mut next = current.clone();
            change(&mut next);
            // Those whom somebody else has added are his to judge.
            next.ids.extend(current.ids.difference(&self.known).cloned());
            let next = next.fitted();
            if next == current {
                return Ok(());
            }
            let written = Entry::after(self.entry.as_ref(), &next, None)?;
            let seen = self.entry.as_ref().map(|entry| entry.version);
            match self.table.swap(&self.entry_id, seen, &written).await? {
                Swapped::Done => {
                    self.entry = Some(written);
                    return Ok(());
                }
                Swapped::Conflict(now) => self.entry = now,
            }
        }
        Err(self.never_still())
    }

    fn never_still(&self) -> StateError {
        StateError {
            action: "keep a roster still for long enough to write it",
            source: format!(
                "{} was written by others {MAX_CONFLICTS} times in between",
                self.entry_id
            )
            .into(),
        }
    }
}

fn roster_id(query: &Query) -> String {
    format!("roster/{}", entry_id(query))
}

fn text(id: &Id) -> String {
    id.as_str().to_owned()
}

fn ids<'a, C: FromIterator<Id>>(texts: impl Iterator<Item = &'a String>) -> C {
    // None of them is empty: they were ids before.
    texts.filter_map(|text| Id::new(text.clone()).ok()).collect()
}
