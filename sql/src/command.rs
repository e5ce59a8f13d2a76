//! `cascade sql`: what it is told, and what it does.

use std::io::{self, BufWriter, IsTerminal, Read};
use std::path::PathBuf;

use clap::Parser;
use tokio::runtime::Runtime;

use crate::console::{Console, ConsoleError};
use crate::location::{Location, LocationError};
use crate::output::{Format, OutputFile};
use crate::prompt;
use crate::session::Lake;

/// The folder of the lake in a data directory.
const LAKE: &str = "lake";

/// Ask the lake in SQL: branches, salespersons, sales, every change of them, and runs
///
/// Without a question, a prompt; or what is piped in. `cascade sql '\d'` lists the tables, `cascade sql '\d sales'` the
/// columns of one. The lake is only read.
#[derive(Debug, Parser)]
#[command(bin_name = "cascade sql", version)]
pub struct SqlArgs {
    /// The question, such as "SELECT count(*) FROM sales"
    #[arg(value_name = "SQL")]
    question: Option<String>,
    /// Take the question from a file
    #[arg(short, long, value_name = "FILE", conflicts_with = "question")]
    file: Option<PathBuf>,
    /// Directory whose lake is asked
    #[arg(long, value_name = "DIR", default_value = ".cascade")]
    data: PathBuf,
    /// The lake itself: a directory, or s3://BUCKET[/PREFIX] as the standard AWS environment (AWS_PROFILE, AWS_REGION,
    /// AWS_ENDPOINT_URL) leads to it
    #[arg(long, value_name = "PLACE", conflicts_with = "data", value_parser = parse_location)]
    lake: Option<Location>,
    /// What the answer is written as
    #[arg(long, value_name = "FORMAT", default_value = "table", value_enum)]
    format: Format,
    /// Write the answer to a file, which is there once it is complete
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Rows of a table at most; 0 for all
    #[arg(long, value_name = "N", default_value_t = 200)]
    limit: usize,
    /// Memory that a question may use; what goes beyond is written to temporary files where that is possible
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_memory)]
    memory: usize,
}

/// Answers the question, or asks for questions.
///
/// # Errors
/// If there is no lake, or no answer.
pub fn run(args: SqlArgs) -> Result<(), ConsoleError> {
    let runtime = Runtime::new().map_err(io_error("start"))?;
    let location = args
        .lake
        .clone()
        .unwrap_or_else(|| Location::Directory(args.data.join(LAKE)));
    let question = question(&args)?;
    if args.format == Format::Parquet && args.output.is_none() {
        return Err(ConsoleError::Usage(
            "Parquet is written to a file; expected --output FILE".to_owned(),
        ));
    }
    let lake = runtime.block_on(interruptible(async { Ok(Lake::open(&location, args.memory).await?) }))?;
    let limit = Some(args.limit).filter(|limit| *limit > 0);
    let width = if args.output.is_some() { || None } else { terminal_width };
    let console = Console::new(lake, args.format, limit, width, |summary| eprintln!("{summary}"));
    match (question, args.output) {
        (Some(question), None) => {
            let mut to = BufWriter::new(io::stdout());
            runtime.block_on(interruptible(console.answer(&question, &mut to)))
        }
        (Some(question), Some(path)) => {
            let action = format!("write {}", path.display());
            let mut file = OutputFile::create(&path).map_err(io_error(&action))?;
            runtime.block_on(interruptible(console.answer(&question, &mut file)))?;
            file.finish().map_err(io_error(&action))
        }
        (None, None) => {
            eprintln!(
                "The lake in {location}. \\d lists its tables, \\? helps, \\q ends; a question ends with a semicolon."
            );
            prompt::run(&console, &runtime)
        }
        (None, Some(_)) => Err(ConsoleError::Usage(
            "--output takes the answer to one question".to_owned(),
        )),
    }
}

/// The question; none if it is to be asked for.
fn question(args: &SqlArgs) -> Result<Option<String>, ConsoleError> {
    if let Some(file) = &args.file {
        let text = std::fs::read_to_string(file).map_err(io_error(&format!("read {}", file.display())))?;
        return Ok(Some(text));
    }
    if args.question.is_some() || io::stdin().is_terminal() {
        return Ok(args.question.clone());
    }
    let mut text = String::new();
    io::stdin()
        .read_to_string(&mut text)
        .map_err(io_error("read the standard input"))?;
    Ok(Some(text))
}

async fn interruptible<T>(work: impl Future<Output = Result<T, ConsoleError>>) -> Result<T, ConsoleError> {
    tokio::select! {
        done = work => done,
        _ = tokio::signal::ctrl_c() => Err(ConsoleError::Interrupted),
    }
}

fn io_error(action: &str) -> impl FnOnce(io::Error) -> ConsoleError {
    let action = action.to_owned();
    move |source| ConsoleError::Io { action, source }
}

fn terminal_width() -> Option<usize> {
    if !io::stdout().is_terminal() {
        return None;
    }
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

fn parse_location(text: &str) -> Result<Location, LocationError> {
    text.parse()
}

/// A number of bytes, such as `512M` or `2G`.
fn parse_memory(text: &str) -> Result<usize, String> {
    let expected = "expected a size such as 512M or 2G, at least 64M";
    let split = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let shift = match unit.to_ascii_uppercase().trim_end_matches('B') {
        "K" => 10,
        "M" => 20,
        "G" => 30,
        _ => return Err(expected.to_owned()),
    };
    let number: usize = number.parse().map_err(|_| expected.to_owned())?;
    match number.checked_mul(1 << shift) {
        Some(bytes) if bytes >= LEAST_MEMORY => Ok(bytes),
        _ => Err(expected.to_owned()),
    }
}

/// What the simplest question needs.
const LEAST_MEMORY: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_options_are_consistent() {
        SqlArgs::command().debug_assert();
    }

    #[test]
    fn memory_is_told_in_binary_units() {
        for (text, bytes) in [
            ("64M", 64 << 20),
            ("2G", 2 << 30),
            ("1gb", 1 << 30),
            ("70000k", 70_000 << 10),
        ] {
            assert_eq!(parse_memory(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "G",
            "1",
            "1M",
            "-1G",
            "1.5G",
            "1T",
            "99999999999999999999G",
            "18446744073709551615G",
        ] {
            assert!(parse_memory(text).is_err_and(|error| error.contains("512M")), "{text}");
        }
    }
}
