//! The tables, as the collectors need them.

use std::collections::HashMap;

use async_trait::async_trait;

use crate::change::{Change, Row};
use crate::entity::Entity;
use crate::record::Key;

pub mod dynamodb;
#[cfg(any(test, feature = "memory"))]
pub mod memory;

/// How many rows can be read at once.
pub const MAX_READ: usize = 100;

/// A table did not do what was asked, after all the tries that make sense.
#[derive(Debug, thiserror::Error)]
#[error("DynamoDB did not {action}")]
pub struct TableError {
    /// What was asked of it.
    pub action: &'static str,
    /// What it said.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It was done, and is durable.
    Done,
    /// The row is no longer as it was read; this is how it is now.
    Changed(Option<Row>),
    /// DynamoDB refuses the item, and always will.
    Refused(String),
}

/// One table of one kind of record.
#[async_trait]
pub trait Table: Send + Sync {
    /// The kind.
    fn entity(&self) -> Entity;

    /// The rows of at most [`MAX_READ`] distinct keys, as they are now; keys without a row are left out.
    ///
    /// # Errors
    /// If any of them could not be read.
    async fn read(&self, keys: Vec<Key>) -> Result<HashMap<Key, Row>, TableError>;

    /// Writes a change, if the row is still as it was when the change was worked out: `seen`.
    ///
    /// # Errors
    /// If it may not have been done.
    async fn write(
        &self,
        key: &Key,
        seen: Option<&Row>,
        change: &Change,
        last_modified: &str,
    ) -> Result<Written, TableError>;
}
