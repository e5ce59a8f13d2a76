//! Whom an observer asks, and what he asks them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use futures::future::join_all;
use shared::entity::Entity;
use shared::jitter::Jitter;
use shared::state::dynamodb::DynamoState;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::cadence::Cadence;
use crate::dead_letters::{DeadLetters, Thoroughness};
use crate::doctor::blueprint::STATE_TABLE;
use crate::status::{QUEUES, QueueStatus, StatusReader, TableStatus, Where};

/// How often a service is asked in all, and how long one answer is waited for: somebody is looking.
const TRIES: u32 = 2;
const ANSWER: Duration = Duration::from_secs(5);

/// Where an observer looks.
#[derive(Clone, Debug)]
pub enum Site {
    /// The embedded cloud, whose data lies in a directory.
    Here {
        /// What leads to the cloud.
        config: SdkConfig,
        /// The directory.
        data: PathBuf,
        /// Whether the cloud is another process's: that may end, and begin anew elsewhere.
        follows: bool,
    },
    /// AWS.
    Aws {
        /// What leads there.
        config: SdkConfig,
        /// The vendor's quota, in requests a minute, if somebody has said it. Else the collector's settings do.
        quota: Option<u32>,
    },
}

/// Whom an observer asks.
pub(super) struct Services {
    pub(super) status: StatusReader,
    pub(super) state: DynamoState,
    pub(super) dynamodb: aws_sdk_dynamodb::Client,
    pub(super) lambda: aws_sdk_lambda::Client,
    pub(super) dead_letters: DeadLetters,
}

/// A table that was counted, and when that is to be done again.
pub(super) struct Counted {
    pub(super) status: TableStatus,
    pub(super) due_at: Instant,
}

impl Services {
    pub(super) fn new(config: &SdkConfig, environment: &str, place: Where, stop: CancellationToken) -> Self {
        let patient = config
            .to_builder()
            .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(ANSWER).build())
            .build();
        let thoroughness = match place {
            Where::Here => Thoroughness::Exact,
            Where::Aws => Thoroughness::Distributed,
        };
        Self {
            status: StatusReader::new(&patient, environment, place),
            state: DynamoState::new(config, format!("{STATE_TABLE}-{environment}")),
            dynamodb: aws_sdk_dynamodb::Client::new(&patient),
            lambda: aws_sdk_lambda::Client::new(&patient),
            dead_letters: DeadLetters::new(config, environment, thoroughness, Jitter::random(), stop),
        }
    }
}

impl Site {
    pub(super) fn place(&self) -> Where {
        match self {
            Self::Here { .. } => Where::Here,
            Self::Aws { .. } => Where::Aws,
        }
    }

    pub(super) fn config(&self) -> &SdkConfig {
        match self {
            Self::Here { config, .. } | Self::Aws { config, .. } => config,
        }
    }
}

/// Counts the tables that are due. Where rows are counted one by one, a large table is counted more seldom.
pub(super) async fn count_due(
    reader: &StatusReader,
    known: &BTreeMap<Entity, Counted>,
    cadence: Cadence,
    at: Instant,
) -> Vec<(Entity, Result<Counted, String>)> {
    let mut counted = Vec::new();
    for entity in Entity::ALL {
        if known.get(&entity).is_some_and(|known| known.due_at > at) {
            continue;
        }
        let began = Instant::now();
        let told = reader.table(entity).await.map_err(|failure| failure.to_string());
        let every = cadence.rows.max(began.elapsed() * cadence.rows_times);
        counted.push((
            entity,
            told.map(|status| Counted {
                status,
                due_at: at + every,
            }),
        ));
    }
    counted
}

/// How many messages each queue holds; the ages of the oldest are left out.
pub(super) async fn look_at_queues(reader: &StatusReader) -> Vec<Result<QueueStatus, String>> {
    join_all(QUEUES.map(async |queue| {
        let depth = reader.depth(queue).await.map_err(|failure| failure.to_string())?;
        Ok(QueueStatus {
            name: reader.name(queue),
            depth,
            oldest_seconds: None,
        })
    }))
    .await
}
