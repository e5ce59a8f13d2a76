//! What fails, how often it is tried, and what the error then says.

use std::time::Duration;

use futures::future::join_all;
use shared::vendor::FetchError;
use tokio::net::TcpListener;
use tokio::time::Instant;
use url::Url;

use crate::scripted::{Reply, ScriptedVendor};
use crate::{Bench, permanent, transient};

/// How long a request may take where one is meant to take too long.
const IMPATIENT: Duration = Duration::from_millis(700);

/// A client that waits no longer than the fault needs.
fn bench(vendor: &ScriptedVendor, fault: &Reply) -> Bench {
    Bench::with(vendor, |settings| {
        if matches!(fault, Reply::Hang(_)) {
            settings.time_out = IMPATIENT;
        }
    })
}

/// Everything that can go wrong and pass again, and what the error says of it.
fn passing_faults() -> Vec<(Reply, &'static str)> {
    let body = r#"{"result": {"employee_id": 1235, "sales": []}}"#;
    let head = |length: usize| format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    let cut_short = format!("{}{}", head(body.len()), &body[..20]);
    vec![
        (
            Reply::with("500 Internal Server Error", "", "oh"),
            "500 Internal Server Error",
        ),
        (Reply::with("502 Bad Gateway", "", ""), "502 Bad Gateway"),
        (
            Reply::with("503 Service Unavailable", "", ""),
            "503 Service Unavailable",
        ),
        (Reply::with("504 Gateway Timeout", "", ""), "504 Gateway Timeout"),
        (Reply::with("408 Request Timeout", "", ""), "408 Request Timeout"),
        (Reply::Cut(Vec::new()), "connection closed"),
        (
            Reply::Cut(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
            "connection closed",
        ),
        (Reply::Cut(cut_short.clone().into()), "body"),
        (
            Reply::Cut(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"res\r\n".to_vec()),
            "body",
        ),
        (Reply::Cut(b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()), "error sending request"),
        (Reply::ok(&body[..20]), "the answer ends too early (20 bytes)"),
        (Reply::ok(""), "the answer ends too early (0 bytes)"),
        (
            Reply::ok("<html>down for maintenance</html>"),
            "the answer is not JSON (33 bytes)",
        ),
        (Reply::ok(b"{\"name\": \"\xff\"}"), "the answer is not JSON"),
        (
            Reply::ok(r#"{"error": "overloaded"}"#),
            r#"with an error: "overloaded""#,
        ),
        (Reply::Hang(Vec::new()), "no answer within"),
        (Reply::Hang(cut_short.into()), "the answer was not complete within"),
    ]
}

#[tokio::test]
async fn what_may_pass_is_tried_four_times_and_no_more() {
    let cases = passing_faults().into_iter().map(async |(fault, reason)| {
        let (what, reply) = (format!("{fault:?}"), fault.clone());
        let vendor = ScriptedVendor::start(move |_| reply.clone()).await;
        let bench = bench(&vendor, &fault);

        let (said, tries) = transient(bench.fetch().await);

        assert!(said.contains(reason), "{what}: {said}");
        assert!(!said.contains("1235") && !said.contains("127.0.0.1"), "{what}: {said}");
        assert_eq!((tries, bench.api_calls(), vendor.asked().len()), (4, 4, 4), "{what}");
    });
    join_all(cases).await;
}

#[tokio::test]
async fn what_passes_is_answered_and_every_try_is_counted() {
    let cases = passing_faults().into_iter().map(async |(fault, _)| {
        let what = format!("{fault:?}");
        let vendor = ScriptedVendor::saying([fault.clone(), Reply::ok("[1]")]).await;
        let bench = bench(&vendor, &fault);

        let pages = bench.pages().await;

        assert_eq!(pages.expect(&what), ["[1]"], "{what}");
        assert_eq!(bench.api_calls(), 2, "{what}");
    });
    join_all(cases).await;
}

#[tokio::test]
async fn a_vendor_that_is_not_there_is_tried_four_times_too() {
    let vendor = ScriptedVendor::saying([]).await;
    // A port that was free a moment ago, and that nobody listens on.
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let nobody = Url::parse(&format!("http://127.0.0.1:{port}")).unwrap();
    let bench = Bench::with(&vendor, |settings| settings.base_url = nobody);

    let (reason, tries) = transient(bench.fetch().await);

    assert!(reason.contains("refused"), "{reason}");
    assert_eq!((tries, bench.api_calls()), (4, 4));
}

#[tokio::test]
async fn what_no_further_try_can_mend_is_tried_once_and_repeats_what_the_vendor_said() {
    for status in [
        "400 Bad Request",
        "401 Unauthorized",
        "403 Forbidden",
        "404 Not Found",
        "410 Gone",
        "422 Unprocessable Entity",
        // Nothing was asked that could be unmodified, or have several representations.
        "304 Not Modified",
        "300 Multiple Choices",
    ] {
        let body = if status.starts_with("304") {
            ""
        } else {
            " no such employee\n"
        };
        let vendor = ScriptedVendor::saying([Reply::with(status, "", body)]).await;
        let bench = Bench::new(&vendor);

        let reason = permanent(bench.fetch().await);

        let separator = if body.is_empty() { "" } else { ": " };
        assert_eq!(
            reason,
            format!("the vendor answered {status}{separator}{}", body.trim())
        );
        assert_eq!((bench.api_calls(), vendor.asked().len()), (1, 1));
    }
}

#[tokio::test]
async fn a_long_refusal_is_repeated_in_part_and_a_slow_one_is_not_waited_for() {
    let long = ScriptedVendor::saying([Reply::with("404 Not Found", "", "é".repeat(100_000))]).await;
    let reason = permanent(Bench::new(&long).fetch().await);
    assert!(reason.ends_with('é') && reason.chars().count() < 350, "{reason}");

    let head = b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\nno such";
    let slow = ScriptedVendor::saying([Reply::Hang(head.to_vec())]).await;
    let reason = permanent(Bench::new(&slow).fetch().await);
    assert_eq!(reason, "the vendor answered 404 Not Found: no such");
}

#[tokio::test]
async fn json_of_another_shape_is_an_answer_and_judged_later() {
    for body in [r#"["not", "an", "error"]"#, r#"{"error": null}"#, "null"] {
        let vendor = ScriptedVendor::saying([Reply::ok(body)]).await;
        assert_eq!(Bench::new(&vendor).pages().await.unwrap(), [body]);
    }
}

#[tokio::test]
async fn nothing_is_sent_that_cannot_end_before_the_deadline() {
    let vendor = ScriptedVendor::start(|_| Reply::ok("{}")).await;
    let bench = Bench::with(&vendor, |settings| settings.time_out = Duration::from_secs(10))
        .with_time_left(Duration::from_secs(9));

    assert_eq!(bench.fetch().await.unwrap_err(), FetchError::OutOfTime);

    assert_eq!(bench.api_calls(), 0);
    assert!(vendor.asked().is_empty());
}

#[tokio::test]
async fn a_further_try_that_does_not_fit_before_the_deadline_is_left_to_the_message() {
    let vendor = ScriptedVendor::start(|_| Reply::with("500 Internal Server Error", "", "")).await;
    let bench = Bench::with(&vendor, |settings| settings.time_out = Duration::from_secs(10))
        .with_time_left(Duration::from_millis(10_200));
    let asked = Instant::now();

    let (reason, tries) = transient(bench.fetch().await);

    assert!(reason.contains("500"), "{reason}");
    assert_eq!((tries, vendor.asked().len()), (1, 1));
    assert!(asked.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn whoever_waits_for_the_next_try_is_told_to_stop() {
    let vendor = ScriptedVendor::start(|_| Reply::with("500 Internal Server Error", "", "")).await;
    let bench = Bench::new(&vendor);
    let stopping = async {
        while vendor.asked().is_empty() {
            tokio::task::yield_now().await;
        }
        bench.invocation.stop.cancel();
    };

    let (fetched, ()) = tokio::join!(bench.fetch(), stopping);

    assert_eq!(fetched.unwrap_err(), FetchError::OutOfTime);
    assert_eq!(vendor.asked().len(), 1);
}
