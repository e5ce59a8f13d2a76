//! DynamoDB's attribute values as JSON values, and JSON values as text: nothing is lost, no number becomes a float.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_dynamo::AttributeValue;
use serde_json::value::RawValue;
use shared::number::{Number, NumberError};
use shared::value::Value;

/// An attribute value that is none of DynamoDB's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the number {text:?} {reason}")]
pub struct NotANumber {
    text: String,
    reason: NumberError,
}

/// An item as JSON values.
///
/// Strings, numbers, booleans, null, lists and maps are what they are in JSON. What JSON does not have, no answer of the
/// vendor's has written: a set becomes the array of its elements in order, for a set has none of its own, and binary the text of
/// its bytes in Base64.
///
/// # Errors
/// If a number of it is none.
pub fn values(item: impl IntoIterator<Item = (String, AttributeValue)>) -> Result<BTreeMap<String, Value>, NotANumber> {
    item.into_iter()
        .map(|(name, attribute)| Ok((name, value(attribute)?)))
        .collect()
}

fn value(attribute: AttributeValue) -> Result<Value, NotANumber> {
    let binary = |bytes: Vec<u8>| STANDARD.encode(bytes);
    Ok(match attribute {
        AttributeValue::S(text) => Value::String(text),
        AttributeValue::N(text) => Value::Number(number(&text)?),
        AttributeValue::Bool(flag) => Value::Bool(flag),
        AttributeValue::Null(_) => Value::Null,
        AttributeValue::L(elements) => Value::Array(elements.into_iter().map(value).collect::<Result<_, _>>()?),
        AttributeValue::M(members) => Value::Object(values(members)?),
        AttributeValue::Ss(texts) => strings(texts),
        AttributeValue::Bs(all) => strings(all.into_iter().map(binary).collect()),
        AttributeValue::Ns(mut texts) => {
            texts.sort_unstable();
            Value::Array(
                texts
                    .iter()
                    .map(|text| number(text).map(Value::Number))
                    .collect::<Result<_, _>>()?,
            )
        }
        AttributeValue::B(bytes) => Value::String(binary(bytes)),
    })
}

fn number(text: &str) -> Result<Number, NotANumber> {
    Number::parse(text).map_err(|reason| NotANumber {
        text: text.chars().take(60).collect(),
        reason,
    })
}

fn strings(mut texts: Vec<String>) -> Value {
    texts.sort_unstable();
    Value::Array(texts.into_iter().map(Value::String).collect())
}

/// A JSON object's text: members by name, numbers with every digit in their canonical form.
///
/// # Errors
/// None that is known of: every value has a text.
pub fn object(members: &BTreeMap<String, Value>) -> Result<String, serde_json::Error> {
    let members: BTreeMap<&str, Json<'_>> = members
        .iter()
        .map(|(name, value)| (name.as_str(), Json(value)))
        .collect();
    serde_json::to_string(&members)
}

struct Json<'a>(&'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(flag) => serializer.serialize_bool(*flag),
            // Only a raw value is written digit by digit.
            Value::Number(number) => RawValue::from_string(number.to_string())
                .map_err(S::Error::custom)?
                .serialize(serializer),
            Value::String(text) => serializer.serialize_str(text),
            Value::Array(elements) => serializer.collect_seq(elements.iter().map(Json)),
            Value::Object(members) => serializer.collect_map(members.iter().map(|(name, value)| (name, Json(value)))),
        }
    }
}

/// What kind of JSON a value is; `None` for null, which says nothing of a kind.
pub fn kind(value: &Value) -> Option<&'static str> {
    match value {
        Value::Null => None,
        Value::Bool(_) => Some("boolean"),
        Value::Number(_) => Some("number"),
        Value::String(_) => Some("string"),
        Value::Array(_) => Some("array"),
        Value::Object(_) => Some("object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn text(attribute: AttributeValue) -> String {
        object(&values([("a".to_owned(), attribute)]).unwrap()).unwrap()
    }

    #[test]
    fn numbers_keep_every_digit() {
        for (number, json) in [
            (
                "79228162514264337593543950336.5",
                r#"{"a":79228162514264337593543950336.5}"#,
            ),
            ("1E+100", r#"{"a":1E100}"#),
            ("1.10", r#"{"a":1.1}"#),
            ("-0.000000000000000000001", r#"{"a":-1E-21}"#),
        ] {
            assert_eq!(text(AttributeValue::N(number.to_owned())), json);
        }
        let error = values([("a".to_owned(), AttributeValue::N("NaN".to_owned()))]).unwrap_err();
        assert_eq!(error.to_string(), r#"the number "NaN" is not a decimal number"#);
    }

    #[test]
    fn what_json_does_not_have_becomes_arrays_in_order_and_base64() {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        assert_eq!(text(AttributeValue::Ss(texts(&["b", "a"]))), r#"{"a":["a","b"]}"#);
        assert_eq!(text(AttributeValue::Ns(texts(&["3", "10"]))), r#"{"a":[10,3]}"#);
        assert_eq!(text(AttributeValue::B(vec![0, 255])), r#"{"a":"AP8="}"#);
        assert_eq!(
            text(AttributeValue::Bs(vec![vec![0], vec![255]])),
            r#"{"a":["/w==","AA=="]}"#
        );
    }

    #[test]
    fn what_nests_is_written_whole() {
        let inner = HashMap::from([
            ("b".to_owned(), AttributeValue::L(vec![AttributeValue::Null(true)])),
            ("a\"".to_owned(), AttributeValue::Bool(false)),
        ]);
        assert_eq!(text(AttributeValue::M(inner)), r#"{"a":{"a\"":false,"b":[null]}}"#);
    }
}
