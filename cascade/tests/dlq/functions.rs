//! Events of invocations that failed, sent again to a Lambda that is a stub.

use std::sync::{Arc, Mutex};

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use cascade::cloud::sdk_config_for;
use cascade::dead_letters::{Action, DeadLetterQueue, Filter, FunctionCourier, Outcome};
use tokio::net::TcpListener;

use crate::{House, send};

/// A Lambda that answers one status, and keeps what it was asked for.
#[derive(Clone)]
pub(crate) struct StubLambda {
    status: StatusCode,
    calls: Arc<Mutex<Vec<Call>>>,
    pub(crate) endpoint: String,
}

/// Function, kind of invocation, event.
pub(crate) type Call = (String, String, String);

impl StubLambda {
    pub(crate) async fn start(status: StatusCode) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let stub = Self {
            status,
            calls: Arc::default(),
            endpoint: format!("http://{}", listener.local_addr().expect("an address")),
        };
        let path = "/2015-03-31/functions/{name}/invocations";
        let router = Router::new().route(path, post(invoke)).with_state(stub.clone());
        tokio::spawn(async { axum::serve(listener, router).await });
        stub
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        let mut calls = self.calls.lock().expect("no panic").clone();
        calls.sort();
        calls
    }

    /// For a client that tries once, so that a test of refusals does not wait.
    fn config(&self) -> SdkConfig {
        let config = sdk_config_for(&self.endpoint).into_builder();
        config.retry_config(RetryConfig::disabled()).build()
    }
}

async fn invoke(
    State(stub): State<StubLambda>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, &'static str) {
    let kind = headers.get("x-amz-invocation-type").and_then(|kind| kind.to_str().ok());
    stub.calls
        .lock()
        .expect("no panic")
        .push((name, kind.unwrap_or_default().to_owned(), body));
    (stub.status, "{}")
}

const QUEUE: DeadLetterQueue = DeadLetterQueue::BranchFunction;
const EVENT: &str = r#"{"branches": ["Scranton"], "run_id": "2026-11-21T01:00:00Z"}"#;

async fn redrive(house: &House, lambda: &StubLambda) -> Outcome {
    let courier = FunctionCourier::new(&lambda.config(), "branch-collector-test".to_owned());
    let found = house.found(QUEUE).await;
    let action = Action::Redrive(&courier);
    let letters = house.dead_letters();
    letters
        .act(&found, &Filter::default(), usize::MAX, None, &action, &|_| {})
        .await
}

#[tokio::test]
async fn an_event_is_sent_to_its_function_again_and_deleted_once_that_is_accepted() {
    // given an event as Lambda's dead-letter queue has it, and one in a destination's envelope
    let house = House::start().await;
    let url = &house.places.branch_function_dead_letter_queue_url;
    let attributes = [
        ("RequestID", "r"),
        ("ErrorCode", "200"),
        ("ErrorMessage", "Scranton failed"),
    ];
    send(&house.sqs, url, EVENT, &attributes).await;
    let envelope = r#"{"version": "1.0", "requestContext": {"condition": "RetriesExhausted"}, "requestPayload": {"a":1.10},
        "responsePayload": {"errorMessage": "no"}}"#;
    send(&house.sqs, url, envelope, &[]).await;
    let lambda = StubLambda::start(StatusCode::ACCEPTED).await;
    // when
    let outcome = redrive(&house, &lambda).await;
    // then
    assert_eq!((outcome.done, outcome.failed), (2, 0), "{outcome:?}");
    let call = |event: &str| ("branch-collector-test".to_owned(), "Event".to_owned(), event.to_owned());
    assert_eq!(lambda.calls(), [call(r#"{"a":1.10}"#), call(EVENT)]);
    assert_eq!(house.waiting(url).await, (0, 0));
}

#[tokio::test]
async fn an_event_that_lambda_does_not_accept_stays() {
    let house = House::start().await;
    let url = &house.places.branch_function_dead_letter_queue_url;
    send(&house.sqs, url, EVENT, &[]).await;
    for status in [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::NOT_FOUND,
        // An answer to an invocation of another kind.
        StatusCode::OK,
    ] {
        let lambda = StubLambda::start(status).await;
        let outcome = redrive(&house, &lambda).await;
        assert_eq!((outcome.done, outcome.failed), (0, 1), "{status}: {outcome:?}");
        assert!(
            outcome.problems[0].contains("branch-collector-test was not called"),
            "{status}: {outcome:?}"
        );
        assert_eq!(lambda.calls().len(), 1, "{status}");
        assert_eq!(house.waiting(url).await, (1, 0), "{status}");
    }
}
