//! Whether an environment can work: what is there is compared with what has to be, and everything that is not so comes
//! with its mend.
//!
//! [`blueprint`] says what an environment consists of. [`look`] asks AWS, or the embedded cloud, and keeps what it was
//! told as [`facts`]. [`checks`] is pure, and makes findings of the facts.

pub mod blueprint;
pub mod checks;
pub mod facts;
pub mod look;

use serde::Serialize;

/// What became of one check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is as it has to be.
    Ok,
    /// It works, but not as meant, or not for long.
    Warning,
    /// It keeps the environment from working.
    Failed,
    /// It was not looked at.
    Skipped,
}

/// One line of what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What became of the check.
    pub status: Status,
    /// What was looked at: a resource's name, as a rule.
    pub subject: String,
    /// What it is like, and where that is not right, what was expected.
    pub says: String,
    /// What to do about it, where there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mend: Option<String>,
}

impl Finding {
    /// It is as it has to be.
    pub fn ok(subject: impl Into<String>, says: impl Into<String>) -> Self {
        Self {
            status: Status::Ok,
            subject: subject.into(),
            says: says.into(),
            mend: None,
        }
    }

    /// It works, but not as meant.
    pub fn warning(subject: impl Into<String>, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            status: Status::Warning,
            mend: Some(mend.into()),
            ..Self::ok(subject, says)
        }
    }

    /// It does not work.
    pub fn failed(subject: impl Into<String>, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            status: Status::Failed,
            ..Self::warning(subject, says, mend)
        }
    }

    /// It was not looked at.
    pub fn skipped(subject: impl Into<String>, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            status: Status::Skipped,
            ..Self::warning(subject, says, mend)
        }
    }
}

/// Findings about things of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Section {
    /// What they have in common.
    pub heading: &'static str,
    /// One or more.
    pub findings: Vec<Finding>,
}
