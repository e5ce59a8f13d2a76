//! Everything around the function, on one port: Lambda's runtime API, the vendor, DynamoDB and SQS.

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How long a test waits for what has to come.
const PATIENT: Duration = Duration::from_secs(180);

/// More receives than any test makes.
const PLENTY: usize = 1_000_000;

/// What the vendor does with a request.
#[derive(Clone)]
pub(crate) enum VendorReply {
    Answer(StatusCode, Bytes),
    /// This answer, once there is a permit.
    After(Arc<Semaphore>, Bytes),
    /// No answer, ever.
    Silence,
}

impl VendorReply {
    pub(crate) fn ok(body: impl Into<Bytes>) -> Self {
        Self::Answer(StatusCode::OK, body.into())
    }
}

/// What the function said of an invocation.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) request_id: String,
    pub(crate) is_error: bool,
    pub(crate) body: Value,
}

/// Makes a row of a sale's and an employee's id.
pub(crate) type Rows = fn(&str, &str) -> Option<Value>;

/// What the function is run with, and what it did.
pub(crate) struct Stub {
    port: u16,
    world: Arc<World>,
    server: JoinHandle<()>,
}

struct World {
    vendor: Box<dyn Fn(&str) -> VendorReply + Send + Sync>,
    has_extensions: bool,
    seen: Mutex<Seen>,
    changed: Notify,
    /// A permit for each receive that may be answered.
    receives: Semaphore,
}

#[derive(Default)]
pub(crate) struct Seen {
    events: VecDeque<(String, String)>,
    messages: VecDeque<Value>,
    items: HashMap<String, Value>,
    /// Makes rows by their sale's and employee's id that were not put.
    rows: Option<Rows>,
    /// What the secret holds, or the code of the error that reading it ends in.
    secret: Option<Result<Value, &'static str>>,
    outcomes: VecDeque<Outcome>,
    /// How often the function asked for an event.
    pub(crate) waits: usize,
    /// Extensions that were registered, and then waited for events.
    pub(crate) extensions: Vec<String>,
    /// The paths and queries that the vendor was asked for, and the `Authorization` of each.
    pub(crate) vendor: Vec<(String, Option<String>)>,
    /// The receipts of messages that were made visible again, each with the seconds until then.
    pub(crate) visible_after: Vec<(String, u64)>,
    /// The receipts of messages that were deleted.
    pub(crate) deleted: Vec<String>,
    /// The secrets that were read, each with its request's `Authorization`.
    pub(crate) secrets: Vec<(String, String)>,
    /// Requests to AWS by their target, such as `DynamoDB_20120810.PutItem`.
    pub(crate) aws: HashMap<String, usize>,
}

impl Seen {
    /// A sale's item as it was put.
    pub(crate) fn item(&self, sale_id: &str, employee_id: &str) -> Option<&Value> {
        self.items.get(&format!("{sale_id}/{employee_id}"))
    }

    pub(crate) fn items(&self) -> usize {
        self.items.len()
    }

    fn row(&self, asked: &Value) -> Option<Value> {
        let put = self.items.get(&key(asked)).cloned();
        put.or_else(|| self.rows?(part(asked, "sale_id"), part(asked, "employee_id")))
    }
}

impl Stub {
    /// Surroundings in which the vendor answers as `vendor` says to a path with its query.
    pub(crate) async fn start(vendor: impl Fn(&str) -> VendorReply + Send + Sync + 'static) -> Self {
        Self::with_extensions(true, vendor).await
    }

    /// The same, but Lambda may know no extensions.
    pub(crate) async fn with_extensions(
        has_extensions: bool,
        vendor: impl Fn(&str) -> VendorReply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let world = Arc::new(World {
            vendor: Box::new(vendor),
            has_extensions,
            seen: Mutex::default(),
            changed: Notify::new(),
            receives: Semaphore::new(PLENTY),
        });
        let router = Router::new().fallback(answer).with_state(world.clone());
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, world, server }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What was seen so far. Not to be held over an await.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.world.seen.lock().unwrap()
    }

    /// Gives the function an event; answers what it says of it.
    pub(crate) async fn invoke(&self, request_id: &str, event: &str) -> Outcome {
        self.send_event(request_id, event);
        self.outcome().await
    }

    /// Gives the function an event.
    pub(crate) fn send_event(&self, request_id: &str, event: &str) {
        let event = (request_id.to_owned(), event.to_owned());
        self.seen().events.push_back(event);
        self.world.changed.notify_waiters();
    }

    /// What the function says of the next invocation that ends.
    pub(crate) async fn outcome(&self) -> Outcome {
        self.until("the function answers", |seen| !seen.outcomes.is_empty())
            .await;
        self.seen().outcomes.pop_front().unwrap()
    }

    /// Puts messages into the queue; their receipts are `receipt-` and their place.
    pub(crate) fn send_messages(&self, bodies: impl IntoIterator<Item = String>) {
        let mut seen = self.seen();
        for body in bodies {
            let place = seen.messages.len();
            seen.messages.push_back(json!({
                "MessageId": format!("message-{place}"),
                "ReceiptHandle": format!("receipt-{place}"),
                "Body": body,
                "Attributes": {"ApproximateReceiveCount": "1"},
            }));
        }
    }

    /// Fills the table with rows, made as they are asked for.
    pub(crate) fn has_rows(&self, rows: Rows) {
        self.seen().rows = Some(rows);
    }

    /// Keeps a secret: `GetSecretValue` answers with these fields, or with an error of this code.
    pub(crate) fn has_secret(&self, secret: Result<Value, &'static str>) {
        self.seen().secret = Some(secret);
    }

    /// Lets only so many more receives be answered, until [`Self::allow_receives`].
    pub(crate) fn limit_receives(&self, most: usize) {
        self.world.receives.forget_permits(PLENTY - most);
    }

    pub(crate) fn allow_receives(&self, more: usize) {
        self.world.receives.add_permits(more);
    }

    /// Waits until something was seen.
    pub(crate) async fn until(&self, what: &str, is_so: impl Fn(&Seen) -> bool) {
        let waiting = async {
            while !is_so(&self.seen()) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENT, waiting)
            .await
            .unwrap_or_else(|_| panic!("waited in vain until {what}"));
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(world): State<Arc<World>>, request: Request) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let path = head.uri.path().to_owned();
    if let Some(call) = path.strip_prefix("/2018-06-01/runtime/invocation/") {
        return world.runtime(call, &body).await;
    }
    if let Some(call) = path.strip_prefix("/2020-01-01/extension/") {
        return world.extension(call, &head).await;
    }
    if path.starts_with("/vendor/") {
        return world.vendor(&head).await;
    }
    match header(&head, "x-amz-target") {
        Some(target) => world.aws(&target, &head, &body).await,
        None => status(StatusCode::NOT_FOUND),
    }
}

impl World {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    async fn runtime(&self, call: &str, body: &[u8]) -> Response<Body> {
        let Some((request_id, kind)) = call.split_once('/') else {
            self.seen().waits += 1;
            return self.next_event().await;
        };
        self.seen().outcomes.push_back(Outcome {
            request_id: request_id.to_owned(),
            is_error: kind == "error",
            body: serde_json::from_slice(body).unwrap(),
        });
        status(StatusCode::ACCEPTED)
    }

    async fn next_event(&self) -> Response<Body> {
        loop {
            let changed = self.changed.notified();
            if let Some((request_id, event)) = self.seen().events.pop_front() {
                let deadline = SystemTime::now() + Duration::from_secs(900);
                let deadline_ms = deadline.duration_since(UNIX_EPOCH).unwrap().as_millis();
                return Response::builder()
                    .header("Lambda-Runtime-Aws-Request-Id", request_id)
                    .header("Lambda-Runtime-Deadline-Ms", deadline_ms.to_string())
                    .header(
                        "Lambda-Runtime-Invoked-Function-Arn",
                        "arn:aws:lambda:us-east-1:1:function:f",
                    )
                    .body(event.into())
                    .unwrap();
            }
            changed.await;
        }
    }

    async fn extension(&self, call: &str, head: &Parts) -> Response<Body> {
        if !self.has_extensions {
            return status(StatusCode::NOT_FOUND);
        }
        if call == "register" {
            let name = header(head, "lambda-extension-name").unwrap_or_default();
            return Response::builder()
                .header("Lambda-Extension-Identifier", format!("id-of-{name}"))
                .body(Body::empty())
                .unwrap();
        }
        let id = header(head, "lambda-extension-identifier").unwrap_or_default();
        self.seen().extensions.push(id);
        std::future::pending().await
    }

    async fn vendor(&self, head: &Parts) -> Response<Body> {
        let target = head.uri.path_and_query().unwrap().to_string();
        let authorization = header(head, "authorization");
        self.seen().vendor.push((target.clone(), authorization));
        match (self.vendor)(&target) {
            VendorReply::Answer(status, body) => Response::builder().status(status).body(body.into()).unwrap(),
            VendorReply::After(held, body) => {
                held.acquire().await.unwrap().forget();
                Response::new(body.into())
            }
            VendorReply::Silence => std::future::pending().await,
        }
    }

    async fn aws(&self, target: &str, head: &Parts, body: &[u8]) -> Response<Body> {
        *self.seen().aws.entry(target.to_owned()).or_default() += 1;
        let body: Value = serde_json::from_slice(body).unwrap();
        let answer = match target {
            "AmazonSQS.ReceiveMessage" => self.receive(&body).await,
            "DynamoDB_20120810.BatchGetItem" => self.read(&body),
            "DynamoDB_20120810.PutItem" => {
                let item = &body["Item"];
                self.seen().items.insert(key(item), item.clone());
                json!({})
            }
            "DynamoDB_20120810.BatchExecuteStatement" => self.insert(&body),
            "AmazonSQS.DeleteMessageBatch" | "AmazonSQS.ChangeMessageVisibilityBatch" => self.settle(&body),
            "secretsmanager.GetSecretValue" => match self.secret(head, &body) {
                Ok(secret) => secret,
                Err(code) => return refusal(code, target),
            },
            _ => return refusal("UnknownOperationException", target),
        };
        Response::new(answer.to_string().into())
    }

    /// `INSERT`s of names in single quotes with a parameter each, none of which has a row yet.
    fn insert(&self, body: &Value) -> Value {
        let statements = body["Statements"].as_array().unwrap();
        let mut seen = self.seen();
        for statement in statements {
            let text = statement["Statement"].as_str().unwrap();
            assert!(text.starts_with("INSERT INTO"), "{text}");
            let names = text.split('\'').skip(1).step_by(2).map(str::to_owned);
            let values = statement["Parameters"].as_array().unwrap().iter().cloned();
            let item = Value::Object(names.zip(values).collect());
            seen.items.insert(key(&item), item);
        }
        json!({ "Responses": vec![json!({}); statements.len()] })
    }

    fn secret(&self, head: &Parts, body: &Value) -> Result<Value, &'static str> {
        let authorization = header(head, "authorization").unwrap_or_default();
        let mut seen = self.seen();
        seen.secrets
            .push((body["SecretId"].as_str().unwrap().to_owned(), authorization));
        seen.secret.clone().unwrap_or(Err("ResourceNotFoundException"))
    }

    async fn receive(&self, body: &Value) -> Value {
        self.receives.acquire().await.unwrap().forget();
        let most = body["MaxNumberOfMessages"].as_u64().unwrap();
        let messages: Vec<_> = {
            let mut seen = self.seen();
            (0..most).map_while(|_| seen.messages.pop_front()).collect()
        };
        if messages.is_empty() {
            // A short long poll: a function that works on messages does not ask without a pause.
            sleep(Duration::from_millis(100)).await;
        }
        json!({ "Messages": messages })
    }

    fn read(&self, body: &Value) -> Value {
        let seen = self.seen();
        let answer = body["RequestItems"].as_object().unwrap().iter().map(|(table, asked)| {
            let keys = asked["Keys"].as_array().unwrap().iter();
            (table.clone(), keys.filter_map(|asked| seen.row(asked)).collect())
        });
        json!({"Responses": Value::Object(answer.collect()), "UnprocessedKeys": {}})
    }

    /// Deletes messages, or makes them visible again.
    fn settle(&self, body: &Value) -> Value {
        let entries = body["Entries"].as_array().unwrap();
        let mut seen = self.seen();
        for entry in entries {
            let receipt = entry["ReceiptHandle"].as_str().unwrap().to_owned();
            match entry["VisibilityTimeout"].as_u64() {
                None => seen.deleted.push(receipt),
                Some(seconds) => seen.visible_after.push((receipt, seconds)),
            }
        }
        let done: Vec<_> = entries.iter().map(|entry| json!({"Id": entry["Id"]})).collect();
        json!({"Successful": done, "Failed": []})
    }
}

fn key(item: &Value) -> String {
    format!("{}/{}", part(item, "sale_id"), part(item, "employee_id"))
}

fn part<'a>(item: &'a Value, name: &str) -> &'a str {
    item[name]["S"].as_str().unwrap()
}

fn header(head: &Parts, name: &str) -> Option<String> {
    head.headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn status(status: StatusCode) -> Response<Body> {
    Response::builder().status(status).body(Body::empty()).unwrap()
}

fn refusal(code: &str, message: &str) -> Response<Body> {
    let refusal = json!({"__type": code, "message": message}).to_string();
    Response::builder()
        .status(StatusCode::BAD_REQUEST)
        .body(refusal.into())
        .unwrap()
}
