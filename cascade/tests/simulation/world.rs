//! All that is outside of the instances, and the invariants: worked out from what the vendor has said and from what is
//! durable, without any code of the collectors.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shared::entity::Entity;
use shared::run::RunId;
use time::UtcDateTime;

use crate::plan::{Fault, Plan, Sabotage};
use crate::process::{Process, Work};
use crate::queue::Queue;
use crate::sim::{BEGINNING, Invariant, Sim, lock};
use crate::state::State;
use crate::table::{Rows, Standing};
use crate::topic::Sent;
use crate::vendor::{Asked, Given, Record, RowKey, Vendor};

/// By how much an answer's time, and a run's, may differ for the clocks' sake.
const TOLERANCE: Duration = Duration::from_secs(1);

/// How much of an answer may vanish at once, where not all deletions are believed.
pub(crate) const MOST_DELETED_PERCENT: u8 = 30;

/// How long a poll has to wait for the next one.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) sim: Arc<Sim>,
    pub(crate) vendor: Mutex<Vendor>,
    pub(crate) employee_queue: Mutex<Queue>,
    pub(crate) sale_queue: Mutex<Queue>,
    pub(crate) rows: Mutex<Rows>,
    pub(crate) state: Mutex<State>,
    pub(crate) reports: Mutex<Vec<Sent>>,
    /// How many rows each answer has marked: what was asked, and when the answer was fetched.
    marks: Mutex<BTreeMap<(Asked, String), usize>>,
    /// Rows that were written while no roster could be reached.
    unrostered: Mutex<BTreeSet<RowKey>>,
}

/// The time of a run.
pub(crate) fn time_of(run: RunId) -> UtcDateTime {
    use time::format_description::well_known::Rfc3339;
    let time = time::OffsetDateTime::parse(&run.to_string(), &Rfc3339).expect("a time");
    time.to_utc()
}

/// The names that each run asks for.
pub(crate) fn branch_names(plan: &Plan) -> Vec<String> {
    if plan.scheduled {
        branches::DEFAULT_BRANCHES.map(str::to_owned).into()
    } else {
        (1..=plan.branches).map(crate::vendor::branch_name).collect()
    }
}

pub(crate) fn run_at(elapsed: Duration) -> RunId {
    RunId::scheduled_for(BEGINNING + elapsed)
}

impl World {
    pub(crate) fn new(sim: Arc<Sim>) -> Arc<Self> {
        Arc::new(Self {
            vendor: Mutex::new(Vendor::new(&sim.plan)),
            employee_queue: Mutex::new(Queue::new("employee")),
            sale_queue: Mutex::new(Queue::new("sale")),
            rows: Mutex::default(),
            state: Mutex::new(State::new(&sim)),
            reports: Mutex::default(),
            marks: Mutex::default(),
            unrostered: Mutex::default(),
            sim,
        })
    }

    fn queue_of(&self, work: &Work) -> &Mutex<Queue> {
        match work.asked.kind {
            "employees" => &self.employee_queue,
            _ => &self.sale_queue,
        }
    }

    /// What holds as a request about an id is sent: nobody else is at work on it, and it is not done.
    pub(crate) fn check_request(&self, process: &Process, asked: &Asked) {
        let entry = asked.to_string();
        if process.is_blind_to(&entry) {
            return;
        }
        let works = process.works_on(asked);
        let state = lock(&self.state);
        let claimed = state.claims_of(&entry);
        if claimed != Some(&process.name) {
            self.sim.violate(Invariant::OncePerRun, || {
                format!("{} asks for {asked}, on which {claimed:?} is at work", process.name)
            });
        }
        let done = state.done(&entry);
        let is_owed = works.iter().any(|work| {
            let done = if work.verify {
                done.verified
            } else if work.first_load || asked.kind != "sales" || self.sim.plan.lookback_hours == 0 {
                done.whole
            } else {
                done.usual
            };
            done.is_none_or(|done| done < work.run)
        });
        if !is_owed && self.sim.plan.sabotage != Some(Sabotage::ForgetClaims) {
            self.sim.violate(Invariant::OncePerRun, || {
                format!("{} asks for {asked}, which is done ({done:?}): {works:?}", process.name)
            });
        }
    }

    /// What holds as a message is deleted.
    pub(crate) fn check_gone(&self, body: &str, received_at: Duration) {
        let work = Work::of(body);
        let is_elsewhere = lock(self.queue_of(&work)).is_elsewhere(body, received_at);
        if !is_elsewhere && let Err(missing) = self.effects(&work) {
            self.sim
                .violate(Invariant::Durability, || format!("{body} is deleted, but {missing}"));
        }
    }

    /// What holds as a checkpoint says that a run is done.
    pub(crate) fn check_done(&self, entry: &str, run: RunId) {
        let Some((kind, id)) = entry.split_once('/') else {
            return;
        };
        let kind = ["branches", "employees", "sales"]
            .into_iter()
            .find(|known| *known == kind)
            .expect("a kind");
        let work = Work {
            asked: Asked::new(kind, id),
            branch: id.to_owned(),
            run,
            first_load: false,
            verify: false,
        };
        if let Err(missing) = self.effects(&work) {
            self.sim.violate(Invariant::Durability, || {
                format!("{entry} is done for {run}, but {missing}")
            });
        }
    }

    /// Whether there is an answer to what was asked for a run, of which all effects are durable.
    pub(crate) fn effects(&self, work: &Work) -> Result<(), String> {
        let vendor = lock(&self.vendor);
        let answers = vendor.given.get(&work.asked).map_or(&[][..], Vec::as_slice);
        let since = time_of(work.run) - TOLERANCE;
        let mut missing = format!("the vendor was not asked for {} since", work.asked);
        for given in answers.iter().rev().take_while(|given| given.at >= since) {
            match self.effects_of(given, work) {
                Ok(()) => return Ok(()),
                Err(reason) => missing = reason,
            }
        }
        Err(missing)
    }

    fn effects_of(&self, given: &Given, work: &Work) -> Result<(), String> {
        let lookback = self.lookback(work);
        let rows = lock(&self.rows);
        for record in given.records.iter().filter(|record| record.is_stored) {
            if !is_recent(record, lookback, given.asked_at) {
                continue;
            }
            let Some(row) = rows.get(&record.key) else {
                return Err(format!("{:?} has no row", record.key));
            };
            if row.is_marked() && row.last_modified() < &*given.stamp() {
                return Err(format!("{:?} is marked, and in the answer", record.key));
            }
            if row.version < record.version && row.last_modified() <= &*given.stamp() && !row.says(record) {
                return Err(format!("the row of {:?} is older than the answer", record.key));
            }
            if record.key.0 == Entity::Sale && !row.row.attributes.contains_key("branch_id") {
                return Err(format!("{:?} has no branch", record.key));
            }
            let queue = match record.key.0 {
                Entity::Branch => &self.employee_queue,
                Entity::Salesperson => &self.sale_queue,
                Entity::Sale => continue,
            };
            let was_sent = lock(queue).was_sent(|sent| {
                sent.run >= work.run
                    && match record.key.0 {
                        Entity::Branch => sent.branch == record.key.1,
                        _ => sent.branch == work.branch && sent.asked.id == record.key.1,
                    }
            });
            if !was_sent {
                return Err(format!("no message about {:?} was sent", record.key));
            }
        }
        Ok(())
    }

    fn lookback(&self, work: &Work) -> Option<time::Duration> {
        let hours = self.sim.plan.lookback_hours;
        (work.asked.kind == "sales" && !work.first_load && !work.verify && hours > 0)
            .then(|| time::Duration::hours(hours.into()))
    }

    /// What holds before faults end and the last run begins: whatever was sent is done, or a dead letter.
    pub(crate) fn check_nothing_lost(&self) {
        for queue in [&self.employee_queue, &self.sale_queue] {
            let sent: BTreeSet<String> = lock(queue).sent_bodies();
            for body in sent {
                let is_waiting = lock(queue).is_waiting(&body);
                if !is_waiting && let Err(missing) = self.effects(&Work::of(&body)) {
                    self.sim
                        .violate(Invariant::Durability, || format!("{body} is lost: {missing}"));
                }
            }
        }
    }

    /// What holds at the end: the tables say what the vendor says.
    pub(crate) fn check_model(&self) {
        let plan = &self.sim.plan;
        let vendor = lock(&self.vendor);
        let rows = lock(&self.rows);
        let asked = vendor.asked_by_a_run(&branch_names(plan));
        let lookback =
            (plan.lookback_hours > 0 && !plan.verify).then(|| time::Duration::hours(plan.lookback_hours.into()));
        for record in asked.iter().flat_map(|asked| vendor.list(asked)) {
            let lookback = lookback.filter(|_| record.key.0 == Entity::Sale);
            let row = rows.get(&record.key);
            if record.is_stored && row.is_some_and(Standing::is_marked) {
                self.sim.violate(Invariant::Deletions, || {
                    format!("{:?} is marked, and the vendor tells of it", record.key)
                });
            }
            if !record.is_stored || !is_recent(record, lookback, self.sim.now()) {
                continue;
            }
            match row {
                None => self
                    .sim
                    .violate(Invariant::Model, || format!("{:?} has no row", record.key)),
                Some(row) if !row.says(record) => self.sim.violate(Invariant::Model, || {
                    format!("{:?} says {:?}, not {:?}", record.key, row.row, record.row)
                }),
                Some(_) => {}
            }
        }
        for (key, row) in &*rows {
            if vendor.versions(key).iter().all(|record| !record.is_stored) {
                self.sim
                    .violate(Invariant::Model, || format!("the vendor has never told of {key:?}"));
            }
            if !row.is_marked() && self.has_to_be_marked(&vendor, &asked, key) {
                self.sim.violate(Invariant::Deletions, || {
                    format!("{key:?} is not marked, and the vendor does not tell of it")
                });
            }
        }
    }

    /// Whether a row's record has vanished, and nothing excuses that it is not marked.
    fn has_to_be_marked(&self, vendor: &Vendor, asked_for: &BTreeSet<Asked>, key: &RowKey) -> bool {
        let plan = &self.sim.plan;
        let state = lock(&self.state);
        let has_vanished = |asked: &Asked| {
            let list = vendor.list(asked);
            asked_for.contains(asked) && list.iter().all(|record| record.key != *key || !record.is_stored)
        };
        // Deletions that are not believed are held back, and the answer then is not known.
        let is_believed = |asked: &Asked| plan.believes_all || state.is_known(asked);
        // Work that could not reach the state table leaves an earlier answer there, and where the vendor says it again, it
        // is not looked at: that is a known limit.
        let is_looked_at = |asked: &Asked| plan.verify || !state.was_missed(asked);
        let asked = vendor.asked_for(key);
        asked
            .iter()
            .all(|asked| has_vanished(asked) && is_believed(asked) && is_looked_at(asked))
            && !lock(&self.unrostered).contains(key)
    }

    /// Whether an answer that was fetched then does not have a record, and its deletion can be believed. It counts as one
    /// of the answer's deletions.
    pub(crate) fn has_vanished(&self, vendor: &Vendor, key: &RowKey, stamp: &str) -> bool {
        let lacks_it = |given: &Given| {
            given
                .records
                .iter()
                .all(|record| record.key != *key || !record.is_stored)
        };
        let asked = vendor.asked_for(key);
        let mut told_by = asked.into_iter().filter(|asked| {
            let given = vendor.given.get(asked).map_or(&[][..], Vec::as_slice);
            given.iter().any(|given| given.stamp() == stamp && lacks_it(given))
        });
        let Some(asked) = told_by.next() else { return false };
        let ever: BTreeSet<_> = vendor.all_ever(&asked).collect();
        let most = (ever.len() * usize::from(MOST_DELETED_PERCENT) / 100).max(1);
        let mut marks = lock(&self.marks);
        let count = marks.entry((asked, stamp.to_owned())).or_default();
        *count += 1;
        self.sim.plan.believes_all || *count <= most
    }

    /// What holds where nothing fails: each run asks for each id once, and takes no longer than the quota asks for.
    pub(crate) fn check_quiet_runs(&self) {
        let plan: &Plan = &self.sim.plan;
        let vendor = lock(&self.vendor);
        for run in 0..plan.runs {
            let begins = Duration::from_secs(u64::from(run) * 3600);
            let ends = begins + Duration::from_secs(3600);
            let within = |at: UtcDateTime| (BEGINNING + begins..BEGINNING + ends).contains(&at);
            let mut answers: BTreeMap<&Asked, Vec<&Given>> = BTreeMap::new();
            for (asked, given) in &vendor.given {
                let given: Vec<_> = given.iter().filter(|given| within(given.at)).collect();
                if !given.is_empty() {
                    answers.insert(asked, given);
                }
            }
            let names = branch_names(plan).into_iter();
            let mut expected: BTreeSet<Asked> = names.map(|name| Asked::new("branches", name)).collect();
            for (asked, given) in &answers {
                let kind = match asked.kind {
                    "branches" => "employees",
                    "employees" => "sales",
                    _ => continue,
                };
                let told = given.iter().flat_map(|given| &given.records);
                expected.extend(
                    told.filter(|record| record.is_stored)
                        .map(|record| Asked::new(kind, record.key.1.clone())),
                );
            }
            for (asked, given) in &answers {
                // A first load is owed even where a part of the sales was looked at for the run.
                let loads = if plan.lookback_hours > 0 && asked.kind == "sales" {
                    2
                } else {
                    1
                };
                if given.len() > loads || !expected.contains(*asked) {
                    let times = given.len();
                    self.sim.violate(Invariant::OncePerRun, || {
                        format!("{asked} was asked for {times} times in a run")
                    });
                }
            }
            if let Some(asked) = expected.iter().find(|asked| !answers.contains_key(asked)) {
                self.sim
                    .violate(Invariant::OncePerRun, || format!("{asked} was not asked for in a run"));
            }
            let requests: Vec<Duration> = vendor
                .asked
                .iter()
                .copied()
                .filter(|at| (begins..ends).contains(at))
                .collect();
            let took = requests.last().copied().unwrap_or(begins) - begins;
            let minutes = requests.len() as f64 / f64::from(plan.quota);
            // Each of the two queues waits for its next poll.
            let limit = POLL_INTERVAL.mul_f64(1.05 * minutes) + 2 * POLL_INTERVAL;
            if took > limit && !plan.has(Fault::Foreigners) {
                let requests = requests.len();
                self.sim.violate(Invariant::Pace, || {
                    format!("a run of {requests} requests took {took:?}, more than {limit:?}")
                });
            }
        }
    }

    /// What holds as a row is written that was not there before, or was marked since some time: its roster knows of it, and
    /// a salesperson's first load was asked for.
    pub(crate) fn check_first_row(&self, key: &RowKey, since: Duration) {
        let has_state_faults = self.sim.plan.has(Fault::StateErrors) || self.sim.plan.has(Fault::StateOutages);
        let asked = lock(&self.vendor).asked_for(key);
        if !lock(&self.state).is_on_roster(&asked, &key.1) {
            lock(&self.unrostered).insert(key.clone());
            if !has_state_faults {
                self.sim.violate(Invariant::Deletions, || {
                    format!("{key:?} has a row, and no roster knows of it")
                });
            }
        }
        // Whoever works without a claim may find the row marked only as he writes it.
        if key.0 == Entity::Salesperson && (since.is_zero() || !has_state_faults) {
            let was_sent = lock(&self.sale_queue).was_sent_since(since, |sent| {
                sent.first_load && sent.asked.id == key.1 && sent.branch == key.2
            });
            if !was_sent {
                self.sim.violate(Invariant::Durability, || {
                    format!("{key:?} has a row, and its first load was not asked for")
                });
            }
        }
    }
}

fn is_recent(record: &Record, lookback: Option<time::Duration>, now: UtcDateTime) -> bool {
    match (record.booked, lookback) {
        (Some(booked), Some(lookback)) => now - booked <= lookback,
        _ => true,
    }
}
