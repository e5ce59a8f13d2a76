//! The embedded cloud: DynamoDB, SQS and SNS on one loopback port, for the AWS SDKs and the AWS CLI as they are.
//!
//! `AWS_ENDPOINT_URL` is all that a client needs to come here instead of to AWS; only version 1 of the AWS CLI overrides
//! it for SQS, goes to AWS, and needs `--endpoint-url` on every command. DynamoDB is dynoxide; SQS and SNS are
//! our own, and no larger than what the pipeline and those who look at it need. All is kept in files, and what was
//! acknowledged survives the death of the process.

mod dynamodb;
mod front;
mod provision;
mod sns;
mod sqs;
mod store;
mod usage;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File, TryLockError};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use axum::serve::ListenerExt;
use shared::clock::Clock;
use thiserror::Error;
use time::UtcDateTime;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use front::Services;
pub use provision::Provisioned;
pub use sns::Mail;
use sqs::Sqs;
pub use sqs::{CURRENT_TIME, OLDEST_MESSAGE};
use store::Store;
pub use usage::{Asked, Usage, Used};

/// The account that everything belongs to.
const ACCOUNT: &str = "000000000000";
/// The region that everything is in, whatever the client says.
const REGION: &str = "us-east-1";
/// How long requests that are still running at the end are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the cloud keeps its data, where it listens, and what time it is there.
#[derive(Clone, Debug)]
pub struct CloudOptions {
    /// The directory for its files, made if it is missing; `None` keeps everything in memory.
    pub data: Option<PathBuf>,
    /// The address to listen on. Whoever reaches it is let in, so that this machine's own loopback is the usual one.
    pub address: IpAddr,
    /// The port; 0 takes any that is free.
    pub port: u16,
    /// The time that delays, visibility time-outs and retention go by. It must not go backwards between two starts on
    /// the same data. DynamoDB has the machine's time whatever this says.
    pub clock: Clock,
}

/// Why the cloud could not be started or used.
#[derive(Debug, Error)]
pub enum CloudError {
    /// The data directory cannot be made, or its lock file not be opened.
    #[error("could not use the data directory {}", path.display())]
    Data {
        /// The directory.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Another process has its cloud in the same directory.
    #[error("the data directory {} is in use by another process; stop that one, or choose another with --data", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The port cannot be listened on.
    #[error(
        "could not listen on {address}; choose an address of this machine, and another port, or 0 for any that is free"
    )]
    Port {
        /// The address and port.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// DynamoDB could not be started.
    #[error("could not start the embedded DynamoDB")]
    Tables {
        /// Why.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The file of queues and topics could not be read or written.
    #[error("could not use the database of queues and topics")]
    Messages {
        /// What SQLite said.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A table or queue could not be made.
    #[error("could not create {what}")]
    Provision {
        /// The table's or queue's name.
        what: String,
        /// What the service answered.
        source: Box<dyn Error + Send + Sync>,
    },
}

impl CloudError {
    fn tables<E: Into<Box<dyn Error + Send + Sync>>>(source: E) -> Self {
        Self::Tables { source: source.into() }
    }

    fn messages<E: Into<Box<dyn Error + Send + Sync>>>(source: E) -> Self {
        Self::Messages { source: source.into() }
    }
}

/// A running cloud. Dropping it ends it without waiting; [`Cloud::shutdown`] does so in order.
pub struct Cloud {
    endpoint: String,
    services: Arc<Services>,
    store: Store,
    stop: CancellationToken,
    front: JoinHandle<()>,
    dynamodb: dynamodb::Host,
    tables_file: Option<PathBuf>,
    lock: Option<File>,
    _stop_when_dropped: DropGuard,
}

impl Cloud {
    /// Opens the data and listens.
    ///
    /// # Errors
    /// If the directory, a file in it or the port cannot be used; [`CloudError::InUse`] if another process uses the
    /// directory.
    pub async fn start(options: CloudOptions) -> Result<Self, CloudError> {
        let lock = options.data.as_deref().map(claim).transpose()?;
        let file = |name: &str| options.data.as_ref().map(|data| data.join(name));

        let stop = CancellationToken::new();
        let stop_when_dropped = stop.clone().drop_guard();
        let address = SocketAddr::from((options.address, options.port));
        let port = |source| CloudError::Port { address, source };
        let listener = TcpListener::bind(address).await.map_err(port)?;
        let endpoint = format!("http://{}", listener.local_addr().map_err(port)?);

        let schemas = [&sqs::SCHEMAS[..], &[sns::SCHEMA]].concat();
        let messages = file("messages.sqlite");
        let store = tokio::task::spawn_blocking(move || Store::open(messages.as_deref(), &schemas))
            .await
            .map_err(CloudError::messages)?
            .map_err(CloudError::messages)?;
        let sqs = Sqs::start(store.clone(), options.clock.clone(), endpoint.clone(), stop.clone())
            .await
            .map_err(CloudError::messages)?;
        let sns = sns::Sns::new(store.clone(), options.clock, sqs.clone());
        // The database ends after the port does, so that what is under way there finds it still running.
        let tables_file = file("tables.sqlite");
        let (tables, dynamodb) = dynamodb::start(tables_file.as_deref(), CancellationToken::new()).await?;

        let services = Arc::new(Services::new(tables, sqs, sns));
        let router = front::router(Arc::clone(&services));
        let listener = listener.tap_io(|connection| {
            if let Err(error) = connection.set_nodelay(true) {
                tracing::debug!(error = &error as &dyn Error, "a connection stays slow");
            }
        });
        let serve = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let front = tokio::spawn(async {
            if let Err(error) = serve.await {
                tracing::error!(error = &error as &dyn Error, "the embedded cloud's port ended");
            }
        });
        Ok(Self {
            endpoint,
            services,
            store,
            stop,
            front,
            dynamodb,
            tables_file,
            lock,
            _stop_when_dropped: stop_when_dropped,
        })
    }

    /// Where it listens, as `AWS_ENDPOINT_URL` wants it: `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// What SDK clients need to come here; the credentials in it open nothing anywhere.
    pub fn sdk_config(&self) -> SdkConfig {
        sdk_config_for(&self.endpoint)
    }

    /// How often each operation was asked for since the start, such as `DynamoDB.UpdateItem` or `SQS.ReceiveMessage`.
    pub fn requests(&self) -> BTreeMap<String, u64> {
        self.services.meter.usage().requests()
    }

    /// What was asked for since the start: by operation and table or queue, with bytes and DynamoDB's request units.
    pub fn usage(&self) -> Usage {
        self.services.meter.usage()
    }

    /// How many messages a queue holds: ready, received and not yet deleted, delayed. Looking is not counted as a request.
    ///
    /// # Errors
    /// [`CloudError::Messages`] if there is no such queue or the database cannot be read.
    pub async fn messages_in(&self, queue_url: &str) -> Result<u64, CloudError> {
        const NAMES: [&str; 3] = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ];
        let request = serde_json::json!({"QueueUrl": queue_url, "AttributeNames": NAMES}).to_string();
        let answer = self.services.sqs.handle("GetQueueAttributes", request.as_bytes()).await;
        let answer = answer.map_err(CloudError::messages)?.unwrap_or_default();
        let count = |name: &str| answer["Attributes"][name].as_str()?.parse::<u64>().ok();
        Ok(NAMES.into_iter().filter_map(count).sum())
    }

    /// To be called after the clock was advanced: whoever waits for messages looks again.
    pub fn time_moved(&self) {
        self.services.sqs.wake_all();
    }

    /// Forgets the records of a table's stream that come before the number `before` and are older than DynamoDB would keep
    /// them, and answers how many there were. A cloud in memory keeps them.
    ///
    /// # Errors
    /// [`CloudError::Tables`] if the file of the tables cannot be written.
    pub async fn forget_stream_records(&self, table: &str, before: &str) -> Result<usize, CloudError> {
        let Some(file) = self.tables_file.clone() else {
            return Ok(0);
        };
        let (table, before) = (table.to_owned(), before.to_owned());
        tokio::task::spawn_blocking(move || dynamodb::forget_stream_records(&file, &table, &before))
            .await
            .map_err(CloudError::tables)?
            .map_err(CloudError::tables)
    }

    /// What e-mail subscribers of topics would have got, oldest first. It is kept with the rest of the data.
    ///
    /// # Errors
    /// [`CloudError::Messages`] if the database cannot be read.
    pub async fn outbox(&self) -> Result<Vec<Mail>, CloudError> {
        self.services.sns.outbox().await.map_err(CloudError::messages)
    }

    /// Ends long polls and the port, waits a few seconds for requests that are still running, and closes the files.
    ///
    /// # Errors
    /// [`CloudError::Messages`] if the queues' file could not be written in full; what was acknowledged is safe in its
    /// write-ahead log all the same.
    pub async fn shutdown(mut self) -> Result<(), CloudError> {
        self.stop.cancel();
        if tokio::time::timeout(PATIENCE, &mut self.front).await.is_err() {
            self.front.abort();
        }
        self.dynamodb.shutdown().await;
        let flushed = self.store.flush().await.map_err(CloudError::messages);
        drop(self.lock);
        flushed
    }
}

/// What SDK clients need to come to the embedded cloud at `endpoint`, which another process may be running.
pub fn sdk_config_for(endpoint: &str) -> SdkConfig {
    let credentials = Credentials::new("cascade", "cascade", None, None, "embedded cloud");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static(REGION))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .endpoint_url(endpoint)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build()
}

/// Makes the directory and takes its lock, which ends with the process at the latest.
fn claim(data: &Path) -> Result<File, CloudError> {
    let failed = |source| CloudError::Data {
        path: data.to_owned(),
        source,
    };
    fs::create_dir_all(data).map_err(failed)?;
    let lock = File::create(data.join("cloud.lock")).map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(CloudError::InUse { path: data.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed(source)),
    }
}

/// A time as the databases keep it.
fn unix_milliseconds(time: UtcDateTime) -> i64 {
    // A time's range is some 10,000 years, which fits into milliseconds many times over.
    (time.unix_timestamp_nanos() / 1_000_000) as i64
}
