//! The `cascade-sql` program, which `cascade sql` runs.

use std::process::ExitCode;

use clap::Parser;
use sql::command::{self, SqlArgs};

/// There is no answer; clap ends with this where the options are wrong, too.
const FAILED: u8 = 2;

fn main() -> ExitCode {
    match command::run(SqlArgs::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.show());
            ExitCode::from(FAILED)
        }
    }
}
