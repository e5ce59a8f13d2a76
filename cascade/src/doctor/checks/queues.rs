//! Queues, how they are wired to their dead-letter queues, and what waits there.

use std::collections::BTreeMap;

use super::super::blueprint::{
    DEAD_LETTER_QUEUES, DEAD_LETTER_RETENTION_SECONDS, LAKE, LAKE_DEAD_LETTER_QUEUES, RECEIVES, VISIBILITY_SECONDS,
    WORK_QUEUES,
};
use super::super::facts::{QueueFacts, Told};
use super::{Context, Finding, arn_names, unless};

type Queues = BTreeMap<&'static str, Told<QueueFacts>>;

pub(super) fn findings(context: &Context<'_>, queues: &Queues) -> Vec<Finding> {
    let work = WORK_QUEUES
        .iter()
        .flat_map(|(queue, dead_letters)| of_work(context, queues, queue, dead_letters));
    let options = &context.options;
    let redrive = format!("cascade dlq list{options} says why; mend that, and then cascade dlq redrive{options}");
    let dead = DEAD_LETTER_QUEUES
        .iter()
        .flat_map(|queue| of_dead_letters(context, queues, queue, &redrive));
    let read = format!(
        "the log of {} says why; docs/DEPLOY.md, What the lake put aside, says what to do",
        context.name(LAKE.name)
    );
    let of_lake = LAKE_DEAD_LETTER_QUEUES
        .iter()
        .filter(|_| context.is_aws)
        .flat_map(|queue| of_dead_letters(context, queues, queue, &read));
    work.chain(dead).chain(of_lake).collect()
}

/// The `aws` command that sets one attribute.
fn set(context: &Context<'_>, queue: &QueueFacts, attribute: &str) -> String {
    if context.is_aws {
        format!(
            "aws sqs set-queue-attributes --queue-url {} --attributes '{attribute}'",
            queue.url
        )
    } else {
        context.make_anew()
    }
}

fn of_work(context: &Context<'_>, queues: &Queues, queue: &str, dead_letters: &str) -> Vec<Finding> {
    let (name, target) = (context.name(queue), context.name(dead_letters));
    let facts = match context.found(&name, queues.get(queue).unwrap_or(&Told::Missing)) {
        Ok(facts) => facts,
        Err(finding) => return vec![finding],
    };
    let mut problems = Vec::new();
    let visibility = facts.number("VisibilityTimeout");
    if visibility != Some(VISIBILITY_SECONDS) {
        problems.push(Finding::failed(
            &name,
            format!(
                "hides a message for {} after it was received, expected {VISIBILITY_SECONDS} s: the function's time-out, \
                 before which a second one would take it up",
                seconds(visibility)
            ),
            set(context, facts, &format!("VisibilityTimeout={VISIBILITY_SECONDS}")),
        ));
    }
    problems.extend(redrive(context, facts, &name, &target));
    problems.extend(encryption(context, facts, &name));
    unless(problems, || {
        Finding::ok(
            &name,
            format!(
                "visibility {VISIBILITY_SECONDS} s, after {RECEIVES} receives to {target}{}",
                encrypted(context)
            ),
        )
    })
}

/// What is wrong with where a queue's messages go that nobody could work on.
fn redrive(context: &Context<'_>, facts: &QueueFacts, name: &str, target: &str) -> Vec<Finding> {
    let arn = facts.attributes.get("QueueArn").map_or("", String::as_str);
    let prefix = arn.rsplit_once(':').map_or("", |(prefix, _)| prefix);
    let policy = serde_json::json!({
        "deadLetterTargetArn": format!("{prefix}:{target}"),
        "maxReceiveCount": RECEIVES.to_string(),
    });
    let attribute = serde_json::json!({"RedrivePolicy": policy.to_string()});
    let mend = || set(context, facts, &attribute.to_string());
    let told = facts.attributes.get("RedrivePolicy");
    let Some(told) = told.and_then(|policy| serde_json::from_str::<serde_json::Value>(policy).ok()) else {
        let says =
            "has no dead-letter queue: a message that cannot be worked on comes back until it is too old, and is lost";
        return vec![Finding::failed(name, says, mend())];
    };
    let mut problems = Vec::new();
    let goes_to = told["deadLetterTargetArn"].as_str().unwrap_or_default();
    if goes_to != format!("{prefix}:{target}") {
        let says = format!("sends its dead letters to {goes_to}, expected {target} beside it");
        problems.push(Finding::failed(name, says, mend()));
    }
    // A number or its text: SQS takes and gives both.
    let receives = told["maxReceiveCount"]
        .as_u64()
        .or_else(|| told["maxReceiveCount"].as_str()?.parse().ok());
    if receives != Some(RECEIVES.into()) {
        let receives = receives.map_or("?".to_owned(), |receives| receives.to_string());
        let says = format!("gives up on a message after {receives} receives, expected {RECEIVES}");
        problems.push(Finding::failed(name, says, mend()));
    }
    problems
}

/// `mend` is what to do where letters wait.
fn of_dead_letters(context: &Context<'_>, queues: &Queues, queue: &str, mend: &str) -> Vec<Finding> {
    let name = context.name(queue);
    let facts = match context.found(&name, queues.get(queue).unwrap_or(&Told::Missing)) {
        Ok(facts) => facts,
        Err(finding) => return vec![finding],
    };
    let mut problems = Vec::new();
    let retention = facts.number("MessageRetentionPeriod");
    if retention != Some(DEAD_LETTER_RETENTION_SECONDS) {
        problems.push(Finding::failed(
            &name,
            format!(
                "keeps dead letters for {}, expected {DEAD_LETTER_RETENTION_SECONDS} s (14 days)",
                seconds(retention)
            ),
            set(
                context,
                facts,
                &format!("MessageRetentionPeriod={DEAD_LETTER_RETENTION_SECONDS}"),
            ),
        ));
    }
    problems.extend(encryption(context, facts, &name));
    let waiting = ["", "NotVisible", "Delayed"].map(|kind| format!("ApproximateNumberOfMessages{kind}"));
    let waiting: u32 = waiting.into_iter().filter_map(|count| facts.number(&count)).sum();
    if waiting > 0 {
        problems.push(Finding::warning(&name, format!("dead letters wait: {waiting}"), mend));
    }
    unless(problems, || {
        Finding::ok(&name, format!("empty, keeps letters 14 days{}", encrypted(context)))
    })
}

fn encryption(context: &Context<'_>, facts: &QueueFacts, name: &str) -> Option<Finding> {
    let by_sqs = facts
        .attributes
        .get("SqsManagedSseEnabled")
        .is_some_and(|enabled| enabled == "true");
    let by_key = facts
        .attributes
        .get("KmsMasterKeyId")
        .is_some_and(|key| !key.is_empty());
    (context.is_aws && !by_sqs && !by_key).then(|| {
        Finding::warning(
            name,
            "is not encrypted at rest",
            set(context, facts, "SqsManagedSseEnabled=true"),
        )
    })
}

fn encrypted(context: &Context<'_>) -> &'static str {
    if context.is_aws { ", encrypted" } else { "" }
}

fn seconds(told: Option<u32>) -> String {
    told.map_or("an unknown time".to_owned(), |seconds| format!("{seconds} s"))
}

impl QueueFacts {
    fn number(&self, attribute: &str) -> Option<u32> {
        self.attributes.get(attribute)?.parse().ok()
    }

    /// Whether `url` leads to this queue. The host may differ: SQS has old and new ones, and an emulator many.
    pub(super) fn is_at(&self, url: &str) -> bool {
        let place = |url: &str| {
            let mut parts = url.rsplit('/').map(str::to_owned);
            (parts.next(), parts.next())
        };
        let is_elsewhere = region(&self.url)
            .zip(region(url))
            .is_some_and(|(own, other)| own != other);
        place(&self.url) == place(url) && !is_elsewhere
    }

    pub(super) fn is_arn(&self, arn: &str) -> bool {
        match self.attributes.get("QueueArn") {
            Some(own) => own == arn,
            None => self.url.rsplit('/').next().is_some_and(|name| arn_names(arn, name)),
        }
    }
}

/// The region in a queue's URL, where it is one of SQS's own: `https://sqs.eu-central-1.amazonaws.com/…`.
fn region(url: &str) -> Option<&str> {
    let host = url.split("://").nth(1)?.split('/').next()?;
    host.strip_prefix("sqs.").filter(|rest| rest.contains(".amazonaws."))
}
