//! The state table: linearizable, with calls that take time, fail, or whose answers get lost, and outages for all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use shared::quota::ledger::CALENDAR;
use shared::run::RunId;
use shared::state::{Addition, Entry, StateError, StateTable, Swapped};

use crate::plan::{Fault, Sabotage};
use crate::process::Process;
use crate::sim::{Die, Sim, lock, on_the_wire};
use crate::vendor::Asked;
use crate::world::World;

/// For less than this a process that cannot reach the calendar makes no request.
const SILENCE: Duration = Duration::from_secs(120);

/// What the names of rosters begin with.
const ROSTERS: &str = "roster/";

/// The runs that were noted as done, whatever becomes of the note.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub(crate) usual: Option<RunId>,
    pub(crate) whole: Option<RunId>,
    pub(crate) verified: Option<RunId>,
}

pub(crate) struct State {
    entries: BTreeMap<String, Entry>,
    done: BTreeMap<String, Done>,
    /// Whose claims are whose.
    claims: BTreeMap<String, String>,
    outages: Vec<(Duration, Duration)>,
    /// The accounts that could not be told of a first load.
    lost_first_loads: BTreeSet<String>,
    /// The accounts that could not be told of a branch, after the work on its name had been noted as done: somebody asked
    /// again while the state table was away, and it was not in the answer before.
    lost_branches: BTreeSet<(String, String)>,
    /// The entries of which a read or a write has failed once.
    missed: BTreeSet<String>,
}

impl State {
    pub(crate) fn new(sim: &Sim) -> Self {
        let mut outages = Vec::new();
        if sim.plan.has(Fault::StateOutages) {
            sim.throw(Die::Fault(Fault::StateOutages), |rng| {
                for _ in 0..rng.u32(1..3) {
                    let run = rng.u64(0..u64::from(sim.plan.runs)) * 3600;
                    let begins = Duration::from_secs(run + rng.u64(0..300));
                    let lasts = Duration::from_secs(rng.u64(5..600));
                    outages.push((begins, begins + lasts));
                }
            });
        }
        Self {
            entries: BTreeMap::new(),
            done: BTreeMap::new(),
            claims: BTreeMap::new(),
            outages,
            lost_first_loads: BTreeSet::new(),
            lost_branches: BTreeSet::new(),
            missed: BTreeSet::new(),
        }
    }

    /// Whether a run's account of a branch could not be told of a first load.
    pub(crate) fn lost_first_loads(&self, run: RunId, branch: &str) -> bool {
        self.lost_first_loads.contains(&format!("run/{run}/{branch}"))
    }

    /// Whether a run's account could not be told of a branch that its name led to only when it was asked for once more.
    pub(crate) fn lost_branch(&self, run: RunId, branch: &str) -> bool {
        self.lost_branches.contains(&(format!("run/{run}"), branch.to_owned()))
    }

    /// Notes that an account could not be told of these branches, those among them whose names are noted as done in it.
    fn lose_branches(&mut self, entry: &str, branches: &BTreeSet<String>, names_of: impl Fn(&str) -> BTreeSet<String>) {
        let finished = self
            .entries
            .get(entry)
            .and_then(|entry| entry.body.get("names_finished"));
        let finished: BTreeSet<&str> = finished
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for branch in branches {
            if names_of(branch).iter().any(|name| finished.contains(&**name)) {
                self.lost_branches.insert((entry.to_owned(), branch.clone()));
            }
        }
    }

    /// Whether requests of the last minute may have been made by processes that each kept a pace, as none could reach the
    /// calendar. Whoever reaches it first after an outage, and has kept no pace himself, cannot know of them.
    pub(crate) fn has_been_out(&self, now: Duration) -> bool {
        self.outages.iter().any(|(from, to)| {
            let paced = *from + SILENCE..*to + Duration::from_secs(80);
            *to > *from + SILENCE && paced.contains(&now)
        })
    }

    /// Who is at work on an id.
    pub(crate) fn claims_of(&self, entry: &str) -> Option<&String> {
        self.claims.get(claim(self.entries.get(entry)?)?)
    }

    /// Whether a read or a write of what is known about an answer has failed once.
    pub(crate) fn was_missed(&self, asked: &Asked) -> bool {
        self.missed.contains(&asked.to_string())
    }

    /// Whether an answer is known, so that it is not looked at when it is given again.
    pub(crate) fn is_known(&self, asked: &Asked) -> bool {
        let entry = self.entries.get(&asked.to_string());
        entry.is_some_and(|entry| entry.body.contains_key("answer"))
    }

    /// Whether a roster knows of a record that is asked for by one of these.
    pub(crate) fn is_on_roster(&self, asked: &[Asked], id: &str) -> bool {
        let ids = |asked: &Asked| {
            self.entries
                .get(&format!("{ROSTERS}{asked}"))?
                .body
                .get("ids")?
                .as_array()
        };
        let mut rosters = asked.iter().filter_map(ids);
        rosters.any(|ids| ids.iter().any(|known| known == id))
    }

    /// For which runs an id is done.
    pub(crate) fn done(&self, entry: &str) -> Done {
        self.done.get(entry).copied().unwrap_or_default()
    }
}

fn claim(entry: &Entry) -> Option<&str> {
    entry.body.get("claim")?.get("by")?.as_str()
}

/// One process's way to the state table.
pub(crate) struct SimState {
    pub(crate) world: Arc<World>,
    pub(crate) process: Arc<Process>,
}

fn failure(action: &'static str) -> StateError {
    StateError {
        action,
        source: "it cannot be reached".into(),
    }
}

impl SimState {
    fn is_out(&self) -> bool {
        let sim = &self.world.sim;
        let now = sim.elapsed();
        let state = lock(&self.world.state);
        !sim.is_calm() && state.outages.iter().any(|(from, to)| (*from..*to).contains(&now))
    }

    fn fails(&self, id: &str, action: &'static str) -> StateError {
        self.process.could_not_reach(id);
        lock(&self.world.state).missed.insert(id.to_owned());
        self.world
            .sim
            .note(|| format!("{} finds that {id} cannot {action}", self.process.name));
        failure(action)
    }
}

#[async_trait]
impl StateTable for SimState {
    async fn read(&self, id: &str) -> Result<Option<Entry>, StateError> {
        let sim = &self.world.sim;
        sim.latency(15).await;
        if self.is_out() || sim.strikes(Fault::StateErrors, 30) {
            return Err(self.fails(id, "be read"));
        }
        let entry = lock(&self.world.state).entries.get(id).cloned();
        sim.latency(15).await;
        Ok(entry)
    }

    async fn swap(&self, id: &str, seen: Option<u64>, entry: &Entry) -> Result<Swapped, StateError> {
        let (world, process) = (self.world.clone(), self.process.clone());
        let (is_out, name, entry) = (self.is_out(), id.to_owned(), entry.clone());
        let swapped = on_the_wire(async move {
            let sim = &world.sim;
            let fault = sim
                .strikes(Fault::StateErrors, 30)
                .then(|| sim.throw(Die::Fault(Fault::StateErrors), |rng| rng.bool()));
            sim.latency(20).await;
            if is_out || fault == Some(false) {
                return None;
            }
            let swapped = swap(&world, &process, name, seen, entry);
            sim.latency(20).await;
            fault.is_none().then_some(swapped)
        })
        .await;
        swapped.ok_or_else(|| self.fails(id, "be written"))
    }

    async fn add(&self, id: &str, addition: &Addition) -> Result<Entry, StateError> {
        let (world, process) = (self.world.clone(), self.process.clone());
        let (is_out, name, addition) = (self.is_out(), id.to_owned(), addition.clone());
        let names_first_loads = addition.sets.contains_key("first_loads_expected");
        let branches = addition.sets.get("branches_expected").cloned().unwrap_or_default();
        let added = on_the_wire(async move {
            let sim = &world.sim;
            let fault = sim
                .strikes(Fault::StateErrors, 30)
                .then(|| sim.throw(Die::Fault(Fault::StateErrors), |rng| rng.bool()));
            sim.latency(20).await;
            if is_out || fault == Some(false) {
                return None;
            }
            let entry = {
                let mut state = lock(&world.state);
                let entry = addition.to(state.entries.get(&name));
                state.entries.insert(name.clone(), entry.clone());
                entry
            };
            sim.note(|| format!("{} adds to {name}: {:?}", process.name, addition.sets));
            sim.latency(20).await;
            fault.is_none().then_some(entry)
        })
        .await;
        if added.is_none() && names_first_loads {
            lock(&self.world.state).lost_first_loads.insert(id.to_owned());
        }
        if added.is_none() {
            let names_of = |branch: &str| lock(&self.world.vendor).names_of(branch);
            lock(&self.world.state).lose_branches(id, &branches, names_of);
        }
        added.ok_or_else(|| self.fails(id, "be added to"))
    }
}

fn swap(world: &World, process: &Process, id: String, seen: Option<u64>, mut entry: Entry) -> Swapped {
    let sabotage = world.sim.plan.sabotage;
    let newly_done = {
        let mut state = lock(&world.state);
        let state = &mut *state;
        let current = state.entries.get(&id);
        if current.map(|current| current.version) != seen {
            if current == Some(&entry) {
                world.sim.note(|| format!("{} finds {id} as it wants it", process.name));
                return Swapped::Done;
            }
            let ignored = match sabotage {
                Some(Sabotage::DoubleSlots) => id == CALENDAR,
                Some(Sabotage::DoubleClaims) => id != CALENDAR && !id.starts_with(ROSTERS),
                _ => false,
            };
            if !ignored {
                return Swapped::Conflict(current.cloned());
            }
        }
        if let Some(claim) = claim(&entry) {
            let name = || process.name.clone();
            state.claims.entry(claim.to_owned()).or_insert_with(name);
        }
        let done = state.done.entry(id.clone()).or_default();
        let run = |name: &str| RunId::parse(entry.body.get(name).and_then(Value::as_str)?).ok();
        let newly_done = run("run_id").filter(|run| done.usual.is_none_or(|done| done < *run));
        done.usual = done.usual.max(run("run_id"));
        done.whole = done.whole.max(run("whole_run_id"));
        done.verified = done.verified.max(run("verified_run_id"));
        match sabotage {
            Some(Sabotage::ForgetClaims) => drop(entry.body.remove("claim")),
            Some(Sabotage::ForgetRuns) => ["run_id", "whole_run_id", "verified_run_id"].iter().for_each(|name| {
                entry.body.remove(*name);
            }),
            _ => {}
        }
        if id.starts_with(ROSTERS) {
            world
                .sim
                .note(|| format!("{} writes {id}: {:?}", process.name, entry.body));
            if sabotage == Some(Sabotage::ForgetRosters) {
                return Swapped::Done;
            }
        } else if id != CALENDAR {
            world.sim.note(|| {
                let claim = claim(&entry).map_or("no claim", |claim| &claim[..4]);
                let run = entry.body.get("run_id").and_then(Value::as_str).unwrap_or("no run");
                format!("{} writes {id}: {run} done, {claim}", process.name)
            });
        } else {
            world.sim.note(|| {
                let promises = entry.body.get("promises").and_then(Value::as_str).unwrap_or_default();
                format!("{} writes the calendar: {promises}", process.name)
            });
        }
        state.entries.insert(id.clone(), entry);
        newly_done
    };
    if let Some(run) = newly_done {
        world.check_done(&id, run);
    }
    Swapped::Done
}
