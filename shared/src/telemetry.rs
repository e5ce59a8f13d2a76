//! Logs as JSON, one object a line, and counts as CloudWatch embedded metrics.

use std::time::Duration;

use json_subscriber::JsonLayer;
use serde_json::{Value, json};
use time::UtcDateTime;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::run::RunId;
use crate::tally::Counts;

/// The namespace of the metrics.
pub const NAMESPACE: &str = "Cascade";

/// What every log line says of the process it comes from.
#[derive(Clone, Debug)]
pub struct Process {
    /// The function's name.
    pub function: String,
    /// The function's version.
    pub version: String,
}

impl Process {
    /// As Lambda tells it, or `name` where there is no Lambda.
    pub fn from_env(name: &str) -> Self {
        let variable = |variable, otherwise: &str| std::env::var(variable).unwrap_or_else(|_| otherwise.to_owned());
        Self {
            function: variable("AWS_LAMBDA_FUNCTION_NAME", name),
            version: variable("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        }
    }
}

/// Writes the process's log lines to its standard output, from `level` on. The fields of an event and of the spans
/// around it stand at the top of the object; of a field that several of them have, the innermost one.
pub fn init(process: &Process, level: LevelFilter) {
    init_with_writer(process, level, std::io::stdout);
}

/// Writes the process's log lines to `writer`, as [`init`] does to the standard output.
pub fn init_with_writer<W>(process: &Process, level: LevelFilter, writer: W)
where
    W: for<'writer> tracing_subscriber::fmt::MakeWriter<'writer> + Send + Sync + 'static,
{
    // A second call, as a test may make, leaves the first one's subscriber in place.
    let _ = tracing_subscriber::registry()
        .with(level)
        .with(layer(process, writer))
        .try_init();
}

fn layer<S, W>(process: &Process, writer: W) -> JsonLayer<S, W>
where
    S: tracing::Subscriber + for<'span> tracing_subscriber::registry::LookupSpan<'span>,
    W: for<'writer> tracing_subscriber::fmt::MakeWriter<'writer> + 'static,
{
    let mut layer = JsonLayer::new(writer);
    layer.with_timer("timestamp", tracing_subscriber::fmt::time::SystemTime);
    layer.with_level("level");
    layer.with_target("target");
    layer.add_static_field("function", process.function.clone().into());
    layer.add_static_field("version", process.version.clone().into());
    layer.with_flattened_event();
    layer.with_top_level_flattened_span_list();
    layer
}

/// A collector's counts of one invocation as [`metrics_line`] has them.
pub fn embedded_metrics(
    function: &str,
    environment: &str,
    request_id: &str,
    run_id: Option<RunId>,
    counts: &Counts,
    staleness: Option<Duration>,
    now: UtcDateTime,
) -> Value {
    let metrics = [
        ("RecordsInserted", counts.inserted),
        ("RecordsUpdated", counts.updated),
        ("Deleted", counts.deleted),
        ("HeldBack", counts.held_back),
        ("RecordsUnchanged", counts.unchanged),
        ("RecordsSkipped", counts.skipped),
        ("RecordsRejected", counts.rejected),
        ("MessagesEnqueued", counts.enqueued),
        ("MessagesDone", counts.done),
        ("MessagesFailed", counts.failed),
        ("MessagesDeferred", counts.deferred),
        ("MessagesHandedBack", counts.handed_back),
        ("MessagesDeadLettered", counts.dead_lettered),
        ("ApiCalls", counts.api_calls),
        ("ApiThrottles", counts.api_throttles),
        ("RunsBegun", counts.runs_begun),
        ("AlreadyDone", counts.already_done),
        ("StateFailures", counts.state_failures),
    ];
    let mut metrics: Vec<_> = metrics.map(|(name, count)| (name, "Count", count.into())).into();
    let quota_wait = Duration::from_millis(counts.quota_wait_ms).as_secs_f64();
    metrics.push(("QuotaWait", "Seconds", quota_wait.into()));
    if let Some(staleness) = staleness {
        metrics.push(("FreshnessSeconds", "Seconds", staleness.as_secs().into()));
    }
    let mut line = metrics_line(function, environment, request_id, &metrics, now);
    line["run_id"] = json!(run_id);
    line
}

/// Measures of one invocation (name, unit, value) in CloudWatch's embedded metric format: a log line that CloudWatch makes
/// metrics of.
///
/// Source: "Specification: Embedded metric format", Amazon CloudWatch User Guide.
pub fn metrics_line(
    function: &str,
    environment: &str,
    request_id: &str,
    metrics: &[(&str, &str, Value)],
    now: UtcDateTime,
) -> Value {
    let definitions = metrics
        .iter()
        .map(|(name, unit, _)| json!({"Name": name, "Unit": unit}));
    let mut line = json!({
        "_aws": {
            "Timestamp": i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or_default(),
            "CloudWatchMetrics": [{
                "Namespace": NAMESPACE,
                "Dimensions": [["function", "environment"]],
                "Metrics": definitions.collect::<Vec<_>>(),
            }],
        },
        "function": function,
        "environment": environment,
        "request_id": request_id,
    });
    for (name, _, value) in metrics {
        line[*name] = value.clone();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::{Arc, Mutex};
    use time::macros::utc_datetime;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_line_is_one_object_with_the_fields_of_event_and_spans_at_its_top() {
        let lines = Lines::default();
        let process = Process {
            function: "sale-collector-dev".to_owned(),
            version: "7".to_owned(),
        };
        let writer = lines.clone();
        let subscriber = tracing_subscriber::registry().with(layer(&process, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || {
            let invocation = tracing::info_span!("invocation", request_id = "r-1", run_id = "invocation's");
            let _invocation = invocation.enter();
            let message = tracing::info_span!("message", run_id = "message's", employee_id = tracing::field::Empty);
            message.record("employee_id", "1235");
            let _message = message.enter();
            tracing::warn!(record = "3972", "record rejected");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1);
        assert_eq!(text.matches("\"run_id\"").count(), 1, "{text}");
        let line: Value = serde_json::from_str(&text).unwrap();
        for (field, value) in [
            ("level", "WARN"),
            ("message", "record rejected"),
            ("record", "3972"),
            ("request_id", "r-1"),
            ("run_id", "message's"),
            ("employee_id", "1235"),
            ("function", "sale-collector-dev"),
            ("version", "7"),
        ] {
            assert_eq!(line[field], value, "{field} in {text}");
        }
        assert!(line["timestamp"].is_string());
    }

    #[test]
    fn metrics_are_as_cloudwatch_reads_them() {
        let counts = Counts {
            inserted: 3,
            api_calls: 5,
            quota_wait_ms: 1500,
            ..Counts::default()
        };
        let run_id = RunId::parse("2026-11-21T01:00:00Z").ok();
        let (now, stale) = (utc_datetime!(2026-11-21 01:00:01), Some(Duration::from_secs(3601)));
        let line = embedded_metrics("f", "dev", "r-1", run_id, &counts, stale, now);
        assert_eq!(line["_aws"]["Timestamp"], 1_795_222_801_000_i64);
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], "Cascade");
        assert_eq!(directive["Dimensions"], json!([["function", "environment"]]));
        for metric in directive["Metrics"].as_array().unwrap() {
            assert!(line[metric["Name"].as_str().unwrap()].is_number(), "{metric}");
        }
        assert_eq!(
            (&line["RecordsInserted"], &line["ApiCalls"], &line["QuotaWait"]),
            (&json!(3), &json!(5), &json!(1.5))
        );
        assert_eq!(line["FreshnessSeconds"], 3601);
        assert_eq!((&line["function"], &line["environment"]), (&json!("f"), &json!("dev")));
    }
}
