//! Messages that come twice, in another order, spoiled, or again and again.

use std::time::Duration;

use cascade::pipeline::{Stage, View};
use cascade::vendor::Fault;
use sales::SaleCollector;
use sales::lookback::Lookback;
use shared::collector::{Call, Handled, handle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::harness::{House, Setup};

#[tokio::test]
async fn messages_delivered_twice_and_in_any_order_leave_the_same_tables() {
    // given
    let house = House::start(Setup::small(31)).await;
    let (pipeline, view) = (house.pipeline(Lookback::hours(24)), View::default());
    let mut rng = fastrand::Rng::with_seed(31);
    let mut again = async |queue_url: &str| {
        let bodies: Vec<_> = house
            .take(queue_url)
            .await
            .into_iter()
            .map(|letter| letter.body)
            .collect();
        let mut twice = [bodies.clone(), bodies.clone()].concat();
        rng.shuffle(&mut twice);
        for body in &twice {
            house.send(queue_url, body).await;
        }
        bodies
    };
    // when each message of both queues comes twice, shuffled
    let branches = pipeline.invoke(Stage::Branches, "{}", &view).await;
    let employee_bodies = again(&house.places.employee_queue_url).await;
    let salespersons = pipeline.invoke(Stage::Salespersons, "{}", &view).await;
    let sale_bodies = again(&house.places.sale_queue_url).await;
    let sales = pipeline.invoke(Stage::Sales, "{}", &view).await;
    // then
    assert_eq!((employee_bodies.len(), sale_bodies.len()), (13, 26 * 2));
    for handled in [&branches, &salespersons, &sales] {
        assert!(handled.answer.is_ok(), "{handled:?}");
    }
    assert_eq!((salespersons.counts.done, sales.counts.done), (26, 26 * 4));
    let tables = house.tables().await;
    tables.assert_same(&house.expected());
    assert_eq!((sales.counts.inserted, sales.counts.updated), (130, 0));
    // and when all of it is redelivered, last to first
    let written = house.writes();
    for body in sale_bodies.iter().rev() {
        house.send(&house.places.sale_queue_url, body).await;
    }
    for body in employee_bodies.iter().rev() {
        house.send(&house.places.employee_queue_url, body).await;
    }
    let late = house.complete_run().await;
    // then nothing that is already right is written
    assert_eq!(house.writes(), written);
    assert_eq!(late.total().inserted + late.total().updated, 0);
    assert_eq!(house.tables().await, tables);
}

#[tokio::test]
async fn a_poison_message_becomes_a_dead_letter_with_its_reason_and_the_rest_is_done() {
    const RUN: &str = "2020-02-02T02:00:00Z";
    // given
    let house = House::start(Setup::small(32)).await;
    let unknown_branch = format!(r#"{{"branch_id":"99","run_id":"{RUN}"}}"#);
    let unknown_employee = format!(r#"{{"branch_id":"99","employee_id":7,"run_id":"{RUN}"}}"#);
    let to_employee_queue = ["no JSON", r#"{"branch":"1"}"#, r#"{"branch_id":true}"#, &unknown_branch];
    let to_sale_queue = ["[]", r#"{"employee_id":"1"}"#, &unknown_employee];
    for body in to_employee_queue {
        house.send(&house.places.employee_queue_url, body).await;
    }
    for body in to_sale_queue {
        house.send(&house.places.sale_queue_url, body).await;
    }
    // when
    let outcome = house.run().await;
    // then
    assert!(!outcome.is_complete());
    assert!(outcome.errors.is_empty(), "{outcome:#?}");
    assert_eq!(outcome.total().dead_lettered, 7);
    assert_eq!(outcome.dead_letters.values().sum::<u64>(), 7);
    assert_eq!(outcome.left.values().map(|depth| depth.all()).sum::<u64>(), 0);
    house.tables().await.assert_same(&house.expected());
    for (queue_url, bodies, reason) in [
        (
            &house.places.employee_dead_letter_queue_url,
            &to_employee_queue[..],
            "branchID",
        ),
        (
            &house.places.sale_dead_letter_queue_url,
            &to_sale_queue[..],
            "employeeID",
        ),
    ] {
        let mut letters = house.take(queue_url).await;
        assert_eq!(letters.len(), bodies.len());
        for body in bodies {
            let place = letters.iter().position(|letter| letter.body == *body);
            let letter = letters.swap_remove(place.expect("the body as it was sent"));
            let (said, run_id) = (letter.reason.expect("a reason"), letter.run_id.expect("a run"));
            if body.contains(RUN) {
                assert!(said.contains("404") && said.contains(reason), "{said}");
                assert_eq!(run_id, RUN, "the message's own run");
            } else {
                assert!(said.contains("the message is not as expected"), "{said}");
                assert_eq!(run_id, outcome.run_id);
            }
        }
    }
}

/// One poll that ends as soon as the queue is empty. Its time is so short that a request that fails is not tried
/// again within it.
async fn poll_once(house: &House, collector: &SaleCollector) -> Handled {
    let call = Call {
        request_id: "test".to_owned(),
        now: house.clock.now(),
        // 3 s are kept for settling, and a request must have its time-out.
        deadline: Instant::now() + Duration::from_secs(3) + house.setup.time_out + Duration::from_millis(400),
        stop: CancellationToken::new(),
    };
    handle(collector, "{}", call).await
}

#[tokio::test]
async fn a_message_that_fails_ten_times_is_dead_lettered_by_its_queue() {
    // given a salesperson whose sales the vendor never answers
    let setup = Setup {
        time_out: Duration::from_secs(2),
        ..Setup::small(33)
    };
    let house = House::start(setup).await;
    let people = house.salesperson_ids();
    let (failing, fine) = (&people[0], &people[1]);
    let faults = house
        .setup
        .faults
        .clone()
        .with_target("/sales", failing, Fault::Status(503), None);
    house.vendor.faults().set(faults).expect("faults");
    let body = |id: &str| format!(r#"{{"branch_id":"1","employee_id":"{id}"}}"#);
    for id in [failing, fine] {
        house.send(&house.places.sale_queue_url, &body(id)).await;
    }
    let collector = house.sale_collector(house.client(None), Duration::from_millis(900));
    // when it is polled for as often as its queue gives it
    let (mut receives, mut requests) = (0, 0);
    loop {
        let Handled { answer, counts, .. } = poll_once(&house, &collector).await;
        assert!(answer.is_ok(), "{answer:?}");
        requests += counts.api_calls;
        // A slow machine may be out of time before it begins: that is a receive, too.
        let came_to_nothing = counts.failed + counts.handed_back;
        if came_to_nothing == 0 {
            break;
        }
        receives += came_to_nothing;
        // The longest that a message is left alone.
        house.advance(Duration::from_secs(900));
    }
    // then
    assert_eq!(receives, 10);
    let letters = house.take(&house.places.sale_dead_letter_queue_url).await;
    assert_eq!(letters.len(), 1, "{letters:?}");
    assert_eq!(letters[0].body, body(failing));
    assert_eq!(letters[0].reason, None, "SQS has moved it, not the collector");
    let employees: Vec<_> = house
        .tables()
        .await
        .sales
        .into_keys()
        .map(|(_, employee)| employee)
        .collect();
    assert_eq!(employees, vec![fine.clone(); 5], "the other message is done");
    assert_eq!(house.vendor.stats().requests as u64, requests);
}

#[tokio::test]
async fn a_message_that_fails_for_a_while_is_done_in_the_same_run() {
    // given: more failures in a row than one receive has tries for
    let house = House::start(Setup::small(34)).await;
    let failing = house.salesperson_ids().remove(0);
    let faults = house
        .setup
        .faults
        .clone()
        .with_target("/sales", &failing, Fault::Status(500), Some(5));
    house.vendor.faults().set(faults).expect("faults");
    // when
    let outcome = house.complete_run().await;
    // then
    house.tables().await.assert_same(&house.expected());
    assert_eq!(outcome.total().failed, 1);
    assert!(
        outcome.skipped_seconds >= 15,
        "the simulated clock was moved on to its next try"
    );
}
