//! What is remembered of the records that were in an answer.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::error_chain;
use crate::state::Entry;

/// How many bytes of ids an entry holds: DynamoDB allows an item 400 KB, names and all.
const MOST_ID_BYTES: usize = 300 * 1024;

/// What DynamoDB counts for an element of a list beside its text, and some more to be sure.
const BYTES_AROUND_AN_ID: usize = 3;

/// How many of the ids that have vanished are remembered, to be looked at when they are back.
const MOST_GONE: usize = 1000;

/// The records of one answer, from the first sight of each until its row is marked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Roster {
    /// Those that the answers had, and whose rows are not marked.
    pub(super) ids: BTreeSet<String>,
    /// Those whose rows are marked, the newest last.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) gone: Vec<String>,
    /// Whether there were more of those than are remembered: then whatever is not on the roster may be one of them.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) forgot_gone: bool,
    /// How many there were before an answer that was held back, while there is one. Those that are added meanwhile must
    /// not make the missing ones look fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) before_hold: Option<usize>,
    /// There were too many to remember.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_too_long: bool,
}

impl Roster {
    /// What an entry says. What is not understood says nothing, as if it were the first answer.
    pub(super) fn read(entry: Option<&Entry>) -> Self {
        let Some(entry) = entry else {
            return Self::default();
        };
        entry.read().unwrap_or_else(|failure| {
            warn!(
                reason = error_chain(&failure),
                "a roster is not understood and begun anew"
            );
            Self::default()
        })
    }

    /// How many there were before.
    pub(super) fn before(&self) -> usize {
        self.before_hold.unwrap_or(self.ids.len())
    }

    /// Remembers that those are gone, as the newest.
    pub(super) fn add_gone(&mut self, ids: &[String]) {
        self.gone.retain(|id| !ids.contains(id));
        self.gone.extend_from_slice(ids);
        let surplus = self.gone.len().saturating_sub(MOST_GONE);
        self.forget_gone(surplus);
    }

    /// The same if it fits into an entry: first without those that are gone, then without any.
    pub(super) fn fitted(mut self) -> Self {
        let bytes = |id: &String| id.len() + BYTES_AROUND_AN_ID;
        let mut left = MOST_ID_BYTES.checked_sub(self.ids.iter().map(bytes).sum());
        if left.is_none() {
            return Self {
                is_too_long: true,
                ..Self::default()
            };
        }
        let fits = |id: &&String| {
            left = left.and_then(|left| left.checked_sub(bytes(id)));
            left.is_some()
        };
        let kept = self.gone.iter().rev().take_while(fits).count();
        self.forget_gone(self.gone.len() - kept);
        self
    }

    fn forget_gone(&mut self, oldest: usize) {
        self.forgot_gone |= oldest > 0;
        self.gone.drain(..oldest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(ids: impl IntoIterator<Item = impl ToString>) -> Vec<String> {
        ids.into_iter().map(|id| id.to_string()).collect()
    }

    #[test]
    fn what_is_written_is_read_back_and_what_is_not_understood_is_nothing() {
        let roster = Roster {
            ids: texts(["1", "a \"b\""]).into_iter().collect(),
            gone: texts(["3", "2"]),
            forgot_gone: true,
            before_hold: Some(7),
            is_too_long: false,
        };
        let entry = Entry::after(None, &roster, None).unwrap();
        assert_eq!(Roster::read(Some(&entry)), roster);
        assert_eq!((roster.before(), Roster::default().before()), (7, 0));
        let other = Entry::after(None, &serde_json::json!({"ids": 1}), None).unwrap();
        assert_eq!(Roster::read(Some(&other)), Roster::default());
    }

    #[test]
    fn of_those_that_are_gone_the_newest_are_kept() {
        let mut roster = Roster::default();
        roster.add_gone(&texts(0..MOST_GONE));
        assert!(!roster.forgot_gone);
        roster.add_gone(&texts(["1", "new"]));
        assert_eq!(roster.gone.len(), MOST_GONE);
        assert!(roster.forgot_gone);
        assert_eq!(roster.gone.first().map(String::as_str), Some("2"));
        assert_eq!(roster.gone[MOST_GONE - 2..], ["1", "new"]);
    }

    #[test]
    fn a_roster_stays_below_the_size_of_an_item() {
        let long = "x".repeat(2000);
        let roster = |ids: usize, gone: usize| Roster {
            ids: (0..ids).map(|id| format!("{id:04}{long}")).collect(),
            gone: (0..gone).map(|id| format!("g{id:03}{long}")).collect(),
            ..Roster::default()
        };
        // 153 of them are all that fits.
        let fitted = roster(150, 5).fitted();
        assert_eq!((fitted.ids.len(), fitted.gone.len()), (150, 3));
        assert!(fitted.forgot_gone && !roster(150, 3).fitted().forgot_gone);
        assert!(fitted.gone[2].starts_with("g004"), "the newest are kept");
        let long = roster(160, 5).fitted();
        assert_eq!((long.ids.len(), long.gone.len(), long.is_too_long), (0, 0, true));
    }
}
