//! What more than one collector needs.
//!
//! What a record, a change, a message and an event is, is pure: it knows nothing of how records are fetched, queued or
//! stored. [`vendor`], [`queue`], [`table`] and [`state`] own an outside service each: a trait that says what the collectors
//! need of it, and the one module that knows its protocol.

pub mod account;
pub mod change;
pub mod checkpoint;
pub mod clock;
pub mod collector;
pub mod config;
pub mod deletions;
pub mod entity;
pub mod event;
pub mod id;
pub mod invocation;
pub mod jitter;
pub mod lambda;
pub mod message;
pub mod number;
#[cfg(any(test, feature = "properties"))]
pub mod properties;
pub mod queue;
pub mod quota;
pub mod record;
pub mod rejections;
pub mod reserved_words;
pub mod run;
pub mod secret;
pub mod state;
pub mod sync;
pub mod table;
pub mod tally;
pub mod telemetry;
pub mod topic;
pub mod value;
pub mod vendor;
pub mod work;

/// An error with its causes, for the one place where it is told: a log line, an answer.
pub fn error_chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
