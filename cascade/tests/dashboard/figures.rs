//! What an observer gathers, against the embedded cloud with what the test has put there.

use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::MessageAttributeValue;
use cascade::cloud::{Cloud, CloudOptions};
use cascade::dashboard::{Board, Cadence, Posted, Site};
use cascade::pipeline::depth;
use cascade::state::{State, Wish};
use cascade::status::{StatusReader, Where};
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::quota::Class;
use shared::quota::calendar::{Calendar, slot_of};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::{House, NOW};

const EARLIER: &str = "2026-11-21T03:00:00Z";
const LATER: &str = "2026-11-21T04:00:00Z";

/// The figures of one look.
async fn look(house: &House) -> Value {
    let posted = house.observer().look(Instant::now()).await;
    Value::Object(posted.figures)
}

/// Two runs: the earlier one is complete, the later one has done one of its two branches.
async fn two_runs(house: &House) {
    house
        .write("runs", &json!({"recent": [EARLIER, LATER], "unreported": [LATER]}))
        .await;
    house
        .write("freshness", &json!({"branches": {"1": LATER, "2": EARLIER}}))
        .await;
    let (names, ids): (&[_], &[_]) = (&["Akron", "Utica"], &["1", "2"]);
    for (run, finished) in [(EARLIER, ids), (LATER, &ids[..1])] {
        let kind = [
            ("kind", "schedule"),
            ("first_at", "2026-11-21T04:00:01.000Z"),
            ("last_at", "2026-11-21T04:00:05.000Z"),
        ];
        let sets = [
            ("names_expected", names),
            ("names_finished", names),
            ("branches_expected", ids),
            ("branches_finished", finished),
        ];
        let numbers = [("api_calls", 2), ("branches_inserted", 1), ("branches_unchanged", 1)];
        house.add(&format!("run/{run}"), &sets, &numbers, &kind).await;
    }
    let listed = ("listed_at", "2026-11-21T04:00:09.000Z");
    let last = ("last_at", "2026-11-21T04:12:00.000Z");
    for (run, branch, done, sales) in [
        (EARLIER, "1", &["7", "8"][..], 40),
        (EARLIER, "2", &["9"][..], 50),
        (LATER, "1", &["7", "8"][..], 3),
    ] {
        let sets = [("salespersons_expected", done), ("salespersons_finished", done)];
        let numbers = [
            ("api_calls", 3),
            ("sales_inserted", sales),
            ("sales_updated", 2),
            ("sales_deleted", 1),
            ("held_back", 1),
        ];
        house
            .add(&format!("run/{run}/{branch}"), &sets, &numbers, &[listed, last])
            .await;
    }
    let sets: [(&str, &[&str]); 2] = [
        ("salespersons_expected", &["9", "10"]),
        ("salespersons_finished", &["9"]),
    ];
    house.add(&format!("run/{LATER}/2"), &sets, &[], &[listed, last]).await;
}

async fn put_branch(house: &House, id: &str, name: &str, deleted_at: Option<&str>) {
    let text = |text: &str| AttributeValue::S(text.to_owned());
    let put = house.dynamodb.put_item().table_name(&house.places.branch_table);
    let mut put = put.item("branch_id", text(id)).item("branch_name", text(name));
    if let Some(at) = deleted_at {
        put = put.item("deleted_at", text(at));
    }
    put.send().await.expect("put");
}

async fn send_letter(house: &House, url: &str, reason: &str) {
    let text = MessageAttributeValue::builder()
        .data_type("String")
        .string_value(reason);
    let send = house
        .sqs
        .send_message()
        .queue_url(url)
        .message_body("{\"run_id\": \"2026-11-21T04:00:00Z\"}");
    send.message_attributes("reason", text.build().expect("an attribute"))
        .send()
        .await
        .expect("sent");
}

#[tokio::test]
async fn where_nothing_has_run_yet_the_tables_and_queues_are_empty_and_nothing_else_is_known() {
    let house = House::start().await;
    let figures = look(&house).await;
    assert_eq!(figures["problem"], Value::Null);
    assert_eq!((&figures["runs"], &figures["branches"]), (&json!([]), &json!([])));
    assert_eq!(figures["quota"], Value::Null);
    assert_eq!(figures["dead_letters"]["groups"], json!([]));
    assert_eq!(figures["status"]["tables"][2], json!({"name": "sale-test", "rows": 0}));
    assert_eq!(figures["status"]["queues"].as_array().map(Vec::len), Some(7));
}

#[tokio::test]
async fn rows_and_messages_are_those_of_the_status() {
    let house = House::start().await;
    put_branch(&house, "1", "Akron", None).await;
    for url in [
        &house.places.employee_queue_url,
        &house.places.sale_queue_url,
        &house.places.sale_queue_url,
    ] {
        house
            .sqs
            .send_message()
            .queue_url(url)
            .message_body("{}")
            .send()
            .await
            .expect("sent");
    }
    let receive = house.sqs.receive_message().queue_url(&house.places.sale_queue_url);
    receive.send().await.expect("received");
    let told = StatusReader::new(&house.cloud.sdk_config(), "test", Where::Here)
        .status(None)
        .await;
    let told = json!(told.expect("a status"));
    assert_eq!(
        told["queues"][1]["depth"],
        json!({"waiting": 1, "in_flight": 1, "delayed": 0})
    );
    assert_eq!(look(&house).await["status"], told);
}

#[tokio::test]
async fn a_run_is_its_own_account_and_those_of_its_branches() {
    let house = House::start().await;
    two_runs(&house).await;
    let figures = look(&house).await;
    let [earlier, later] = [&figures["runs"][0], &figures["runs"][1]];
    assert_eq!(
        (&earlier["state"], &later["state"]),
        (&json!("complete"), &json!("collecting"))
    );
    assert_eq!((&earlier["api_calls"], &later["api_calls"]), (&json!(8), &json!(5)));
    assert_eq!(
        (&earlier["salespersons"], &later["salespersons"]),
        (&json!([3, 3]), &json!([3, 4]))
    );
    assert_eq!((&later["names"], &later["branches"]), (&json!([2, 2]), &json!([1, 2])));
    assert_eq!(
        (&earlier["kind"], &earlier["held_back"]),
        (&json!("schedule"), &json!(2))
    );
    let none = json!({"inserted": 0, "updated": 0, "deleted": 0, "unchanged": 0, "skipped": 0});
    let sales = json!({"inserted": 90, "updated": 4, "deleted": 2, "unchanged": 0, "skipped": 0});
    let branches = json!({"inserted": 1, "updated": 0, "deleted": 0, "unchanged": 1, "skipped": 0});
    assert_eq!(
        earlier["rows"],
        json!({"branch": branches, "salesperson": none, "sale": sales})
    );
    assert_eq!(
        figures["sales"],
        json!({"runs": [EARLIER, LATER], "branches": [
            {"id": "1", "inserted": [40, 3]},
            // it is at work, and has inserted none yet
            {"id": "2", "inserted": [50, null]},
        ]})
    );
}

#[tokio::test]
async fn a_run_that_stands_still_with_empty_queues_no_longer_collects() {
    let house = House::start().await;
    two_runs(&house).await;
    let long_ago = [("last_at", "2026-11-21T04:00:30.000Z")];
    house.add(&format!("run/{LATER}/1"), &[], &[], &long_ago).await;
    house.add(&format!("run/{LATER}/2"), &[], &[], &long_ago).await;
    assert_eq!(look(&house).await["runs"][1]["state"], "incomplete");
    let mut calendar = Calendar::default();
    calendar.book(slot_of(Clock::system().now()) + 1, Class::Live, 1);
    house.write("quota", &json!(calendar)).await;
    let waits = look(&house).await["runs"][1]["state"].take();
    assert_eq!(waits, "collecting", "it waits for its place in the quota");
    house.write("quota", &json!(Calendar::default())).await;
    let send = house.sqs.send_message().queue_url(&house.places.sale_queue_url);
    send.message_body("{}").send().await.expect("sent");
    assert_eq!(look(&house).await["runs"][1]["state"], "collecting");
}

#[tokio::test]
async fn branches_have_their_names_and_the_run_up_to_which_they_are_complete() {
    let house = House::start().await;
    two_runs(&house).await;
    put_branch(&house, "1", "Akron", None).await;
    put_branch(&house, "3", "Gone", Some("2026-11-20T00:00:00.000Z")).await;
    house
        .add(&format!("run/{LATER}"), &[("branches_expected", &["3", "4"])], &[], &[])
        .await;
    assert_eq!(
        look(&house).await["branches"],
        json!([
            {"id": "1", "name": "Akron", "complete_until": LATER},
            {"id": "2", "name": "Branch 2", "complete_until": EARLIER},
            {"id": "4", "name": "Branch 4", "complete_until": null},
        ])
    );
}

#[tokio::test]
async fn what_a_run_adds_is_seen_the_next_time() {
    let house = House::start().await;
    two_runs(&house).await;
    let mut observer = house.observer();
    let sales = |posted: &Posted| posted.figures["sales"]["branches"][1]["inserted"].clone();
    assert_eq!(sales(&observer.look(Instant::now()).await), json!([50, null]));
    house
        .add(&format!("run/{LATER}/2"), &[], &[("sales_inserted", 6)], &[])
        .await;
    assert_eq!(sales(&observer.look(Instant::now()).await), json!([50, 6]));
    // Also to an older run, whose turn comes.
    house
        .write(
            "runs",
            &json!({"recent": [EARLIER, LATER, "2026-11-21T04:05:00Z", "2026-11-21T04:06:00Z"]}),
        )
        .await;
    for run in ["2026-11-21T04:05:00Z", "2026-11-21T04:06:00Z"] {
        house.add(&format!("run/{run}"), &[], &[("api_calls", 1)], &[]).await;
    }
    observer.look(Instant::now()).await;
    house
        .add(&format!("run/{EARLIER}/2"), &[], &[("sales_inserted", 1)], &[])
        .await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(sales(&observer.look(Instant::now()).await)[0].clone());
    }
    assert_eq!(seen.last(), Some(&json!(51)), "{seen:?}");
}

#[tokio::test]
async fn the_quota_used_is_what_the_calendar_promised_in_the_last_minute() {
    let house = House::start().await;
    let mut state = State::of_simulation(house.data.path(), Wish::default()).expect("a state");
    state.quota = std::num::NonZeroU32::new(240);
    state.save().expect("saved");
    let now = Clock::system().now();
    let mut calendar = Calendar::default();
    calendar.book(slot_of(now), Class::Live, 20);
    calendar.book(slot_of(now), Class::Background, 3);
    // a minute away, and more than a minute ago
    calendar.book(slot_of(now) + 120, Class::Live, 100);
    calendar.book(slot_of(now) - 121, Class::Live, 100);
    calendar.close_until(now + Duration::from_secs(30));
    house.write("quota", &json!(calendar)).await;
    let figures = look(&house).await;
    let quota = &figures["quota"];
    assert_eq!(
        (&quota["limit"], &quota["used"], &quota["background"]),
        (&json!(240), &json!(23), &json!(3))
    );
    assert!(quota["closed_until"].is_string(), "{quota}");
    assert_eq!(quota["history"].as_array().map(Vec::len), Some(181));
}

#[tokio::test]
async fn dead_letters_are_shown_with_their_reasons_and_handed_back() {
    let house = House::start().await;
    let url = &house.places.sale_dead_letter_queue_url;
    for id in 1..=3 {
        send_letter(
            &house,
            url,
            &format!("the vendor answered 404 Not Found: no employee {id}"),
        )
        .await;
    }
    send_letter(
        &house,
        &house.places.branch_function_dead_letter_queue_url,
        "branches failed: Akron",
    )
    .await;
    let mut observer = house.observer();
    let first = observer.look(Instant::now()).await;
    assert_eq!(first.figures["dead_letters"]["looked_at"], Value::Null);
    assert!(observer.look_at_letters(Instant::now()).await);
    let letters = observer.look(Instant::now()).await.figures["dead_letters"].clone();
    let groups = letters["groups"].as_array().expect("groups");
    let said: Vec<_> = groups
        .iter()
        .map(|group| (&group["queue"], &group["count"], &group["reason"]))
        .collect();
    assert_eq!(
        said,
        [
            (
                &json!("sale"),
                &json!(3),
                &json!("the vendor answered 404 Not Found: no employee …")
            ),
            (&json!("branch-function"), &json!(1), &json!("branches failed: Akron")),
        ]
    );
    assert_eq!(groups[0]["run_id"], LATER);
    assert!(letters["looked_at"].is_string());
    let left = depth(&house.sqs, url).await.expect("a depth");
    assert_eq!((left.waiting, left.in_flight), (3, 0), "they are there for others");
    assert!(!observer.look_at_letters(Instant::now()).await, "nothing has changed");
}

#[tokio::test]
async fn letters_that_somebody_else_holds_are_left_alone() {
    let house = House::start().await;
    let url = &house.places.sale_dead_letter_queue_url;
    send_letter(&house, url, "one").await;
    send_letter(&house, url, "other").await;
    let receive = house.sqs.receive_message().queue_url(url).max_number_of_messages(1);
    receive.send().await.expect("received");
    let mut observer = house.observer();
    observer.look(Instant::now()).await;
    assert!(!observer.look_at_letters(Instant::now()).await);
    let figures = observer.look(Instant::now()).await.figures;
    let note = figures["dead_letters"]["note"].as_str().unwrap_or_default();
    assert!(note.contains("Somebody holds letters of sale"), "{note}");
}

#[tokio::test]
async fn a_cloud_that_has_ended_is_followed_to_where_it_is_started_again() {
    let house = House::start().await;
    let data = house.data.path();
    let mut state = State::of_simulation(data, Wish::default()).expect("a state");
    state.endpoint = Some(house.cloud.endpoint());
    state.save().expect("saved");
    let mut observer = house.observer_of(Site::Here {
        config: house.cloud.sdk_config(),
        data: data.to_owned(),
        follows: true,
    });
    assert_eq!(observer.look(Instant::now()).await.figures["problem"], Value::Null);

    house.cloud.shutdown().await.expect("ended");
    state.endpoint = None;
    state.save().expect("saved");
    let posted = observer.look(Instant::now()).await;
    let problem = posted.figures["problem"].as_str().unwrap_or_default();
    assert!(problem.starts_with("nothing is running on "), "{problem}");
    assert_eq!(
        posted.figures["status"]["tables"][0]["rows"], 0,
        "the last figures stay"
    );

    let options = CloudOptions {
        data: None,
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        port: 0,
        clock: Clock::starting_at(NOW),
    };
    let next = Cloud::start(options).await.expect("a cloud");
    next.provision("test").await.expect("tables and queues");
    state.endpoint = Some(next.endpoint());
    state.save().expect("saved");
    // The look that finds the old one gone finds the new one.
    observer.look(Instant::now()).await;
    assert_eq!(observer.look(Instant::now()).await.figures["problem"], Value::Null);
}

#[tokio::test]
async fn a_minute_on_aws_costs_no_more_requests_than_is_said() {
    let house = House::start().await;
    two_runs(&house).await;
    put_branch(&house, "1", "Akron", None).await;
    put_branch(&house, "2", "Utica", None).await;
    let mut observer = house.observer_of(Site::Aws {
        config: house.cloud.sdk_config(),
        quota: Some(50),
    });
    let cadence = Cadence::of(Where::Aws, Cadence::usual(Where::Aws));
    let begin = Instant::now();
    // The first looks find out what there is.
    for second in [0, 10] {
        observer.look(begin + Duration::from_secs(second)).await;
    }
    let asked = || house.cloud.requests().values().sum::<u64>();
    let (before, usage) = (asked(), house.cloud.usage());
    for second in [20, 30, 40, 50, 60, 70] {
        observer.look(begin + Duration::from_secs(second)).await;
    }
    // What CloudWatch is asked does not come here: seven ages a minute.
    let here = asked() - before;
    assert_eq!(here, 6 * 9, "{:?}", house.cloud.requests());
    assert!(here + 7 <= cadence.requests_a_minute());
    // In a look: the calendar, the registers of runs and of freshness, both runs, and the branch that is not done; at half a unit
    // each. No table is read through.
    let used = house.cloud.usage().since(&usage);
    let read = used.of(|_| true).read_units / 6.0;
    assert!((read - 3.0).abs() < 0.01, "{read} units a look");
    assert_eq!(used.of(|asked| asked.operation == "Scan").requests, 0);
}

#[tokio::test(start_paused = true)]
async fn aws_is_not_asked_while_nobody_reads() {
    shared::lambda::install_tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let stop = tokio_util::sync::CancellationToken::new();
    let observer = cascade::dashboard::Observer::new(cascade::dashboard::ObserverOptions {
        site: Site::Aws {
            config: cascade::cloud::sdk_config_for(&endpoint),
            quota: None,
        },
        environment: "test".to_owned(),
        cadence: Cadence::of(Where::Aws, Cadence::usual(Where::Aws)),
        stop: stop.clone(),
    });
    let board = Board::default();
    let observing = tokio::spawn(observer.observe(board.clone()));
    let an_hour = Duration::from_secs(3600);
    assert!(
        tokio::time::timeout(an_hour, listener.accept()).await.is_err(),
        "nobody reads"
    );
    let reader = board.read();
    listener.accept().await.expect("somebody asks");
    drop(reader);
    stop.cancel();
    observing.await.expect("it ends");
}

#[tokio::test]
async fn the_board_is_kept_up_to_date_as_long_as_somebody_reads() {
    let house = House::start().await;
    let board = Board::default();
    let observing = tokio::spawn(house.observer().observe(board.clone()));
    let mut reader = board.read();
    let rows = |posted: &Posted| posted.figures["status"]["tables"][0]["rows"] == 1;
    reader.latest.wait_for(Option::is_some).await.expect("figures");
    put_branch(&house, "1", "Akron", None).await;
    reader
        .latest
        .wait_for(|posted| posted.as_ref().is_some_and(|posted| rows(posted)))
        .await
        .expect("newer figures");
    house.stop.cancel();
    observing.await.expect("it ends");
}
