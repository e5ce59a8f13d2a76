//! Which runs there were, and which of them are reported.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::UtcDateTime;

use super::{KEPT, Kind, rewrite};
use crate::run::{RunId, last_modified};
use crate::state::{Entry, StateError, StateTable, Swapped};

/// The entry that names the runs.
pub const RUNS: &str = "runs";

/// How many runs are remembered: those of a week, with room for calls by hand.
const REMEMBERED: usize = 200;

/// The runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runs {
    /// The newest ones, in order.
    #[serde(default)]
    pub recent: Vec<RunId>,
    /// Those that nobody was told of.
    #[serde(default)]
    pub unreported: Vec<RunId>,
}

impl Runs {
    /// The runs that `table` remembers.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn read(table: &dyn StateTable) -> Result<Self, StateError> {
        let entry = table.read(RUNS).await?;
        Ok(entry.as_ref().map(Entry::read).transpose()?.unwrap_or_default())
    }

    /// The newest run that had begun by then.
    pub fn at(&self, time: UtcDateTime) -> Option<RunId> {
        let moment = RunId::scheduled_for(time);
        self.recent.iter().rfind(|run_id| **run_id <= moment).copied()
    }

    fn begin(mut self, run_id: RunId) -> Option<Self> {
        let place = self.recent.binary_search(&run_id).err()?;
        self.recent.insert(place, run_id);
        self.unreported.push(run_id);
        let excess = self.recent.len().saturating_sub(REMEMBERED);
        self.recent.drain(..excess);
        let excess = self.unreported.len().saturating_sub(REMEMBERED);
        self.unreported.drain(..excess);
        Some(self)
    }
}

/// Whose report it is to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ReportClaim {
    by: String,
    until: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sent_at: Option<String>,
}

fn report_entry_id(run_id: RunId) -> String {
    format!("report/{run_id}")
}

/// Notes that a run has begun, and answers which earlier ones nobody was told of.
pub(super) async fn begin(table: &dyn StateTable, run_id: RunId, kind: Kind) -> Result<Vec<RunId>, StateError> {
    rewrite(table, RUNS, |runs: Runs| runs.begin(run_id)).await?;
    if kind != Kind::Schedule {
        return Ok(Vec::new());
    }
    let mut late = Runs::read(table).await?.unreported;
    late.retain(|late| *late < run_id);
    Ok(late)
}

/// Takes the report of a run upon oneself; `None` if it is sent, or somebody else is at it.
pub(super) async fn claim_report(
    table: &dyn StateTable,
    run_id: RunId,
    by: &str,
    now: UtcDateTime,
    lasts: Duration,
) -> Result<Option<Entry>, StateError> {
    let id = report_entry_id(run_id);
    let seen = table.read(&id).await?;
    if let Some(seen) = &seen {
        let claim: ReportClaim = seen.read()?;
        if claim.sent_at.is_some() {
            forget(table, run_id).await?;
            return Ok(None);
        }
        if claim.until > last_modified(now) {
            return Ok(None);
        }
    }
    let claim = ReportClaim {
        by: by.to_owned(),
        until: last_modified(now + lasts),
        sent_at: None,
    };
    let claimed = Entry::after(seen.as_ref(), &claim, Some(now + KEPT))?;
    match table
        .swap(&id, seen.as_ref().map(|seen| seen.version), &claimed)
        .await?
    {
        Swapped::Done => Ok(Some(claimed)),
        Swapped::Conflict(_) => Ok(None),
    }
}

/// The report is sent.
pub(super) async fn reported(
    table: &dyn StateTable,
    run_id: RunId,
    claimed: &Entry,
    now: UtcDateTime,
) -> Result<(), StateError> {
    let claim = ReportClaim {
        sent_at: Some(last_modified(now)),
        ..claimed.read()?
    };
    let sent = Entry::after(Some(claimed), &claim, claimed.expires_at)?;
    // If the claim was over before, somebody else has sent it, too, and says so.
    table
        .swap(&report_entry_id(run_id), Some(claimed.version), &sent)
        .await?;
    forget(table, run_id).await
}

/// The report could not be sent: whoever comes next may try.
pub(super) async fn give_back(table: &dyn StateTable, run_id: RunId, claimed: &Entry) -> Result<(), StateError> {
    let claim = ReportClaim {
        until: String::new(),
        ..claimed.read()?
    };
    let free = Entry::after(Some(claimed), &claim, claimed.expires_at)?;
    table
        .swap(&report_entry_id(run_id), Some(claimed.version), &free)
        .await?;
    Ok(())
}

async fn forget(table: &dyn StateTable, run_id: RunId) -> Result<(), StateError> {
    rewrite(table, RUNS, |mut runs: Runs| {
        let before = runs.unreported.len();
        runs.unreported.retain(|other| *other != run_id);
        (runs.unreported.len() < before).then_some(runs)
    })
    .await
}
