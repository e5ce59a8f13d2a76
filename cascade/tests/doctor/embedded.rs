//! The embedded cloud, looked at between two runs.

use std::net::Ipv4Addr;

use cascade::cloud::{Cloud, CloudOptions};
use cascade::vendor::{VendorOptions, VendorServer, WorldOptions};
use shared::clock::Clock;
use shared::lambda::install_tls;
use time::macros::utc_datetime;

use crate::User;

/// A run in a small world, with a quota that nobody has to wait for.
const RUN: [&str; 9] = [
    "run",
    "--data",
    "data",
    "--salespersons",
    "1",
    "--sales",
    "1",
    "--quota",
    "60000",
];
const DOCTOR: [&str; 4] = ["doctor", "--data", "data", "--json"];

/// The embedded cloud under the user's data directory.
async fn cloud(user: &User) -> Cloud {
    install_tls();
    let options = CloudOptions {
        data: Some(user.directory.path().join("data")),
        address: Ipv4Addr::LOCALHOST.into(),
        port: 0,
        clock: Clock::system(),
    };
    Cloud::start(options).await.unwrap()
}

#[test]
fn what_a_run_made_is_sound() {
    let user = User::new();
    user.cascade(&RUN, &[]).assert_status(0);
    let looked = user.cascade(&DOCTOR[..3], &[]);
    looked.assert_status(0);
    assert!(
        looked
            .output
            .ends_with("It can work: 0 failed, 0 warnings, 0 skipped.\n"),
        "{}",
        looked.output
    );
    for line in [
        "  ok       sale-local: active, keys sale_id (S), employee_id (S), on demand, stream of new images\n",
        "  ok       sync-local: active, keys id (S), on demand, stream of new images\n",
        "  ok       sale-queue-local: visibility 900 s, after 10 receives to sale-workload-dead-letter-queue-local\n",
        "  ok       branch-function-dead-letter-queue-local: empty, keeps letters 14 days\n",
    ] {
        assert!(looked.output.contains(line), "{line} in {}", looked.output);
    }
    assert_eq!(user.cascade(&DOCTOR, &[]).findings("ok").len(), 2 + 4 + 7);
}

#[tokio::test]
async fn what_was_broken_since_is_found_and_ends_it_with_1() {
    let user = User::new();
    user.cascade(&RUN, &[]).assert_status(0);
    let cloud = cloud(&user).await;
    let places = cloud.provision("local").await.unwrap();
    let sqs = aws_sdk_sqs::Client::new(&cloud.sdk_config());
    let dynamodb = aws_sdk_dynamodb::Client::new(&cloud.sdk_config());
    dynamodb
        .delete_table()
        .table_name(&places.sale_table)
        .send()
        .await
        .unwrap();
    sqs.delete_queue()
        .queue_url(&places.employee_function_dead_letter_queue_url)
        .send()
        .await
        .unwrap();
    sqs.set_queue_attributes()
        .queue_url(&places.sale_queue_url)
        .attributes("VisibilityTimeout".into(), "30")
        .send()
        .await
        .unwrap();
    sqs.send_message()
        .queue_url(&places.sale_dead_letter_queue_url)
        .message_body("{}")
        .send()
        .await
        .unwrap();
    cloud.shutdown().await.unwrap();

    let looked = user.cascade(&DOCTOR, &[]);
    looked.assert_status(1);
    let failed = looked.findings("failed");
    assert_eq!(failed.len(), 3, "{failed:#?}");
    assert_eq!(failed[0], "sale-local: is missing");
    assert!(
        failed[1].starts_with("sale-queue-local: hides a message for 30 s"),
        "{}",
        failed[1]
    );
    assert_eq!(failed[2], "employee-function-dead-letter-queue-local: is missing");
    assert_eq!(
        looked.findings("warning"),
        ["sale-workload-dead-letter-queue-local: dead letters wait: 1"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_vendor_is_asked_once_unless_that_is_not_wanted() {
    let user = User::new();
    let small = WorldOptions {
        salespersons_per_branch: 1,
        sales_per_salesperson: 1,
        ..WorldOptions::new(7, utc_datetime!(2026-11-21 01:00))
    };
    let options = VendorOptions {
        world: small,
        ..VendorOptions::new(7, Clock::system())
    };
    let vendor = VendorServer::start(options).await.unwrap();
    let url = vendor.url().to_owned();
    user.cascade(&["run", "--data", "data", "--vendor", &url, "--quota", "60000"], &[])
        .assert_status(0);
    let before = vendor.stats().requests;
    let looked = user.cascade(&DOCTOR, &[]);
    looked.assert_status(0);
    assert!(
        looked
            .findings("ok")
            .iter()
            .any(|line| line.starts_with(&format!("{url}: answers from here")))
    );
    assert_eq!(vendor.stats().requests, before + 1);
    vendor.shutdown().await;

    let looked = user.cascade(&DOCTOR, &[]);
    looked.assert_status(1);
    assert!(looked.findings("failed")[0].starts_with(&format!("{url}: does not answer from here")));
    user.cascade(&[&DOCTOR[..], &["--no-vendor"]].concat(), &[])
        .assert_status(0);
}

#[test]
fn where_there_has_been_no_run_it_says_so_and_ends_with_2() {
    let looked = User::new().cascade(&DOCTOR, &[]);
    looked.assert_status(2);
    assert!(looked.errors.contains("there has been no run yet"), "{}", looked.errors);
}

#[test]
fn another_environment_is_not_looked_for_here() {
    let user = User::new();
    user.cascade(&RUN, &[]).assert_status(0);
    let looked = user.cascade(&[&DOCTOR[..], &["--environment", "foo"]].concat(), &[]);
    looked.assert_status(1);
    assert_eq!(
        looked.findings("failed"),
        ["foo: there is only `local` here: a data directory holds no other environment"]
    );
    assert_eq!(looked.findings("ok").len(), 2, "{}", looked.output);
    user.cascade(&[&DOCTOR[..], &["--environment", "local"]].concat(), &[])
        .assert_status(0);
}

#[test]
fn what_it_cannot_make_use_of_it_does_not_take() {
    let user = User::new();
    for (arguments, complaint) in [
        (["doctor", "--quota", "50"].as_slice(), "--aws"),
        (&["doctor", "--data", "data", "--quota", "50"], "--data"),
        (
            &["doctor", "--environment", "Prod"],
            "expected small letters, digits and hyphens",
        ),
    ] {
        let looked = user.cascade(arguments, &[]);
        looked.assert_status(2);
        assert!(looked.errors.contains(complaint), "{}", looked.errors);
        assert!(!looked.errors.contains("no run yet"), "{}", looked.errors);
    }
}
