//! What only AWS has: who asks, functions, schedules, the lake's streams, alarms, topics.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use aws_config::{Region, SdkConfig};
use aws_sdk_cloudwatch::types::{Dimension, Statistic};
use aws_sdk_lambda::types::FunctionConfiguration;
use aws_sdk_scheduler::types::ScheduleState;
use futures::future::join_all;
use shared::secret::SecretArn;

use super::super::blueprint::{ALARMS, DEPLOYED, Function, LAKE, REPORT_TOPIC, TOPIC};
use super::super::checks::settings;
use super::super::facts::{
    AlarmFacts, Announced, Caller, FunctionFacts, Identity, MappingFacts, ScheduleFacts, SecretFacts, Services,
    Subscription, Told, TopicFacts, Values,
};
use super::told;

const NO_FUNCTION: [&str; 1] = ["ResourceNotFoundException"];
const NO_TOPIC: [&str; 2] = ["NotFound", "NotFoundException"];

pub(super) async fn caller(config: &SdkConfig) -> Caller {
    let region = config
        .region()
        .map(ToString::to_string)
        .filter(|region| !region.is_empty());
    let identity = match region {
        None => Told::Missing,
        Some(_) => {
            let answer = aws_sdk_sts::Client::new(config).get_caller_identity().send().await;
            told("sts:GetCallerIdentity", &[], answer).map(|identity| Identity {
                account: identity.account.unwrap_or_default(),
                arn: identity.arn.unwrap_or_default(),
            })
        }
    };
    Caller { region, identity }
}

pub(super) async fn services(config: &SdkConfig, environment: &str, identity: &Identity, caller: &Caller) -> Services {
    let region = caller.region.as_deref().unwrap_or_default();
    let (functions, schedules, mappings, alarms, alarm_topic, report_topic) = tokio::join!(
        functions(config, environment),
        schedules(config, environment),
        mappings(config, environment),
        alarms(config, environment),
        topic(config, environment, TOPIC, identity, region),
        topic(config, environment, REPORT_TOPIC, identity, region),
    );
    Services {
        secrets: secrets(config, &functions).await,
        functions,
        schedules,
        mappings,
        alarms,
        alarm_topic,
        report_topic,
    }
}

async fn functions(config: &SdkConfig, environment: &str) -> Vec<(&'static Function, Told<FunctionFacts>)> {
    let client = aws_sdk_lambda::Client::new(config);
    let client = &client;
    join_all(DEPLOYED.map(|function| async move {
        let name = format!("{}-{environment}", function.name);
        (function, self::function(client, &name).await)
    }))
    .await
}

async fn function(client: &aws_sdk_lambda::Client, name: &str) -> Told<FunctionFacts> {
    let answer = client.get_function().function_name(name).send().await;
    let mut facts = told("lambda:GetFunction", &NO_FUNCTION, answer).map(|found| {
        let at_once = found.concurrency.and_then(|limit| limit.reserved_concurrent_executions);
        let configuration = found
            .configuration
            .unwrap_or_else(|| FunctionConfiguration::builder().build());
        function_facts(configuration, at_once)
    });
    if let Told::Found(function) = &mut facts {
        let answer = client
            .get_function_event_invoke_config()
            .function_name(name)
            .qualifier("$LATEST")
            .send()
            .await;
        function.retries = told("lambda:GetFunctionEventInvokeConfig", &NO_FUNCTION, answer)
            .map(|config| config.maximum_retry_attempts);
    }
    facts
}

fn function_facts(function: FunctionConfiguration, at_once: Option<i32>) -> FunctionFacts {
    let because = |state: Option<&str>, reason: Option<String>| match (state, reason) {
        (state, Some(reason)) if !reason.is_empty() => format!("{} ({reason})", state.unwrap_or("?")),
        (state, _) => state.unwrap_or("?").to_owned(),
    };
    let architecture = function
        .architectures()
        .first()
        .map_or("x86_64", |name| name.as_str())
        .to_owned();
    let log_format = function.logging_config().and_then(|logging| logging.log_format());
    let log_format = log_format.map_or("Text", |format| format.as_str()).to_owned();
    FunctionFacts {
        architecture,
        log_format,
        at_once,
        state: because(
            function.state.as_ref().map(|state| state.as_str()),
            function.state_reason,
        ),
        last_update: because(
            function.last_update_status.as_ref().map(|status| status.as_str()),
            function.last_update_status_reason,
        ),
        variables: match function.environment {
            // Whoever may look at the function, but not use the key that its variables are encrypted with.
            Some(environment) if environment.error.is_some() => Told::Forbidden("kms:Decrypt"),
            Some(environment) => Told::Found(Values(environment.variables.unwrap_or_default().into_iter().collect())),
            None => Told::Found(Values::default()),
        },
        arn: function.function_arn.unwrap_or_default(),
        role: function.role.unwrap_or_default(),
        runtime: function
            .runtime
            .map_or("?".to_owned(), |runtime| runtime.as_str().to_owned()),
        memory: function.memory_size.unwrap_or_default(),
        time_out: function.timeout.unwrap_or_default(),
        dead_letters: function
            .dead_letter_config
            .and_then(|config| config.target_arn)
            .filter(|arn| !arn.is_empty()),
        retries: Told::Missing,
    }
}

async fn schedules(config: &SdkConfig, environment: &str) -> Vec<(&'static Function, Told<ScheduleFacts>)> {
    let scheduler = aws_sdk_scheduler::Client::new(config);
    let cloudwatch = aws_sdk_cloudwatch::Client::new(config);
    let (scheduler, cloudwatch) = (&scheduler, &cloudwatch);
    join_all(DEPLOYED.map(|function| async move {
        let name = format!("{}-{environment}", function.schedule);
        let answer = scheduler.get_schedule().name(name).send().await;
        let mut facts = told("scheduler:GetSchedule", &["ResourceNotFoundException"], answer).map(|schedule| {
            let target = schedule.target.as_ref();
            let dead_letters = target.and_then(|target| target.dead_letter_config());
            ScheduleFacts {
                is_enabled: schedule.state == Some(ScheduleState::Enabled),
                target: target.map_or("", |target| target.arn()).to_owned(),
                role: target.map_or("", |target| target.role_arn()).to_owned(),
                dead_letters: dead_letters.and_then(|config| config.arn()).map(str::to_owned),
                rate: schedule.schedule_expression.unwrap_or_default(),
                starts: Told::Missing,
            }
        });
        if let Told::Found(schedule) = &mut facts {
            schedule.starts = starts(
                cloudwatch,
                &format!("{}-{environment}", function.name),
                function.two_starts,
            )
            .await;
        }
        (function, facts)
    }))
    .await
}

/// How often a function was started in the last `seconds`.
async fn starts(client: &aws_sdk_cloudwatch::Client, function: &str, seconds: u32) -> Told<u64> {
    let now = SystemTime::now();
    let answer = client
        .get_metric_statistics()
        .namespace("AWS/Lambda")
        .metric_name("Invocations")
        .dimensions(Dimension::builder().name("FunctionName").value(function).build())
        .start_time((now - Duration::from_secs(seconds.into())).into())
        .end_time(now.into())
        .period(60)
        .statistics(Statistic::Sum)
        .send()
        .await;
    told("cloudwatch:GetMetricStatistics", &[], answer).map(|metric| {
        let sum: f64 = metric.datapoints().iter().filter_map(|point| point.sum()).sum();
        counted(sum)
    })
}

/// A metric's sum as a count. It comes from outside: what is too large for a number, infinity included, is the largest one,
/// and what is below zero, or no number, is none.
fn counted(sum: f64) -> u64 {
    Duration::try_from_secs_f64(sum.max(0.0)).map_or(u64::MAX, |whole| whole.as_secs())
}

/// The streams that the lake's function follows, switched off ones as well.
async fn mappings(config: &SdkConfig, environment: &str) -> Told<Vec<MappingFacts>> {
    let pages = aws_sdk_lambda::Client::new(config)
        .list_event_source_mappings()
        .function_name(format!("{}-{environment}", LAKE.name))
        .into_paginator()
        .items()
        .send();
    let answer = pages.collect::<Result<Vec<_>, _>>().await;
    told("lambda:ListEventSourceMappings", &NO_FUNCTION, answer).map(|found| {
        let mappings = found.into_iter();
        mappings
            .map(|mapping| MappingFacts {
                uuid: mapping.uuid.unwrap_or_default(),
                stream: mapping.event_source_arn.unwrap_or_default(),
                state: mapping.state.unwrap_or_else(|| "?".to_owned()),
                last_result: mapping.last_processing_result.unwrap_or_default(),
                on_failure: mapping
                    .destination_config
                    .and_then(|config| config.on_failure?.destination)
                    .filter(|arn| !arn.is_empty()),
            })
            .collect()
    })
}

async fn alarms(config: &SdkConfig, environment: &str) -> Told<Vec<AlarmFacts>> {
    let names = ALARMS.map(|alarm| format!("{alarm}-{environment}"));
    let answer = aws_sdk_cloudwatch::Client::new(config)
        .describe_alarms()
        .set_alarm_names(Some(names.into()))
        .max_records(100)
        .send()
        .await;
    told("cloudwatch:DescribeAlarms", &[], answer).map(|described| {
        let alarms = described.metric_alarms.unwrap_or_default().into_iter();
        alarms
            .map(|alarm| AlarmFacts {
                state: alarm
                    .state_value
                    .map_or("?".to_owned(), |state| state.as_str().to_owned()),
                has_actions: alarm.actions_enabled.unwrap_or(false),
                name: alarm.alarm_name.unwrap_or_default(),
                tells_trouble: alarm.alarm_actions.unwrap_or_default(),
                tells_end: alarm.ok_actions.unwrap_or_default(),
            })
            .collect()
    })
}

async fn topic(config: &SdkConfig, environment: &str, name: &str, identity: &Identity, region: &str) -> Announced {
    let client = aws_sdk_sns::Client::new(config);
    // Topics are asked for by their ARN, and the caller's tells the partition.
    let partition = identity
        .arn
        .split(':')
        .nth(1)
        .filter(|part| !part.is_empty())
        .unwrap_or("aws");
    let arn = format!("arn:{partition}:sns:{region}:{}:{name}-{environment}", identity.account);
    let answer = client.get_topic_attributes().topic_arn(&arn).send().await;
    let topic = told("sns:GetTopicAttributes", &NO_TOPIC, answer).map(|told| TopicFacts {
        arn: arn.clone(),
        key: told.attributes.unwrap_or_default().remove("KmsMasterKeyId"),
    });
    let pages = client
        .list_subscriptions_by_topic()
        .topic_arn(&arn)
        .into_paginator()
        .items()
        .send();
    let answer = pages.collect::<Result<Vec<_>, _>>().await;
    let subscriptions = told("sns:ListSubscriptionsByTopic", &NO_TOPIC, answer).map(|found| {
        found
            .into_iter()
            .map(|subscription| Subscription {
                protocol: subscription.protocol.unwrap_or_default(),
                endpoint: subscription.endpoint.unwrap_or_default(),
                arn: subscription.subscription_arn.unwrap_or_default(),
            })
            .collect()
    });
    Announced { topic, subscriptions }
}

async fn secrets(
    config: &SdkConfig,
    functions: &[(&'static Function, Told<FunctionFacts>)],
) -> Vec<(SecretArn, Told<SecretFacts>)> {
    let arns: BTreeSet<_> = functions
        .iter()
        .filter_map(|(function, told)| {
            settings(function, told.found()?.variables.found()?)
                .ok()?
                .api_key_secret
        })
        .collect();
    join_all(arns.into_iter().map(|arn| async move {
        let region = Region::new(arn.region().to_owned());
        let config = aws_sdk_secretsmanager::config::Builder::from(config)
            .region(region)
            .build();
        let answer = aws_sdk_secretsmanager::Client::from_conf(config)
            .describe_secret()
            .secret_id(arn.as_str())
            .send()
            .await;
        let facts = told("secretsmanager:DescribeSecret", &["ResourceNotFoundException"], answer).map(|secret| {
            let is_going = secret.deleted_date.is_some();
            SecretFacts { is_going }
        });
        (arn, facts)
    }))
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_sum_is_a_count() {
        for (sum, count) in [
            (2.0, 2),
            (0.0, 0),
            (-1.0, 0),
            (f64::NAN, 0),
            (1e30, u64::MAX),
            (f64::INFINITY, u64::MAX),
            (f64::NEG_INFINITY, 0),
        ] {
            assert_eq!(counted(sum), count, "{sum}");
        }
    }
}
