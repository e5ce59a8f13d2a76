//! Whether a vendor answers: one request to each, without a key.

use std::time::Duration;

use reqwest::redirect::Policy;
use shared::error_chain;
use url::Url;

use super::super::facts::Reached;

/// How long an answer may take: `API_TIMEOUT_SECONDS`'s default.
const TIME_OUT: Duration = Duration::from_secs(10);

pub(super) async fn reached(vendors: impl IntoIterator<Item = Url>) -> Vec<(Url, Reached)> {
    let mut answers = Vec::new();
    for vendor in vendors {
        let reached = reach(&vendor).await;
        answers.push((vendor, reached));
    }
    answers
}

/// Asks the vendor's origin. Any answer will do, so that neither a path nor a key has to be right.
async fn reach(vendor: &Url) -> Reached {
    let http = reqwest::Client::builder()
        .redirect(Policy::none())
        .timeout(TIME_OUT)
        .build();
    let answer = match http {
        Ok(http) => http.get(vendor.origin().ascii_serialization()).send().await,
        Err(failure) => Err(failure),
    };
    match answer {
        Ok(answer) => Reached::Answered(answer.status().as_u16()),
        Err(failure) => Reached::Not(error_chain(&failure.without_url())),
    }
}
