//! The functions, each in a process of its own.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;
use shared::run::RunId;
use time::UtcDateTime;
use tokio::time::{Instant, sleep};

use super::ground::Ground;
use super::process::{self, Readings};
use super::runtime_api::{RuntimeApi, Said, Times};
use super::{BenchError, ENVIRONMENT};
use crate::pipeline::Stage;

/// How long a function may take to ask for its first event, and to end its last.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked at meanwhile.
const GLANCE: Duration = Duration::from_millis(10);

/// The folder with the functions' binaries.
#[derive(Clone, Debug)]
pub struct Binaries(PathBuf);

impl Binaries {
    /// The binaries that lie beside this command's.
    ///
    /// # Errors
    /// [`BenchError::Missing`] says what to type.
    pub fn beside_this_command() -> Result<Self, BenchError> {
        let command = std::env::current_exe().map_err(BenchError::io("find this command's own file"))?;
        let folder = command.parent().map(PathBuf::from).unwrap_or_default();
        let binaries = Self(folder);
        for stage in Stage::ALL {
            let path = binaries.path(stage);
            if !path.is_file() {
                let build = if cfg!(debug_assertions) {
                    "cargo build --workspace"
                } else {
                    "cargo build --release --workspace"
                };
                return Err(BenchError::Missing { path, build });
            }
        }
        Ok(binaries)
    }

    fn path(&self, stage: Stage) -> PathBuf {
        self.0.join(format!("{}{}", stage.name(), std::env::consts::EXE_SUFFIX))
    }
}

/// What functions are told beside where everything is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// The vendor's whole quota.
    pub(super) requests_per_minute: usize,
    /// How many processes there are.
    pub(super) instances: usize,
    /// Whether they share a state table.
    pub(super) has_state: bool,
    pub(super) lookback_hours: u32,
    pub(super) poll_window: Duration,
}

/// A function in its process, which ends with this.
pub(super) struct Function {
    pub(super) stage: Stage,
    api: RuntimeApi,
    child: Child,
    log: PathBuf,
}

impl Function {
    /// Starts it; `name` is its log's.
    pub(super) async fn start(
        binaries: &Binaries,
        ground: &Ground,
        told: &Told,
        stage: Stage,
        name: &str,
    ) -> Result<Self, BenchError> {
        let times = match stage {
            Stage::Branches => Times::Once,
            Stage::Salespersons | Stage::Sales => Times::Always,
        };
        let api = RuntimeApi::start(scheduled(UtcDateTime::now()), times).await?;
        let log = ground.folder.logs().join(format!("{name}.jsonl"));
        let file = || {
            let file = File::options().create(true).append(true).open(&log);
            file.map_err(BenchError::io(format!("write to {}", log.display())))
        };
        let path = binaries.path(stage);
        let child = Command::new(&path)
            .env_clear()
            .envs(variables(ground, told, stage, &api.address()))
            .stdin(Stdio::null())
            .stdout(file()?)
            .stderr(file()?)
            .spawn()
            .map_err(BenchError::io(format!("start {}", path.display())))?;
        Ok(Self { stage, api, child, log })
    }

    /// Waits until it asks for an event.
    pub(super) async fn ready(&mut self) -> Result<(), BenchError> {
        self.until(|said| said.is_ready).await
    }

    /// Gives it its event, as often as it is given one.
    pub(super) fn open(&self) {
        self.api.open();
    }

    /// Gives it no more, and waits until it has done with the last one.
    pub(super) async fn close(&mut self) -> Result<(), BenchError> {
        self.api.close();
        self.until(|said| said.begun == said.ended).await
    }

    /// What it has said of its invocations.
    pub(super) fn said(&self) -> Said {
        self.api.said()
    }

    /// What its process has used up.
    pub(super) fn readings(&self) -> Option<Readings> {
        process::readings(self.child.id())
    }

    /// Notes if it ended by itself.
    pub(super) fn check(&mut self) -> Result<(), BenchError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(BenchError::Ended {
                stage: self.stage,
                log: self.log.clone(),
            }),
        }
    }

    async fn until(&mut self, is_so: impl Fn(&Said) -> bool) -> Result<(), BenchError> {
        let begun = Instant::now();
        while !is_so(&self.said()) {
            self.check()?;
            if begun.elapsed() > PATIENCE {
                return Err(BenchError::TimeOut {
                    after: PATIENCE,
                    left: format!("a process of {} does not answer", self.stage.name()),
                    logs: self.log.clone(),
                });
            }
            sleep(GLANCE).await;
        }
        Ok(())
    }
}

impl Drop for Function {
    /// SIGKILL: nothing is told to it before.
    fn drop(&mut self) {
        // It may have ended already, and then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn variables(ground: &Ground, told: &Told, stage: Stage, runtime_api: &str) -> Vec<(&'static str, String)> {
    let places = &ground.places;
    let (function, table, queues) = match stage {
        Stage::Branches => (
            "branch-collector",
            &places.branch_table,
            vec![("SQS", &places.employee_queue_url)],
        ),
        Stage::Salespersons => (
            "salesperson-collector",
            &places.salesperson_table,
            vec![
                ("SOURCE_SQS", &places.employee_queue_url),
                ("TARGET_SQS", &places.sale_queue_url),
            ],
        ),
        Stage::Sales => (
            "sale-collector",
            &places.sale_table,
            vec![("SQS", &places.sale_queue_url)],
        ),
    };
    let mut variables = vec![
        ("AWS_LAMBDA_RUNTIME_API", runtime_api.to_owned()),
        ("AWS_LAMBDA_FUNCTION_NAME", format!("{function}-{ENVIRONMENT}")),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128".to_owned()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
        ("AWS_ENDPOINT_URL", ground.cloud.endpoint()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "cascade".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "cascade".to_owned()),
        ("LOGGING_LEVEL", "WARNING".to_owned()),
        ("APP_ENV", ENVIRONMENT.to_owned()),
        ("DB", table.clone()),
        ("API_BASE_URL", ground.vendor.url().to_owned()),
        ("API_REQUESTS_PER_MINUTE", told.requests_per_minute.to_string()),
        ("COLLECTOR_INSTANCES", told.instances.to_string()),
        ("SALES_LOOKBACK_HOURS", told.lookback_hours.to_string()),
        ("POLL_WINDOW_SECONDS", told.poll_window.as_secs().to_string()),
    ];
    variables.extend(queues.into_iter().map(|(name, url)| (name, url.clone())));
    if told.has_state {
        variables.push(("STATE_DB", places.state_table.clone()));
    }
    variables
}

/// The schedule's event.
fn scheduled(now: UtcDateTime) -> String {
    json!({
        "version": "0",
        "id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": "000000000000",
        "time": RunId::scheduled_for(now).to_string(),
        "region": "us-east-1",
        "resources": [],
        "detail": {},
    })
    .to_string()
}
