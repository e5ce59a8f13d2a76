//! What `run` and `up` have in common: a cloud, a vendor, and the collectors between them.

use std::fs::OpenOptions;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::Args;
use sales::lookback::Lookback;
use shared::account::Accounts;
use shared::checkpoint::Checkpoints;
use shared::clock::Clock;
use shared::config::parse_level;
use shared::deletions::{DEFAULT_MAX_PERCENT, DeletionRules, Rosters};
use shared::jitter::Jitter;
use shared::lambda::install_tls;
use shared::quota::{Quota, QuotaSettings};
use shared::rejections::Rejections;
use shared::state::StateTable;
use shared::state::dynamodb::DynamoState;
use shared::telemetry::{self, Process};
use shared::topic::sns::SnsTopic;
use shared::vendor::client::{ApiKey, VendorClient, VendorSettings};
use shared::vendor::excerpt::Excerpts;
use time::UtcDateTime;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;
use url::Url;

use super::CommandError;
use crate::cloud::{Cloud, CloudOptions, Provisioned};
use crate::feed::Feed;
use crate::pipeline::{Pipeline, PipelineOptions};
use crate::state::{Simulation, Source, State, Wish, parse_time};
use crate::vendor::{Faults, VendorOptions, VendorServer, WorldOptions};

/// The environment's name here.
pub(super) const ENVIRONMENT: &str = "local";

/// The simulated vendor's quota where none is given.
pub(super) const DEFAULT_QUOTA: NonZeroU32 = NonZeroU32::new(240).expect("240 is not zero");

/// How long one request may take, here where the vendor is on the same machine; a slow answer takes longer.
const SIMULATED_TIME_OUT: Duration = Duration::from_secs(3);
const SIMULATED_SLOWNESS: Duration = Duration::from_secs(4);

/// One request's limit with a real vendor: `API_TIMEOUT_SECONDS`'s default.
const TIME_OUT: Duration = Duration::from_secs(10);

/// The largest answer that is taken, in bytes: what a test of memory would ask for many times over.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// The log file under the data directory.
const LOG: &str = "log.jsonl";

/// The options of the simulated vendor's world.
#[derive(Clone, Copy, Debug, Args)]
pub struct WorldArgs {
    /// Salespersons a branch, of which there are 13 [default: 8]
    #[arg(long, value_name = "N", help_heading = "Simulated vendor")]
    pub salespersons: Option<usize>,
    /// Sales a salesperson has at the start [default: 50]
    #[arg(long, value_name = "N", help_heading = "Simulated vendor")]
    pub sales: Option<usize>,
    /// What the world is made from: the same seed makes the same world [default: 2005]
    #[arg(long, value_name = "N", help_heading = "Simulated vendor")]
    pub seed: Option<u64>,
    /// When the world begins [default: this hour]
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Simulated vendor")]
    pub start: Option<UtcDateTime>,
    /// Share of requests that go wrong, from 0 to 1: 429, 5xx, slow, cut, truncated, errors with status 200
    #[arg(long, value_name = "RATE", default_value_t = 0.0, help_heading = "Simulated vendor")]
    pub faults: f64,
}

impl WorldArgs {
    fn wish(&self) -> Wish {
        Wish {
            seed: self.seed,
            salespersons: self.salespersons,
            sales: self.sales,
            start: self.start,
        }
    }

    /// The faults asked for.
    ///
    /// # Errors
    /// If the rate is none.
    pub(super) fn faults(&self) -> Result<Faults, CommandError> {
        let slow_for_ms = u64::try_from(SIMULATED_SLOWNESS.as_millis()).unwrap_or(u64::MAX);
        Ok(Faults {
            slow_for_ms,
            ..Faults::at_rate(self.faults)?
        })
    }
}

/// The options that `run` and `up` share.
#[derive(Clone, Debug, Args)]
pub struct SessionArgs {
    /// Requests a minute that the vendor allows [default: 240 with the simulated vendor]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub quota: Option<NonZeroU32>,
    /// A real vendor's URL, in place of the simulated one; needs --quota, and takes API_KEY from the environment
    #[arg(long, value_name = "URL", requires = "quota", conflicts_with_all = ["salespersons", "sales", "seed", "start", "faults"], value_parser = parse_url)]
    pub vendor: Option<Url>,
    /// Directory that tables, queues and the log are kept in
    #[arg(long, value_name = "DIR", default_value = ".cascade")]
    pub data: PathBuf,
    /// How many hours back a sale still counts as recent; 0: all sales
    #[arg(long, value_name = "HOURS", default_value_t = 24)]
    pub lookback: u32,
    /// Of which records the vendor's deletions are looked for: branches, employees, sales, several with commas between,
    /// or none
    #[arg(long, value_name = "KINDS", default_value = "branches,employees", value_parser = parse_deletions)]
    pub deletions: DeletionRules,
    /// How much of an answer may vanish at once, in percent; where more has, nothing is marked as deleted
    #[arg(long, value_name = "PERCENT", default_value_t = DEFAULT_MAX_PERCENT, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub deletions_max_percent: u8,
    /// The simulated vendor's world.
    #[command(flatten)]
    pub world: WorldArgs,
}

/// Reads a number of at least one.
pub(super) fn parse_count(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| "expected a whole number from 1".to_owned())
}

fn parse_deletions(text: &str) -> Result<DeletionRules, String> {
    DeletionRules::parse(text)
        .ok_or_else(|| "expected branches, employees, sales or several of them with commas between, or none".to_owned())
}

fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none());
    let url = url.ok_or("expected the vendor's http or https URL, without a query")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "a URL is shown and kept; expected it without a name or password, and the key in API_KEY".to_owned(),
        );
    }
    Ok(url)
}

/// A cloud, a vendor and the collectors between them, all running.
pub(super) struct Session {
    pub(super) cloud: Cloud,
    pub(super) places: Provisioned,
    /// `None` with a real vendor.
    pub(super) vendor: Option<VendorServer>,
    pub(super) vendor_url: Url,
    pub(super) quota: NonZeroU32,
    pub(super) pipeline: Pipeline,
    pub(super) feed: Feed,
    pub(super) clock: Clock,
    pub(super) state: State,
    pub(super) stop: CancellationToken,
    pub(super) log: PathBuf,
}

/// Where `up` listens; a run takes what is free.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listen {
    pub(super) address: IpAddr,
    pub(super) cloud: u16,
    pub(super) vendor: u16,
}

/// This machine, and nobody else.
pub(super) const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

impl Default for Listen {
    fn default() -> Self {
        Self {
            address: LOOPBACK,
            cloud: 0,
            vendor: 0,
        }
    }
}

impl Session {
    /// Starts everything. With `frozen`, the simulated world stays at the hour that it has reached.
    pub(super) async fn start(args: &SessionArgs, frozen: bool, listen: Listen) -> Result<Self, CommandError> {
        install_tls();
        let mut state = match &args.vendor {
            Some(url) => State::of_url(&args.data, url.as_str())?,
            None => State::of_simulation(&args.data, args.world.wish())?,
        };
        let faults = args.world.faults()?;
        let quota = args.quota.unwrap_or(DEFAULT_QUOTA);
        let clock = match &state.source {
            Source::Simulated(simulation) => simulation.clock(frozen),
            Source::Url(_) => Clock::system(),
        };
        let cloud = Cloud::start(CloudOptions {
            data: Some(args.data.clone()),
            address: listen.address,
            port: listen.cloud,
            clock: clock.clone(),
        })
        .await?;
        let log = write_log(&args.data)?;
        let places = cloud.provision(ENVIRONMENT).await?;
        let vendor = match &state.source {
            Source::Url(_) => None,
            Source::Simulated(simulation) => {
                let listen = SocketAddr::from((listen.address, listen.vendor));
                let options = vendor_options(simulation, clock.clone(), quota, faults, listen);
                Some(VendorServer::start(options).await?)
            }
        };
        let vendor_url = vendor_url(args, vendor.as_ref())?;
        let stop = CancellationToken::new();
        let jitter = Jitter::random();
        let aws = cloud.sdk_config();
        let state_table: Arc<dyn StateTable> = Arc::new(DynamoState::new(&aws, places.state_table.clone()));
        let api_key = api_key(args)?;
        let client = VendorClient::new(
            &VendorSettings {
                base_url: vendor_url.clone(),
                api_key: api_key.clone(),
                time_out: if vendor.is_some() { SIMULATED_TIME_OUT } else { TIME_OUT },
                max_answer_bytes: MAX_ANSWER_BYTES,
            },
            // Whoever is at the other end counts by the machine's clock, however far the simulated one is moved on.
            Quota::shared(
                state_table.clone(),
                QuotaSettings::per_minute(quota),
                Clock::system(),
                jitter.clone(),
            ),
            clock.clone(),
            jitter.clone(),
        )?;
        let options = PipelineOptions {
            vendor: Arc::new(client),
            checkpoints: Checkpoints::new(Some(state_table.clone()), clock.clone(), jitter.clone()),
            accounts: Accounts::new(
                Some(state_table.clone()),
                Some(Arc::new(SnsTopic::new(&aws, places.report_topic_arn.clone()))),
                clock.clone(),
                jitter.clone(),
                ENVIRONMENT.to_owned(),
                Some(quota.get()),
            ),
            rosters: Rosters::new(
                Some(state_table.clone()),
                args.deletions.with_max_percent(args.deletions_max_percent),
            ),
            rejections: Rejections::new(Some(state_table.clone()), clock.clone(), Excerpts::new(api_key)),
            lookback: Lookback::hours(args.lookback),
            clock: clock.clone(),
            jitter,
            stop: stop.clone(),
        };
        let pipeline = Pipeline::new(&aws, places.clone(), options);
        let feed = Feed::open(&aws, ENVIRONMENT, &args.data, Some(state_table))?;
        state.endpoint = Some(cloud.endpoint());
        state.quota = Some(quota);
        state.reach(clock.now())?;
        Ok(Self {
            cloud,
            places,
            vendor,
            vendor_url,
            quota,
            pipeline,
            feed,
            clock,
            state,
            stop,
            log,
        })
    }

    /// Lets the cloud forget what its streams have kept long enough and the lake has.
    ///
    /// # Errors
    /// If the file of the tables cannot be written.
    pub(super) async fn forget_streams(&self) -> Result<(), CommandError> {
        for (table, number) in self.feed.carried_up_to().await {
            self.cloud.forget_stream_records(&table, &number).await?;
        }
        Ok(())
    }

    /// Ends everything in order.
    pub(super) async fn shutdown(mut self) -> Result<(), CommandError> {
        self.state.endpoint = None;
        self.state.reach(self.clock.now())?;
        if let Some(vendor) = self.vendor {
            vendor.shutdown().await;
        }
        Ok(self.cloud.shutdown().await?)
    }
}

/// How a simulated vendor is started.
pub(super) fn vendor_options(
    simulation: &Simulation,
    clock: Clock,
    quota: NonZeroU32,
    faults: Faults,
    listen: SocketAddr,
) -> VendorOptions {
    let base = VendorOptions::new(simulation.seed, clock);
    VendorOptions {
        world: WorldOptions {
            salespersons_per_branch: simulation.salespersons,
            sales_per_salesperson: simulation.sales,
            ..WorldOptions::new(simulation.seed, simulation.start)
        },
        requests_per_minute: Some(usize::try_from(quota.get()).unwrap_or(usize::MAX)),
        faults,
        address: listen.ip(),
        port: listen.port(),
        ..base
    }
}

fn vendor_url(args: &SessionArgs, vendor: Option<&VendorServer>) -> Result<Url, CommandError> {
    match (&args.vendor, vendor) {
        (Some(url), _) => Ok(url.clone()),
        (None, vendor) => Url::parse(vendor.map_or("", VendorServer::url)).map_err(|error| CommandError::Service {
            action: "find the simulated vendor".to_owned(),
            reason: error.to_string(),
        }),
    }
}

/// A real vendor's key; the simulated one asks for none.
fn api_key(args: &SessionArgs) -> Result<Option<ApiKey>, CommandError> {
    let key = std::env::var("API_KEY")
        .ok()
        .filter(|key| args.vendor.is_some() && !key.is_empty());
    key.map(|key| ApiKey::new(key).ok_or(CommandError::ApiKey)).transpose()
}

/// Sends log lines to a file under the data directory: the terminal shows what they add up to.
fn write_log(data: &Path) -> Result<PathBuf, CommandError> {
    let path = data.join(LOG);
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .map_err(|source| CommandError::Io {
            action: format!("write the log to {}", path.display()),
            source,
        })?;
    let level = std::env::var("LOGGING_LEVEL")
        .ok()
        .and_then(|level| parse_level(&level));
    let process = Process {
        function: "cascade".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    telemetry::init_with_writer(&process, level.unwrap_or(LevelFilter::INFO), Mutex::new(file));
    Ok(path)
}
