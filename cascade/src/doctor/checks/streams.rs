//! The streams that the lake's function follows: what is written into a table reaches the lake by its stream alone.

use lake::log::Log;
use shared::entity::Entity;

use super::super::blueprint::{
    BATCH_RECORDS, BATCH_TRIES, BATCH_WINDOW_SECONDS, LAKE, LAKE_BUCKET, LAKE_RECORDS, RECORD_AGE_SECONDS,
    RUNS_PATTERN, STATE_TABLE,
};
use super::super::facts::{MappingFacts, Services, Stores, TableFacts, Told};
use super::{Context, Finding, arn_names};

/// What Lambda says of a mapping that is at work, or about to be.
const AT_WORK: [&str; 4] = ["Enabled", "Enabling", "Creating", "Updating"];

pub(super) fn findings(context: &Context<'_>, services: &Services, stores: &Stores) -> Vec<Finding> {
    if services.mappings == Told::Missing {
        // There is no function: that it is missing is said elsewhere.
        return Vec::new();
    }
    let function = context.name(LAKE.name);
    let mappings = match context.found(&format!("{function}, streams"), &services.mappings) {
        Ok(mappings) => mappings,
        Err(finding) => return vec![finding],
    };
    let rows = Entity::ALL.map(|entity| {
        let told = stores.tables.iter().find(|(other, _)| *other == entity);
        (entity.name(), told.and_then(|(_, told)| told.found()))
    });
    let state = (STATE_TABLE, stores.state.found().map(|state| &state.table));
    rows.into_iter()
        .chain([state])
        .map(|(table, facts)| of_table(context, mappings, table, facts))
        .collect()
}

fn of_table(context: &Context<'_>, mappings: &[MappingFacts], table: &str, facts: Option<&TableFacts>) -> Finding {
    let name = context.name(table);
    let subject = format!("{}, stream of {name}", context.name(LAKE.name));
    let is_of_table = |mapping: &&MappingFacts| mapping.stream.contains(&format!(":table/{name}/stream/"));
    let stream = facts.and_then(|facts| facts.stream_arn.as_deref());
    let follows = |mapping: &&MappingFacts| match stream {
        Some(stream) => mapping.stream == stream,
        None => is_of_table(mapping),
    };
    let Some(mapping) = mappings.iter().find(follows) else {
        let follow = follow(context, table, stream);
        let (says, mend) = if mappings.iter().any(|mapping| is_of_table(&mapping)) {
            (
                "is followed no more: the table, or its stream, was made anew since, and what is written there does not reach the \
                 lake",
                begin_anew(context, table, &follow),
            )
        } else {
            ("is not followed: what is written there does not reach the lake", follow)
        };
        return Finding::failed(subject, says, mend);
    };
    let uuid = &mapping.uuid;
    if !AT_WORK.contains(&mapping.state.as_str()) {
        return Finding::failed(
            subject,
            format!(
                "is {}, expected Enabled: after 24 hours a stream forgets what is not in the lake",
                mapping.state
            ),
            format!("aws lambda update-event-source-mapping --uuid {uuid} --enabled"),
        );
    }
    if mapping.last_result.starts_with("PROBLEM") {
        return Finding::failed(
            subject,
            format!("is in trouble: {}", mapping.last_result),
            format!("mend what that says; the log of {} says more", context.name(LAKE.name)),
        );
    }
    let queue = context.name(LAKE_RECORDS);
    match &mapping.on_failure {
        Some(arn) if arn_names(arn, &queue) => Finding::ok(
            subject,
            format!("followed, what cannot be worked on is told to {queue}"),
        ),
        other => Finding::warning(
            subject,
            format!(
                "tells {} of records that cannot be worked on, expected {queue}",
                other.as_deref().unwrap_or("nobody")
            ),
            format!(
                "aws lambda update-event-source-mapping --uuid {uuid} --destination-config '{}'",
                destination(&queue)
            ),
        ),
    }
}

/// How the log of a table begins anew with the table's new stream. The views take of each key the change with the highest number,
/// and a new stream can begin with lower ones than the log has.
fn begin_anew(context: &Context<'_>, table: &str, follow: &str) -> String {
    let is_of_table = |log: &Log| log.entity().map_or(STATE_TABLE, |entity| entity.name()) == table;
    let log = Log::ALL.into_iter().find(is_of_table).map_or(table, |log| log.name());
    let bucket = format!("s3://{LAKE_BUCKET}-{}-<the account's number>", context.environment);
    let lake = context.name(LAKE.name);
    format!(
        "first aws s3 mv --recursive {bucket}/changes/{log}/ {bucket}/aside/{log}/ as the numbers of a new stream can be lower than \
         those in the log, which would hide what it says; then {follow}; then aws lambda invoke --function-name {lake} \
         --cli-binary-format raw-in-base64-out --payload '{{\"rebuild\": {{\"log\": \"{log}\"}}}}' --cli-read-timeout 900 \
         /dev/stdout"
    )
}

/// How the function is made to follow a stream, as the templates do it.
fn follow(context: &Context<'_>, table: &str, stream: Option<&str>) -> String {
    let filter = if table == STATE_TABLE {
        let pattern = serde_json::json!({"Filters": [{"Pattern": RUNS_PATTERN}]});
        format!(" --filter-criteria '{pattern}'")
    } else {
        String::new()
    };
    format!(
        "aws lambda create-event-source-mapping --function-name {} --event-source-arn {} --starting-position TRIM_HORIZON \
         --maximum-batching-window-in-seconds {BATCH_WINDOW_SECONDS} --batch-size {BATCH_RECORDS} \
         --bisect-batch-on-function-error --function-response-types ReportBatchItemFailures --maximum-retry-attempts \
         {BATCH_TRIES} --maximum-record-age-in-seconds {RECORD_AGE_SECONDS} --destination-config '{}'{filter}",
        context.name(LAKE.name),
        stream.unwrap_or("<the stream's ARN>"),
        destination(&context.name(LAKE_RECORDS)),
    )
}

fn destination(queue: &str) -> serde_json::Value {
    serde_json::json!({"OnFailure": {"Destination": format!("<the ARN of {queue}>")}})
}
