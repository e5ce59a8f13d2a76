//! The tables, as the collectors need them.

use std::collections::HashMap;

use async_trait::async_trait;

use crate::change::{Change, Row};
use crate::entity::Entity;
use crate::record::Key;

pub mod dynamodb;
#[cfg(any(test, feature = "memory"))]
pub mod memory;
mod statement;

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

/// A change to write, if its row is still as it was when the change was worked out.
#[derive(Clone, Debug)]
pub struct Write<'a> {
    /// Where.
    pub key: &'a Key,
    /// The row as it was.
    pub seen: Option<&'a Row>,
    /// What is to be different.
    pub change: Change<'a>,
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

    /// Makes writes to distinct rows, each by itself: what became of each, in their order. An error means that the
    /// write may not have been done.
    async fn write_all(&self, writes: &[Write<'_>], last_modified: &str) -> Vec<Result<Written, TableError>>;
}
