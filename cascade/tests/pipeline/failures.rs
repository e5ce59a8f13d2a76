//! Everything that the vendor can do wrong, and what is left of it in the tables.

use std::collections::BTreeSet;
use std::time::Duration;

use cascade::pipeline::Stage;
use cascade::vendor::{BadRecord, Fault, FaultRates, Faults};
use futures::future::join_all;
use sales::lookback::Lookback;

use crate::harness::{House, Setup, logged};

/// A vendor that is too slow by half where it is told to be slow.
fn impatient(setup: Setup) -> Setup {
    Setup {
        time_out: Duration::from_secs(2),
        ..setup
    }
}

const SLOW_FOR_MS: u64 = 3_000;

/// Faults that hit one request of each path twice.
async fn run_with_fault_on_each_path(fault: Fault, seed: u64) {
    // given
    let house = House::start(impatient(Setup::small(seed))).await;
    let (branch_id, employee_id) = {
        let world = house.vendor.world();
        (
            world.expected_branches()[3].id.clone(),
            world.expected_salespersons()[4].id.clone(),
        )
    };
    let faults = Faults {
        slow_for_ms: SLOW_FOR_MS,
        ..Faults::default()
    }
    .with_target("/branches", "New York", fault, Some(2))
    .with_target("/employees", &branch_id, fault, Some(2))
    .with_target("/sales", &employee_id, fault, Some(2));
    house.vendor.faults().set(faults).expect("faults");
    // when
    let outcome = house.run().await;
    // then
    assert!(outcome.is_complete(), "{fault:?}: {outcome:#?}");
    house.tables().await.assert_same(&house.expected());
    assert_eq!(house.vendor.stats().faults[fault.name()], 6, "{fault:?}");
    assert_eq!(outcome.total().failed, 0, "{fault:?}: tries inside the call are enough");
    assert_eq!(
        outcome.total().api_calls,
        13 + 13 + 26 + 6,
        "{fault:?}: every try is counted"
    );
    let throttles = if fault == Fault::TooManyRequests { 6 } else { 0 };
    assert_eq!(outcome.total().api_throttles, throttles, "{fault:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_alone_costs_a_retry_and_nothing_else() {
    let faults = [
        Fault::TooManyRequests,
        Fault::Status(500),
        Fault::Status(502),
        Fault::Status(503),
        Fault::Status(504),
        Fault::Slow,
        Fault::CutConnection,
        Fault::TruncatedBody,
        Fault::ErrorBody,
        Fault::NotJson,
    ];
    join_all(
        faults
            .into_iter()
            .zip(410..)
            .map(|(fault, seed)| run_with_fault_on_each_path(fault, seed)),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_faults_at_once_lose_nothing_but_bad_records_and_those_only_until_the_next_run() {
    // given
    let each = 0.04;
    let rates = FaultRates {
        too_many_requests: each,
        server_error: each,
        slow: each,
        cut_connection: each,
        truncated_body: each,
        error_body: each,
        not_json: each,
        bad_record: 2.0 * each,
    };
    let setup = Setup {
        salespersons: 4,
        faults: Faults {
            rates,
            slow_for_ms: SLOW_FOR_MS,
            ..Faults::default()
        },
        ..impatient(Setup::small(42))
    };
    let house = House::start(setup).await;
    // when
    let outcome = house.run().await;
    // then every kind has struck, and only what was spoiled is missing
    let kinds: Vec<_> = house.vendor.stats().faults.into_keys().collect();
    assert_eq!(
        kinds,
        [
            "bad_record",
            "cut_connection",
            "error_body",
            "not_json",
            "slow",
            "status",
            "too_many_requests",
            "truncated_body"
        ]
    );
    assert!(outcome.is_complete(), "{outcome:#?}");
    let (mut spoiled, mut without_id) = (BTreeSet::new(), BTreeSet::new());
    for request in house.vendor.requests() {
        if let (Some(Fault::BadRecord(kind)), Some(id)) = (request.fault, request.spoiled_record) {
            if matches!(kind, BadRecord::MissingId | BadRecord::IdOfWrongType) {
                without_id.insert(id.clone());
            }
            spoiled.insert(id);
        }
    }
    assert_eq!(outcome.total().rejected, spoiled.len() as u64);
    let mut expected = house.expected();
    // Nobody can ask for what belongs to a record without a usable id.
    for (employee, branch) in expected.salespersons.keys() {
        if without_id.contains(branch) {
            spoiled.insert(employee.clone());
            without_id.insert(employee.clone());
        }
    }
    expected.branches.retain(|(id, _), _| !spoiled.contains(id));
    expected.salespersons.retain(|(id, _), _| !spoiled.contains(id));
    expected
        .sales
        .retain(|(id, employee), _| !spoiled.contains(id) && !without_id.contains(employee));
    house.tables().await.assert_same(&expected);
    // and when the vendor has a better day
    house.vendor.faults().set(Faults::default()).expect("no faults");
    let outcome = house.run_by(&house.pipeline(Lookback::ALL)).await;
    // then
    assert!(outcome.is_complete(), "{outcome:#?}");
    assert_eq!(outcome.total().rejected, 0);
    house.tables().await.assert_same(&house.expected());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_5200_sales_an_answer_truncated_with_status_200_loses_none() {
    // given
    let house = House::start(Setup::usual(43)).await;
    let people = house.salesperson_ids();
    let faults = Faults::default().with_target("/sales", &people[50], Fault::TruncatedBody, Some(1));
    house.vendor.faults().set(faults).expect("faults");
    // when
    let outcome = house.complete_run().await;
    // then
    let truncated: Vec<_> = house
        .vendor
        .requests()
        .into_iter()
        .filter(|request| request.fault.is_some())
        .collect();
    assert_eq!((truncated.len(), truncated[0].status), (1, 200));
    let tables = house.tables().await;
    assert_eq!(tables.sales.len(), 5_200);
    tables.assert_same(&house.expected());
    assert_eq!(outcome.total().rejected, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_5200_sales_a_bad_one_is_named_and_the_other_5199_are_there() {
    // given
    let house = House::start(Setup::usual(44)).await;
    let people = house.salesperson_ids();
    let bad = Fault::BadRecord(BadRecord::TooManyDigits);
    let faults = Faults::default().with_target("/sales", &people[50], bad, Some(1));
    house.vendor.faults().set(faults).expect("faults");
    // when
    let outcome = house.complete_run().await;
    // then
    assert_eq!(outcome.total().rejected, 1);
    let spoiled: Vec<_> = house
        .vendor
        .requests()
        .into_iter()
        .filter_map(|request| request.spoiled_record)
        .collect();
    assert_eq!(spoiled.len(), 1);
    let mut expected = house.expected();
    let key = (spoiled[0].clone(), people[50].clone());
    assert!(expected.sales.remove(&key).is_some(), "{key:?}");
    let tables = house.tables().await;
    assert_eq!(tables.sales.len(), 5_199);
    tables.assert_same(&expected);
    let lines = logged("record rejected", &key.0);
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(
        (&lines[0]["record"], &lines[0]["employee_id"]),
        (&key.0.into(), &key.1.into())
    );
    assert_eq!(lines[0]["run_id"], outcome.run_id);
    let reason = lines[0]["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("ledger_position") && reason.contains("40 significant digits"),
        "{reason}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_5200_sales_a_salespersons_404_leaves_the_other_5150_and_a_letter_that_names_him() {
    // given
    let house = House::start(Setup::usual(45)).await;
    let lost = house.salesperson_ids().swap_remove(50);
    let faults = Faults::default().with_target("/sales", &lost, Fault::Status(404), None);
    house.vendor.faults().set(faults).expect("faults");
    // when
    let outcome = house.run().await;
    // then
    assert!(!outcome.is_complete());
    assert_eq!((outcome.total().dead_lettered, outcome.total().failed), (1, 0));
    let mut expected = house.expected();
    expected.sales.retain(|(_, employee), _| *employee != lost);
    let tables = house.tables().await;
    assert_eq!(tables.sales.len(), 5_150);
    tables.assert_same(&expected);
    let letters = house.take(&house.places.sale_dead_letter_queue_url).await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    let body: serde_json::Value = serde_json::from_str(&letters[0].body).expect("JSON");
    assert_eq!(
        (&body["employee_id"], &body["run_id"]),
        (&lost.as_str().into(), &outcome.run_id.as_str().into())
    );
    assert_eq!(letters[0].run_id.as_ref(), Some(&outcome.run_id));
    let reason = letters[0].reason.as_deref().unwrap_or_default();
    assert!(reason.contains("404"), "{reason}");
    // and when the vendor finds him, the letter redriven is all it takes
    house.vendor.faults().set(Faults::default()).expect("no faults");
    house.send(&house.places.sale_queue_url, &letters[0].body).await;
    house.complete_run().await;
    house.tables().await.assert_same(&house.expected());
}

#[tokio::test]
async fn a_bad_record_of_any_kind_costs_only_itself() {
    // given one of each kind, each in another salesperson's answer, and a bad branch and a bad salesperson
    let house = House::start(Setup::small(46)).await;
    let people = house.salesperson_ids();
    let branch_id = house.vendor.world().expected_branches()[7].id.clone();
    let kinds = [
        BadRecord::MissingId,
        BadRecord::IdOfWrongType,
        BadRecord::UnreadableTimestamp,
        BadRecord::TooManyDigits,
    ];
    let mut faults = Faults::default()
        .with_target("/branches", "Utica", Fault::BadRecord(BadRecord::TooManyDigits), None)
        .with_target(
            "/employees",
            &branch_id,
            Fault::BadRecord(BadRecord::TooManyDigits),
            None,
        );
    for (person, kind) in people.iter().zip(kinds) {
        faults = faults.with_target("/sales", person, Fault::BadRecord(kind), None);
    }
    house.vendor.faults().set(faults).expect("faults");
    // when
    let outcome = house.complete_run().await;
    // then
    let spoiled: Vec<_> = house
        .vendor
        .requests()
        .into_iter()
        .filter_map(|request| request.spoiled_record)
        .collect();
    assert_eq!(spoiled.len(), 2 + kinds.len());
    let rejected = Stage::ALL.map(|stage| outcome.stage(stage).rejected);
    assert_eq!(rejected, [1, 1, 4]);
    let mut expected = house.expected();
    expected.branches.retain(|(id, _), _| !spoiled.contains(id));
    expected.salespersons.retain(|(id, _), _| !spoiled.contains(id));
    expected.sales.retain(|(id, _), _| !spoiled.contains(id));
    // A branch or salesperson that cannot be stored still has employees and sales.
    let tables = house.tables().await;
    assert_eq!(
        [tables.branches.len(), tables.salespersons.len(), tables.sales.len()],
        [12, 25, 126]
    );
    tables.assert_same(&expected);
}

#[tokio::test]
async fn refusals_are_dead_letters_at_once_and_a_failed_branch_is_named() {
    // given
    let house = House::start(Setup::small(47)).await;
    let people = house.salesperson_ids();
    let statuses = [400, 401, 403, 404, 410, 422];
    let mut faults = Faults::default().with_target("/branches", "Nashua", Fault::Status(403), None);
    for (person, status) in people.iter().zip(statuses) {
        faults = faults.with_target("/sales", person, Fault::Status(status), None);
    }
    house.vendor.faults().set(faults).expect("faults");
    // when
    let outcome = house.run().await;
    // then
    let (nashua, of_nashua) = {
        let world = house.vendor.world();
        let branch = world
            .expected_branches()
            .into_iter()
            .find(|branch| branch.name == "Nashua")
            .expect("Nashua");
        let people = world
            .expected_salespersons()
            .into_iter()
            .filter(|person| person.branch_id == branch.id);
        let people: BTreeSet<_> = people.map(|person| person.id).collect();
        (branch.id, people)
    };
    assert_eq!(outcome.errors.len(), 1, "{outcome:#?}");
    assert!(
        outcome.errors[0].contains("1 of 13 branches failed: Nashua: "),
        "{:?}",
        outcome.errors
    );
    let refused: BTreeSet<_> = people[..statuses.len()]
        .iter()
        .filter(|person| !of_nashua.contains(*person))
        .collect();
    assert_eq!(outcome.total().dead_lettered, refused.len() as u64);
    let letters = house.take(&house.places.sale_dead_letter_queue_url).await;
    assert_eq!(letters.len(), refused.len());
    for (person, status) in people
        .iter()
        .zip(statuses)
        .filter(|(person, _)| refused.contains(person))
    {
        let letter = letters
            .iter()
            .find(|letter| letter.body.contains(person.as_str()))
            .expect("a letter");
        let reason = letter.reason.as_deref().unwrap_or_default();
        assert!(reason.contains(&status.to_string()), "{reason}");
    }
    let twice = &house.vendor.stats().duplicates;
    assert!(twice.is_empty(), "nobody is asked again: {twice:?}");
    let mut expected = house.expected();
    expected.branches.retain(|(id, _), _| *id != nashua);
    expected.salespersons.retain(|(id, _), _| !of_nashua.contains(id));
    expected
        .sales
        .retain(|(_, employee), _| !of_nashua.contains(employee) && !refused.contains(employee));
    house.tables().await.assert_same(&expected);
}
