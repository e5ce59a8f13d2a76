//! The calendar of a quota that many processes share: how many requests are promised in each half second.
//!
//! A promise is for one slot and is lost with it. Any [`WINDOW_SLOTS`] slots in a row hold no more promises than the quota,
//! and so no 60 seconds of the vendor's hold more requests, as long as the clocks of all who promise, and the ways of
//! their requests to the vendor, differ by no more than [`SKEW`]. `docs/QUOTA.md` has the proof.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::UtcDateTime;

/// The length of a slot.
pub const SLOT: Duration = Duration::from_millis(500);

/// The vendor's window (the contract's section 1).
const MINUTE: Duration = Duration::from_secs(60);

/// By how much clocks, and the ways of requests to the vendor, may differ.
pub const SKEW: Duration = Duration::from_secs(1);

/// How many slots in a row can reach into one window of the vendor's: a request of a slot arrives up to a slot's length
/// and up to the skew after the slot's beginning.
pub const WINDOW_SLOTS: u64 = ((MINUTE.as_millis() + SLOT.as_millis() + SKEW.as_millis()) / SLOT.as_millis()) as u64;

/// [`WINDOW_SLOTS`] as a time: how long a promise counts.
pub const WINDOW: Duration = Duration::from_millis(WINDOW_SLOTS * SLOT.as_millis() as u64);

/// How many slots a second has.
const SLOTS_A_SECOND: u64 = 1000 / SLOT.as_millis() as u64;

/// How long promises are kept that count no more: longer than a clock that is behind can ask for.
pub const KEPT_SLOTS: u64 = WINDOW_SLOTS + 4 * SLOTS_A_SECOND;

/// The share of the quota that background work is given at the least while live work could use all of it, and that is left
/// free for live work while there is none: one in this many.
const FLOOR: u32 = 10;

/// The number of a slot: half seconds since 1970.
pub type Slot = u64;

/// The slot that `time` lies in.
pub fn slot_of(time: UtcDateTime) -> Slot {
    let slots = time.unix_timestamp_nanos() / i128::try_from(SLOT.as_nanos()).unwrap_or(1);
    Slot::try_from(slots).unwrap_or(0)
}

/// When a slot begins.
pub fn start_of(slot: Slot) -> UtcDateTime {
    let length = i128::try_from(SLOT.as_nanos()).unwrap_or(1);
    UtcDateTime::from_unix_timestamp_nanos(i128::from(slot) * length).unwrap_or(UtcDateTime::MAX)
}

/// What a request is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// An hourly run, or a direct call.
    #[default]
    Live,
    /// A backfill or a redrive: it takes what live work leaves, and a floor keeps it from starving.
    Background,
}

impl Class {
    /// What a message says that it is for.
    pub fn of(background: bool) -> Self {
        if background { Self::Background } else { Self::Live }
    }
}

/// How many requests may be promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// In any window of the vendor's.
    pub per_window: NonZeroU32,
    /// In any second of the calendar's, for a vendor that dislikes bursts.
    pub per_second: Option<NonZeroU32>,
}

impl Limits {
    /// What background work is given at the least, and live work finds free at the least.
    fn floor(self) -> u32 {
        // Of a quota of one nothing can be kept.
        (self.per_window.get() / FLOOR).max(1).min(self.per_window.get() - 1)
    }
}

/// The promises of one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Promised {
    /// To live work.
    pub live: u32,
    /// To background work.
    pub background: u32,
    /// To nobody here: the vendor says that others have used them.
    pub foreign: u32,
}

impl Promised {
    /// All of them.
    pub fn all(self) -> u32 {
        self.live.saturating_add(self.background).saturating_add(self.foreign)
    }

    fn add(&mut self, other: Self) {
        self.live = self.live.saturating_add(other.live);
        self.background = self.background.saturating_add(other.background);
        self.foreign = self.foreign.saturating_add(other.foreign);
    }

    fn subtract(&mut self, other: Self) {
        self.live = self.live.saturating_sub(other.live);
        self.background = self.background.saturating_sub(other.background);
        self.foreign = self.foreign.saturating_sub(other.foreign);
    }
}

/// The calendar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    #[serde(default)]
    promises: Promises,
    /// Milliseconds since 1970 until when the vendor takes no request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    closed_until: Option<u64>,
    /// The slot until which live work waits for places that background work has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    live_waits_until: Option<Slot>,
    /// The slot until which background work waits for places that live work has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    background_waits_until: Option<Slot>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Promises(BTreeMap<Slot, Promised>);

impl Calendar {
    /// The slots with promises, the earliest first: those to come, and those of the last [`KEPT_SLOTS`].
    pub fn promises(&self) -> impl Iterator<Item = (Slot, Promised)> {
        self.promises.0.iter().map(|(slot, promised)| (*slot, *promised))
    }

    /// Forgets what counts no more at `now`.
    pub fn forget_before(&mut self, now: Slot) {
        self.promises.0 = self.promises.0.split_off(&now.saturating_sub(KEPT_SLOTS));
        let in_milliseconds = start_of(now).unix_timestamp_nanos() / 1_000_000;
        self.closed_until = self.closed_until.filter(|until| i128::from(*until) > in_milliseconds);
        self.live_waits_until = self.live_waits_until.filter(|until| *until > now);
        self.background_waits_until = self.background_waits_until.filter(|until| *until > now);
    }

    /// Promises up to `wanted` requests of a class in the earliest slots from `from` to `until`, that one excluded. Answers
    /// how many in which.
    pub fn promise(
        &mut self,
        class: Class,
        wanted: u32,
        slots: std::ops::Range<Slot>,
        limits: Limits,
    ) -> Vec<(Slot, u32)> {
        let mut promised = Vec::new();
        let mut left = wanted;
        for slot in slots {
            if left == 0 {
                break;
            }
            let count = self.room(class, slot, limits).min(left);
            if count > 0 {
                self.book(slot, class, count);
                promised.push((slot, count));
                left -= count;
            }
        }
        promised
    }

    /// Notes requests in a slot, whether or not there is room: they have been promised, or made, already.
    pub fn book(&mut self, slot: Slot, class: Class, count: u32) {
        let promised = match class {
            Class::Live => Promised {
                live: count,
                ..Promised::default()
            },
            Class::Background => Promised {
                background: count,
                ..Promised::default()
            },
        };
        self.promises.0.entry(slot).or_default().add(promised);
    }

    /// The earliest slot from `from` on in which a request of a class could be promised.
    pub fn earliest(&self, class: Class, from: Slot, limits: Limits) -> Slot {
        // Once everything promised so far counts no more, there is room.
        let last = self
            .promises
            .0
            .last_key_value()
            .map_or(from, |(slot, _)| slot + WINDOW_SLOTS);
        let mut slot = from;
        while slot <= last && self.room(class, slot, limits) == 0 {
            slot += 1;
        }
        slot
    }

    /// How many more requests of a class can be promised in a slot: as many as each window that the slot lies in has room
    /// for.
    fn room(&self, class: Class, slot: Slot, limits: Limits) -> u32 {
        let reach = slot.saturating_sub(WINDOW_SLOTS - 1)..slot + WINDOW_SLOTS;
        let near: Vec<(Slot, Promised)> = self
            .promises
            .0
            .range(reach)
            .map(|(slot, promised)| (*slot, *promised))
            .collect();
        // Of the windows that hold the slot, one that ends with it or with a later promise holds the most.
        let ends = std::iter::once(slot).chain(near.iter().map(|(end, _)| *end).filter(|end| *end > slot));
        let mut room = u32::MAX;
        let (mut sum, mut first, mut next) = (Promised::default(), 0, 0);
        for end in ends {
            while near.get(next).is_some_and(|(at, _)| *at <= end) {
                sum.add(near[next].1);
                next += 1;
            }
            while near.get(first).is_some_and(|(at, _)| *at + WINDOW_SLOTS <= end) {
                sum.subtract(near[first].1);
                first += 1;
            }
            room = room.min(self.room_in_window(class, slot, sum, limits));
        }
        if let Some(per_second) = limits.per_second {
            let at = |slot: Slot| self.promises.0.get(&slot).map_or(0, |promised| promised.all());
            let before = at(slot.saturating_sub(1));
            let fullest = before.max(at(slot + 1)).saturating_add(at(slot));
            room = room.min(per_second.get().saturating_sub(fullest));
        }
        room
    }

    fn room_in_window(&self, class: Class, slot: Slot, sum: Promised, limits: Limits) -> u32 {
        let quota = limits.per_window.get();
        let free = quota.saturating_sub(sum.all());
        match class {
            Class::Live if self.background_waits_until.is_some_and(|until| until > slot) => {
                free.saturating_sub(limits.floor().saturating_sub(sum.background))
            }
            Class::Live => free,
            Class::Background => {
                let demand = if self.live_waits_until.is_some_and(|until| until > slot) {
                    quota
                } else {
                    // What live work asks for next is about what it asked for last.
                    sum.live.saturating_add(limits.floor())
                };
                let share = quota.saturating_sub(demand).max(limits.floor());
                free.min(share.saturating_sub(sum.background))
            }
        }
    }

    /// Notes that a class waits for places that the other one has, for a window's time. Answers whether that is news.
    pub fn wait_for_places(&mut self, class: Class, now: Slot) -> bool {
        let others = |promised: &Promised| match class {
            Class::Live => promised.background > 0,
            Class::Background => promised.live > 0,
        };
        let waits_until = match class {
            Class::Live => &mut self.live_waits_until,
            Class::Background => &mut self.background_waits_until,
        };
        // Written anew when half of it is over, so that those who wait on write it only now and then.
        let is_noted = waits_until.is_some_and(|until| until > now + WINDOW_SLOTS / 2);
        if is_noted || !self.promises.0.values().any(others) {
            return false;
        }
        *waits_until = Some(now + WINDOW_SLOTS);
        true
    }

    /// Closes the quota until `until`, as a 429 asks of everybody. Answers whether that is news.
    pub fn close_until(&mut self, until: UtcDateTime) -> bool {
        // Rounded up: opened too early, it would be closed again.
        let until = u64::try_from(until.unix_timestamp_nanos().div_euclid(1_000_000) + 1).unwrap_or(0);
        let is_later = self.closed_until.is_none_or(|closed| closed < until);
        if is_later {
            self.closed_until = Some(until);
        }
        is_later
    }

    /// When the vendor takes requests again, if it takes none at `now`.
    pub fn closed_until(&self, now: UtcDateTime) -> Option<UtcDateTime> {
        let nanoseconds = i128::from(self.closed_until?) * 1_000_000;
        UtcDateTime::from_unix_timestamp_nanos(nanoseconds)
            .ok()
            .filter(|until| *until > now)
    }

    /// Notes what the vendor says is left: `remaining` requests until `reset` from `now`. Where fewer are left than the
    /// calendar knows of, others have used the rest. Answers whether that is news.
    pub fn correct(&mut self, remaining: u32, reset: Duration, now: Slot, limits: Limits) -> bool {
        let mut sum = Promised::default();
        self.promises
            .0
            .range(now.saturating_sub(WINDOW_SLOTS - 1)..)
            .for_each(|(_, promised)| sum.add(*promised));
        let known = limits.per_window.get().saturating_sub(sum.all());
        let foreign = known.saturating_sub(remaining);
        if foreign == 0 {
            return false;
        }
        // As old as makes it end with the vendor's reset, or new, where that is far.
        let slots = u64::try_from(reset.as_millis().div_ceil(SLOT.as_millis())).unwrap_or(WINDOW_SLOTS);
        let slot = now - (WINDOW_SLOTS - 1).saturating_sub(slots).min(now);
        let promised = Promised {
            foreign,
            ..Promised::default()
        };
        self.promises.0.entry(slot).or_default().add(promised);
        true
    }
}

/// As text, each slot as the gap to the one before it, its live promises, and, where there are any, those to background
/// work and those that others have used: `3590445600:20 4:10+2 123:20`. That is short (the table bills each KB), and can
/// be read.
impl Serialize for Promises {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        let mut before = 0;
        for (slot, promised) in &self.0 {
            let separator = if text.is_empty() { "" } else { " " };
            let Promised {
                live,
                background,
                foreign,
            } = promised;
            // Writing to a string cannot fail.
            let _ = write!(text, "{separator}{}:{live}", slot - before);
            if *background > 0 || *foreign > 0 {
                let _ = write!(text, "+{background}");
            }
            if *foreign > 0 {
                let _ = write!(text, "+{foreign}");
            }
            before = *slot;
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Promises {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let read = |entry: &str, before: Slot| -> Option<(Slot, Promised)> {
            let (gap, counts) = entry.split_once(':')?;
            let mut counts = counts.splitn(3, '+').map(|count| count.parse::<u32>().ok());
            let promised = Promised {
                live: counts.next()??,
                background: counts.next().unwrap_or(Some(0))?,
                foreign: counts.next().unwrap_or(Some(0))?,
            };
            Some((before.checked_add(gap.parse().ok()?)?, promised))
        };
        let mut promises = BTreeMap::new();
        let mut before = 0;
        for entry in text.split_ascii_whitespace() {
            let (slot, promised) =
                read(entry, before).ok_or_else(|| de::Error::custom(format!("{entry:?} is no promise")))?;
            promises.insert(slot, promised);
            before = slot;
        }
        Ok(Self(promises))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Slot = 3_590_445_600;

    fn limits(per_window: u32) -> Limits {
        Limits {
            per_window: NonZeroU32::new(per_window).unwrap(),
            per_second: None,
        }
    }

    fn live(calendar: &mut Calendar, wanted: u32, from: Slot, limits: Limits) -> Vec<(Slot, u32)> {
        calendar.promise(Class::Live, wanted, from..from + 1000, limits)
    }

    /// The most that any window holds.
    fn fullest(calendar: &Calendar) -> u32 {
        let ends = calendar.promises.0.keys();
        let window = |end: &Slot| {
            let within = calendar.promises.0.range(end.saturating_sub(WINDOW_SLOTS - 1)..=*end);
            within.map(|(_, promised)| promised.all()).sum()
        };
        ends.map(window).max().unwrap_or(0)
    }

    #[test]
    fn a_window_is_a_minute_a_slot_and_the_skew() {
        assert_eq!(WINDOW, Duration::from_millis(61_500));
        assert_eq!(slot_of(start_of(NOW)), NOW);
        assert_eq!(start_of(NOW + 1) - start_of(NOW), SLOT);
    }

    #[test]
    fn all_of_the_quota_is_promised_at_once_and_again_after_a_window() {
        let mut calendar = Calendar::default();
        assert_eq!(
            live(&mut calendar, 130, NOW, limits(50)),
            [(NOW, 50), (NOW + WINDOW_SLOTS, 50), (NOW + 2 * WINDOW_SLOTS, 30),]
        );
        assert_eq!(calendar.earliest(Class::Live, NOW, limits(50)), NOW + 2 * WINDOW_SLOTS);
    }

    #[test]
    fn a_place_between_others_has_to_fit_into_every_window_that_it_lies_in() {
        let mut calendar = Calendar::default();
        calendar.book(NOW, Class::Live, 30);
        calendar.book(NOW + 100, Class::Live, 40);
        // Both lie within a window of it.
        assert_eq!(calendar.room(Class::Live, NOW + 50, limits(50)), 0);
        assert_eq!(calendar.room(Class::Live, NOW + 50, limits(80)), 10);
        // The first one does no longer.
        assert_eq!(calendar.room(Class::Live, NOW + WINDOW_SLOTS, limits(50)), 10);
    }

    #[test]
    fn a_cap_a_second_holds_over_any_second() {
        let mut calendar = Calendar::default();
        let limits = Limits {
            per_second: NonZeroU32::new(4),
            ..limits(50)
        };
        let promised = live(&mut calendar, 12, NOW, limits);
        assert_eq!(promised, [(NOW, 4), (NOW + 2, 4), (NOW + 4, 4)]);
    }

    #[test]
    fn background_work_takes_what_live_work_leaves_and_neither_starves() {
        // given live work that asks for all there is
        let mut calendar = Calendar::default();
        assert_eq!(live(&mut calendar, 100, NOW, limits(50))[0], (NOW, 50));
        // when background work waits
        assert!(
            calendar
                .promise(Class::Background, 1, NOW..NOW + 60, limits(50))
                .is_empty()
        );
        assert!(calendar.wait_for_places(Class::Background, NOW));
        assert!(!calendar.wait_for_places(Class::Background, NOW + 1));
        // then a tenth is kept for it once the window is over
        let mut calendar = Calendar {
            promises: Promises::default(),
            ..calendar
        };
        assert_eq!(live(&mut calendar, 50, NOW, limits(50))[0], (NOW, 45));
        assert_eq!(
            calendar.promise(Class::Background, 50, NOW..NOW + 1, limits(50)),
            [(NOW, 5)]
        );

        // and alone it leaves a tenth free, or what live work asked for last
        let mut calendar = Calendar::default();
        assert_eq!(
            calendar.promise(Class::Background, 50, NOW..NOW + 1, limits(50)),
            [(NOW, 45)]
        );
        let mut calendar = Calendar::default();
        calendar.book(NOW, Class::Live, 20);
        assert_eq!(
            calendar.promise(Class::Background, 50, NOW..NOW + 1, limits(50)),
            [(NOW, 25)]
        );
    }

    #[test]
    fn requests_of_others_take_places_until_the_vendor_has_forgotten_them() {
        let mut calendar = Calendar::default();
        calendar.book(NOW, Class::Live, 10);
        // 40 are left here, and 15 there.
        assert!(calendar.correct(15, Duration::from_secs(20), NOW, limits(50)));
        assert!(!calendar.correct(15, Duration::from_secs(20), NOW, limits(50)));
        assert_eq!(calendar.room(Class::Live, NOW, limits(50)), 15);
        assert_eq!(calendar.room(Class::Live, NOW + 39, limits(50)), 15);
        assert_eq!(calendar.room(Class::Live, NOW + 41, limits(50)), 40);
        // More left than is known of is no news: promises that are not used yet.
        assert!(!calendar.correct(50, Duration::from_secs(20), NOW, limits(50)));
    }

    #[test]
    fn a_calendar_closes_until_the_latest_time_that_was_asked_for() {
        let mut calendar = Calendar::default();
        let now = start_of(NOW);
        assert!(calendar.close_until(now + Duration::from_secs(30)));
        assert!(!calendar.close_until(now + Duration::from_secs(7)));
        assert!(calendar.closed_until(now).unwrap() >= now + Duration::from_secs(30));
        assert_eq!(calendar.closed_until(now + Duration::from_secs(31)), None);
        calendar.forget_before(NOW + 100);
        assert_eq!(calendar, Calendar::default());
    }

    #[test]
    fn it_is_written_as_short_text_that_can_be_read() {
        let mut calendar = Calendar::default();
        calendar.book(NOW, Class::Live, 20);
        calendar.book(NOW + 4, Class::Background, 2);
        calendar.correct(0, Duration::from_secs(1), NOW + 4, limits(50));
        let text = serde_json::to_string(&calendar).unwrap();
        assert_eq!(text, r#"{"promises":"3590445484:0+0+28 116:20 4:0+2"}"#);
        assert_eq!(serde_json::from_str::<Calendar>(&text).unwrap(), calendar);
        for wrong in ["x", "1", "1:", "1:x", "1:2+x", "18446744073709551615:1 1:1"] {
            let text = format!(r#"{{"promises": "{wrong}"}}"#);
            assert!(serde_json::from_str::<Calendar>(&text).is_err(), "{wrong}");
        }
    }

    proptest! {
        /// Whoever asks, whenever, for however many: no window holds more than the quota.
        #[test]
        fn no_window_ever_holds_more_than_the_quota(
            quota in 1u32..60,
            per_second in proptest::option::of(1u32..5),
            asked in prop::collection::vec((any::<bool>(), 0u64..300, 0u64..150, 1u32..30), 1..60),
        ) {
            let limits = Limits { per_second: per_second.and_then(NonZeroU32::new), ..limits(quota) };
            let mut calendar = Calendar::default();
            for (background, from, reach, wanted) in asked {
                let class = Class::of(background);
                calendar.promise(class, wanted, NOW + from..NOW + from + reach, limits);
                calendar.wait_for_places(class, NOW + from);
                prop_assert!(fullest(&calendar) <= quota);
            }
            for (slot, promised) in &calendar.promises.0 {
                let next = calendar.promises.0.get(&(slot + 1)).map_or(0, |next| next.all());
                prop_assert!(per_second.is_none_or(|cap| promised.all() + next <= cap));
            }
        }

        /// The earliest slot is one with room, and none before it has any.
        #[test]
        fn the_earliest_slot_is_the_first_with_room(
            quota in 1u32..20,
            booked in prop::collection::vec((0u64..200, 1u32..10), 0..30),
            from in 0u64..200,
        ) {
            let mut calendar = Calendar::default();
            for (slot, wanted) in booked {
                live(&mut calendar, wanted, NOW + slot, limits(quota));
            }
            let earliest = calendar.earliest(Class::Live, NOW + from, limits(quota));
            prop_assert!(calendar.room(Class::Live, earliest, limits(quota)) > 0);
            for slot in NOW + from..earliest {
                prop_assert_eq!(calendar.room(Class::Live, slot, limits(quota)), 0);
            }
        }
    }
}
