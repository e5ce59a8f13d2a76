//! `cascade status`: rows by table, messages by queue, the last run.

use std::fmt;
use std::path::PathBuf;

use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_dynamodb::types::Select;
use aws_sdk_sqs::types::QueueAttributeName;
use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;
use shared::entity::Entity;
use shared::lambda::{install_tls, sdk_config};

use super::CommandError;
use super::session::ENVIRONMENT;
use crate::cloud::{Cloud, CloudError, CloudOptions, OLDEST_MESSAGE, sdk_config_for};
use crate::pipeline::{Depth, RunOutcome, depth};
use crate::state::{Source, State};

/// Count rows and messages: here, or in an AWS account
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Directory that tables and queues are kept in
    #[arg(long, value_name = "DIR", default_value = ".cascade")]
    data: PathBuf,
    /// Look at whatever the standard AWS environment (credentials, AWS_REGION, AWS_ENDPOINT_URL) points to
    #[arg(long, conflicts_with = "data")]
    aws: bool,
    /// The environment's name, which the names of tables and queues end in
    #[arg(long, value_name = "NAME", default_value = ENVIRONMENT)]
    environment: String,
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

#[derive(Debug, Serialize)]
struct Status {
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
    /// Seconds since the oldest message was sent; only the embedded cloud tells.
    oldest_seconds: Option<u64>,
}

/// Prints the status.
///
/// # Errors
/// If there is nothing to look at, or it cannot be reached.
pub async fn status(args: StatusArgs) -> Result<(), CommandError> {
    install_tls();
    let status = if args.aws {
        let config = sdk_config(aws_config::defaults(BehaviorVersion::latest())).await;
        look(&config, &args.environment, None).await?
    } else {
        look_here(&args).await?
    };
    if args.json {
        println!("{:#}", serde_json::json!(status));
    } else {
        print!("{status}");
    }
    Ok(())
}

/// Looks at the cloud under the data directory: the running one, if another process has it, or else one started for it.
async fn look_here(args: &StatusArgs) -> Result<Status, CommandError> {
    let Some(state) = State::load(&args.data)? else {
        return Err(CommandError::Service {
            action: format!("find anything in {}", args.data.display()),
            reason: "there has been no run yet; `cargo run` makes one, and --data chooses another directory".to_owned(),
        });
    };
    let clock = match &state.source {
        Source::Simulated(simulation) => simulation.clock(true),
        Source::Url(_) => shared::clock::Clock::system(),
    };
    let options = CloudOptions {
        data: Some(args.data.clone()),
        port: 0,
        clock,
    };
    match Cloud::start(options).await {
        Ok(cloud) => {
            let status = look(&cloud.sdk_config(), &args.environment, state.last_run).await;
            cloud.shutdown().await?;
            status
        }
        Err(CloudError::InUse { path }) => match &state.endpoint {
            Some(endpoint) => look(&sdk_config_for(endpoint), &args.environment, state.last_run).await,
            None => Err(CloudError::InUse { path }.into()),
        },
        Err(failure) => Err(failure.into()),
    }
}

async fn look(config: &SdkConfig, environment: &str, last_run: Option<RunOutcome>) -> Result<Status, CommandError> {
    let dynamodb = aws_sdk_dynamodb::Client::new(config);
    let sqs = aws_sdk_sqs::Client::new(config);
    let mut tables = Vec::new();
    for entity in Entity::ALL {
        let name = format!("{}-{environment}", entity.name());
        let rows = rows(&dynamodb, &name).await?;
        tables.push(TableStatus { name, rows });
    }
    let mut queues = Vec::new();
    for queue in QUEUES {
        queues.push(queue_status(&sqs, format!("{queue}-{environment}")).await?);
    }
    Ok(Status {
        tables,
        queues,
        last_run,
    })
}

/// Counts a table's rows by a scan: DynamoDB's own count is up to six hours old.
async fn rows(dynamodb: &aws_sdk_dynamodb::Client, table: &str) -> Result<Option<u64>, CommandError> {
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
            Err(failure) => {
                return Err(CommandError::Service {
                    action: format!("count the rows of {table}"),
                    reason: aws_sdk_dynamodb::error::DisplayErrorContext(failure).to_string(),
                });
            }
        }
    }
    Ok(Some(rows))
}

async fn queue_status(sqs: &aws_sdk_sqs::Client, name: String) -> Result<QueueStatus, CommandError> {
    let failed = |reason: String| CommandError::Service {
        action: format!("look at the queue {name}"),
        reason,
    };
    let url = match sqs.get_queue_url().queue_name(&name).send().await {
        Ok(found) => found.queue_url.unwrap_or_default(),
        Err(failure)
            if failure
                .as_service_error()
                .is_some_and(|error| error.is_queue_does_not_exist()) =>
        {
            return Ok(QueueStatus {
                name,
                depth: None,
                oldest_seconds: None,
            });
        }
        Err(failure) => return Err(failed(aws_sdk_sqs::error::DisplayErrorContext(failure).to_string())),
    };
    let depth = depth(sqs, &url).await?;
    let oldest = QueueAttributeName::from(OLDEST_MESSAGE);
    // AWS does not know this attribute; there the age is a metric of CloudWatch's.
    let told = sqs
        .get_queue_attributes()
        .queue_url(&url)
        .attribute_names(oldest.clone())
        .send()
        .await
        .ok();
    let oldest_seconds = told.and_then(|told| told.attributes?.get(&oldest)?.parse().ok());
    Ok(QueueStatus {
        name,
        depth: Some(depth),
        oldest_seconds,
    })
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tables = plain_table(["table", "rows"]);
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
                writeln!(
                    f,
                    "Last run {}: {complete}, {} inserted, {} updated, {} unchanged, {} requests, {:.1} s",
                    run.run_id, total.inserted, total.updated, total.unchanged, total.api_calls, run.seconds
                )
            }
            None => writeln!(f, "Last run: not known here"),
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
