//! A redrive from an SQS that answers by a script: what the real one does, and the embedded one never.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;

use cascade::cloud::sdk_config_for;
use cascade::dead_letters::{Action, Courier, DeadLetterQueue, DeadLetters, Filter, Letter, Outcome, Thoroughness};
use serde_json::{Value, json};
use shared::jitter::Jitter;
use shared::lambda::install_tls;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// An SQS with one queue, whose receives bring the letters that the script names, and in the end none.
#[derive(Clone)]
struct ScriptedSqs {
    receives: Arc<Mutex<VecDeque<Vec<&'static str>>>>,
    /// Receipts: a letter's id and the number of the receive.
    deleted: Arc<Mutex<Vec<String>>>,
    handed_back: Arc<Mutex<Vec<String>>>,
    given_out: Arc<Mutex<usize>>,
}

impl ScriptedSqs {
    fn of(receives: &[&[&'static str]]) -> Self {
        Self {
            receives: Arc::new(Mutex::new(receives.iter().map(|letters| letters.to_vec()).collect())),
            deleted: Arc::default(),
            handed_back: Arc::default(),
            given_out: Arc::default(),
        }
    }

    fn left(&self) -> usize {
        self.receives.lock().expect("no panic").len()
    }

    fn answer(&self, operation: &str, request: &Value) -> Value {
        match operation {
            "AmazonSQS.GetQueueUrl" => json!({"QueueUrl": "http://queue.invalid/1/q"}),
            "AmazonSQS.GetQueueAttributes" => json!({"Attributes": {
                "ApproximateNumberOfMessages": "1",
                "ApproximateNumberOfMessagesNotVisible": "0",
                "ApproximateNumberOfMessagesDelayed": "0",
            }}),
            "AmazonSQS.ReceiveMessage" => {
                let letters = self.receives.lock().expect("no panic").pop_front().unwrap_or_default();
                let mut given_out = self.given_out.lock().expect("no panic");
                *given_out += 1;
                let message = |id: &&str| {
                    json!({
                        "MessageId": id,
                        "ReceiptHandle": format!("{id}-{given_out}"),
                        "Body": "{}",
                        "Attributes": {"SentTimestamp": "1500000000000"},
                        "MessageAttributes": {"reason": {"DataType": "String", "StringValue": id}},
                    })
                };
                json!({"Messages": letters.iter().map(message).collect::<Vec<_>>()})
            }
            "AmazonSQS.DeleteMessageBatch" => take(request, &self.deleted),
            "AmazonSQS.ChangeMessageVisibilityBatch" => take(request, &self.handed_back),
            other => panic!("{other} is not expected"),
        }
    }
}

/// Takes every entry of a batch.
fn take(request: &Value, receipts: &Mutex<Vec<String>>) -> Value {
    let entries = request["Entries"].as_array().expect("entries");
    let of = |entry: &Value| entry["ReceiptHandle"].as_str().expect("a receipt").to_owned();
    receipts.lock().expect("no panic").extend(entries.iter().map(of));
    let ids = entries.iter().map(|entry| json!({"Id": entry["Id"]}));
    json!({"Successful": ids.collect::<Vec<_>>(), "Failed": []})
}

async fn serve(State(sqs): State<ScriptedSqs>, headers: HeaderMap, request: String) -> impl IntoResponse {
    let operation = headers["x-amz-target"].to_str().expect("text");
    let request = serde_json::from_str(&request).expect("JSON");
    let content = [(header::CONTENT_TYPE, "application/x-amz-json-1.0")];
    (content, sqs.answer(operation, &request).to_string())
}

/// Takes every letter, and remembers which.
#[derive(Default)]
struct Remembering(Mutex<Vec<String>>);

#[async_trait]
impl Courier for Remembering {
    async fn deliver(&self, letter: &Letter) -> Result<(), String> {
        self.0.lock().expect("no panic").push(letter.id.clone());
        Ok(())
    }

    fn at_once(&self) -> usize {
        1
    }
}

/// Redrives the letters whose ids hold "goes", and answers what came of it and which were sent.
async fn redrive(sqs: &ScriptedSqs) -> (Outcome, Vec<String>) {
    install_tls();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let router = Router::new().fallback(serve).with_state(sqs.clone());
    tokio::spawn(async { axum::serve(listener, router).await });
    let letters = DeadLetters::new(
        &sdk_config_for(&endpoint),
        "test",
        Thoroughness::Distributed,
        Jitter::random(),
        CancellationToken::new(),
    );
    let found = letters.find(DeadLetterQueue::SaleWorkload).await;
    let found = found.expect("an answer").expect("a queue");
    let filter = Filter {
        reason: Some("goes".to_owned()),
        ..Filter::default()
    };
    let courier = Remembering::default();
    let action = Action::Redrive(&courier);
    let outcome = letters.act(&found, &filter, usize::MAX, None, &action, &|_| {}).await;
    (outcome, courier.0.into_inner().expect("no panic"))
}

#[tokio::test]
async fn letters_that_come_back_are_not_an_empty_queue_and_a_few_empty_answers_are() {
    let sqs = ScriptedSqs::of(&[
        &["stays a", "stays b", "stays c"],
        &["stays a"],
        &["stays b"],
        &["stays c"],
        &[],
        &[],
        &["goes"],
    ]);
    let (outcome, sent) = redrive(&sqs).await;
    assert_eq!((outcome.done, outcome.cut), (1, false), "{outcome:?}");
    assert_eq!((sent, sqs.left()), (vec!["goes".to_owned()], 0));
    // each by the receipt of its last receive
    let mut handed_back = sqs.handed_back.lock().expect("no panic").clone();
    handed_back.sort();
    assert_eq!(handed_back, ["stays a-2", "stays b-3", "stays c-4"]);
}

#[tokio::test]
async fn where_nothing_but_the_same_letters_comes_it_ends_and_says_that_there_may_be_more() {
    let sqs = ScriptedSqs::of(&[&["stays"], &["stays"], &["stays"], &["goes"]]);
    let (outcome, sent) = redrive(&sqs).await;
    assert_eq!((outcome.done, outcome.cut), (0, true), "{outcome:?}");
    assert_eq!((sent.len(), sqs.left()), (0, 1));
    assert_eq!(*sqs.handed_back.lock().expect("no panic"), ["stays-3"]);
}

#[tokio::test]
async fn a_letter_that_was_delivered_and_is_given_out_again_is_deleted_and_not_sent_twice() {
    let sqs = ScriptedSqs::of(&[&["goes"], &["goes"]]);
    let (outcome, sent) = redrive(&sqs).await;
    assert_eq!(
        (outcome.done, outcome.failed, outcome.cut),
        (1, 0, false),
        "{outcome:?}"
    );
    assert_eq!(sent, ["goes"]);
    assert_eq!(*sqs.deleted.lock().expect("no panic"), ["goes-1", "goes-2"]);
    assert!(sqs.handed_back.lock().expect("no panic").is_empty());
}
