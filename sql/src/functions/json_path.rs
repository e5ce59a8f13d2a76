//! Paths into JSON, as Trino reads them, and what they lead to.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use thiserror::Error;

/// A path such as `$.customer.tags[0]` or `$["unit price"]`.
///
/// Source: the functions `json_extract` and `json_extract_scalar` of Trino, which Athena runs on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct JsonPath(Vec<Step>);

/// A text that is no path.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("'{0}' is no JSON path: expected $, then any number of .name, [0] or [\"name\"]")]
pub(super) struct JsonPathError(String);

/// One step down: to a member by its name, or to an element by its place.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    name: String,
    /// The name as a place in an array, where it can be one.
    place: Option<usize>,
}

impl Step {
    fn new(name: String) -> Self {
        let place = name.parse::<i32>().ok();
        Self {
            place: place.and_then(|place| usize::try_from(place).ok()),
            name,
        }
    }
}

impl JsonPath {
    /// Reads a path.
    ///
    /// # Errors
    /// If the text is none.
    pub(super) fn parse(text: &str) -> Result<Self, JsonPathError> {
        parse_steps(text)
            .map(Self)
            .ok_or_else(|| JsonPathError(text.to_owned()))
    }

    /// What the path leads to in a JSON text; none where nothing is, or the text is not JSON. Of several members with one
    /// name the first is taken.
    pub(super) fn find<'a>(&self, json: &'a str) -> Option<&'a RawValue> {
        let mut value: &'a RawValue = serde_json::from_str(json).ok()?;
        for step in &self.0 {
            let mut inside = serde_json::Deserializer::from_str(value.get());
            value = step.deserialize(&mut inside).ok()??;
        }
        Some(value)
    }
}

fn parse_steps(text: &str) -> Option<Vec<Step>> {
    let mut rest = text.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        let name;
        if let Some(member) = rest.strip_prefix('.') {
            (name, rest) = plain_name(member, |letter| letter == ':')?;
        } else if let Some(quoted) = rest.strip_prefix("[\"") {
            (name, rest) = quoted_name(quoted)?;
            rest = rest.strip_prefix(']')?;
        } else {
            (name, rest) = plain_name(rest.strip_prefix('[')?, |_| false)?;
            rest = rest.strip_prefix(']')?;
        }
        steps.push(Step::new(name));
    }
    Some(steps)
}

/// A name of letters, digits and underscores, and the text after it.
fn plain_name(text: &str, is_extra: impl Fn(char) -> bool) -> Option<(String, &str)> {
    let is_part = |letter: char| letter == '_' || letter.is_alphanumeric() || is_extra(letter);
    let end = text.find(|letter| !is_part(letter)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    (!name.is_empty()).then(|| (name.to_owned(), rest))
}

/// A name up to its closing quote, and the text after that. A backslash stands before a quote or a backslash.
fn quoted_name(text: &str) -> Option<(String, &str)> {
    let mut name = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((name, &text[at + 1..])),
            '\\' => match letters.next()?.1 {
                escaped @ ('"' | '\\') => name.push(escaped),
                _ => return None,
            },
            plain => name.push(plain),
        }
    }
    None
}

impl<'de> DeserializeSeed<'de> for &Step {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, inside: D) -> Result<Self::Value, D::Error> {
        inside.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Step {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = members.next_key_seed(Named(&self.name))? {
            if is_it && found.is_none() {
                found = Some(members.next_value()?);
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let mut place = 0;
        while let Some(element) = elements.next_element::<&RawValue>()? {
            if self.place == Some(place) {
                found = Some(element);
            }
            place += 1;
        }
        Ok(found)
    }
}

/// Whether a member has this name.
struct Named<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<bool, D::Error> {
        name.deserialize_str(self)
    }
}

impl Visitor<'_> for Named<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(json: &'a str, path: &str) -> Option<&'a str> {
        JsonPath::parse(path).unwrap().find(json).map(RawValue::get)
    }

    #[test]
    fn a_path_leads_to_members_and_elements() {
        let json = r#"{"a": {"b": [1, {"c": "d"}]}, "unit price": 3, "q\"\\": 4, "n:s": 5, "é": 6, "7": 8, "": 9}"#;
        for (path, found) in [
            ("$.a.b[0]", "1"),
            ("$.a.b[1].c", "\"d\""),
            ("$[\"a\"][\"b\"][1]", r#"{"c": "d"}"#),
            ("$[\"unit price\"]", "3"),
            (r#"$["q\"\\"]"#, "4"),
            ("$.n:s", "5"),
            ("$.é", "6"),
            // A number names a member of an object, and a place in an array, however it is written.
            ("$[7]", "8"),
            ("$.a.b.0", "1"),
            ("$[\"\"]", "9"),
        ] {
            assert_eq!(find(json, path), Some(found), "{path}");
        }
        assert_eq!(find(" 12 ", "$"), Some("12"));
    }

    #[test]
    fn a_path_that_leads_nowhere_finds_nothing() {
        let json = r#"{"a": [1, 2], "b": 3}"#;
        for path in ["$.c", "$.a[2]", "$.a.x", "$.b.c", "$.b[0]", "$.A"] {
            assert_eq!(find(json, path), None, "{path}");
        }
        for no_json in ["", "{", "{\"a\": }", "[1, 2", "nonsense", "{} {}"] {
            assert_eq!(find(no_json, "$"), None, "{no_json}");
        }
    }

    #[test]
    fn of_members_with_one_name_the_first_is_taken() {
        assert_eq!(find(r#"{"a": 1, "a": 2}"#, "$.a"), Some("1"));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in [
            "",
            "a",
            ".a",
            "$a",
            "$.",
            "$.a.",
            "$..a",
            "$.*",
            "$[*]",
            "$[",
            "$[]",
            "$[-1]",
            "$['a']",
            "$.a b",
            "$[\"a\"",
            "$[\"a]",
            r#"$["\n"]"#,
            "$[\"",
            "$.a-b",
            " $",
            "$ ",
        ] {
            let refusal = JsonPath::parse(text).unwrap_err().to_string();
            assert!(
                refusal.contains(&format!("'{text}'")) && refusal.contains("expected $"),
                "{refusal}"
            );
        }
    }

    #[test]
    fn any_depth_is_walked() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(find(&deep, "$[0]").map(str::len), Some(199_998));
    }
}
