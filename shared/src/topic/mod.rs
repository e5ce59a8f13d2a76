//! The topic, by which people and programs are told of what a run came to.

use async_trait::async_trait;
use serde_json::Value;

#[cfg(any(test, feature = "memory"))]
pub mod memory;
pub mod sns;

/// What is told: once for people, once for programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The subject of an e-mail: one line of printable ASCII, at most 100 characters.
    pub subject: String,
    /// What an e-mail says.
    pub text: String,
    /// What everybody else receives.
    pub body: Value,
}

/// The topic did not take a notice, after all the tries that make sense.
#[derive(Debug, thiserror::Error)]
#[error("SNS did not take the report")]
pub struct TopicError {
    /// What it said.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Whom notices are sent to.
#[async_trait]
pub trait Topic: Send + Sync {
    /// Sends a notice to all subscribers.
    ///
    /// # Errors
    /// If it may not have been sent.
    async fn publish(&self, notice: &Notice) -> Result<(), TopicError>;
}
