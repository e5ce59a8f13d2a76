//! The vendor's key, read from a secret when the function starts. That it is in no log line is checked wherever a function
//! ends.

use serde_json::{Value, json};

use crate::function::{API_KEY, Function};
use crate::stub::{Stub, VendorReply};
use crate::{CALL, SALE, sales_of};

const ARN: &str = "arn:aws:secretsmanager:eu-central-1:123456789012:secret:vendor-key-AbCdEf";

/// A function that is told of a secret, and not of a key.
fn start(stub: &Stub) -> Function {
    let variables = [
        ("API_KEY", None),
        ("API_KEY_SECRET_ARN", Some(ARN)),
        ("LOGGING_LEVEL", Some("TRACE")),
    ];
    Function::start_with(stub, &variables)
}

#[tokio::test]
async fn the_key_is_read_once_in_the_secrets_region_and_sent_to_the_vendor() {
    let stub = Stub::start(|_| VendorReply::ok(sales_of("1235", &[SALE]))).await;
    stub.has_secret(Ok(json!({"ARN": ARN, "SecretString": format!("{API_KEY}\n")})));
    let function = start(&stub);
    for request in ["request-1", "request-2"] {
        assert!(!stub.invoke(request, CALL).await.is_error);
    }
    function.end().await;

    let seen = stub.seen();
    let [(secret, authorization)] = seen.secrets.as_slice() else {
        panic!("read {} times", seen.secrets.len());
    };
    assert_eq!(secret, ARN);
    assert!(
        authorization.contains("/eu-central-1/secretsmanager/aws4_request"),
        "{authorization}"
    );
    let sent: Vec<_> = seen
        .vendor
        .iter()
        .map(|(_, authorization)| authorization.as_deref())
        .collect();
    assert_eq!(sent, [Some(format!("Bearer {API_KEY}").as_str()); 2]);
}

#[tokio::test]
async fn without_the_variable_no_secret_is_read() {
    let stub = Stub::start(|_| VendorReply::ok(sales_of("1235", &[SALE]))).await;
    let function = Function::start_with(&stub, &[("API_KEY_SECRET_ARN", Some(""))]);
    assert!(!stub.invoke("request-1", CALL).await.is_error);
    function.end().await;
    assert!(stub.seen().secrets.is_empty());
}

/// What the start ends in that finds the secret like this.
async fn refused(secret: Result<Value, &'static str>) -> String {
    let stub = Stub::start(|_| VendorReply::Silence).await;
    stub.has_secret(secret);
    let variables = [("API_KEY", None), ("API_KEY_SECRET_ARN", Some(ARN))];
    let ended = Function::start_with(&stub, &variables).ended().await;
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(ended.lines.len(), 1, "{:?}", ended.lines);
    assert_eq!(ended.lines[0]["message"], "the function does not start");
    assert_eq!(stub.seen().waits, 0);
    ended.lines[0]["reason"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_secret_that_gives_no_key_ends_the_start_with_what_was_expected() {
    for (secret, expected) in [
        (Err("ResourceNotFoundException"), "there is no such secret"),
        (
            Err("AccessDeniedException"),
            "expected a role that is allowed secretsmanager:GetSecretValue",
        ),
        (
            Ok(json!({"SecretBinary": "djNuZDByLXMzY3IzdA=="})),
            "is binary; expected the key itself",
        ),
        (Ok(json!({"SecretString": "\n"})), "is empty; expected the key itself"),
        (
            Ok(json!({"SecretString": json!({"key": API_KEY}).to_string()})),
            "is a JSON object; expected the key itself",
        ),
        (
            Ok(json!({"SecretString": format!("{API_KEY}\n{API_KEY}")})),
            "cannot stand in an HTTP header; expected the key itself",
        ),
    ] {
        let reason = refused(secret).await;
        assert!(
            reason.starts_with("API_KEY_SECRET_ARN does not lead to the vendor's key"),
            "{reason}"
        );
        assert!(reason.contains(expected), "{expected} in {reason}");
    }
}
