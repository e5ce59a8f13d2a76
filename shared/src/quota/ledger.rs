//! The ledger: one quota for all instances, kept as a [`Calendar`] in the state table.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::UtcDateTime;
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, info, warn};

use super::QuotaSettings;
use super::calendar::{Calendar, Class, Limits, SLOT, Slot, WINDOW, slot_of, start_of};
use super::pace::Pace;
use crate::clock::Clock;
use crate::error_chain;
use crate::jitter::Jitter;
use crate::state::{Entry, StateError, StateTable, Swapped};

/// The entry that holds the calendar.
pub const CALENDAR: &str = "quota";

/// How long the calendar is kept after it was last written: far longer than a promise counts.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

/// How long those who ask at once are waited for, so that one write promises places to all of them.
const GATHERING: Duration = Duration::from_millis(5);

/// What has to be left of a slot for a place in it to be asked for: about what the asking takes.
const LEAST_OF_SLOT: Duration = Duration::from_millis(150);

/// How far ahead places are promised. The less, the sooner a process that has lost the ledger knows that all promises are
/// over.
const HORIZON: Duration = Duration::from_secs(60);

/// How long a calendar that was read or written here is taken to be the latest. If it is not, the write finds out.
const FRESH: Duration = Duration::from_millis(250);

/// For how long a place can be used without another look at whether the quota was closed meanwhile.
const LOOKED: Duration = Duration::from_secs(1);

/// The longest that the quota is closed for everybody at one go. Whoever asks then is told again.
const LONGEST_CLOSING: Duration = Duration::from_secs(24 * 60 * 60);

/// How often a write is tried against others in a row, and the wait between two tries, most of it random.
const MAX_CONFLICTS: u32 = 50;
const CONFLICT_WAIT: Duration = Duration::from_millis(10);

/// By how much a message that waits for its place comes back before it: SQS waits whole seconds, and a place that was
/// missed would be lost.
const EARLY: Duration = Duration::from_millis(1500);

/// How often a ledger that could not be reached is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// How long one attempt to reach it takes at the most, all tries of the state table's client included.
const ATTEMPT: Duration = Duration::from_secs(10);

/// How far apart two failures are that belong to two outages.
const LEAST_BETWEEN_OUTAGES: Duration = RETRY.saturating_mul(2).saturating_add(ATTEMPT);

/// How long a process that has lost the ledger waits before it keeps a pace: until all that the others may have been
/// promised counts no more.
const SILENCE: Duration = HORIZON
    .saturating_add(WINDOW)
    .saturating_add(SLOT)
    .saturating_add(Duration::from_secs(1));

/// How long the calendar stays closed after processes have kept a pace: until all of them have found it again, and what
/// they asked counts no more.
const SETTLING: Duration = WINDOW.saturating_add(RETRY).saturating_add(ATTEMPT);

/// How seldom the vendor's word about what is left is compared with the calendar.
const LEAST_BETWEEN_CORRECTIONS: Duration = Duration::from_secs(1);

/// The ledger, as one process sees it.
pub struct Ledger {
    table: Arc<dyn StateTable>,
    limits: Limits,
    clock: Clock,
    jitter: Jitter,
    /// None where there can be none: then nobody asks until the ledger is reached.
    own_pace: Option<Pace>,
    mind: Mutex<Mind>,
    failures: AtomicU64,
}

/// What a process remembers of the ledger.
#[derive(Default)]
struct Mind {
    /// The calendar when it was last read or written here.
    seen: Option<Seen>,
    /// Places that were promised to this process, by what they are for.
    lease: BTreeMap<(Class, Slot), u32>,
    outage: Option<Outage>,
    /// When the last request was made by a pace of our own.
    paced_at: Option<Instant>,
    corrected_at: Option<Instant>,
}

struct Seen {
    entry: Option<Entry>,
    calendar: Calendar,
    at: Instant,
}

/// While the ledger cannot be reached.
#[derive(Clone, Copy)]
struct Outage {
    since: Instant,
    retry_at: Instant,
    /// When it last failed, by the wall: a process may be frozen between two tries, and its monotonic clock with it.
    failed_at: UtcDateTime,
}

/// What becomes of somebody who asks for a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turned {
    /// He has it, and has to use it at once.
    Go,
    /// He asks again after this time; his place is near.
    Wait(Duration),
    /// There is none for as long as he can wait; he comes back after this time.
    NotBefore(Duration),
    /// The vendor takes no requests for this time.
    Closed(Duration),
}

/// The calendar as it stands in the table.
#[derive(Serialize, Deserialize)]
struct Body {
    #[serde(flatten)]
    calendar: Calendar,
    /// Tells this write from any other, also from one that this process makes at the same time: were they alike, each would
    /// take the other for itself, and one promise would serve two.
    by: String,
}

/// What a process makes of the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// It is to be written as it is now.
    Write,
    /// There is nothing to write.
    Leave,
}

impl Wish {
    fn write_if(is_news: bool) -> Self {
        if is_news { Self::Write } else { Self::Leave }
    }
}

impl Ledger {
    /// The ledger in `table`. `clock` is the machine's: what the vendor counts by.
    pub fn new(table: Arc<dyn StateTable>, settings: QuotaSettings, clock: Clock, jitter: Jitter) -> Self {
        let limits = settings.limits();
        Self {
            table,
            limits,
            own_pace: Pace::of_one_among(settings.instances, limits.per_window).map(|pace| {
                let least = limits.per_second.map_or(Duration::ZERO, |requests| {
                    Duration::from_secs(1) * settings.instances.get() / requests.get()
                });
                if least > pace.period() {
                    Pace::every(least)
                } else {
                    pace
                }
            }),
            clock,
            jitter,
            mind: Mutex::default(),
            failures: AtomicU64::new(0),
        }
    }

    /// The time that the quota gives one request.
    pub(super) fn pace(&self) -> Duration {
        WINDOW / self.limits.per_window.get()
    }

    pub(super) fn take_failures(&self) -> u64 {
        self.failures.swap(0, Ordering::Relaxed)
    }

    fn mind(&self) -> MutexGuard<'_, Mind> {
        self.mind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, if there is one now. Of those who wait, only the first in line asks; `in_line` says how many of his
    /// kind there are, he included.
    pub(super) async fn take(&self, class: Class, until: Instant, in_line: impl Fn() -> u32) -> Turned {
        loop {
            match self.leased(class) {
                Some(Turned::Go) => match self.still_open().await {
                    Some(turned) => return turned,
                    None => continue,
                },
                Some(turned) => return turned,
                None => {}
            }
            if let Some(turned) = self.without_ledger() {
                return turned;
            }
            sleep(GATHERING).await;
            match self.reserve(class, in_line(), until).await {
                Ok(Turned::Go) => {}
                Ok(turned) => return turned,
                Err(failure) => self.lost(&failure),
            }
        }
    }

    /// A place that was promised before; `None` if there is none.
    fn leased(&self, class: Class) -> Option<Turned> {
        let now = self.clock.now();
        let slot = slot_of(now);
        let mut mind = self.mind();
        // A promise that was not used in its slot is lost.
        mind.lease.retain(|(_, promised), _| *promised >= slot);
        let (&(_, promised), places) = mind.lease.range_mut((class, slot)..=(class, Slot::MAX)).next()?;
        if promised > slot {
            return Some(Turned::Wait(time_until(promised, now)));
        }
        *places -= 1;
        if *places == 0 {
            mind.lease.remove(&(class, slot));
        }
        Some(Turned::Go)
    }

    /// Whether a place that was promised some time ago can be used: the vendor may have closed the quota since. `None` if
    /// the place is over by the time that this is known.
    async fn still_open(&self) -> Option<Turned> {
        let is_recent = self.mind().seen.as_ref().is_some_and(|seen| seen.at.elapsed() < LOOKED);
        if is_recent {
            return Some(Turned::Go);
        }
        let slot = slot_of(self.clock.now());
        let looked = self
            .change(|calendar, now| (Wish::Leave, calendar.closed_until(now).map(|until| until - now)))
            .await;
        match looked {
            Ok(Some(closed)) => return Some(Turned::Closed(closed.unsigned_abs())),
            Ok(None) => {}
            // It was promised all the same.
            Err(failure) => self.lost(&failure),
        }
        (slot_of(self.clock.now()) == slot).then_some(Turned::Go)
    }

    /// What happens while the ledger cannot be reached: silence at first, then a pace of our own. `None` if it can, or
    /// may.
    fn without_ledger(&self) -> Option<Turned> {
        let mut mind = self.mind();
        let outage = mind.outage?;
        let now = Instant::now();
        if now >= outage.retry_at {
            return None;
        }
        let retry = outage.retry_at - now;
        let paces_from = outage.since + SILENCE;
        if now < paces_from {
            return Some(Turned::Wait(retry.min(paces_from - now)));
        }
        let Some(own_pace) = &self.own_pace else {
            return Some(Turned::Wait(retry));
        };
        Some(match own_pace.check() {
            Ok(()) => {
                mind.paced_at = Some(now);
                Turned::Go
            }
            Err(wait) => Turned::Wait(wait.min(retry)),
        })
    }

    /// Notes that the ledger could not be reached.
    fn lost(&self, failure: &StateError) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let now = Instant::now();
        let mut mind = self.mind();
        // Between two tries that are far apart others may have reached it, and been promised places.
        let failed_at = self.clock.now();
        let is_lasting = |outage: &Outage| failed_at - outage.failed_at < LEAST_BETWEEN_OUTAGES;
        let lasting = mind.outage.filter(is_lasting);
        let since = lasting.map_or(now, |outage| outage.since);
        if lasting.is_none() {
            warn!(
                reason = error_chain(failure),
                silence_seconds = SILENCE.as_secs_f64(),
                pace_seconds = self.own_pace.as_ref().map(|pace| pace.period().as_secs_f64()),
                "the quota ledger cannot be reached; after a silence this process keeps a pace of its own, if it has one"
            );
        }
        mind.seen = None;
        mind.outage = Some(Outage {
            since,
            retry_at: now + RETRY,
            failed_at,
        });
    }

    /// Closes the calendar, if requests may have been made that it does not know of: by this process at its own pace, or by
    /// others, where this process has seen an outage and nobody has written the calendar for as long as it takes to
    /// begin a pace. Answers whether that is news.
    fn make_up(&self, entry: Option<&Entry>, calendar: &mut Calendar, now: UtcDateTime) -> bool {
        let (has_paced, has_seen_outage) = {
            let mind = self.mind();
            let has_paced = mind.paced_at.is_some_and(|at| at.elapsed() < WINDOW);
            (
                has_paced,
                mind.outage.is_some_and(|outage| outage.since.elapsed() >= SILENCE),
            )
        };
        let written_at = entry
            .and_then(|entry| entry.expires_at)
            .map(|expires_at| expires_at - KEPT);
        let was_silent = written_at.is_none_or(|written_at| now - written_at >= SILENCE);
        let is_closed = calendar.closed_until(now).is_some_and(|until| until >= now + WINDOW);
        (has_paced || has_seen_outage && was_silent) && !is_closed && calendar.close_until(now + SETTLING)
    }

    /// Notes that the ledger was reached `at` that time, and how it stands.
    fn found(&self, entry: Option<Entry>, calendar: Calendar, at: Instant) {
        let mut mind = self.mind();
        if let Some(outage) = mind.outage.take() {
            let outage_seconds = outage.since.elapsed().as_secs_f64();
            info!(outage_seconds, "the quota ledger is reached again");
        }
        mind.paced_at = None;
        mind.seen = Some(Seen { entry, calendar, at });
    }

    /// Has places promised in the calendar. [`Turned::Go`] means that some were.
    async fn reserve(&self, class: Class, wanted: u32, until: Instant) -> Result<Turned, StateError> {
        let reserved = self.change(|calendar, now| {
            if let Some(opens_at) = calendar.closed_until(now) {
                return (Wish::Leave, Err(Turned::Closed((opens_at - now).unsigned_abs())));
            }
            let patience = until.saturating_duration_since(Instant::now());
            let from = slot_of(now + LEAST_OF_SLOT);
            let last = slot_of(now + patience.min(HORIZON));
            let promised = calendar.promise(class, wanted.max(1), from..last + 1, self.limits);
            if !promised.is_empty() {
                return (Wish::Write, Ok(promised));
            }
            let wait = time_until(calendar.earliest(class, from, self.limits), now);
            let turned = if wait <= patience {
                // Further away than places are promised.
                Turned::Wait(wait.min(HORIZON / 2))
            } else {
                Turned::NotBefore(wait.saturating_sub(EARLY))
            };
            let is_news = calendar.wait_for_places(class, slot_of(now));
            (Wish::write_if(is_news), Err(turned))
        });
        Ok(match reserved.await? {
            Ok(promised) => {
                let mut mind = self.mind();
                for (slot, places) in promised {
                    *mind.lease.entry((class, slot)).or_default() += places;
                }
                Turned::Go
            }
            Err(turned) => turned,
        })
    }

    /// Lets nobody make a request for `wait`, as a 429 asks.
    pub(super) async fn close_for(&self, wait: Duration) {
        let wait = wait.min(LONGEST_CLOSING);
        let closed = self
            .change(|calendar, now| (Wish::write_if(calendar.close_until(now + wait)), ()))
            .await;
        if let Err(failure) = closed {
            self.lost(&failure);
        }
    }

    /// Compares the calendar with what the vendor says is left.
    pub(super) async fn correct(&self, remaining: u32, reset: Duration) {
        {
            let mut mind = self.mind();
            let now = Instant::now();
            let is_known = mind.seen.as_ref().is_some_and(|seen| {
                let mut calendar = seen.calendar.clone();
                !calendar.correct(remaining, reset, slot_of(self.clock.now()), self.limits)
            });
            let is_soon = |at: Instant| now < at + LEAST_BETWEEN_CORRECTIONS;
            if is_known || mind.outage.is_some() || mind.corrected_at.is_some_and(is_soon) {
                return;
            }
            mind.corrected_at = Some(now);
        }
        let corrected = self
            .change(|calendar, now| {
                let is_news = calendar.correct(remaining, reset, slot_of(now), self.limits);
                if is_news {
                    debug!(remaining, "the vendor has counted requests that are none of ours");
                }
                (Wish::write_if(is_news), ())
            })
            .await;
        if let Err(failure) = corrected {
            self.lost(&failure);
        }
    }

    /// Reads the calendar, and writes what `wish` makes of it, if nobody has written it in between; else again. Answers
    /// what the wish says of the calendar as it then stands.
    async fn change<R>(&self, wish: impl Fn(&mut Calendar, UtcDateTime) -> (Wish, R)) -> Result<R, StateError> {
        let attempt = timeout(ATTEMPT, self.try_to_change(wish)).await;
        attempt.unwrap_or_else(|_| {
            Err(StateError {
                action: "answer",
                source: format!("it took longer than {} s", ATTEMPT.as_secs()).into(),
            })
        })
    }

    async fn try_to_change<R>(&self, wish: impl Fn(&mut Calendar, UtcDateTime) -> (Wish, R)) -> Result<R, StateError> {
        let fresh = self.mind().seen.take().filter(|seen| seen.at.elapsed() < FRESH);
        // Of a calendar that is only looked at again, the time stays the one at which it was read.
        let mut at = fresh.as_ref().map_or_else(Instant::now, |seen| seen.at);
        let (mut entry, (mut calendar, mut is_new)) = match fresh {
            Some(seen) => (seen.entry, (seen.calendar, false)),
            None => {
                let entry = self.table.read(CALENDAR).await?;
                let calendar = self.read(entry.as_ref());
                (entry, calendar)
            }
        };
        for conflicts in 1..=MAX_CONFLICTS {
            let now = self.clock.now();
            calendar.forget_before(slot_of(now));
            let makes_up = self.make_up(entry.as_ref(), &mut calendar, now);
            let (wish, result) = wish(&mut calendar, now);
            if wish == Wish::Leave && !makes_up && !is_new {
                self.found(entry, calendar, at);
                return Ok(result);
            }
            let body = Body {
                calendar: calendar.clone(),
                by: self.jitter.token(),
            };
            let next = Entry::after(entry.as_ref(), &body, Some(now + KEPT))?;
            let seen = entry.as_ref().map(|entry| entry.version);
            match self.table.swap(CALENDAR, seen, &next).await? {
                Swapped::Done => {
                    self.found(Some(next), calendar, Instant::now());
                    return Ok(result);
                }
                Swapped::Conflict(current) => {
                    (calendar, is_new) = self.read(current.as_ref());
                    entry = current;
                    at = Instant::now();
                    sleep(self.jitter.up_to(CONFLICT_WAIT * conflicts)).await;
                }
            }
        }
        Err(StateError {
            action: "be written",
            source: format!("others have written the calendar {MAX_CONFLICTS} times in between").into(),
        })
    }

    /// The calendar of an entry, and whether it has to be written anew. What cannot be read says nothing of what was
    /// promised: until all of that is over, nothing is promised.
    fn read(&self, entry: Option<&Entry>) -> (Calendar, bool) {
        let Some(entry) = entry else {
            return (Calendar::default(), false);
        };
        match entry.read::<Body>() {
            Ok(body) => (body.calendar, false),
            Err(failure) => {
                warn!(
                    reason = error_chain(&failure),
                    "the quota ledger is not understood and begun anew"
                );
                let mut calendar = Calendar::default();
                calendar.close_until(self.clock.now() + SETTLING);
                (calendar, true)
            }
        }
    }
}

fn time_until(slot: Slot, now: UtcDateTime) -> Duration {
    (start_of(slot) - now).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::{NoPlace, Patience, Quota};
    use crate::state::memory::MemoryState;
    use std::num::NonZeroU32;
    use time::macros::utc_datetime;
    use tokio_util::sync::CancellationToken;

    const START: UtcDateTime = utc_datetime!(2026-11-21 01:00);

    fn settings(requests_per_minute: u32) -> QuotaSettings {
        QuotaSettings {
            instances: NonZeroU32::new(9).unwrap(),
            ..QuotaSettings::per_minute(NonZeroU32::new(requests_per_minute).unwrap())
        }
    }

    /// What a process knows whose clock is off by `skew`.
    fn process(state: &Arc<MemoryState>, settings: QuotaSettings, skew: time::Duration, seed: u64) -> Arc<Quota> {
        let clock = Clock::starting_at(START + skew);
        Arc::new(Quota::shared(state.clone(), settings, clock, Jitter::seeded(seed)))
    }

    async fn place(quota: &Quota, class: Class, wait: Duration) -> Result<Duration, NoPlace> {
        let until = Instant::now() + wait;
        let patience = Patience {
            closed_until: until,
            taken_until: until,
        };
        quota
            .acquire(&quota.turn(class), patience, &CancellationToken::new())
            .await
    }

    const LONG: Duration = Duration::from_secs(900);

    /// Asks for so many places at once, and answers when each was there, in order.
    async fn places(quota: &Arc<Quota>, count: usize) -> Vec<Instant> {
        let asking: Vec<_> = (0..count)
            .map(|_| {
                let quota = quota.clone();
                tokio::spawn(async move {
                    place(&quota, Class::Live, LONG).await.unwrap();
                    Instant::now()
                })
            })
            .collect();
        let mut at = Vec::new();
        for asked in asking {
            at.push(asked.await.unwrap());
        }
        at.sort();
        at
    }

    /// The most of these times that lie in any 60 seconds.
    fn busiest(at: &[Instant]) -> usize {
        let minute = Duration::from_secs(60);
        let from = |first: &Instant| at.iter().filter(|t| *t >= first && **t - *first <= minute).count();
        at.iter().map(from).max().unwrap_or(0)
    }

    #[tokio::test(start_paused = true)]
    async fn one_process_has_all_of_the_quota_at_once_by_few_writes() {
        let state = Arc::new(MemoryState::default());
        let quota = process(&state, settings(50), time::Duration::ZERO, 1);
        let start = Instant::now();
        let at = places(&quota, 130).await;
        assert!(at[49] - start < Duration::from_secs(1), "{:?}", at[49] - start);
        assert_eq!(busiest(&at), 50);
        let took = at[129] - at[0];
        assert!(took <= Duration::from_secs(126), "{took:?}");
        assert!(state.writes() <= 3, "{} writes", state.writes());
    }

    #[tokio::test(start_paused = true)]
    async fn processes_with_clocks_a_second_apart_keep_one_quota_and_use_all_of_it() {
        let state = Arc::new(MemoryState::default());
        let skews = [-500, -250, -100, 0, 0, 100, 200, 350, 500].map(time::Duration::milliseconds);
        let processes: Vec<_> = (1..)
            .zip(skews)
            .map(|(seed, skew)| process(&state, settings(50), skew, seed))
            .collect();
        let asking = processes.iter().map(|quota| places(quota, 15));
        let mut at: Vec<_> = futures::future::join_all(asking).await.concat();
        at.sort();
        assert_eq!(at.len(), 135);
        assert_eq!(busiest(&at), 50);
        let took = at[134] - at[0];
        assert!(took <= Duration::from_secs(126), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_leaves_the_rest_to_the_vendors_other_clients() {
        let state = Arc::new(MemoryState::default());
        let share = QuotaSettings {
            share_percent: 30,
            ..settings(50)
        };
        let quota = process(&state, share, time::Duration::ZERO, 1);
        assert_eq!(busiest(&places(&quota, 40).await), 15);
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_place_in_time_is_told_when_to_come_back_and_a_little_early() {
        let state = Arc::new(MemoryState::default());
        let quota = process(&state, settings(5), time::Duration::ZERO, 1);
        places(&quota, 5).await;
        let denied = place(&quota, Class::Live, Duration::from_secs(50)).await;
        let Err(NoPlace::Taken(wait)) = denied else {
            panic!("{denied:?}")
        };
        assert!(
            wait > Duration::from_secs(59) && wait < Duration::from_secs(61),
            "{wait:?}"
        );
        tokio::time::sleep(wait).await;
        assert!(place(&quota, Class::Live, Duration::from_secs(3)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_promise_that_was_not_used_in_time_is_lost() {
        let state = Arc::new(MemoryState::default());
        let clock = Clock::starting_at(START);
        let ledger = Ledger::new(state, settings(5), clock, Jitter::seeded(1));
        let until = Instant::now() + Duration::from_secs(50);
        // given three promises
        assert_eq!(ledger.reserve(Class::Live, 3, until).await.unwrap(), Turned::Go);
        // when one of them is used in its time
        assert_eq!(ledger.take(Class::Live, until, || 1).await, Turned::Go);
        sleep(Duration::from_secs(1)).await;
        // then the others count, and are gone
        let mut taken = 0;
        while ledger.take(Class::Live, until, || 1).await == Turned::Go {
            taken += 1;
        }
        assert_eq!(taken, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_429_closes_the_quota_for_all_processes() {
        let state = Arc::new(MemoryState::default());
        let told = process(&state, settings(50), time::Duration::ZERO, 1);
        let other = process(&state, settings(50), time::Duration::ZERO, 2);
        told.close_for(Duration::from_secs(30)).await;
        let denied = place(&other, Class::Live, Duration::from_secs(10)).await;
        assert!(
            matches!(denied, Err(NoPlace::Closed(wait)) if wait > Duration::from_secs(29)),
            "{denied:?}"
        );
        let waited = place(&other, Class::Live, Duration::from_secs(60)).await.unwrap();
        assert!(
            waited > Duration::from_secs(29) && waited < Duration::from_secs(32),
            "{waited:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_vendor_says_is_left_corrects_the_calendar_for_all() {
        let state = Arc::new(MemoryState::default());
        let told = process(&state, settings(50), time::Duration::ZERO, 1);
        let other = process(&state, settings(50), time::Duration::ZERO, 2);
        places(&told, 1).await;
        told.correct(3, Duration::from_secs(30)).await;
        let at = places(&other, 4).await;
        assert!(at[2] - at[0] < Duration::from_secs(1));
        assert!(at[3] - at[0] > Duration::from_secs(28), "{:?}", at[3] - at[0]);
    }

    #[tokio::test(start_paused = true)]
    async fn without_the_table_each_keeps_its_part_after_a_silence_and_all_find_back_after_another() {
        let state = Arc::new(MemoryState::default());
        let processes: Vec<_> = (1..=9)
            .map(|seed| process(&state, settings(50), time::Duration::ZERO, seed))
            .collect();
        let start = Instant::now();
        // given a quota that was used up right before the table went
        let mut at = places(&processes[0], 50).await;
        state.fail(true);
        let asking: Vec<_> = processes
            .iter()
            .map(|quota| {
                tokio::spawn({
                    let quota = quota.clone();
                    async move { places(&quota, 30).await }
                })
            })
            .collect();
        // when it comes back after eight minutes
        tokio::time::sleep(Duration::from_secs(480)).await;
        state.fail(false);
        // then
        for asked in asking {
            at.extend(asked.await.unwrap());
        }
        at.sort();
        assert!(busiest(&at) <= 50, "{}", busiest(&at));
        let during = |from: u64, to: u64| {
            let range = start + Duration::from_secs(from)..start + Duration::from_secs(to);
            at.iter().filter(|at| range.contains(at)).count()
        };
        // Silence, then 9 x 5 requests a minute, then silence again, then the calendar.
        assert_eq!(during(2, 120), 0);
        assert!(during(125, 480) >= 9 * 25, "{}", during(125, 480));
        assert_eq!(during(490, 540), 0);
        assert_eq!(at.len(), 50 + 9 * 30);
        assert!(processes.iter().all(|quota| quota.take_failures() > 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_ledger_that_is_not_understood_promises_nothing_until_all_that_it_may_have_said_is_over() {
        let state = Arc::new(MemoryState::default());
        let nonsense = Entry::after(None, &serde_json::json!({"promises": 7}), None).unwrap();
        state.swap(CALENDAR, None, &nonsense).await.unwrap();
        let quota = process(&state, settings(50), time::Duration::ZERO, 1);
        let denied = place(&quota, Class::Live, Duration::from_secs(50)).await;
        assert!(matches!(denied, Err(NoPlace::Closed(_))), "{denied:?}");
        let waited = place(&quota, Class::Live, Duration::from_secs(200)).await.unwrap();
        assert!(waited >= WINDOW, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_was_promised_is_not_used_once_the_vendor_has_closed_the_quota() {
        let state = Arc::new(MemoryState::default());
        let holder = process(&state, settings(50), time::Duration::ZERO, 1);
        let told = process(&state, settings(50), time::Duration::ZERO, 2);
        places(&holder, 50).await;
        // given somebody who waits for a place that he has, 60 s ahead
        let waiting = tokio::spawn({
            let holder = holder.clone();
            async move { place(&holder, Class::Live, Duration::from_secs(100)).await }
        });
        sleep(Duration::from_secs(30)).await;
        // when another is told to wait for longer than that
        told.close_for(Duration::from_secs(60)).await;
        // then
        let waited = waiting.await.unwrap().unwrap();
        assert!(waited >= Duration::from_secs(90), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn background_work_that_waits_does_not_hold_up_live_work() {
        let state = Arc::new(MemoryState::default());
        let quota = process(&state, settings(20), time::Duration::ZERO, 1);
        // given background work that has taken all that it can
        let background = |count: usize| -> Vec<_> {
            (0..count)
                .map(|_| {
                    let quota = quota.clone();
                    tokio::spawn(async move { place(&quota, Class::Background, LONG).await })
                })
                .collect()
        };
        let _waiting = background(30);
        sleep(Duration::from_secs(1)).await;
        // when / then what was left for live work is there at once
        let at = places(&quota, 2).await;
        assert!(at[1] - at[0] < Duration::from_secs(1));
        assert!(place(&quota, Class::Live, Duration::from_secs(1)).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_cap_a_second_holds_without_the_table_too() {
        let state = Arc::new(MemoryState::default());
        state.fail(true);
        let capped = QuotaSettings {
            requests_per_second: NonZeroU32::new(1),
            ..settings(6000)
        };
        let quota = process(&state, capped, time::Duration::ZERO, 1);
        let at = places(&quota, 3).await;
        assert!(at[2] - at[0] >= Duration::from_secs(18), "{:?}", at[2] - at[0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_calendar_that_is_only_looked_at_again_and_again_does_not_stay_fresh() {
        let state = Arc::new(MemoryState::default());
        let asking = process(&state, settings(5), time::Duration::ZERO, 1);
        let told = process(&state, settings(5), time::Duration::ZERO, 2);
        places(&asking, 5).await;
        // given somebody who asks more often than a calendar is fresh, and finds no place
        assert!(matches!(
            place(&asking, Class::Live, Duration::ZERO).await,
            Err(NoPlace::Taken(_))
        ));
        told.close_for(Duration::from_secs(300)).await;
        let mut answers = Vec::new();
        for _ in 0..5 {
            sleep(Duration::from_millis(200)).await;
            answers.push(place(&asking, Class::Live, Duration::ZERO).await);
        }
        // then he learns of what others have written
        assert!(matches!(answers[4], Err(NoPlace::Closed(_))), "{answers:?}");
    }
}
