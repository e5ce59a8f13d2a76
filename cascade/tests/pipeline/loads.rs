//! What a load writes, and what it does not.

use std::time::{Duration, Instant};

use cascade::pipeline::Stage;
use sales::lookback::Lookback;

use crate::harness::{BRANCHES, House, Setup};

#[tokio::test]
async fn a_first_load_leaves_exactly_what_the_vendor_has() {
    // given
    let house = House::start(Setup::small(11)).await;
    // when
    let outcome = house.complete_run().await;
    // then
    house.tables().await.assert_same(&house.expected());
    let inserted = Stage::ALL.map(|stage| outcome.stage(stage).inserted);
    assert_eq!(inserted, [13, 26, 130]);
    assert_eq!(house.writes(), 13 + 26 + 130, "one write a row");
    let asked = house.vendor.stats();
    assert_eq!(asked.requests, 13 + 13 + 26, "{asked:?}");
    assert!(asked.duplicates.is_empty(), "{asked:?}");
}

#[tokio::test]
async fn an_unchanged_vendor_costs_no_write() {
    // given
    let house = House::start(Setup::small(12)).await;
    house.complete_run().await;
    let (tables, writes) = (house.tables().await, house.writes());
    // when: with the usual lookback, and looking at everything
    let usual = house.complete_run().await;
    let all = house.run_by(&house.pipeline(Lookback::ALL)).await;
    // then
    assert_eq!(house.writes(), writes);
    assert_eq!(house.tables().await, tables);
    assert_eq!(usual.total().inserted + usual.total().updated, 0);
    let sales = usual.stage(Stage::Sales);
    assert_eq!(sales.unchanged + sales.skipped, 130);
    assert!(all.is_complete(), "{all:#?}");
    assert_eq!(all.total().unchanged, 13 + 26 + 130);
}

#[tokio::test]
async fn an_answer_in_pages_leaves_the_same_tables() {
    // given: 8 employees a branch and 20 sales a salesperson
    let setup = Setup {
        sales: 20,
        page_size: Some(7),
        ..Setup::small(13)
    };
    let house = House::start(setup).await;
    // when
    let outcome = house.complete_run().await;
    // then
    house.tables().await.assert_same(&house.expected());
    assert_eq!(outcome.total().api_calls, 13 + 13 * 2 + 26 * 3);
    assert_eq!(house.vendor.stats().requests as u64, outcome.total().api_calls);
}

#[tokio::test]
async fn a_vendor_that_asks_for_a_key_is_answered_with_it() {
    const KEY: &str = "s3cret-of-the-paper-company";
    // given
    let setup = Setup {
        api_key: Some(KEY),
        ..Setup::small(14)
    };
    let house = House::start(setup).await;
    for wrong in [None, Some("another")] {
        // when
        let outcome = house.run_by(&house.pipeline_with_key(Lookback::hours(24), wrong)).await;
        // then: every branch is named as failed, nothing is written, the key is nowhere
        assert!(!outcome.is_complete());
        assert_eq!(outcome.errors.len(), 1, "{outcome:#?}");
        let error = &outcome.errors[0];
        assert!(error.contains("13 of 13 branches failed"), "{error}");
        assert!(error.contains("Scranton: ") && error.contains("401"), "{error}");
        assert!(!error.contains(KEY));
        assert_eq!(house.writes(), 0);
    }
    // and when
    house.complete_run().await;
    // then
    house.tables().await.assert_same(&house.expected());
    assert!(crate::harness::logged("branch failed", KEY).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_salesperson_of_100_000_sales_is_loaded_and_then_costs_no_write() {
    const MANY: usize = 100_000;
    // given: in files, where the embedded database has the index that it lacks in memory
    let data = tempfile::tempdir().expect("a directory");
    let setup = Setup {
        data: Some(data.path().to_owned()),
        salespersons: 1,
        sales: 1,
        heavy_salesperson: Some(MANY),
        time_out: Duration::from_secs(60),
        ..Setup::small(15)
    };
    let house = House::start(setup).await;
    let others = BRANCHES - 1;
    // when
    let began = Instant::now();
    let first = house.complete_run().await;
    println!(
        "first load: {:.1} s, {:?}",
        began.elapsed().as_secs_f64(),
        first.stage(Stage::Sales)
    );
    // then
    assert_eq!(first.stage(Stage::Sales).inserted, MANY as u64 + others);
    house.tables().await.assert_same(&house.expected());
    let writes = house.writes();
    // and when
    let began = Instant::now();
    let second = house.run_by(&house.pipeline(Lookback::hours(0))).await;
    println!(
        "second pass: {:.1} s, {:?}",
        began.elapsed().as_secs_f64(),
        second.stage(Stage::Sales)
    );
    // then
    assert!(second.is_complete(), "{second:#?}");
    assert_eq!(second.stage(Stage::Sales).unchanged, MANY as u64 + others);
    assert_eq!(house.writes(), writes);
    assert_eq!(house.vendor.stats().by_path["/sales"] as u64, 2 * BRANCHES);
}
