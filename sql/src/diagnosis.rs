//! Why a question has no answer, and where in its text the reason lies.

use std::error::Error;
use std::fmt;

use datafusion::common::{Diagnostic, SchemaError, Span};
use datafusion::error::DataFusionError;
use datafusion::sql::sqlparser::parser::ParserError;
use shared::error_chain;

use crate::place::{Excerpt, Place};
use crate::session::{CATALOG, SCHEMA};
use crate::store_error;

/// How many columns are listed where no name is like the one that was asked for.
const MOST_LISTED: usize = 40;

/// The names that a question can use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known<'a> {
    pub(crate) tables: &'a [String],
    pub(crate) functions: &'a [String],
}

/// Why a question has no answer.
#[derive(Debug)]
pub struct Diagnosis {
    message: String,
    place: Option<Place>,
    hints: Vec<String>,
}

impl Diagnosis {
    /// A reason of our own.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            place: None,
            hints: Vec::new(),
        }
    }

    /// What is said of a name that nothing has; `names` are those that something has.
    pub(crate) fn missing(what: &str, name: &str, names: &[String]) -> Self {
        let diagnosis = Self::new(format!("there is no {what} {name}"));
        match closest(name, names.iter().map(String::as_str)) {
            Some(close) => diagnosis.with_hint(format!("did you mean {close}?")),
            None if names.is_empty() || names.len() > MOST_LISTED => diagnosis,
            None => diagnosis.with_hint(format!("there are {}", names.join(", "))),
        }
    }

    pub(crate) fn at(mut self, place: Option<Place>) -> Self {
        self.place = place;
        self
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// What DataFusion says, in words for whoever wrote `text`.
    pub(crate) fn of(error: &DataFusionError, text: &str, known: Known<'_>) -> Self {
        let root = error.find_root();
        let told = error.diagnostic();
        let place = told.and_then(|told| told.span).map(place_of);
        match root {
            DataFusionError::SQL(problem, _) => Self::of_parser(problem, text),
            DataFusionError::SchemaError(problem, _) => Self::of_schema(problem, told).at(place),
            DataFusionError::Plan(message) => match (missing_table(message), told) {
                (Some(table), _) => Self::missing("table", table, known.tables).at(place),
                (None, Some(told)) => Self::of_diagnostic(told, known),
                (None, None) => Self::new(first_line(message)),
            },
            DataFusionError::ResourcesExhausted(message) => Self::new(format!(
                "the question needs more memory than it may use ({})",
                first_line(message).trim_end_matches('.')
            ))
            .with_hint("--memory lets it use more"),
            DataFusionError::Execution(message) | DataFusionError::Configuration(message) => Self::new(message.clone()),
            DataFusionError::NotImplemented(message) => {
                Self::new(format!("DataFusion cannot do this: {}", first_line(message)))
            }
            DataFusionError::ArrowError(problem, _) => Self::new(error_chain(problem.as_ref())),
            other => match told {
                Some(told) => Self::of_diagnostic(told, known),
                None => Self::new(outside(other)),
            },
        }
    }

    fn of_diagnostic(told: &Diagnostic, known: Known<'_>) -> Self {
        if let Some(name) = quoted_after(&told.message, "Invalid function '") {
            return Self::missing("function", name, known.functions).at(told.span.map(place_of));
        }
        let mut diagnosis = Self::new(first_line(&told.message)).at(told.span.map(place_of));
        for note in &told.notes {
            diagnosis = diagnosis.with_hint(note.message.clone());
        }
        for help in &told.helps {
            diagnosis = diagnosis.with_hint(help.message.clone());
        }
        diagnosis
    }

    fn of_schema(problem: &SchemaError, told: Option<&Diagnostic>) -> Self {
        match problem {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let Some(relation) = &field.relation else {
                    return Self::missing(
                        "column",
                        &field.name,
                        &names(valid_fields.iter().map(|known| &known.name)),
                    );
                };
                let of_it = valid_fields
                    .iter()
                    .filter(|known| known.relation.as_ref() == Some(relation));
                let of_it = names(of_it.map(|known| &known.name));
                if of_it.is_empty() {
                    let tables = valid_fields.iter().filter_map(|known| known.relation.as_ref());
                    let tables: Vec<String> = tables.map(|table| table.table().to_owned()).collect();
                    return Self::missing("table", relation.table(), &names(tables.iter()));
                }
                let mut diagnosis = Self::missing("column", &field.name, &of_it);
                diagnosis.message.push_str(&format!(" in {relation}"));
                diagnosis
            }
            SchemaError::AmbiguousReference { field } => {
                let name = &field.name;
                let diagnosis = Self::new(format!("{name} could be a column of more than one table"));
                let of = |note: &str| note.strip_prefix("possible column ").map(str::to_owned);
                let possible: Vec<String> = told
                    .map(|told| told.notes.iter().filter_map(|note| of(&note.message)).collect())
                    .unwrap_or_default();
                match possible.is_empty() {
                    true => diagnosis,
                    false => diagnosis.with_hint(format!("did you mean {}?", possible.join(" or "))),
                }
            }
            other => Self::new(first_line(&other.to_string())),
        }
    }

    fn of_parser(problem: &ParserError, text: &str) -> Self {
        let told = match problem {
            ParserError::ParserError(told) | ParserError::TokenizerError(told) => told.as_str(),
            ParserError::RecursionLimitExceeded => {
                return Self::new("the question is nested too deeply");
            }
        };
        let (message, place) = split_place(told, text);
        let message = message
            .replacen("Expected: ", "expected ", 1)
            .replacen(", found: ", ", found ", 1)
            .replace("found EOF", "found the end");
        let ends_early = message.ends_with("found the end");
        Self::new(message).at(place.or_else(|| ends_early.then(|| end_of(text))))
    }

    /// Where in the text the reason lies, if that is known.
    pub fn place(&self) -> Option<Place> {
        self.place
    }

    /// What may help.
    pub fn hints(&self) -> &[String] {
        &self.hints
    }

    /// The reason, with the place shown in the text.
    pub fn show(&self, text: &str) -> String {
        let shown_at = self.place.and_then(|place| Some((place, Excerpt::of(text, place)?)));
        let mut shown = self.message.clone();
        let Some((place, excerpt)) = shown_at else {
            for hint in &self.hints {
                shown.push_str(&format!("\nhint: {hint}"));
            }
            return shown;
        };
        let number = place.line.to_string();
        let margin = " ".repeat(number.len());
        let (line, column) = (place.line, place.column);
        let (before, carets) = (&excerpt.before, &excerpt.carets);
        shown.push_str(&format!("\n{margin}--> line {line}, column {column}\n{margin} |\n"));
        shown.push_str(&format!("{number} | {}\n", excerpt.line));
        let (beside, below) = match self.hints.split_first() {
            Some((first, rest)) => (format!(" {first}"), rest),
            None => (String::new(), [].as_slice()),
        };
        shown.push_str(&format!("{margin} | {before}{carets}{beside}"));
        for hint in below {
            shown.push_str(&format!("\n{margin} = {hint}"));
        }
        shown
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Diagnosis {}

fn place_of(span: Span) -> Place {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let (line, column) = (number(span.start.line), number(span.start.column));
    let length = match span.end.line == span.start.line {
        true => number(span.end.column).saturating_sub(column),
        false => usize::MAX / 2,
    };
    Place {
        line,
        column,
        length: length.max(1),
    }
}

/// sqlparser ends a message in its place: ` at Line: 1, Column: 8`.
fn split_place<'a>(told: &'a str, text: &str) -> (&'a str, Option<Place>) {
    let parse = |place: &str| {
        let (line, column) = place.split_once(", Column: ")?;
        let (line, column) = (line.parse::<usize>().ok()?, column.parse::<usize>().ok()?);
        let rest = text
            .lines()
            .nth(line.checked_sub(1)?)?
            .chars()
            .skip(column.checked_sub(1)?);
        let word = rest
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .count();
        Some(Place {
            line,
            column,
            length: word.max(1),
        })
    };
    match told.rsplit_once(" at Line: ") {
        Some((message, place)) => match parse(place) {
            Some(place) => (message, Some(place)),
            None => (told, None),
        },
        None => (told, None),
    }
}

fn end_of(text: &str) -> Place {
    let text = text.trim_end();
    let last = text.lines().last().unwrap_or_default();
    Place {
        line: text.lines().count().max(1),
        column: last.chars().count() + 1,
        length: 1,
    }
}

/// The name in `table 'cascade.lake.name' not found`.
fn missing_table(message: &str) -> Option<&str> {
    let name = message.strip_prefix("table '")?.strip_suffix("' not found")?;
    let own = name
        .strip_prefix(CATALOG)
        .and_then(|name| name.strip_prefix('.')?.strip_prefix(SCHEMA)?.strip_prefix('.'));
    Some(own.unwrap_or(name))
}

fn names<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut names: Vec<String> = names.cloned().collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn quoted_after<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    message.strip_prefix(before)?.split('\'').next()
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

/// An error from outside of DataFusion, with its causes.
fn outside(error: &DataFusionError) -> String {
    if let Some(store) = store_error::find(error) {
        return format!("the lake cannot be read: {}", store_error::reason(store));
    }
    match error {
        DataFusionError::External(cause) => error_chain(cause.as_ref()),
        other => other.strip_backtrace(),
    }
}

/// The name that is most like `name`, if one is much like it.
fn closest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (name.chars().count() / 3).max(1);
    names
        .map(|other| (strsim::osa_distance(&name.to_lowercase(), &other.to_lowercase()), other))
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, other)| other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: usize, column: usize, length: usize) -> Option<Place> {
        Some(Place { line, column, length })
    }

    #[test]
    fn the_place_is_shown_below_the_line() {
        let text = "SELECT *\n\tFROM größe, slaes";
        let shown = Diagnosis::new("there is no table slaes")
            .at(at(2, 14, 5))
            .with_hint("did you mean sales?")
            .with_hint("or not")
            .show(text);
        assert_eq!(
            shown,
            "there is no table slaes\n --> line 2, column 14\n  |\n2 | \tFROM größe, slaes\n  | \t            ^^^^^ did you \
             mean sales?\n  = or not"
        );
    }

    #[test]
    fn a_wide_letter_is_as_wide_below() {
        let shown = Diagnosis::new("no").at(at(1, 3, 2)).show("表 a1 b");
        assert!(shown.ends_with("\n1 | 表 a1 b\n  |    ^^"), "{shown}");
    }

    #[test]
    fn a_long_line_is_cut_on_both_sides() {
        let text = format!("SELECT {} wrong, {}", "1, ".repeat(100), "2, ".repeat(100));
        let column = text.find("wrong").unwrap() + 1;
        let shown = Diagnosis::new("no").at(at(1, column, 5)).show(&text);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(lines[3].starts_with("1 | …") && lines[3].ends_with('…'), "{shown}");
        let caret = lines[4].find('^').unwrap();
        let letters: String = lines[3].chars().skip(caret).take(5).collect();
        assert_eq!(letters, "wrong");
    }

    #[test]
    fn a_place_beyond_the_text_is_at_its_end() {
        for text in ["", "SELECT"] {
            let end = end_of(text);
            assert_eq!((end.line, end.column), (1, text.len() + 1));
            assert!(Diagnosis::new("no").at(Some(end)).show(text).ends_with('^'));
        }
        assert!(Diagnosis::new("no").at(at(7, 99, 5)).show("SELECT").ends_with("| ^"));
    }

    #[test]
    fn only_a_name_that_is_much_alike_is_suggested() {
        let names = || ["sales", "branches", "runs"].into_iter();
        for (name, close) in [
            ("slaes", Some("sales")),
            ("BRANCH", Some("branches")),
            ("run", Some("runs")),
            ("x", None),
        ] {
            assert_eq!(closest(name, names()), close, "{name}");
        }
    }
}
