//! Dead letters for the page: their reasons, looked at seldom.
//!
//! Whoever looks into a queue hides its letters from others until he hands them back. So a queue is looked into when the number of
//! its letters has changed, and not again before a while; and not while somebody else holds letters of it.

use std::collections::BTreeMap;
use std::mem;
use std::time::Duration;

use shared::run::last_modified;
use tokio::time::Instant;

use super::snapshot::{LetterFigures, LetterGroup, whole_seconds};
use crate::dead_letters::{DeadLetterError, DeadLetterQueue, DeadLetters, Filter, Letter, Newcomers, grouped};
use crate::pipeline::Depth;

/// The longest text of a reason that is shown, in bytes.
const LONGEST_REASON: usize = 400;

/// How letters are looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Looking {
    /// The least time between two looks into a queue.
    pub(super) least: Duration,
    /// The time after which a queue is looked into again although it holds as many letters as before.
    pub(super) most: Duration,
    /// How many letters of a queue are looked at.
    pub(super) limit: usize,
}

/// What is known of each queue's letters.
#[derive(Debug, Default)]
pub(super) struct Letters {
    seen: BTreeMap<DeadLetterQueue, Seen>,
    /// Queues of which somebody else holds letters.
    held: Vec<DeadLetterQueue>,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    clock: time::UtcDateTime,
    count: u64,
    letters: Vec<Letter>,
    cut: bool,
}

impl Letters {
    /// The queues to be looked into, after they were found to hold so many letters; what is no longer there is forgotten.
    pub(super) fn due(
        &mut self,
        depths: &BTreeMap<DeadLetterQueue, Depth>,
        at: Instant,
        looking: Looking,
    ) -> Vec<DeadLetterQueue> {
        self.seen
            .retain(|queue, _| depths.get(queue).is_some_and(|depth| depth.all() > 0));
        self.held = depths
            .iter()
            .filter(|(_, depth)| depth.in_flight > 0)
            .map(|(queue, _)| *queue)
            .collect();
        let is_due = |queue: &DeadLetterQueue, depth: &Depth| match self.seen.get(queue) {
            None => true,
            Some(seen) => {
                let age = at.saturating_duration_since(seen.at);
                age >= looking.most || age >= looking.least && seen.count != depth.all()
            }
        };
        depths
            .iter()
            .filter(|(queue, depth)| depth.waiting > 0 && depth.in_flight == 0 && is_due(queue, depth))
            .map(|(queue, _)| *queue)
            .collect()
    }

    /// Looks into a queue.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub(super) async fn look(
        &mut self,
        dead_letters: &DeadLetters,
        queue: DeadLetterQueue,
        at: Instant,
        looking: Looking,
    ) -> Result<Vec<String>, DeadLetterError> {
        let Some(found) = dead_letters.find(queue).await? else {
            return Ok(Vec::new());
        };
        let look = dead_letters
            .look(&found, &Filter::default(), looking.limit, Newcomers::Shown, &|_| {})
            .await;
        let mut letters = look.letters;
        // Only why they failed is shown, and a body may be large, as may a reason.
        for letter in &mut letters {
            letter.body = String::new();
            letter.reason = shortened(mem::take(&mut letter.reason));
        }
        let seen = Seen {
            at,
            clock: found.now,
            count: found.depth.all(),
            letters,
            cut: look.cut,
        };
        self.seen.insert(queue, seen);
        Ok(look.problems)
    }

    /// What is known of all of them, at `now` by the environment's clock.
    pub(super) fn figures(&self, now: time::UtcDateTime) -> LetterFigures {
        let all = self.seen.values().flat_map(|seen| seen.letters.iter().cloned());
        let groups = grouped(all.collect(), |_| now).into_iter().map(|group| {
            let ages = group.letters.iter().filter_map(|letter| letter.age(now));
            LetterGroup {
                queue: group.queue.short_name(),
                reason: group.reason,
                count: group.letters.len(),
                oldest_seconds: ages.max().map(whole_seconds),
                run_id: group.letters.iter().filter_map(|letter| letter.run_id.clone()).max(),
            }
        });
        let held: Vec<_> = self.held.iter().map(|queue| queue.short_name()).collect();
        LetterFigures {
            looked_at: self.seen.values().map(|seen| last_modified(seen.clock)).min(),
            groups: groups.collect(),
            cut: self.seen.values().any(|seen| seen.cut),
            note: (!held.is_empty()).then(|| {
                format!(
                    "Somebody holds letters of {} now; they are looked at once they are handed back.",
                    held.join(", ")
                )
            }),
        }
    }
}

fn shortened(reason: String) -> String {
    if reason.len() <= LONGEST_REASON {
        return reason;
    }
    format!("{}…", &reason[..reason.floor_char_boundary(LONGEST_REASON)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOKING: Looking = Looking {
        least: Duration::from_secs(10),
        most: Duration::from_secs(60),
        limit: 10,
    };

    fn waiting(waiting: u64, in_flight: u64) -> BTreeMap<DeadLetterQueue, Depth> {
        let depth = Depth {
            waiting,
            in_flight,
            delayed: 0,
        };
        [(DeadLetterQueue::SaleWorkload, depth)].into()
    }

    fn seen(letters: &mut Letters, count: u64, at: Instant) {
        letters.seen.insert(
            DeadLetterQueue::SaleWorkload,
            Seen {
                at,
                clock: time::UtcDateTime::UNIX_EPOCH,
                count,
                letters: Vec::new(),
                cut: false,
            },
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_is_looked_into_when_its_letters_change_and_seldom_otherwise() {
        let begin = Instant::now();
        let mut letters = Letters::default();
        let due = |letters: &mut Letters, count, held, seconds| {
            let at = begin + Duration::from_secs(seconds);
            !letters.due(&waiting(count, held), at, LOOKING).is_empty()
        };
        assert!(!due(&mut letters, 0, 0, 0), "nothing is there");
        assert!(due(&mut letters, 1, 0, 0), "it was never looked into");
        seen(&mut letters, 1, begin);
        assert!(!due(&mut letters, 1, 0, 59), "nothing has changed");
        assert!(due(&mut letters, 1, 0, 60), "but it may have, by as many");
        assert!(!due(&mut letters, 2, 0, 9), "it is too soon");
        assert!(due(&mut letters, 2, 0, 10));
        assert!(!due(&mut letters, 2, 1, 60), "somebody else holds letters");
        assert!(letters.figures(time::UtcDateTime::UNIX_EPOCH).note.is_some());
        assert!(!due(&mut letters, 0, 0, 61) && letters.seen.is_empty(), "they are gone");
    }

    #[test]
    fn a_long_reason_is_shortened_between_characters() {
        assert_eq!(shortened("short".to_owned()), "short");
        let long = shortened("é".repeat(LONGEST_REASON));
        assert_eq!(long.chars().count(), LONGEST_REASON / 2 + 1);
        assert!(long.ends_with("é…"), "{long}");
    }
}
