//! The function: an event goes in, files are written, an answer comes out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use shared::clock::Clock;
use shared::collector::Call;
use shared::error_chain;
use shared::jitter::Jitter;
use shared::state::{StateError, StateTable};
use time::Date;
use tokio::time::Instant;
use tracing::{Instrument, error, error_span, info, warn};

use crate::change::{Change, Head, Unreadable, table_keys};
use crate::compaction::{Compaction, CompactionError, Part, Policy};
use crate::counts::Counts;
use crate::event::{Delivered, Event, UnknownEvent};
use crate::log::Log;
use crate::rebuild::{Rebuild, RebuildError};
use crate::row::Row;
use crate::runs::Runs;
use crate::sightings::{Kinds, Sightings};
use crate::store::{Lake, LakeError};
use crate::tables::TableReader;
use crate::{account, batch, moment, row};

/// The tables by name, each with the log of its stream.
pub type Tables = HashMap<String, Log>;

/// The lake's function.
pub struct LakeFunction {
    lake: Lake,
    tables: Tables,
    state: Option<Arc<dyn StateTable>>,
    sightings: Sightings,
    policy: Policy,
    reader: Option<Arc<dyn TableReader>>,
    clock: Clock,
}

/// What became of an event.
#[derive(Debug)]
pub struct Handled {
    /// What was done, also where it ended in an error.
    pub counts: Counts,
    /// The first record that has to come again, of records that were delivered.
    pub failure: Option<Failure>,
    /// The answer.
    pub answer: Result<Value, HandlerError>,
}

/// A record that is not in the lake. What came before it is; it and all that came after it has to come again.
#[derive(Debug)]
pub struct Failure {
    /// Its place among the records.
    pub index: usize,
    /// Its number.
    pub sequence: String,
    /// Why.
    pub reason: Reason,
}

/// Why a record is not in the lake.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// It is not understood, and never will be.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The lake could not be written.
    #[error(transparent)]
    Lake(#[from] LakeError),
}

/// Why an event ends in an error.
#[derive(Debug, thiserror::Error)]
pub enum HandlerError {
    /// It is none of the expected ones.
    #[error(transparent)]
    UnknownEvent(#[from] UnknownEvent),
    /// A record has to come again and does not say which it is.
    #[error("record {index} has no SequenceNumber by which it could be handed back")]
    Nameless {
        /// Its place among the records.
        index: usize,
        /// Why it has to.
        source: Reason,
    },
    /// Not everything could be compacted.
    #[error(transparent)]
    Compaction(#[from] CompactionError),
    /// A log could not be mended.
    #[error("{log} could not be mended")]
    Rebuild {
        /// The log.
        log: &'static str,
        /// Why.
        source: Box<RebuildError>,
    },
    /// Which runs there were cannot be told, so that rows would not say theirs.
    #[error("the runs could not be read")]
    Runs(#[source] StateError),
    /// The function was not told how to read tables.
    #[error("there are no tables here that the lake could be mended from")]
    NoTables,
}

/// What is kept of an invocation's time for the last page of a table, and the file that it ends in.
const LAST_FILE: Duration = Duration::from_secs(30);

/// Whether a call's time is over, but for `kept`.
fn is_over(call: &Call, kept: Duration) -> bool {
    let work_until = call.deadline.checked_sub(kept);
    call.stop.is_cancelled() || work_until.is_none_or(|until| Instant::now() >= until)
}

/// The rows of one file, and the place of the first of their records.
#[derive(Default)]
struct Batch {
    first: usize,
    rows: Vec<Row>,
}

impl LakeFunction {
    /// A function that writes into `lake` what the streams of `tables` say. `state` knows the runs and remembers attributes.
    pub fn new(lake: Lake, tables: Tables, state: Option<Arc<dyn StateTable>>, clock: Clock, jitter: Jitter) -> Self {
        Self {
            lake,
            tables,
            sightings: Sightings::new(state.clone(), jitter),
            state,
            policy: Policy::default(),
            reader: None,
            clock,
        }
    }

    /// One that can mend the lake from the tables.
    #[must_use]
    pub fn with_reader(self, reader: Arc<dyn TableReader>) -> Self {
        Self {
            reader: Some(reader),
            ..self
        }
    }

    /// With other rules for compaction.
    #[must_use]
    pub fn with_policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// Handles an event: tells it by its shape, does the work, logs its summary.
    pub async fn handle(&self, event: &str, call: Call) -> Handled {
        let span = error_span!("invocation", request_id = call.request_id);
        async {
            let mut counts = Counts::default();
            let (failure, answer) = match Event::from_json(event) {
                Err(unknown) => (None, Err(unknown.into())),
                Ok(Event::Compact(part)) => (None, self.compact(&part, &call, &mut counts).await),
                Ok(Event::Rebuild(log)) => (None, self.rebuild(log, &call, &mut counts).await),
                Ok(Event::Records(records)) => self.records(&records, &mut counts).await,
            };
            log_summary(&counts, answer.as_ref().err());
            Handled {
                counts,
                failure,
                answer,
            }
        }
        .instrument(span)
        .await
    }

    async fn compact(&self, part: &Part, call: &Call, counts: &mut Counts) -> Result<Value, HandlerError> {
        let ends = || is_over(call, shared::invocation::SETTLING_TIME);
        let compaction = Compaction {
            lake: &self.lake,
            policy: self.policy,
            now: call.now,
            ends: &ends,
        };
        compaction.run(part, counts).await?;
        let mut answer = json!(counts);
        answer["statusCode"] = 200.into();
        Ok(answer)
    }

    /// Writes what the tables hold and the lake does not, log by log, for as long as there is time.
    async fn rebuild(&self, only: Option<Log>, call: &Call, counts: &mut Counts) -> Result<Value, HandlerError> {
        let reader = self.reader.as_deref().ok_or(HandlerError::NoTables)?;
        let runs = match &self.state {
            Some(state) => Runs::read(&**state).await.map_err(HandlerError::Runs)?,
            None => Runs::default(),
        };
        let ends = || is_over(call, LAST_FILE);
        let rebuild = Rebuild {
            lake: &self.lake,
            tables: reader,
            runs: &runs,
            now: call.now,
            ends: &ends,
        };
        let told = |log: &Log| self.tables.values().any(|other| other == log) && only.is_none_or(|only| only == *log);
        let (mut written, mut left) = (BTreeMap::new(), Vec::new());
        for log in Log::ALL.into_iter().filter(told) {
            let before = counts.rows;
            let is_whole = !ends()
                && rebuild.log(log, counts).await.map_err(|source| HandlerError::Rebuild {
                    log: log.name(),
                    source: source.into(),
                })?;
            written.insert(log.name(), counts.rows - before);
            if !is_whole {
                left.push(log.name());
            }
        }
        let mut answer = json!(counts);
        answer["statusCode"] = 200.into();
        answer["rebuilt"] = json!(written);
        answer["complete"] = left.is_empty().into();
        if !left.is_empty() {
            answer["left"] = json!(left);
            answer["next"] = "the time was over: call again, and what is written already is not written again".into();
        }
        Ok(answer)
    }

    async fn records(
        &self,
        records: &[Delivered],
        counts: &mut Counts,
    ) -> (Option<Failure>, Result<Value, HandlerError>) {
        counts.records = records.len() as u64;
        let failed = self.write(records, counts).await;
        let Some((index, reason)) = failed else {
            return (None, Ok(json!({ "batchItemFailures": [] })));
        };
        match reason {
            Reason::Unreadable(_) => counts.refused = 1,
            Reason::Lake(_) => counts.failed = (records.len() - index) as u64,
        }
        let head = records.get(index).map(|record| &record.head);
        let Some(sequence) = head.and_then(Head::sequence) else {
            let source = reason;
            return (None, Err(HandlerError::Nameless { index, source }));
        };
        error!(
            table = head.and_then(Head::table),
            sequence,
            reason = error_chain(&reason),
            "a record is not in the lake; it and what follows it is handed back"
        );
        let answer = json!({ "batchItemFailures": [{ "itemIdentifier": sequence }] });
        let failure = Failure {
            index,
            sequence,
            reason,
        };
        (Some(failure), Ok(answer))
    }

    /// Writes what can be written of the records; answers the first of them that is not.
    async fn write(&self, records: &[Delivered], counts: &mut Counts) -> Option<(usize, Reason)> {
        let mut batches: BTreeMap<(Log, Date), Batch> = BTreeMap::new();
        let mut seen: BTreeMap<Log, Kinds> = BTreeMap::new();
        let mut failed = None;
        let runs = self.runs(records, counts).await;
        for (index, record) in records.iter().enumerate() {
            match self.row(record, &runs, &mut seen) {
                Ok(Some((log, date, row))) => {
                    let fresh = || Batch {
                        first: index,
                        rows: Vec::new(),
                    };
                    batches.entry((log, date)).or_insert_with(fresh).rows.push(row);
                }
                Ok(None) => counts.ignored += 1,
                Err(reason) => {
                    failed = Some((index, reason.into()));
                    break;
                }
            }
        }
        for ((log, date), batch) in batches {
            if let Err(failure) = self.write_file(log, date, batch.rows, counts).await
                && failed.as_ref().is_none_or(|(index, _)| batch.first < *index)
            {
                failed = Some((batch.first, failure.into()));
            }
        }
        // Attributes of what comes again are told when it does.
        if !matches!(failed, Some((_, Reason::Lake(_)))) {
            for (log, kinds) in seen {
                let news = self.sightings.note(log, kinds).await;
                counts.new_attributes += news.attributes;
                counts.state_failures += u64::from(news.state_failed);
            }
        }
        failed
    }

    /// The runs, where there are records that belong to one.
    async fn runs(&self, records: &[Delivered], counts: &mut Counts) -> Runs {
        let is_of_entity = |record: &Delivered| self.log_of(record).is_some_and(|log| log.entity().is_some());
        let Some(state) = self.state.as_ref().filter(|_| records.iter().any(is_of_entity)) else {
            return Runs::default();
        };
        match Runs::read(&**state).await {
            Ok(runs) => runs,
            Err(failure) => {
                counts.state_failures += 1;
                warn!(
                    reason = error_chain(&failure),
                    "the rows of this batch do not say their run"
                );
                Runs::default()
            }
        }
    }

    fn log_of(&self, record: &Delivered) -> Option<Log> {
        self.tables.get(record.head.table()?).copied()
    }

    /// The row of a record, and where it goes; `None` for one that is about nothing that the lake keeps.
    fn row(
        &self,
        record: &Delivered,
        runs: &Runs,
        seen: &mut BTreeMap<Log, Kinds>,
    ) -> Result<Option<(Log, Date, Row)>, Unreadable> {
        let stream = || record.head.stream.clone().unwrap_or_default();
        let log = self.log_of(record).ok_or_else(|| Unreadable::Table(stream()))?;
        let change = Change::read(record.text.get(), &table_keys(log))?;
        let row = if log.entity().is_some() {
            Sightings::look_at(log, &change.image, seen.entry(log).or_default());
            Some(row::of_entity(log, change, runs)?)
        } else {
            account::row(&change)?
        };
        let Some(row) = row else { return Ok(None) };
        let time = moment::time_of(row.changed_at).ok_or(Unreadable::NoTime)?;
        Ok(Some((log, time.date(), row)))
    }

    async fn write_file(&self, log: Log, date: Date, rows: Vec<Row>, counts: &mut Counts) -> Result<(), LakeError> {
        let rows = batch::in_file_order(log, rows);
        let written = self.lake.write(log, date, &rows, self.clock.now()).await?;
        counts.rows += rows.len() as u64;
        counts.unfit_values += rows.iter().map(|row| row.unfit as u64).sum::<u64>();
        counts.files += 1;
        counts.bytes += written;
        Ok(())
    }
}

fn log_summary(counts: &Counts, failure: Option<&HandlerError>) {
    macro_rules! summary {
        ($level:ident, $($extra:tt)*) => {
            $level!(
                records = counts.records,
                ignored = counts.ignored,
                refused = counts.refused,
                failed = counts.failed,
                rows = counts.rows,
                files = counts.files,
                bytes = counts.bytes,
                unfit_values = counts.unfit_values,
                new_attributes = counts.new_attributes,
                compacted_files = counts.compacted_files,
                deleted_files = counts.deleted_files,
                state_failures = counts.state_failures,
                $($extra)*
            )
        };
    }
    match failure {
        None => summary!(info, "invocation done"),
        Some(failure) => summary!(error, reason = error_chain(failure), "invocation failed"),
    }
}
