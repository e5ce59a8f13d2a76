//! The page: what it is told, whom it is told to, and the commands that serve it.

mod command;
mod figures;
mod serving;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use cascade::cloud::{Cloud, CloudOptions, Provisioned};
use cascade::dashboard::{Cadence, Observer, ObserverOptions, Site};
use cascade::status::Where;
use serde_json::Value;
use shared::clock::Clock;
use shared::lambda::install_tls;
use shared::state::dynamodb::DynamoState;
use shared::state::{Addition, Entry, StateTable};
use tempfile::TempDir;
use time::UtcDateTime;
use time::macros::utc_datetime;
use tokio_util::sync::CancellationToken;

/// What time it is in every cloud.
const NOW: UtcDateTime = utc_datetime!(2026-11-21 04:12:31);

/// A cloud in memory, with the tables and queues of an environment.
struct House {
    cloud: Cloud,
    places: Provisioned,
    sqs: aws_sdk_sqs::Client,
    dynamodb: aws_sdk_dynamodb::Client,
    state: DynamoState,
    /// A data directory that remembers nothing.
    data: TempDir,
    stop: CancellationToken,
}

impl House {
    async fn start() -> Self {
        install_tls();
        let options = CloudOptions {
            data: None,
            address: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            clock: Clock::starting_at(NOW),
        };
        let cloud = Cloud::start(options).await.expect("the cloud starts");
        let config = cloud.sdk_config();
        let places = cloud.provision("test").await.expect("tables and queues");
        Self {
            sqs: aws_sdk_sqs::Client::new(&config),
            dynamodb: aws_sdk_dynamodb::Client::new(&config),
            state: DynamoState::new(&config, places.state_table.clone()),
            data: TempDir::new().expect("a directory"),
            stop: CancellationToken::new(),
            places,
            cloud,
        }
    }

    /// Somebody who looks at the cloud.
    fn observer(&self) -> Observer {
        self.observer_of(Site::Here {
            config: self.cloud.sdk_config(),
            data: self.data.path().to_owned(),
            follows: false,
        })
    }

    fn observer_of(&self, site: Site) -> Observer {
        let place = match site {
            Site::Here { .. } => Where::Here,
            Site::Aws { .. } => Where::Aws,
        };
        Observer::new(ObserverOptions {
            site,
            environment: "test".to_owned(),
            cadence: Cadence::of(place, Cadence::usual(place)),
            stop: self.stop.clone(),
        })
    }

    /// Writes an entry that is swapped.
    async fn write(&self, id: &str, body: &Value) {
        let before = self.state.read(id).await.expect("read");
        let entry = Entry::after(before.as_ref(), body, None).expect("an object");
        let seen = before.map(|before| before.version);
        self.state.swap(id, seen, &entry).await.expect("written");
    }

    /// Adds to an account.
    async fn add(
        &self,
        id: &str,
        sets: &[(&'static str, &[&str])],
        numbers: &[(&'static str, u64)],
        texts: &[(&'static str, &str)],
    ) {
        let members = |members: &&[&str]| {
            members
                .iter()
                .map(|member| (*member).to_owned())
                .collect::<BTreeSet<_>>()
        };
        let addition = Addition {
            numbers: numbers.iter().copied().collect(),
            sets: sets.iter().map(|(name, all)| (*name, members(all))).collect(),
            last: texts.iter().map(|(name, text)| (*name, (*text).to_owned())).collect(),
            ..Addition::default()
        };
        self.state.add(id, &addition).await.expect("added");
    }
}
