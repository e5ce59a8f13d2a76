//! A function, the events that it gets, and what stands in the files after it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, RecordBatch};
use futures::TryStreamExt;
use lake::compaction::Policy;
use lake::handler::{Handled, LakeFunction};
use lake::log::{Kind, Log};
use lake::store::Lake;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::collector::Call;
use shared::jitter::Jitter;
use shared::run::last_modified;
use shared::state::StateTable;
use shared::state::memory::MemoryState;
use time::macros::utc_datetime;
use time::{Duration as Span, UtcDateTime};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// When the records of most tests are made.
pub(crate) const NOON: UtcDateTime = utc_datetime!(2026-11-21 12:00);

pub(crate) struct Stage {
    pub(crate) lake: Lake,
    pub(crate) state: Arc<MemoryState>,
    pub(crate) clock: Clock,
    pub(crate) function: LakeFunction,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self::over(Arc::new(InMemory::new()))
    }

    pub(crate) fn over(objects: Arc<dyn ObjectStore>) -> Self {
        Self::with(objects, Policy::default())
    }

    pub(crate) fn with(objects: Arc<dyn ObjectStore>, policy: Policy) -> Self {
        let lake = Lake::over(objects, Path::from("prefix"));
        let state = Arc::new(MemoryState::default());
        let clock = Clock::starting_at(NOON);
        let tables = [
            ("branch-dev", Log::Branches),
            ("salesperson-dev", Log::Salespersons),
            ("sale-dev", Log::Sales),
            ("sync-dev", Log::Runs),
        ];
        let tables = tables.map(|(table, log)| (table.to_owned(), log)).into();
        let shared_state: Arc<dyn StateTable> = state.clone();
        let function = LakeFunction::new(
            lake.clone(),
            tables,
            Some(shared_state),
            clock.clone(),
            Jitter::seeded(1),
        );
        Self {
            function: function.with_policy(policy),
            lake,
            state,
            clock,
        }
    }

    /// Hands an event over.
    pub(crate) async fn call(&self, event: &Value) -> Handled {
        let call = Call {
            request_id: "r-1".to_owned(),
            now: self.clock.now(),
            deadline: Instant::now() + Duration::from_secs(900),
            stop: CancellationToken::new(),
        };
        self.function.handle(&event.to_string(), call).await
    }

    /// Delivers records, all of which have to be taken.
    pub(crate) async fn deliver(&self, records: &[Value]) {
        let handled = self.call(&json!({ "Records": records })).await;
        assert_eq!(handled.answer.unwrap(), json!({"batchItemFailures": []}));
    }

    /// The rows in a log's files, as they stand there.
    pub(crate) async fn rows(&self, log: Log) -> Vec<Cells> {
        let mut rows = Vec::new();
        for file in self.lake.files(log).await.unwrap() {
            let batches: Vec<RecordBatch> = self
                .lake
                .read(&file)
                .await
                .unwrap()
                .batches
                .try_collect()
                .await
                .unwrap();
            for batch in batches {
                for row in 0..batch.num_rows() {
                    let columns = log.columns().iter();
                    rows.push(
                        columns
                            .map(|column| (column.name, cell(&batch, row, column.name, column.kind)))
                            .collect(),
                    );
                }
            }
        }
        rows
    }

    /// The items that the rows in an entity's files came from.
    pub(crate) async fn items(&self, log: Log) -> Vec<BTreeMap<String, shared::value::Value>> {
        let mut items = Vec::new();
        for file in self.lake.files(log).await.unwrap() {
            let mut batches = self.lake.read(&file).await.unwrap().batches;
            while let Some(batch) = batches.try_next().await.unwrap() {
                items.extend((0..batch.num_rows()).map(|row| lake::row::item(log, &batch, row).unwrap()));
            }
        }
        items
    }

    /// Each change once, by key and number: what the `…_changes` view says.
    pub(crate) async fn changes(&self, log: Log) -> BTreeMap<(Vec<String>, String), Cells> {
        let rows = self.rows(log).await;
        rows.into_iter()
            .map(|row| ((keys(log, &row), text(&row, "sequence")), row))
            .collect()
    }

    /// What there is now, by key: what the view of the log's name says.
    pub(crate) async fn current(&self, log: Log) -> BTreeMap<Vec<String>, Cells> {
        let mut newest = BTreeMap::new();
        for ((keys, _), row) in self.changes(log).await {
            newest.insert(keys, row);
        }
        newest.retain(|_, row| !["delete", "remove"].contains(&text(row, "operation").as_str()));
        newest
    }

    /// The names of a log's files.
    pub(crate) async fn file_names(&self, log: Log) -> Vec<String> {
        self.lake
            .files(log)
            .await
            .unwrap()
            .into_iter()
            .map(|file| file.name)
            .collect()
    }
}

/// A row: each column's value as text; `None` for null.
pub(crate) type Cells = BTreeMap<&'static str, Option<String>>;

pub(crate) fn keys(log: Log, row: &Cells) -> Vec<String> {
    log.keys().into_iter().map(|key| text(row, key)).collect()
}

pub(crate) fn text(row: &Cells, column: &str) -> String {
    row[column]
        .clone()
        .unwrap_or_else(|| panic!("{column} is null in {row:?}"))
}

/// A value as its attribute has it in JSON, without the quotes.
fn cell(batch: &RecordBatch, row: usize, name: &str, kind: Kind) -> Option<String> {
    let column = batch.column_by_name(name).unwrap();
    if column.is_null(row) {
        return None;
    }
    let moment = |ms: i64| UtcDateTime::UNIX_EPOCH + Span::milliseconds(ms);
    Some(match kind {
        Kind::Text | Kind::Id => column.as_string::<i32>().value(row).to_owned(),
        Kind::Whole => column.as_primitive::<Int64Type>().value(row).to_string(),
        Kind::Date => {
            let days = column.as_primitive::<Date32Type>().value(row);
            (UtcDateTime::UNIX_EPOCH + Span::days(days.into())).date().to_string()
        }
        Kind::Timestamp => last_modified(moment(column.as_primitive::<TimestampMillisecondType>().value(row))),
        Kind::Decimal => {
            let scaled = column.as_primitive::<Decimal128Type>().value(row);
            let (sign, digits) = (
                if scaled < 0 { "-" } else { "" },
                format!("{:011}", scaled.unsigned_abs()),
            );
            let (whole, fraction) = digits.split_at(digits.len() - 10);
            format!("{sign}{whole}.{fraction}")
        }
        Kind::Boolean => column.as_boolean().value(row).to_string(),
    })
}

/// A record of the stream of the table of a log.
pub(crate) fn record(log: Log, name: &str, keys: &[&str], image: Value, sequence: u64) -> Value {
    record_at(log, name, keys, image, sequence, NOON)
}

pub(crate) fn record_at(
    log: Log,
    name: &str,
    keys: &[&str],
    mut image: Value,
    sequence: u64,
    at: UtcDateTime,
) -> Value {
    let table = match log {
        Log::Branches => "branch-dev",
        Log::Salespersons => "salesperson-dev",
        Log::Sales => "sale-dev",
        Log::Runs => "sync-dev",
    };
    let keys: HashMap<&str, Value> = lake::change::table_keys(log)
        .into_iter()
        .zip(keys)
        .map(|(name, key)| (name, json!({ "S": key })))
        .collect();
    let mut change = json!({
        "ApproximateCreationDateTime": at.unix_timestamp(), "Keys": keys, "SequenceNumber": sequence.to_string(),
        "SizeBytes": 1, "StreamViewType": "NEW_IMAGE",
    });
    if name != "REMOVE" {
        for (name, key) in &keys {
            image[name] = key.clone();
        }
        change["NewImage"] = image;
    }
    json!({
        "eventID": sequence.to_string(), "eventName": name, "eventVersion": "1.1", "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1", "dynamodb": change,
        "eventSourceARN": format!("arn:aws:dynamodb:us-east-1:1:table/{table}/stream/2026-11-21T00:00:00.000"),
    })
}
