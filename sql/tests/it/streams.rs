//! A lake in memory, filled by what streams deliver.

use std::sync::Arc;
use std::time::Duration;

use futures::TryStreamExt;
use lake::compaction::Policy;
use lake::handler::{LakeFunction, Tables};
use lake::log::Log;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde_json::{Value, json};
use shared::clock::Clock;
use shared::collector::Call;
use shared::jitter::Jitter;
use shared::state::memory::MemoryState;
use shared::state::{Entry, StateTable};
use sql::console::Console;
use sql::output::Format;
use sql::session::Lake;
use time::UtcDateTime;
use time::macros::utc_datetime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) const MEMORY: usize = 256 << 20;

/// When streams begin to deliver.
pub(crate) const START: UtcDateTime = utc_datetime!(2026-11-21 01:00);

/// The streams of all tables, and the lake that they fill.
pub(crate) struct Streams {
    pub(crate) objects: Arc<InMemory>,
    function: LakeFunction,
    clock: Clock,
}

/// One record of a stream.
#[derive(Clone)]
pub(crate) struct Record {
    table: &'static str,
    kind: &'static str,
    keys: Value,
    image: Value,
    sequence: u64,
    minute: i64,
}

impl Record {
    /// So many minutes after the start.
    pub(crate) fn at(self, minute: i64) -> Self {
        Self { minute, ..self }
    }

    fn json(&self) -> Value {
        let mut change = json!({
            "ApproximateCreationDateTime": START.unix_timestamp() + self.minute * 60,
            "Keys": self.keys,
            "SequenceNumber": self.sequence.to_string(),
            "SizeBytes": 100,
            "StreamViewType": "NEW_IMAGE",
        });
        if self.kind != "REMOVE" {
            let mut image = self.image.clone();
            for (name, value) in self.keys.as_object().into_iter().flatten() {
                image[name] = value.clone();
            }
            change["NewImage"] = image;
        }
        json!({
            "eventID": self.sequence.to_string(),
            "eventName": self.kind,
            "eventSource": "aws:dynamodb",
            "eventSourceARN": format!(
                "arn:aws:dynamodb:us-east-1:123456789012:table/{}-local/stream/2026-11-21T00:00:00.000", self.table
            ),
            "awsRegion": "us-east-1",
            "dynamodb": change,
        })
    }
}

/// A sale of the salesperson 7, changed with the number `sequence`; `image` is typed as DynamoDB types it.
pub(crate) fn sale(kind: &'static str, sequence: u64, sale_id: &str, image: Value) -> Record {
    Record {
        table: "sale",
        kind,
        keys: json!({"sale_id": {"S": sale_id}, "employee_id": {"S": "7"}}),
        image: with_last_modified(image),
        sequence,
        minute: 1,
    }
}

pub(crate) fn branch(kind: &'static str, sequence: u64, branch_id: &str, image: Value) -> Record {
    Record {
        table: "branch",
        kind,
        keys: json!({"branch_id": {"S": branch_id}}),
        image: with_last_modified(image),
        sequence,
        minute: 1,
    }
}

pub(crate) fn salesperson(
    kind: &'static str,
    sequence: u64,
    (employee_id, branch_id): (&str, &str),
    image: Value,
) -> Record {
    Record {
        table: "salesperson",
        kind,
        keys: json!({"employee_id": {"S": employee_id}, "branch_id": {"S": branch_id}}),
        image: with_last_modified(image),
        sequence,
        minute: 1,
    }
}

/// The account that a run keeps of itself (`run/…`), or of a branch in it (`run/…/…`).
pub(crate) fn account(sequence: u64, id: &str, image: Value) -> Record {
    Record {
        table: "sync",
        kind: "MODIFY",
        keys: json!({"id": {"S": id}}),
        image,
        sequence,
        minute: 1,
    }
}

fn with_last_modified(mut image: Value) -> Value {
    if image["last_modified"].is_null() {
        image["last_modified"] = json!({"S": "2026-11-21T01:00:30.250Z"});
    }
    image
}

impl Streams {
    pub(crate) async fn new() -> Self {
        let objects = Arc::new(InMemory::new());
        let state = Arc::new(MemoryState::default());
        let runs = json!({"recent": ["2026-11-21T00:00:00Z", "2026-11-21T01:00:00Z"], "unreported": []});
        let entry = Entry::after(None, &runs, None).unwrap();
        state.swap("runs", None, &entry).await.unwrap();
        let clock = Clock::starting_at(START);
        let tables: Tables = [
            ("branch-local", Log::Branches),
            ("salesperson-local", Log::Salespersons),
            ("sale-local", Log::Sales),
            ("sync-local", Log::Runs),
        ]
        .map(|(table, log)| (table.to_owned(), log))
        .into();
        let lake = lake::store::Lake::over(objects.clone(), Path::default());
        let policy = Policy {
            today_from: 2,
            ..Policy::default()
        };
        let function =
            LakeFunction::new(lake, tables, Some(state), clock.clone(), Jitter::seeded(1)).with_policy(policy);
        Self {
            objects,
            function,
            clock,
        }
    }

    /// Delivers records as one batch, as often as DynamoDB likes.
    pub(crate) async fn deliver(&self, records: &[Record]) {
        let records: Vec<Value> = records.iter().map(Record::json).collect();
        self.handle(&json!({"Records": records}).to_string()).await;
    }

    /// Puts small files together; what they replace stays for an hour.
    pub(crate) async fn compact(&self) {
        self.handle("{}").await;
    }

    pub(crate) fn advance(&self, hours: u64) {
        self.clock.advance(Duration::from_secs(hours * 3600));
    }

    async fn handle(&self, event: &str) {
        let call = Call {
            request_id: "r-1".to_owned(),
            now: self.clock.now(),
            deadline: Instant::now() + Duration::from_secs(600),
            stop: CancellationToken::new(),
        };
        let handled = self.function.handle(event, call).await;
        assert!(
            handled.failure.is_none() && handled.answer.is_ok(),
            "{event}: {handled:?}"
        );
    }

    /// The names of all files.
    pub(crate) async fn files(&self) -> Vec<String> {
        let objects: Vec<_> = self.objects.list(None).try_collect().await.unwrap();
        objects.iter().map(|object| object.location.to_string()).collect()
    }

    /// Puts a file there that is cut short.
    pub(crate) async fn break_file(&self, path: &str) {
        let cut = b"PAR1, and then the writer's disk was full".as_slice();
        self.objects.put(&Path::from(path), cut.into()).await.unwrap();
    }

    /// Copies the lake into a directory.
    pub(crate) async fn save(&self, directory: &std::path::Path) {
        for name in self.files().await {
            let bytes = self
                .objects
                .get(&Path::from(name.as_str()))
                .await
                .unwrap()
                .bytes()
                .await
                .unwrap();
            let path = directory.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    pub(crate) async fn console(&self, format: Format) -> Console {
        let lake = Lake::over(self.objects.clone(), MEMORY).await.unwrap();
        Console::new(lake, format, None, || None, |_| {})
    }

    /// The answer to a question, as CSV without its header.
    pub(crate) async fn ask(&self, question: &str) -> Vec<String> {
        let answer = ask(&self.console(Format::Csv).await, question).await;
        answer.lines().skip(1).map(str::to_owned).collect()
    }
}

/// The answer to a question.
pub(crate) async fn ask(console: &Console, question: &str) -> String {
    let mut answer = Vec::new();
    if let Err(failure) = console.answer(question, &mut answer).await {
        panic!("{}", failure.show());
    }
    String::from_utf8(answer).unwrap()
}
