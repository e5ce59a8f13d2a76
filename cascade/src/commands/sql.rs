//! `cascade sql`: questions to the lake, answered by a program of its own, which costs more to build than all of this one.

use std::ffi::OsString;
use std::io::{Error, ErrorKind};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use clap::Args;

use super::CommandError;

/// The program that answers, beside this one.
const PROGRAM: &str = "cascade-sql";

/// Ask the lake in SQL; `cascade sql --help` says how
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct SqlArgs {
    /// What it is told
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

/// Becomes the program that answers.
///
/// # Errors
/// If it is not there, or cannot be started.
pub fn sql(args: SqlArgs) -> CommandError {
    let folder = std::env::current_exe().map(|program| program.parent().map(Path::to_owned).unwrap_or_default());
    let failure = match folder {
        Ok(folder) => Command::new(folder.join(PROGRAM)).args(args.arguments).exec(),
        Err(failure) => failure,
    };
    unanswered(failure)
}

fn unanswered(failure: Error) -> CommandError {
    if failure.kind() == ErrorKind::NotFound {
        let profile = if cfg!(debug_assertions) { "" } else { " --release" };
        return CommandError::Service {
            action: format!("find {PROGRAM} beside this program"),
            reason: format!("`cargo build{profile} --package sql` builds it"),
        };
    }
    CommandError::Io {
        action: format!("start {PROGRAM}"),
        source: failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::error_chain;

    #[test]
    fn where_the_program_is_missing_the_error_says_how_to_build_it() {
        let missing = error_chain(&unanswered(Error::from(ErrorKind::NotFound)));
        assert!(
            missing.starts_with("could not find cascade-sql beside this program: `cargo build"),
            "{missing}"
        );
        assert!(missing.ends_with(" --package sql` builds it"), "{missing}");
        let denied = error_chain(&unanswered(Error::from(ErrorKind::PermissionDenied)));
        assert!(denied.starts_with("could not start cascade-sql: "), "{denied}");
    }
}
