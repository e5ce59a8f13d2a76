//! The tables, queues and the topic of one environment, made as the templates make them on AWS.

use std::error::Error;
use std::time::Duration;

use aws_sdk_dynamodb::types::{
    AttributeDefinition, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType, StreamSpecification,
    StreamViewType, TableStatus,
};
use aws_sdk_sqs::types::QueueAttributeName;

use super::{Cloud, CloudError};

/// How long a function has for a message before it comes back, in seconds.
const VISIBILITY_SECONDS: &str = "900";
/// How often a message is received before it is a dead letter.
const RECEIVES: u32 = 10;
/// How long dead letters are kept, in seconds: 14 days.
const DEAD_LETTER_RETENTION_SECONDS: &str = "1209600";

/// The names and addresses of an environment's tables and queues, and of its topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Provisioned {
    /// `branch-${Environment}`
    pub branch_table: String,
    /// `salesperson-${Environment}`
    pub salesperson_table: String,
    /// `sale-${Environment}`
    pub sale_table: String,
    /// `sync-${Environment}`
    pub state_table: String,
    /// `employee-queue-${Environment}`
    pub employee_queue_url: String,
    /// `employee-workload-dead-letter-queue-${Environment}`
    pub employee_dead_letter_queue_url: String,
    /// `sale-queue-${Environment}`
    pub sale_queue_url: String,
    /// `sale-workload-dead-letter-queue-${Environment}`
    pub sale_dead_letter_queue_url: String,
    /// `branch-function-dead-letter-queue-${Environment}`
    pub branch_function_dead_letter_queue_url: String,
    /// `employee-function-dead-letter-queue-${Environment}`
    pub employee_function_dead_letter_queue_url: String,
    /// `sale-function-dead-letter-queue-${Environment}`
    pub sale_function_dead_letter_queue_url: String,
    /// `report-topic-${Environment}`
    pub report_topic_arn: String,
}

impl Cloud {
    /// Creates what is missing of the tables and queues of `environment`, and answers where they are. What is there
    /// already is left as it is.
    ///
    /// # Errors
    /// [`CloudError::Provision`] names the table or queue that could not be made: the environment's name holds a
    /// character that is not allowed, or a queue of that name has other attributes.
    pub async fn provision(&self, environment: &str) -> Result<Provisioned, CloudError> {
        let config = self.sdk_config();
        let tables = Tables(aws_sdk_dynamodb::Client::new(&config));
        let queues = Queues(aws_sdk_sqs::Client::new(&config));
        let name = |what: &str| format!("{what}-{environment}");

        let employee_dead_letter_queue_url = queues.dead_letter(name("employee-workload-dead-letter-queue")).await?;
        let sale_dead_letter_queue_url = queues.dead_letter(name("sale-workload-dead-letter-queue")).await?;
        Ok(Provisioned {
            branch_table: tables.create(name("branch"), &["branch_id"]).await?,
            salesperson_table: tables
                .create(name("salesperson"), &["employee_id", "branch_id"])
                .await?,
            sale_table: tables.create(name("sale"), &["sale_id", "employee_id"]).await?,
            state_table: tables.create(name("sync"), &[shared::state::dynamodb::ID]).await?,
            employee_queue_url: queues
                .work(name("employee-queue"), &employee_dead_letter_queue_url)
                .await?,
            sale_queue_url: queues.work(name("sale-queue"), &sale_dead_letter_queue_url).await?,
            branch_function_dead_letter_queue_url: queues
                .dead_letter(name("branch-function-dead-letter-queue"))
                .await?,
            employee_function_dead_letter_queue_url: queues
                .dead_letter(name("employee-function-dead-letter-queue"))
                .await?,
            sale_function_dead_letter_queue_url: queues.dead_letter(name("sale-function-dead-letter-queue")).await?,
            employee_dead_letter_queue_url,
            sale_dead_letter_queue_url,
            report_topic_arn: topic(&aws_sdk_sns::Client::new(&config), name("report-topic")).await?,
        })
    }
}

fn failure(what: &str) -> impl FnOnce(Box<dyn Error + Send + Sync>) -> CloudError {
    let what = what.to_owned();
    move |source| CloudError::Provision { what, source }
}

struct Tables(aws_sdk_dynamodb::Client);

impl Tables {
    /// A table with those keys, all text: the partition key first, then the sort key if there is one. What is written to
    /// it goes into a stream.
    async fn create(&self, name: String, keys: &[&str]) -> Result<String, CloudError> {
        let stream = StreamSpecification::builder()
            .stream_enabled(true)
            .stream_view_type(StreamViewType::NewImage)
            .build()
            .map_err(|error| failure(&name)(error.into()))?;
        self.try_create(&name, keys, stream).await.map_err(failure(&name))?;
        Ok(name)
    }

    async fn try_create(
        &self,
        name: &str,
        keys: &[&str],
        stream: StreamSpecification,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut create = self
            .0
            .create_table()
            .table_name(name)
            .billing_mode(BillingMode::PayPerRequest)
            .stream_specification(stream.clone());
        for (key, kind) in keys.iter().zip([KeyType::Hash, KeyType::Range]) {
            let definition = AttributeDefinition::builder().attribute_name(*key);
            create = create
                .attribute_definitions(definition.attribute_type(ScalarAttributeType::S).build()?)
                .key_schema(
                    KeySchemaElement::builder()
                        .attribute_name(*key)
                        .key_type(kind)
                        .build()?,
                );
        }
        if let Err(error) = create.send().await {
            let error = error.into_service_error();
            if !error.is_resource_in_use_exception() {
                return Err(error.into());
            }
        }
        let mut has_stream = false;
        loop {
            let description = self.0.describe_table().table_name(name).send().await?;
            let table = description.table();
            match table.and_then(|table| table.table_status()) {
                Some(TableStatus::Creating | TableStatus::Updating) => {
                    tokio::time::sleep(Duration::from_millis(20)).await
                }
                // A table of a version for which nobody read its stream.
                _ if !has_stream && table.is_some_and(|table| table.latest_stream_arn().is_none()) => {
                    let update = self.0.update_table().table_name(name);
                    update.stream_specification(stream.clone()).send().await?;
                    has_stream = true;
                }
                _ => return Ok(()),
            }
        }
    }
}

/// A topic; its ARN.
async fn topic(sns: &aws_sdk_sns::Client, name: String) -> Result<String, CloudError> {
    let created = sns.create_topic().name(&name).send().await;
    let created = created.map_err(|error| failure(&name)(error.into_service_error().into()))?;
    created
        .topic_arn
        .ok_or_else(|| failure(&name)("the answer holds no topic ARN".into()))
}

struct Queues(aws_sdk_sqs::Client);

impl Queues {
    /// A queue for what failed.
    async fn dead_letter(&self, name: String) -> Result<String, CloudError> {
        let retention = (
            QueueAttributeName::MessageRetentionPeriod,
            DEAD_LETTER_RETENTION_SECONDS.into(),
        );
        self.create(name, [retention]).await
    }

    /// A queue of work, whose dead letters go to the queue at `dead_letter_url`.
    async fn work(&self, name: String, dead_letter_url: &str) -> Result<String, CloudError> {
        let dead_letters = self
            .0
            .get_queue_attributes()
            .queue_url(dead_letter_url)
            .attribute_names(QueueAttributeName::QueueArn)
            .send()
            .await
            .map_err(|error| failure(&name)(error.into()))?;
        let arn = dead_letters
            .attributes()
            .and_then(|attributes| attributes.get(&QueueAttributeName::QueueArn));
        let policy = serde_json::json!({"deadLetterTargetArn": arn, "maxReceiveCount": RECEIVES});
        let attributes = [
            (QueueAttributeName::VisibilityTimeout, VISIBILITY_SECONDS.into()),
            (QueueAttributeName::RedrivePolicy, policy.to_string()),
        ];
        self.create(name, attributes).await
    }

    async fn create<const N: usize>(
        &self,
        name: String,
        attributes: [(QueueAttributeName, String); N],
    ) -> Result<String, CloudError> {
        let created = self
            .0
            .create_queue()
            .queue_name(&name)
            .set_attributes(Some(attributes.into()))
            .send()
            .await
            .map_err(|error| failure(&name)(error.into_service_error().into()))?;
        created
            .queue_url
            .ok_or_else(|| failure(&name)("the answer holds no queue URL".into()))
    }
}
