//! What a command says on the standard output.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use super::CommandError;

/// Writes `text` and ends the line. Nobody reading on (`| head`) is no error.
pub(super) fn say(text: impl Display) -> Result<(), CommandError> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CommandError::Io {
            action: "write to the standard output".to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}
