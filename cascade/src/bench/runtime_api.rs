//! Lambda's runtime API for one process, as far as a function needs it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{Response, StatusCode};
use axum::routing::{get, post};
use serde_json::Value;
use shared::tally::Counts;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::BenchError;

/// How long an invocation may take, as the functions' time-out has it.
const TIME_OUT: Duration = Duration::from_secs(900);

/// How often a function is given its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Times {
    /// Once.
    Once,
    /// Whenever it has done with the last one.
    Always,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Closed,
    Open,
}

/// What a function has said of its invocations.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    /// Whether it has asked for an event.
    pub(super) is_ready: bool,
    pub(super) begun: u64,
    pub(super) ended: u64,
    /// The sum over its answers.
    pub(super) counts: Counts,
    pub(super) errors: Vec<String>,
}

/// The runtime API, on a port of its own.
pub(super) struct RuntimeApi {
    address: SocketAddr,
    lambda: Arc<Lambda>,
    server: JoinHandle<()>,
}

struct Lambda {
    event: String,
    times: Times,
    gate: watch::Sender<Gate>,
    said: Mutex<Said>,
}

impl RuntimeApi {
    /// Listens. The event is given out after [`Self::open`].
    pub(super) async fn start(event: String, times: Times) -> Result<Self, BenchError> {
        let failed = |source| BenchError::io("listen for a function")(source);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let lambda = Arc::new(Lambda {
            event,
            times,
            gate: watch::Sender::new(Gate::Closed),
            said: Mutex::default(),
        });
        let router = Router::new()
            .route("/2018-06-01/runtime/invocation/next", get(next))
            .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
            .route("/2018-06-01/runtime/invocation/{id}/error", post(failure))
            .route("/2020-01-01/extension/register", post(register))
            .route("/2020-01-01/extension/event/next", get(std::future::pending::<()>))
            .with_state(lambda.clone());
        let server = tokio::spawn(async move {
            // The listener's own errors are retried inside; there is no other.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self {
            address,
            lambda,
            server,
        })
    }

    /// As `AWS_LAMBDA_RUNTIME_API` wants it.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Lets the function have its event.
    pub(super) fn open(&self) {
        self.lambda.gate.send_replace(Gate::Open);
    }

    /// Gives it no other.
    pub(super) fn close(&self) {
        self.lambda.gate.send_replace(Gate::Closed);
    }

    pub(super) fn said(&self) -> Said {
        self.lambda.said().clone()
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Lambda {
    fn said(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn next(State(lambda): State<Arc<Lambda>>) -> Response<Body> {
    let mut gate = lambda.gate.subscribe();
    lambda.said().is_ready = true;
    if lambda.times == Times::Once && lambda.said().begun > 0
        || gate.wait_for(|gate| *gate == Gate::Open).await.is_err()
    {
        return std::future::pending().await;
    }
    let number = {
        let mut said = lambda.said();
        said.begun += 1;
        said.begun
    };
    let deadline = SystemTime::now() + TIME_OUT;
    let deadline = deadline.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    Response::builder()
        .header("Lambda-Runtime-Aws-Request-Id", format!("bench-{number}"))
        .header("Lambda-Runtime-Deadline-Ms", deadline.to_string())
        .header(
            "Lambda-Runtime-Invoked-Function-Arn",
            "arn:aws:lambda:us-east-1:000000000000:function:bench",
        )
        .body(lambda.event.clone().into())
        .unwrap_or_default()
}

async fn response(State(lambda): State<Arc<Lambda>>, Path(_): Path<String>, body: Bytes) -> StatusCode {
    let counts = serde_json::from_slice::<Counts>(&body).unwrap_or_default();
    let mut said = lambda.said();
    said.counts += counts;
    said.ended += 1;
    StatusCode::ACCEPTED
}

async fn failure(State(lambda): State<Arc<Lambda>>, Path(_): Path<String>, body: Bytes) -> StatusCode {
    let error = serde_json::from_slice::<Value>(&body).unwrap_or_default();
    let reason = error["errorMessage"].as_str().unwrap_or("no reason given").to_owned();
    let mut said = lambda.said();
    said.errors.push(reason);
    said.ended += 1;
    StatusCode::ACCEPTED
}

async fn register() -> Response<Body> {
    Response::builder()
        .header("Lambda-Extension-Identifier", "bench")
        .body(Body::empty())
        .unwrap_or_default()
}
