//! The vendor simulator as a plain HTTP client sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use cascade::vendor::{
    BadRecord, Fault, Faults, LinkForm, RetryAfterForm, Target, VendorError, VendorOptions, VendorServer,
};
use futures::future::join_all;
use reqwest::header::{DATE, ETAG, IF_NONE_MATCH, LINK, RETRY_AFTER};
use reqwest::{Client, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use shared::clock::Clock;
use time::macros::utc_datetime;
use time::{OffsetDateTime, UtcDateTime};

const START: UtcDateTime = utc_datetime!(2026-11-21 01:00);

fn client() -> Client {
    // Of several tests in this process only the first one succeeds, which is enough.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().build().unwrap()
}

fn options() -> VendorOptions {
    let mut options = VendorOptions::new(42, Clock::starting_at(START));
    options.requests_per_minute = None;
    options
}

async fn start(options: VendorOptions) -> VendorServer {
    VendorServer::start(options).await.unwrap()
}

async fn get(vendor: &VendorServer, path_and_query: &str) -> Response {
    client()
        .get(format!("{}{path_and_query}", vendor.url()))
        .send()
        .await
        .unwrap()
}

fn retry_after(response: &Response) -> &str {
    response.headers()[RETRY_AFTER].to_str().unwrap()
}

fn sales_of_first_salesperson(vendor: &VendorServer) -> (String, String) {
    let id = vendor.world().expected_salespersons()[0].id.clone();
    (format!("/sales?employeeID={id}"), id)
}

#[derive(Deserialize)]
struct Answer<T> {
    result: T,
}

#[derive(Deserialize)]
struct Staff {
    branch_id: u64,
    employees: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct SalesOf {
    employee_id: u64,
    sales: Vec<Box<RawValue>>,
}

#[derive(Deserialize)]
struct Person {
    id: u64,
    occupation: String,
}

/// The bodies of all pages.
async fn all_pages(vendor: &VendorServer, path_and_query: &str) -> Vec<String> {
    let client = client();
    let mut bodies = Vec::new();
    let mut next = Some(Url::parse(&format!("{}{path_and_query}", vendor.url())).unwrap());
    while let Some(url) = next {
        let response = client.get(url.clone()).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{url}");
        next = response.headers().get(LINK).map(|link| {
            let link = link.to_str().unwrap();
            let target = link
                .strip_prefix('<')
                .and_then(|link| link.strip_suffix(">; rel=\"next\""))
                .unwrap();
            url.join(target).unwrap()
        });
        bodies.push(response.text().await.unwrap());
    }
    bodies
}

#[tokio::test]
async fn walking_the_cascade_page_by_page_finds_exactly_the_expected_records() {
    // given
    let mut options = options();
    options.page_size = Some(7);
    let vendor = start(options).await;
    let (branches, people, sales) = {
        let world = vendor.world();
        (
            world.expected_branches(),
            world.expected_salespersons(),
            world.expected_sales(),
        )
    };
    let (mut seen_branches, mut seen_people, mut seen_sales) = (Vec::new(), Vec::new(), Vec::new());
    // when
    for branch in &branches {
        for body in all_pages(
            &vendor,
            &format!("/branches?branch={}", branch.name.replace(' ', "%20")),
        )
        .await
        {
            let answer: Answer<Vec<Box<RawValue>>> = serde_json::from_str(&body).unwrap();
            seen_branches.extend(answer.result.iter().map(|record| record.get().to_owned()));
        }
        for body in all_pages(&vendor, &format!("/employees?branchID={}", branch.id)).await {
            let answer: Answer<Staff> = serde_json::from_str(&body).unwrap();
            assert_eq!(answer.result.branch_id.to_string(), branch.id);
            for record in answer.result.employees {
                let person: Person = serde_json::from_str(record.get()).unwrap();
                if person.occupation.eq_ignore_ascii_case("salesperson") {
                    seen_people.push((person.id.to_string(), branch.id.clone(), record.get().to_owned()));
                }
            }
        }
    }
    for (id, _, _) in &seen_people {
        for body in all_pages(&vendor, &format!("/sales?employeeID={id}")).await {
            let answer: Answer<SalesOf> = serde_json::from_str(&body).unwrap();
            assert_eq!(answer.result.employee_id.to_string(), *id);
            seen_sales.extend(
                answer
                    .result
                    .sales
                    .iter()
                    .map(|record| (id.clone(), record.get().to_owned())),
            );
        }
    }
    // then
    assert_eq!(
        seen_branches,
        branches.into_iter().map(|branch| branch.json).collect::<Vec<_>>()
    );
    seen_people.sort();
    let mut people: Vec<_> = people
        .into_iter()
        .map(|person| (person.id, person.branch_id, person.json))
        .collect();
    people.sort();
    assert_eq!(seen_people, people);
    seen_sales.sort();
    let mut sales: Vec<_> = sales.into_iter().map(|sale| (sale.employee_id, sale.json)).collect();
    sales.sort();
    assert_eq!(seen_sales, sales);
    // one page a branch, two of its 14 employees, eight of fifty sales
    let stats = vendor.stats();
    assert_eq!(stats.by_path["/branches"], 13);
    assert_eq!(stats.by_path["/employees"], 13 * 2);
    assert_eq!(stats.by_path["/sales"], 104 * 8);
    assert_eq!((stats.requests, stats.busiest_minute), (13 + 26 + 832, 13 + 26 + 832));
    assert!(stats.duplicates.is_empty(), "{:?}", stats.duplicates);
}

#[tokio::test]
async fn the_link_to_the_next_page_comes_in_the_form_asked_for() {
    for (form, expected) in [
        (LinkForm::Absolute, &["http", "http", "http"]),
        (LinkForm::Relative, &["/sales?", "/sales?", "/sales?"]),
        (LinkForm::Mixed, &["http", "/sales?", "?empl"]),
    ] {
        let mut options = options();
        options.page_size = Some(13);
        options.links = form;
        let vendor = start(options).await;
        let (sales, _) = sales_of_first_salesperson(&vendor);
        for (page, begin) in (1..).zip(expected) {
            let response = get(&vendor, &format!("{sales}&page={page}")).await;
            let link = response.headers()[LINK].to_str().unwrap();
            assert!(link.starts_with(&format!("<{begin}")), "{form:?}: {link}");
        }
        let last = get(&vendor, &format!("{sales}&page=4")).await;
        assert_eq!((last.status(), last.headers().get(LINK)), (StatusCode::OK, None));
    }
}

#[tokio::test]
async fn an_answer_asked_for_with_its_etag_is_304_until_it_changes() {
    // given
    let clock = Clock::starting_at(START);
    let mut options = options();
    options.clock = clock.clone();
    let vendor = start(options).await;
    let branch = vendor.world().expected_branches()[0].id.clone();
    let url = format!("{}/employees?branchID={branch}", vendor.url());
    let first = client().get(&url).send().await.unwrap();
    let etag = first.headers()[ETAG].clone();
    let ask = || client().get(&url).header(IF_NONE_MATCH, etag.clone()).send();
    // when / then
    let unchanged = ask().await.unwrap();
    assert_eq!(
        (unchanged.status(), &unchanged.headers()[ETAG]),
        (StatusCode::NOT_MODIFIED, &etag)
    );
    assert!(unchanged.bytes().await.unwrap().is_empty());
    let other = client()
        .get(&url)
        .header(IF_NONE_MATCH, "\"another\"")
        .send()
        .await
        .unwrap();
    assert_eq!(other.status(), StatusCode::OK);
    // and after enough hours of hires, transfers and departures
    let before = first.text().await.unwrap();
    assert!(clock.advance(Duration::from_secs(200 * 3_600)));
    let changed = ask().await.unwrap();
    assert_eq!(changed.status(), StatusCode::OK);
    assert_ne!(changed.headers()[ETAG], etag);
    assert_ne!(changed.text().await.unwrap(), before);
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_with_a_json_error() {
    let vendor = start(options()).await;
    for (path_and_query, status, says) in [
        (
            "/salespersons",
            404,
            "no such path: /salespersons; expected /branches, /employees or /sales",
        ),
        ("/", 404, "no such path: /; expected /branches, /employees or /sales"),
        ("/branches", 400, "missing query parameter: branch"),
        ("/employees?branch=Utica", 400, "missing query parameter: branchID"),
        ("/sales?employeeID=", 400, "missing query parameter: employeeID"),
        ("/employees?branchID=1", 404, "no such branchID: 1"),
        ("/sales?employeeID=%00%C3%28", 404, "no such employeeID: \u{0}\u{fffd}("),
        (
            "/branches?branch=Utica&page=0",
            400,
            "query parameter page: expected an integer from 1",
        ),
    ] {
        let response = get(&vendor, path_and_query).await;
        assert_eq!(response.status().as_u16(), status, "{path_and_query}");
        let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
        assert_eq!(body, serde_json::json!({ "error": says }));
    }
    let posted = client()
        .post(format!("{}/branches?branch=Utica", vendor.url()))
        .send()
        .await
        .unwrap();
    assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn an_unknown_branch_has_no_result_and_an_accountant_no_sales() {
    let vendor = start(options()).await;
    assert_eq!(
        get(&vendor, "/branches?branch=Slough").await.text().await.unwrap(),
        r#"{"result":[]}"#
    );
    let branch = vendor.world().expected_branches()[0].id.clone();
    let staff = get(&vendor, &format!("/employees?branchID={branch}"))
        .await
        .text()
        .await
        .unwrap();
    let staff: Answer<Staff> = serde_json::from_str(&staff).unwrap();
    let people = staff
        .result
        .employees
        .iter()
        .map(|record| serde_json::from_str::<Person>(record.get()).unwrap());
    let accountant = people
        .into_iter()
        .find(|person| person.occupation == "accountant")
        .unwrap()
        .id;
    let sales = get(&vendor, &format!("/sales?employeeID={accountant}"))
        .await
        .text()
        .await
        .unwrap();
    assert_eq!(
        sales,
        format!(r#"{{"result":{{"employee_id":{accountant},"sales":[]}}}}"#)
    );
}

#[tokio::test]
async fn the_api_key_is_required_where_one_is_set() {
    let mut options = options();
    options.api_key = Some("paper".to_owned());
    let vendor = start(options).await;
    let url = format!("{}/branches?branch=Utica", vendor.url());
    for (key, status) in [("paper", 200), ("plastic", 401)] {
        let response = client().get(&url).bearer_auth(key).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status);
    }
    assert_eq!(
        client().get(&url).send().await.unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn over_the_quota_whichever_path_it_answers_429_and_says_when_to_come_back() {
    // given
    let mut options = options();
    options.requests_per_minute = Some(3);
    let vendor = start(options).await;
    // when
    let first = get(&vendor, "/branches?branch=Utica").await;
    let etag = first.headers()[ETAG].clone();
    let unchanged = client()
        .get(first.url().clone())
        .header(IF_NONE_MATCH, etag)
        .send()
        .await
        .unwrap();
    let unknown = get(&vendor, "/employees?branchID=0").await;
    let refused = [
        get(&vendor, "/branches?branch=Akron").await,
        get(&vendor, "/nothing").await,
    ];
    // then: a 304 and a 404 have counted
    assert_eq!(
        (unchanged.status(), unknown.status()),
        (StatusCode::NOT_MODIFIED, StatusCode::NOT_FOUND)
    );
    for response in refused {
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        let seconds: u64 = retry_after(&response).parse().unwrap();
        assert!((1..=60).contains(&seconds), "{seconds}");
    }
    let stats = vendor.stats();
    assert_eq!(
        (stats.busiest_minute, stats.busiest_minute_of_all, stats.answered_429),
        (3, 5, 2)
    );
    assert_eq!(stats.faults, BTreeMap::new());
    assert_eq!(vendor.stats_since(4).requests, 1);
}

#[tokio::test]
async fn retry_after_can_be_a_date_by_the_clock_of_the_date_header() {
    let mut options = options();
    options.requests_per_minute = Some(0);
    options.retry_after = RetryAfterForm::HttpDate;
    let vendor = start(options).await;
    let response = get(&vendor, "/branches?branch=Utica").await;
    let date = |text: &str| -> SystemTime { httpdate::parse_http_date(text).unwrap() };
    let now = date(response.headers()[DATE].to_str().unwrap());
    let wait = date(retry_after(&response)).duration_since(now).unwrap();
    assert!((60..=61).contains(&wait.as_secs()), "{wait:?}");
    let start = SystemTime::from(OffsetDateTime::from(START));
    assert!(
        (start..start + Duration::from_secs(600)).contains(&now),
        "the vendor's own clock"
    );
}

#[tokio::test]
async fn each_fault_looks_to_a_client_as_it_should() {
    // given
    let vendor = start(options()).await;
    let (sales, id) = sales_of_first_salesperson(&vendor);
    let good = get(&vendor, &sales).await.text().await.unwrap();
    let once = async |fault: Fault| {
        vendor
            .faults()
            .add(Target {
                path: "/sales".to_owned(),
                id: id.clone(),
                fault,
                times: Some(1),
            })
            .unwrap();
        get(&vendor, &sales).await
    };
    // when / then
    let busy = once(Fault::TooManyRequests).await;
    assert_eq!(
        (busy.status(), retry_after(&busy)),
        (StatusCode::TOO_MANY_REQUESTS, "1")
    );

    assert_eq!(once(Fault::Status(503)).await.status(), StatusCode::SERVICE_UNAVAILABLE);

    let cut = once(Fault::CutConnection).await;
    assert_eq!(
        (cut.status(), cut.content_length()),
        (StatusCode::OK, Some(good.len() as u64))
    );
    assert!(cut.bytes().await.is_err());

    let truncated = once(Fault::TruncatedBody).await;
    assert_eq!(truncated.status(), StatusCode::OK);
    let body = truncated.text().await.unwrap();
    assert!(good.starts_with(&body) && serde_json::from_str::<Value>(&body).is_err());

    let error = once(Fault::ErrorBody).await;
    assert_eq!(error.status(), StatusCode::OK);
    let body: Value = serde_json::from_str(&error.text().await.unwrap()).unwrap();
    assert!(body["error"].is_string() && body.get("result").is_none());

    let html = once(Fault::NotJson).await;
    assert_eq!(html.status(), StatusCode::OK);
    assert!(serde_json::from_str::<Value>(&html.text().await.unwrap()).is_err());

    // and each of them only once, and all of them in the ledger
    assert_eq!(get(&vendor, &sales).await.text().await.unwrap(), good);
    let faults = vendor.stats().faults;
    let names = [
        "cut_connection",
        "error_body",
        "not_json",
        "status",
        "too_many_requests",
        "truncated_body",
    ];
    assert_eq!(faults.into_iter().collect::<Vec<_>>(), names.map(|name| (name, 1)));
}

#[tokio::test]
async fn a_slow_answer_outlasts_a_clients_patience_and_ends_with_the_vendor() {
    // given
    let mut options = options();
    options.faults.rates.slow = 1.0;
    options.faults.slow_for_ms = 3_600_000;
    let vendor = start(options).await;
    let url = format!("{}/branches?branch=Utica", vendor.url());
    // when
    let impatient = client().get(&url).timeout(Duration::from_millis(50)).send().await;
    // then
    assert!(impatient.unwrap_err().is_timeout());
    let patient = tokio::spawn(client().get(&url).send());
    while vendor.stats().requests < 2 {
        tokio::task::yield_now().await;
    }
    let url = vendor.url().to_owned();
    vendor.shutdown().await;
    assert_eq!(patient.await.unwrap().unwrap().status(), StatusCode::OK);
    assert!(client().get(&url).send().await.unwrap_err().is_connect());
}

#[tokio::test]
async fn a_bad_record_spoils_one_record_only_and_the_ledger_names_it() {
    let vendor = start(options()).await;
    let (sales, id) = sales_of_first_salesperson(&vendor);
    let expected: Vec<String> = vendor
        .world()
        .expected_sales()
        .into_iter()
        .filter(|sale| sale.employee_id == id)
        .map(|sale| sale.json)
        .collect();
    for how in [
        BadRecord::MissingId,
        BadRecord::IdOfWrongType,
        BadRecord::UnreadableTimestamp,
        BadRecord::TooManyDigits,
    ] {
        let fault = Fault::BadRecord(how);
        vendor
            .faults()
            .set(Faults::default().with_target("/sales", &id, fault, Some(1)))
            .unwrap();
        let answer: Answer<SalesOf> = serde_json::from_str(&get(&vendor, &sales).await.text().await.unwrap()).unwrap();
        let records: Vec<_> = answer.result.sales.iter().map(|record| record.get()).collect();
        let differing: Vec<_> = (0..50).filter(|&place| records[place] != expected[place]).collect();
        assert_eq!((records.len(), differing), (50, vec![25]), "{how:?}");
        let last = vendor.requests().pop().unwrap();
        assert_eq!(last.fault, Some(fault));
        let spoiled = last.spoiled_record.unwrap();
        assert!(
            expected[25].starts_with(&format!(r#"{{"id":{spoiled}"#))
                || expected[25].contains(&format!(r#""{spoiled}""#))
        );
    }
    // and where there is no record there is no fault
    vendor
        .faults()
        .set(Faults::default().with_target("/branches", "Slough", Fault::BadRecord(BadRecord::MissingId), None))
        .unwrap();
    assert_eq!(get(&vendor, "/branches?branch=Slough").await.status(), StatusCode::OK);
    assert_eq!(vendor.requests().pop().unwrap().fault, None);
}

#[tokio::test]
async fn a_bad_employee_record_is_that_of_a_salesperson() {
    let vendor = start(options()).await;
    let branch = vendor.world().expected_branches()[0].id.clone();
    let fault = Fault::BadRecord(BadRecord::MissingId);
    vendor
        .faults()
        .set(Faults::default().with_target("/employees", &branch, fault, None))
        .unwrap();
    assert_eq!(
        get(&vendor, &format!("/employees?branchID={branch}")).await.status(),
        StatusCode::OK
    );
    let spoiled = vendor.requests().pop().unwrap().spoiled_record.unwrap();
    assert!(
        vendor
            .world()
            .expected_salespersons()
            .iter()
            .any(|person| person.id == spoiled)
    );
}

#[tokio::test]
async fn concurrent_runs_meet_the_same_faults_in_whatever_order_they_ask() {
    // given
    let ask = async |backwards: bool| {
        let mut options = options();
        options.faults = Faults::at_rate(0.6).unwrap();
        options.faults.slow_for_ms = 0;
        let vendor = start(options).await;
        let client = client();
        let mut names: Vec<String> = vendor
            .world()
            .expected_branches()
            .into_iter()
            .map(|branch| branch.name)
            .collect();
        if backwards {
            names.reverse();
        }
        // when: every branch six times, all at once
        let urls = names
            .iter()
            .map(|name| format!("{}/branches?branch={}", vendor.url(), name.replace(' ', "%20")));
        let urls: Vec<String> = urls.cycle().take(6 * names.len()).collect();
        let requests = urls.iter().map(|url| client.get(url).send());
        join_all(requests).await;
        let mut met: BTreeMap<String, Vec<Option<Fault>>> = BTreeMap::new();
        for request in vendor.requests() {
            met.entry(request.path_and_query).or_default().push(request.fault);
        }
        met
    };
    let (forwards, backwards) = (ask(false).await, ask(true).await);
    // then
    assert_eq!(forwards.len(), 13);
    assert_eq!(forwards, backwards);
    assert!(forwards.values().flatten().any(Option::is_some));
}

#[tokio::test]
async fn another_process_can_read_the_stats_switch_faults_and_move_time() {
    // given
    let mut options = options();
    options.requests_per_minute = Some(1);
    let vendor = start(options).await;
    let read = async || -> Value {
        serde_json::from_str(&get(&vendor, "/_vendor/stats").await.text().await.unwrap()).unwrap()
    };
    let post = async |path: &str, body: &'static str| {
        client()
            .post(format!("{}{path}", vendor.url()))
            .body(body)
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    };
    // when / then
    assert_eq!(post("/_vendor/advance", r#"{"hours": 3}"#).await, 200);
    let stats = read().await;
    assert_eq!((&stats["changes"]["hours"], &stats["requests"]), (&3.into(), &0.into()));
    assert!(
        stats["now"].as_str().unwrap().starts_with("2026-11-21 4:00:"),
        "{}",
        stats["now"]
    );
    assert_eq!(vendor.world().changes().hours, 3);

    let faults =
        r#"{"rates": {"not_json": 0.5}, "targets": [{"path": "/branches", "id": "Utica", "fault": {"status": 404}}]}"#;
    assert_eq!(post("/_vendor/faults", faults).await, 200);
    assert_eq!(
        get(&vendor, "/branches?branch=Utica").await.status(),
        StatusCode::NOT_FOUND
    );
    let stats = read().await;
    assert_eq!(
        (&stats["by_status"]["404"], &stats["faults"]["status"]),
        (&1.into(), &1.into())
    );

    for (path, body) in [
        ("/_vendor/advance", r#"{"hours": -1}"#),
        ("/_vendor/advance", r#"{"hours": 1000000}"#),
        ("/_vendor/advance", "soon"),
        ("/_vendor/faults", r#"{"rates": {"not_json": 2}}"#),
        ("/_vendor/faults", r#"{"rate": {}}"#),
    ] {
        assert_eq!(post(path, body).await, 400, "{body}");
    }
    assert_eq!(vendor.faults().get().rates.not_json, 0.5);
    assert_eq!(vendor.stats().requests, 1);
}

#[tokio::test]
async fn the_machines_clock_is_not_moved() {
    let mut options = options();
    options.clock = Clock::system();
    let vendor = start(options).await;
    let moved = client()
        .post(format!("{}/_vendor/advance", vendor.url()))
        .body(r#"{"hours": 1}"#)
        .send()
        .await
        .unwrap();
    assert_eq!(moved.status(), StatusCode::CONFLICT);
}

#[tokio::test]
async fn one_salesperson_with_100_000_sales_is_answered_in_full() {
    // given
    let mut options = options();
    options.world.heavy_salesperson = Some(100_000);
    let vendor = start(options).await;
    let heavy = vendor.world().heavy_salesperson().unwrap();
    // when
    let response = get(&vendor, &format!("/sales?employeeID={heavy}")).await;
    let (url, etag) = (response.url().clone(), response.headers()[ETAG].clone());
    let body = response.bytes().await.unwrap();
    // then
    assert!((20_000_000..25_000_000).contains(&body.len()), "{} bytes", body.len());
    let answer: Answer<SalesOf> = serde_json::from_slice(&body).unwrap();
    assert_eq!(answer.result.sales.len(), 100_000);
    let distinct: BTreeSet<_> = answer.result.sales.iter().map(|sale| &sale.get()[..20]).collect();
    assert_eq!(distinct.len(), 100_000);
    let again = client().get(url).header(IF_NONE_MATCH, etag).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn a_port_in_use_and_impossible_faults_are_errors_that_say_so() {
    let vendor = start(options()).await;
    let mut taken = options();
    taken.port = vendor.url().rsplit(':').next().unwrap().parse().unwrap();
    let error = VendorServer::start(taken).await.err().unwrap();
    assert!(matches!(error, VendorError::Listen { .. }));
    assert!(error.to_string().starts_with("cannot listen on 127.0.0.1:"));
    let mut impossible = options();
    impossible.faults.rates.slow = 2.0;
    assert!(matches!(
        VendorServer::start(impossible).await.err().unwrap(),
        VendorError::Faults(_)
    ));
}
