//! Redrive: tasks that move messages out of a dead-letter queue.

use rusqlite::{OptionalExtension, Transaction};
use serde_json::{Value, json};
use uuid::Uuid;

use super::error::SqsError;
use super::messages;
use super::queues::{self, Queue};

/// What is stored about tasks; they survive a restart, and go on.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS moves (
        started INTEGER PRIMARY KEY AUTOINCREMENT,
        handle TEXT NOT NULL UNIQUE,
        source TEXT NOT NULL,
        destination TEXT,
        per_second INTEGER,
        status TEXT NOT NULL,
        moved INTEGER NOT NULL DEFAULT 0,
        to_move INTEGER NOT NULL,
        failure TEXT,
        started_at INTEGER NOT NULL,
        last_seq INTEGER NOT NULL
    );";

/// How many messages are moved in one transaction where the client sets no pace.
const STEP: i64 = 100;

/// Checks and stores a task; answers its handle.
pub(super) fn start(
    transaction: &Transaction<'_>,
    source_arn: &str,
    destination_arn: Option<&str>,
    per_second: Option<i64>,
    now: i64,
) -> Result<String, SqsError> {
    if let Some(pace) = per_second
        && !(1..=500).contains(&pace)
    {
        return Err(SqsError::bad_value(
            "MaxNumberOfMessagesPerSecond",
            pace,
            "Must be between 1 and 500, if provided",
        ));
    }
    let source = queue(transaction, source_arn, "SourceArn")?;
    let fed = Queue::all(transaction)?
        .iter()
        .filter_map(Queue::redrive_policy)
        .any(|policy| policy.target == source.name);
    if !fed {
        return Err(SqsError::invalid_parameter(
            "Source queue must be configured as a Dead Letter Queue.",
        ));
    }
    let destination = match destination_arn {
        Some(arn) => Some(queue(transaction, arn, "DestinationArn")?.name),
        None => None,
    };
    if destination.as_ref() == Some(&source.name) {
        return Err(SqsError::invalid_parameter(
            "Source queue arn and destination queue arn cannot be the same.",
        ));
    }
    let active: i64 = transaction.query_row(
        "SELECT count(*) FROM moves WHERE source = ? AND status IN ('RUNNING', 'CANCELLING')",
        [&source.name],
        |row| row.get(0),
    )?;
    if active > 0 {
        return Err(SqsError::invalid_parameter(
            "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
        ));
    }
    let (to_move, last_seq) = messages::visible(transaction, &source, now)?;
    let handle = Uuid::new_v4().to_string();
    transaction.execute(
        "INSERT INTO moves (handle, source, destination, per_second, status, to_move, started_at, last_seq)
         VALUES (?, ?, ?, ?, 'RUNNING', ?, ?, ?)",
        (&handle, source.name, destination, per_second, to_move, now, last_seq),
    )?;
    Ok(handle)
}

/// What one step of a task came to.
pub(super) struct Step {
    /// Ids of the queues that got messages.
    pub(super) destinations: Vec<i64>,
    /// Whether the task has an end, and needs no further step.
    pub(super) ended: bool,
    /// Whether a second has to pass before the next step.
    pub(super) paced: bool,
}

/// Moves the next messages of a task.
pub(super) fn step(transaction: &Transaction<'_>, handle: &str, now: i64) -> Result<Step, SqsError> {
    let (status, source, destination, per_second, last_seq) = transaction.query_row(
        "SELECT status, source, destination, per_second, last_seq FROM moves WHERE handle = ?",
        [handle],
        |row| {
            Ok((
                row.get::<_, String>(0)?,
                row.get::<_, String>(1)?,
                row.get::<_, Option<String>>(2)?,
                row.get::<_, Option<i64>>(3)?,
                row.get::<_, i64>(4)?,
            ))
        },
    )?;
    let mut step = Step {
        destinations: Vec::new(),
        ended: true,
        paced: per_second.is_some(),
    };
    let end = |status: &str, failure: Option<&str>| {
        transaction.execute(
            "UPDATE moves SET status = ?, failure = ? WHERE handle = ?",
            (status, failure, handle),
        )
    };
    if status != "RUNNING" {
        if status == "CANCELLING" {
            end("CANCELLED", None)?;
        }
        return Ok(step);
    }
    let source = Queue::find(transaction, &source)?;
    let destination = match destination {
        Some(name) => Some(Queue::find(transaction, &name)?),
        None => None,
    };
    let (Some(source), Some(destination)) = (
        source,
        // A destination that was asked for but is gone ends the task; none asked for is fine.
        match destination {
            Some(None) => None,
            Some(Some(queue)) => Some(Some(queue.id)),
            None => Some(None),
        },
    ) else {
        end("FAILED", Some("AWS.SimpleQueueService.NonExistentQueue"))?;
        return Ok(step);
    };
    let most = per_second.unwrap_or(STEP);
    let moved = messages::redrive(transaction, source.id, destination, last_seq, most, now)?;
    let count: i64 = moved.by_destination.values().sum();
    transaction.execute("UPDATE moves SET moved = moved + ? WHERE handle = ?", (count, handle))?;
    step.destinations = moved.by_destination.into_keys().collect();
    match moved.failure {
        Some(reason) => end("FAILED", Some(reason))?,
        None if count < most => end("COMPLETED", None)?,
        None => {
            step.ended = false;
            0
        }
    };
    Ok(step)
}

/// Asks a task to end; answers how many messages it has moved.
pub(super) fn cancel(transaction: &Transaction<'_>, handle: &str) -> Result<i64, SqsError> {
    let found: Option<(String, i64)> = transaction
        .query_row("SELECT status, moved FROM moves WHERE handle = ?", [handle], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    match found {
        None => Err(SqsError::resource_not_found(
            "The task handle that you specified doesn't exist.",
        )),
        Some((status, moved)) if status == "RUNNING" => {
            transaction.execute("UPDATE moves SET status = 'CANCELLING' WHERE handle = ?", [handle])?;
            Ok(moved)
        }
        Some((status, _)) => Err(SqsError::unsupported_operation(format!(
            "Only a task that is RUNNING can be cancelled; this one is {status}."
        ))),
    }
}

/// The latest tasks of a source queue, as ListMessageMoveTasks answers them.
pub(super) fn list(transaction: &Transaction<'_>, source_arn: &str, most: i64) -> Result<Vec<Value>, SqsError> {
    if !(1..=10).contains(&most) {
        return Err(SqsError::bad_value(
            "MaxResults",
            most,
            "Must be between 1 and 10, if provided",
        ));
    }
    let source = queue(transaction, source_arn, "SourceArn")?;
    let mut statement = transaction.prepare_cached(
        "SELECT handle, destination, per_second, status, moved, to_move, failure, started_at
         FROM moves WHERE source = ? ORDER BY started DESC LIMIT ?",
    )?;
    let tasks = statement.query_map((&source.name, most), |row| {
        let status: String = row.get(3)?;
        let mut task = json!({
            "SourceArn": queues::arn(&source.name),
            "ApproximateNumberOfMessagesMoved": row.get::<_, i64>(4)?,
            "ApproximateNumberOfMessagesToMove": row.get::<_, i64>(5)?,
            "StartedTimestamp": row.get::<_, i64>(7)?,
        });
        // AWS shows the handle only while there is something to cancel with it.
        if status == "RUNNING" {
            task["TaskHandle"] = row.get::<_, String>(0)?.into();
        }
        if let Some(name) = row.get::<_, Option<String>>(1)? {
            task["DestinationArn"] = queues::arn(&name).into();
        }
        if let Some(pace) = row.get::<_, Option<i64>>(2)? {
            task["MaxNumberOfMessagesPerSecond"] = pace.into();
        }
        if let Some(reason) = row.get::<_, Option<String>>(6)? {
            task["FailureReason"] = reason.into();
        }
        task["Status"] = status.into();
        Ok(task)
    })?;
    Ok(tasks.collect::<rusqlite::Result<_>>()?)
}

/// The handles of tasks that have not come to an end.
pub(super) fn unfinished(transaction: &Transaction<'_>) -> Result<Vec<String>, SqsError> {
    let mut statement = transaction.prepare("SELECT handle FROM moves WHERE status IN ('RUNNING', 'CANCELLING')")?;
    let handles = statement.query_map([], |row| row.get(0))?;
    Ok(handles.collect::<rusqlite::Result<_>>()?)
}

fn queue(transaction: &Transaction<'_>, arn: &str, parameter: &str) -> Result<Queue, SqsError> {
    let found = match queues::name_in_arn(arn) {
        Some(name) => Queue::find(transaction, name)?,
        None => {
            return Err(SqsError::bad_value(
                parameter,
                arn,
                "Expected arn:aws:sqs:region:account:queue-name",
            ));
        }
    };
    found.ok_or_else(|| {
        SqsError::resource_not_found(format!(
            "The resource that you specified for the {parameter} parameter doesn't exist."
        ))
    })
}
