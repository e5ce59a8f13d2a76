//! The way to the vendor: one request, sent once. Tries, pages and the quota are the client's.

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use url::Url;

use super::rate_limit::RateLimit;

/// What one request came to.
#[derive(Debug)]
pub enum Outcome {
    /// A page of an answer: JSON, and no error.
    Page {
        /// The page.
        body: Bytes,
        /// Where the next one is.
        next: Option<Url>,
        /// What the vendor calls this state of it.
        etag: Option<String>,
    },
    /// The vendor's data is as it was under the entity tag that was sent along; no answer to a request without one.
    NotModified,
    /// The answer is at another address, on the same origin.
    Redirect(Url),
    /// The quota is used up.
    Throttled {
        /// How long the vendor wants to be left alone.
        retry_after: Option<std::time::Duration>,
    },
    /// It failed in a way that may pass.
    MayPass {
        /// What it ended in.
        reason: String,
        /// How the body begins, without the API key, if a whole one came that is no answer: not JSON, or an error with a
        /// status of success.
        malformed: Option<String>,
    },
    /// It failed in a way that no further try can mend.
    Final(String),
}

impl Outcome {
    /// A failure that may pass, without a body.
    pub fn may_pass(reason: impl Into<String>) -> Self {
        Self::MayPass {
            reason: reason.into(),
            malformed: None,
        }
    }
}

/// A request and what came back.
#[derive(Debug)]
pub struct Exchange {
    /// What it came to.
    pub outcome: Outcome,
    /// What the vendor says is left of the quota, and when it said so.
    pub rate_limit: Option<(RateLimit, Instant)>,
}

impl From<Outcome> for Exchange {
    fn from(outcome: Outcome) -> Self {
        Self {
            outcome,
            rate_limit: None,
        }
    }
}

/// The memory that an answer takes.
#[derive(Debug, Default)]
pub struct Memory {
    /// The bytes of its pages so far.
    pub(super) bytes: usize,
    /// Held while they are many.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// The way to the vendor.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends one request, with `If-None-Match` where there is an entity tag.
    async fn get(&self, url: &Url, etag: Option<&str>, memory: &mut Memory) -> Exchange;
}
