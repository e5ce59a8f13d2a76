//! From the streams of the embedded cloud's tables into the lake under the data directory: what Lambda's event source mappings
//! do on AWS.
//!
//! Records go to the lake's function in the events that Lambda would send. How far each stream has been carried is written down
//! after the files are there: what is carried twice changes nothing.

mod positions;
mod rebuild;
mod records;
mod stream;

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_dynamodbstreams::types::{OperationType, Record};
use lake::account;
use lake::change::Unreadable;
use lake::counts::Counts;
use lake::handler::{Failure, HandlerError, LakeFunction, Reason};
use lake::log::Log;
use lake::rebuild::RebuildError;
use lake::store::{Lake, LakeError, OpenError};
use serde::Serialize;
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::collector::Call;
use shared::entity::Entity;
use shared::error_chain;
use shared::jitter::Jitter;
use shared::state::StateTable;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Url;

use positions::{Position, Positions};
pub use rebuild::Rebuilt;
use stream::Stream;

/// The lake's directory under the data directory.
pub const DIRECTORY: &str = "lake";

/// What the state table is called, which the environment's name is added to.
pub const STATE_TABLE: &str = "sync";

/// Where the lake's directory keeps records that are not understood: what a function's dead-letter queue is on AWS.
const FAILED: &str = "failed";

/// How many records, and how many bytes of them, an event has at the most: as many as Lambda would send.
///
/// Source: "Lambda quotas", and "Process DynamoDB records with Lambda: batch size", AWS Lambda Developer Guide.
const MOST_RECORDS: usize = 10_000;
const MOST_BYTES: usize = 6 * 1024 * 1024;

/// The function's time-out.
const TIME_OUT: Duration = Duration::from_secs(900);

/// Why the lake was not brought up to date. What had been carried before stays; the next time goes on from there.
#[derive(Debug, Error)]
pub enum FeedError {
    /// The lake's directory, or a file in it that is no lake's, cannot be used.
    #[error("could not use {}", path.display())]
    File {
        /// The directory or file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The lake cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A table has no stream.
    #[error("{table} has no stream")]
    NoStream {
        /// The table.
        table: String,
    },
    /// A table or its stream cannot be read.
    #[error("could not read {table} and its stream")]
    Stream {
        /// The table.
        table: String,
        /// What the service answered.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The lake cannot be read or written.
    #[error(transparent)]
    Lake(#[from] LakeError),
    /// A log could not be mended.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    /// The state table does not say which runs there were.
    #[error(transparent)]
    State(#[from] shared::state::StateError),
    /// The function ended in an error.
    #[error(transparent)]
    Function(#[from] HandlerError),
}

/// What was carried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Carried {
    /// What the function did.
    #[serde(flatten)]
    pub counts: Counts,
    /// The logs of which the streams no longer had everything: rows are missing that only the tables have.
    pub incomplete: Vec<&'static str>,
}

/// The way from the streams into the lake.
pub struct Feed {
    directory: PathBuf,
    lake: Lake,
    function: LakeFunction,
    /// In the order in which they are carried: what a run says of itself comes last.
    tables: [(Log, String); 4],
    dynamodb: aws_sdk_dynamodb::Client,
    streams: aws_sdk_dynamodbstreams::Client,
    state: Option<Arc<dyn StateTable>>,
    clock: Clock,
    progress: Mutex<Progress>,
}

/// How far it is. One at a time goes on with it.
struct Progress {
    positions: Positions,
    open: BTreeMap<String, Stream>,
}

/// Records that are handed to the function together.
#[derive(Default)]
struct Batch {
    /// The number and the text of each.
    records: Vec<(String, String)>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, sequence: String, record: &Value) {
        let text = record.to_string();
        self.bytes += text.len();
        self.records.push((sequence, text));
    }

    fn is_full(&self) -> bool {
        self.records.len() + 1000 > MOST_RECORDS || self.bytes > MOST_BYTES
    }
}

/// The event in which Lambda would deliver the records.
fn event(records: &[(String, String)]) -> String {
    let records: Vec<_> = records.iter().map(|(_, record)| record.as_str()).collect();
    format!(r#"{{"Records":[{}]}}"#, records.join(","))
}

fn call(request_id: String, clock: &Clock) -> Call {
    Call {
        request_id,
        now: clock.now(),
        deadline: Instant::now() + TIME_OUT,
        stop: CancellationToken::new(),
    }
}

/// Whether a change of the state table is that of a run's account: the filter of the event source mapping.
fn is_account(record: &Record) -> bool {
    let id = record
        .dynamodb()
        .and_then(|change| change.keys()?.get(shared::state::dynamodb::ID));
    id.and_then(|id| id.as_s().ok())
        .is_some_and(|id| id.starts_with(account::PREFIX))
}

/// The lake under a data directory, and its own directory, which is made if it is missing.
///
/// # Errors
/// If the directory cannot be used.
pub fn open_lake(data: &Path) -> Result<(PathBuf, Lake), FeedError> {
    let directory = data.join(DIRECTORY);
    let failed = |source| FeedError::File {
        path: directory.clone(),
        source,
    };
    fs::create_dir_all(&directory).map_err(failed)?;
    let absolute = directory.canonicalize().map_err(failed)?;
    let url = Url::from_directory_path(&absolute).map_err(|()| failed(io::ErrorKind::InvalidFilename.into()))?;
    Ok((directory.clone(), Lake::open(&url)?))
}

/// Where records are that were not understood, and how many: they are not in the lake.
///
/// # Errors
/// If the directory cannot be read.
pub fn put_aside(data: &Path) -> Result<(PathBuf, u64), FeedError> {
    let directory = data.join(DIRECTORY).join(FAILED);
    match fs::read_dir(&directory) {
        Ok(entries) => Ok((directory, entries.count() as u64)),
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => Ok((directory, 0)),
        Err(source) => Err(FeedError::File {
            path: directory,
            source,
        }),
    }
}

/// Puts small files of a lake together, as the function's schedule does; with `today`, those of the day that is not over as
/// well, however few they are.
///
/// # Errors
/// If not all of it could be done.
pub async fn compact(lake: &Lake, today: bool) -> Result<Counts, FeedError> {
    let clock = Clock::system();
    let function = LakeFunction::new(lake.clone(), HashMap::new(), None, clock.clone(), Jitter::random());
    let event = json!({"compact": {"today": today}}).to_string();
    let handled = function.handle(&event, call("compact".to_owned(), &clock)).await;
    handled.answer?;
    Ok(handled.counts)
}

impl Feed {
    /// The way from the tables of `environment` into the lake under `data`. `state` is the state table.
    ///
    /// # Errors
    /// If the lake's directory cannot be used.
    pub fn open(
        aws: &SdkConfig,
        environment: &str,
        data: &Path,
        state: Option<Arc<dyn StateTable>>,
    ) -> Result<Self, FeedError> {
        let (directory, lake) = open_lake(data)?;
        let table = |log: Log| {
            let name = log.entity().map_or(STATE_TABLE, Entity::name);
            (log, format!("{name}-{environment}"))
        };
        let tables = Log::ALL.map(table);
        // What streams and files say of time is the machine's, however far a simulated clock is moved on.
        let clock = Clock::system();
        let by_name = tables.iter().map(|(log, table)| (table.clone(), *log)).collect();
        let function = LakeFunction::new(lake.clone(), by_name, state.clone(), clock.clone(), Jitter::random());
        Ok(Self {
            progress: Mutex::new(Progress {
                positions: Positions::load(&directory)?,
                open: BTreeMap::new(),
            }),
            directory,
            lake,
            function,
            tables,
            dynamodb: aws_sdk_dynamodb::Client::new(aws),
            streams: aws_sdk_dynamodbstreams::Client::new(aws),
            state,
            clock,
        })
    }

    /// Carries what the streams have into the lake, until there is no more at the time.
    ///
    /// # Errors
    /// If a stream cannot be read or the lake not be written.
    pub async fn carry(&self) -> Result<Carried, FeedError> {
        let mut progress = self.progress.lock().await;
        let mut carried = Carried::default();
        for (log, table) in &self.tables {
            self.carry_table(*log, table, &mut progress, &mut carried.counts)
                .await?;
            if progress
                .positions
                .of(table)
                .is_some_and(|position| position.is_incomplete)
            {
                carried.incomplete.push(log.name());
            }
        }
        Ok(carried)
    }

    /// Puts small files of the lake together, as the function's schedule does.
    ///
    /// # Errors
    /// If not all of it could be done.
    pub async fn compact(&self) -> Result<Counts, FeedError> {
        compact(&self.lake, false).await
    }

    /// For each table, the number of a record of its stream up to which the lake has everything.
    pub async fn carried_up_to(&self) -> Vec<(String, String)> {
        let progress = self.progress.lock().await;
        let numbers = self.tables.iter().filter_map(|(_, table)| {
            let first = progress.positions.of(table)?.shards.values().min()?;
            Some((table.clone(), first.clone()))
        });
        numbers.collect()
    }

    async fn carry_table(
        &self,
        log: Log,
        table: &str,
        progress: &mut Progress,
        counts: &mut Counts,
    ) -> Result<(), FeedError> {
        let before = progress.positions.of(table).cloned();
        // Put back once all that was read is in the lake.
        let (mut stream, mut position, items) = match (progress.open.remove(table), before.clone()) {
            (Some(stream), Some(position)) => (stream, position, None),
            (_, before) => {
                let (arn, items) = self.describe(table).await?;
                let (stream, lost) = Stream::open(&self.streams, table, arn, before.as_ref()).await?;
                let position = Position {
                    arn: stream.arn.clone(),
                    is_incomplete: lost || before.as_ref().is_some_and(|before| before.is_incomplete),
                    shards: before.filter(|_| !lost).unwrap_or_default().shards,
                };
                (stream, position, Some(items))
            }
        };
        let mut inserted = 0;
        for shard in stream.shards().to_vec() {
            let (mut batch, mut last) = (Batch::default(), None);
            loop {
                let page = stream.next(&shard).await?;
                for record in page.records {
                    let Some(sequence) = record.dynamodb().and_then(|change| change.sequence_number()) else {
                        continue;
                    };
                    last = Some(sequence.to_owned());
                    inserted += match record.event_name() {
                        Some(OperationType::Insert) => 1,
                        Some(OperationType::Remove) => -1,
                        _ => 0,
                    };
                    if log != Log::Runs || is_account(&record) {
                        batch.push(sequence.to_owned(), &records::of_stream(&record, &stream.arn));
                    }
                }
                if batch.is_full() || page.is_last {
                    let handed = self.hand_over(table, std::mem::take(&mut batch), counts).await;
                    let done = match &handed {
                        Ok(()) => last.take(),
                        Err((done, _)) => done.clone(),
                    };
                    if let Some(done) = done {
                        position.shards.insert(shard.clone(), done);
                        progress.positions.set(table, &position)?;
                    }
                    handed.map_err(|(_, failure)| failure)?;
                }
                if page.is_last {
                    break;
                }
            }
        }
        if before.is_none() && log != Log::Runs && items.is_some_and(|items| items > inserted) {
            position.is_incomplete = true;
        }
        progress.positions.set(table, &position)?;
        progress.open.insert(table.to_owned(), stream);
        Ok(())
    }

    /// Hands records to the function, as often as it takes. A record that is not understood is put aside, where a mapping would
    /// send it to the queue of what failed. An error comes with the number of the last record that is in the lake.
    async fn hand_over(
        &self,
        table: &str,
        batch: Batch,
        counts: &mut Counts,
    ) -> Result<(), (Option<String>, FeedError)> {
        let mut rest = batch.records.as_slice();
        let mut done = None;
        while let Some((first, _)) = rest.first() {
            let call = call(format!("lake-{table}-{first}"), &self.clock);
            let handled = self.function.handle(&event(rest), call).await;
            *counts += handled.counts;
            if let Err(failure) = handled.answer {
                return Err((done, failure.into()));
            }
            let Some(Failure { index, reason, .. }) = handled.failure else {
                return Ok(());
            };
            let (written, from) = rest.split_at(index.min(rest.len()));
            done = written.last().map(|(sequence, _)| sequence.clone()).or(done);
            let Some((refused, others)) = from.split_first() else {
                return Ok(());
            };
            match reason {
                Reason::Lake(failure) => return Err((done, failure.into())),
                Reason::Unreadable(reason) => {
                    self.put_aside(table, refused, &reason)
                        .map_err(|failure| (done.clone(), failure))?;
                    done = Some(refused.0.clone());
                    rest = others;
                }
            }
        }
        Ok(())
    }

    fn put_aside(
        &self,
        table: &str,
        (sequence, record): &(String, String),
        reason: &Unreadable,
    ) -> Result<(), FeedError> {
        let directory = self.directory.join(FAILED);
        let path = directory.join(format!("{table}-{sequence}.json"));
        fs::create_dir_all(&directory)
            .and_then(|()| fs::write(&path, record))
            .map_err(|source| FeedError::File {
                path: path.clone(),
                source,
            })?;
        tracing::error!(
            table,
            sequence,
            reason = error_chain(reason),
            file = %path.display(),
            "a record is not understood, and is put aside"
        );
        Ok(())
    }

    /// A table's stream, and how many items it holds.
    async fn describe(&self, table: &str) -> Result<(String, i64), FeedError> {
        let answer = self.dynamodb.describe_table().table_name(table).send().await;
        let description = answer
            .map_err(|error| FeedError::Stream {
                table: table.to_owned(),
                source: error.into(),
            })?
            .table;
        let stream = description.as_ref().and_then(|table| table.latest_stream_arn());
        let stream = stream.ok_or_else(|| FeedError::NoStream {
            table: table.to_owned(),
        })?;
        let items = description.as_ref().and_then(|table| table.item_count());
        Ok((stream.to_owned(), items.unwrap_or_default()))
    }
}
