//! A bucket of S3, as whoever asks is known to AWS: the only module that knows how.

use std::sync::Arc;

use async_trait::async_trait;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::{CredentialProvider, ObjectStore, RetryConfig};
use shared::clock::Clock;
use shared::error_chain;
use shared::lambda::{install_tls, sdk_config};
use thiserror::Error;
use time::{Duration, UtcDateTime};
use tokio::sync::Mutex;

/// The variable that names another endpoint for S3 alone; `AWS_ENDPOINT_URL` names one for all of AWS.
const S3_ENDPOINT: &str = "AWS_ENDPOINT_URL_S3";

/// How long before their end credentials are fetched anew: a request that is signed now may take that long to arrive.
const MARGIN: Duration = Duration::minutes(5);

/// How often a request is tried again, and for how long in all: somebody waits for the answer.
const RETRIES: usize = 4;
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// Why a bucket cannot be asked. No credential is in here.
#[derive(Debug, Error)]
pub enum S3Error {
    /// Nobody is signed in.
    #[error(
        "no AWS credentials: expected a profile (AWS_PROFILE, `aws sso login`), AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a role"
    )]
    NoCredentials,
    /// No region is known.
    #[error("no AWS region: expected AWS_REGION, or a region in the profile")]
    NoRegion,
    /// Anything else.
    #[error("the bucket cannot be asked")]
    Client(#[from] object_store::Error),
}

/// The bucket, in the region and at the endpoint that the standard AWS environment names.
///
/// # Errors
/// If that names no region or no credentials.
pub(crate) async fn bucket(name: &str) -> Result<Arc<dyn ObjectStore>, S3Error> {
    install_tls();
    let config = sdk_config(aws_config::defaults(BehaviorVersion::latest())).await;
    bucket_with(name, &config)
}

fn bucket_with(name: &str, config: &SdkConfig) -> Result<Arc<dyn ObjectStore>, S3Error> {
    let region = config.region().ok_or(S3Error::NoRegion)?;
    let provider = config.credentials_provider().ok_or(S3Error::NoCredentials)?;
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(name)
        .with_region(region.as_ref())
        .with_credentials(Arc::new(SignedIn::new(provider, Clock::system())))
        .with_retry(RetryConfig {
            max_retries: RETRIES,
            retry_timeout: PATIENCE,
            ..RetryConfig::default()
        });
    let endpoint = std::env::var(S3_ENDPOINT)
        .ok()
        .or_else(|| config.endpoint_url().map(str::to_owned));
    if let Some(endpoint) = endpoint {
        builder = builder
            .with_allow_http(endpoint.starts_with("http://"))
            .with_endpoint(endpoint);
    }
    Ok(Arc::new(builder.build()?))
}

/// Credentials of the AWS SDK, kept until shortly before their end: the SDK's chain asks anew each time.
#[derive(Debug)]
struct SignedIn {
    provider: SharedCredentialsProvider,
    clock: Clock,
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    credential: Arc<AwsCredential>,
    /// None if they never end.
    until: Option<UtcDateTime>,
}

impl SignedIn {
    fn new(provider: SharedCredentialsProvider, clock: Clock) -> Self {
        Self {
            provider,
            clock,
            kept: Mutex::new(None),
        }
    }
}

#[async_trait]
impl CredentialProvider for SignedIn {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let mut kept = self.kept.lock().await;
        let now = self.clock.now();
        if let Some(kept) = &*kept
            && kept.until.is_none_or(|until| now < until - MARGIN)
        {
            return Ok(kept.credential.clone());
        }
        let fetched = self.provider.provide_credentials().await.map_err(unsigned)?;
        let credential = Arc::new(credential(&fetched));
        *kept = Some(Kept {
            credential: credential.clone(),
            until: fetched.expiry().map(UtcDateTime::from),
        });
        Ok(credential)
    }
}

fn credential(fetched: &Credentials) -> AwsCredential {
    AwsCredential {
        key_id: fetched.access_key_id().to_owned(),
        secret_key: fetched.secret_access_key().to_owned(),
        token: fetched.session_token().map(str::to_owned),
    }
}

fn unsigned(error: aws_credential_types::provider::error::CredentialsError) -> object_store::Error {
    object_store::Error::Unauthenticated {
        path: String::new(),
        source: format!("{}: {}", S3Error::NoCredentials, error_chain(&error)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_credential_types::provider::future;
    use std::sync::atomic::{AtomicU32, Ordering};
    use time::macros::utc_datetime;

    const START: UtcDateTime = utc_datetime!(2026-11-21 01:00);

    /// Numbers what it is asked for; each is good for an hour.
    #[derive(Debug, Default)]
    struct Numbered(AtomicU32);

    impl ProvideCredentials for Numbered {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            let until = START + Duration::hours(i64::from(number) + 1);
            let fetched = Credentials::new(format!("key-{number}"), "s3cret", None, Some(until.into()), "test");
            future::ProvideCredentials::ready(Ok(fetched))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn credentials_are_kept_until_shortly_before_their_end() {
        let clock = Clock::starting_at(START);
        let signed_in = SignedIn::new(SharedCredentialsProvider::new(Numbered::default()), clock.clone());
        let mut keys = Vec::new();
        for minutes in [0, 54, 1, 59, 1] {
            clock.advance(std::time::Duration::from_secs(minutes * 60));
            keys.push(signed_in.get_credential().await.unwrap().key_id.clone());
        }
        assert_eq!(keys, ["key-0", "key-0", "key-1", "key-1", "key-2"]);
    }

    #[tokio::test]
    async fn without_credentials_the_error_says_how_to_come_by_some() {
        let none = aws_credential_types::provider::error::CredentialsError::not_loaded("nobody");
        let error = error_chain(&unsigned(none));
        assert!(error.contains("AWS_PROFILE") && error.contains("nobody"), "{error}");
    }
}
