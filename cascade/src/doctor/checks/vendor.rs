//! The vendor: whether it answers, and whether its quota is kept.

use std::collections::BTreeSet;

use shared::secret::SecretArn;
use url::Url;

use super::super::blueprint::Function;
use super::super::facts::{Facts, FunctionFacts, Reached, SecretFacts, Told};
use super::{Context, Finding, settings};

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

/// Whether all processes together stay within the quota: each paces itself by its own setting.
fn of_quota(
    context: &Context<'_>,
    functions: &[(&'static Function, Told<FunctionFacts>)],
    quota: Option<u32>,
) -> Finding {
    let subject = "API_REQUESTS_PER_MINUTE";
    let (mut parts, mut unlimited, mut unread) = (Vec::new(), Vec::new(), Vec::new());
    for (function, told) in functions {
        let facts = told.found();
        if facts.is_some_and(|facts| facts.at_once.is_none()) {
            unlimited.push(*function);
        }
        match facts.and_then(|facts| part(function, facts)) {
            Some(part) => parts.push(part),
            None => unread.push(context.name(function.name)),
        }
    }
    if !unlimited.is_empty() {
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
            commands.collect::<Vec<_>>().join("; "),
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
    of_parts(subject, &parts, quota)
}

/// What the instances of one function may send together.
struct Part {
    at_once: u32,
    /// Of each, in requests a minute.
    rate: u32,
}

/// `None` where its settings are not known, or how many instances there may be.
fn part(function: &Function, facts: &FunctionFacts) -> Option<Part> {
    let settings = settings(function, facts.variables.found()?).ok()?;
    Some(Part {
        at_once: u32::try_from(facts.at_once?).ok()?,
        rate: settings.quota.requests_per_minute.get(),
    })
}

fn of_parts(subject: &str, parts: &[Part], quota: Option<u32>) -> Finding {
    let most: u64 = parts
        .iter()
        .map(|part| u64::from(part.rate) * u64::from(part.at_once))
        .sum();
    let at_once: u64 = parts.iter().map(|part| u64::from(part.at_once)).sum();
    let sum: Vec<_> = parts
        .iter()
        .map(|Part { at_once, rate }| format!("{at_once}×{rate}"))
        .collect();
    let sum = format!("{} = {most} requests a minute at most", sum.join(" + "));
    // One parameter sets the rate of all functions.
    let share = |quota: u32| u64::from(quota).checked_div(at_once).unwrap_or_default();
    let deploy = |quota: u32| match share(quota) {
        0 => format!(
            "a quota of {quota} is too small for {at_once} instances at once, even with ApiRequestsPerMinute=1: have the \
             vendor raise it; until then, what is over it waits"
        ),
        share => format!("deploy with ApiRequestsPerMinute={share} ({quota}/{at_once}, rounded down) or less"),
    };
    let rates: BTreeSet<_> = parts.iter().map(|part| part.rate).collect();
    match (quota, rates.first()) {
        (Some(quota), _) if most > u64::from(quota) => Finding::warning(
            subject,
            format!("the functions may send {sum}, expected {quota}: what is over it is answered 429 and waits"),
            deploy(quota),
        ),
        (Some(quota), _) => Finding::ok(subject, format!("{sum}, within {quota}")),
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
        (None, _) => Finding::ok(subject, format!("{sum}; --quota N compares it with the vendor's quota")),
    }
}
