//! A collector as its callers see it: an event goes in, an answer comes out.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_lambda_events::event::sqs::SqsBatchResponse;
use serde_json::{Value, json};
use time::UtcDateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, error, error_span, info};

use crate::event::{DirectCall, Event, UnknownEvent};
use crate::invocation::Invocation;
use crate::queue::{Message, QueueError};
use crate::run::RunId;
use crate::tally::{Counts, Tally};
use crate::work::WorkError;

/// A collector.
#[async_trait]
pub trait Collector: Send + Sync {
    /// Its direct call.
    type Call: DirectCall + Send;

    /// Its name, which the environment's name is added to: `branch-collector`.
    const NAME: &'static str;

    /// The run that a direct call belongs to, if it says so.
    fn run_id(call: &Self::Call) -> Option<RunId>;

    /// What the schedule starts.
    ///
    /// # Errors
    /// If not all of it could be done; the rest was.
    async fn scheduled(&self, invocation: &Invocation) -> Result<(), InvocationError>;

    /// One piece of work.
    ///
    /// # Errors
    /// If it was not done.
    async fn direct(&self, call: Self::Call, invocation: &Invocation) -> Result<(), InvocationError>;

    /// Messages that were delivered with the event; answers the ids of those that have to come again.
    async fn records(&self, messages: Vec<Message>, invocation: &Invocation) -> Vec<String>;
}

/// Why an invocation ends in an error.
#[derive(Debug, thiserror::Error)]
pub enum InvocationError {
    /// The event is none of the expected ones.
    #[error(transparent)]
    UnknownEvent(#[from] UnknownEvent),
    /// Branches failed; the others are done.
    #[error("{} of {all} branches failed: {}", failed.len(), failed.join("; "))]
    Branches {
        /// Name and reason of each that failed.
        failed: Vec<String>,
        /// How many there were.
        all: usize,
    },
    /// The work of a direct call failed.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The queue cannot be read.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// How a collector is called.
#[derive(Clone, Debug)]
pub struct Call {
    /// The request's id, for the log lines.
    pub request_id: String,
    /// The time now, by the wall clock.
    pub now: UtcDateTime,
    /// When the invocation is ended.
    pub deadline: Instant,
    /// Cancelled when the function is told to stop.
    pub stop: CancellationToken,
}

/// What became of an invocation.
#[derive(Debug)]
pub struct Handled {
    /// The run; `None` if the event was not understood.
    pub run_id: Option<RunId>,
    /// What was done, also where it ended in an error.
    pub counts: Counts,
    /// How old the data is where it is least fresh, where the collector has looked.
    pub staleness: Option<Duration>,
    /// The answer (the contract's section 2).
    pub answer: Result<Value, InvocationError>,
}

/// Handles an event: tells it by its shape, does the work, logs the invocation's summary.
pub async fn handle<C: Collector>(collector: &C, event: &str, call: Call) -> Handled {
    handle_in_view(collector, event, call, Arc::default()).await
}

/// Handles an event as [`handle`] does, and counts in `tally`, where somebody can watch.
pub async fn handle_in_view<C: Collector>(collector: &C, event: &str, call: Call, tally: Arc<Tally>) -> Handled {
    // Of the highest level, like every span here: warnings carry its ids also where nothing below them is logged.
    let span = error_span!(
        "invocation",
        request_id = call.request_id,
        run_id = tracing::field::Empty
    );
    async {
        let event = match Event::<C::Call>::from_json(event) {
            Ok(event) => event,
            Err(unknown) => {
                error!(reason = %unknown, "invocation refused");
                return Handled {
                    run_id: None,
                    counts: Counts::default(),
                    staleness: None,
                    answer: Err(unknown.into()),
                };
            }
        };
        let run_id = match &event {
            Event::Schedule { run_id } => *run_id,
            Event::Direct(call) => C::run_id(call),
            Event::Records(_) => None,
        };
        let invocation = Invocation {
            tally,
            ..Invocation::new(run_id, call.now, call.deadline, call.stop)
        };
        tracing::Span::current().record("run_id", tracing::field::display(invocation.run_id));
        let answer = match event {
            Event::Schedule { .. } => collector.scheduled(&invocation).await.map(|()| summary(&invocation)),
            Event::Direct(call) => collector.direct(call, &invocation).await.map(|()| summary(&invocation)),
            Event::Records(messages) => Ok(batch_response(collector.records(messages, &invocation).await)),
        };
        let counts = invocation.tally.counts();
        log_summary(&counts, answer.as_ref().err());
        Handled {
            run_id: Some(invocation.run_id),
            counts,
            staleness: invocation.tally.staleness(),
            answer,
        }
    }
    .instrument(span)
    .await
}

fn summary(invocation: &Invocation) -> Value {
    let mut answer = json!(invocation.tally.counts());
    answer["statusCode"] = 200.into();
    answer["run_id"] = invocation.run_id.to_string().into();
    answer
}

fn batch_response(failed: Vec<String>) -> Value {
    let mut response = SqsBatchResponse::default();
    response.set_failures(failed);
    json!({ "batchItemFailures": response.batch_item_failures })
}

fn log_summary(counts: &Counts, failure: Option<&InvocationError>) {
    macro_rules! summary {
        ($level:ident, $($extra:tt)*) => {
            $level!(
                api_calls = counts.api_calls,
                api_throttles = counts.api_throttles,
                quota_wait_ms = counts.quota_wait_ms,
                inserted = counts.inserted,
                updated = counts.updated,
                deleted = counts.deleted,
                held_back = counts.held_back,
                unchanged = counts.unchanged,
                skipped = counts.skipped,
                rejected = counts.rejected,
                enqueued = counts.enqueued,
                done = counts.done,
                already_done = counts.already_done,
                failed = counts.failed,
                deferred = counts.deferred,
                handed_back = counts.handed_back,
                dead_lettered = counts.dead_lettered,
                state_failures = counts.state_failures,
                $($extra)*
            )
        };
    }
    match failure {
        None => summary!(info, "invocation done"),
        Some(failure) => summary!(error, reason = crate::error_chain(failure), "invocation failed"),
    }
}
