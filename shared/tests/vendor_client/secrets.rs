//! The API key: it is sent, and it is never repeated.

use futures::future::join_all;
use shared::vendor::FetchError;

use crate::Bench;
use crate::scripted::{Reply, ScriptedVendor};

const KEY: &str = "s3cr3t/K3y+w1th\"qu0te==";

/// Whether a text shows four characters or more of the key in a row.
fn shows_key(text: &str) -> bool {
    let text = text.replace('\\', "");
    (0..KEY.len() - 3).any(|start| text.contains(&KEY[start..start + 4]))
}

fn text(error: &FetchError) -> String {
    format!("{} {error:?}", shared::error_chain(error))
}

#[tokio::test]
async fn the_key_is_sent_as_a_bearer_token_without_the_blanks_around_it() {
    let vendor = ScriptedVendor::start(|_| Reply::ok("{}")).await;
    for key in [KEY.to_owned(), format!(" {KEY}\t")] {
        Bench::with_key(&vendor, &key).fetch().await.unwrap();
    }
    for asked in vendor.asked() {
        assert_eq!(asked.header("Authorization"), Some(format!("Bearer {KEY}").as_str()));
    }
}

#[tokio::test]
async fn a_key_that_the_vendor_repeats_is_in_no_error() {
    let json = serde_json::Value::from(KEY).to_string();
    let slashes = json.replace('/', "\\/");
    let cases = [
        Reply::with("401 Unauthorized", "", format!("the key {KEY} is not valid")),
        Reply::with("403 Forbidden", "", format!(r#"{{"key": {json}}}"#)),
        Reply::with("400 Bad Request", "", KEY.repeat(1000)),
        Reply::ok(format!(
            r#"{{"error": "Bearer {} is over quota"}}"#,
            &json[1..json.len() - 1]
        )),
        Reply::ok(format!(r#"{{"error": {{"key": {slashes}}}}}"#)),
        Reply::ok(format!("{KEY} is not JSON")),
        Reply::redirect("302 Found", &format!("http://elsewhere.test/?key={KEY}")),
        Reply::page("{}", &format!("http://elsewhere.test/?key={KEY}")),
        Reply::with("200 OK", &format!("Link: {KEY}; rel=next\r\n"), "{}"),
    ]
    .map(async |reply| {
        let what = format!("{reply:?}");
        let vendor = ScriptedVendor::start(move |_| reply.clone()).await;
        let error = Bench::with_key(&vendor, KEY).fetch().await.expect_err(&what);
        assert!(!shows_key(&text(&error)), "{}", text(&error));
    });
    join_all(cases).await;
}

#[tokio::test]
async fn no_cut_through_a_refusal_leaves_the_beginning_of_the_key() {
    // given refusals in which the key stands at every place around those where the text is cut
    let vendor = ScriptedVendor::start(|asked| {
        let blanks: usize = asked.target.rsplit('=').next().unwrap().parse().unwrap();
        Reply::with(
            "400 Bad Request",
            "",
            format!("{}{KEY}{}", ".".repeat(blanks), "!".repeat(5000)),
        )
    })
    .await;
    let bench = Bench::with_key(&vendor, KEY);
    for blanks in (270..310).chain(4060..4100) {
        // when
        let error = bench.ask(&blanks.to_string()).await.unwrap_err();
        // then
        assert!(!shows_key(&text(&error)), "{blanks}: {}", text(&error));
    }
}
