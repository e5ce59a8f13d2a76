//! The vendor: whether it answers, and whether its quota is kept.

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
        findings.extend(of_quota(&services.functions, facts.quota));
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
fn of_quota(functions: &[(&'static Function, Told<FunctionFacts>)], quota: Option<u32>) -> Option<Finding> {
    let subject = "API_REQUESTS_PER_MINUTE";
    let mut terms = Vec::new();
    let mut rates = Vec::new();
    for (function, told) in functions {
        let facts = told.found()?;
        let rate = settings(function, facts.variables.found()?)
            .ok()?
            .vendor
            .requests_per_minute
            .get();
        let at_once = u32::try_from(facts.at_once.unwrap_or(function.at_once)).ok()?;
        terms.push((rate, at_once));
        rates.push(rate);
    }
    let most: u64 = terms
        .iter()
        .map(|(rate, at_once)| u64::from(*rate) * u64::from(*at_once))
        .sum();
    let sum: Vec<_> = terms
        .iter()
        .map(|(rate, at_once)| format!("{at_once}×{rate}"))
        .collect();
    let sum = format!("{} = {most} requests a minute at most", sum.join(" + "));
    let mend = "give each function its part: what all processes may send together has to be within the vendor's quota";
    match quota {
        Some(quota) if most > u64::from(quota) => Some(Finding::warning(
            subject,
            format!("the functions may send {sum}, expected {quota}: what is over it is answered 429 and waits"),
            mend,
        )),
        Some(quota) => Some(Finding::ok(subject, format!("{sum}, within {quota}"))),
        None if rates.windows(2).all(|pair| pair[0] == pair[1]) => Some(Finding::warning(
            subject,
            format!(
                "all functions carry {}, and each process paces itself by it: {sum}. If {} is the vendor's whole quota, it is \
                 exceeded; what is over it is answered 429 and waits",
                rates[0], rates[0]
            ),
            format!("{mend}; --quota N says what that is"),
        )),
        None => Some(Finding::ok(
            subject,
            format!("{sum}; --quota N compares it with the vendor's quota"),
        )),
    }
}
