//! A run that ends in the middle, and the next one that completes it.

use std::time::Duration;

use futures::future::join_all;

use crate::command::{User, small_world};
use crate::harness::{House, Setup};
use crate::model::Tables;

/// How many requests the cloud has answered.
fn answered(house: &House) -> u64 {
    house.cloud.requests().values().sum()
}

/// Drops a run after a number of requests to the cloud drawn by `seed`, as if its process had been killed there, and
/// runs again. Answers whether the first run was cut short.
async fn kill_and_run_again(seed: u64, requests_of_a_run: u64) -> bool {
    // given
    let house = House::start(Setup::small(61)).await;
    let last = answered(&house) + fastrand::Rng::with_seed(seed).u64(1..requests_of_a_run);
    // when
    let killed = tokio::select! {
        outcome = house.run() => {
            assert!(outcome.is_complete(), "{outcome:#?}");
            false
        }
        () = async { while answered(&house) < last { tokio::time::sleep(Duration::from_millis(1)).await } } => true,
    };
    let before = house.tables().await;
    let outcome = house.run().await;
    // then
    assert!(outcome.is_complete(), "seed {seed}: {outcome:#?}");
    house.tables().await.assert_same(&house.expected());
    let (kept, rewritten) = rewritten(&before, &house.tables().await);
    assert_eq!(rewritten, 0, "seed {seed}: of {kept} rows that were right already");
    killed
}

/// How many rows of `before` are still there, and how many of them were written again.
fn rewritten(before: &Tables, after: &Tables) -> (usize, usize) {
    let kept = before
        .written
        .iter()
        .filter(|(key, _)| after.written.contains_key(*key));
    let again = before
        .written
        .iter()
        .filter(|(key, at)| after.written.get(*key).is_some_and(|now| now != *at));
    (kept.count(), again.count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_dropped_anywhere_and_run_again_leaves_the_same_tables() {
    // given an undisturbed run
    let house = House::start(Setup::small(61)).await;
    let before = answered(&house);
    house.complete_run().await;
    let requests_of_a_run = answered(&house) - before;
    house.tables().await.assert_same(&house.expected());
    // when / then
    let killed = join_all((0..10).map(|seed| kill_and_run_again(seed, requests_of_a_run))).await;
    let killed = killed.into_iter().filter(|killed| *killed).count();
    assert!(killed >= 7, "only {killed} of 10 were cut short");
}

/// What an undisturbed run of the command leaves.
fn undisturbed() -> Tables {
    Tables::after_first_load(&small_world())
}

fn messages_done(log: &[serde_json::Value]) -> u64 {
    log.iter().filter(|line| line["message"] == "message done").count() as u64
}

#[tokio::test]
async fn the_command_killed_anywhere_and_run_again_leaves_the_same_tables() {
    // given an undisturbed run
    let user = User::new();
    user.run(&["--quota", "6000"]).assert_status(0);
    user.tables().await.assert_same(&undisturbed());
    for seed in [3, 4] {
        let user = User::new();
        let messages = fastrand::Rng::with_seed(seed).u64(3..30);
        // when it is killed after some of its 39 messages
        let run = user.start_run(&["--quota", "6000"]);
        user.wait_for_log(|log| messages_done(log) >= messages);
        run.signal("KILL");
        let killed = run.end();
        assert_eq!(killed.status, None, "seed {seed}: no status, but a signal: {killed:?}");
        let again = user.run(&["--quota", "6000", "--frozen", "--json"]);
        // then
        again.assert_status(0);
        assert_eq!(again.json()["complete"], true, "seed {seed}");
        user.tables().await.assert_same(&undisturbed());
    }
}

#[tokio::test]
async fn a_run_that_is_interrupted_says_what_is_left_and_the_next_one_completes_it() {
    for (signal, json) in [("INT", true), ("TERM", false)] {
        // given a run whose branches are done, and nothing else
        let user = User::new();
        let format = if json { &["--json"][..] } else { &[] };
        let run = user.start_run(&[&["--quota", "600"], format].concat());
        user.wait_for_log(|log| log.iter().any(|line| line["message"] == "invocation done"));
        // when
        run.signal(signal);
        let run = run.end();
        // then
        run.assert_status(1);
        if json {
            let report = run.json();
            assert_eq!(
                (&report["complete"], &report["runs"][0]["interrupted"]),
                (&false.into(), &true.into())
            );
            let left = &report["runs"][0]["outcome"]["left"];
            let left = ["employee-queue-local", "sale-queue-local"].map(|queue| left[queue]["waiting"].as_u64());
            assert!(left.iter().flatten().sum::<u64>() > 0, "{report:#}");
        } else {
            assert!(run.stdout.contains("Incomplete: it was interrupted."), "{}", run.stdout);
            let left = "messages are left in employee-queue-local; the next run takes them up.";
            assert!(run.stdout.contains(left), "{}", run.stdout);
        }
        // and when it is run again
        let again = user.run(&["--quota", "60000", "--frozen"]);
        // then
        again.assert_status(0);
        user.tables().await.assert_same(&undisturbed());
    }
}
