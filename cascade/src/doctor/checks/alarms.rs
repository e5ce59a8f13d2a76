//! The alarms, their topic, and whether anybody hears them.

use super::super::blueprint::{ALARMS, FUNCTIONS, NO_SUCCESS_ALARM, TOPIC};
use super::super::facts::{AlarmFacts, Services, Subscription, Told, TopicFacts};
use super::{Context, Finding, arn_names, unless};

/// What SNS gives for the ARN of a subscription that nobody has agreed to.
const PENDING: &str = "PendingConfirmation";

/// The key that AWS keeps for SNS. CloudWatch may not use it, so that alarms are lost.
///
/// Source: "Key management", "Enable compatibility between event sources from AWS services and encrypted topics", Amazon
/// SNS Developer Guide.
const KEY_OF_SNS: &str = "alias/aws/sns";

pub(super) fn findings(context: &Context<'_>, services: &Services) -> Vec<Finding> {
    let topic = context.name(TOPIC);
    let mut findings = of_alarms(context, services, &topic);
    findings.push(of_topic(context, &services.topic, &topic));
    if services.topic != Told::Missing {
        findings.extend(of_subscriptions(context, services, &topic));
    }
    findings
}

fn of_alarms(context: &Context<'_>, services: &Services, topic: &str) -> Vec<Finding> {
    let alarms = match context.found("alarms", &services.alarms) {
        Ok(alarms) => alarms,
        Err(finding) => return vec![finding],
    };
    let is_started = services
        .schedules
        .iter()
        .find(|(function, _)| **function == FUNCTIONS[0])
        .and_then(|(_, told)| told.found())
        .is_none_or(|schedule| schedule.is_enabled);
    let expected: Vec<_> = ALARMS
        .into_iter()
        .filter(|alarm| *alarm != NO_SUCCESS_ALARM || is_started)
        .map(|alarm| context.name(alarm))
        .collect();
    let mut problems = Vec::new();
    for name in &expected {
        match alarms.iter().find(|alarm| alarm.name == *name) {
            Some(alarm) => problems.extend(of_alarm(context, alarm, services, topic)),
            None => problems.push(Finding::failed(name, "is missing", context.make())),
        }
    }
    unless(problems, || {
        Finding::ok(
            "alarms",
            format!("all {} are there, quiet, and tell {topic}", expected.len()),
        )
    })
}

fn of_alarm(context: &Context<'_>, alarm: &AlarmFacts, services: &Services, topic: &str) -> Vec<Finding> {
    let name = &alarm.name;
    let mut problems = Vec::new();
    if !alarm.has_actions {
        problems.push(Finding::failed(
            name,
            "has its actions switched off: it tells nobody",
            format!("aws cloudwatch enable-alarm-actions --alarm-names {name}"),
        ));
    }
    let is_topic = |arn: &String| match services.topic.found() {
        Some(topic) => topic.arn == *arn,
        None => arn_names(arn, topic),
    };
    if !alarm.tells_trouble.iter().any(is_topic) {
        let says = format!("does not tell {topic} of trouble");
        problems.push(Finding::failed(name, says, context.make_anew()));
    }
    if !alarm.tells_end.iter().any(is_topic) {
        let says = format!("does not tell {topic} when trouble is over");
        problems.push(Finding::warning(name, says, context.make_anew()));
    }
    if alarm.state == "ALARM" {
        problems.push(Finding::warning(
            name,
            "is in alarm",
            format!(
                "its description says what to do: aws cloudwatch describe-alarms --alarm-names {name} --query \
                 'MetricAlarms[0].[AlarmDescription,StateReason]' --output text"
            ),
        ));
    }
    problems
}

fn of_topic(context: &Context<'_>, told: &Told<TopicFacts>, name: &str) -> Finding {
    let topic = match context.found(name, told) {
        Ok(topic) => topic,
        Err(finding) => return finding,
    };
    let set_key = format!(
        "aws sns set-topic-attributes --topic-arn {} --attribute-name KmsMasterKeyId --attribute-value alias/cascade-{}",
        topic.arn, context.environment
    );
    match topic.key.as_deref() {
        Some(key) if key.ends_with(KEY_OF_SNS) => Finding::failed(
            name,
            format!("is encrypted with {KEY_OF_SNS}, which CloudWatch may not use: every alarm is silent"),
            set_key,
        ),
        // The key itself is not asked for: what there is, is its name.
        Some(key) if !key.is_empty() => Finding::ok(
            name,
            format!(
                "there, encrypted with {key}; that the key is enabled, and that CloudWatch may use it, was not looked at"
            ),
        ),
        _ => Finding::warning(name, "is not encrypted at rest", set_key),
    }
}

fn of_subscriptions(context: &Context<'_>, services: &Services, topic: &str) -> Vec<Finding> {
    let subject = format!("{topic}, who is told");
    let subscriptions = match context.found(&subject, &services.subscriptions) {
        Ok(subscriptions) => subscriptions,
        Err(finding) => return vec![finding],
    };
    let (confirmed, others): (Vec<_>, Vec<_>) = subscriptions
        .iter()
        .filter(|subscription| subscription.arn != "Deleted")
        .partition(|subscription| subscription.arn != PENDING);
    let arn = services.topic.found().map_or("<its ARN>", |topic| &topic.arn);
    let subscribe = |protocol: &str, endpoint: &str| {
        format!("aws sns subscribe --topic-arn {arn} --protocol {protocol} --notification-endpoint {endpoint}")
    };
    if confirmed.is_empty() && others.is_empty() {
        return vec![Finding::failed(
            subject,
            "nobody has subscribed: every alarm is silent",
            format!(
                "deploy with AlarmEmail=<an address>, or {}",
                subscribe("email", "<an address>")
            ),
        )];
    }
    let silence = if confirmed.is_empty() {
        "every alarm is silent"
    } else {
        "it is told nothing"
    };
    let unconfirmed = others.into_iter().map(|Subscription { protocol, endpoint, .. }| {
        let says = format!("the subscription of {endpoint} ({protocol}) was never confirmed: {silence}");
        let mend = format!(
            "follow the link in the message that AWS sent there (look among the spam, too); another one is sent by {}",
            subscribe(protocol, endpoint)
        );
        if confirmed.is_empty() {
            Finding::failed(&subject, says, mend)
        } else {
            Finding::warning(&subject, says, mend)
        }
    });
    let mut findings: Vec<_> = unconfirmed.collect();
    if !confirmed.is_empty() {
        let told: Vec<_> = confirmed
            .iter()
            .map(|to| format!("{} ({})", to.endpoint, to.protocol))
            .collect();
        findings.insert(0, Finding::ok(&subject, told.join(", ")));
    }
    findings
}
