//! The vendor: whether it answers, and whether its quota is kept.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use shared::secret::SecretArn;
use url::Url;

use super::super::blueprint::{Function, LAKE, STATE_TABLE};
use super::super::facts::{Facts, FunctionFacts, Reached, SecretFacts, Told};
use super::functions::STATE_DB;
use super::{Context, Finding, settings};

const RATE: &str = "API_REQUESTS_PER_MINUTE";
const SHARE: &str = "API_QUOTA_SHARE";
const PER_SECOND: &str = "API_REQUESTS_PER_SECOND";
const TOGETHER: &str = "COLLECTOR_INSTANCES";

const NOT_SET: &str = "not set";

pub(super) fn findings(context: &Context<'_>, facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<_> = facts
        .vendors
        .iter()
        .map(|(url, reached)| of_vendor(url, reached))
        .collect();
    if facts.vendors.len() > 1 {
        findings.push(Finding::warning(
            "API_BASE_URL",
            "the functions are told of different vendors: what one finds, another does not know",
            "deploy all of them with one ApiBaseUrl",
        ));
    }
    if let Some(services) = &facts.services {
        findings.extend(services.secrets.iter().map(|(arn, told)| of_secret(context, arn, told)));
        findings.push(of_quota(context, &services.functions, facts.quota));
    }
    findings
}

fn of_vendor(url: &Url, reached: &Reached) -> Finding {
    // The origin alone: a URL can hold a name and a password.
    let origin = url.origin().ascii_serialization();
    match reached {
        Reached::Answered(429) => Finding::warning(
            origin,
            "answers, but its quota is used up (429)",
            "ask again in a minute; if it stays so, somebody else uses the same account, or the quota is set too high",
        ),
        Reached::Answered(status @ 500..) => Finding::warning(
            origin,
            format!("answers with {status}"),
            "ask the vendor; until it answers, messages wait in their queues and are tried again",
        ),
        Reached::Answered(status) => Finding::ok(origin, format!("answers from here (status {status}, one request)")),
        Reached::Not(reason) => Finding::failed(
            origin,
            format!("does not answer from here: {reason}"),
            "check API_BASE_URL (parameter ApiBaseUrl) and the network; that the functions reach it only their log shows",
        ),
    }
}

/// Whether the functions' key can be read when they start. That it is the right one, only the vendor knows.
fn of_secret(context: &Context<'_>, arn: &SecretArn, told: &Told<SecretFacts>) -> Finding {
    let arn = arn.as_str();
    match told {
        Told::Missing => Finding::failed(
            arn,
            "is missing: no function starts without its key",
            "aws secretsmanager create-secret --name <a name> --secret-string file://<a file with the key alone>, and deploy \
             with ApiKeySecretArn=<its ARN>",
        ),
        told => match context.found(arn, told) {
            Ok(SecretFacts { is_going: true }) => Finding::failed(
                arn,
                "is about to be deleted: no function starts without its key",
                format!("aws secretsmanager restore-secret --secret-id {arn}"),
            ),
            Ok(SecretFacts { is_going: false }) => {
                Finding::ok(arn, "there, the key is read from it when a function starts")
            }
            Err(finding) => finding,
        },
    }
}

/// Whether all instances together stay within the quota. Those that share a state table take from one quota; each of the
/// others paces itself by its own setting.
fn of_quota(
    context: &Context<'_>,
    functions: &[(&'static Function, Told<FunctionFacts>)],
    quota: Option<u32>,
) -> Finding {
    let subject = RATE;
    let (mut parts, mut unlimited, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    for (function, told) in functions.iter().filter(|(function, _)| **function != LAKE) {
        let facts = told.found();
        if facts.is_some_and(|facts| facts.at_once.is_none()) {
            unlimited.push(*function);
        }
        match facts.and_then(|facts| part(context, function, facts)) {
            Some(part) => parts.push(part),
            None => unread.push(context.name(function.name)),
        }
    }
    let is_shared = parts.iter().any(|part| part.state.is_some());
    if is_shared && unread.is_empty() {
        return of_shared(context, subject, &parts, quota);
    }
    if !is_shared && !unlimited.is_empty() {
        let names: Vec<_> = unlimited.iter().map(|function| context.name(function.name)).collect();
        let commands = unlimited.iter().map(|function| {
            let name = context.name(function.name);
            let at_once = function.at_once;
            format!(
                "aws lambda put-function-concurrency --function-name {name} --reserved-concurrent-executions {at_once}"
            )
        });
        return Finding::warning(
            subject,
            format!(
                "no quota is sure to be kept: as many as the account allows may run at once of {}, and each paces itself \
                 alone",
                names.join(", ")
            ),
            format!("{}; {}", commands.collect::<Vec<_>>().join("; "), share_it(context)),
        );
    }
    if !unread.is_empty() {
        return Finding::skipped(
            subject,
            format!(
                "not compared with a quota: the settings of {} are not known",
                unread.join(", ")
            ),
            "mend what is said of them under Functions first",
        );
    }
    of_parts(context, subject, &parts, quota)
}

/// How the quota is shared where it is not.
fn share_it(context: &Context<'_>) -> String {
    format!(
        "or have all instances share one quota: deploy the templates as they are now, with which {STATE_DB} is {}",
        context.name(STATE_TABLE)
    )
}

/// What the instances of one function may send together.
struct Part {
    /// The function's whole name.
    name: String,
    /// How many of it may run at once; `None`: as many as the account allows.
    at_once: Option<u32>,
    /// In requests a minute: of each instance that paces itself, or of all that share a table.
    rate: u32,
    /// The table by which the quota is shared.
    state: Option<String>,
    /// In percent of the rate.
    share: u32,
    /// In requests a second.
    per_second: Option<u32>,
    /// Among how many instances the quota is divided while the table cannot be reached.
    instances: u32,
}

impl Part {
    /// The most that may be sent in a minute where the quota is shared.
    fn most(&self) -> u64 {
        let most = (u64::from(self.rate) * u64::from(self.share) / 100).max(1);
        self.per_second
            .map_or(most, |per_second| most.min(u64::from(per_second) * 60))
    }
}

/// `None` where its settings are not known.
fn part(context: &Context<'_>, function: &Function, facts: &FunctionFacts) -> Option<Part> {
    let values = facts.variables.found()?;
    let settings = settings(function, values).ok()?;
    Some(Part {
        name: context.name(function.name),
        at_once: facts.at_once.map(|at_once| u32::try_from(at_once).unwrap_or_default()),
        rate: settings.quota.requests_per_minute.get(),
        state: settings.state_table,
        share: settings.quota.share_percent,
        per_second: settings.quota.requests_per_second.map(NonZeroU32::get),
        instances: settings.quota.instances.get(),
    })
}

/// Whether the functions that share a quota mean the same one, and whether it is the vendor's.
fn of_shared(context: &Context<'_>, subject: &str, parts: &[Part], quota: Option<u32>) -> Finding {
    let apart = differing(parts);
    let [first, ..] = parts else {
        return Finding::skipped(subject, "there is no function to compare", "deploy the templates");
    };
    if !apart.is_empty() {
        return Finding::failed(
            subject,
            format!(
                "the functions do not agree on one quota: {}. Each counts what is taken by its own measure, so that no quota is \
                 sure to be kept",
                apart.join("; ")
            ),
            format!(
                "deploy all of them with the same ApiRequestsPerMinute, ApiQuotaShare and ApiRequestsPerSecond; what was \
                 changed by hand, set back by hand: {STATE_DB} is {}",
                context.name(STATE_TABLE)
            ),
        );
    }
    let most = first.most();
    let limit = first
        .per_second
        .map_or(String::new(), |per_second| format!(", at most {per_second} a second"));
    let shared = format!(
        "all instances share {most} requests a minute ({} % of {}{limit})",
        first.share, first.rate
    );
    if let Some(quota) = quota
        && most > u64::from(quota)
    {
        return Finding::warning(
            subject,
            format!("{shared}, expected {quota}: what is over it is answered 429 and waits"),
            format!("deploy with ApiRequestsPerMinute={quota}"),
        );
    }
    let together = parts
        .iter()
        .try_fold(0, |sum: u64, part| Some(sum + u64::from(part.at_once?)));
    if together.is_none_or(|together| together > first.instances.into()) {
        let together = together.map_or("as many as the account allows".to_owned(), |together| {
            together.to_string()
        });
        return Finding::warning(
            subject,
            format!(
                "{shared}; but {together} may run at once, while {TOGETHER} says {}: as long as the state table cannot be reached, \
                 they may send more",
                first.instances
            ),
            "bring the functions' reserved concurrency back to the templates', as is said under Functions; whoever changes it \
             in template.yml has to change the sum beside it",
        );
    }
    Finding::ok(
        subject,
        match quota {
            Some(quota) => format!("{shared}, within {quota}"),
            None => format!("{shared}; --quota N compares it with the vendor's quota"),
        },
    )
}

/// The settings on which the functions do not agree, each with what every function is told.
fn differing(parts: &[Part]) -> Vec<String> {
    let told = |variable: &str, of: fn(&Part) -> String| {
        let mut by_value = BTreeMap::<_, Vec<_>>::new();
        for part in parts {
            by_value.entry(of(part)).or_default().push(part.name.as_str());
        }
        let each = by_value
            .iter()
            .map(|(value, names)| format!("{value} for {}", names.join(" and ")));
        (by_value.len() > 1).then(|| format!("{variable} is {}", each.collect::<Vec<_>>().join(", ")))
    };
    [
        told(STATE_DB, |part| part.state.clone().unwrap_or(NOT_SET.to_owned())),
        told(RATE, |part| part.rate.to_string()),
        told(SHARE, |part| part.share.to_string()),
        told(PER_SECOND, |part| {
            part.per_second
                .map_or(NOT_SET.to_owned(), |per_second| per_second.to_string())
        }),
        told(TOGETHER, |part| part.instances.to_string()),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn of_parts(context: &Context<'_>, subject: &str, parts: &[Part], quota: Option<u32>) -> Finding {
    // Where a function has no limit, that was said before.
    let instances = |part: &Part| u64::from(part.at_once.unwrap_or_default());
    let most: u64 = parts.iter().map(|part| u64::from(part.rate) * instances(part)).sum();
    let at_once: u64 = parts.iter().map(instances).sum();
    let sum: Vec<_> = parts
        .iter()
        .map(|part| format!("{}×{}", instances(part), part.rate))
        .collect();
    let sum = format!("{} = {most} requests a minute at most", sum.join(" + "));
    // One parameter sets the rate of all functions.
    let share = |quota: u32| u64::from(quota).checked_div(at_once).unwrap_or_default();
    let deploy = |quota: u32| {
        let now = match share(quota) {
            0 => format!(
                "a quota of {quota} is too small for {at_once} instances at once, even with ApiRequestsPerMinute=1: have the \
                 vendor raise it"
            ),
            share => format!("deploy with ApiRequestsPerMinute={share} ({quota}/{at_once}, rounded down) or less"),
        };
        format!("{now}; {}", share_it(context))
    };
    let rates: BTreeSet<_> = parts.iter().map(|part| part.rate).collect();
    match (quota, rates.first()) {
        (Some(quota), _) if most > u64::from(quota) => Finding::warning(
            subject,
            format!("the functions may send {sum}, expected {quota}: what is over it is answered 429 and waits"),
            deploy(quota),
        ),
        (Some(quota), _) => Finding::ok(
            subject,
            format!("{sum}, within {quota}; with {STATE_DB} set, they would share all of it"),
        ),
        (None, Some(&rate)) if rates.len() == 1 && most > u64::from(rate) => Finding::warning(
            subject,
            format!(
                "all functions carry {rate}, and each instance paces itself by it: {sum}. If {rate} is the vendor's whole \
                 quota, it is exceeded; what is over it is answered 429 and waits"
            ),
            format!(
                "compare it with the vendor's quota: --quota N; if that is {rate}, {}",
                deploy(rate)
            ),
        ),
        (None, _) => Finding::ok(
            subject,
            format!(
                "{sum}; --quota N compares it with the vendor's quota; with {STATE_DB} set, all instances would share one"
            ),
        ),
    }
}
