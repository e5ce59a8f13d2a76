//! What is left after an end, in order or not.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use aws_sdk_dynamodb::types::AttributeValue;
use cascade::cloud::{Cloud, CloudError, CloudOptions};
use shared::clock::Clock;
use time::macros::utc_datetime;

use crate::start;

/// Writes a row and sends a message; answers the queue's URL.
async fn fill(cloud: &Cloud) -> String {
    let provisioned = cloud.provision("test").await.expect("tables and queues");
    let config = cloud.sdk_config();
    let put = aws_sdk_dynamodb::Client::new(&config).put_item();
    put.table_name(provisioned.branch_table)
        .item("branch_id", AttributeValue::S("1".into()))
        .send()
        .await
        .expect("a row");
    let send = aws_sdk_sqs::Client::new(&config).send_message();
    send.queue_url(&provisioned.employee_queue_url)
        .message_body("owed")
        .send()
        .await
        .expect("sent");
    provisioned.employee_queue_url
}

/// That what [`fill`] wrote is there. The queue's URL is of another port; it serves all the same.
async fn assert_filled(cloud: &Cloud, url: &str) {
    let config = cloud.sdk_config();
    let receive = aws_sdk_sqs::Client::new(&config).receive_message().queue_url(url);
    let received = receive.send().await.expect("an answer");
    assert_eq!(received.messages()[0].body(), Some("owed"));
    let get = aws_sdk_dynamodb::Client::new(&config)
        .get_item()
        .table_name("branch-test")
        .key("branch_id", AttributeValue::S("1".into()));
    assert!(get.send().await.expect("an answer").item.is_some());
}

fn copy_files(from: &Path, to: &Path) {
    for file in fs::read_dir(from).expect("a directory") {
        let file = file.expect("a file");
        // SQLite rebuilds the shared memory of a crashed process by itself.
        if !file.file_name().to_string_lossy().ends_with("-shm") {
            fs::copy(file.path(), to.join(file.file_name())).expect("copied");
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_the_death_of_the_process() {
    // given a cloud in use
    let clock = Clock::starting_at(utc_datetime!(2026-11-21 01:00));
    let living = tempfile::tempdir().expect("a directory");
    let cloud = start(Some(living.path().into()), &clock).await;
    let url = fill(&cloud).await;
    // when its process dies: the files are then what they are now, for nothing more is written
    let dead = tempfile::tempdir().expect("a directory");
    copy_files(living.path(), dead.path());
    // then
    let survivor = start(Some(dead.path().into()), &clock).await;
    assert_filled(&survivor, &url).await;
}

#[tokio::test]
async fn a_shutdown_closes_the_files_so_that_the_next_start_finds_everything() {
    let clock = Clock::starting_at(utc_datetime!(2026-11-21 01:00));
    let data = tempfile::tempdir().expect("a directory");
    let cloud = start(Some(data.path().join("made/if/missing")), &clock).await;
    let url = fill(&cloud).await;
    cloud.shutdown().await.expect("closed");
    let cloud = start(Some(data.path().join("made/if/missing")), &clock).await;
    assert_filled(&cloud, &url).await;
}

#[tokio::test]
async fn a_second_cloud_on_the_same_data_is_refused() {
    let clock = Clock::system();
    let data = tempfile::tempdir().expect("a directory");
    let cloud = start(Some(data.path().into()), &clock).await;
    let options = CloudOptions {
        data: Some(data.path().into()),
        address: Ipv4Addr::LOCALHOST.into(),
        port: 0,
        clock: clock.clone(),
    };
    let second = Cloud::start(options.clone()).await;
    match second.err().expect("refused") {
        CloudError::InUse { path } => assert_eq!(path, data.path()),
        other => panic!("{other:?}"),
    }
    cloud.shutdown().await.expect("closed");
    Cloud::start(options).await.expect("free again");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    let options = CloudOptions {
        data: None,
        address: Ipv4Addr::LOCALHOST.into(),
        port,
        clock: Clock::system(),
    };
    let error = Cloud::start(options).await.err().expect("refused");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_long_polls() {
    let (cloud, _clock) = crate::cloud().await;
    let url = fill(&cloud).await.replace("employee-queue", "sale-queue");
    let poll = aws_sdk_sqs::Client::new(&cloud.sdk_config()).receive_message();
    let poll = tokio::spawn(poll.queue_url(url).wait_time_seconds(20).send());
    while cloud.requests().get("SQS.ReceiveMessage") != Some(&1) {
        tokio::task::yield_now().await;
    }
    let began = std::time::Instant::now();
    cloud.shutdown().await.expect("closed");
    let answer = poll.await.expect("no panic").expect("an answer, though empty");
    assert!(answer.messages().is_empty());
    assert!(began.elapsed().as_secs() < 4, "{:?}", began.elapsed());
}
