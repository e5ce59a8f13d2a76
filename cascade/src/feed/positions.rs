//! How far the streams have been carried into the lake, in a file beside it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::FeedError;

const FILE: &str = "feed.json";

/// How far each stream has been carried.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Positions {
    /// By table.
    #[serde(default)]
    streams: BTreeMap<String, Position>,
    #[serde(skip)]
    path: PathBuf,
}

/// How far one stream has been carried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// The stream: a table that is made again has another.
    pub(super) arn: String,
    /// The number of the last record that is in the lake, by shard.
    #[serde(default)]
    pub(super) shards: BTreeMap<String, String>,
    /// Whether the stream no longer had everything when it was carried.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) is_incomplete: bool,
}

impl Positions {
    /// What the file in `directory` says; nothing where there is none.
    pub(super) fn load(directory: &Path) -> Result<Self, FeedError> {
        let path = directory.join(FILE);
        let failed = |source| FeedError::File {
            path: path.clone(),
            source,
        };
        let positions = match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text).map_err(|error| failed(error.into()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::default(),
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { path, ..positions })
    }

    /// How far a table's stream has been carried; `None` if none of it has.
    pub(super) fn of(&self, table: &str) -> Option<&Position> {
        self.streams.get(table)
    }

    /// Writes down, whole or not at all, that a stream has been carried as far as `position`.
    pub(super) fn set(&mut self, table: &str, position: &Position) -> Result<(), FeedError> {
        if self.streams.get(table) == Some(position) {
            return Ok(());
        }
        self.streams.insert(table.to_owned(), position.clone());
        let failed = |source| FeedError::File {
            path: self.path.clone(),
            source,
        };
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(error.into()))?;
        let draft = self.path.with_extension("json.new");
        fs::write(&draft, text)
            .and_then(|()| fs::rename(&draft, &self.path))
            .map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_down_is_there_the_next_time() {
        let directory = tempfile::tempdir().unwrap();
        let position = Position {
            arn: "a".to_owned(),
            shards: [("s".to_owned(), "7".to_owned())].into(),
            is_incomplete: true,
        };
        let mut positions = Positions::load(directory.path()).unwrap();
        assert_eq!(positions.of("sale-local"), None);
        positions.set("sale-local", &position).unwrap();
        let again = Positions::load(directory.path()).unwrap();
        assert_eq!(again.of("sale-local"), Some(&position));
    }

    #[test]
    fn a_file_of_another_form_is_named() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), "[").unwrap();
        let error = Positions::load(directory.path()).unwrap_err();
        assert!(error.to_string().contains("feed.json"), "{error}");
    }
}
