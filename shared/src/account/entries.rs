//! What the entries of an account say.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Kind;
use crate::entity::Entity;
use crate::id::Id;
use crate::run::RunId;
use crate::state::{Entry, StateError};
use crate::tally::Counts;

/// What the ids of all accounts begin with.
pub const PREFIX: &str = "run/";

/// The longest id of a branch that stands in an entry's id as it is; DynamoDB takes keys of 2,048 bytes.
const LONGEST_PLAIN_ID: usize = 1024;

/// The entry of a run as a whole.
pub fn run_entry_id(run_id: RunId) -> String {
    format!("{PREFIX}{run_id}")
}

/// The entry of what a run does about a branch.
pub fn branch_entry_id(run_id: RunId, branch_id: &Id) -> String {
    let id = branch_id.as_str();
    if id.len() <= LONGEST_PLAIN_ID {
        format!("{PREFIX}{run_id}/{id}")
    } else {
        let hash: String = Sha256::digest(id).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{PREFIX}{run_id}/sha256:{hash}")
    }
}

/// How far a run is, or what it does about a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Something is still to be done.
    Open,
    /// All is done.
    Complete,
    /// Nothing more is done by itself, but not all is done.
    Incomplete,
}

impl State {
    /// How far both are together.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Open, _) | (_, Self::Open) => Self::Open,
            (Self::Complete, Self::Complete) => Self::Complete,
            (Self::Incomplete, _) | (_, Self::Incomplete) => Self::Incomplete,
        }
    }
}

/// What became of the rows of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Rows that were not there before.
    pub inserted: u64,
    /// Rows of which something was changed.
    pub updated: u64,
    /// Records that cost no write.
    pub unchanged: u64,
    /// Sales outside the lookback.
    pub skipped: u64,
    /// Rows marked as deleted.
    pub deleted: u64,
}

impl std::ops::AddAssign for Rows {
    fn add_assign(&mut self, other: Self) {
        self.inserted += other.inserted;
        self.updated += other.updated;
        self.unchanged += other.unchanged;
        self.skipped += other.skipped;
        self.deleted += other.deleted;
    }
}

/// What was done, as it is counted in an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Requests sent to the vendor.
    pub api_calls: u64,
    /// Those that it answered with 429.
    pub api_throttles: u64,
    /// Records that cannot be stored.
    pub rejected: u64,
    /// Messages sent to a dead-letter queue by a collector.
    pub dead_lettered: u64,
    /// Records that have vanished by too many at once to be believed to be deleted.
    pub held_back: u64,
    /// Rows by kind, in the order of [`Entity::ALL`].
    pub rows: [Rows; 3],
}

impl std::ops::AddAssign for Numbers {
    fn add_assign(&mut self, other: Self) {
        self.api_calls += other.api_calls;
        self.api_throttles += other.api_throttles;
        self.rejected += other.rejected;
        self.dead_lettered += other.dead_lettered;
        self.held_back += other.held_back;
        for (rows, other) in self.rows.iter_mut().zip(other.rows) {
            *rows += other;
        }
    }
}

/// The names of a kind's numbers: inserted, updated, unchanged, skipped, deleted.
fn row_names(entity: Entity) -> [&'static str; 5] {
    match entity {
        Entity::Branch => [
            "branches_inserted",
            "branches_updated",
            "branches_unchanged",
            "branches_skipped",
            "branches_deleted",
        ],
        Entity::Salesperson => [
            "salespersons_inserted",
            "salespersons_updated",
            "salespersons_unchanged",
            "salespersons_skipped",
            "salespersons_deleted",
        ],
        Entity::Sale => [
            "sales_inserted",
            "sales_updated",
            "sales_unchanged",
            "sales_skipped",
            "sales_deleted",
        ],
    }
}

/// The numbers that are added for what was done about rows of a kind; those that are 0 are left out.
pub fn numbers(entity: Entity, counts: Counts) -> BTreeMap<&'static str, u64> {
    let [inserted, updated, unchanged, skipped, deleted] = row_names(entity);
    [
        ("api_calls", counts.api_calls),
        ("api_throttles", counts.api_throttles),
        ("rejected", counts.rejected),
        ("dead_lettered", counts.dead_lettered),
        ("held_back", counts.held_back),
        (inserted, counts.inserted),
        (updated, counts.updated),
        (unchanged, counts.unchanged),
        (skipped, counts.skipped),
        (deleted, counts.deleted),
    ]
    .into_iter()
    .filter(|(_, number)| *number > 0)
    .collect()
}

/// Reads an entry that others may have written to: what is absent is empty, what is of another type is an error.
struct Reader<'a>(&'a Entry);

impl Reader<'_> {
    fn wrong(&self, name: &str, expected: &str) -> StateError {
        StateError {
            action: "be understood",
            source: format!("the account's {name} is {}, expected {expected}", self.0.body[name]).into(),
        }
    }

    fn number(&self, name: &str) -> Result<u64, StateError> {
        match self.0.body.get(name) {
            None => Ok(0),
            Some(value) => value.as_u64().ok_or_else(|| self.wrong(name, "a whole number")),
        }
    }

    fn text(&self, name: &str) -> Result<Option<String>, StateError> {
        match self.0.body.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.wrong(name, "a text")),
        }
    }

    fn set(&self, name: &str) -> Result<BTreeSet<String>, StateError> {
        let Some(value) = self.0.body.get(name) else {
            return Ok(BTreeSet::new());
        };
        let members = value.as_array().and_then(|members| {
            let texts = members.iter().map(|member| member.as_str().map(str::to_owned));
            texts.collect()
        });
        members.ok_or_else(|| self.wrong(name, "a set of texts"))
    }

    fn numbers(&self) -> Result<Numbers, StateError> {
        let mut rows = [Rows::default(); 3];
        for (rows, entity) in rows.iter_mut().zip(Entity::ALL) {
            let [inserted, updated, unchanged, skipped, deleted] = row_names(entity);
            *rows = Rows {
                inserted: self.number(inserted)?,
                updated: self.number(updated)?,
                unchanged: self.number(unchanged)?,
                skipped: self.number(skipped)?,
                deleted: self.number(deleted)?,
            };
        }
        Ok(Numbers {
            api_calls: self.number("api_calls")?,
            api_throttles: self.number("api_throttles")?,
            rejected: self.number("rejected")?,
            dead_lettered: self.number("dead_lettered")?,
            held_back: self.number("held_back")?,
            rows,
        })
    }
}

/// The account of a run as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunAccount {
    /// What began it; `None` where nobody did: a piece of work was called for by itself.
    pub kind: Option<Kind>,
    /// When it was first added to, as [`last_modified`](crate::run::last_modified) writes it.
    pub first_at: Option<String>,
    /// When it was last added to.
    pub last_at: Option<String>,
    /// The names of the branches that it asks for.
    pub names_expected: BTreeSet<String>,
    /// Those that are done.
    pub names_finished: BTreeSet<String>,
    /// Those that are done for a later run.
    pub names_superseded: BTreeSet<String>,
    /// The ids of the branches that there are.
    pub branches_expected: BTreeSet<String>,
    /// Those of which everything is done.
    pub branches_finished: BTreeSet<String>,
    /// Those of which nothing more is done by itself, although not everything is.
    pub branches_ended: BTreeSet<String>,
    /// Why names were not done at once: `name: reason`.
    pub reasons: BTreeSet<String>,
    /// What was done about branches.
    pub numbers: Numbers,
}

impl RunAccount {
    /// What an entry says.
    ///
    /// # Errors
    /// If it is no account.
    pub fn read(entry: &Entry) -> Result<Self, StateError> {
        let reader = Reader(entry);
        let kind = reader.0.body.get("kind");
        Ok(Self {
            kind: match kind {
                None => None,
                Some(kind) => serde_json::from_value(kind.clone())
                    .map_err(|_| reader.wrong("kind", "schedule, call or backfill"))
                    .map(Some)?,
            },
            first_at: reader.text("first_at")?,
            last_at: reader.text("last_at")?,
            names_expected: reader.set("names_expected")?,
            names_finished: reader.set("names_finished")?,
            names_superseded: reader.set("names_superseded")?,
            branches_expected: reader.set("branches_expected")?,
            branches_finished: reader.set("branches_finished")?,
            branches_ended: reader.set("branches_ended")?,
            reasons: reader.set("reasons")?,
            numbers: reader.numbers()?,
        })
    }

    /// How far it is.
    pub fn state(&self) -> State {
        let names = how_far(&self.names_expected, &self.names_finished, &self.names_superseded);
        let branches = how_far(&self.branches_expected, &self.branches_finished, &self.branches_ended);
        names.and(branches)
    }
}

/// The account of what a run does about one branch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BranchAccount {
    /// When it was first added to.
    pub first_at: Option<String>,
    /// When it was last added to.
    pub last_at: Option<String>,
    /// When its salespersons were known.
    pub listed_at: Option<String>,
    /// When those of its salespersons were known whom a backfill asks for, without a look at who else there is.
    pub chosen_at: Option<String>,
    /// When its message became a dead letter.
    pub dead_at: Option<String>,
    /// When its message was found done for a later run.
    pub superseded_at: Option<String>,
    /// The ids of its salespersons.
    pub salespersons_expected: BTreeSet<String>,
    /// Those whose sales are collected.
    pub salespersons_finished: BTreeSet<String>,
    /// Those of whom all sales are owed.
    pub first_loads_expected: BTreeSet<String>,
    /// Those of whom all sales are collected.
    pub first_loads_finished: BTreeSet<String>,
    /// Those whose messages are dead letters.
    pub salespersons_dead: BTreeSet<String>,
    /// Why: `id: reason`.
    pub reasons: BTreeSet<String>,
    /// What was done about its salespersons and their sales.
    pub numbers: Numbers,
}

impl BranchAccount {
    /// What an entry says.
    ///
    /// # Errors
    /// If it is no account.
    pub fn read(entry: &Entry) -> Result<Self, StateError> {
        let reader = Reader(entry);
        Ok(Self {
            first_at: reader.text("first_at")?,
            last_at: reader.text("last_at")?,
            listed_at: reader.text("listed_at")?,
            chosen_at: reader.text("chosen_at")?,
            dead_at: reader.text("dead_at")?,
            superseded_at: reader.text("superseded_at")?,
            salespersons_expected: reader.set("salespersons_expected")?,
            salespersons_finished: reader.set("salespersons_finished")?,
            first_loads_expected: reader.set("first_loads_expected")?,
            first_loads_finished: reader.set("first_loads_finished")?,
            salespersons_dead: reader.set("salespersons_dead")?,
            reasons: reader.set("reasons")?,
            numbers: reader.numbers()?,
        })
    }

    /// Whether it is known who is asked for.
    pub fn is_known(&self) -> bool {
        self.listed_at.is_some() || self.chosen_at.is_some()
    }

    /// The salespersons whose sales, or whose first load, are still to be collected.
    pub fn open(&self) -> BTreeSet<&String> {
        let open = self.salespersons_expected.difference(&self.salespersons_finished);
        open.chain(self.first_loads_expected.difference(&self.first_loads_finished))
            .collect()
    }

    /// How far it is.
    pub fn state(&self) -> State {
        match (self.is_known(), &self.dead_at, &self.superseded_at) {
            (true, ..) => {
                let dead = &self.salespersons_dead;
                let salespersons = how_far(&self.salespersons_expected, &self.salespersons_finished, dead);
                let first_loads = how_far(&self.first_loads_expected, &self.first_loads_finished, dead);
                salespersons.and(first_loads)
            }
            (false, None, None) => State::Open,
            (false, ..) => State::Incomplete,
        }
    }
}

/// How far it is with what is expected, some of which is finished, and some of which never will be.
fn how_far(expected: &BTreeSet<String>, finished: &BTreeSet<String>, ended: &BTreeSet<String>) -> State {
    let mut open = expected.difference(finished).peekable();
    if open.peek().is_none() {
        State::Complete
    } else if open.all(|member| ended.contains(member)) {
        State::Incomplete
    } else {
        State::Open
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(body: Value) -> Entry {
        Entry::after(None, &body, None).unwrap()
    }

    #[test]
    fn a_branch_is_complete_when_it_is_listed_and_all_that_is_expected_is_finished() {
        for (body, state) in [
            (json!({}), State::Open),
            (json!({"salespersons_expected": ["1"]}), State::Open),
            (json!({"listed_at": "t"}), State::Complete),
            (
                json!({"listed_at": "t", "salespersons_expected": ["1", "2"], "salespersons_finished": ["1"]}),
                State::Open,
            ),
            (
                json!({"listed_at": "t", "salespersons_expected": ["1"], "salespersons_finished": ["1", "9"]}),
                State::Complete,
            ),
            (
                json!({"listed_at": "t", "salespersons_expected": ["1", "2"], "salespersons_finished": ["1"],
                    "salespersons_dead": ["2"]}),
                State::Incomplete,
            ),
            // What was a dead letter and is done now is done.
            (
                json!({"listed_at": "t", "salespersons_expected": ["2"], "salespersons_finished": ["2"],
                    "salespersons_dead": ["2"]}),
                State::Complete,
            ),
            // A look at what is recent is no first load.
            (
                json!({"listed_at": "t", "salespersons_expected": ["1"], "salespersons_finished": ["1"],
                    "first_loads_expected": ["1"]}),
                State::Open,
            ),
            (json!({"dead_at": "t"}), State::Incomplete),
            (json!({"superseded_at": "t"}), State::Incomplete),
            (json!({"superseded_at": "t", "listed_at": "t"}), State::Complete),
        ] {
            assert_eq!(
                BranchAccount::read(&entry(body.clone())).unwrap().state(),
                state,
                "{body}"
            );
        }
    }

    #[test]
    fn a_run_is_complete_when_every_name_is_done_and_every_branch_is_complete() {
        for (body, state) in [
            (json!({"names_expected": ["Akron"]}), State::Open),
            (
                json!({"names_expected": ["Akron"], "names_finished": ["Akron"]}),
                State::Complete,
            ),
            (
                json!({"names_expected": ["Akron"], "names_superseded": ["Akron"]}),
                State::Incomplete,
            ),
            (
                json!({"names_expected": ["Akron"], "names_finished": ["Akron"], "branches_expected": ["1"]}),
                State::Open,
            ),
            (
                json!({"names_expected": ["Akron"], "names_finished": ["Akron"], "branches_expected": ["1", "2"],
                    "branches_finished": ["1"], "branches_ended": ["2"]}),
                State::Incomplete,
            ),
            (
                json!({"names_expected": ["Akron"], "branches_expected": ["1"], "branches_ended": ["1"]}),
                State::Open,
            ),
        ] {
            assert_eq!(RunAccount::read(&entry(body.clone())).unwrap().state(), state, "{body}");
        }
    }

    #[test]
    fn what_is_added_is_read_back_by_kind() {
        let counts = Counts {
            inserted: 3,
            skipped: 4,
            api_calls: 5,
            rejected: 1,
            ..Counts::default()
        };
        let addition = crate::state::Addition {
            numbers: numbers(Entity::Sale, counts),
            ..Default::default()
        };
        let entry = addition.to(Some(&addition.to(None)));
        let read = BranchAccount::read(&entry).unwrap().numbers;
        assert_eq!((read.api_calls, read.rejected, read.api_throttles), (10, 2, 0));
        assert_eq!(
            read.rows,
            [
                Rows::default(),
                Rows::default(),
                Rows {
                    inserted: 6,
                    skipped: 8,
                    ..Rows::default()
                }
            ]
        );
    }

    #[test]
    fn what_is_no_account_is_told() {
        let error = RunAccount::read(&entry(json!({"branches_expected": "all"}))).unwrap_err();
        assert_eq!(
            crate::error_chain(&error),
            "the state could not be understood: the account's branches_expected is \"all\", expected a set of texts"
        );
    }

    #[test]
    fn an_id_that_is_too_long_for_a_key_has_a_short_one() {
        let run_id = RunId::parse("2026-11-21T01:00:00Z").unwrap();
        let id = |length| branch_entry_id(run_id, &Id::new("x".repeat(length)).unwrap());
        assert_eq!(id(2), "run/2026-11-21T01:00:00Z/xx");
        assert!(id(5000).len() < 200 && id(5000) != id(5001));
    }
}
