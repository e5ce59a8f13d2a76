//! An answer, written: as a table for people, or as CSV, JSON or Parquet, row by row as they come.

mod cells;
mod csv;
mod file;
mod json;
mod parquet;
mod table;

use std::collections::BTreeSet;
use std::io::{self, Write};

use clap::ValueEnum;
use datafusion::arrow::error::ArrowError;
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use thiserror::Error;

pub use file::OutputFile;

use crate::session::Answer;

/// What an answer is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people, as wide as the terminal allows
    Table,
    /// RFC 4180, with a header; NULL is nothing, an empty text is ""
    Csv,
    /// An array of objects, one a line; numbers with all their digits
    Json,
    /// A file for other engines (with --output)
    Parquet,
}

/// How a table is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// How many columns of text there are to fill; none if it does not matter.
    pub width: Option<usize>,
    /// How many rows are shown at most; none for all of them.
    pub limit: Option<usize>,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// How many rows.
    pub rows: usize,
    /// Whether there are more, which were left out.
    pub more: bool,
}

/// Why an answer is not written in full.
#[derive(Debug, Error)]
pub enum OutputError {
    /// The rest of the rows.
    #[error("the rows cannot be read")]
    Rows(#[from] DataFusionError),
    /// Two columns of one name, where readers know a column by its name.
    #[error("two columns are called {0}, which {1} has room for once: name one of them with AS")]
    Alike(String, &'static str),
    /// What it is written to.
    #[error("the answer cannot be written")]
    Io(#[from] io::Error),
    /// A value that the format has no place for.
    #[error("the answer cannot be written in this format")]
    Encoding(#[from] ArrowError),
    /// A value that Parquet has no place for, or the file.
    #[error("the answer cannot be written as Parquet")]
    Parquet(#[from] ParquetError),
}

/// Writes an answer. Only a table has a limit; its rows alone are held in memory.
///
/// # Errors
/// If reading or writing fails on the way: then some of it may be written.
pub async fn write(
    answer: Answer,
    format: Format,
    layout: Layout,
    to: &mut (dyn Write + Send),
) -> Result<Written, OutputError> {
    match format {
        Format::Table => table::write(answer, layout, to).await,
        Format::Csv => csv::write(answer, to).await,
        Format::Json => {
            different(&answer, "a JSON object")?;
            json::write(answer, to).await
        }
        Format::Parquet => {
            different(&answer, "a Parquet file")?;
            parquet::write(answer, to).await
        }
    }
}

fn different(answer: &Answer, place: &'static str) -> Result<(), OutputError> {
    let mut names = BTreeSet::new();
    let alike = answer.schema.fields().iter().find(|field| !names.insert(field.name()));
    match alike {
        Some(field) => Err(OutputError::Alike(field.name().clone(), place)),
        None => Ok(()),
    }
}
