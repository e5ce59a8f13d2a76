//! The topic on SNS.

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_sns::Client;
use serde_json::json;

use super::{Notice, Topic, TopicError};

/// A topic on SNS.
pub struct SnsTopic {
    client: Client,
    arn: String,
}

impl SnsTopic {
    /// The topic `arn`.
    pub fn new(aws: &SdkConfig, arn: String) -> Self {
        Self {
            client: Client::new(aws),
            arn,
        }
    }
}

#[async_trait]
impl Topic for SnsTopic {
    async fn publish(&self, notice: &Notice) -> Result<(), TopicError> {
        // What is no e-mail (a queue, a function, an e-mail for programs) gets the JSON.
        let message = json!({
            "default": notice.body.to_string(),
            "email": notice.text,
        });
        self.client
            .publish()
            .topic_arn(&self.arn)
            .subject(&notice.subject)
            .message_structure("json")
            .message(message.to_string())
            .send()
            .await
            .map_err(|error| TopicError { source: error.into() })?;
        Ok(())
    }
}
