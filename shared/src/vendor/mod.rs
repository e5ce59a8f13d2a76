//! The vendor's API: what is asked, what is answered, and what can go wrong.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use time::UtcDateTime;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::entity::Entity;
use crate::id::Id;
use crate::invocation::Invocation;
use crate::quota::Class;

pub mod answer;
pub mod client;
pub mod excerpt;
pub mod http;
pub mod link;
pub mod rate_limit;
pub mod retry_after;
#[cfg(any(test, feature = "memory"))]
pub mod scripted;
pub mod transport;

/// A question to the vendor (the contract's section 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// `/branches?branch=…`
    Branch(String),
    /// `/employees?branchID=…`
    Employees(Id),
    /// `/sales?employeeID=…`
    Sales(Id),
}

impl Query {
    /// The kind of the records that are asked for.
    pub fn entity(&self) -> Entity {
        match self {
            Self::Branch(_) => Entity::Branch,
            Self::Employees(_) => Entity::Salesperson,
            Self::Sales(_) => Entity::Sale,
        }
    }

    /// Path, name and value of the query's one parameter.
    pub fn parts(&self) -> (&'static str, &'static str, &str) {
        match self {
            Self::Branch(name) => (Entity::Branch.list_name(), "branch", name),
            Self::Employees(branch_id) => (Entity::Salesperson.list_name(), "branchID", branch_id.as_str()),
            Self::Sales(employee_id) => (Entity::Sale.list_name(), "employeeID", employee_id.as_str()),
        }
    }
}

/// A question, and what goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What is asked.
    pub query: Query,
    /// What the request is for.
    pub class: Class,
    /// The entity tag of the answer that is known: if that is still the answer, it is not sent again.
    pub etag: Option<String>,
}

impl From<Query> for Question {
    /// A question of live work, about which nothing is known.
    fn from(query: Query) -> Self {
        Self {
            query,
            class: Class::Live,
            etag: None,
        }
    }
}

/// What the vendor says.
#[derive(Debug)]
pub enum Fetched {
    /// An answer.
    Answer(Answer),
    /// The answer is still the one whose entity tag was sent along.
    NotModified {
        /// When it was asked for.
        asked_at: UtcDateTime,
    },
}

/// A complete answer: all its pages, each of them a JSON object without an error.
#[derive(Debug)]
pub struct Answer {
    /// The pages' bodies, in order.
    pub pages: Vec<Bytes>,
    /// When it was asked for: the vendor's data is at least as new as that.
    pub fetched_at: UtcDateTime,
    /// What the vendor calls this state of it. Only an answer of one page has a name as a whole.
    pub etag: Option<String>,
    /// Held while a large body is in memory, so that there is only one of them.
    pub(crate) _memory: Option<OwnedSemaphorePermit>,
}

impl Answer {
    /// An answer of one page.
    pub fn of(body: impl Into<Bytes>, fetched_at: UtcDateTime) -> Self {
        Self {
            pages: vec![body.into()],
            fetched_at,
            etag: None,
            _memory: None,
        }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// There is no place within the quota before the time given: no failure, only a wait.
    #[error("the vendor's quota has no place for {} s", wait.as_secs_f64().ceil())]
    Quota {
        /// How long until there may be one.
        wait: Duration,
    },
    /// It failed, and failed again, in a way that may pass.
    #[error("{reason}, after {tries} tries")]
    Transient {
        /// What the last try ended in.
        reason: String,
        /// How many there were.
        tries: u32,
        /// How the body begins, without the API key, if the last one ended in a body that is no answer.
        malformed: Option<String>,
    },
    /// It failed in a way that no further try can mend.
    #[error("{0}")]
    Permanent(String),
    /// The invocation's time ended first.
    #[error("the invocation's time was over before the vendor answered")]
    OutOfTime,
}

/// The vendor, within its quota.
#[async_trait]
pub trait Vendor: Send + Sync {
    /// Asks, with as many tries as make sense, and waits for the quota until `quota_until` at the latest.
    ///
    /// # Errors
    /// If there is no complete answer; each kind of [`FetchError`] has a consequence of its own.
    async fn fetch(
        &self,
        question: &Question,
        invocation: &Invocation,
        quota_until: Instant,
    ) -> Result<Fetched, FetchError>;

    /// The time that the quota gives one request.
    fn pace(&self) -> Duration;

    /// The longest that one request can take.
    fn time_out(&self) -> Duration;
}
