//! What is asked, and how an answer is put together: queries, pages, redirects.

use std::time::Duration;

use shared::vendor::{Query, Vendor};
use url::Url;

use crate::scripted::{Reply, ScriptedVendor};
use crate::{Bench, NOW, permanent};

#[tokio::test]
async fn an_id_arrives_as_it_is_whatever_characters_it_has() {
    let vendor = ScriptedVendor::start(|_| Reply::ok("{}")).await;
    let bench = Bench::new(&vendor);
    let ids = [
        "1235",
        "a b",
        "a&employeeID=2",
        "a/b?c#d",
        "50%+1",
        "Zoë 🙂",
        "..",
        "\"'<>\\",
    ];

    for id in ids {
        bench.ask(id).await.unwrap();
    }

    for (id, target) in ids.into_iter().zip(vendor.targets()) {
        assert!(target.is_ascii() && !target.contains('#'), "{target}");
        let url = Url::parse("http://vendor.test").unwrap().join(&target).unwrap();
        let query: Vec<_> = url.query_pairs().into_owned().collect();
        assert_eq!(url.path(), "/sales");
        assert_eq!(query, [("employeeID".to_owned(), id.to_owned())]);
    }
}

#[tokio::test]
async fn a_base_url_may_have_a_path_with_or_without_a_slash_at_its_end() {
    for (base, target) in [
        ("", "/branches?branch=New+York"),
        ("/", "/branches?branch=New+York"),
        ("/api/v1", "/api/v1/branches?branch=New+York"),
        ("/api/v1/", "/api/v1/branches?branch=New+York"),
    ] {
        let vendor = ScriptedVendor::saying([Reply::ok("{}")]).await;
        let bench = Bench::with(&vendor, |settings| settings.base_url = vendor.url(base));
        let query = Query::Branch("New York".to_owned());

        bench
            .client
            .fetch(&query.into(), &bench.invocation, bench.quota_until)
            .await
            .unwrap();

        assert_eq!(vendor.targets(), [target], "{base:?}");
    }
}

#[tokio::test]
async fn a_request_says_what_it_takes_and_asks_for_the_whole_answer() {
    let vendor = ScriptedVendor::saying([Reply::ok("{}")]).await;
    Bench::new(&vendor).fetch().await.unwrap();
    let asked = &vendor.asked()[0];
    assert!(asked.head.starts_with("GET "));
    assert_eq!(asked.header("Accept"), Some("application/json"));
    assert!(asked.header("User-Agent").unwrap().starts_with("cascade/"));
    for absent in ["Authorization", "If-None-Match", "Accept-Encoding"] {
        assert_eq!(asked.header(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn one_connection_serves_one_request_after_the_other() {
    let vendor = ScriptedVendor::saying([Reply::page("{}", "/2"), Reply::ok("{}"), Reply::ok("{}")]).await;
    let bench = Bench::new(&vendor);
    for _ in 0..2 {
        bench.fetch().await.unwrap();
    }
    assert_eq!(vendor.asked().len(), 3);
    assert!(vendor.asked().iter().all(|asked| asked.connection == 0));
}

#[tokio::test]
async fn pages_are_followed_in_order_by_absolute_and_by_relative_links() {
    // given
    let vendor = ScriptedVendor::start(|asked| {
        let origin = format!("http://{}", asked.header("Host").unwrap());
        match asked.place {
            0 => Reply::page("[0]", &format!("{origin}/sales?employeeID=1235&page=1")),
            1 => Reply::page("[1]", "?cursor=a%2Fb&page=2"),
            2 => Reply::page("[2]", "/elsewhere/3"),
            3 => Reply::with(
                "200 OK",
                "Link: </x>; rel=\"prev\", <y>; rel=last\r\nlink: </z>; title=\"a, b\"; rel=\"prefetch NEXT\"\r\n",
                "[3]",
            ),
            _ => Reply::with("200 OK", "Link: </first>; rel=\"first\"\r\n", "[4]"),
        }
    })
    .await;
    let bench = Bench::new(&vendor);

    // when
    let pages = bench.pages().await;

    // then
    assert_eq!(pages.unwrap(), ["[0]", "[1]", "[2]", "[3]", "[4]"]);
    assert_eq!(
        vendor.targets(),
        [
            "/sales?employeeID=1235",
            "/sales?employeeID=1235&page=1",
            "/sales?cursor=a%2Fb&page=2",
            "/elsewhere/3",
            "/z"
        ]
    );
    assert_eq!(bench.api_calls(), 5);
}

#[tokio::test]
async fn an_answer_is_as_old_as_its_first_page() {
    // given a vendor whose first try fails, and a second page that comes a minute after the first
    let vendor = ScriptedVendor::saying([
        Reply::with("503 Service Unavailable", "", ""),
        Reply::page("{}", "/2"),
        Reply::with("503 Service Unavailable", "", ""),
        Reply::ok("{}"),
    ])
    .await;
    let bench = Bench::new(&vendor);
    let before = bench.clock.now();

    // when
    let answer = bench.fetch().await.unwrap();

    // then it was asked for after the first back-off and before the second, each of which is at least 250 ms
    let (age, whole) = (answer.fetched_at - before, bench.clock.now() - before);
    assert!(answer.fetched_at > NOW);
    assert!(age >= Duration::from_millis(250), "{age}");
    assert!(whole - age >= Duration::from_millis(250), "{whole} {age}");
}

#[tokio::test]
async fn an_answer_has_a_thousand_pages_at_most() {
    let paged = |last: usize| {
        ScriptedVendor::start(move |asked| {
            if asked.place + 1 == last {
                Reply::ok("{}")
            } else {
                Reply::page("{}", &format!("/sales?page={}", asked.place + 2))
            }
        })
    };
    let (allowed, too_many) = (paged(1000).await, paged(1001).await);
    let (bench, other) = (Bench::new(&allowed), Bench::new(&too_many));

    let (all, refused) = tokio::join!(bench.fetch(), other.fetch());

    assert_eq!(all.unwrap().pages.len(), 1000);
    assert_eq!(permanent(refused), "the answer has more than 1000 pages");
    assert_eq!((bench.api_calls(), other.api_calls()), (1000, 1000));
    assert_eq!(too_many.asked().len(), 1000);
}

#[tokio::test]
async fn a_next_page_or_a_redirect_to_another_origin_is_final_and_is_not_called() {
    let elsewhere = ScriptedVendor::start(|_| Reply::ok("{}")).await;
    let target = elsewhere.url("/sales?secret=1").to_string();
    let other_scheme = target.replace("http://", "https://");
    for reply in [
        Reply::page("{}", &target),
        Reply::page("{}", &target.replace("http:", "")),
        Reply::page("{}", &other_scheme),
        Reply::redirect("302 Found", &target),
        Reply::redirect("308 Permanent Redirect", &target.replace("http:", "")),
        Reply::redirect("301 Moved Permanently", "file:///etc/passwd"),
    ] {
        let vendor = ScriptedVendor::saying([reply]).await;
        let bench = Bench::new(&vendor);

        let reason = permanent(bench.fetch().await);

        assert!(reason.contains("another origin"), "{reason}");
        assert!(!reason.contains("secret"), "{reason}");
        assert_eq!((bench.api_calls(), vendor.asked().len()), (1, 1));
    }
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn a_link_that_cannot_be_read_is_no_last_page() {
    for link in ["Link: /2; rel=next\r\n", "Link: </2; rel=\"next\"\r\n"] {
        let vendor = ScriptedVendor::saying([Reply::with("200 OK", link, "{}")]).await;
        let reason = permanent(Bench::new(&vendor).fetch().await);
        assert!(reason.contains("Link header"), "{reason}");
    }
}

#[tokio::test]
async fn a_failing_second_page_is_tried_again_alone() {
    let vendor = ScriptedVendor::saying([
        Reply::page("[1]", "/2"),
        Reply::with("500 Internal Server Error", "", ""),
        Reply::page("[2]", "/3"),
        Reply::ok("[3]"),
    ])
    .await;
    let bench = Bench::new(&vendor);

    let pages = bench.pages().await;

    assert_eq!(pages.unwrap(), ["[1]", "[2]", "[3]"]);
    assert_eq!(vendor.targets(), ["/sales?employeeID=1235", "/2", "/2", "/3"]);
    assert_eq!(bench.api_calls(), 4);
}

#[tokio::test]
async fn redirects_on_the_same_origin_are_followed_and_counted() {
    for status in [
        "301 Moved Permanently",
        "302 Found",
        "303 See Other",
        "307 Temporary Redirect",
        "308 Permanent Redirect",
    ] {
        let vendor = ScriptedVendor::saying([
            Reply::redirect(status, "/v2/sales?employeeID=1235"),
            // A link is relative to where the page was found.
            Reply::page("[1]", "sales?page=2"),
            Reply::ok("[2]"),
        ])
        .await;
        let bench = Bench::with_key(&vendor, "key");

        let pages = bench.pages().await;

        assert_eq!(pages.unwrap(), ["[1]", "[2]"], "{status}");
        assert_eq!(vendor.targets()[1..], ["/v2/sales?employeeID=1235", "/v2/sales?page=2"]);
        assert_eq!(bench.api_calls(), 3);
        assert!(
            vendor
                .asked()
                .iter()
                .all(|asked| asked.header("Authorization") == Some("Bearer key"))
        );
    }
}

#[tokio::test]
async fn redirects_that_lead_nowhere_end() {
    let looping = ScriptedVendor::start(|asked| Reply::redirect("302 Found", &asked.target)).await;
    let bench = Bench::new(&looping);
    assert_eq!(permanent(bench.fetch().await), "more than 10 redirects");
    assert_eq!(bench.api_calls(), 11);

    for headers in ["", "Location: http://[\r\n"] {
        let vendor = ScriptedVendor::saying([Reply::with("302 Found", headers, "")]).await;
        let reason = permanent(Bench::new(&vendor).fetch().await);
        assert!(reason.contains("302 Found without a usable Location"), "{reason}");
    }
}
