//! What a measurement shows while it runs: a bar, or lines where there is no terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::bench::Sight;

/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

/// Shows how far a measurement is, on the standard error.
pub(super) struct Progress {
    display: Display,
    begun: Instant,
}

enum Display {
    Nothing,
    Lines { last: Instant },
    Bar(ProgressBar),
}

impl Progress {
    /// A bar on a terminal, lines elsewhere, nothing if `quiet`.
    pub(super) fn new(quiet: bool) -> Self {
        let display = if quiet {
            Display::Nothing
        } else if std::io::stderr().is_terminal() {
            // The template is fixed, and has been seen to work.
            let style = ProgressStyle::with_template("{prefix:>24} {bar:40.cyan/dim} {pos:>5}/{len} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("━━─");
            Display::Bar(ProgressBar::new(0).with_style(style))
        } else {
            Display::Lines { last: Instant::now() }
        };
        Self {
            display,
            begun: Instant::now(),
        }
    }

    /// Shows how far `what` is.
    pub(super) fn show(&mut self, what: &str, sight: Sight) {
        match &mut self.display {
            Display::Nothing => {}
            Display::Lines { last } if last.elapsed() >= LINE => {
                *last = Instant::now();
                let (seconds, notes) = (self.begun.elapsed().as_secs(), notes(sight));
                eprintln!(
                    "{what} · {}/{} requests · {seconds} s{notes}",
                    sight.done, sight.expected
                );
            }
            Display::Lines { .. } => {}
            Display::Bar(bar) => {
                bar.set_prefix(what.to_owned());
                bar.set_length(sight.expected as u64);
                bar.set_position(sight.done as u64);
                bar.set_message(format!(
                    "requests · {} s{}",
                    self.begun.elapsed().as_secs(),
                    notes(sight)
                ));
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Display::Bar(bar) = &self.display {
            bar.finish_and_clear();
        }
    }
}

fn notes(sight: Sight) -> String {
    let notes = [(sight.refused, "answered 429"), (sight.kills, "killed")];
    let notes = notes.iter().filter(|(number, _)| *number > 0);
    notes.map(|(number, what)| format!(" · {number} {what}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_happened_is_noted() {
        assert_eq!(notes(Sight::default()), "");
        let sight = Sight {
            refused: 3,
            kills: 1,
            ..Sight::default()
        };
        assert_eq!(notes(sight), " · 3 answered 429 · 1 killed");
    }
}
