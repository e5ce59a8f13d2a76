//! Rows by table and messages by queue: what `cascade status` prints, and the page of `cascade dashboard` shows.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::types::{Dimension, Statistic};
use aws_sdk_dynamodb::types::Select;
use aws_sdk_sqs::types::QueueAttributeName;
use serde::Serialize;
use shared::entity::Entity;
use shared::error_chain;
use thiserror::Error;
use time::UtcDateTime;

use crate::cloud::{CURRENT_TIME, OLDEST_MESSAGE};
use crate::pipeline::{Depth, DepthError, RunOutcome, depth};

/// The queues of an environment, work queues first (the contract's section 7).
pub const QUEUES: [&str; 7] = [
    "employee-queue",
    "sale-queue",
    "employee-workload-dead-letter-queue",
    "sale-workload-dead-letter-queue",
    "branch-function-dead-letter-queue",
    "employee-function-dead-letter-queue",
    "sale-function-dead-letter-queue",
];

/// How far back the age of a queue's oldest message is looked for, and in what steps: queues that are in use are
/// measured once a minute, and some minutes late.
const METRIC_SPAN: Duration = Duration::from_secs(15 * 60);
const METRIC_PERIOD_SECONDS: i32 = 60;

/// Where an environment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Where {
    /// In the embedded cloud.
    Here,
    /// Wherever the AWS environment points to.
    Aws,
}

/// How an environment stands.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Where it is.
    pub place: Where,
    /// One for each kind of record.
    pub tables: Vec<TableStatus>,
    /// Work queues first, then dead-letter queues.
    pub queues: Vec<QueueStatus>,
    /// What the last run of `cascade run` came to; `None` on AWS, and before the first one.
    pub last_run: Option<RunOutcome>,
}

/// A table of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableStatus {
    /// Its name.
    pub name: String,
    /// `None` if there is no such table.
    pub rows: Option<u64>,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QueueStatus {
    /// Its name.
    pub name: String,
    /// `None` if there is no such queue.
    pub depth: Option<Depth>,
    /// Seconds since the oldest message was sent; `None` if there is none, or it has not been measured.
    pub oldest_seconds: Option<u64>,
}

/// Why it cannot be told how an environment stands.
#[derive(Debug, Error)]
pub enum StatusError {
    /// A service did not tell what it was asked.
    #[error("could not {action}: {reason}")]
    Service {
        /// What was asked of it.
        action: String,
        /// What it said.
        reason: String,
    },
    /// A queue that is there did not tell how many messages it holds.
    #[error(transparent)]
    Depth(#[from] DepthError),
}

impl StatusError {
    fn new(action: impl Into<String>, failure: &dyn std::error::Error) -> Self {
        Self::Service {
            action: action.into(),
            reason: error_chain(failure),
        }
    }
}

/// Asks how an environment stands.
pub struct StatusReader {
    dynamodb: aws_sdk_dynamodb::Client,
    sqs: aws_sdk_sqs::Client,
    cloudwatch: aws_sdk_cloudwatch::Client,
    environment: String,
    place: Where,
    /// The URLs of queues that were found, by name.
    urls: Mutex<HashMap<String, String>>,
}

impl StatusReader {
    /// Asks about `environment` wherever `config` leads to, which is `place`.
    pub fn new(config: &SdkConfig, environment: &str, place: Where) -> Self {
        Self {
            dynamodb: aws_sdk_dynamodb::Client::new(config),
            sqs: aws_sdk_sqs::Client::new(config),
            cloudwatch: aws_sdk_cloudwatch::Client::new(config),
            environment: environment.to_owned(),
            place,
            urls: Mutex::default(),
        }
    }

    /// How everything stands.
    ///
    /// # Errors
    /// If a service cannot be asked.
    pub async fn status(&self, last_run: Option<RunOutcome>) -> Result<Status, StatusError> {
        let mut tables = Vec::new();
        for entity in Entity::ALL {
            tables.push(self.table(entity).await?);
        }
        let mut queues = Vec::new();
        for queue in QUEUES {
            let depth = self.depth(queue).await?;
            queues.push(QueueStatus {
                name: self.name(queue),
                depth,
                oldest_seconds: match depth {
                    Some(_) => self.oldest_seconds(queue).await,
                    None => None,
                },
            });
        }
        Ok(Status {
            place: self.place,
            tables,
            queues,
            last_run,
        })
    }

    /// The name that a table or queue has in this environment.
    pub fn name(&self, what: &str) -> String {
        format!("{what}-{}", self.environment)
    }

    /// How many rows the table of a kind of record has. On AWS that is what DynamoDB counts about every six hours: a scan
    /// would read, and bill, all of it.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub async fn table(&self, entity: Entity) -> Result<TableStatus, StatusError> {
        let name = self.name(entity.name());
        let rows = match self.place {
            Where::Here => self.counted_rows(&name).await?,
            Where::Aws => self.described_rows(&name).await?,
        };
        Ok(TableStatus { name, rows })
    }

    /// Counts a table's rows one by one, which costs nothing here.
    async fn counted_rows(&self, table: &str) -> Result<Option<u64>, StatusError> {
        let scan = self.dynamodb.scan().table_name(table).select(Select::Count);
        let mut pages = scan.into_paginator().send();
        let mut rows = 0;
        while let Some(page) = pages.next().await {
            match page {
                Ok(page) => rows += u64::try_from(page.count).unwrap_or_default(),
                Err(failure)
                    if failure
                        .as_service_error()
                        .is_some_and(|error| error.is_resource_not_found_exception()) =>
                {
                    return Ok(None);
                }
                Err(failure) => return Err(StatusError::new(format!("count the rows of {table}"), &failure)),
            }
        }
        Ok(Some(rows))
    }

    async fn described_rows(&self, table: &str) -> Result<Option<u64>, StatusError> {
        match self.dynamodb.describe_table().table_name(table).send().await {
            Ok(described) => {
                let count = described.table.and_then(|table| table.item_count).unwrap_or_default();
                Ok(Some(u64::try_from(count).unwrap_or_default()))
            }
            Err(failure)
                if failure
                    .as_service_error()
                    .is_some_and(|error| error.is_resource_not_found_exception()) =>
            {
                Ok(None)
            }
            Err(failure) => Err(StatusError::new(format!("count the rows of {table}"), &failure)),
        }
    }

    /// How many messages a queue of [`QUEUES`] holds; `None` if there is no such queue.
    ///
    /// # Errors
    /// If it cannot be asked.
    pub async fn depth(&self, queue: &str) -> Result<Option<Depth>, StatusError> {
        let name = self.name(queue);
        let Some(url) = self.url(&name).await? else {
            return Ok(None);
        };
        match depth(&self.sqs, &url).await {
            Ok(depth) => Ok(Some(depth)),
            Err(failure) => {
                // Should it be gone, it is not found the next time.
                self.urls().remove(&name);
                Err(failure.into())
            }
        }
    }

    /// Seconds since the oldest message of a queue was sent; `None` if there is none, or nobody knows. On AWS that is what
    /// CloudWatch measured last; an emulator may have no CloudWatch.
    pub async fn oldest_seconds(&self, queue: &str) -> Option<u64> {
        match self.place {
            Where::Here => self.attribute(queue, OLDEST_MESSAGE).await?.parse().ok(),
            Where::Aws => self.measured_age(&self.name(queue)).await,
        }
    }

    /// What time it is there.
    pub async fn now(&self) -> UtcDateTime {
        let told = match self.place {
            Where::Here => self.attribute(QUEUES[0], CURRENT_TIME).await,
            Where::Aws => None,
        };
        let milliseconds = told.and_then(|told| told.parse::<i128>().ok());
        milliseconds
            .and_then(|milliseconds| milliseconds.checked_mul(1_000_000))
            .and_then(|nanoseconds| UtcDateTime::from_unix_timestamp_nanos(nanoseconds).ok())
            .unwrap_or_else(|| SystemTime::now().into())
    }

    /// The URL of a queue; `None` if there is none of that name.
    async fn url(&self, name: &str) -> Result<Option<String>, StatusError> {
        if let Some(url) = self.urls().get(name) {
            return Ok(Some(url.clone()));
        }
        match self.sqs.get_queue_url().queue_name(name).send().await {
            Ok(found) => {
                let url = found.queue_url.unwrap_or_default();
                self.urls().insert(name.to_owned(), url.clone());
                Ok(Some(url))
            }
            Err(failure)
                if failure
                    .as_service_error()
                    .is_some_and(|error| error.is_queue_does_not_exist()) =>
            {
                Ok(None)
            }
            Err(failure) => Err(StatusError::new(format!("look at the queue {name}"), &failure)),
        }
    }

    fn urls(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.urls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An attribute that the embedded queues have, and those of AWS have not.
    async fn attribute(&self, queue: &str, attribute: &str) -> Option<String> {
        let attribute = QueueAttributeName::from(attribute);
        let url = self.url(&self.name(queue)).await.ok()??;
        let told = self
            .sqs
            .get_queue_attributes()
            .queue_url(url)
            .attribute_names(attribute.clone())
            .send()
            .await
            .ok()?;
        told.attributes?.remove(&attribute)
    }

    async fn measured_age(&self, queue: &str) -> Option<u64> {
        let now = SystemTime::now();
        let measured = self
            .cloudwatch
            .get_metric_statistics()
            .namespace("AWS/SQS")
            .metric_name(OLDEST_MESSAGE)
            .dimensions(Dimension::builder().name("QueueName").value(queue).build())
            .start_time((now - METRIC_SPAN).into())
            .end_time(now.into())
            .period(METRIC_PERIOD_SECONDS)
            .statistics(Statistic::Maximum)
            .send()
            .await
            .ok()?;
        let points = measured.datapoints?;
        let latest = points
            .into_iter()
            .max_by_key(|point| point.timestamp.map(|time| time.secs()))?;
        Duration::try_from_secs_f64(latest.maximum?.max(0.0))
            .ok()
            .map(|age| age.as_secs())
    }
}
