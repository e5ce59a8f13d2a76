//! The pipeline in a simulated world: the collectors' own code over ports in memory, in virtual time, with dice that all
//! follow from one seed. What can go wrong goes wrong there at any point at which the code waits, and the invariants of
//! `docs/ARCHITECTURE.md` are held against every step.
//!
//! `CASCADE_SEEDS=100000 cargo test -p cascade --test simulation` tries so many seeds, `CASCADE_FIRST_SEED` says from which
//! on; `CASCADE_SEED=17` tries one, and prints its trace with `-- --nocapture`.
//!
//! Four limits are known, and kept apart from what must not happen. Right after an outage of the state table of more than
//! two minutes, whoever finds the calendar first knows nothing of the paces that others have kept meanwhile
//! (`State::has_been_out`). Where the state table could not be told of a first load, and the process that sent its message
//! did not live to tell that, the run is complete without it (`State::lost_first_loads`); likewise without a branch that a name
//! led to only when it was asked for once more in the same run, after it had been noted as done (`State::lost_branch`). And
//! where work could neither claim its id nor note that it was done, a record that goes back to what it was before is not
//! compared with its row (`Vendor::change`).

use plan::Plan;
use sim::{Sim, Violation};

mod instances;
mod plan;
mod process;
mod queue;
mod sabotage;
mod seeds;
mod sim;
mod state;
mod table;
mod topic;
mod vendor;
mod world;

/// What became of a simulation.
struct Report {
    violation: Option<Violation>,
    trace: Vec<String>,
}

/// Lives a plan through.
fn simulate(plan: &Plan, traced: bool) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let sim = Sim::new(plan.clone(), traced);
        let fleet = instances::Fleet::new(world::World::new(sim.clone()));
        tokio::select! {
            biased;
            () = sim.over.cancelled() => {}
            () = fleet.live() => {}
        }
        Report {
            violation: sim.violation(),
            trace: sim.trace(),
        }
    })
}
