//! `json_extract_scalar` and `json_extract`, with the meaning that they have in Trino, and so in Athena.

use std::sync::Arc;

use datafusion::arrow::array::{Array, StringArray, StringBuilder};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::cast::as_string_array;
use datafusion::common::utils::take_function_args;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};
use serde_json::value::RawValue;

use super::json_path::JsonPath;

/// `json_extract_scalar(json, path)`: the text, number or boolean at the path, as text; a number with every digit that it
/// has there. NULL for an object, an array, `null`, where nothing is at the path, and where the text is not JSON.
pub(super) fn json_extract_scalar() -> ScalarUDF {
    function("json_extract_scalar", scalar)
}

/// `json_extract(json, path)`: whatever is at the path, as JSON text without white space; `null` there is the text `null`.
/// NULL where nothing is at the path, and where the text is not JSON.
///
/// Trino makes a double of a number with a fraction on the way; here it keeps its digits.
pub(super) fn json_extract() -> ScalarUDF {
    function("json_extract", |value| Some(compact(value.get())))
}

fn function(name: &'static str, read: fn(&RawValue) -> Option<String>) -> ScalarUDF {
    let types = vec![DataType::Utf8, DataType::Utf8];
    let run = move |args: &[ColumnarValue]| -> Result<ColumnarValue> {
        let [json, path] = take_function_args(name, args)?;
        let rows = match (json, path) {
            (ColumnarValue::Array(array), _) | (_, ColumnarValue::Array(array)) => Some(array.len()),
            _ => None,
        };
        let json = json.to_array(rows.unwrap_or(1))?;
        let json = as_string_array(&json)?;
        let values = match path {
            // The usual case: one path for all rows, which is read once.
            ColumnarValue::Scalar(path) => match path.try_as_str().flatten() {
                Some(path) => {
                    let path = parse(path)?;
                    collect(json, |row| Ok(path.find(json.value(row)).and_then(read)))?
                }
                None => StringArray::new_null(json.len()),
            },
            ColumnarValue::Array(paths) => {
                let paths = as_string_array(paths)?;
                collect(json, |row| {
                    if paths.is_null(row) {
                        return Ok(None);
                    }
                    Ok(parse(paths.value(row))?.find(json.value(row)).and_then(read))
                })?
            }
        };
        let values = ColumnarValue::Array(Arc::new(values));
        match rows {
            Some(_) => Ok(values),
            None => Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(
                &values.to_array(1)?,
                0,
            )?)),
        }
    };
    create_udf(name, types, DataType::Utf8, Volatility::Immutable, Arc::new(run))
}

fn parse(path: &str) -> Result<JsonPath> {
    JsonPath::parse(path).map_err(|problem| DataFusionError::External(Box::new(problem)))
}

fn collect(json: &StringArray, value: impl Fn(usize) -> Result<Option<String>>) -> Result<StringArray> {
    let mut values = StringBuilder::new();
    for row in 0..json.len() {
        if json.is_null(row) {
            values.append_null();
        } else {
            values.append_option(value(row)?);
        }
    }
    Ok(values.finish())
}

fn scalar(value: &RawValue) -> Option<String> {
    match value.get().as_bytes().first()? {
        b'{' | b'[' | b'n' => None,
        b'"' => serde_json::from_str(value.get()).ok(),
        _ => Some(value.get().to_owned()),
    }
}

/// A JSON text without the white space between its parts, and with no more escapes than it needs. The text is JSON
/// already; nothing here depends on how deep it goes.
fn compact(json: &str) -> String {
    let mut compacted = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(quote) = rest.find('"') {
        let (between, quoted) = rest.split_at(quote);
        push_dense(&mut compacted, between);
        let (text, after) = quoted.split_at(string_length(quoted));
        let unescaped = || {
            serde_json::from_str::<String>(text)
                .and_then(|text| serde_json::to_string(&text))
                .ok()
        };
        match text.contains('\\').then(unescaped).flatten() {
            Some(plain) => compacted.push_str(&plain),
            // Nothing to do; or half of a character, which stays as it is.
            None => compacted.push_str(text),
        }
        rest = after;
    }
    push_dense(&mut compacted, rest);
    compacted
}

fn push_dense(compacted: &mut String, between: &str) {
    compacted.extend(between.chars().filter(|letter| !letter.is_ascii_whitespace()));
}

/// How long the string is that the text begins with, quotes included.
fn string_length(quoted: &str) -> usize {
    let mut is_escaped = false;
    for (at, byte) in quoted.bytes().enumerate().skip(1) {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    quoted.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(json: &str, path: &str, read: impl Fn(&RawValue) -> Option<String>) -> Option<String> {
        JsonPath::parse(path).unwrap().find(json).and_then(read)
    }

    #[test]
    fn a_scalar_is_its_text_and_nothing_else_is_a_scalar() {
        let json = r#"{"s": "caf\u00e9 \"x\"", "n": 1234567890.12345678901, "e": 1.10E+2, "t": true, "z": null, "o": {}, "a": []}"#;
        let scalar = |path| at(json, path, scalar);
        assert_eq!(scalar("$.s").as_deref(), Some("café \"x\""));
        assert_eq!(scalar("$.n").as_deref(), Some("1234567890.12345678901"));
        assert_eq!(scalar("$.e").as_deref(), Some("1.10E+2"));
        assert_eq!(scalar("$.t").as_deref(), Some("true"));
        for path in ["$.z", "$.o", "$.a", "$"] {
            assert_eq!(scalar(path), None, "{path}");
        }
    }

    #[test]
    fn json_keeps_its_type_its_order_and_its_digits() {
        let json = r#"{"b": [1, 2.50, "x y"], "a": {"k\u00e9y" : "\/ \" \\ \ud83d\ude00"}, "z": null}"#;
        let json_at = |path| at(json, path, |value| Some(compact(value.get())));
        assert_eq!(json_at("$.b").as_deref(), Some(r#"[1,2.50,"x y"]"#));
        assert_eq!(json_at("$.b[2]").as_deref(), Some(r#""x y""#));
        assert_eq!(json_at("$.a").as_deref(), Some(r#"{"kéy":"/ \" \\ 😀"}"#));
        assert_eq!(json_at("$.z").as_deref(), Some("null"));
        assert_eq!(json_at("$.y"), None);
    }

    #[test]
    fn half_a_character_is_no_error() {
        let json = r#"{"half": "\ud83d", "whole": 1}"#;
        assert_eq!(at(json, "$.half", scalar), None);
        assert_eq!(
            at(json, "$.half", |value| Some(compact(value.get()))).as_deref(),
            Some(r#""\ud83d""#)
        );
        assert_eq!(at(json, "$.whole", scalar).as_deref(), Some("1"));
    }
}
