//! The one port that all three services answer on: what a request is decides who gets it.

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use uuid::Uuid;

use super::dynamodb::DynamoDb;
use super::sns::Sns;
use super::sns::wire::{self, Form, SnsError};
use super::sqs::{Sqs, SqsError};
use super::usage::{Asked, Meter, Metered, Used};

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
/// Of the body, which some clients check where it is there.
const CHECKSUM: HeaderName = HeaderName::from_static("x-amz-crc32");
const QUERY_ERROR: HeaderName = HeaderName::from_static("x-amzn-query-error");

/// DynamoDB's limit, and far more than a batch of ten SQS messages takes once escaped.
const LARGEST_BODY: usize = 16 * 1024 * 1024;

/// The services behind the port.
pub(super) struct Services {
    pub(super) dynamodb: DynamoDb,
    pub(super) sqs: Sqs,
    pub(super) sns: Sns,
    pub(super) meter: Meter,
}

impl Services {
    pub(super) fn new(dynamodb: DynamoDb, sqs: Sqs, sns: Sns) -> Self {
        Self {
            dynamodb,
            sqs,
            sns,
            meter: Meter::default(),
        }
    }

    /// Counts the bytes of an answer.
    fn answers(&self, asked: &Asked, body: &str) {
        let used = Used {
            bytes_out: body.len() as u64,
            ..Used::default()
        };
        self.meter.add(asked, used);
    }
}

/// Routes every request, whatever its path: some clients post to the endpoint, others to a queue's URL.
pub(super) fn router(services: Arc<Services>) -> Router {
    Router::new().fallback(dispatch).with_state(services)
}

async fn dispatch(State(services): State<Arc<Services>>, request: Request) -> Response {
    let target = request.headers().get(&TARGET).and_then(|target| target.to_str().ok());
    let Some((service, operation)) = target.and_then(|target| target.split_once('.')) else {
        return query(&services, request).await;
    };
    let operation = operation.to_owned();
    match service {
        "DynamoDB_20120810" => tables(&services, &operation, request).await,
        "DynamoDBStreams_20120810" => {
            let asked = Asked::of("DynamoDBStreams", &operation, String::new());
            services.meter.begin(&asked, 0);
            services.dynamodb.forward(request).await
        }
        "AmazonSQS" => queues(&services, &operation, request).await,
        _ => unknown(),
    }
}

/// DynamoDB, which is asked for the units as well that a request used up.
async fn tables(services: &Services, operation: &str, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let metered = match to_bytes(body, LARGEST_BODY).await {
        Ok(body) => {
            let bytes_in = body.len();
            let metered = Metered::new(operation, body);
            services.meter.begin(&metered.asked, bytes_in);
            metered
        }
        Err(error) => return unreadable(&error),
    };
    head.headers.remove(header::CONTENT_LENGTH);
    let request = Request::from_parts(head, Body::from(metered.body.clone()));
    let (mut head, body) = services.dynamodb.forward(request).await.into_parts();
    let body = match to_bytes(body, usize::MAX).await {
        Ok(body) => body,
        Err(error) => {
            report("DynamoDB", operation, &error);
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let length = body.len();
    let (body, used) = metered.answer(head.status.is_success(), body);
    services.meter.add(&metered.asked, used);
    if body.len() != length {
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers.remove(CHECKSUM);
    }
    Response::from_parts(head, Body::from(body))
}

/// SQS, in JSON.
async fn queues(services: &Services, operation: &str, request: Request) -> Response {
    let body = match to_bytes(request.into_body(), LARGEST_BODY).await {
        Ok(body) => body,
        Err(error) => return unreadable(&error),
    };
    let asked = Asked::of_queue(operation, &body);
    services.meter.begin(&asked, body.len());
    let (status, answer, query_error) = match services.sqs.handle(operation, &body).await {
        Ok(Some(answer)) => (StatusCode::OK, answer.to_string(), None),
        Ok(None) => (StatusCode::OK, String::new(), None),
        Err(SqsError::Refused { shape, code, message }) => {
            let answer = serde_json::json!({"__type": shape, "message": message});
            (
                StatusCode::BAD_REQUEST,
                answer.to_string(),
                Some(format!("{code};Sender")),
            )
        }
        Err(error @ SqsError::Storage(_)) => {
            report("SQS", operation, &error);
            let answer =
                serde_json::json!({"__type": "com.amazonaws.sqs#InternalFailure", "message": error.to_string()});
            (
                StatusCode::INTERNAL_SERVER_ERROR,
                answer.to_string(),
                Some("InternalFailure;Receiver".into()),
            )
        }
    };
    services.answers(&asked, &answer);
    let mut response = answered(status, "application/x-amz-json-1.0", answer, &request_id());
    if let Some(Ok(value)) = query_error.map(HeaderValue::try_from) {
        response.headers_mut().insert(QUERY_ERROR, value);
    }
    response
}

/// SNS, in forms and XML.
async fn query(services: &Services, request: Request) -> Response {
    let form = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    if !form {
        return unknown();
    }
    let (form, length) = match to_bytes(request.into_body(), LARGEST_BODY).await {
        Ok(body) => (Form::parse(&body), body.len()),
        Err(error) => return unreadable(&error),
    };
    let id = request_id();
    let action = form.get("Action").unwrap_or_default().to_owned();
    let asked = Asked::of("SNS", &action, String::new());
    let done = match form.get("Version") {
        Some("2010-03-31") => {
            services.meter.begin(&asked, length);
            services.sns.handle(form, &id).await
        }
        version => Err(SnsError::InvalidAction(format!(
            "The action {action} of version {} is not provided: the query protocol is spoken by SNS (version 2010-03-31) \
             only, SQS and DynamoDB are spoken to in JSON, as all current SDKs do.",
            version.unwrap_or("(none)")
        ))),
    };
    match done {
        Ok(answer) => {
            services.answers(&asked, &answer);
            answered(StatusCode::OK, "text/xml", answer, &id)
        }
        Err(error) => {
            if matches!(error, SnsError::Storage(_)) {
                report("SNS", &action, &error);
            }
            let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            answered(status, "text/xml", wire::refusal(&error, &id), &id)
        }
    }
}

fn answered(status: StatusCode, content_type: &'static str, body: String, id: &str) -> Response {
    let mut response = (status, [(header::CONTENT_TYPE, content_type)], Body::from(body)).into_response();
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

fn request_id() -> String {
    Uuid::new_v4().to_string()
}

fn report(service: &str, operation: &str, error: &(dyn Error + 'static)) {
    tracing::error!(service, operation, error, "the embedded cloud failed");
}

fn unreadable(error: &axum::Error) -> Response {
    let text = format!("The request's body could not be read, or is over {LARGEST_BODY} bytes: {error}.\n");
    (StatusCode::PAYLOAD_TOO_LARGE, text).into_response()
}

fn unknown() -> Response {
    let text = "This is Cascade's embedded cloud: DynamoDB, DynamoDB Streams, SQS and SNS for AWS SDKs and the AWS CLI. \
                Set AWS_ENDPOINT_URL to this address (version 1 of the AWS CLI: give it as --endpoint-url).\n";
    (StatusCode::NOT_FOUND, text).into_response()
}
