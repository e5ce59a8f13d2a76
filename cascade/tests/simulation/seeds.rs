//! Many seeds, each of them a plan: nothing that has to hold may fail to.

use crate::plan::{Fault, Plan};
use crate::simulate;

/// How many seeds are tried where nobody says otherwise.
const SEEDS: u64 = 2000;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// Fails for a seed: how to replay it, and the smallest plan that fails likewise.
fn fail(seed: u64) -> ! {
    let plan = Plan::of(seed);
    let violation = simulate(&plan, false).violation.expect("a violation");
    let smallest = plan.shrink(|plan| {
        let found = simulate(plan, false).violation;
        found.is_some_and(|found| found.invariant == violation.invariant)
    });
    let report = simulate(&smallest, true);
    let trace = &report.trace[report.trace.len().saturating_sub(150)..];
    panic!(
        "seed {seed}: {:?}: {}\nreplay it: CASCADE_SEED={seed} cargo test -p cascade --test simulation seeds -- --nocapture\n\
         the smallest plan that fails likewise: {smallest:#?}\n{}\nit ends in: {:?}",
        violation.invariant,
        violation.what,
        trace.join("\n"),
        report.violation,
    );
}

/// One part of the seeds: the test runner's threads share them.
fn try_seeds(part: u64, parts: u64) {
    if let Some(seed) = number("CASCADE_SEED") {
        if part == 0 {
            let plan = Plan::of(seed);
            let report = simulate(&plan, true);
            println!("{plan:#?}\n{}", report.trace.join("\n"));
            if report.violation.is_some() {
                fail(seed);
            }
        }
        return;
    }
    let seeds = number("CASCADE_SEEDS").unwrap_or(SEEDS);
    let first = number("CASCADE_FIRST_SEED").unwrap_or(0);
    for seed in (first + part..first + seeds).step_by(usize::try_from(parts).unwrap_or(1)) {
        if simulate(&Plan::of(seed), false).violation.is_some() {
            fail(seed);
        }
    }
}

#[test]
fn what_has_to_hold_holds_for_even_seeds() {
    try_seeds(0, 2);
}

#[test]
fn what_has_to_hold_holds_for_odd_seeds() {
    try_seeds(1, 2);
}

#[test]
fn the_same_seed_leads_to_the_same_events() {
    for seed in 0..20 {
        let plan = Plan::of(seed);
        let (one, other) = (simulate(&plan, true).trace, simulate(&plan, true).trace);
        assert!(one.len() > 10, "{plan:?}");
        let differs = one.iter().zip(&other).position(|(one, other)| one != other);
        assert_eq!(differs.map(|line| (&one[line], &other[line])), None, "seed {seed}");
        assert_eq!(one.len(), other.len());
    }
}

#[test]
fn a_run_of_many_requests_takes_as_long_as_the_quota_asks_for() {
    for seed in 0..60 {
        let mut plan = Plan::of(seed);
        plan.faults
            .retain(|fault| [Fault::Changes, Fault::Reordering, Fault::Skew].contains(fault));
        plan.salespersons = 14;
        plan.branches = 3;
        plan.quota = plan.quota % 8 + 4;
        assert_eq!(simulate(&plan, false).violation, None, "{plan:?}");
    }
}
