//! What a backfill fills again.

use std::fmt;

use serde::{Deserialize, Serialize};
use shared::id::Id;
use time::Date;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");

/// What is filled again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Every branch, and every salesperson that there is a row of.
    All,
    /// One branch, by its id.
    Branch(String),
    /// One salesperson, by its id, wherever there is a row of it.
    Employee(String),
    /// The salespersons of whom there is a sale booked on these days, the first and the last included.
    Days {
        /// The first day, as `2026-01-31`.
        from: String,
        /// The last day.
        to: String,
    },
}

impl Scope {
    /// The branch that alone is filled again, if it is one.
    pub fn branch(&self) -> Option<Id> {
        match self {
            Self::Branch(id) => Id::new(id.clone()).ok(),
            Self::All | Self::Employee(_) | Self::Days { .. } => None,
        }
    }

    /// Whether branches are asked for their salespersons, and not only known salespersons for their sales.
    pub fn asks_branches(&self) -> bool {
        matches!(self, Self::All | Self::Branch(_))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("everything"),
            Self::Branch(id) => write!(f, "branch {id}"),
            Self::Employee(id) => write!(f, "salesperson {id}"),
            Self::Days { from, to } => write!(f, "the salespersons with sales from {from} to {to}"),
        }
    }
}

/// Reads a day such as `2026-01-31`.
///
/// # Errors
/// If it is none.
pub fn parse_day(text: &str) -> Result<String, String> {
    Date::parse(text, DAY)
        .map(|_| text.to_owned())
        .map_err(|_| "expected a day such as 2026-01-31".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_one_that_there_is() {
        assert_eq!(parse_day("2024-02-29").as_deref(), Ok("2024-02-29"));
        for text in ["2026-02-29", "2026-1-1", "yesterday", "2026-01-31T00:00:00Z", ""] {
            assert!(parse_day(text).is_err(), "{text}");
        }
    }
}
