//! A collector, or whatever else answers events, as a Lambda function: started once a process, called once an event.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_smithy_http_client::tls;
use lambda_runtime::{Diagnostic, LambdaEvent, Runtime, service_fn};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use tracing::{debug, error, info};

use crate::account::Accounts;
use crate::checkpoint::Checkpoints;
use crate::clock::Clock;
use crate::collector::{Call, Collector, handle};
use crate::config::{API_KEY_SECRET_ARN, CollectorSettings, ConfigError, Variables};
use crate::deletions::Rosters;
use crate::entity::Entity;
use crate::error_chain;
use crate::jitter::Jitter;
use crate::queue::sqs::SqsQueue;
use crate::quota::Quota;
use crate::rejections::Rejections;
use crate::secret::{self, ApiKeySecretError};
use crate::state::StateTable;
use crate::state::dynamodb::DynamoState;
use crate::table::dynamodb::DynamoTable;
use crate::telemetry::{self, Process};
use crate::topic::Topic;
use crate::topic::sns::SnsTopic;
use crate::vendor::client::VendorClient;
use crate::vendor::excerpt::Excerpts;
use crate::vendor::http::ClientError;

/// How often the SDK tries a request in all; with adaptive retries a throttled client slows down by itself.
const SDK_TRIES: u32 = 8;

/// How long one try of a request to AWS may take: well above a long poll.
const SDK_TRY: Duration = Duration::from_secs(20);

/// How long a connection to AWS may take to be made.
const SDK_CONNECT: Duration = Duration::from_secs(3);

/// The invocation's time where the runtime does not tell it: the functions' time-out.
const DEFAULT_TIME: Duration = Duration::from_secs(900);

/// The longest time-out that a function can have, with room to spare: a deadline before it on the first day of 1970 is none.
const LONGEST_TIME: Duration = Duration::from_secs(24 * 60 * 60);

/// The variables that Lambda sets, and that its runtime client cannot do without.
const RUNTIME_VARIABLES: [&str; 4] = [
    "AWS_LAMBDA_RUNTIME_API",
    "AWS_LAMBDA_FUNCTION_NAME",
    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
    "AWS_LAMBDA_FUNCTION_VERSION",
];

/// What a collector is built from: everything that lives as long as the process does.
pub struct Parts {
    /// What every collector is told.
    pub settings: CollectorSettings,
    /// The vendor.
    pub vendor: Arc<VendorClient>,
    /// What all instances remember together.
    pub checkpoints: Checkpoints,
    /// The runs' accounts.
    pub accounts: Accounts,
    /// By which deletions are noticed.
    pub rosters: Rosters,
    /// What is remembered of records that were rejected.
    pub rejections: Rejections,
    /// For the AWS clients.
    pub aws: SdkConfig,
    /// The machine's clock.
    pub clock: Clock,
    /// Random for real.
    pub jitter: Jitter,
}

impl Parts {
    /// The queue at `url`.
    pub fn queue(&self, url: String) -> SqsQueue {
        SqsQueue::new(aws_sdk_sqs::Client::new(&self.aws), url, self.jitter.clone())
    }

    /// This collector's table.
    pub fn table(&self, entity: Entity) -> DynamoTable {
        let client = aws_sdk_dynamodb::Client::new(&self.aws);
        DynamoTable::new(client, self.settings.table.clone(), entity, self.jitter.clone())
    }
}

/// Why a function does not start.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("{API_KEY_SECRET_ARN} does not lead to the vendor's key")]
    ApiKeySecret(#[from] ApiKeySecretError),
    #[error("the vendor's client cannot be built")]
    Vendor(#[from] ClientError),
    #[error(
        "{0} is missing: this is a Lambda function, which Lambda, sam or cargo lambda starts; `cargo run` starts all of them here"
    )]
    NotInLambda(&'static str),
    #[error("SIGTERM cannot be listened for")]
    Signal(#[source] std::io::Error),
    #[error(transparent)]
    Own(Box<dyn std::error::Error + Send + Sync>),
}

/// What a function does with an event.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Answers an event.
    async fn handle(&self, event: &str, call: Call) -> Answered;
}

/// What became of an event.
#[derive(Debug)]
pub struct Answered {
    /// The answer; an error with its causes, where there is none.
    pub answer: Result<Value, String>,
    /// What was measured, a line of embedded metrics.
    pub metrics: Value,
}

/// What every function stands on.
pub struct Ground {
    /// Who it is.
    pub process: Process,
    /// For the AWS clients.
    pub aws: SdkConfig,
    /// The machine's clock.
    pub clock: Clock,
    /// Random for real.
    pub jitter: Jitter,
    stop: CancellationToken,
}

/// Runs a collector as a Lambda function until Lambda ends the process. `read` reads what only this collector is told,
/// `build` puts it together.
pub async fn run<C, S>(
    read: impl FnOnce(&mut Variables<'_>) -> Option<S>,
    build: impl FnOnce(S, Parts) -> C,
) -> ExitCode
where
    C: Collector + 'static,
{
    let process = Process::from_env(C::NAME);
    run_to_the_end(&process, start(&process, read, build)).await
}

/// Runs a function that is no collector until Lambda ends the process. `read` reads the level of its log lines and what it
/// is told, `build` puts it together. Where Lambda does not say what it is called, it is called `name`.
pub async fn run_handler<H, S, E>(
    name: &str,
    read: impl FnOnce(&mut Variables<'_>) -> Option<(LevelFilter, S)>,
    build: impl FnOnce(S, &Ground) -> Result<H, E>,
) -> ExitCode
where
    H: Handler + 'static,
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let process = Process::from_env(name);
    let start = async {
        let mut variables = Variables::of_process();
        let settings = read(&mut variables);
        let (level, settings) = variables.finish(settings)?;
        let ground = ground(&process, level).await?;
        let handler = build(settings, &ground).map_err(|error| StartError::Own(error.into()))?;
        Ok(Function::new(handler, ground))
    };
    run_to_the_end(&process, start).await
}

async fn run_to_the_end<H: Handler + 'static>(
    process: &Process,
    start: impl Future<Output = Result<Function<H>, StartError>>,
) -> ExitCode {
    match start.await {
        Ok(function) => function.serve().await,
        Err(failure) => {
            telemetry::init(process, LevelFilter::INFO);
            error!(reason = error_chain(&failure), "the function does not start");
            ExitCode::FAILURE
        }
    }
}

async fn ground(process: &Process, level: LevelFilter) -> Result<Ground, StartError> {
    telemetry::init(process, level);
    if let Some(missing) = RUNTIME_VARIABLES
        .into_iter()
        .find(|name| std::env::var_os(name).is_none())
    {
        return Err(StartError::NotInLambda(missing));
    }
    let stop = stop_on_sigterm().map_err(StartError::Signal)?;
    install_tls();
    Ok(Ground {
        process: process.clone(),
        aws: sdk_config(aws_config::defaults(BehaviorVersion::latest())).await,
        clock: Clock::system(),
        jitter: Jitter::random(),
        stop,
    })
}

async fn start<C: Collector + 'static, S>(
    process: &Process,
    read: impl FnOnce(&mut Variables<'_>) -> Option<S>,
    build: impl FnOnce(S, Parts) -> C,
) -> Result<Function<Collecting<C>>, StartError> {
    let mut variables = Variables::of_process();
    let own = read(&mut variables);
    let settings = variables.collector();
    let (own, mut settings) = variables.finish(own.zip(settings))?;
    let ground = ground(process, settings.level).await?;
    let (aws, clock, jitter) = (ground.aws.clone(), ground.clock.clone(), ground.jitter.clone());
    if let Some(arn) = &settings.api_key_secret {
        settings.vendor.api_key = Some(secret::api_key(&aws, arn).await?);
    }
    let state: Option<Arc<dyn StateTable>> = match &settings.state_table {
        Some(table) => Some(Arc::new(DynamoState::new(&aws, table.clone()))),
        None => None,
    };
    let quota = match &state {
        Some(state) => Quota::shared(state.clone(), settings.quota, clock.clone(), jitter.clone()),
        None => Quota::own(settings.quota),
    };
    let vendor = VendorClient::new(&settings.vendor, quota, clock.clone(), jitter.clone())?;
    let environment = settings.environment.clone();
    let topic: Option<Arc<dyn Topic>> = match &settings.report_topic {
        Some(arn) => Some(Arc::new(SnsTopic::new(&aws, arn.clone()))),
        None => None,
    };
    let accounts = Accounts::new(
        state.clone(),
        topic,
        clock.clone(),
        jitter.clone(),
        environment.clone(),
        Some(settings.quota.requests_per_minute.get()),
    );
    let parts = Parts {
        rosters: Rosters::new(state.clone(), settings.deletions),
        rejections: Rejections::new(
            state.clone(),
            clock.clone(),
            Excerpts::new(settings.vendor.api_key.clone()),
        ),
        settings,
        vendor: Arc::new(vendor),
        accounts,
        checkpoints: Checkpoints::new(state, clock.clone(), jitter.clone()),
        aws,
        clock: clock.clone(),
        jitter,
    };
    let collecting = Collecting {
        collector: build(own, parts),
        function: process.function.clone(),
        environment,
        clock,
    };
    Ok(Function::new(collecting, ground))
}

/// A collector as a handler.
struct Collecting<C> {
    collector: C,
    function: String,
    environment: String,
    clock: Clock,
}

#[async_trait]
impl<C: Collector> Handler for Collecting<C> {
    async fn handle(&self, event: &str, call: Call) -> Answered {
        let request_id = call.request_id.clone();
        let handled = handle(&self.collector, event, call).await;
        let metrics = telemetry::embedded_metrics(
            &self.function,
            &self.environment,
            &request_id,
            handled.run_id,
            &handled.counts,
            handled.staleness,
            self.clock.now(),
        );
        Answered {
            answer: handled.answer.map_err(|failure| error_chain(&failure)),
            metrics,
        }
    }
}

/// One TLS provider for the vendor and for AWS.
pub fn install_tls() {
    // An error says that there is one already: a second call, as a test or the command may make.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The configuration of all AWS clients, but for where AWS is and who is calling: that comes with `loader`.
pub async fn sdk_config(loader: aws_config::ConfigLoader) -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    loader
        .http_client(http)
        .retry_config(RetryConfig::adaptive().with_max_attempts(SDK_TRIES))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(SDK_CONNECT)
                .operation_attempt_timeout(SDK_TRY)
                .build(),
        )
        .load()
        .await
}

/// A token that SIGTERM cancels.
fn stop_on_sigterm() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let cancelled = stop.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        cancelled.cancel();
    });
    Ok(stop)
}

/// A function that has started.
struct Function<H> {
    handler: H,
    clock: Clock,
    stop: CancellationToken,
    /// Held while an event is handled.
    in_use: Arc<Semaphore>,
}

impl<H: Handler + 'static> Function<H> {
    fn new(handler: H, ground: Ground) -> Self {
        Self {
            handler,
            clock: ground.clock,
            stop: ground.stop,
            in_use: Arc::new(Semaphore::new(1)),
        }
    }

    async fn serve(self) -> ExitCode {
        register_for_sigterm().await;
        let (stop, in_use) = (self.stop.clone(), self.in_use.clone());
        let function = Arc::new(self);
        let handler = service_fn(move |event: LambdaEvent<Box<RawValue>>| {
            let function = function.clone();
            async move { function.invoke(event).await }
        });
        let stopped = async {
            stop.cancelled().await;
            // What is being handled hands back what it has not begun, and ends; then its answer is on its way.
            let idle = in_use.acquire().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            drop(idle);
        };
        tokio::select! {
            result = Runtime::new(handler).run() => match result {
                Ok(()) => ExitCode::SUCCESS,
                Err(failure) => {
                    error!(reason = failure.to_string(), "the runtime ended");
                    ExitCode::FAILURE
                }
            },
            () = stopped => {
                info!("the function ends, as it was told to");
                ExitCode::SUCCESS
            }
        }
    }

    async fn invoke(&self, event: LambdaEvent<Box<RawValue>>) -> Result<Value, Diagnostic> {
        let _in_use = self.in_use.acquire().await;
        let (event, context) = event.into_parts();
        let call = Call {
            request_id: context.request_id.clone(),
            now: self.clock.now(),
            deadline: Instant::now() + time_left(context.deadline, SystemTime::now()),
            stop: self.stop.clone(),
        };
        let answered = self.handler.handle(event.get(), call).await;
        // Nobody may be listening; that is no reason to fail what was done.
        let _ = writeln!(std::io::stdout(), "{}", answered.metrics);
        answered.answer.map_err(|error_message| Diagnostic {
            error_type: "InvocationError".to_owned(),
            error_message,
        })
    }
}

/// How long an invocation may take whose deadline is that many milliseconds after 1970. `cargo lambda watch` says how long
/// there is instead, and an emulator may say nothing.
fn time_left(deadline: u64, now: SystemTime) -> Duration {
    let told = Duration::from_millis(deadline);
    if told.is_zero() {
        DEFAULT_TIME
    } else if told <= LONGEST_TIME {
        told
    } else {
        (SystemTime::UNIX_EPOCH + told).duration_since(now).unwrap_or_default()
    }
}

/// Registers as an extension that wants no events: without one, Lambda ends a function without SIGTERM. Whoever
/// emulates Lambda may not know of extensions, and the function then goes on without.
///
/// Source: "Lambda Extensions API", AWS Lambda Developer Guide, and the graceful-shutdown sample it links to.
async fn register_for_sigterm() {
    let Ok(api) = std::env::var("AWS_LAMBDA_RUNTIME_API") else {
        return;
    };
    let base = format!("http://{api}/2020-01-01/extension");
    // No system proxy stands between a function and its runtime.
    let Ok(http) = reqwest::Client::builder().no_proxy().build() else {
        return;
    };
    let registered = http
        .post(format!("{base}/register"))
        .header("Lambda-Extension-Name", "cascade-graceful-shutdown")
        .body(r#"{"events": []}"#)
        .timeout(Duration::from_secs(1))
        .send()
        .await
        .and_then(reqwest::Response::error_for_status);
    let id = match registered {
        Ok(response) => response.headers().get("Lambda-Extension-Identifier").cloned(),
        Err(failure) => {
            debug!(
                reason = error_chain(&failure),
                "no extension registered, and so no SIGTERM from Lambda"
            );
            return;
        }
    };
    if let Some(id) = id {
        // Tells Lambda that the extension is ready, and then waits for an event that never comes.
        tokio::spawn(
            http.get(format!("{base}/event/next"))
                .header("Lambda-Extension-Identifier", id)
                .send(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_is_told_by_a_moment_or_by_its_length_or_not_at_all() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_222_800_000);
        for (deadline, seconds) in [
            (1_795_222_860_000, 60),
            (1_795_222_799_000, 0),
            (600_000, 600),
            (0, 900),
            (86_400_001, 0),
        ] {
            assert_eq!(time_left(deadline, now), Duration::from_secs(seconds), "{deadline}");
        }
        // Nothing that a runtime can say ends the process.
        time_left(u64::MAX, now);
    }
}
