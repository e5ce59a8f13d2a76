//! Who takes letters back to where they failed.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use serde_json::value::RawValue;
use shared::error_chain;
use shared::queue::Outbox;
use shared::queue::sqs::SqsQueue;

use super::Letter;
use crate::pipeline::{Pipeline, Stage, View};

/// What Lambda answers once an event is safely in its own queue.
const ACCEPTED: i32 = 202;

/// Takes letters to one place.
#[async_trait]
pub trait Courier: Send + Sync {
    /// Takes a letter there. It is safely there once this returns.
    ///
    /// # Errors
    /// If it may not have arrived; the text says why.
    async fn deliver(&self, letter: &Letter) -> Result<(), String>;

    /// How many letters it can take at once.
    fn at_once(&self) -> usize;
}

/// Sends letters to a work queue as they were before they failed, without a reason; but as background work, which takes
/// what live work leaves of the vendor's quota.
pub struct WorkQueueCourier(pub(super) SqsQueue);

#[async_trait]
impl Courier for WorkQueueCourier {
    async fn deliver(&self, letter: &Letter) -> Result<(), String> {
        let sent = self.0.send(vec![in_background(&letter.body)], Duration::ZERO).await;
        sent.map_err(|failure| error_chain(&failure))
    }

    fn at_once(&self) -> usize {
        super::AT_ONCE
    }
}

/// A message's body, said to be background work. What is no JSON object stays as it is: it will fail again, and say why.
fn in_background(body: &str) -> String {
    let message = serde_json::from_str::<BTreeMap<&str, &RawValue>>(body);
    let (Ok(mut message), Ok(yes)) = (message, serde_json::from_str("true")) else {
        return body.to_owned();
    };
    message.insert("background", yes);
    serde_json::to_string(&message).unwrap_or_else(|_| body.to_owned())
}

/// Calls a Lambda function with letters' events, as its schedule does: without waiting for what comes of it.
pub struct FunctionCourier {
    lambda: aws_sdk_lambda::Client,
    function: String,
}

impl FunctionCourier {
    /// Calls `function`.
    pub fn new(config: &SdkConfig, function: String) -> Self {
        Self {
            lambda: aws_sdk_lambda::Client::new(config),
            function,
        }
    }
}

impl FunctionCourier {
    /// Calls the function with an event. Lambda has it in its own queue once this returns.
    ///
    /// # Errors
    /// If Lambda may not have it; the text says why.
    pub async fn call(&self, event: &str) -> Result<(), String> {
        let called = self
            .lambda
            .invoke()
            .function_name(&self.function)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(event))
            .send()
            .await;
        match called {
            Ok(answer) if answer.status_code == ACCEPTED => Ok(()),
            Ok(answer) => Err(format!(
                "the function {} was not called: Lambda answered {}, not {ACCEPTED}",
                self.function, answer.status_code
            )),
            Err(failure) => Err(format!(
                "the function {} was not called: {}",
                self.function,
                error_chain(&failure)
            )),
        }
    }
}

#[async_trait]
impl Courier for FunctionCourier {
    async fn deliver(&self, letter: &Letter) -> Result<(), String> {
        self.call(letter.event()).await
    }

    fn at_once(&self) -> usize {
        super::AT_ONCE
    }
}

/// Calls a collector in this process, and waits for what comes of it: where there are no functions, nothing else would
/// try the event again.
pub struct CollectorHere<'a> {
    /// The collectors.
    pub pipeline: &'a Pipeline,
    /// Which of them.
    pub stage: Stage,
}

#[async_trait]
impl Courier for CollectorHere<'_> {
    async fn deliver(&self, letter: &Letter) -> Result<(), String> {
        let handled = self.pipeline.invoke(self.stage, letter.event(), &View::default()).await;
        let failed = |failure| format!("the collector of {} failed: {failure}", self.stage.name());
        let answer = handled.answer.map_err(|failure| failed(error_chain(&failure)))?;
        // An answer to an SQS event names the messages that failed.
        match answer.get("batchItemFailures").and_then(|failures| failures.as_array()) {
            Some(failures) if !failures.is_empty() => {
                Err(failed(format!("{} of the event's messages", failures.len())))
            }
            _ => Ok(()),
        }
    }

    fn at_once(&self) -> usize {
        // However many instances of a function there may be on AWS, all that runs here shares one quota.
        1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_becomes_background_work_and_loses_no_digit() {
        let body = r#"{"employee_id": 123456789012345678901234567890, "x": "\u00e9"}"#;
        assert_eq!(
            in_background(body),
            r#"{"background":true,"employee_id":123456789012345678901234567890,"x":"\u00e9"}"#
        );
        for body in ["no JSON", "[1]", "7", ""] {
            assert_eq!(in_background(body), body);
        }
    }
}
