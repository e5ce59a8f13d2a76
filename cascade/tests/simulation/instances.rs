//! The instances: processes that Lambda starts, reuses, tells to stop, and kills.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use branches::BranchCollector;
use sales::SaleCollector;
use sales::lookback::Lookback;
use salespersons::SalespersonCollector;
use shared::account::Accounts;
use shared::checkpoint::Checkpoints;
use shared::clock::Clock;
use shared::collector::{Call, Collector, Handled, handle};
use shared::deletions::{DeletionRules, Rosters};
use shared::entity::Entity;
use shared::jitter::Jitter;
use shared::quota::{Quota, QuotaSettings};
use shared::rejections::Rejections;
use shared::run::RunId;
use shared::state::StateTable;
use shared::vendor::Vendor;
use shared::vendor::client::{VendorClient, VendorSettings};
use shared::vendor::excerpt::Excerpts;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::plan::{Fault, Sabotage};
use crate::process::{Process, Work};
use crate::queue::{Queue, SimQueue, lose};
use crate::sim::{Die, Invariant, lock};
use crate::state::SimState;
use crate::table::SimTable;
use crate::topic::SimTopic;
use crate::vendor::{Asked, BASE_URL, SimTransport, TIME_OUT};
use crate::world::{MOST_DELETED_PERCENT, World, branch_names, run_at};

/// How far a clock is off at the most. With the ways to the vendor, this stays within what the ledger assumes.
const MOST_SKEW_MS: i64 = 400;

const POLL_WINDOW: Duration = Duration::from_secs(50);

/// How long Lambda lets a function run.
const FUNCTION_TIME_OUT: Duration = Duration::from_secs(900);

/// How many instances of the branch collector there may be.
const BRANCH_INSTANCES: u32 = 2;

const HOUR: Duration = Duration::from_secs(3600);

/// How long everything may take to be done, once nothing fails any more.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Branches,
    Salespersons,
    Sales,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Branches => "branches",
            Self::Salespersons => "salespersons",
            Self::Sales => "sales",
        }
    }
}

enum Function {
    Branches(BranchCollector),
    Salespersons(SalespersonCollector),
    Sales(SaleCollector),
}

/// A process that lives.
struct Live {
    process: Arc<Process>,
    clock: Clock,
    function: Function,
}

/// A place for an instance: empty, idle, or at work.
#[derive(Default)]
struct Slot {
    live: Option<Arc<Live>>,
    busy: bool,
}

/// All instances.
pub(crate) struct Fleet {
    world: Arc<World>,
    slots: [Vec<Mutex<Slot>>; 3],
}

/// How an invocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Done,
    Failed,
    Crashed,
}

/// Work that ends in the middle of itself, at the so-many-th point at which it waits.
struct Crashing<F> {
    work: Option<Pin<Box<F>>>,
    waits_left: u32,
}

impl<F: Future> Future for Crashing<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else {
            return Poll::Ready(None);
        };
        if let Poll::Ready(done) = work.as_mut().poll(context) {
            return Poll::Ready(Some(done));
        }
        match self.waits_left.checked_sub(1) {
            Some(left) => {
                self.waits_left = left;
                Poll::Pending
            }
            None => {
                self.work = None;
                Poll::Ready(None)
            }
        }
    }
}

fn employee_queue(world: &World) -> &Mutex<Queue> {
    &world.employee_queue
}

fn sale_queue(world: &World) -> &Mutex<Queue> {
    &world.sale_queue
}

fn start(world: &Arc<World>, kind: Kind) -> Live {
    let sim = &world.sim;
    let plan = &sim.plan;
    let process = Arc::new(Process::new(format!("{}-{}", kind.name(), sim.number())));
    let (skew, seed) = sim.throw(Die::Process, |rng| {
        let skew = rng.i64(-MOST_SKEW_MS..=MOST_SKEW_MS);
        (skew, rng.u64(..))
    });
    let skew = match plan.sabotage {
        Some(Sabotage::Skew) => skew * 8,
        _ if plan.has(Fault::Skew) => skew,
        _ => 0,
    };
    sim.note(|| format!("{} starts, its clock {skew} ms off", process.name));
    let clock = Clock::starting_at(sim.now() + time::Duration::milliseconds(skew));
    let jitter = Jitter::seeded(seed);
    let state: Arc<dyn StateTable> = Arc::new(SimState {
        world: world.clone(),
        process: process.clone(),
    });
    let positive = |number: u32| number.try_into().expect("a number above zero");
    let quota = QuotaSettings {
        instances: positive(BRANCH_INSTANCES + 2 * plan.instances),
        ..QuotaSettings::per_minute(positive(plan.quota))
    };
    let settings = VendorSettings {
        base_url: BASE_URL.parse().expect("a URL"),
        api_key: None,
        time_out: TIME_OUT,
        max_answer_bytes: usize::MAX,
    };
    let transport = SimTransport {
        world: world.clone(),
        process: process.clone(),
        clock: clock.clone(),
    };
    let quota = Quota::shared(state.clone(), quota, clock.clone(), jitter.clone());
    let vendor: Arc<dyn Vendor> = Arc::new(VendorClient::over(
        transport,
        &settings,
        quota,
        clock.clone(),
        jitter.clone(),
    ));
    let topic = SimTopic {
        world: world.clone(),
        process: process.clone(),
    };
    let accounts = Accounts::new(
        Some(state.clone()),
        Some(Arc::new(topic)),
        clock.clone(),
        jitter.clone(),
        "simulation".to_owned(),
        Some(plan.quota),
    );
    let checkpoints = Checkpoints::new(Some(state.clone()), clock.clone(), jitter.clone());
    let percent = if plan.believes_all { 100 } else { MOST_DELETED_PERCENT };
    let rules = DeletionRules::of(&Entity::ALL).with_max_percent(percent);
    let rosters = Rosters::new(Some(state.clone()), rules);
    let rejections = Rejections::new(Some(state), clock.clone(), Excerpts::default());
    let queue = |which| {
        Arc::new(SimQueue {
            world: world.clone(),
            process: process.clone(),
            which,
        })
    };
    let table = |entity| {
        Arc::new(SimTable {
            world: world.clone(),
            entity,
        })
    };
    let function = match kind {
        Kind::Branches => Function::Branches(BranchCollector {
            vendor,
            table: table(Entity::Branch),
            employee_queue: queue(employee_queue),
            checkpoints,
            accounts,
            rosters,
            rejections,
        }),
        Kind::Salespersons => Function::Salespersons(SalespersonCollector {
            vendor,
            table: table(Entity::Salesperson),
            employee_queue: queue(employee_queue),
            sale_queue: queue(sale_queue),
            poll_window: POLL_WINDOW,
            jitter,
            checkpoints,
            accounts,
            rosters,
            rejections,
        }),
        Kind::Sales => Function::Sales(SaleCollector {
            vendor,
            table: table(Entity::Sale),
            sale_queue: queue(sale_queue),
            lookback: Lookback::hours(plan.lookback_hours),
            poll_window: POLL_WINDOW,
            jitter,
            checkpoints,
            accounts,
            rosters,
            rejections,
        }),
    };
    Live {
        process,
        clock,
        function,
    }
}

impl Fleet {
    pub(crate) fn new(world: Arc<World>) -> Arc<Self> {
        let slots = |count| (0..count).map(|_| Mutex::default()).collect();
        let instances = world.sim.plan.instances;
        Arc::new(Self {
            world,
            slots: [slots(BRANCH_INSTANCES), slots(instances), slots(instances)],
        })
    }

    fn is_busy(&self) -> bool {
        self.slots.iter().flatten().any(|slot| lock(slot).busy)
    }

    /// Invokes a function, if not all its instances are busy.
    async fn invoke(&self, kind: Kind, event: &str, run: Option<RunId>) -> End {
        let sim = &self.world.sim;
        let slots = &self.slots[kind as usize];
        let Some(slot) = slots.iter().find(|slot| !lock(slot).busy) else {
            sim.note(|| format!("all instances of {} are busy", kind.name()));
            return End::Failed;
        };
        let live = {
            let mut slot = lock(slot);
            slot.busy = true;
            let live = slot.live.get_or_insert_with(|| Arc::new(start(&self.world, kind)));
            live.clone()
        };
        let end = self.live_through(&live, event, run).await;
        sim.note(|| format!("{} ends: {end:?}", live.process.name));
        let mut slot = lock(slot);
        slot.busy = false;
        if end == End::Crashed {
            if sim.plan.sabotage == Some(Sabotage::LoseWhatWasReceived) {
                lose(&self.world, &live.process);
            }
            slot.live = None;
        }
        live.process.lays_down_all();
        end
    }

    async fn live_through(&self, live: &Live, event: &str, run: Option<RunId>) -> End {
        let (sim, process) = (&self.world.sim, &live.process);
        sim.note(|| format!("{} begins {event}", process.name));
        if let Some(run) = run {
            for name in branch_names(&sim.plan) {
                let work = Work {
                    asked: Asked::new("branches", name.clone()),
                    branch: String::new(),
                    run,
                    first_load: false,
                    verify: event.contains("verify"),
                };
                process.takes(name, work);
            }
        }
        let mut time_left = FUNCTION_TIME_OUT;
        if sim.strikes(Fault::ShortDeadlines, 5) {
            let seconds = sim.throw(Die::Fault(Fault::ShortDeadlines), |rng| rng.u64(4..60));
            time_left = Duration::from_secs(seconds);
        }
        let stop = CancellationToken::new();
        let call = Call {
            request_id: process.name.clone(),
            now: live.clock.now(),
            deadline: Instant::now() + time_left,
            stop: stop.clone(),
        };
        if sim.strikes(Fault::Terminations, 8) {
            let after = sim.throw(Die::Fault(Fault::Terminations), |rng| rng.u64(0..40_000));
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(after)).await;
                stop.cancel();
            });
        }
        let waits_left = if sim.strikes(Fault::Crashes, 5) {
            sim.throw(Die::Fault(Fault::Crashes), |rng| {
                let most = 1 << rng.u32(2..10);
                rng.u32(0..most)
            })
        } else {
            u32::MAX
        };
        let work = async {
            match &live.function {
                Function::Branches(collector) => handled(collector, event, call).await,
                Function::Salespersons(collector) => handled(collector, event, call).await,
                Function::Sales(collector) => handled(collector, event, call).await,
            }
        };
        let work = Crashing {
            work: Some(Box::pin(work)),
            waits_left,
        };
        match tokio::time::timeout(time_left, work).await {
            Ok(Some(handled)) if handled.answer.is_ok() => End::Done,
            Ok(Some(_)) => End::Failed,
            Ok(None) | Err(_) => End::Crashed,
        }
    }

    /// Begins a branch run, and again if it fails, as Lambda does.
    fn begin_run(self: &Arc<Self>, run: RunId, verify: bool, delay: Duration) {
        let fleet = self.clone();
        let plan = &self.world.sim.plan;
        let event = if plan.scheduled && !verify {
            serde_json::json!({"source": "aws.scheduler", "detail-type": "Scheduled Event", "time": run})
        } else {
            serde_json::json!({"branches": branch_names(plan), "run_id": run, "verify": verify})
        }
        .to_string();
        tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            for wait in [60, 120, 0] {
                if fleet.invoke(Kind::Branches, &event, Some(run)).await == End::Done {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(wait)).await;
            }
            fleet.world.sim.note(|| format!("run {run} is given up"));
            if fleet.world.sim.is_calm() {
                fleet.world.sim.violate(Invariant::Progress, || {
                    format!("run {run} failed, although nothing does")
                });
            }
        });
    }

    fn begin_runs(self: &Arc<Self>, run: RunId) {
        let sim = &self.world.sim;
        let late = |fault, most| {
            let ms = sim.throw(Die::Fault(fault), |rng| rng.u64(0..most));
            Duration::from_millis(ms)
        };
        let mut delay = Duration::ZERO;
        if sim.strikes(Fault::Lateness, 2) {
            delay = late(Fault::Lateness, 150_000);
        }
        self.begin_run(run, false, delay);
        if sim.strikes(Fault::Overlaps, 2) {
            self.begin_run(run, false, delay + late(Fault::Overlaps, 40_000));
        }
        if sim.strikes(Fault::Overlaps, 2) {
            // One that was due before, and hangs still.
            let before = RunId::scheduled_for(crate::world::time_of(run) - time::Duration::minutes(10));
            self.begin_run(before, false, delay + late(Fault::Overlaps, 90_000));
        }
    }

    /// What a minute starts.
    fn begin_polls(self: &Arc<Self>) {
        let sim = &self.world.sim;
        for (kind, second) in [Kind::Salespersons, Kind::Sales].into_iter().zip(sim.plan.poll_seconds) {
            for _ in 0..sim.plan.polls_a_minute {
                let mut delay = Duration::from_secs(second.into());
                if sim.strikes(Fault::Lateness, 4) {
                    let ms = sim.throw(Die::Fault(Fault::Lateness), |rng| rng.u64(0..40_000));
                    delay += Duration::from_millis(ms);
                }
                let fleet = self.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(delay).await;
                    let world = &fleet.world;
                    let queue = match kind {
                        Kind::Salespersons => &world.employee_queue,
                        _ => &world.sale_queue,
                    };
                    // A poll that finds nothing does nothing.
                    let has_work = lock(queue).has_something(world.sim.elapsed(), Duration::from_secs(3));
                    if has_work {
                        fleet.invoke(kind, "{}", None).await;
                    }
                });
            }
        }
    }

    fn is_done(&self) -> bool {
        let is_empty = |queue: &Mutex<Queue>| lock(queue).is_empty();
        is_empty(&self.world.employee_queue) && is_empty(&self.world.sale_queue) && !self.is_busy()
    }

    /// Polls each minute until `until`, and from then on until nothing is left.
    async fn poll_until(self: &Arc<Self>, until: Duration) {
        let sim = &self.world.sim;
        loop {
            let now = sim.elapsed();
            if now >= until && self.is_done() {
                return;
            }
            if now > until + PATIENCE {
                let left = lock(&self.world.employee_queue).bodies().into_iter();
                let left: Vec<_> = left.chain(lock(&self.world.sale_queue).bodies()).collect();
                sim.violate(Invariant::Progress, || format!("still waiting: {left:?}"));
                return;
            }
            self.begin_polls();
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
    }

    /// The whole story: the runs, a time without faults, and a last run.
    pub(crate) async fn live(self: Arc<Self>) {
        let sim = &self.world.sim;
        let runs = sim.plan.runs;
        for run in 0..runs {
            let begins = HOUR * run;
            self.begin_runs(run_at(begins));
            while sim.elapsed() < begins + HOUR {
                self.begin_polls();
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        }
        sim.calm_down();
        self.poll_until(HOUR * runs).await;
        if sim.plan.is_quiet() {
            self.world.check_quiet_runs();
        }
        self.world.check_nothing_lost();
        for queue in [&self.world.employee_queue, &self.world.sale_queue] {
            lock(queue).redrive(sim);
        }
        // Later than any claim lasts.
        let minutes = sim.elapsed().as_secs() / 60 + 30;
        let last = Duration::from_secs(minutes * 60);
        self.poll_until(last).await;
        let last = sim.elapsed();
        self.begin_run(run_at(last), sim.plan.verify, Duration::ZERO);
        self.poll_until(last + Duration::from_secs(120)).await;
        self.world.check_model();
        self.world.check_reports(run_at(last));
    }
}

async fn handled<C: Collector>(collector: &C, event: &str, call: Call) -> Handled {
    handle(collector, event, call).await
}
