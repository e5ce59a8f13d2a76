//! The vendor's key, kept in AWS Secrets Manager: the only module that knows its SDK.

use aws_config::{Region, SdkConfig};
use aws_sdk_secretsmanager::Client;
use aws_sdk_secretsmanager::config::Builder;
use aws_sdk_secretsmanager::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_secretsmanager::operation::get_secret_value::{GetSecretValueError, GetSecretValueOutput};
use serde_json::{Map, Value};

use crate::vendor::client::ApiKey;

/// The name of a secret, as a template passes it on: `arn:aws:secretsmanager:us-east-1:123456789012:secret:name-AbCdEf`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretArn {
    arn: String,
    region: String,
}

impl SecretArn {
    /// The ARN, or `None` if `text` is none of a secret's. A secret's plain name is none either: which secret it stands
    /// for would depend on the account and region of whoever asks.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(7, ':');
        let mut part = || parts.next().filter(|part| !part.is_empty());
        let (scheme, partition, service) = (part()?, part()?, part()?);
        let (region, account, kind, name) = (part()?, part()?, part()?, part()?);
        let is_arn = scheme == "arn" && (partition == "aws" || partition.starts_with("aws-"));
        let is_secret = service == "secretsmanager" && kind == "secret";
        let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
        let is_name = name.bytes().all(|byte| byte.is_ascii_graphic());
        let is_region = region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (is_arn && is_secret && is_account && is_name && is_region).then(|| Self {
            arn: text.to_owned(),
            region: region.to_owned(),
        })
    }

    /// The whole ARN.
    pub fn as_str(&self) -> &str {
        &self.arn
    }

    /// The region that the secret is kept in.
    pub fn region(&self) -> &str {
        &self.region
    }
}

/// Why a secret gives no key. Nothing of its value is in here.
#[derive(Debug, thiserror::Error)]
pub enum ApiKeySecretError {
    /// There is no such secret.
    #[error("there is no such secret; expected the ARN of one that exists and is not about to be deleted")]
    Missing(#[source] Box<SdkError<GetSecretValueError>>),
    /// The function may not read it.
    #[error(
        "the secret may not be read; expected a role that is allowed secretsmanager:GetSecretValue on it, and kms:Decrypt \
         on its key if it has one of its own"
    )]
    Denied(#[source] Box<SdkError<GetSecretValueError>>),
    /// Anything else that kept the secret from being read.
    #[error("the secret cannot be read")]
    Unread(#[source] Box<SdkError<GetSecretValueError>>),
    /// A value that is no key.
    #[error("the secret {0}; expected the key itself as its plain text (SecretString), and nothing else")]
    NoKey(&'static str),
}

/// Reads the vendor's key from the secret with this ARN, in the ARN's own region. Line ends after the key are left out:
/// they come from the file or the `echo` that the secret was made with.
///
/// # Errors
/// If the secret cannot be read, or its value cannot be a key.
pub async fn api_key(config: &SdkConfig, arn: &SecretArn) -> Result<ApiKey, ApiKeySecretError> {
    let config = Builder::from(config).region(Region::new(arn.region.clone())).build();
    let secret = Client::from_conf(config)
        .get_secret_value()
        .secret_id(&arn.arn)
        .send()
        .await
        .map_err(unread)?;
    key_of(&secret)
}

fn unread(error: SdkError<GetSecretValueError>) -> ApiKeySecretError {
    let error = Box::new(error);
    match error.code() {
        Some("ResourceNotFoundException" | "InvalidRequestException") => ApiKeySecretError::Missing(error),
        Some("AccessDeniedException" | "DecryptionFailure") => ApiKeySecretError::Denied(error),
        _ => ApiKeySecretError::Unread(error),
    }
}

fn key_of(secret: &GetSecretValueOutput) -> Result<ApiKey, ApiKeySecretError> {
    let Some(text) = secret.secret_string() else {
        return Err(ApiKeySecretError::NoKey("is binary"));
    };
    let text = text.trim_end_matches(['\r', '\n']);
    if text.trim().is_empty() {
        return Err(ApiKeySecretError::NoKey("is empty"));
    }
    // What Secrets Manager's console makes of "key/value pairs": which of them would be the key cannot be known.
    if serde_json::from_str::<Map<String, Value>>(text).is_ok() {
        return Err(ApiKeySecretError::NoKey("is a JSON object"));
    }
    ApiKey::new(text.to_owned()).ok_or(ApiKeySecretError::NoKey("cannot stand in an HTTP header"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_chain;

    const ARN: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:prod/vendor-key-AbCdEf";

    fn text(text: &str) -> GetSecretValueOutput {
        GetSecretValueOutput::builder().secret_string(text).build()
    }

    #[test]
    fn an_arn_names_the_secrets_region() {
        assert_eq!(SecretArn::parse(ARN).unwrap().region, "eu-central-1");
        for partition in ["aws-cn", "aws-us-gov"] {
            assert!(
                SecretArn::parse(&ARN.replacen("aws", partition, 1)).is_some(),
                "{partition}"
            );
        }
    }

    #[test]
    fn what_is_no_arn_of_a_secret_is_refused() {
        for no_arn in [
            "prod/vendor-key",
            "arn:aws:ssm:eu-central-1:123456789012:parameter/vendor-key",
            "arn:aws:secretsmanager:eu-central-1:123456789012:secret",
            "arn:aws:secretsmanager:eu-central-1:123456789012:secret:",
            "arn:aws:secretsmanager::123456789012:secret:vendor-key",
            "arn:aws:secretsmanager:eu-central-1:1234:secret:vendor-key",
            "arn:gcp:secretsmanager:eu-central-1:123456789012:secret:vendor-key",
            "arn:aws:secretsmanager:eu-central-1:123456789012:secret:vendor key",
            "arn:aws:secretsmanager:eu/central:123456789012:secret:vendor-key",
            "{{resolve:secretsmanager:vendor-key}}",
        ] {
            assert_eq!(SecretArn::parse(no_arn), None, "{no_arn}");
        }
    }

    #[test]
    fn a_key_is_the_secrets_text_without_the_line_ends_after_it() {
        for kept in ["s3cret", "s3cret\n", "s3cret\r\n", "s3cret\n\n"] {
            let key = key_of(&text(kept)).unwrap();
            assert_eq!(key.redact("s3cret."), "[API_KEY].", "{kept:?}");
        }
        // A text that only begins like an object is a key like any other.
        assert!(key_of(&text("{s3cret}")).is_ok());
    }

    #[test]
    fn a_secret_that_is_no_key_is_refused_without_being_shown() {
        let binary =
            GetSecretValueOutput::builder().secret_binary(aws_sdk_secretsmanager::primitives::Blob::new("s3cret"));
        for (secret, problem) in [
            (binary.build(), "is binary"),
            (text(""), "is empty"),
            (text(" \n"), "is empty"),
            (text(r#"{"key": "s3cret"}"#), "is a JSON object"),
            (text("s3cret\nof two lines"), "cannot stand in an HTTP header"),
        ] {
            let refusal = error_chain(&key_of(&secret).unwrap_err());
            assert!(refusal.contains(problem) && refusal.contains("plain text"), "{refusal}");
            assert!(!refusal.contains("s3cret"), "{refusal}");
        }
    }
}
