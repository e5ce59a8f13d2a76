//! A place in a question's text, and how it is shown.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// How much of a long line is shown to either side of the place.
const CONTEXT: usize = 60;

/// A place in a question's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The line, counted from 1.
    pub line: usize,
    /// The character in it, counted from 1.
    pub column: usize,
    /// How many characters; at least 1.
    pub length: usize,
}

/// A line of the text, and what stands below it.
pub(crate) struct Excerpt {
    /// The line, or what of it is near the place.
    pub(crate) line: String,
    /// As wide as what comes before the place.
    pub(crate) before: String,
    /// As wide as the place.
    pub(crate) carets: String,
}

impl Excerpt {
    /// None if the text has no such line.
    pub(crate) fn of(text: &str, place: Place) -> Option<Self> {
        let letters: Vec<char> = text
            .lines()
            .nth(place.line.checked_sub(1)?)
            .unwrap_or("")
            .chars()
            .collect();
        let at = place.column.saturating_sub(1).min(letters.len());
        let end = (at + place.length.max(1)).min(letters.len());
        let (from, to) = (at.saturating_sub(CONTEXT), (end + CONTEXT).min(letters.len()));
        let (cut_before, cut_after) = (from > 0, to < letters.len());
        let mut line = String::new();
        let mut before = String::new();
        if cut_before {
            line.push('…');
            before.push(' ');
        }
        for (position, &letter) in letters.iter().enumerate().take(to).skip(from) {
            // A tab is as wide below as above.
            let letter = if letter.is_control() && letter != '\t' {
                '\u{fffd}'
            } else {
                letter
            };
            line.push(letter);
            if position < at {
                match letter {
                    '\t' => before.push('\t'),
                    wide => before.push_str(&" ".repeat(wide.width().unwrap_or(0))),
                }
            }
        }
        if cut_after {
            line.push('…');
        }
        let marked: String = letters[at..end].iter().collect();
        Some(Self {
            line,
            before,
            carets: "^".repeat(marked.width().max(1)),
        })
    }
}
