//! What a run shows while it is running: a bar a stage and the requests against the quota; without a terminal, lines.

use std::io::IsTerminal;
use std::num::NonZeroU32;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::pipeline::{Stage, View};

/// How often the bars are drawn.
const FRAME: Duration = Duration::from_millis(100);

/// How often a line is written where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

/// Shows a run's progress on the standard error.
pub(super) struct Progress {
    display: Display,
    quota: NonZeroU32,
    branches: usize,
}

enum Display {
    Nothing,
    Lines,
    Bars {
        stages: [ProgressBar; 3],
        requests: ProgressBar,
    },
}

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Position {
    /// Done and known, for each stage.
    stages: [(u64, u64); 3],
    requests: u64,
    /// How many requests the run needs in all, as far as is known.
    expected_requests: u64,
    throttles: u64,
}

impl Position {
    fn of(view: &View, branches: usize) -> Self {
        let counts = Stage::ALL.map(|stage| view.counts(stage));
        let [branch, salesperson, sale] = counts;
        let over = |counts: &shared::tally::Counts| counts.done + counts.dead_lettered;
        let known = branches as u64;
        Self {
            stages: [
                (branch.enqueued.min(known), known),
                (over(&salesperson), branch.enqueued),
                (over(&sale), salesperson.enqueued),
            ],
            requests: counts.iter().map(|counts| counts.api_calls).sum(),
            expected_requests: known + branch.enqueued + salesperson.enqueued,
            throttles: counts.iter().map(|counts| counts.api_throttles).sum(),
        }
    }

    /// The time that the quota leaves the rest, once it is known how much that is.
    fn time_left(&self, quota: NonZeroU32) -> Option<Duration> {
        let [(_, _), (branches_done, branches), _] = self.stages;
        let rest = u32::try_from(self.expected_requests.saturating_sub(self.requests)).ok()?;
        (branches > 0 && branches_done == branches).then(|| Duration::from_secs(60) * rest / quota.get())
    }

    fn requests_line(&self, quota: NonZeroU32) -> String {
        let left = match self.time_left(quota) {
            Some(left) if !left.is_zero() => format!(" · about {} s left", left.as_secs() + 1),
            _ => String::new(),
        };
        let throttles = match self.throttles {
            0 => String::new(),
            throttles => format!(" · {throttles} answered 429"),
        };
        format!("{} requests · {quota} a minute allowed{throttles}{left}", self.requests)
    }

    fn line(&self, quota: NonZeroU32) -> String {
        let [branches, salespersons, sales] = self.stages.map(|(done, known)| format!("{done}/{known}"));
        format!(
            "branches {branches} · salespersons of branches {salespersons} · sales of salespersons {sales} · {}",
            self.requests_line(quota)
        )
    }
}

impl Progress {
    /// Bars on a terminal, lines elsewhere, nothing if `quiet`.
    pub(super) fn new(quiet: bool, quota: NonZeroU32, branches: usize) -> Self {
        let display = if quiet {
            Display::Nothing
        } else if std::io::stderr().is_terminal() {
            bars()
        } else {
            Display::Lines
        };
        Self {
            display,
            quota,
            branches,
        }
    }

    /// Runs `work`, and shows what `view` sees until it is done.
    pub(super) async fn watch<T>(self, view: &View, work: impl Future<Output = T>) -> T {
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut last_line = Instant::now();
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => {
                    self.show(view, true);
                    return done;
                }
                _ = frames.tick() => {
                    let due = last_line.elapsed() >= LINE;
                    self.show(view, due);
                    if due {
                        last_line = Instant::now();
                    }
                }
            }
        }
    }

    fn show(&self, view: &View, line_due: bool) {
        let position = Position::of(view, self.branches);
        match &self.display {
            Display::Nothing => {}
            Display::Lines if line_due => eprintln!("{}", position.line(self.quota)),
            Display::Lines => {}
            Display::Bars { stages, requests } => {
                for (bar, (done, known)) in stages.iter().zip(position.stages) {
                    bar.set_length(known);
                    bar.set_position(done);
                }
                requests.set_message(position.requests_line(self.quota));
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Display::Bars { stages, requests } = &self.display {
            stages.iter().for_each(ProgressBar::abandon);
            requests.finish_and_clear();
            eprintln!();
        }
    }
}

fn bars() -> Display {
    let all = MultiProgress::new();
    // The templates are fixed, and have been seen to work.
    let style = ProgressStyle::with_template("{prefix:>13} {bar:40.cyan/dim} {pos:>5}/{len} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━━─");
    let stages = Stage::ALL.map(|stage| {
        let asked = match stage {
            Stage::Branches => "names asked for",
            Stage::Salespersons => "branches asked for",
            Stage::Sales => "salespersons asked for",
        };
        let bar = ProgressBar::new(0).with_style(style.clone());
        all.add(bar.with_prefix(stage.name()).with_message(asked))
    });
    let message =
        ProgressStyle::with_template("{prefix:>13} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    let requests = all.add(ProgressBar::new_spinner().with_style(message).with_prefix("vendor"));
    Display::Bars { stages, requests }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(stages: [(u64, u64); 3], requests: u64) -> Position {
        let expected_requests = stages.iter().map(|(_, known)| known).sum();
        Position {
            stages,
            requests,
            expected_requests,
            throttles: 0,
        }
    }

    #[test]
    fn the_time_left_is_told_once_all_salespersons_are_known() {
        let quota = NonZeroU32::new(60).unwrap();
        assert_eq!(position([(13, 13), (5, 13), (0, 40)], 20).time_left(quota), None);
        assert_eq!(
            position([(13, 13), (13, 13), (4, 104)], 30).time_left(quota),
            Some(Duration::from_secs(100))
        );
    }

    #[test]
    fn a_line_says_how_far_each_stage_is() {
        let quota = NonZeroU32::new(240).unwrap();
        assert_eq!(
            position([(13, 13), (13, 13), (104, 104)], 130).line(quota),
            "branches 13/13 · salespersons of branches 13/13 · sales of salespersons 104/104 · 130 requests · 240 a minute allowed"
        );
    }
}
