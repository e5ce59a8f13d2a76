//! The function's process.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::stub::Stub;

/// What must be in no log line.
pub(crate) const API_KEY: &str = "v3nd0r-s3cr3t";
pub(crate) const AWS_SECRET: &str = "aws-s3cr3t-4cc355-k3y";

/// How long a test waits for the process to end.
const PATIENT: Duration = Duration::from_secs(60);

/// A running function. It is killed if the test ends first.
pub(crate) struct Function {
    child: Child,
    output: JoinHandle<String>,
    errors: JoinHandle<String>,
}

/// What a function left behind.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// Its standard output, each line an object.
    pub(crate) lines: Vec<Value>,
}

impl Function {
    /// Starts the function in surroundings of a test's own.
    pub(crate) fn start(stub: &Stub) -> Self {
        Self::start_with(stub, &[])
    }

    /// Starts it with variables that differ from the usual ones; `None` leaves one out.
    pub(crate) fn start_with(stub: &Stub, variables: &[(&str, Option<&str>)]) -> Self {
        let address = stub.address();
        let (url, vendor) = (format!("http://{address}"), format!("http://{address}/vendor"));
        let queue = format!("{url}/123456789012/sale-queue-test");
        let mut command = Command::new(env!("CARGO_BIN_EXE_sales"));
        command.env_clear().envs([
            ("AWS_LAMBDA_RUNTIME_API", address.as_str()),
            ("AWS_LAMBDA_FUNCTION_NAME", "sale-collector-test"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128"),
            ("AWS_LAMBDA_FUNCTION_VERSION", "7"),
            ("AWS_ENDPOINT_URL", &url),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", AWS_SECRET),
            ("APP_ENV", "test"),
            ("DB", "sale-test"),
            ("SQS", &queue),
            ("API_BASE_URL", &vendor),
            ("API_KEY", API_KEY),
            ("API_REQUESTS_PER_MINUTE", "60000"),
        ]);
        for (name, value) in variables {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self {
            output: tokio::spawn(read(child.stdout.take().unwrap())),
            errors: tokio::spawn(read(child.stderr.take().unwrap())),
            child,
        }
    }

    /// The process's id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().unwrap()
    }

    /// Sends SIGTERM, as Lambda does before it ends an environment.
    pub(crate) async fn terminate(&self) {
        let kill = format!("kill -TERM {}", self.id());
        let killed = Command::new("sh").args(["-c", &kill]).status().await.unwrap();
        assert!(killed.success());
    }

    /// Waits for the process to end by itself.
    pub(crate) async fn ended(mut self) -> Ended {
        let status = timeout(PATIENT, self.child.wait()).await.unwrap().unwrap();
        let output = self.output.await.unwrap();
        assert_eq!(self.errors.await.unwrap(), "", "on standard error");
        let line = |line: &str| {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert!(value.is_object(), "{line}");
            value
        };
        for secret in [API_KEY, AWS_SECRET] {
            assert!(!output.contains(secret), "a secret in {output}");
        }
        Ended {
            status,
            lines: output.lines().map(line).collect(),
        }
    }

    /// Ends it, and answers what it left behind.
    pub(crate) async fn end(self) -> Ended {
        self.terminate().await;
        let ended = self.ended().await;
        assert_eq!(ended.status.code(), Some(0));
        ended
    }
}

impl Ended {
    /// The log lines with a message.
    pub(crate) fn saying(&self, message: &str) -> Vec<&Value> {
        self.lines.iter().filter(|line| line["message"] == message).collect()
    }

    /// The lines that CloudWatch makes metrics of.
    pub(crate) fn metrics(&self) -> Vec<&Value> {
        self.lines.iter().filter(|line| line.get("_aws").is_some()).collect()
    }
}

async fn read(mut pipe: impl AsyncReadExt + Unpin) -> String {
    let mut text = String::new();
    pipe.read_to_string(&mut text).await.unwrap();
    text
}
