//! The vendor's quota, as the vendor sees it kept.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cascade::vendor::{Fault, Faults};
use shared::collector::{Call, handle};
use shared::queue::{DeadLetter, Message, Outbox, QueueError, WorkQueue};
use shared::tally::Counts;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::harness::{House, Setup};

#[tokio::test]
async fn requests_are_spread_evenly_and_retries_pay_like_any_other() {
    const QUOTA: u32 = 1_500;
    // given: one request each 40 ms, and some that fail
    let mut faults = Faults::default();
    faults.rates.server_error = 0.1;
    faults.rates.truncated_body = 0.1;
    let setup = Setup {
        salespersons: 4,
        quota: QUOTA,
        faults,
        ..Setup::small(51)
    };
    let house = House::start(setup).await;
    // when
    let outcome = house.complete_run().await;
    // then
    house.tables().await.assert_same(&house.expected());
    let stats = house.vendor.stats();
    assert!(stats.faults.values().sum::<usize>() >= 8, "{stats:?}");
    assert_eq!(stats.requests as u64, outcome.total().api_calls);
    assert_eq!(stats.answered_429, 0);
    assert!(stats.busiest_minute_of_all <= QUOTA as usize);
    // and the share of any shorter time is kept too, but for what a request can be late
    let at: Vec<_> = house.vendor.requests().into_iter().map(|request| request.at).collect();
    assert!(at.len() > 13 + 13 + 52, "{}", at.len());
    let late = Duration::from_millis(500);
    for (first, begin) in at.iter().enumerate() {
        for (last, end) in at.iter().enumerate().skip(first + 1) {
            let share = (*end - *begin + late).as_secs_f64() * f64::from(QUOTA) / 60.0;
            let requests = last - first + 1;
            assert!(
                requests as f64 <= share + 1.0,
                "{requests} requests within {:?}",
                *end - *begin
            );
        }
    }
}

#[tokio::test]
async fn a_fault_of_429_closes_the_vendor_for_everybody_until_its_time() {
    // given
    let house = House::start(Setup::small(52)).await;
    let faults = Faults {
        retry_after_seconds: 3,
        ..Faults::default()
    };
    let faults = faults.with_target("/branches", "Akron", Fault::TooManyRequests, Some(1));
    house.vendor.faults().set(faults).expect("faults");
    // when
    let outcome = house.complete_run().await;
    // then
    house.tables().await.assert_same(&house.expected());
    assert_eq!((outcome.total().api_throttles, outcome.total().failed), (1, 0));
    let requests = house.vendor.requests();
    let throttled = requests
        .iter()
        .position(|request| request.status == 429)
        .expect("a 429");
    let at = requests[throttled].at;
    // What was under way when the 429 was answered is 8 branches at the most.
    let hurried = requests[throttled + 1..]
        .iter()
        .filter(|request| request.at < at + Duration::from_secs(3));
    let hurried: Vec<_> = hurried.map(|request| request.at - at).collect();
    assert!(hurried.len() < 8, "{hurried:?}");
    assert!(
        hurried.iter().all(|after| *after < Duration::from_millis(500)),
        "{hurried:?}"
    );
}

/// A queue that notes how often each message had been received when it came.
struct Noting {
    queue: Arc<dyn WorkQueue>,
    receive_counts: Arc<Mutex<Vec<u32>>>,
}

#[async_trait]
impl Outbox for Noting {
    async fn send(&self, bodies: Vec<String>, delay: Duration) -> Result<(), QueueError> {
        self.queue.send(bodies, delay).await
    }
}

#[async_trait]
impl WorkQueue for Noting {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Message>, QueueError> {
        let messages = self.queue.receive(max, wait).await?;
        let mut counts = self.receive_counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.extend(messages.iter().map(|message| message.receive_count));
        Ok(messages)
    }

    async fn delete(&self, receipts: Vec<String>) -> Result<(), QueueError> {
        self.queue.delete(receipts).await
    }

    async fn make_visible_after(&self, receipts: Vec<(String, Duration)>) -> Result<(), QueueError> {
        self.queue.make_visible_after(receipts).await
    }

    async fn dead_letter(&self, letter: DeadLetter) -> Result<(), QueueError> {
        self.queue.dead_letter(letter).await
    }
}

/// Sends a sale message for each of the first eight salespersons, and polls in windows of 2 s until all are done.
/// Answers what was counted, and how often each message had been received when it came.
async fn poll_until_done(house: &House) -> (Counts, Vec<u32>) {
    let people = &house.salesperson_ids()[..8];
    for id in people {
        let body = format!(r#"{{"branch_id":"1","employee_id":"{id}"}}"#);
        house.send(&house.places.sale_queue_url, &body).await;
    }
    let mut collector = house.sale_collector(house.client(None), Duration::from_secs(2));
    let receive_counts = Arc::default();
    collector.sale_queue = Arc::new(Noting {
        queue: collector.sale_queue,
        receive_counts: Arc::clone(&receive_counts),
    });
    let mut counts = Counts::default();
    for _ in 0..60 {
        let call = Call {
            request_id: "test".to_owned(),
            now: house.clock.now(),
            deadline: Instant::now() + Duration::from_secs(900),
            stop: CancellationToken::new(),
        };
        let handled = handle(&collector, "{}", call).await;
        assert!(handled.answer.is_ok(), "{handled:?}");
        counts += handled.counts;
        if counts.done == people.len() as u64 {
            break;
        }
        // Copies that were handed on are visible again, and it is still the vendor's first hour. The quota goes by real
        // time, and so there is room to wait for.
        house.advance(Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let sales = house.tables().await.sales;
    for id in people {
        let of_person = sales.keys().filter(|(_, employee)| employee == id).count();
        assert_eq!(of_person, house.setup.sales, "{id}: {counts:?}");
    }
    assert_eq!(counts.done, people.len() as u64, "nothing is lost: {counts:?}");
    let receive_counts = receive_counts.lock().unwrap_or_else(PoisonError::into_inner).clone();
    (counts, receive_counts)
}

#[tokio::test]
async fn waiting_for_a_tiny_quota_uses_up_no_tries_and_loses_nothing() {
    // given four requests in a poll window, and a vendor that is closed for two of them
    let setup = Setup {
        quota: 120,
        ..Setup::small(53)
    };
    let house = House::start(setup).await;
    let faults = Faults {
        retry_after_seconds: 4,
        ..Faults::default()
    };
    let first = house.salesperson_ids().remove(0);
    let faults = faults.with_target("/sales", &first, Fault::TooManyRequests, Some(1));
    house.vendor.faults().set(faults).expect("faults");
    // when
    let (counts, receive_counts) = poll_until_done(&house).await;
    // then
    assert!(counts.deferred > 0, "{counts:?}");
    assert_eq!((counts.failed, counts.dead_lettered), (0, 0), "{counts:?}");
    assert_eq!(receive_counts.len() as u64, counts.done + counts.deferred);
    assert!(receive_counts.iter().all(|count| *count == 1), "{receive_counts:?}");
}

#[tokio::test]
async fn long_answers_are_finished_one_after_the_other_where_the_quota_has_no_place_for_all() {
    // given eight places in a poll window, and eight answers of three pages
    let setup = Setup {
        quota: 240,
        page_size: Some(2),
        ..Setup::small(54)
    };
    let house = House::start(setup).await;
    // when
    let (counts, receive_counts) = poll_until_done(&house).await;
    // then
    assert_eq!((counts.failed, counts.dead_lettered), (0, 0), "{counts:?}");
    assert!(receive_counts.iter().all(|count| *count == 1), "{receive_counts:?}");
    assert!(
        counts.api_calls < 2 * 8 * 3,
        "most of what was asked for was used: {counts:?}"
    );
}
