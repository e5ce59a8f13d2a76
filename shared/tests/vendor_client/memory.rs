//! What an answer takes of the function's memory.

use std::time::Duration;

use futures::FutureExt;
use tokio::time::timeout;

use crate::scripted::{Reply, ScriptedVendor};
use crate::{Bench, PATIENT, permanent};

/// A JSON string of so many bytes.
fn json(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

#[tokio::test]
async fn an_answer_that_does_not_fit_is_refused_whether_or_not_it_says_how_long_it_is() {
    let chunked = |bytes: usize| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        Reply::Bytes(format!("{head}{bytes:x}\r\n{}\r\n0\r\n\r\n", json(bytes)).into())
    };
    for (reply, fits) in [
        (Reply::ok(json(5000)), true),
        (Reply::ok(json(5001)), false),
        (chunked(5000), true),
        (chunked(5001), false),
        // It is refused by its length, before any of it has come.
        (
            Reply::Hang(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec()),
            false,
        ),
    ] {
        let vendor = ScriptedVendor::saying([reply]).await;
        let bench = Bench::with(&vendor, |settings| settings.max_answer_bytes = 5000);

        let fetched = bench.fetch().await;

        if fits {
            assert_eq!(fetched.unwrap().pages[0].len(), 5000);
        } else {
            assert!(permanent(fetched).contains("larger than the 5000 bytes"));
        }
        assert_eq!(bench.api_calls(), 1);
    }
}

#[tokio::test]
async fn all_pages_together_have_to_fit_and_a_try_that_failed_takes_nothing() {
    let first = Reply::page(&json(2000), "/2");
    let failed = Reply::ok("x".repeat(2900));
    for (last, fits) in [(2999, true), (3001, false)] {
        let vendor = ScriptedVendor::saying([first.clone(), failed.clone(), Reply::ok(json(last))]).await;
        let bench = Bench::with(&vendor, |settings| settings.max_answer_bytes = 5000);

        let fetched = bench.fetch().await;

        if fits {
            assert_eq!(fetched.unwrap().pages.len(), 2);
        } else {
            assert!(permanent(fetched).contains("larger than the 5000 bytes"));
        }
    }
}

#[tokio::test]
async fn of_two_large_answers_the_second_waits_for_the_first_to_be_worked_through() {
    // given an answer of 3 MB that is being worked on
    let large = json(3_000_000);
    let vendor = ScriptedVendor::start(move |asked| {
        if asked.target.ends_with("small") {
            Reply::ok("[1]")
        } else {
            Reply::ok(&large)
        }
    })
    .await;
    let bench = Bench::with(&vendor, |settings| settings.time_out = Duration::from_secs(1));
    let first = bench.ask("first").await.unwrap();

    // when another one is asked for, and is held up for longer than a request may take
    let mut second = bench.ask("second").boxed();
    let held_up = timeout(Duration::from_millis(1500), &mut second).await;

    // then it waits, while a small one does not
    assert!(held_up.is_err(), "{held_up:?}");
    assert_eq!(bench.ask("small").await.unwrap().pages[0], "[1]");
    // and comes complete once there is room, without another try
    drop(first);
    let second = timeout(PATIENT, second).await.unwrap().unwrap();
    assert_eq!(second.pages[0].len(), 3_000_000);
    assert_eq!(bench.api_calls(), 3);
}
