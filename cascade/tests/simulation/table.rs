//! The tables: linearizable, with calls that take time, fail, or whose answers get lost.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shared::change::{Change, Row};
use shared::entity::{DELETED_AT, Entity};
use shared::record::Key;
use shared::table::{MAX_READ, Table, TableError, Write, Written};
use shared::value::Value;

use crate::plan::{Fault, Sabotage};
use crate::sim::{Die, Invariant, lock, on_the_wire};
use crate::vendor::{Record, RowKey};
use crate::world::World;

/// A row that stands.
pub(crate) struct Standing {
    pub(crate) row: Row,
    /// The latest version of the vendor's record that it says, or that it said before it was marked.
    pub(crate) version: usize,
    /// Since when it is marked as deleted.
    pub(crate) marked_at: Option<Duration>,
}

/// The rows of all tables.
pub(crate) type Rows = BTreeMap<RowKey, Standing>;

impl Standing {
    pub(crate) fn last_modified(&self) -> &str {
        self.row.last_modified.as_deref().unwrap_or_default()
    }

    /// Whether it is a record's row, and not marked.
    pub(crate) fn says(&self, record: &Record) -> bool {
        says(&self.row, record)
    }

    pub(crate) fn is_marked(&self) -> bool {
        self.row.attributes.contains_key(DELETED_AT)
    }
}

/// Whether a row is a record's, all of it and nothing else.
fn says(row: &Row, record: &Record) -> bool {
    let is_first_seen =
        |name: &str| record.key.0 == Entity::Sale && name == "branch_id" && !record.row.contains_key(name);
    let attributes = row.attributes.iter().filter(|(name, _)| !is_first_seen(name));
    attributes.eq(record.row.iter())
}

/// One process's way to a table.
pub(crate) struct SimTable {
    pub(crate) world: Arc<World>,
    pub(crate) entity: Entity,
}

fn failure(action: &'static str) -> TableError {
    TableError {
        action,
        source: "throttled".into(),
    }
}

fn row_key(entity: Entity, key: &Key) -> RowKey {
    let parent = key.parent.as_ref().map_or_else(String::new, ToString::to_string);
    (entity, key.id.to_string(), parent)
}

#[async_trait]
impl Table for SimTable {
    fn entity(&self) -> Entity {
        self.entity
    }

    async fn read(&self, keys: Vec<Key>) -> Result<HashMap<Key, Row>, TableError> {
        assert!(keys.len() <= MAX_READ);
        let sim = &self.world.sim;
        sim.latency(20).await;
        if sim.strikes(Fault::TableErrors, 20) {
            return Err(failure("read rows"));
        }
        let found = {
            let rows = lock(&self.world.rows);
            keys.into_iter()
                .filter_map(|key| {
                    let row = rows.get(&row_key(self.entity, &key))?.row.clone();
                    Some((key, row))
                })
                .collect()
        };
        sim.latency(20).await;
        Ok(found)
    }

    /// As one batch: it may fail as a whole, or any write of it alone, before it was done or after.
    async fn write_all(&self, writes: &[Write<'_>], last_modified: &str) -> Vec<Result<Written, TableError>> {
        let sent: Vec<_> = writes.iter().map(|write| Sent::of(self.entity, write)).collect();
        let (world, last_modified) = (self.world.clone(), last_modified.to_owned());
        on_the_wire(async move {
            let sim = &world.sim;
            let strikes = |one_in| {
                sim.strikes(Fault::TableErrors, one_in)
                    .then(|| sim.throw(Die::Fault(Fault::TableErrors), |rng| rng.bool()))
            };
            let whole = strikes(20);
            sim.latency(30).await;
            let mut results = Vec::new();
            for write in sent {
                let fault = whole.or_else(|| strikes(40));
                results.push(if fault == Some(false) {
                    Err(failure("write a row"))
                } else {
                    let written = write.land(&world, &last_modified);
                    match fault {
                        Some(_) => Err(failure("answer about a write")),
                        None => Ok(written),
                    }
                });
            }
            sim.latency(30).await;
            results
        })
        .await
    }
}

/// A write on its way.
struct Sent {
    key: RowKey,
    /// The `last_modified` of the row that was seen, if there was one.
    seen: Option<Option<String>>,
    is_insert: bool,
    set: BTreeMap<String, Value>,
    remove: BTreeSet<String>,
}

impl Sent {
    fn of(entity: Entity, write: &Write<'_>) -> Self {
        let owned = |(name, value): (&&str, &&Value)| ((*name).to_owned(), (*value).clone());
        let (is_insert, set, remove) = match &write.change {
            Change::Unchanged => (false, BTreeMap::new(), BTreeSet::new()),
            Change::Insert(attributes) => (true, attributes.iter().map(owned).collect(), BTreeSet::new()),
            Change::Update { set, remove } => (
                false,
                set.iter().map(owned).collect(),
                remove.iter().map(|name| (*name).to_owned()).collect(),
            ),
        };
        Self {
            key: row_key(entity, write.key),
            seen: write.seen.map(|row| row.last_modified.clone()),
            is_insert,
            set,
            remove,
        }
    }

    fn land(self, world: &World, last_modified: &str) -> Written {
        let set: BTreeMap<_, _> = self.set.iter().map(|(name, value)| (name.as_str(), value)).collect();
        let change = if self.is_insert {
            Change::Insert(set)
        } else {
            Change::Update {
                set,
                remove: self.remove.iter().map(String::as_str).collect(),
            }
        };
        write(world, self.key.clone(), self.seen.as_ref(), &change, last_modified)
    }
}

fn write(
    world: &World,
    key: RowKey,
    seen: Option<&Option<String>>,
    change: &Change<'_>,
    last_modified: &str,
) -> Written {
    let sim = &world.sim;
    let sabotage = sim.plan.sabotage;
    let first_row = {
        let vendor = lock(&world.vendor);
        let mut rows = lock(&world.rows);
        let current = rows.get(&key);
        let unchanged = current.map(|standing| &standing.row.last_modified) == seen;
        if !unchanged && sabotage != Some(Sabotage::WriteWithoutCondition) {
            return Written::Changed(current.map(|standing| standing.row.clone()));
        }
        if sabotage == Some(Sabotage::LoseWrites) && sim.throw(Die::World, |rng| rng.u32(0..10) == 0) {
            return Written::Done;
        }
        let before = current.map(|standing| &standing.row);
        let row = change.apply(before, last_modified);
        let mut unmarked = row.clone();
        let mark = unmarked.attributes.remove(DELETED_AT);
        if mark.is_some() && sabotage == Some(Sabotage::LoseMarks) {
            return Written::Done;
        }
        let was_marked = current.and_then(|standing| standing.marked_at);
        let marked_at = mark.as_ref().map(|_| was_marked.unwrap_or(sim.elapsed()));
        if let Some(mark) = mark {
            let is_same = before.is_some_and(|before| before.attributes == unmarked.attributes);
            let is_own = mark == Value::String(last_modified.to_owned());
            let is_told = || world.has_vanished(&vendor, &key, last_modified);
            if was_marked.is_some() || !is_same || !is_own || !is_told() {
                sim.violate(Invariant::Deletions, || {
                    format!("{key:?} is marked without a reason: {before:?}, {row:?}")
                });
            }
        }
        if before.is_some_and(|before| before.last_modified.as_deref() > Some(last_modified)) {
            sim.violate(Invariant::Rows, || format!("{key:?} goes back to {last_modified}"));
        }
        let versions = vendor.versions(&key);
        let Some(version) = versions
            .iter()
            .rposition(|record| record.is_stored && says(&unmarked, record))
        else {
            sim.violate(Invariant::Rows, || {
                format!("{key:?} is no record of the vendor's: {row:?}")
            });
            return Written::Done;
        };
        let branch = |row: &Row| row.attributes.get("branch_id").cloned();
        let is_given = key.0 == Entity::Sale && !versions[version].row.contains_key("branch_id");
        if is_given && before.is_some_and(|before| branch(before).is_some() && branch(before) != branch(&row)) {
            sim.violate(Invariant::Rows, || {
                format!("{key:?} has lost the branch it was first seen under")
            });
        }
        let first_row = match (before, was_marked, marked_at) {
            (None, ..) => Some(Duration::ZERO),
            (Some(_), Some(since), None) => Some(since),
            _ => None,
        };
        sim.note(|| {
            let what = if marked_at.is_some() {
                "is marked, and said"
            } else {
                "says"
            };
            format!("row {key:?} {what} version {version} of {last_modified}")
        });
        let standing = Standing {
            row,
            version,
            marked_at,
        };
        rows.insert(key.clone(), standing);
        first_row
    };
    if let Some(since) = first_row {
        world.check_first_row(&key, since);
    }
    Written::Done
}
