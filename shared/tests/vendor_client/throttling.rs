//! The vendor's quota: what a request pays, and what follows from 429.

use std::time::Duration;

use futures::future::join_all;
use shared::vendor::FetchError;
use tokio::time::Instant;

use crate::Bench;
use crate::scripted::{Reply, ScriptedVendor};

fn throttled(headers: &str) -> Reply {
    Reply::with("429 Too Many Requests", headers, "slow down")
}

#[tokio::test]
async fn a_429_is_waited_out_as_it_says_and_never_less_than_the_floor() {
    let seconds = Duration::from_secs;
    let cases = [
        ("Retry-After: 2\r\n", seconds(2)),
        // Two seconds after the clock's start, which is a little earlier than the answer.
        (
            "Retry-After: Sat, 21 Nov 2026 01:00:02 GMT\r\n",
            Duration::from_millis(1500),
        ),
        ("", seconds(1)),
        ("Retry-After: 0\r\n", seconds(1)),
        ("Retry-After: Sat, 21 Nov 2026 00:00:00 GMT\r\n", seconds(1)),
        ("Retry-After: soon\r\n", seconds(1)),
    ];
    let cases = cases.map(async |(headers, least)| {
        let vendor = ScriptedVendor::saying([throttled(headers), Reply::ok("[1]")]).await;
        let bench = Bench::new(&vendor);
        let asked = Instant::now();

        let pages = bench.pages().await;

        assert_eq!(pages.unwrap(), ["[1]"], "{headers:?}");
        let waited = asked.elapsed();
        assert!(
            waited >= least && waited < least + seconds(10),
            "{headers:?}: {waited:?}"
        );
        let counts = bench.invocation.tally.counts();
        assert_eq!((counts.api_calls, counts.api_throttles), (2, 1), "{headers:?}");
        assert!(u128::from(counts.quota_wait_ms) + 50 >= least.as_millis(), "{counts:?}");
    });
    join_all(cases).await;
}

#[tokio::test]
async fn the_floor_grows_with_each_429_in_a_row_and_none_of_them_is_a_failed_try() {
    let replies = [throttled(""), throttled("Retry-After: 0\r\n"), Reply::ok("[1]")];
    let vendor = ScriptedVendor::saying(replies).await;
    let bench = Bench::new(&vendor);
    let asked = Instant::now();

    assert_eq!(bench.pages().await.unwrap(), ["[1]"]);

    assert!(asked.elapsed() >= Duration::from_secs(3), "{:?}", asked.elapsed());
    assert_eq!(bench.invocation.tally.counts().api_throttles, 2);
}

#[tokio::test]
async fn a_wait_that_does_not_fit_is_answered_at_once_and_holds_for_everybody() {
    for (headers, least, most) in [
        ("Retry-After: 30\r\n", 29, 31),
        ("Retry-After: Sat, 21 Nov 2026 01:30:00 GMT\r\n", 1790, 1801),
    ] {
        // given
        let vendor = ScriptedVendor::start(move |_| throttled(headers)).await;
        let mut bench = Bench::new(&vendor);
        bench.quota_until = Instant::now() + Duration::from_secs(10);
        let asked = Instant::now();

        // when the one who is refused, and another one after it, ask
        let answers = [bench.ask("1").await, bench.ask("2").await];

        // then
        for answer in answers {
            let Err(FetchError::Quota { wait }) = answer else {
                panic!("expected a wait, got {answer:?}");
            };
            let range = Duration::from_secs(least)..=Duration::from_secs(most);
            assert!(range.contains(&wait), "{wait:?}");
        }
        assert!(asked.elapsed() < Duration::from_secs(5));
        assert_eq!((bench.api_calls(), vendor.asked().len()), (1, 1));
    }
}

#[tokio::test]
async fn a_retry_after_beyond_all_bounds_is_a_wait_and_no_crash() {
    let headers = "Retry-After: 99999999999999999999999999\r\n";
    let vendor = ScriptedVendor::start(move |_| throttled(headers)).await;
    let answer = Bench::new(&vendor).fetch().await;
    assert!(matches!(answer, Err(FetchError::Quota { .. })), "{answer:?}");
}

#[tokio::test]
async fn pages_redirects_and_further_tries_pay_to_the_quota_like_any_request() {
    // given a quota of one request in about 100 ms
    let vendor = ScriptedVendor::saying([
        Reply::redirect("302 Found", "/1"),
        Reply::page("[1]", "/2"),
        Reply::page("[2]", "/3"),
        Reply::with("500 Internal Server Error", "", ""),
        Reply::ok("[3]"),
    ])
    .await;
    let bench = Bench::with_quota(&vendor, 600);
    let asked = Instant::now();

    // when
    let pages = bench.pages().await;

    // then
    assert_eq!(pages.unwrap().len(), 3);
    assert_eq!(bench.api_calls(), 5);
    // Three waits for the quota; the fourth is part of the back-off, which is at least 250 ms.
    let least = Duration::from_millis(3 * 101 + 250);
    assert!(asked.elapsed() >= least, "{:?}", asked.elapsed());
    assert!(bench.invocation.tally.counts().quota_wait_ms >= 250);
}

#[tokio::test]
async fn requests_made_at_once_share_one_quota() {
    let vendor = ScriptedVendor::start(|_| Reply::ok("{}")).await;
    let bench = Bench::with_quota(&vendor, 600);
    let asked = Instant::now();

    let answers = join_all(["1", "2", "3", "4"].map(|id| bench.ask(id))).await;

    assert!(answers.iter().all(Result::is_ok));
    assert!(
        asked.elapsed() >= Duration::from_millis(3 * 101),
        "{:?}",
        asked.elapsed()
    );
}

#[tokio::test]
async fn whoever_waits_for_the_quota_is_told_to_stop() {
    let vendor = ScriptedVendor::start(|_| throttled("Retry-After: 60\r\n")).await;
    let bench = Bench::new(&vendor);
    let stopping = async {
        while bench.invocation.tally.counts().api_throttles == 0 {
            tokio::task::yield_now().await;
        }
        bench.invocation.stop.cancel();
    };

    let (fetched, ()) = tokio::join!(bench.fetch(), stopping);

    assert_eq!(fetched.unwrap_err(), FetchError::OutOfTime);
    assert_eq!(bench.api_calls(), 1);
}
