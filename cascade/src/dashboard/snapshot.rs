//! What is shown, in the form in which the page takes it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};
use shared::account::entries::Rows;
use shared::run::RunId;

use crate::status::{Status, Where};

/// Everything that the page shows: a section a field.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// What is looked at.
    pub place: PlaceFigures,
    /// Rows and messages, as `cascade status --json` prints them.
    pub status: Status,
    /// The vendor's quota; `None` as long as no calendar was seen.
    pub quota: Option<QuotaFigures>,
    /// Rows written.
    pub flow: FlowFigures,
    /// The last runs, the oldest first.
    pub runs: Vec<RunFigures>,
    /// Branches, and how fresh their data is.
    pub branches: Vec<BranchFigures>,
    /// Sales inserted, by run and branch.
    pub sales: SalesFigures,
    /// What has failed for good.
    pub dead_letters: LetterFigures,
    /// What could not be looked at, and why.
    pub problem: Option<String>,
}

impl Figures {
    /// The sections by name.
    pub fn sections(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(sections)) => sections,
            // Nothing in it can fail to be serialised, and it is an object.
            Ok(_) | Err(_) => Map::new(),
        }
    }
}

/// What time it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Clocks {
    /// In the environment, by whose clock runs are dated.
    pub now: String,
    /// On the wall, by which the vendor counts requests.
    pub wall: String,
}

/// The environment, and how it is looked at.
#[derive(Clone, Debug, Serialize)]
pub struct PlaceFigures {
    /// Its name.
    pub environment: String,
    /// Where it is.
    pub site: Where,
    /// This program's version.
    pub version: &'static str,
    /// How far apart two looks are, in seconds.
    pub every_seconds: u64,
    /// How many requests a minute that costs; `None` where they cost nothing.
    pub requests_a_minute: Option<u64>,
}

/// The quota.
#[derive(Debug, Serialize)]
pub struct QuotaFigures {
    /// Requests in any 60 seconds that are allowed; `None` if nobody has said.
    pub limit: Option<u32>,
    /// Requests in the last 60 seconds; `None` before that is known.
    pub used: Option<u32>,
    /// Those of them for background work.
    pub background: u32,
    /// Those of them that others made, as the vendor says.
    pub foreign: u32,
    /// When the vendor takes requests again, if it takes none now.
    pub closed_until: Option<String>,
    /// How far apart the points of the history are, in seconds.
    pub step_seconds: u64,
    /// The time of its last point.
    pub until: String,
    /// Requests in the 60 seconds before each point.
    pub history: Vec<Option<u32>>,
}

/// Rows written, by kind of record.
#[derive(Debug, Serialize)]
pub struct FlowFigures {
    /// In the last minute; `None` before that is known.
    pub per_minute: BTreeMap<&'static str, Option<u64>>,
    /// In the minute before each point of the last quarter of an hour.
    pub history: BTreeMap<&'static str, Vec<Option<u64>>>,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// All is done.
    Complete,
    /// It is at work.
    Collecting,
    /// It has ended, or stands still, and something is missing.
    Incomplete,
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct RunFigures {
    /// Which one.
    pub run_id: RunId,
    /// What began it.
    pub kind: Option<&'static str>,
    /// When anything was first noted about it.
    pub first_at: Option<String>,
    /// When anything was last noted.
    pub last_at: Option<String>,
    /// How far it is.
    pub state: RunState,
    /// Branches' names done, and all of them.
    pub names: (usize, usize),
    /// Branches done, with all their salespersons; and all of them.
    pub branches: (usize, usize),
    /// Salespersons done, and all that are known.
    pub salespersons: (usize, usize),
    /// Why something is missing, as far as it is said; the first few.
    pub reasons: Vec<String>,
    /// Requests to the vendor.
    pub api_calls: u64,
    /// Those answered 429.
    pub api_throttles: u64,
    /// Records that cannot be stored.
    pub rejected: u64,
    /// Messages sent to a dead-letter queue.
    pub dead_lettered: u64,
    /// Records that have vanished by too many at once to be believed to be deleted.
    pub held_back: u64,
    /// Rows by kind of record.
    pub rows: BTreeMap<&'static str, RowFigures>,
}

/// What a run did about the rows of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RowFigures {
    /// Rows that were not there before.
    pub inserted: u64,
    /// Rows of which something was changed.
    pub updated: u64,
    /// Rows that are marked deleted.
    pub deleted: u64,
    /// Records that cost no write.
    pub unchanged: u64,
    /// Sales outside the lookback.
    pub skipped: u64,
}

impl From<Rows> for RowFigures {
    fn from(rows: Rows) -> Self {
        Self {
            inserted: rows.inserted,
            updated: rows.updated,
            deleted: rows.deleted,
            unchanged: rows.unchanged,
            skipped: rows.skipped,
        }
    }
}

/// A branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BranchFigures {
    /// Its id.
    pub id: String,
    /// Its name, or its id where the name is not known.
    pub name: String,
    /// The newest run that it is complete for.
    pub complete_until: Option<RunId>,
}

/// Sales inserted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SalesFigures {
    /// The runs, the oldest first.
    pub runs: Vec<RunId>,
    /// Of each branch.
    pub branches: Vec<SalesOfBranch>,
}

/// A branch's sales inserted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SalesOfBranch {
    /// The branch.
    pub id: String,
    /// In each run; `None` where it was not done.
    pub inserted: Vec<Option<u64>>,
}

/// Dead letters.
#[derive(Clone, Debug, Default, Serialize)]
pub struct LetterFigures {
    /// When they were looked at, by the environment's clock; `None` before that.
    pub looked_at: Option<String>,
    /// Letters that failed alike, in the order of their queues.
    pub groups: Vec<LetterGroup>,
    /// Whether there may be more.
    pub cut: bool,
    /// What else is to be said of them.
    pub note: Option<String>,
}

/// Dead letters that failed alike.
#[derive(Clone, Debug, Serialize)]
pub struct LetterGroup {
    /// Their queue, as `cascade dlq` calls it.
    pub queue: &'static str,
    /// Why they failed.
    pub reason: String,
    /// How many they are.
    pub count: usize,
    /// How old the oldest one is, in seconds.
    pub oldest_seconds: Option<u64>,
    /// The newest run that one of them belongs to.
    pub run_id: Option<String>,
}

/// A duration in whole seconds.
pub(super) fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs()
}
