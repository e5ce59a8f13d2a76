//! Tables and queues.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_dynamodb::types::{
    BillingMode, KeyType, PointInTimeRecoveryStatus, TableDescription, TimeToLiveDescription, TimeToLiveStatus,
};
use aws_sdk_sqs::types::QueueAttributeName;
use futures::future::join_all;
use shared::entity::Entity;

use super::super::blueprint::{DEAD_LETTER_QUEUES, LAKE_DEAD_LETTER_QUEUES, STATE_TABLE, WORK_QUEUES};
use super::super::facts::{QueueFacts, StateFacts, TableFacts, Told};
use super::told;

const NO_TABLE: [&str; 1] = ["ResourceNotFoundException"];
const NO_QUEUE: [&str; 2] = ["AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"];

pub(super) async fn tables(config: &SdkConfig, environment: &str, is_aws: bool) -> Vec<(Entity, Told<TableFacts>)> {
    let client = aws_sdk_dynamodb::Client::new(config);
    let client = &client;
    join_all(Entity::ALL.map(|entity| async move {
        let name = format!("{}-{environment}", entity.name());
        let mut facts = table(client, &name).await;
        if let Told::Found(table) = &mut facts
            && is_aws
        {
            table.recovery = Some(recovery(client, &name).await);
        }
        (entity, facts)
    }))
    .await
}

pub(super) async fn state(config: &SdkConfig, environment: &str, is_aws: bool) -> Told<StateFacts> {
    let client = aws_sdk_dynamodb::Client::new(config);
    let name = format!("{STATE_TABLE}-{environment}");
    let mut facts = table(&client, &name).await.map(|table| StateFacts {
        table,
        time_to_live: None,
    });
    if let Told::Found(state) = &mut facts
        && is_aws
    {
        state.time_to_live = Some(time_to_live(&client, &name).await);
    }
    facts
}

async fn table(client: &aws_sdk_dynamodb::Client, name: &str) -> Told<TableFacts> {
    let answer = client.describe_table().table_name(name).send().await;
    told("dynamodb:DescribeTable", &NO_TABLE, answer)
        .map(|described| table_facts(&described.table.unwrap_or_else(|| TableDescription::builder().build())))
}

fn table_facts(table: &TableDescription) -> TableFacts {
    let kind = |name: &str| {
        let mut definitions = table.attribute_definitions().iter();
        let definition = definitions.find(|definition| definition.attribute_name() == name);
        definition
            .map_or("?", |definition| definition.attribute_type().as_str())
            .to_owned()
    };
    let mut keys: Vec<_> = table.key_schema().iter().collect();
    keys.sort_by_key(|key| *key.key_type() != KeyType::Hash);
    let stream = table.stream_specification().filter(|stream| stream.stream_enabled());
    let billing = table.billing_mode_summary().and_then(|billing| billing.billing_mode());
    TableFacts {
        status: table.table_status().map_or("?", |status| status.as_str()).to_owned(),
        keys: keys
            .into_iter()
            .map(|key| (key.attribute_name().to_owned(), kind(key.attribute_name())))
            .collect(),
        stream: stream.map(|stream| {
            let view = stream.stream_view_type();
            view.map_or("?", |view| view.as_str()).to_owned()
        }),
        stream_arn: table.latest_stream_arn().map(str::to_owned),
        is_on_demand: billing == Some(&BillingMode::PayPerRequest),
        is_protected: table.deletion_protection_enabled().unwrap_or(false),
        recovery: None,
    }
}

async fn recovery(client: &aws_sdk_dynamodb::Client, name: &str) -> Told<bool> {
    let answer = client.describe_continuous_backups().table_name(name).send().await;
    told(
        "dynamodb:DescribeContinuousBackups",
        &["TableNotFoundException"],
        answer,
    )
    .map(|described| {
        let recovery = described
            .continuous_backups_description()
            .and_then(|backups| backups.point_in_time_recovery_description())
            .and_then(|recovery| recovery.point_in_time_recovery_status());
        recovery == Some(&PointInTimeRecoveryStatus::Enabled)
    })
}

async fn time_to_live(client: &aws_sdk_dynamodb::Client, name: &str) -> Told<Option<String>> {
    let is_on = |told: &TimeToLiveDescription| {
        matches!(
            told.time_to_live_status(),
            Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
        )
    };
    let answer = client.describe_time_to_live().table_name(name).send().await;
    told("dynamodb:DescribeTimeToLive", &NO_TABLE, answer).map(|described| {
        let setting = described.time_to_live_description.filter(is_on);
        setting.and_then(|setting| setting.attribute_name)
    })
}

pub(super) async fn queues(
    config: &SdkConfig,
    environment: &str,
    is_aws: bool,
) -> BTreeMap<&'static str, Told<QueueFacts>> {
    let client = aws_sdk_sqs::Client::new(config);
    let client = &client;
    let queues = WORK_QUEUES
        .into_iter()
        .map(|(queue, _)| queue)
        .chain(DEAD_LETTER_QUEUES)
        .chain(LAKE_DEAD_LETTER_QUEUES.into_iter().filter(|_| is_aws));
    let asked =
        queues.map(|queue| async move { (queue, self::queue(client, &format!("{queue}-{environment}")).await) });
    join_all(asked).await.into_iter().collect()
}

async fn queue(client: &aws_sdk_sqs::Client, name: &str) -> Told<QueueFacts> {
    let answer = client.get_queue_url().queue_name(name).send().await;
    let url = match told("sqs:GetQueueUrl", &NO_QUEUE, answer) {
        Told::Found(found) => found.queue_url.unwrap_or_default(),
        Told::Missing => return Told::Missing,
        Told::Forbidden(action) => return Told::Forbidden(action),
        Told::Unread { action, reason } => return Told::Unread { action, reason },
    };
    let answer = client
        .get_queue_attributes()
        .queue_url(&url)
        .attribute_names(QueueAttributeName::All)
        .send()
        .await;
    told("sqs:GetQueueAttributes", &NO_QUEUE, answer).map(|told| QueueFacts {
        url,
        attributes: told
            .attributes
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value)| (name.as_str().to_owned(), value))
            .collect(),
    })
}
