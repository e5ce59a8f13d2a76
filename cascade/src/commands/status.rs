//! `cascade status`: rows by table, messages by queue, the last run.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::types::{Dimension, Statistic};
use aws_sdk_dynamodb::types::Select;
use aws_sdk_sqs::types::QueueAttributeName;
use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use shared::entity::Entity;
use shared::error_chain;

use super::CommandError;
use super::output::say;
use super::place::{Place, PlaceArgs, Where};
use crate::cloud::OLDEST_MESSAGE;
use crate::pipeline::{Depth, RunOutcome, depth};

/// Count rows and messages: here, or in an AWS account
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// The queues of an environment, work queues first (the contract's section 7).
const QUEUES: [&str; 7] = [
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

#[derive(Debug, Serialize)]
struct Status {
    place: Where,
    tables: Vec<TableStatus>,
    queues: Vec<QueueStatus>,
    last_run: Option<RunOutcome>,
}

#[derive(Debug, Serialize)]
struct TableStatus {
    name: String,
    /// `None` if there is no such table.
    rows: Option<u64>,
}

#[derive(Debug, Serialize)]
struct QueueStatus {
    name: String,
    /// `None` if there is no such queue.
    depth: Option<Depth>,
    /// Seconds since the oldest message was sent; `None` if there is none, or it has not been measured.
    oldest_seconds: Option<u64>,
}

/// Prints the status.
///
/// # Errors
/// If there is nothing to look at, or it cannot be reached.
pub async fn status(args: StatusArgs) -> Result<(), CommandError> {
    let place = Place::open(&args.place).await?;
    let last_run = place.state.as_ref().and_then(|state| state.last_run.clone());
    let status = look(&place.config, args.place.environment(), place.site, last_run).await;
    place.close().await?;
    let status = status?;
    if args.json {
        say(format_args!("{:#}", serde_json::json!(status)))?;
    } else {
        say(&status)?;
    }
    Ok(())
}

async fn look(
    config: &SdkConfig,
    environment: &str,
    place: Where,
    last_run: Option<RunOutcome>,
) -> Result<Status, CommandError> {
    let dynamodb = aws_sdk_dynamodb::Client::new(config);
    let sqs = aws_sdk_sqs::Client::new(config);
    let mut tables = Vec::new();
    for entity in Entity::ALL {
        let name = format!("{}-{environment}", entity.name());
        let rows = match place {
            Where::Here => counted_rows(&dynamodb, &name).await?,
            Where::Aws => described_rows(&dynamodb, &name).await?,
        };
        tables.push(TableStatus { name, rows });
    }
    let mut queues = Vec::new();
    for queue in QUEUES {
        let name = format!("{queue}-{environment}");
        let Some((url, depth)) = queue_depth(&sqs, &name).await? else {
            queues.push(QueueStatus {
                name,
                depth: None,
                oldest_seconds: None,
            });
            continue;
        };
        let oldest_seconds = match place {
            Where::Here => told_age(&sqs, &url).await,
            Where::Aws => measured_age(&aws_sdk_cloudwatch::Client::new(config), &name).await,
        };
        queues.push(QueueStatus {
            name,
            depth: Some(depth),
            oldest_seconds,
        });
    }
    Ok(Status {
        place,
        tables,
        queues,
        last_run,
    })
}

/// Counts a table's rows one by one, which costs nothing here.
async fn counted_rows(dynamodb: &aws_sdk_dynamodb::Client, table: &str) -> Result<Option<u64>, CommandError> {
    let mut pages = dynamodb
        .scan()
        .table_name(table)
        .select(Select::Count)
        .into_paginator()
        .send();
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
            Err(failure) => return Err(uncounted(table, failure)),
        }
    }
    Ok(Some(rows))
}

/// A table's rows as DynamoDB counts them about every six hours: a scan would read, and bill, all of it.
async fn described_rows(dynamodb: &aws_sdk_dynamodb::Client, table: &str) -> Result<Option<u64>, CommandError> {
    match dynamodb.describe_table().table_name(table).send().await {
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
        Err(failure) => Err(uncounted(table, failure)),
    }
}

fn uncounted(table: &str, failure: impl std::error::Error) -> CommandError {
    CommandError::Service {
        action: format!("count the rows of {table}"),
        reason: error_chain(&failure),
    }
}

/// A queue's URL and depth; `None` if there is no such queue.
async fn queue_depth(sqs: &aws_sdk_sqs::Client, name: &str) -> Result<Option<(String, Depth)>, CommandError> {
    match sqs.get_queue_url().queue_name(name).send().await {
        Ok(found) => {
            let url = found.queue_url.unwrap_or_default();
            let depth = depth(sqs, &url).await?;
            Ok(Some((url, depth)))
        }
        Err(failure)
            if failure
                .as_service_error()
                .is_some_and(|error| error.is_queue_does_not_exist()) =>
        {
            Ok(None)
        }
        Err(failure) => Err(CommandError::Service {
            action: format!("look at the queue {name}"),
            reason: error_chain(&failure),
        }),
    }
}

/// The age of a queue's oldest message in seconds, which the embedded queues tell by an attribute.
async fn told_age(sqs: &aws_sdk_sqs::Client, url: &str) -> Option<u64> {
    let oldest = QueueAttributeName::from(OLDEST_MESSAGE);
    let told = sqs
        .get_queue_attributes()
        .queue_url(url)
        .attribute_names(oldest.clone())
        .send()
        .await
        .ok()?;
    told.attributes?.get(&oldest)?.parse().ok()
}

/// The age of a queue's oldest message in seconds, as CloudWatch measured it last; `None` also where CloudWatch cannot
/// be asked, as with an emulator that has none.
async fn measured_age(cloudwatch: &aws_sdk_cloudwatch::Client, queue: &str) -> Option<u64> {
    let now = SystemTime::now();
    let measured = cloudwatch
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
    Some(Duration::from_secs_f64(latest.maximum?.max(0.0)).as_secs())
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = match self.place {
            Where::Here => "rows",
            Where::Aws => "rows, up to 6 hours ago",
        };
        let mut tables = plain_table(["table", rows]);
        for table in &self.tables {
            let rows = table.rows.map_or("missing".to_owned(), |rows| rows.to_string());
            tables.add_row([table.name.clone(), rows]);
        }
        let mut queues = plain_table(["queue", "waiting", "in flight", "delayed", "oldest"]);
        for queue in &self.queues {
            let [waiting, in_flight, delayed] = match queue.depth {
                Some(depth) => [depth.waiting, depth.in_flight, depth.delayed].map(|count| count.to_string()),
                None => ["missing".to_owned(), String::new(), String::new()],
            };
            let oldest = queue
                .oldest_seconds
                .map_or(String::new(), |seconds| format!("{seconds} s"));
            queues.add_row([queue.name.clone(), waiting, in_flight, delayed, oldest]);
        }
        writeln!(f, "{tables}\n\n{queues}\n")?;
        match &self.last_run {
            Some(run) => {
                let total = run.total();
                let complete = if run.is_complete() { "complete" } else { "incomplete" };
                write!(
                    f,
                    "Last run {}: {complete}, {} inserted, {} updated, {} deleted, {} unchanged, {} requests, {:.1} s",
                    run.run_id,
                    total.inserted,
                    total.updated,
                    total.deleted,
                    total.unchanged,
                    total.api_calls,
                    run.seconds
                )
            }
            None => write!(f, "Last run: not known here"),
        }
    }
}

fn plain_table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}
