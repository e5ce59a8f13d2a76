//! Asks for the facts. What is missing, or not allowed, is a fact as well: nothing here fails.

mod aws;
mod stores;
mod vendor;

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use shared::error_chain;
use url::Url;

use super::checks::settings;
use super::facts::{Facts, Remembered, Services, Source, Stores, Told};

/// The ways in which AWS says that something is not allowed.
const FORBIDDEN: [&str; 6] = [
    "AccessDenied",
    "AccessDeniedException",
    "AuthorizationError",
    "AuthorizationErrorException",
    "NotAuthorized",
    "UnauthorizedOperation",
];

/// How often AWS is asked in all, where it does not answer: somebody waits for what the doctor says.
const TRIES: u32 = 2;

/// What is asked besides what is there.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The vendor's quota, in requests a minute, if it was said.
    pub quota: Option<u32>,
    /// Whether the vendor is asked, too: one request.
    pub asks_vendor: bool,
}

/// Looks at an environment on AWS.
pub async fn on_aws(config: &SdkConfig, environment: &str, options: Options) -> Facts {
    let retry = RetryConfig::standard().with_max_attempts(TRIES);
    let config = &config.to_builder().retry_config(retry).build();
    let caller = aws::caller(config).await;
    let mut facts = Facts {
        environment: environment.to_owned(),
        stores: None,
        services: None,
        vendors: Vec::new(),
        quota: options.quota,
        source: Source::Aws(caller.clone()),
    };
    if let Some(identity) = caller.identity.found() {
        let (stores, services) = tokio::join!(
            stores(config, environment, true),
            aws::services(config, environment, identity, &caller)
        );
        if options.asks_vendor {
            facts.vendors = vendor::reached(vendors(&services)).await;
        }
        facts.stores = Some(stores);
        facts.services = Some(services);
    }
    facts
}

/// Looks at an environment in the embedded cloud, if it is the one that can be there. `vendor` is asked, unless it is
/// simulated.
pub async fn here(
    config: &SdkConfig,
    environment: &str,
    remembered: Remembered,
    vendor: Option<Url>,
    options: Options,
) -> Facts {
    let mut facts = Facts {
        environment: environment.to_owned(),
        stores: None,
        services: None,
        vendors: Vec::new(),
        quota: options.quota,
        source: Source::Here(remembered.clone()),
    };
    if environment == remembered.environment {
        facts.stores = Some(stores(config, environment, false).await);
        facts.vendors = vendor::reached(vendor.filter(|_| options.asks_vendor)).await;
    }
    facts
}

async fn stores(config: &SdkConfig, environment: &str, is_aws: bool) -> Stores {
    let (tables, state, queues) = tokio::join!(
        stores::tables(config, environment, is_aws),
        stores::state(config, environment, is_aws),
        stores::queues(config, environment, is_aws)
    );
    Stores { tables, state, queues }
}

/// The vendors that functions are told of, each once.
fn vendors(services: &Services) -> impl IntoIterator<Item = Url> {
    let urls = services.functions.iter().filter_map(|(function, told)| {
        let values = told.found()?.variables.found()?;
        Some(settings(function, values).ok()?.vendor.base_url)
    });
    urls.map(|url| (url.to_string(), url))
        .collect::<BTreeMap<_, _>>()
        .into_values()
}

/// What an answer tells. `missing` are the codes of the errors that say that there is no such thing.
fn told<T, E>(action: &'static str, missing: &[&str], answer: Result<T, SdkError<E>>) -> Told<T>
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    match answer {
        Ok(thing) => Told::Found(thing),
        Err(error) => match error.code() {
            Some(code) if missing.contains(&code) => Told::Missing,
            Some(code) if FORBIDDEN.contains(&code) => Told::Forbidden(action),
            _ => Told::Unread {
                action,
                // Some errors are lists, a line for each way that was tried.
                reason: error_chain(&error).split_whitespace().collect::<Vec<_>>().join(" "),
            },
        },
    }
}

impl<T> Told<T> {
    fn map<U>(self, of: impl FnOnce(T) -> U) -> Told<U> {
        match self {
            Self::Found(thing) => Told::Found(of(thing)),
            Self::Missing => Told::Missing,
            Self::Forbidden(action) => Told::Forbidden(action),
            Self::Unread { action, reason } => Told::Unread { action, reason },
        }
    }
}
