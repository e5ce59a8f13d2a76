//! What rustyline asks while a question is typed.

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper};

use super::words::Words;
use crate::statement::is_finished;

pub(super) struct Editing(pub(super) Words);

impl Completer for Editing {
    type Candidate = String;

    fn complete(&self, text: &str, cursor: usize, _: &Context<'_>) -> Result<(usize, Vec<String>), ReadlineError> {
        Ok(self.0.complete(text, cursor))
    }
}

impl Validator for Editing {
    /// A question goes on until a semicolon, one of the prompt's own commands until the end of its line.
    fn validate(&self, context: &mut ValidationContext<'_>) -> Result<ValidationResult, ReadlineError> {
        let text = context.input().trim();
        Ok(match text.is_empty() || text.starts_with('\\') || is_finished(text) {
            true => ValidationResult::Valid(None),
            false => ValidationResult::Incomplete,
        })
    }
}

impl Hinter for Editing {
    type Hint = String;
}

impl Highlighter for Editing {}

impl Helper for Editing {}
