//! The embedded cloud as its clients see it: the AWS SDKs, unmodified.

mod conformance;
mod durability;
mod state;
mod tables;
mod topics;
mod usage;

use std::net::Ipv4Addr;
use std::path::PathBuf;

use cascade::cloud::{Cloud, CloudOptions};
use shared::clock::Clock;
use time::macros::utc_datetime;

/// A cloud in memory on a free port, and its clock, which shows a fixed time at first.
async fn cloud() -> (Cloud, Clock) {
    let clock = Clock::starting_at(utc_datetime!(2026-11-21 01:00));
    (start(None, &clock).await, clock)
}

async fn start(data: Option<PathBuf>, clock: &Clock) -> Cloud {
    let options = CloudOptions {
        data,
        address: Ipv4Addr::LOCALHOST.into(),
        port: 0,
        clock: clock.clone(),
    };
    Cloud::start(options).await.expect("the cloud starts")
}
