//! What a command says on the standard output.

use std::fmt::Display;
use std::io::{ErrorKind, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use terminal_size::{Width, terminal_size_of};

use super::CommandError;

/// The least room that a shortened column has in a table, however narrow the terminal is.
const LEAST_ROOM: usize = 24;

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

/// A table with the columns `right` aligned to the right, and `flexible` shortened to what the terminal has room for.
pub(super) fn table<const N: usize>(
    header: [&str; N],
    right: &[usize],
    flexible: usize,
    mut rows: Vec<[String; N]>,
) -> Table {
    if let Some((Width(width), _)) = terminal_size_of(std::io::stdout()) {
        shorten(&header, flexible, &mut rows, width.into());
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header).add_rows(rows);
    for (place, column) in table.column_iter_mut().enumerate() {
        if right.contains(&place) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

/// Cuts the cells of one column so that a row fits into `width`.
fn shorten<const N: usize>(header: &[&str; N], flexible: usize, rows: &mut [[String; N]], width: usize) {
    let width_of = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].len()]).max().unwrap_or_default()
    };
    // Each cell has a blank on both sides.
    let others: usize = (0..N)
        .filter(|column| *column != flexible)
        .map(|column| width_of(column) + 2)
        .sum();
    let room = width.saturating_sub(others + 2).max(LEAST_ROOM);
    for row in rows {
        if row[flexible].chars().count() > room {
            row[flexible] = row[flexible].chars().take(room - 1).chain(['…']).collect();
        }
    }
}

/// A text on one line, without characters that steer a terminal, turn the writing round or cannot be seen.
pub(super) fn printable(text: &str) -> String {
    let mut printable = String::new();
    for character in text.chars() {
        match character {
            '\n' | '\r' | '\t' => printable.push(' '),
            control if control.is_control() => printable.extend(control.escape_unicode()),
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                printable.extend(character.escape_unicode());
            }
            plain => printable.push(plain),
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_cut_to_the_terminals_width_and_no_further_than_can_be_read() {
        let cut = |width| {
            let mut rows = vec![["sale".to_owned(), "r".repeat(100)]];
            shorten(&["queue", "reason"], 1, &mut rows, width);
            rows[0][1].clone()
        };
        // 5 of "queue" and two blanks to each cell
        assert_eq!(cut(60), format!("{}…", "r".repeat(50)));
        assert_eq!(cut(109), "r".repeat(100));
        assert_eq!(cut(10).chars().count(), LEAST_ROOM);
    }

    #[test]
    fn what_would_steer_a_terminal_is_escaped() {
        assert_eq!(printable("a\u{1b}[2Jb\nc é"), "a\\u{1b}[2Jb c é");
        let unseen = "\u{200b}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}";
        let escaped = r"\u{200b}\u{200f}\u{202a}\u{202e}\u{2066}\u{2069}";
        assert_eq!(printable(unseen), escaped);
    }
}
