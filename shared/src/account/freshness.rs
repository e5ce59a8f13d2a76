//! For each branch the newest run up to which its data is complete.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::rewrite;
use crate::id::Id;
use crate::run::RunId;
use crate::state::{Entry, StateError, StateTable};

/// The entry that says it.
pub const FRESHNESS: &str = "freshness";

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Freshness {
    #[serde(default)]
    branches: BTreeMap<String, RunId>,
    /// The branches that no run was complete for yet, and the first run that was reported without them.
    #[serde(default)]
    awaited: BTreeMap<String, RunId>,
}

/// The newest run for which each branch is complete, by the branch's id.
///
/// # Errors
/// If it cannot be read.
pub async fn by_branch(table: &dyn StateTable) -> Result<BTreeMap<String, RunId>, StateError> {
    let entry = table.read(FRESHNESS).await?;
    let freshness: Freshness = entry.as_ref().map(Entry::read).transpose()?.unwrap_or_default();
    Ok(freshness.branches)
}

/// The run up to which the data of every branch is complete; where it never was for one, the run that first lacked it.
pub(super) async fn oldest(table: &dyn StateTable) -> Result<Option<RunId>, StateError> {
    let entry = table.read(FRESHNESS).await?;
    let freshness: Freshness = entry.as_ref().map(Entry::read).transpose()?.unwrap_or_default();
    Ok(freshness
        .branches
        .into_values()
        .chain(freshness.awaited.into_values())
        .min())
}

/// A branch is complete for a run.
pub(super) async fn complete(table: &dyn StateTable, branch_id: &Id, run_id: RunId) -> Result<(), StateError> {
    rewrite(table, FRESHNESS, |mut freshness: Freshness| {
        let before = freshness.branches.get(branch_id.as_str());
        if before.is_some_and(|before| *before >= run_id) {
            return None;
        }
        freshness.branches.insert(branch_id.as_str().to_owned(), run_id);
        freshness.awaited.remove(branch_id.as_str());
        Some(freshness)
    })
    .await
}

/// These are the branches of a run that is reported. Those that no run was ever complete for are awaited from it on. If it is
/// complete, all others are no longer asked for, and would look staler and staler.
pub(super) async fn note_expected(
    table: &dyn StateTable,
    branch_ids: &BTreeSet<String>,
    run_id: RunId,
    is_complete: bool,
) -> Result<(), StateError> {
    rewrite(table, FRESHNESS, |before: Freshness| {
        let mut freshness = before.clone();
        for id in branch_ids {
            if !freshness.branches.contains_key(id) {
                freshness.awaited.entry(id.clone()).or_insert(run_id);
            }
        }
        if is_complete {
            freshness.branches.retain(|id, _| branch_ids.contains(id));
            freshness.awaited.retain(|id, _| branch_ids.contains(id));
        }
        (freshness != before).then_some(freshness)
    })
    .await
}
