//! A question taken, and its answer given.

use std::error::Error;
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use rustyline::error::ReadlineError;
use shared::error_chain;
use thiserror::Error;
use tokio::time::Instant;

use crate::catalogue;
use crate::diagnosis::Diagnosis;
use crate::output::{self, Format, Layout, OutputError, Written};
use crate::session::{Lake, LakeError};
use crate::statement::Statement;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ConsoleError {
    /// The lake.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// The question.
    #[error("{diagnosis}")]
    Question {
        /// What is wrong with it.
        diagnosis: Diagnosis,
        /// Its text.
        text: String,
    },
    /// What was asked for cannot be.
    #[error("{0}")]
    Usage(String),
    /// Where the answer goes.
    #[error("the answer cannot be written")]
    Write(#[source] io::Error),
    /// The answer's format.
    #[error(transparent)]
    Output(OutputError),
    /// A file.
    #[error("could not {action}")]
    Io {
        /// What was tried.
        action: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// The prompt.
    #[error("the terminal cannot be used")]
    Terminal(#[source] ReadlineError),
    /// The user.
    #[error("interrupted")]
    Interrupted,
}

impl ConsoleError {
    /// The error with its causes; of a question, with the place.
    pub fn show(&self) -> String {
        match self {
            Self::Question { diagnosis, text } => diagnosis.show(text),
            other => error_chain(other),
        }
    }
}

/// A lake, and how its answers are to be given.
pub struct Console {
    lake: Lake,
    format: Format,
    limit: Option<usize>,
    /// How wide a table may be, asked anew for each.
    width: fn() -> Option<usize>,
    /// Where a summary goes.
    summarise: fn(&str),
}

impl Console {
    /// A console; a table shows `limit` rows at most and is as wide as `width` says.
    pub fn new(
        lake: Lake,
        format: Format,
        limit: Option<usize>,
        width: fn() -> Option<usize>,
        summarise: fn(&str),
    ) -> Self {
        Self {
            lake,
            format,
            limit,
            width,
            summarise,
        }
    }

    /// The lake.
    pub fn lake(&self) -> &Lake {
        &self.lake
    }

    /// Answers a text: `\d`, `\d NAME`, or statements that semicolons divide. Whoever does not read on is no error.
    ///
    /// # Errors
    /// If there is no answer, or it cannot be given in full.
    pub async fn answer(&self, text: &str, to: &mut (dyn Write + Send)) -> Result<(), ConsoleError> {
        match self.try_to_answer(text, to).await {
            Err(failure) if is_broken_pipe(&failure) => Ok(()),
            answered => answered,
        }
    }

    async fn try_to_answer(&self, text: &str, to: &mut (dyn Write + Send)) -> Result<(), ConsoleError> {
        if let Some(command) = text.trim().strip_prefix('\\') {
            let shown = self.describe(command).map_err(|diagnosis| ConsoleError::Question {
                diagnosis,
                text: text.to_owned(),
            })?;
            return write!(to, "{shown}")
                .and_then(|()| to.flush())
                .map_err(ConsoleError::Write);
        }
        let question = |diagnosis| ConsoleError::Question {
            diagnosis,
            text: text.to_owned(),
        };
        let statements = Statement::read(text).map_err(question)?;
        match statements.len() {
            0 => {
                return Err(ConsoleError::Usage(
                    "there is no question; expected SELECT … or \\d".to_owned(),
                ));
            }
            1 => {}
            _ if self.format == Format::Table => {}
            many => {
                return Err(ConsoleError::Usage(format!(
                    "there are {many} statements; expected one, whose answer makes one file (--format table takes more)"
                )));
            }
        }
        for statement in &statements {
            let begun = Instant::now();
            let answer = self.lake.ask(statement, text).await.map_err(question)?;
            let layout = Layout {
                width: (self.width)(),
                limit: self.limit,
            };
            let written = output::write(answer, self.format, layout, to).await;
            let written = match written {
                Ok(written) => written,
                Err(OutputError::Rows(error)) => return Err(question(self.lake.diagnose(&error, text).await)),
                Err(OutputError::Io(error)) => return Err(ConsoleError::Write(error)),
                Err(other) => return Err(ConsoleError::Output(other)),
            };
            (self.summarise)(&summary(written, begun.elapsed()));
        }
        Ok(())
    }

    fn describe(&self, command: &str) -> Result<String, Diagnosis> {
        let mut words = command.trim_end_matches(';').split_whitespace();
        match (words.next(), words.next(), words.next()) {
            (Some("d"), None, None) => Ok(catalogue::list(self.lake.tables())),
            (Some("d"), Some(name), None) => catalogue::describe(self.lake.tables(), name),
            _ => Err(Diagnosis::new(format!(
                "there is no \\{command}; expected \\d, \\d NAME, \\q or \\?"
            ))),
        }
    }
}

fn summary(written: Written, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    match (written.rows, written.more) {
        (rows, true) => format!("The first {rows} rows, and there are more (--limit). {seconds:.2} s"),
        (1, false) => format!("1 row. {seconds:.2} s"),
        (rows, false) => format!("{rows} rows. {seconds:.2} s"),
    }
}

fn is_broken_pipe(failure: &ConsoleError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(failure);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return error.kind() == ErrorKind::BrokenPipe;
        }
        cause = error.source();
    }
    false
}
