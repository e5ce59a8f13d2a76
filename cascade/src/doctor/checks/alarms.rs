//! The alarms, the topics, and whether anybody hears them.

use super::super::blueprint::{ALARMS, FUNCTIONS, REPORT_TOPIC, SCHEDULED_ALARMS, TOPIC};
use super::super::facts::{AlarmFacts, Announced, Services, Subscription, Told, TopicFacts};
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
    findings.push(of_topic(context, &services.alarm_topic.topic, &topic));
    if services.alarm_topic.topic != Told::Missing {
        findings.extend(of_subscriptions(context, &services.alarm_topic, &topic));
    }
    findings.extend(of_reports(context, &services.report_topic));
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
        .filter(|alarm| is_started || !SCHEDULED_ALARMS.contains(alarm))
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
    let is_topic = |arn: &String| match services.alarm_topic.topic.found() {
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

/// That somebody hears the alarms.
fn of_subscriptions(context: &Context<'_>, announced: &Announced, topic: &str) -> Vec<Finding> {
    let subject = format!("{topic}, who is told");
    let subscribers = match Subscribers::of(context, announced, &subject) {
        Ok(subscribers) => subscribers,
        Err(finding) => return vec![finding],
    };
    match (subscribers.confirmed(&subject), subscribers.others.is_empty()) {
        (None, true) => vec![Finding::failed(
            subject,
            "nobody has subscribed: every alarm is silent",
            format!(
                "deploy with AlarmEmail=<an address>, or {}",
                subscribers.subscribe("email", "<an address>")
            ),
        )],
        (None, false) => subscribers
            .unconfirmed("every alarm is silent")
            .map(|(says, mend)| Finding::failed(&subject, says, mend))
            .collect(),
        (Some(told), _) => {
            let unconfirmed = subscribers.unconfirmed("it is told nothing");
            let warnings = unconfirmed.map(|(says, mend)| Finding::warning(&subject, says, mend));
            [told].into_iter().chain(warnings).collect()
        }
    }
}

/// The topic of what runs came to. Nobody has to want to know.
fn of_reports(context: &Context<'_>, announced: &Announced) -> Vec<Finding> {
    let name = context.name(REPORT_TOPIC);
    let topic = match context.found(&name, &announced.topic) {
        Ok(topic) => topic,
        Err(finding) => return vec![finding],
    };
    let of_topic = match topic.key.as_deref() {
        Some(key) if !key.is_empty() => Finding::ok(&name, format!("there, encrypted with {key}")),
        _ => Finding::warning(
            &name,
            "is not encrypted at rest",
            format!(
                "aws sns set-topic-attributes --topic-arn {} --attribute-name KmsMasterKeyId --attribute-value {KEY_OF_SNS}",
                topic.arn
            ),
        ),
    };
    let subject = format!("{name}, who is told");
    let subscribers = match Subscribers::of(context, announced, &subject) {
        Ok(subscribers) => subscribers,
        Err(finding) => return vec![of_topic, finding],
    };
    let told = subscribers.confirmed(&subject).or_else(|| {
        let nobody = "nobody has subscribed: deploy with ReportEmail=<an address> to be told what each run came to";
        subscribers.others.is_empty().then(|| Finding::ok(&subject, nobody))
    });
    let unconfirmed = subscribers.unconfirmed("it is told nothing");
    let warnings = unconfirmed.map(|(says, mend)| Finding::warning(&subject, says, mend));
    [of_topic].into_iter().chain(told).chain(warnings).collect()
}

/// Who wants to be told, and who has said so twice, as SNS wants it.
struct Subscribers<'a> {
    arn: &'a str,
    confirmed: Vec<&'a Subscription>,
    others: Vec<&'a Subscription>,
}

impl<'a> Subscribers<'a> {
    fn of(context: &Context<'_>, announced: &'a Announced, subject: &str) -> Result<Self, Finding> {
        let subscriptions = context.found(subject, &announced.subscriptions)?;
        let (confirmed, others) = subscriptions
            .iter()
            .filter(|subscription| subscription.arn != "Deleted")
            .partition(|subscription| subscription.arn != PENDING);
        Ok(Self {
            arn: announced.topic.found().map_or("<its ARN>", |topic| &topic.arn),
            confirmed,
            others,
        })
    }

    fn subscribe(&self, protocol: &str, endpoint: &str) -> String {
        format!(
            "aws sns subscribe --topic-arn {} --protocol {protocol} --notification-endpoint {endpoint}",
            self.arn
        )
    }

    /// Those who are told, if anybody is.
    fn confirmed(&self, subject: &str) -> Option<Finding> {
        let told = self.confirmed.iter();
        let told: Vec<_> = told.map(|to| format!("{} ({})", to.endpoint, to.protocol)).collect();
        (!told.is_empty()).then(|| Finding::ok(subject, told.join(", ")))
    }

    /// Those who are not told yet: what that means, and its mend.
    fn unconfirmed(&self, silence: &str) -> impl Iterator<Item = (String, String)> {
        self.others.iter().map(move |Subscription { protocol, endpoint, .. }| {
            (
                format!("the subscription of {endpoint} ({protocol}) was never confirmed: {silence}"),
                format!(
                    "follow the link in the message that AWS sent there (look among the spam, too); another one is sent by {}",
                    self.subscribe(protocol, endpoint)
                ),
            )
        })
    }
}
