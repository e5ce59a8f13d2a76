//! What `cascade dlq` prints: tables for people, JSON for programs.
//!
//! Reasons and bodies hold what a vendor or a stranger wrote: what would steer a terminal is printed in escaped form.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use time::UtcDateTime;
use time::format_description::well_known::Rfc3339;

use super::super::output::{printable, table};
use super::{Change, Way, grouped};
use crate::dead_letters::{DeadLetterQueue, Found, Letter, Origin, Outcome, TRUNCATED};

/// What a look into several queues has shown.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) queues: Vec<Found>,
    pub(super) missing: Vec<DeadLetterQueue>,
    pub(super) letters: Vec<Letter>,
    /// How many letters were left out of those, because they were sent after the look began.
    pub(super) newer: Vec<(DeadLetterQueue, u64)>,
    /// Whether there may be more letters than these.
    pub(super) cut: bool,
    pub(super) interrupted: bool,
    pub(super) problems: Vec<(DeadLetterQueue, String)>,
}

impl Seen {
    pub(super) fn is_complete(&self) -> bool {
        self.problems.is_empty() && !self.interrupted
    }

    /// Whether there are letters of a queue among them.
    pub(super) fn holds(&self, queue: DeadLetterQueue) -> bool {
        self.letters.iter().any(|letter| letter.queue == queue)
    }

    /// What is said where there are none.
    fn nothing(&self) -> &'static str {
        if self.interrupted || !self.problems.is_empty() {
            "No dead letters were seen"
        } else {
            "No dead letters"
        }
    }

    fn now(&self, queue: DeadLetterQueue) -> UtcDateTime {
        let found = self.queues.iter().find(|found| found.queue == queue);
        found.map_or(UtcDateTime::UNIX_EPOCH, |found| found.now)
    }

    fn rows(&self) -> Vec<Row> {
        grouped(self.letters.clone(), |queue| self.now(queue))
            .into_iter()
            .map(|group| {
                let now = self.now(group.queue);
                let ages: Vec<_> = group.letters.iter().filter_map(|letter| letter.age(now)).collect();
                let runs: BTreeSet<_> = group
                    .letters
                    .iter()
                    .filter_map(|letter| letter.run_id.clone())
                    .collect();
                Row {
                    queue: group.queue,
                    reason: group.reason,
                    count: group.letters.len(),
                    oldest: ages.iter().max().copied(),
                    newest: ages.iter().min().copied(),
                    runs: runs.into_iter().collect(),
                }
            })
            .collect()
    }

    fn has_notes(&self) -> bool {
        let hidden = self.queues.iter().any(|found| found.depth.in_flight > 0);
        self.interrupted || self.cut || hidden || !self.missing.is_empty() || !self.newer.is_empty()
    }

    /// What is to be known beside the letters.
    fn notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.interrupted {
            write!(f, "\nInterrupted: there may be more.")?;
        } else if self.cut {
            write!(
                f,
                "\nThere may be more: the look ended here; --limit N sets how many are looked at."
            )?;
        }
        for found in self.queues.iter().filter(|found| found.depth.in_flight > 0) {
            write!(
                f,
                "\n{}: about {} more could not be seen: another reader has received them, or one that was killed, in \
                 which case they come back within 16 minutes.",
                found.queue.short_name(),
                found.depth.in_flight
            )?;
        }
        for (queue, newer) in &self.newer {
            newcomers(f, *queue, *newer)?;
        }
        for queue in &self.missing {
            write!(
                f,
                "\n{}: there is no such queue in this environment.",
                queue.short_name()
            )?;
        }
        Ok(())
    }

    fn facts(&self) -> Value {
        json!({
            "queues": self.queues.iter().map(|found| json!({
                "queue": found.queue.short_name(),
                "waiting": found.depth.waiting,
                "in_flight": found.depth.in_flight,
                "newer": self.newer.iter().find(|(queue, _)| *queue == found.queue).map_or(0, |(_, newer)| *newer),
            })).collect::<Vec<_>>(),
            "missing": self.missing.iter().map(|queue| queue.short_name()).collect::<Vec<_>>(),
            "may_be_more": self.cut || self.interrupted,
            "problems": problems_json(&self.problems),
        })
    }
}

/// Letters that failed alike, as a table shows them.
struct Row {
    queue: DeadLetterQueue,
    reason: String,
    count: usize,
    oldest: Option<Duration>,
    newest: Option<Duration>,
    runs: Vec<String>,
}

impl Row {
    fn json(&self) -> Value {
        json!({
            "queue": self.queue.short_name(),
            "reason": self.reason,
            "letters": self.count,
            "oldest_seconds": self.oldest.map(|age| age.as_secs()),
            "newest_seconds": self.newest.map(|age| age.as_secs()),
            "runs": self.runs,
        })
    }

    fn runs(&self) -> String {
        match self.runs.as_slice() {
            [] => String::new(),
            [run] => printable(run),
            [first, others @ ..] => format!("{} +{}", printable(first), others.len()),
        }
    }
}

/// `cascade dlq list`
pub(super) struct List {
    pub(super) seen: Seen,
    rows: Vec<Row>,
}

impl List {
    pub(super) fn of(seen: Seen) -> Self {
        let rows = seen.rows();
        Self { seen, rows }
    }

    pub(super) fn json(&self) -> Value {
        let mut value = self.seen.facts();
        value["groups"] = self.rows.iter().map(Row::json).collect();
        value
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.rows.is_empty() {
            write!(f, "{}.", self.seen.nothing())?;
        } else {
            let cells = self.rows.iter().map(|row| {
                [
                    name(row.queue),
                    printable(&row.reason),
                    row.count.to_string(),
                    age(row.oldest),
                    age(row.newest),
                    row.runs(),
                ]
            });
            let header = ["queue", "reason", "letters", "oldest", "newest", "runs"];
            writeln!(f, "{}\n", table(header, &[2, 3, 4], 1, cells.collect()))?;
            write!(f, "{}", letters(self.seen.letters.len()))?;
            write!(
                f,
                "; `cascade dlq show` shows them, `cascade dlq redrive` sends them again."
            )?;
        }
        self.seen.notes(f)
    }
}

/// `cascade dlq show`
pub(super) struct Show(pub(super) Seen);

impl Show {
    pub(super) fn json(&self) -> Value {
        let mut value = self.0.facts();
        value["letters"] = self
            .0
            .letters
            .iter()
            .map(|letter| {
                json!({
                    "queue": letter.queue.short_name(),
                    "id": letter.id,
                    "sent_at": letter.sent_at.and_then(|time| time.format(&Rfc3339).ok()),
                    "age_seconds": letter.age(self.0.now(letter.queue)).map(|age| age.as_secs()),
                    "reason": letter.reason,
                    "run_id": letter.run_id,
                    "truncated": letter.truncated,
                    "body": letter.body,
                })
            })
            .collect();
        value
    }
}

impl fmt::Display for Show {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.letters.is_empty() {
            write!(f, "{}.", self.0.nothing())?;
        }
        for (place, letter) in self.0.letters.iter().enumerate() {
            let separator = if place == 0 { "" } else { "\n\n" };
            writeln!(f, "{separator}{}  {}", letter.queue.short_name(), printable(&letter.id))?;
            let sent = letter.sent_at.and_then(|time| time.format(&Rfc3339).ok());
            let ago = age(letter.age(self.0.now(letter.queue)));
            match sent {
                Some(sent) => writeln!(f, "  sent    {sent}, {ago} ago")?,
                None => writeln!(f, "  sent    not known")?,
            }
            writeln!(f, "  reason  {}", printable(&letter.reason))?;
            if letter.truncated {
                writeln!(f, "  whole   no: {TRUNCATED}")?;
            }
            if let Some(run) = &letter.run_id {
                writeln!(f, "  run     {}", printable(run))?;
            }
            let body = indented(&letter.body).lines().map(printable).collect::<Vec<_>>();
            write!(f, "  {}", body.join("\n  "))?;
        }
        if !self.0.letters.is_empty() {
            writeln!(f)?;
        }
        self.0.notes(f)
    }
}

/// What a change would do.
pub(super) struct Dry {
    pub(super) seen: Seen,
    pub(super) ways: Vec<(DeadLetterQueue, Way)>,
    pub(super) change: Change,
    pub(super) environment: String,
    /// The line that does it.
    pub(super) command: String,
}

impl Dry {
    fn way(&self, queue: DeadLetterQueue) -> &Way {
        let way = self.ways.iter().find(|(of, _)| *of == queue);
        way.map_or(&Way::Deleted, |(_, way)| way)
    }

    /// Whether what was seen would all be done.
    pub(super) fn is_complete(&self) -> bool {
        self.seen.is_complete() && self.seen.letters.iter().all(|letter| !self.stays(letter))
    }

    fn stays(&self, letter: &Letter) -> bool {
        matches!(self.way(letter.queue), Way::Blocked(_)) || self.is_truncated(letter)
    }

    /// Whether a letter is not whole, where that matters.
    fn is_truncated(&self, letter: &Letter) -> bool {
        letter.truncated && matches!(self.change, Change::Redrive(_))
    }

    pub(super) fn json(&self) -> Value {
        let mut value = self.seen.facts();
        let group = |row: &Row| {
            let mut group = row.json();
            group["goes_to"] = goes_to(self.way(row.queue), &self.environment).into();
            if let Way::Blocked(reason) = self.way(row.queue) {
                group["blocked"] = reason.as_str().into();
            }
            group
        };
        value["groups"] = self.seen.rows().iter().map(group).collect();
        let staying = self.seen.letters.iter().filter(|letter| self.stays(letter)).count();
        value["would_stay"] = staying.into();
        value["dry_run"] = true.into();
        value
    }
}

impl fmt::Display for Dry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.seen.rows();
        let verb = self.change.done();
        if rows.is_empty() {
            write!(f, "{}: nothing would be {verb}.", self.seen.nothing())?;
            return self.seen.notes(f);
        }
        let cells = rows.iter().map(|row| {
            let goes_to = goes_to(self.way(row.queue), &self.environment);
            let goes_to = goes_to.unwrap_or_else(|| "stays".to_owned());
            [
                name(row.queue),
                printable(&row.reason),
                row.count.to_string(),
                age(row.oldest),
                goes_to,
            ]
        });
        let header = ["queue", "reason", "letters", "oldest", "would go to"];
        writeln!(f, "{}\n", table(header, &[2, 3], 1, cells.collect()))?;
        let staying = self.seen.letters.iter().filter(|letter| self.stays(letter)).count();
        let going = self.seen.letters.len() - staying;
        if going > 0 {
            writeln!(
                f,
                "{} would be {verb}; nothing has been changed. To do it:\n",
                letters(going)
            )?;
            write!(f, "  {}", self.command)?;
        }
        if going > 0 && (staying > 0 || self.seen.has_notes()) {
            writeln!(f)?;
        }
        for (queue, way) in &self.ways {
            if let Way::Blocked(reason) = way
                && rows.iter().any(|row| row.queue == *queue)
            {
                write!(f, "\n{} would stay: {}.", queue.short_name(), printable(reason))?;
            }
        }
        for queue in DeadLetterQueue::ALL {
            let cut_short = |letter: &&Letter| letter.queue == queue && self.is_truncated(letter);
            let count = self.seen.letters.iter().filter(cut_short).count();
            if count > 0 {
                write!(
                    f,
                    "\n{}: {} would stay: {TRUNCATED}.",
                    queue.short_name(),
                    letters(count)
                )?;
            }
        }
        self.seen.notes(f)
    }
}

/// What a change has done.
pub(super) struct Done {
    pub(super) outcomes: Vec<(DeadLetterQueue, Way, Outcome)>,
    pub(super) missing: Vec<DeadLetterQueue>,
    pub(super) problems: Vec<(DeadLetterQueue, String)>,
    pub(super) change: Change,
    pub(super) environment: String,
    pub(super) interrupted: bool,
}

impl Done {
    pub(super) fn is_complete(&self) -> bool {
        self.problems().is_empty() && !self.interrupted
    }

    /// What went wrong, everywhere.
    pub(super) fn problems(&self) -> Vec<(DeadLetterQueue, String)> {
        let of = |(queue, _, outcome): &(DeadLetterQueue, Way, Outcome)| {
            let queue = *queue;
            outcome
                .problems
                .clone()
                .into_iter()
                .map(move |problem| (queue, problem))
        };
        self.problems
            .iter()
            .cloned()
            .chain(self.outcomes.iter().flat_map(of))
            .collect()
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "dry_run": false,
            "queues": self.outcomes.iter().map(|(queue, way, outcome)| json!({
                "queue": queue.short_name(),
                "goes_to": goes_to(way, &self.environment),
                self.change.done(): outcome.done,
                "failed": outcome.failed,
                "newer": outcome.newer,
                "may_be_more": outcome.cut,
            })).collect::<Vec<_>>(),
            "missing": self.missing.iter().map(|queue| queue.short_name()).collect::<Vec<_>>(),
            "problems": problems_json(&self.problems()),
        })
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = self.change.done();
        let dealt_with = |outcome: &Outcome| outcome.done + outcome.failed > 0;
        let cells: Vec<_> = self
            .outcomes
            .iter()
            .filter(|(_, _, outcome)| dealt_with(outcome))
            .map(|(queue, way, outcome)| {
                let goes_to = goes_to(way, &self.environment).unwrap_or_else(|| "stays".to_owned());
                [
                    name(*queue),
                    outcome.done.to_string(),
                    outcome.failed.to_string(),
                    goes_to,
                ]
            })
            .collect();
        if !cells.is_empty() {
            writeln!(f, "{}\n", table(["queue", verb, "failed", "to"], &[1, 2], 3, cells))?;
        }
        let done: u64 = self.outcomes.iter().map(|(_, _, outcome)| outcome.done).sum();
        let failed: u64 = self.outcomes.iter().map(|(_, _, outcome)| outcome.failed).sum();
        match (done, failed) {
            (0, 0) => write!(f, "Nothing was {verb}.")?,
            (done, 0) => write!(f, "{} {verb}.", letters(done as usize))?,
            (done, failed) => write!(
                f,
                "{} {verb}; {} failed, and stay where they are.",
                letters(done as usize),
                letters(failed as usize)
            )?,
        }
        if self.interrupted {
            write!(f, "\nInterrupted: there may be more.")?;
        } else if self
            .outcomes
            .iter()
            .any(|(_, _, outcome)| outcome.cut && outcome.problems.is_empty())
        {
            write!(
                f,
                "\nThere may be more: it ended here, at --limit or because the letters that stay came round again."
            )?;
        }
        let handed = |(_, way, outcome): &&(DeadLetterQueue, Way, Outcome)| {
            matches!(way, Way::Function(_)) && self.change != Change::Discard && outcome.done > 0
        };
        for (queue, _, outcome) in self.outcomes.iter().filter(handed) {
            write!(
                f,
                "\n{}: {} handed to Lambda, which calls the function; an event that fails again comes back here.",
                queue.short_name(),
                letters(outcome.done as usize)
            )?;
        }
        for (queue, _, outcome) in self.outcomes.iter().filter(|(_, _, outcome)| outcome.newer > 0) {
            newcomers(f, *queue, outcome.newer)?;
        }
        for queue in &self.missing {
            write!(
                f,
                "\n{}: there is no such queue in this environment.",
                queue.short_name()
            )?;
        }
        Ok(())
    }
}

impl Change {
    /// What letters are after it.
    fn done(self) -> &'static str {
        match self {
            Self::Redrive(_) => "redriven",
            Self::Discard => "deleted",
        }
    }
}

/// Tells of letters that a change leaves alone.
fn newcomers(f: &mut fmt::Formatter<'_>, queue: DeadLetterQueue, newer: u64) -> fmt::Result {
    write!(
        f,
        "\n{}: {} left alone, sent after this began, by this machine's clock.",
        queue.short_name(),
        letters(newer as usize)
    )
}

fn goes_to(way: &Way, environment: &str) -> Option<String> {
    match way {
        Way::Queue(name) => Some(Origin::WorkQueue(name).name(environment)),
        Way::Function(function) => Some(function.name(environment)),
        Way::Here(Origin::Function(stage)) => Some(format!("the collector of {}, here", stage.name())),
        Way::Here(queue) => Some(queue.name(environment)),
        Way::Deleted => Some("nowhere: deleted".to_owned()),
        Way::Blocked(_) => None,
    }
}

fn problems_json(problems: &[(DeadLetterQueue, String)]) -> Value {
    let problem =
        |(queue, problem): &(DeadLetterQueue, String)| json!({"queue": queue.short_name(), "problem": problem});
    problems.iter().map(problem).collect()
}

fn name(queue: DeadLetterQueue) -> String {
    queue.short_name().to_owned()
}

fn letters(count: usize) -> String {
    match count {
        1 => "1 letter".to_owned(),
        count => format!("{count} letters"),
    }
}

/// An age to two units: `3days 4h`.
fn age(age: Option<Duration>) -> String {
    let Some(age) = age else {
        return "?".to_owned();
    };
    let seconds = age.as_secs();
    let unit = match seconds {
        0..3_600 => 1,
        3_600..86_400 => 60,
        _ => 3_600,
    };
    humantime::format_duration(Duration::from_secs(seconds / unit * unit)).to_string()
}

/// To this depth JSON is indented. Deeper, it is for no reader, and the blanks would grow with the square of its length.
const DEEPEST: usize = 32;

/// JSON with a line for each of its parts, every number and text as it stands; anything else as it is.
fn indented(text: &str) -> String {
    if serde_json::from_str::<&RawValue>(text).is_err() {
        return text.to_owned();
    }
    let mut indented = String::new();
    let mut depth = 0;
    let (mut in_text, mut escaped) = (false, false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        if in_text {
            indented.push(character);
            in_text = escaped || character != '"';
            escaped = !escaped && character == '\\';
            continue;
        }
        let new_line = |indented: &mut String, depth: usize| {
            indented.push('\n');
            indented.extend(std::iter::repeat_n("  ", depth));
        };
        match character {
            ' ' | '\n' | '\r' | '\t' => {}
            '{' | '[' => {
                indented.push(character);
                while characters.next_if(|next| next.is_ascii_whitespace()).is_some() {}
                if let Some(end) = characters.next_if(|next| matches!(next, '}' | ']')) {
                    indented.push(end);
                } else {
                    depth += 1;
                    if depth > DEEPEST {
                        return text.to_owned();
                    }
                    new_line(&mut indented, depth);
                }
            }
            '}' | ']' => {
                depth -= 1;
                new_line(&mut indented, depth);
                indented.push(character);
            }
            ',' => {
                indented.push(character);
                new_line(&mut indented, depth);
            }
            ':' => indented.push_str(": "),
            other => {
                in_text = other == '"';
                indented.push(other);
            }
        }
    }
    indented
}

/// The line that was typed, with an option more, as a shell takes it.
pub(super) fn typed_with(option: &str) -> String {
    let words = std::env::args_os().skip(1).map(|word| quoted(&word.to_string_lossy()));
    let words: Vec<_> = ["cascade".to_owned()]
        .into_iter()
        .chain(words)
        .chain([option.to_owned()])
        .collect();
    words.join(" ")
}

fn quoted(word: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./:=,@".contains(character);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_to_the_digit_and_to_the_escape() {
        let body = r#"{"id":12345678901234567890123, "a": [], "b" : { }, "t": "x\", {\\", "l": [1.10, null]}"#;
        let expected = r#"{
  "id": 12345678901234567890123,
  "a": [],
  "b": {},
  "t": "x\", {\\",
  "l": [
    1.10,
    null
  ]
}"#;
        assert_eq!(indented(body), expected);
        assert_eq!(indented("{not JSON"), "{not JSON");
    }

    #[test]
    fn json_that_is_nested_too_deeply_to_be_read_is_as_it_is() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(indented(&nested(DEEPEST)).lines().count(), 2 * DEEPEST + 1);
        for depth in [DEEPEST + 1, 100_000] {
            assert_eq!(indented(&nested(depth)), nested(depth));
        }
    }

    #[test]
    fn an_age_is_told_to_two_units() {
        let told = |seconds| age(Some(Duration::from_secs(seconds)));
        assert_eq!(
            [told(0), told(61), told(3_599), told(7_322), told(93_784)],
            ["0s", "1m 1s", "59m 59s", "2h 2m", "1day 2h"]
        );
        assert_eq!(age(None), "?");
    }

    #[test]
    fn a_word_is_quoted_where_a_shell_would_split_it() {
        assert_eq!(quoted("--older-than=2h"), "--older-than=2h");
        assert_eq!(quoted("it's 1day"), r"'it'\''s 1day'");
        assert_eq!(quoted(""), "''");
    }
}
