//! What a seed stands for: a small world, how many instances work on it, and which faults there are. A failing plan is made
//! smaller by switching its parts off one after the other.

use std::collections::BTreeSet;

use fastrand::Rng;

/// A kind of fault, or of unrest: each can be switched off by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    /// Processes end at any await point.
    Crashes,
    /// SIGTERM.
    Terminations,
    /// Invocations whose deadline is near from the start.
    ShortDeadlines,
    /// Clocks that differ, as far as the ledger's assumption allows.
    Skew,
    /// Branch runs that are begun twice, or while another one is still under way.
    Overlaps,
    /// Schedules that fire late.
    Lateness,
    /// More instances than one a minute and queue.
    Crowds,
    /// Messages that are received twice, or again after they were deleted.
    Duplicates,
    /// Messages that are received in any order.
    Reordering,
    /// Answers of a queue that get lost, after it did what was asked, or before.
    LostAnswers,
    /// Batches of which one half fails.
    HalfBatches,
    /// A table that refuses, or whose answer gets lost.
    TableErrors,
    /// A state table that refuses, or whose answer gets lost.
    StateErrors,
    /// A state table that cannot be reached by anybody for minutes.
    StateOutages,
    /// 5xx, time-outs, broken connections, truncated answers.
    VendorErrors,
    /// An id that the vendor refuses to tell about.
    Refusals,
    /// Others who use the same quota.
    Foreigners,
    /// Records that cannot be stored.
    BadRecords,
    /// Data that changes while it is collected.
    Changes,
    /// Records that vanish, and come back.
    Departures,
}

impl Fault {
    pub(crate) const ALL: [Self; 20] = [
        Self::Crashes,
        Self::Terminations,
        Self::ShortDeadlines,
        Self::Skew,
        Self::Overlaps,
        Self::Lateness,
        Self::Crowds,
        Self::Duplicates,
        Self::Reordering,
        Self::LostAnswers,
        Self::HalfBatches,
        Self::TableErrors,
        Self::StateErrors,
        Self::StateOutages,
        Self::VendorErrors,
        Self::Refusals,
        Self::Foreigners,
        Self::BadRecords,
        Self::Changes,
        Self::Departures,
    ];

    /// Those that are none of a day on which nothing fails.
    fn is_failure(self) -> bool {
        !matches!(self, Self::Changes | Self::Departures | Self::Reordering | Self::Skew)
    }
}

/// A safeguard that is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// The table writes whatever the row has become since it was read.
    WriteWithoutCondition,
    /// The queue deletes a message as it is received.
    DeleteOnReceive,
    /// The queue deletes a message whose delayed copy it says to have taken, but has not.
    LoseCopies,
    /// The state table swaps the calendar whatever it has become: a slot is promised twice.
    DoubleSlots,
    /// The state table swaps a checkpoint whatever it has become: two have the claim.
    DoubleClaims,
    /// Claims are forgotten as soon as they are written.
    ForgetClaims,
    /// What is done is forgotten: each id is asked for again.
    ForgetRuns,
    /// The clocks differ by more than the ledger assumes.
    Skew,
    /// A message whose receiver has died does not come back.
    LoseWhatWasReceived,
    /// The table says that a write is done, and has not done it.
    LoseWrites,
    /// The queue says that messages were sent, and has lost them.
    LoseSends,
    /// The table says that a row is marked as deleted, and it is not.
    LoseMarks,
    /// What was in an answer before is forgotten.
    ForgetRosters,
}

/// A world, its instances and its faults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) faults: BTreeSet<Fault>,
    pub(crate) branches: u32,
    /// Whether the schedule's own event starts the runs, which asks for branches that do not exist, too.
    pub(crate) scheduled: bool,
    /// The most salespersons of one branch, and the most sales of one of them.
    pub(crate) salespersons: u32,
    pub(crate) sales: u32,
    pub(crate) runs: u32,
    pub(crate) quota: u32,
    /// How many instances there may be of the salesperson and of the sale collector.
    pub(crate) instances: u32,
    /// How many of them each minute starts.
    pub(crate) polls_a_minute: u32,
    pub(crate) lookback_hours: u32,
    pub(crate) etags: bool,
    pub(crate) pages: bool,
    /// Whether the vendor says what is left of the quota.
    pub(crate) rate_limits: bool,
    /// Whether the last run compares all rows.
    pub(crate) verify: bool,
    /// The second of the minute at which each queue is polled.
    pub(crate) poll_seconds: [u32; 2],
    /// Whether deletions are believed, however many they are.
    pub(crate) believes_all: bool,
    pub(crate) sabotage: Option<Sabotage>,
}

impl Plan {
    /// The plan of a seed.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mut faults = BTreeSet::new();
        match rng.u32(0..10) {
            // Nothing fails.
            0 | 1 => faults.extend(Fault::ALL.into_iter().filter(|fault| !fault.is_failure() && rng.bool())),
            2 => faults.extend(Fault::ALL.into_iter().filter(|_| rng.u32(0..10) > 0)),
            3 | 4 => faults.extend((0..2).map(|_| Fault::ALL[rng.usize(0..Fault::ALL.len())])),
            _ => faults.extend(Fault::ALL.into_iter().filter(|_| rng.bool())),
        }
        let crowded = faults.contains(&Fault::Crowds);
        let instances = match rng.u32(0..30) {
            0 if crowded => 24,
            _ if crowded => rng.u32(3..8),
            _ => 2,
        };
        Self {
            seed,
            branches: rng.u32(1..4),
            scheduled: rng.u32(0..5) == 0,
            salespersons: rng.u32(1..4),
            sales: rng.u32(0..5),
            runs: rng.u32(1..4),
            quota: if rng.bool() { rng.u32(4..12) } else { rng.u32(12..60) },
            instances,
            polls_a_minute: if crowded { rng.u32(2..=instances) } else { 1 },
            lookback_hours: if rng.u32(0..4) == 0 { 24 } else { 0 },
            etags: rng.bool(),
            pages: rng.u32(0..4) == 0,
            rate_limits: rng.u32(0..3) == 0,
            verify: rng.u32(0..4) == 0,
            poll_seconds: [rng.u32(0..60), rng.u32(0..60)],
            believes_all: rng.u32(0..4) > 0,
            faults,
            sabotage: None,
        }
    }

    /// Whether nothing fails.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.faults.iter().any(|fault| fault.is_failure())
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// Plans that are smaller by one step each.
    fn smaller(&self) -> Vec<Self> {
        let mut smaller: Vec<Self> = self
            .faults
            .iter()
            .map(|fault| {
                let mut plan = self.clone();
                plan.faults.remove(fault);
                plan
            })
            .collect();
        let steps: [fn(&mut Self); 13] = [
            |plan| plan.runs = (plan.runs - 1).max(1),
            |plan| plan.branches = (plan.branches - 1).max(1),
            |plan| plan.salespersons = (plan.salespersons - 1).max(1),
            |plan| plan.sales = plan.sales.saturating_sub(1),
            |plan| plan.instances = (plan.instances / 2).max(1),
            |plan| plan.polls_a_minute = (plan.polls_a_minute / 2).max(1),
            |plan| plan.lookback_hours = 0,
            |plan| plan.scheduled = false,
            |plan| plan.etags = false,
            |plan| plan.pages = false,
            |plan| plan.rate_limits = false,
            |plan| plan.verify = false,
            |plan| plan.believes_all = true,
        ];
        smaller.extend(steps.iter().map(|step| {
            let mut plan = self.clone();
            step(&mut plan);
            plan.polls_a_minute = plan.polls_a_minute.min(plan.instances);
            plan
        }));
        smaller.retain(|plan| plan != self);
        smaller
    }

    /// The smallest plan that can be found that still `fails`.
    pub(crate) fn shrink(mut self, fails: impl Fn(&Self) -> bool) -> Self {
        while let Some(smaller) = self.smaller().into_iter().find(&fails) {
            self = smaller;
        }
        self
    }
}
