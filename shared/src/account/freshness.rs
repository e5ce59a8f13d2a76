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

/// The run up to which the data of every branch is complete.
pub(super) async fn oldest(table: &dyn StateTable) -> Result<Option<RunId>, StateError> {
    Ok(by_branch(table).await?.into_values().min())
}

/// A branch is complete for a run.
pub(super) async fn complete(table: &dyn StateTable, branch_id: &Id, run_id: RunId) -> Result<(), StateError> {
    rewrite(table, FRESHNESS, |mut freshness: Freshness| {
        let before = freshness.branches.get(branch_id.as_str());
        if before.is_some_and(|before| *before >= run_id) {
            return None;
        }
        freshness.branches.insert(branch_id.as_str().to_owned(), run_id);
        Some(freshness)
    })
    .await
}

/// All other branches are no longer asked for, and would look staler and staler.
pub(super) async fn keep_only(table: &dyn StateTable, branch_ids: &BTreeSet<String>) -> Result<(), StateError> {
    rewrite(table, FRESHNESS, |mut freshness: Freshness| {
        let before = freshness.branches.len();
        freshness.branches.retain(|id, _| branch_ids.contains(id));
        (freshness.branches.len() < before).then_some(freshness)
    })
    .await
}
