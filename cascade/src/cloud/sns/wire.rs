//! The query protocol that SNS's clients speak: forms in, XML out.

use std::collections::BTreeMap;
use std::fmt::Write;

use thiserror::Error;
use url::form_urlencoded;

use crate::cloud::sqs::SqsError;

const NAMESPACE: &str = "http://sns.amazonaws.com/doc/2010-03-31/";

/// A request that was not done.
#[derive(Debug, Error)]
pub(in crate::cloud) enum SnsError {
    /// The action is none of those provided.
    #[error("{0}")]
    InvalidAction(String),
    /// A parameter is missing, malformed or out of bounds.
    #[error("Invalid parameter: {0}")]
    InvalidParameter(String),
    /// The topic or subscription does not exist.
    #[error("{0} does not exist")]
    NotFound(&'static str),
    /// The topics' file could not be read or written.
    #[error("could not use the topics' database")]
    Storage(#[from] rusqlite::Error),
}

impl SnsError {
    /// AWS's name for the error.
    pub(in crate::cloud) fn code(&self) -> &'static str {
        match self {
            Self::InvalidAction(_) => "InvalidAction",
            Self::InvalidParameter(_) => "InvalidParameter",
            Self::NotFound(_) => "NotFound",
            Self::Storage(_) => "InternalError",
        }
    }

    /// The HTTP status that goes with it.
    pub(in crate::cloud) fn status(&self) -> u16 {
        match self {
            Self::InvalidAction(_) | Self::InvalidParameter(_) => 400,
            Self::NotFound(_) => 404,
            Self::Storage(_) => 500,
        }
    }
}

impl From<SqsError> for SnsError {
    fn from(error: SqsError) -> Self {
        match error {
            SqsError::Refused { message, .. } => Self::InvalidParameter(message),
            SqsError::Storage(error) => Self::Storage(error),
        }
    }
}

/// The parameters of a request.
pub(in crate::cloud) struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads an `application/x-www-form-urlencoded` body.
    pub(in crate::cloud) fn parse(body: &[u8]) -> Self {
        Self(form_urlencoded::parse(body).into_owned().collect())
    }

    /// The parameter's value, if it was sent.
    pub(in crate::cloud) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The parameter's value; an error if it was not sent.
    pub(super) fn required(&self, name: &str) -> Result<&str, SnsError> {
        self.get(name)
            .ok_or_else(|| SnsError::InvalidParameter(format!("{name} is missing")))
    }

    /// The entries of a map, `list.entry.1.key` and `list.entry.1.value` and so on.
    pub(super) fn map(&self, list: &str, key: &str, value: &str) -> BTreeMap<String, String> {
        self.entries(list, key)
            .map(|(prefix, name)| {
                let value = self.get(&format!("{prefix}.{value}")).unwrap_or_default();
                (name.to_owned(), value.to_owned())
            })
            .collect()
    }

    /// The keys of a map's entries, each with the prefix that the entry's other parameters have.
    pub(super) fn entries<'a>(&'a self, list: &'a str, key: &'a str) -> impl Iterator<Item = (String, &'a str)> {
        (1..).map_while(move |number| {
            let prefix = format!("{list}.entry.{number}");
            let name = self.get(&format!("{prefix}.{key}"))?;
            Some((prefix, name))
        })
    }
}

/// Text between two tags, with what XML would take for markup escaped.
pub(super) fn element(name: &str, text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\r' => escaped.push_str("&#xD;"),
            c => escaped.push(c),
        }
    }
    wrap(name, &escaped)
}

/// XML between two tags.
pub(super) fn wrap(name: &str, inner: &str) -> String {
    format!("<{name}>{inner}</{name}>")
}

/// A map as SNS writes it.
pub(super) fn attributes(map: &BTreeMap<String, String>) -> String {
    let mut entries = String::new();
    for (key, value) in map {
        // Writing to a String does not fail.
        let _ = write!(
            entries,
            "<entry>{}{}</entry>",
            element("key", key),
            element("value", value)
        );
    }
    wrap("Attributes", &entries)
}

/// The answer to an action; `result` is the inside of its result element, if it has one.
pub(super) fn answer(action: &str, result: Option<&str>, request_id: &str) -> String {
    let result = result.map_or(String::new(), |inner| wrap(&format!("{action}Result"), inner));
    let metadata = wrap("ResponseMetadata", &element("RequestId", request_id));
    format!("<{action}Response xmlns=\"{NAMESPACE}\">{result}{metadata}</{action}Response>")
}

/// The answer that says why an action was not done.
pub(in crate::cloud) fn refusal(error: &SnsError, request_id: &str) -> String {
    let fault = if error.status() < 500 { "Sender" } else { "Receiver" };
    let inner = element("Type", fault) + &element("Code", error.code()) + &element("Message", &error.to_string());
    let body = wrap("Error", &inner) + &element("RequestId", request_id);
    format!("<ErrorResponse xmlns=\"{NAMESPACE}\">{body}</ErrorResponse>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_read_as_far_as_its_numbers_go() {
        let form = Form::parse(b"A.entry.1.key=x&A.entry.1.value=1%262&A.entry.2.key=y&A.entry.4.key=z");
        let map = form.map("A", "key", "value");
        assert_eq!(
            map,
            BTreeMap::from([("x".into(), "1&2".into()), ("y".into(), String::new())])
        );
    }

    #[test]
    fn markup_in_text_is_escaped() {
        assert_eq!(element("m", "<a&\"b\">"), "<m>&lt;a&amp;&quot;b&quot;&gt;</m>");
    }
}
