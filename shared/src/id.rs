//! The vendor's ids.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::value::RawValue;

/// An id of a branch, an employee or a sale: a JSON integer or a JSON string at the vendor's, a string from there on.
/// `1` and `"1"` are the same id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Id(String);

/// Why a JSON value is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// An empty string.
    #[error("is an empty string")]
    Empty,
    /// Something other than an integer or a string.
    #[error("is {0}, expected an integer or a string")]
    WrongType(&'static str),
    /// A string that is none, such as one with half of a surrogate pair.
    #[error("is not readable as a string")]
    Unreadable,
}

impl Id {
    /// Reads an id from JSON.
    ///
    /// # Errors
    /// If the value is neither an integer nor a non-empty string.
    pub fn from_json(raw: &RawValue) -> Result<Self, IdError> {
        let text = raw.get();
        match text.as_bytes().first() {
            Some(b'"') => serde_json::from_str(text)
                .map_err(|_| IdError::Unreadable)
                .and_then(Self::new),
            Some(b'-' | b'0'..=b'9') if text.contains(['.', 'e', 'E']) => {
                Err(IdError::WrongType("a number that is no integer"))
            }
            Some(b'-' | b'0'..=b'9') => Ok(Self(text.to_owned())),
            Some(b'n') => Err(IdError::WrongType("null")),
            Some(b't' | b'f') => Err(IdError::WrongType("a boolean")),
            Some(b'[') => Err(IdError::WrongType("an array")),
            _ => Err(IdError::WrongType("an object")),
        }
    }

    /// Takes an id's text.
    ///
    /// # Errors
    /// If it is empty.
    pub fn new(text: String) -> Result<Self, IdError> {
        if text.is_empty() {
            Err(IdError::Empty)
        } else {
            Ok(Self(text))
        }
    }

    /// The id's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Self::from_json(&raw).map_err(|error| de::Error::custom(format_args!("an id {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(json: &str) -> Result<String, IdError> {
        Id::from_json(serde_json::from_str(json).unwrap()).map(|id| id.to_string())
    }

    #[test]
    fn integers_and_strings_are_ids_with_every_digit() {
        assert_eq!(id("1235").unwrap(), "1235");
        assert_eq!(id("\"1235\"").unwrap(), "1235");
        assert_eq!(id("-7").unwrap(), "-7");
        assert_eq!(
            id("123456789012345678901234567890").unwrap(),
            "123456789012345678901234567890"
        );
        assert_eq!(id("\"a b/ü\"").unwrap(), "a b/ü");
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        assert_eq!(id("\"\""), Err(IdError::Empty));
        assert_eq!(id("\"\\ud800\""), Err(IdError::Unreadable));
        for (json, found) in [
            ("1.0", "a number that is no integer"),
            ("1e3", "a number that is no integer"),
            ("null", "null"),
            ("true", "a boolean"),
            ("[1]", "an array"),
            ("{}", "an object"),
        ] {
            assert_eq!(id(json), Err(IdError::WrongType(found)), "{json}");
        }
    }
}
