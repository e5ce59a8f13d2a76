//! A cloud in memory, a vendor, and what is needed to run the collectors between them and to look at the outcome.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_sqs::types::MessageSystemAttributeName;
use cascade::cloud::{Asked, Cloud, CloudOptions, Provisioned};
use cascade::pipeline::{Pipeline, PipelineOptions, RunOutcome, View};
use cascade::vendor::{Faults, VendorOptions, VendorServer};
use sales::SaleCollector;
use sales::lookback::Lookback;
use shared::account::Accounts;
use shared::checkpoint::{Checkpoints, Thoroughness};
use shared::clock::Clock;
use shared::deletions::{DeletionRules, Rosters};
use shared::entity::Entity;
use shared::jitter::Jitter;
use shared::lambda::install_tls;
use shared::queue::sqs::SqsQueue;
use shared::quota::{Quota, QuotaSettings};
use shared::rejections::Rejections;
use shared::run::RunId;
use shared::state::StateTable;
use shared::state::dynamodb::DynamoState;
use shared::table::dynamodb::DynamoTable;
use shared::telemetry::{self, Process};
use shared::topic::sns::SnsTopic;
use shared::vendor::client::{ApiKey, VendorClient, VendorSettings};
use shared::vendor::excerpt::Excerpts;
use time::UtcDateTime;
use time::macros::utc_datetime;
use tokio_util::sync::CancellationToken;
use tracing::level_filters::LevelFilter;

use crate::model::Tables;

/// When every world begins.
pub(crate) const START: UtcDateTime = utc_datetime!(2026-11-21 01:00);

/// The branches, as many as the contract names.
pub(crate) const BRANCHES: u64 = 13;

/// How a house is to be.
#[derive(Clone)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    /// Salespersons a branch.
    pub(crate) salespersons: usize,
    /// Sales a salesperson.
    pub(crate) sales: usize,
    pub(crate) heavy_salesperson: Option<usize>,
    pub(crate) faults: Faults,
    pub(crate) page_size: Option<usize>,
    /// Requests a minute, which the vendor enforces and the collectors keep.
    pub(crate) quota: u32,
    /// What the vendor asks for.
    pub(crate) api_key: Option<&'static str>,
    pub(crate) time_out: Duration,
    /// Where the cloud keeps its files; in memory, if `None`.
    pub(crate) data: Option<PathBuf>,
}

impl Setup {
    /// A small world (26 salespersons, 130 sales) with a quota that nobody has to wait for.
    pub(crate) fn small(seed: u64) -> Self {
        Self {
            seed,
            salespersons: 2,
            sales: 5,
            heavy_salesperson: None,
            faults: Faults::default(),
            page_size: None,
            quota: 60_000,
            api_key: None,
            time_out: Duration::from_secs(10),
            data: None,
        }
    }

    /// The usual world: 104 salespersons, 5,200 sales.
    pub(crate) fn usual(seed: u64) -> Self {
        Self {
            salespersons: 8,
            sales: 50,
            ..Self::small(seed)
        }
    }
}

/// A cloud and a vendor.
pub(crate) struct House {
    pub(crate) cloud: Cloud,
    pub(crate) places: Provisioned,
    pub(crate) vendor: VendorServer,
    pub(crate) clock: Clock,
    pub(crate) setup: Setup,
}

/// A message of a dead-letter queue.
#[derive(Clone, Debug)]
pub(crate) struct Letter {
    pub(crate) body: String,
    pub(crate) reason: Option<String>,
    pub(crate) run_id: Option<String>,
}

impl House {
    pub(crate) async fn start(setup: Setup) -> Self {
        install_tls();
        keep_log();
        let clock = Clock::starting_at(START);
        let cloud = Cloud::start(CloudOptions {
            data: setup.data.clone(),
            address: Ipv4Addr::LOCALHOST.into(),
            port: 0,
            clock: clock.clone(),
        })
        .await
        .expect("the cloud starts");
        let places = cloud.provision("test").await.expect("tables and queues");
        let mut options = VendorOptions::new(setup.seed, clock.clone());
        options.world.start = START;
        options.world.salespersons_per_branch = setup.salespersons;
        options.world.sales_per_salesperson = setup.sales;
        options.world.heavy_salesperson = setup.heavy_salesperson;
        options.requests_per_minute = Some(setup.quota as usize);
        options.page_size = setup.page_size;
        options.api_key = setup.api_key.map(str::to_owned);
        options.faults = setup.faults.clone();
        let vendor = VendorServer::start(options).await.expect("the vendor starts");
        Self {
            cloud,
            places,
            vendor,
            clock,
            setup,
        }
    }

    /// A new client with a quota of its own, as each process has one.
    pub(crate) fn client(&self, api_key: Option<&str>) -> Arc<VendorClient> {
        let settings = VendorSettings {
            base_url: self.vendor.url().parse().expect("a URL"),
            api_key: api_key.and_then(|key| ApiKey::new(key.to_owned())),
            time_out: self.setup.time_out,
            max_answer_bytes: 256 * 1024 * 1024,
        };
        let quota = QuotaSettings::per_minute(NonZeroU32::new(self.setup.quota).expect("a quota"));
        let client = VendorClient::new(&settings, Quota::own(quota), self.clock.clone(), self.jitter());
        Arc::new(client.expect("a client"))
    }

    pub(crate) fn jitter(&self) -> Jitter {
        Jitter::seeded(self.setup.seed)
    }

    pub(crate) fn pipeline(&self, lookback: Lookback) -> Pipeline {
        self.pipeline_with_key(lookback, self.setup.api_key)
    }

    pub(crate) fn pipeline_with_key(&self, lookback: Lookback, api_key: Option<&str>) -> Pipeline {
        let checkpoints = Checkpoints::new(None, self.clock.clone(), self.jitter());
        let rosters = Rosters::new(None, DeletionRules::default());
        self.pipeline_of(lookback, api_key, None, checkpoints, rosters, Accounts::none())
    }

    /// A pipeline that remembers what is done, keeps account of its runs, and looks for deletions.
    pub(crate) fn pipeline_with_state(&self, rules: DeletionRules) -> Pipeline {
        let aws = self.cloud.sdk_config();
        let state: Arc<dyn StateTable> = Arc::new(DynamoState::new(&aws, self.places.state_table.clone()));
        let topic = Arc::new(SnsTopic::new(&aws, self.places.report_topic_arn.clone()));
        let (clock, jitter) = (self.clock.clone(), Jitter::random());
        let checkpoints = Checkpoints::new(Some(state.clone()), clock.clone(), jitter.clone());
        let rosters = Rosters::new(Some(state.clone()), rules);
        let quota = self.setup.quota;
        let accounts = Accounts::new(
            Some(state.clone()),
            Some(topic),
            clock,
            jitter,
            "test".to_owned(),
            Some(quota),
        );
        let (lookback, api_key) = (Lookback::hours(24), self.setup.api_key);
        self.pipeline_of(lookback, api_key, Some(state), checkpoints, rosters, accounts)
    }

    /// The accounts as another process than the collectors' keeps them.
    pub(crate) fn accounts(&self) -> Accounts {
        let aws = self.cloud.sdk_config();
        let state = Arc::new(DynamoState::new(&aws, self.places.state_table.clone()));
        let (clock, quota) = (self.clock.clone(), self.setup.quota);
        Accounts::new(
            Some(state),
            None,
            clock,
            Jitter::random(),
            "test".to_owned(),
            Some(quota),
        )
    }

    fn pipeline_of(
        &self,
        lookback: Lookback,
        api_key: Option<&str>,
        state: Option<Arc<dyn StateTable>>,
        checkpoints: Checkpoints,
        rosters: Rosters,
        accounts: Accounts,
    ) -> Pipeline {
        let options = PipelineOptions {
            vendor: self.client(api_key),
            checkpoints,
            rosters,
            rejections: Rejections::new(state, self.clock.clone(), Excerpts::default()),
            accounts,
            lookback,
            clock: self.clock.clone(),
            jitter: self.jitter(),
            stop: CancellationToken::new(),
        };
        Pipeline::new(&self.cloud.sdk_config(), self.places.clone(), options)
    }

    /// The sale collector alone, with a poll window of its own: one under a second makes a poll of an empty queue end
    /// at once.
    pub(crate) fn sale_collector(&self, vendor: Arc<VendorClient>, poll_window: Duration) -> SaleCollector {
        let config = self.cloud.sdk_config();
        let table = DynamoTable::new(
            aws_sdk_dynamodb::Client::new(&config),
            self.places.sale_table.clone(),
            Entity::Sale,
            self.jitter(),
        );
        let queue = SqsQueue::new(self.sqs(), self.places.sale_queue_url.clone(), self.jitter());
        SaleCollector {
            checkpoints: Checkpoints::new(None, self.clock.clone(), self.jitter()),
            accounts: Accounts::none(),
            rosters: Rosters::new(None, DeletionRules::default()),
            rejections: Rejections::new(None, self.clock.clone(), Excerpts::default()),
            vendor,
            table: Arc::new(table),
            sale_queue: Arc::new(queue),
            lookback: Lookback::ALL,
            poll_window,
            jitter: self.jitter(),
        }
    }

    /// An hourly run by a pipeline.
    pub(crate) async fn run_by(&self, pipeline: &Pipeline) -> RunOutcome {
        let run_id = RunId::scheduled_for(self.clock.now());
        let moved = || self.cloud.time_moved();
        let outcome = pipeline.run(run_id, Thoroughness::Usual, &View::default(), moved).await;
        outcome.expect("the queues can be looked at")
    }

    /// An hourly run with the usual lookback of 24 hours.
    pub(crate) async fn run(&self) -> RunOutcome {
        self.run_by(&self.pipeline(Lookback::hours(24))).await
    }

    /// An hourly run that has to do all there is to do.
    #[track_caller]
    pub(crate) fn complete_run(&self) -> impl Future<Output = RunOutcome> {
        let caller = std::panic::Location::caller();
        async move {
            let outcome = self.run().await;
            assert!(outcome.is_complete(), "{caller}: {outcome:#?}");
            outcome
        }
    }

    /// Moves the clock of cloud and vendor.
    pub(crate) fn advance(&self, step: Duration) {
        self.clock.advance(step);
        self.cloud.time_moved();
    }

    /// How often a row was written so far, by any operation there is: all of them are below the KB that a unit is for.
    pub(crate) fn writes(&self) -> u64 {
        let rows = |asked: &Asked| asked.service == "DynamoDB" && asked.resource != self.places.state_table;
        self.cloud.usage().of(rows).write_units as u64
    }

    pub(crate) async fn tables(&self) -> Tables {
        tables(&self.cloud, &self.places).await
    }

    /// What the tables have to say after a first load.
    pub(crate) fn expected(&self) -> Tables {
        Tables::after_first_load(&self.vendor.world())
    }

    /// The ids of all salespersons, in an order that depends only on the seed.
    pub(crate) fn salesperson_ids(&self) -> Vec<String> {
        let people = self.vendor.world().expected_salespersons();
        people.into_iter().map(|person| person.id).collect()
    }

    pub(crate) fn sqs(&self) -> aws_sdk_sqs::Client {
        aws_sdk_sqs::Client::new(&self.cloud.sdk_config())
    }

    pub(crate) async fn send(&self, queue_url: &str, body: &str) {
        let send = self.sqs().send_message().queue_url(queue_url).message_body(body);
        send.send().await.expect("sent");
    }

    /// Takes all visible messages out of a queue.
    pub(crate) async fn take(&self, queue_url: &str) -> Vec<Letter> {
        let sqs = self.sqs();
        let mut letters = Vec::new();
        loop {
            let receive = sqs
                .receive_message()
                .queue_url(queue_url)
                .max_number_of_messages(10)
                .message_system_attribute_names(MessageSystemAttributeName::All)
                .message_attribute_names("All");
            let messages = receive.send().await.expect("received").messages.unwrap_or_default();
            if messages.is_empty() {
                return letters;
            }
            for message in messages {
                let attribute = |name: &str| {
                    let attributes = message.message_attributes.as_ref()?;
                    attributes.get(name)?.string_value.clone()
                };
                letters.push(Letter {
                    reason: attribute("reason"),
                    run_id: attribute("run_id"),
                    body: message.body.clone().expect("a body"),
                });
                let delete = sqs.delete_message().queue_url(queue_url);
                let receipt = message.receipt_handle.expect("a receipt");
                delete.receipt_handle(receipt).send().await.expect("deleted");
            }
        }
    }
}

/// All rows of an environment.
pub(crate) async fn tables(cloud: &Cloud, places: &Provisioned) -> Tables {
    let dynamodb = aws_sdk_dynamodb::Client::new(&cloud.sdk_config());
    let mut tables = Tables::default();
    tables.add_branches(scan(&dynamodb, &places.branch_table).await);
    tables.add_salespersons(scan(&dynamodb, &places.salesperson_table).await);
    tables.add_sales(scan(&dynamodb, &places.sale_table).await);
    tables
}

pub(crate) async fn scan(dynamodb: &aws_sdk_dynamodb::Client, table: &str) -> Vec<HashMap<String, AttributeValue>> {
    let mut pages = dynamodb.scan().table_name(table).into_paginator().items().send();
    let mut items = Vec::new();
    while let Some(item) = pages.next().await {
        items.push(item.expect("a row"));
    }
    items
}

/// The log lines of all tests in this process, for the seed keeps their ids apart.
static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn keep_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let process = Process {
            function: "test".to_owned(),
            version: "test".to_owned(),
        };
        telemetry::init_with_writer(&process, LevelFilter::WARN, || LogWriter);
    });
}

/// The log lines, warnings and worse, that say `message` and hold `part`.
pub(crate) fn logged(message: &str, part: &str) -> Vec<serde_json::Value> {
    let log = LOG.lock().unwrap_or_else(PoisonError::into_inner);
    let lines = std::str::from_utf8(&log).expect("text").lines();
    lines
        .filter(|line| line.contains(part))
        .map(|line| serde_json::from_str(line).expect("a log line is JSON"))
        .filter(|line: &serde_json::Value| line["message"] == message)
        .collect()
}
