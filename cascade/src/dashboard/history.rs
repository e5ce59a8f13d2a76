//! What is drawn over time: how much of the quota was used, and how many rows were written. What nobody looked at is a hole, not a
//! zero.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use shared::quota::calendar::{Calendar, KEPT_SLOTS, Promised, SLOT, Slot, slot_of};
use time::UtcDateTime;

/// How far apart the points of a series are, in seconds.
pub(super) const STEP_SECONDS: u64 = 5;

/// How many points a series has: a quarter of an hour.
const POINTS: u64 = 15 * 60 / STEP_SECONDS + 1;

/// Over what time is added up, in seconds: the vendor's window (the contract's section 1), and what "per minute" says.
const SPAN_SECONDS: u64 = 60;

const SLOTS_A_SECOND: u64 = 1000 / SLOT.as_millis() as u64;

/// How late a look may be for two to belong together.
const SLACK: Duration = Duration::from_secs(25);

/// The requests that were promised in each slot of the last quarter of an hour, as far as the calendar was looked at.
#[derive(Debug, Default)]
pub(super) struct QuotaHistory {
    promised: BTreeMap<Slot, Promised>,
    /// The slots that are known, as first and last of each stretch, in order.
    known: VecDeque<(Slot, Slot)>,
}

impl QuotaHistory {
    /// Notes what the calendar says at `now`: it holds all that was promised in its last [`KEPT_SLOTS`].
    pub(super) fn note(&mut self, calendar: &Calendar, now: Slot) {
        let past = calendar.promises().filter(|(slot, _)| *slot <= now);
        self.promised.extend(past);
        let from = now.saturating_sub(KEPT_SLOTS - 1);
        match self.known.back_mut() {
            Some((_, last)) if *last + 1 >= from => *last = now.max(*last),
            _ => self.known.push_back((from, now)),
        }
        let oldest = now.saturating_sub((POINTS * STEP_SECONDS + SPAN_SECONDS) * SLOTS_A_SECOND);
        self.promised = self.promised.split_off(&oldest);
        self.known.retain(|(_, last)| *last >= oldest);
    }

    /// What was promised in the 60 seconds up to the end of a slot; `None` if not all of them are known.
    pub(super) fn used(&self, at: Slot) -> Option<Promised> {
        let from = at.saturating_sub(SPAN_SECONDS * SLOTS_A_SECOND - 1);
        let is_known = self.known.iter().any(|(first, last)| *first <= from && at <= *last);
        is_known.then(|| {
            let mut sum = Promised::default();
            for promised in self.promised.range(from..=at).map(|(_, promised)| promised) {
                sum.live += promised.live;
                sum.background += promised.background;
                sum.foreign += promised.foreign;
            }
            sum
        })
    }

    /// What was used at each step of the last quarter of an hour, and the slot of the last one.
    pub(super) fn series(&self, now: Slot) -> (Slot, Vec<Option<u32>>) {
        let step = STEP_SECONDS * SLOTS_A_SECOND;
        let until = now - now % step;
        let points = (0..POINTS).rev().map(|back| until.saturating_sub(back * step));
        (until, points.map(|at| self.used(at).map(Promised::all)).collect())
    }
}

/// Whether the collectors ask the vendor, have asked it in the last minute, or wait until it takes requests again.
pub(super) fn is_asked(calendar: &Calendar, wall: UtcDateTime) -> bool {
    let since = slot_of(wall).saturating_sub(SPAN_SECONDS * SLOTS_A_SECOND);
    let is_own = |promised: Promised| promised.live + promised.background > 0;
    let mut own = calendar.promises().filter(|(_, promised)| is_own(*promised));
    calendar.closed_until(wall).is_some() || own.any(|(slot, _)| slot >= since)
}

/// How many rows had been written in all at each look of the last quarter of an hour, for each kind of record.
#[derive(Debug, Default)]
pub(super) struct FlowHistory {
    looks: VecDeque<(UtcDateTime, [u64; 3])>,
}

impl FlowHistory {
    /// Notes how many rows have been written in all.
    pub(super) fn note(&mut self, at: UtcDateTime, written: [u64; 3]) {
        // A clock that was put back begins anew.
        if self.looks.back().is_some_and(|(last, _)| *last > at) {
            self.looks.clear();
        }
        self.looks.push_back((at, written));
        let oldest = at - Duration::from_secs(POINTS * STEP_SECONDS + SPAN_SECONDS) - SLACK;
        while self.looks.front().is_some_and(|(time, _)| *time < oldest) {
            self.looks.pop_front();
        }
    }

    /// How many rows were written in the 60 seconds before; `None` if nobody looked then.
    pub(super) fn per_minute(&self, at: UtcDateTime) -> Option<[u64; 3]> {
        let (before, after) = (self.written(at - Duration::from_secs(SPAN_SECONDS))?, self.written(at)?);
        Some(std::array::from_fn(|kind| after[kind].saturating_sub(before[kind])))
    }

    /// What had been written by then, as the last look before it said, if that was not long before.
    fn written(&self, at: UtcDateTime) -> Option<[u64; 3]> {
        let before = self.looks.partition_point(|(time, _)| *time <= at).checked_sub(1)?;
        let (time, written) = self.looks[before];
        (at - time <= SLACK).then_some(written)
    }

    /// The same at each step of the last quarter of an hour.
    pub(super) fn series(&self, now: UtcDateTime) -> Vec<Option<[u64; 3]>> {
        let second = now.unix_timestamp().rem_euclid(STEP_SECONDS.cast_signed());
        let until = now - Duration::from_secs(second.unsigned_abs());
        let points = (0..POINTS)
            .rev()
            .map(|back| until - Duration::from_secs(back * STEP_SECONDS));
        points.map(|at| self.per_minute(at)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use shared::quota::Class;
    use time::macros::utc_datetime;

    use super::*;

    const NOW: UtcDateTime = utc_datetime!(2026-11-21 04:00);

    fn seconds(count: u64) -> Slot {
        count * SLOTS_A_SECOND
    }

    #[test]
    fn requests_count_for_a_minute_and_what_was_not_looked_at_is_not_known() {
        let begin = slot_of(NOW);
        let mut calendar = Calendar::default();
        calendar.book(begin, Class::Live, 7);
        calendar.book(begin, Class::Background, 2);
        // promised, but not yet made
        calendar.book(begin + seconds(5), Class::Live, 100);
        let mut history = QuotaHistory::default();
        history.note(&calendar, begin);
        let used = history.used(begin).unwrap();
        assert_eq!((used.live, used.background), (7, 2));
        assert_eq!(history.used(begin + 1), None);
        assert_eq!(history.used(begin - seconds(30)), None);

        history.note(&calendar, begin + seconds(60) - 1);
        assert_eq!(history.used(begin + seconds(60) - 1).unwrap().all(), 109);
        history.note(&calendar, begin + seconds(61));
        assert_eq!(history.used(begin + seconds(61)).unwrap().all(), 100);
        let (until, series) = history.series(begin + seconds(61));
        assert_eq!((until, series.len()), (begin + seconds(60), 181));
        assert_eq!(&series[179..], [Some(109), Some(100)]);
        assert_eq!(series[0], None);
    }

    #[test]
    fn the_vendor_is_asked_for_a_minute_after_a_request_and_as_long_as_it_is_waited_for() {
        let mut calendar = Calendar::default();
        assert!(!is_asked(&calendar, NOW));
        calendar.book(slot_of(NOW) + seconds(5), Class::Live, 1);
        let at = |second| NOW + Duration::from_secs(second);
        assert!(is_asked(&calendar, NOW) && is_asked(&calendar, at(65)));
        assert!(!is_asked(&calendar, at(66)));
        calendar.close_until(at(300));
        assert!(is_asked(&calendar, at(299)) && !is_asked(&calendar, at(301)));
    }

    #[test]
    fn a_pause_leaves_a_hole_and_old_slots_are_forgotten() {
        let begin = slot_of(NOW);
        let mut history = QuotaHistory::default();
        history.note(&Calendar::default(), begin);
        history.note(&Calendar::default(), begin + seconds(300));
        let (_, series) = history.series(begin + seconds(300));
        assert_eq!(series[180], Some(0));
        assert_eq!(series[180 - 30], None, "half-way");
        assert_eq!(series[180 - 60], Some(0), "five minutes ago");
        let mut calendar = Calendar::default();
        calendar.promise(
            Class::Live,
            3,
            begin..begin + 1,
            shared::quota::QuotaSettings::per_minute(NonZeroU32::MIN).limits(),
        );
        history.note(&calendar, begin + seconds(3600));
        assert_eq!((history.promised.len(), history.known.len()), (0, 1));
    }

    #[test]
    fn rows_a_minute_are_what_was_written_since_the_minute_before() {
        let mut history = FlowHistory::default();
        for second in 0..=90 {
            history.note(NOW + Duration::from_secs(second), [second, 0, 2 * second]);
        }
        let at = |second| NOW + Duration::from_secs(second);
        assert_eq!(history.per_minute(at(90)), Some([60, 0, 120]));
        assert_eq!(history.per_minute(at(60)), Some([60, 0, 120]));
        assert_eq!(history.per_minute(at(59)), None, "nobody looked a minute before");
        assert_eq!(history.per_minute(at(116)), None, "nobody looks any more");
        let series = history.series(at(92));
        assert_eq!(series.len(), 181);
        assert_eq!(
            (series[180], series[174], series[173]),
            (Some([60, 0, 120]), Some([60, 0, 120]), None)
        );
    }

    #[test]
    fn a_clock_that_was_put_back_begins_anew() {
        let mut history = FlowHistory::default();
        history.note(NOW, [5, 5, 5]);
        history.note(NOW - Duration::from_secs(3600), [6, 6, 6]);
        assert_eq!(history.looks.len(), 1);
    }
}
