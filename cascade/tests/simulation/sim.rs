//! What everything in one simulation shares: virtual time, dice, the trace, and the first invariant that did not hold.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use time::UtcDateTime;
use time::macros::utc_datetime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::plan::{Fault, Plan};

/// When each simulation begins.
pub(crate) const BEGINNING: UtcDateTime = utc_datetime!(2026-11-21 00:00);

/// What has to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Invariant {
    /// No 60 seconds hold more requests than the quota.
    Quota,
    /// A message is gone only after its effects are durable.
    Durability,
    /// A row is one answer's record, and never goes back in time.
    Rows,
    /// One at a time is at work on an id, and what is done for a run is not asked for again.
    OncePerRun,
    /// At the end the tables say what the vendor says.
    Model,
    /// A row is marked as deleted if its record has vanished from an answer, and only then.
    Deletions,
    /// Where nothing fails, a run is done in the time that the quota asks for.
    Pace,
    /// Queues become empty.
    Progress,
    /// A run is reported complete only when it is, and then once.
    Account,
}

/// An invariant that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    pub(crate) invariant: Invariant,
    pub(crate) what: String,
}

/// One simulation.
pub(crate) struct Sim {
    pub(crate) plan: Plan,
    started: Instant,
    dice: Mutex<BTreeMap<Die, Rng>>,
    traced: bool,
    trace: Mutex<Vec<String>>,
    violation: Mutex<Option<Violation>>,
    /// Cancelled with the first violation.
    pub(crate) over: CancellationToken,
    calm: AtomicBool,
    next_number: AtomicU64,
}

/// What dice are thrown for. Each has its own, so that a fault that is switched off changes the others as little as can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Die {
    Fault(Fault),
    Latency,
    Order,
    World,
    Process,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sim {
    pub(crate) fn new(plan: Plan, traced: bool) -> Arc<Self> {
        Arc::new(Self {
            plan,
            started: Instant::now(),
            dice: Mutex::default(),
            traced,
            trace: Mutex::default(),
            violation: Mutex::default(),
            over: CancellationToken::new(),
            calm: AtomicBool::new(false),
            next_number: AtomicU64::new(0),
        })
    }

    /// Virtual time since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The true time, which no instance knows exactly.
    pub(crate) fn now(&self) -> UtcDateTime {
        BEGINNING + self.elapsed()
    }

    /// A number that nobody else has.
    pub(crate) fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn throw<T>(&self, die: Die, throw: impl FnOnce(&mut Rng) -> T) -> T {
        let mut dice = lock(&self.dice);
        throw(dice.entry(die).or_insert_with(|| {
            let mut hasher = DefaultHasher::new();
            (self.plan.seed, die).hash(&mut hasher);
            Rng::with_seed(hasher.finish())
        }))
    }

    /// Whether a fault strikes now: one time in so many, if the plan has it, and not any more once all is calm.
    pub(crate) fn strikes(&self, fault: Fault, one_in: u32) -> bool {
        self.plan.has(fault) && !self.is_calm() && self.throw(Die::Fault(fault), |rng| rng.u32(..one_in) == 0)
    }

    /// Takes so long as a call to a service takes.
    pub(crate) async fn latency(&self, most_ms: u64) {
        let wait = self.throw(Die::Latency, |rng| rng.u64(1..=most_ms));
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// Ends all faults.
    pub(crate) fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
        self.note(|| "all faults end".to_owned());
    }

    /// Writes a line into the trace.
    pub(crate) fn note(&self, line: impl FnOnce() -> String) {
        if self.traced {
            let line = format!("{:>12.3} {}", self.elapsed().as_secs_f64(), line());
            lock(&self.trace).push(line);
        }
    }

    /// Notes that an invariant does not hold. The first one ends the simulation.
    pub(crate) fn violate(&self, invariant: Invariant, what: impl FnOnce() -> String) {
        let mut violation = lock(&self.violation);
        if violation.is_none() {
            let what = what();
            self.note(|| format!("VIOLATION of {invariant:?}: {what}"));
            *violation = Some(Violation { invariant, what });
            self.over.cancel();
        }
    }

    pub(crate) fn violation(&self) -> Option<Violation> {
        lock(&self.violation).clone()
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.trace))
    }
}

/// Does what is on the wire: once it is sent, it goes on whether or not whoever sent it is still there.
pub(crate) async fn on_the_wire<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(failure) => match failure.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The simulation is over.
            Err(_) => std::future::pending().await,
        },
    }
}
