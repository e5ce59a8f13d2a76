//! A start that cannot succeed says why, and ends.

use crate::function::Function;
use crate::stub::{Stub, VendorReply};

async fn refused(variables: &[(&str, Option<&str>)]) -> String {
    let stub = Stub::start(|_| VendorReply::Silence).await;
    let ended = Function::start_with(&stub, variables).ended().await;
    assert_eq!(ended.status.code(), Some(1));
    assert_eq!(ended.lines.len(), 1, "{:?}", ended.lines);
    let line = &ended.lines[0];
    assert_eq!(line["message"], "the function does not start");
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["function"], "sale-collector-test");
    assert_eq!(line["version"], "7");
    assert_eq!(stub.seen().waits, 0);
    line["reason"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn one_line_names_every_variable_that_is_missing_or_unusable_and_what_it_should_hold() {
    let problems = [
        (
            "LOGGING_LEVEL",
            Some("LOUD"),
            "not usable, expected DEBUG, INFO, WARNING, ERROR",
        ),
        ("APP_ENV", None, "missing, expected the environment's name"),
        ("DB", Some(""), "missing, expected the name of this collector's table"),
        ("SQS", None, "missing, expected a queue's URL"),
        (
            "API_BASE_URL",
            Some("vendor.test"),
            "not usable, expected the vendor's http or https URL",
        ),
        (
            "API_KEY",
            Some("v3nd0r-s3cr3t\n"),
            "not usable, expected text that can stand in an HTTP header",
        ),
        (
            "API_KEY_SECRET_ARN",
            Some("vendor-key"),
            "not usable, expected a secret's ARN (arn:aws:secretsmanager:",
        ),
        (
            "API_REQUESTS_PER_MINUTE",
            Some("0"),
            "not usable, expected the vendor's quota, a whole number",
        ),
        (
            "API_TIMEOUT_SECONDS",
            Some("1.5"),
            "not usable, expected a whole number of seconds",
        ),
        (
            "POLL_WINDOW_SECONDS",
            Some("-1"),
            "not usable, expected a whole number of seconds",
        ),
        (
            "SALES_LOOKBACK_HOURS",
            Some("a day"),
            "not usable, expected a whole number of hours",
        ),
    ];
    let reason = refused(&problems.map(|(name, value, _)| (name, value))).await;
    for (name, _, expected) in problems {
        assert!(reason.contains(&format!("{name} is {expected}")), "{name} in {reason}");
    }
}

#[tokio::test]
async fn a_key_and_a_secret_with_a_key_are_one_too_many() {
    let arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:vendor-key-AbCdEf";
    let reason = refused(&[("API_KEY_SECRET_ARN", Some(arn))]).await;
    assert!(
        reason.contains("API_KEY and API_KEY_SECRET_ARN are both set, expected one of them"),
        "{reason}"
    );
}

#[tokio::test]
async fn outside_of_lambda_it_says_how_it_is_started() {
    let reason = refused(&[("AWS_LAMBDA_RUNTIME_API", None)]).await;
    assert!(reason.contains("AWS_LAMBDA_RUNTIME_API is missing"), "{reason}");
    assert!(reason.contains("cargo run"), "{reason}");
}

#[tokio::test]
async fn a_memory_size_that_is_no_number_is_refused_and_no_crash() {
    for size in ["plenty", "99999999999999999999"] {
        let reason = refused(&[("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", Some(size))]).await;
        assert!(reason.contains("AWS_LAMBDA_FUNCTION_MEMORY_SIZE"), "{reason}");
    }
}
