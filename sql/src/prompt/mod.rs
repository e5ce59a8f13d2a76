//! The prompt: one question after the other.

mod editing;
mod history;
mod words;

use std::fs;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustyline::config::{CompletionType, Config};
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Editor, history::History};
use tokio::runtime::Runtime;

use crate::console::{Console, ConsoleError};
use editing::Editing;
use words::Words;

const PROMPT: &str = "sql> ";

/// What `\?` says.
const HELP: &str = "\
\\d        the tables
\\d NAME   the columns of a table, and their types
\\q        ends (so does Ctrl-D)
\\?        this

A question may go over several lines, and ends with a semicolon. The tabulator
completes names, the arrows bring back earlier questions, Ctrl-C stops a
question that runs.
";

/// How many questions are kept.
const KEPT: usize = 1_000;

/// Asks for questions and answers them, until there are no more.
///
/// # Errors
/// If the terminal cannot be used.
pub fn run(console: &Console, runtime: &Runtime) -> Result<(), ConsoleError> {
    let failed = |source: ReadlineError| ConsoleError::Terminal(source);
    let config = Config::builder()
        .completion_type(CompletionType::List)
        .completion_show_all_if_ambiguous(true)
        .history_ignore_space(true)
        .max_history_size(KEPT)
        .map_err(failed)?
        .build();
    let mut editor: Editor<Editing, FileHistory> = Editor::with_config(config).map_err(failed)?;
    let words = Words::new(console.lake().tables().to_vec(), console.lake().functions().to_vec());
    editor.set_helper(Some(Editing(words)));
    let history = history::path(|name| std::env::var_os(name)).and_then(|path| remember(&mut editor, path));
    loop {
        match editor.readline(PROMPT) {
            Ok(text) if text.trim().is_empty() => {}
            Ok(text) => {
                keep(&mut editor, &text, history.as_deref());
                match text.trim() {
                    "\\q" => return Ok(()),
                    "\\?" => println(HELP)?,
                    text => answer(console, runtime, text)?,
                }
            }
            // Whatever was typed is given up.
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => return Ok(()),
            Err(other) => return Err(failed(other)),
        }
    }
}

fn answer(console: &Console, runtime: &Runtime, text: &str) -> Result<(), ConsoleError> {
    let mut to = BufWriter::new(io::stdout());
    let answered = runtime.block_on(async {
        tokio::select! {
            answered = console.answer(text, &mut to) => answered,
            _ = tokio::signal::ctrl_c() => Err(ConsoleError::Interrupted),
        }
    });
    match answered {
        Ok(()) => println(""),
        // Beside the ^C that the terminal shows.
        Err(ConsoleError::Interrupted) => println("\ninterrupted\n"),
        // Nobody reads on.
        Err(ConsoleError::Write(source)) => Err(ConsoleError::Write(source)),
        Err(failure) => println(&format!("error: {}\n", failure.show())),
    }
}

fn println(text: &str) -> Result<(), ConsoleError> {
    writeln!(io::stdout(), "{text}").map_err(ConsoleError::Write)
}

/// Loads the history; none if it cannot be kept, which is no reason to do without a prompt.
fn remember(editor: &mut Editor<Editing, FileHistory>, path: PathBuf) -> Option<PathBuf> {
    let folder = path.parent()?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).ok()?;
    // The first time there is none.
    let _ = editor.load_history(&path);
    Some(path)
}

fn keep(editor: &mut Editor<Editing, FileHistory>, text: &str, path: Option<&Path>) {
    let is_new = editor.add_history_entry(text).unwrap_or(false);
    if let Some(path) = path.filter(|_| is_new) {
        let _ = editor.history_mut().append(path);
    }
}
