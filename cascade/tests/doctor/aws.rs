//! AWS, as far as it takes no more than a stub: who asks, and what may not be asked.

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use tokio::net::TcpListener;

use crate::{Finished, User};

const SECRET: &str = "aws-s3cr3t-4cc355-k3y";

/// Whom the stub takes the caller for.
const IDENTITY: &str = "<GetCallerIdentityResponse><GetCallerIdentityResult>\
    <Arn>arn:aws:iam::123456789012:user/pam</Arn><UserId>AIDA</UserId><Account>123456789012</Account>\
    </GetCallerIdentityResult></GetCallerIdentityResponse>";

/// An answer of AWS's: status and body.
type Answer = (StatusCode, Vec<u8>);

/// How a service is spoken to.
enum Protocol {
    Json,
    Query,
    Cbor,
}

fn xml_error(code: &str) -> Answer {
    let body = format!("<ErrorResponse><Error><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>");
    (StatusCode::FORBIDDEN, body.into())
}

/// That something is not allowed, as each protocol says it.
fn denied(protocol: Protocol) -> Answer {
    match protocol {
        Protocol::Json => {
            let body = r#"{"__type": "AccessDeniedException", "Message": "no"}"#;
            (StatusCode::BAD_REQUEST, body.into())
        }
        Protocol::Query => xml_error("AccessDenied"),
        // A map of one pair: two texts, each with its length before it.
        Protocol::Cbor => (StatusCode::FORBIDDEN, b"\xa1\x66__type\x6cAccessDenied".into()),
    }
}

/// Every service of AWS: `identity` answers STS, `other` the rest.
async fn start(identity: fn() -> Answer, other: fn(Protocol) -> Answer) -> String {
    let answer = move |request: Request| async move {
        let header = |name: &str| {
            let value = request.headers().get(name);
            value.map_or("", |value| value.to_str().unwrap()).to_owned()
        };
        let content = header("content-type");
        let (status, body) = if header("authorization").contains("/sts/aws4_request") {
            identity()
        } else if header("smithy-protocol") == "rpc-v2-cbor" {
            other(Protocol::Cbor)
        } else if content == "application/x-www-form-urlencoded" {
            other(Protocol::Query)
        } else {
            other(Protocol::Json)
        };
        let headers = [
            ("content-type", content),
            ("smithy-protocol", header("smithy-protocol")),
        ];
        (status, headers, body)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(answer);
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

async fn doctor(url: String, region: &'static str) -> Finished {
    let looked = tokio::task::spawn_blocking(move || {
        let variables = [
            ("AWS_ENDPOINT_URL", url.as_str()),
            ("AWS_REGION", region),
            ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
        ];
        User::new().cascade(&["doctor", "--aws", "--environment", "dev", "--json"], &variables)
    })
    .await
    .unwrap();
    assert!(!looked.output.contains(SECRET) && !looked.errors.contains(SECRET));
    looked
}

fn identity() -> Answer {
    (StatusCode::OK, IDENTITY.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_have_run_out_are_all_that_is_said() {
    let url = start(|| xml_error("ExpiredToken"), |_| panic!("nobody else is asked")).await;
    let looked = doctor(url, "eu-central-1").await;
    looked.assert_status(1);
    assert_eq!(looked.findings("ok"), ["region: eu-central-1"]);
    let failed = looked.findings("failed");
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(
        failed[0].starts_with("credentials: could not be used") && failed[0].contains("ExpiredToken"),
        "{failed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_region_nothing_is_asked() {
    let url = start(|| panic!("nobody is asked"), |_| panic!("nobody is asked")).await;
    let looked = doctor(url, "").await;
    looked.assert_status(1);
    assert_eq!(looked.findings("failed"), ["region: none is set"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_allowed_is_skipped_and_each_action_named() {
    let looked = doctor(start(identity, denied).await, "eu-central-1").await;
    looked.assert_status(0);
    assert_eq!(
        looked.findings("ok"),
        [
            "region: eu-central-1",
            "credentials: account 123456789012, as arn:aws:iam::123456789012:user/pam"
        ]
    );
    let skipped = looked.findings("skipped");
    for action in [
        "dynamodb:DescribeTable",
        "sqs:GetQueueUrl",
        "lambda:GetFunction",
        "lambda:ListEventSourceMappings",
        "scheduler:GetSchedule",
        "cloudwatch:DescribeAlarms",
        "sns:GetTopicAttributes",
        "sns:ListSubscriptionsByTopic",
    ] {
        assert!(
            skipped
                .iter()
                .any(|line| line.ends_with(&format!("you may not {action}"))),
            "{action} in {skipped:#?}"
        );
    }
}
