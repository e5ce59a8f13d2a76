//! Tests of the tests: each safeguard is broken on purpose, and the simulation has to find it, by the invariant that the
//! safeguard is for.

use crate::plan::{Fault, Plan, Sabotage};
use crate::sim::Invariant;
use crate::simulate;

/// How many seeds are tried at the most.
const SEEDS: u64 = 400;

/// How many for the condition of a row's write. It is a second line of defence: claims keep two from writing one id's rows at
/// once, and only where the state table failed one of them does the condition decide.
const SEEDS_BEHIND_CLAIMS: u64 = 6000;

/// Finds what a broken safeguard leads to: the first seed that it fails for, and by which invariant.
fn find(sabotage: Sabotage, faults: &[Fault]) -> (u64, Invariant) {
    let seeds = match sabotage {
        Sabotage::WriteWithoutCondition => SEEDS_BEHIND_CLAIMS,
        _ => SEEDS,
    };
    let found = (0..seeds).find_map(|seed| {
        let mut plan = Plan::of(seed);
        plan.faults.extend(faults);
        plan.sabotage = Some(sabotage);
        let violation = simulate(&plan, false).violation?;
        // It is the sabotage's doing.
        plan.sabotage = None;
        assert_eq!(simulate(&plan, false).violation, None, "{plan:?}");
        Some((seed, violation.invariant))
    });
    let (seed, invariant) = found.unwrap_or_else(|| panic!("{sabotage:?} is not found in {seeds} seeds"));
    println!("{sabotage:?} is found by {invariant:?} with seed {seed}");
    (seed, invariant)
}

macro_rules! sabotages {
    ($($name:ident: $sabotage:ident [$($fault:ident),*] => $($invariant:ident)|+;)*) => {
        $(
            #[test]
            fn $name() {
                let (seed, invariant) = find(Sabotage::$sabotage, &[$(Fault::$fault),*]);
                assert!(matches!(invariant, $(Invariant::$invariant)|+), "seed {seed}: {invariant:?}");
            }
        )*
    };
}

sabotages! {
    rows_written_without_their_condition_are_found:
        WriteWithoutCondition [StateErrors, Duplicates, Overlaps, Changes, Crowds] => Rows;
    a_message_deleted_as_it_is_received_is_found: DeleteOnReceive [] => Durability;
    a_delayed_copy_that_was_not_kept_is_found: LoseCopies [] => Durability;
    a_slot_promised_twice_is_found: DoubleSlots [Crowds] => Quota;
    an_id_claimed_twice_is_found: DoubleClaims [Duplicates, Crowds] => OncePerRun;
    claims_that_are_forgotten_are_found: ForgetClaims [] => OncePerRun;
    runs_that_are_forgotten_are_found: ForgetRuns [Duplicates] => OncePerRun;
    clocks_that_differ_by_more_than_is_assumed_are_found: Skew [] => Quota;
    a_message_lost_with_its_receiver_is_found: LoseWhatWasReceived [Crashes] => Durability;
    a_row_that_was_not_written_is_found: LoseWrites [] => Durability;
    a_message_that_was_not_sent_is_found: LoseSends [] => Durability;
    a_mark_that_was_not_made_is_found: LoseMarks [Departures] => Deletions;
    rosters_that_are_forgotten_are_found: ForgetRosters [] => Deletions;
}
