//! JSON values as the vendor sends them and as DynamoDB keeps them: nothing is lost, nothing is rounded.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::number::{Number, NumberError};

/// How deeply DynamoDB lets lists and maps nest.
///
/// Source: "Quotas in Amazon DynamoDB: nested attribute depth", Amazon DynamoDB Developer Guide.
pub const MAX_DEPTH: usize = 32;

/// A JSON value with exact numbers. Objects know no order, and equal numbers are equal however they are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `null`, DynamoDB's `NULL`.
    Null,
    /// `true` or `false`, DynamoDB's `BOOL`.
    Bool(bool),
    /// A number, DynamoDB's `N`.
    Number(Number),
    /// A string, DynamoDB's `S`.
    String(String),
    /// An array, DynamoDB's `L`.
    Array(Vec<Value>),
    /// An object, DynamoDB's `M`.
    Object(BTreeMap<String, Value>),
}

/// Why a JSON value cannot be kept as it is.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// A number that `N` cannot hold.
    #[error("the number {} {reason}", shorten(.text))]
    Number {
        /// The number as the vendor wrote it.
        text: String,
        /// What is wrong with it.
        reason: NumberError,
    },
    /// Lists and objects inside each other, too many of them.
    #[error("nests deeper than the {MAX_DEPTH} levels that DynamoDB keeps")]
    TooDeep,
    /// A member of an object without a name.
    #[error("has a member with an empty name, which DynamoDB refuses")]
    EmptyName,
    /// Not readable as JSON, such as a string with half of a surrogate pair.
    #[error("is not readable as JSON")]
    Unreadable(#[source] serde_json::Error),
}

impl Value {
    /// Reads a JSON value.
    ///
    /// # Errors
    /// If DynamoDB cannot hold it exactly.
    pub fn from_json(raw: &RawValue) -> Result<Self, ValueError> {
        Self::from_json_at(raw.get(), 0)
    }

    // A level is one pass over its text: serde_json gives a number's text only as part of a raw value. The limit on
    // depth bounds the passes, and the recursion.
    fn from_json_at(raw: &str, depth: usize) -> Result<Self, ValueError> {
        let first = raw.as_bytes().first().copied();
        if depth >= MAX_DEPTH && matches!(first, Some(b'{' | b'[')) {
            return Err(ValueError::TooDeep);
        }
        Ok(match first {
            Some(b'{') => {
                let members: BTreeMap<String, &RawValue> = read(raw)?;
                if members.contains_key("") {
                    return Err(ValueError::EmptyName);
                }
                Self::Object(
                    members
                        .into_iter()
                        .map(|(name, raw)| Ok((name, Self::from_json_at(raw.get(), depth + 1)?)))
                        .collect::<Result<_, ValueError>>()?,
                )
            }
            Some(b'[') => {
                let elements: Vec<&RawValue> = read(raw)?;
                Self::Array(
                    elements
                        .into_iter()
                        .map(|raw| Self::from_json_at(raw.get(), depth + 1))
                        .collect::<Result<_, ValueError>>()?,
                )
            }
            Some(b'-' | b'0'..=b'9') => Self::Number(Number::parse(raw).map_err(|reason| ValueError::Number {
                text: raw.to_owned(),
                reason,
            })?),
            Some(b'"') => Self::String(read(raw)?),
            Some(b'n') => read::<()>(raw).map(|()| Self::Null)?,
            _ => Self::Bool(read(raw)?),
        })
    }

    /// The bytes that DynamoDB counts for this value.
    ///
    /// Source: "DynamoDB item sizes and formats", Amazon DynamoDB Developer Guide. Where it says "approximately"
    /// this counts the lower end: what is over the limit by a byte, DynamoDB itself refuses.
    pub fn stored_size(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 1,
            Self::Number(number) => number.significant_digits().div_ceil(2) + 1,
            Self::String(text) => text.len(),
            Self::Array(elements) => 3 + elements.iter().map(|element| 1 + element.stored_size()).sum::<usize>(),
            Self::Object(members) => {
                3 + members
                    .iter()
                    .map(|(name, value)| 1 + name.len() + value.stored_size())
                    .sum::<usize>()
            }
        }
    }
}

fn read<'de, T: serde::Deserialize<'de>>(raw: &'de str) -> Result<T, ValueError> {
    serde_json::from_str(raw).map_err(ValueError::Unreadable)
}

/// A vendor's text for a log line: it can send a number of a million digits.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}… ({} characters)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(json: &str) -> Result<Value, ValueError> {
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        Value::from_json(raw)
    }

    /// Any JSON value that DynamoDB can hold, with the text to send.
    pub(crate) fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<u64>().prop_map(Into::into),
            "\\PC{0,12}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::btree_map("[a-zA-Z_é.]{1,8}", inner, 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    /// Back to serde_json's tree, which is another's reading of the same text.
    pub(crate) fn to_serde(value: &Value) -> serde_json::Value {
        match value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Number(number) => serde_json::from_str(number.as_str()).unwrap(),
            Value::String(text) => text.clone().into(),
            Value::Array(elements) => elements.iter().map(to_serde).collect(),
            Value::Object(members) => serde_json::Value::Object(
                members
                    .iter()
                    .map(|(name, value)| (name.clone(), to_serde(value)))
                    .collect(),
            ),
        }
    }

    #[test]
    fn numbers_keep_every_digit() {
        let json = r#"{"price": 0.10, "big": 123456789012345678901234567890, "e": -1.5e-20}"#;
        let Ok(Value::Object(members)) = value(json) else {
            panic!("no object")
        };
        assert_eq!(members["price"], Value::Number(Number::parse("0.1").unwrap()));
        assert_eq!(
            members["big"],
            Value::Number(Number::parse("123456789012345678901234567890").unwrap())
        );
        assert_eq!(
            members["e"],
            Value::Number(Number::parse("-0.000000000000000000015").unwrap())
        );
    }

    #[test]
    fn the_same_name_twice_leaves_the_last_at_every_level() {
        assert_eq!(
            value(r#"{"a": 1, "a": {"b": 1, "b": 2}}"#).unwrap(),
            value(r#"{"a": {"b": 2}}"#).unwrap()
        );
    }

    #[test]
    fn what_dynamodb_cannot_hold_is_refused_with_its_reason() {
        let too_long = format!("[{}]", "7".repeat(39));
        assert!(matches!(
            value(&too_long),
            Err(ValueError::Number {
                reason: NumberError::TooManyDigits(39),
                ..
            })
        ));
        assert!(matches!(value(r#"{"a": {"": 1}}"#), Err(ValueError::EmptyName)));
        assert!(matches!(value(r#"["\ud800"]"#), Err(ValueError::Unreadable(_))));
    }

    #[test]
    fn nesting_ends_where_dynamodb_ends_it() {
        let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(value(&nested(MAX_DEPTH)).is_ok());
        assert!(matches!(value(&nested(MAX_DEPTH + 1)), Err(ValueError::TooDeep)));
        assert!(matches!(value(&nested(100_000)), Err(ValueError::TooDeep)));
    }

    #[test]
    fn an_error_names_the_number_but_not_a_megabyte_of_it() {
        let error = value(&"9".repeat(100_000)).unwrap_err().to_string();
        assert!(error.starts_with("the number 999999"), "{error}");
        assert!(error.len() < 250, "{error}");
    }

    proptest! {
        #[test]
        fn any_json_value_is_kept_whole(json in any_json()) {
            let read = value(&json.to_string()).unwrap();
            prop_assert_eq!(to_serde(&read), json);
        }
    }
}
