//! The sale collector: events and messages go in; rows and answers come out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sales::SaleCollector;
use sales::lookback::Lookback;
use serde_json::Value as Json;
use serde_json::value::RawValue;
use shared::account::Accounts;
use shared::change::Row;
use shared::checkpoint::Checkpoints;
use shared::clock::Clock;
use shared::collector::{Call, Handled, handle};
use shared::deletions::{DeletionRules, Rosters};
use shared::entity::Entity;
use shared::id::Id;
use shared::jitter::Jitter;
use shared::queue::memory::MemoryQueue;
use shared::record::Key;
use shared::rejections::Rejections;
use shared::state::StateTable;
use shared::state::memory::MemoryState;
use shared::table::memory::MemoryTable;
use shared::value::Value;
use shared::vendor::excerpt::Excerpts;
use shared::vendor::scripted::{Reply, ScriptedVendor};
use shared::vendor::{FetchError, Query};
use time::macros::utc_datetime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

mod branch;
mod deletions;
mod events;
mod once;
mod poll;
mod records;
mod rejected;

/// What the collector works with, and the collector. It is 01:02:03.456 on 21 November 2026.
struct World {
    vendor: Arc<ScriptedVendor>,
    table: Arc<MemoryTable>,
    queue: Arc<MemoryQueue>,
    collector: SaleCollector,
    clock: Clock,
    stop: CancellationToken,
    time_left: Duration,
}

impl World {
    fn new() -> Self {
        Self::build(None)
    }

    /// With a state table, and a vendor that answers these sales for employee 1235.
    fn with_state(state: &Arc<MemoryState>, sales: &[&str]) -> Self {
        let world = Self::build(Some(state.clone()));
        world.change_sales(sales);
        world
    }

    fn build(state: Option<Arc<dyn StateTable>>) -> Self {
        let clock = Clock::starting_at(utc_datetime!(2026-11-21 01:02:03.456));
        let vendor = Arc::new(ScriptedVendor::new(clock.clone()));
        let table = Arc::new(MemoryTable::new(Entity::Sale));
        let queue = Arc::new(MemoryQueue::default());
        let collector = SaleCollector {
            vendor: vendor.clone(),
            table: table.clone(),
            sale_queue: queue.clone(),
            lookback: Lookback::hours(24),
            poll_window: Duration::from_secs(50),
            jitter: Jitter::seeded(1),
            checkpoints: Checkpoints::new(state.clone(), clock.clone(), Jitter::seeded(2)),
            rosters: Rosters::new(state.clone(), DeletionRules::default()),
            rejections: Rejections::new(state, clock.clone(), Excerpts::default()),
            accounts: Accounts::none(),
        };
        Self {
            vendor,
            table,
            queue,
            collector,
            clock,
            stop: CancellationToken::new(),
            time_left: Duration::from_secs(900),
        }
    }

    /// A vendor that answers these sales for employee 1235.
    fn with_sales(sales: &[&str]) -> Self {
        let world = Self::new();
        world.vendor.says(sales_of("1235"), answer("1235", sales));
        world
    }

    /// What the vendor answers for employee 1235 from now on.
    fn change_sales(&self, sales: &[&str]) {
        self.vendor.says_now(sales_of("1235"), answer("1235", sales));
    }

    async fn handle(&self, event: &str) -> Handled {
        let call = Call {
            request_id: "request".to_owned(),
            now: self.clock.now(),
            deadline: Instant::now() + self.time_left,
            stop: self.stop.clone(),
        };
        handle(&self.collector, event, call).await
    }

    async fn answer(&self, event: &str) -> Json {
        self.handle(event).await.answer.unwrap()
    }

    /// Polls with one message in the queue.
    async fn poll_with(&self, message: &str) -> Json {
        self.queue.put(message);
        self.answer("{}").await
    }

    /// Sales' ids, in order.
    fn sale_ids(&self) -> Vec<String> {
        self.table.rows().keys().map(|key| key.id.to_string()).collect()
    }

    /// The row of one of employee 1235's sales.
    fn row(&self, sale_id: &str) -> Row {
        self.table.rows()[&key(sale_id)].clone()
    }

    fn put_row(&self, sale_id: &str, json: &str, last_modified: &str) {
        let row = Row {
            attributes: attributes(json),
            last_modified: Some(last_modified.to_owned()),
            ..Row::default()
        };
        self.table.put(key(sale_id), row);
    }
}

fn id(text: &str) -> Id {
    Id::new(text.to_owned()).unwrap()
}

fn key(sale_id: &str) -> Key {
    Key {
        id: id(sale_id),
        parent: Some(id("1235")),
    }
}

fn sales_of(employee_id: &str) -> Query {
    Query::Sales(id(employee_id))
}

fn answer(employee_id: &str, sales: &[&str]) -> Reply {
    let sales = sales.join(", ");
    Reply::body(format!(
        r#"{{"result": {{"employee_id": {employee_id}, "sales": [{sales}]}}}}"#
    ))
}

/// A sale booked at a time, with further members: `, "paper": "A4"`.
fn sale(sale_id: &str, booked: &str, members: &str) -> String {
    format!(r#"{{"id": {sale_id}, "transaction_timestamp": "{booked}"{members}}}"#)
}

/// A sale booked an hour ago.
fn recent(sale_id: &str, members: &str) -> String {
    sale(sale_id, "2026-11-21 00:02:03", members)
}

fn attributes(json: &str) -> BTreeMap<String, Value> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_str(json).unwrap();
    let value = |(name, raw)| (name, Value::from_json(raw).unwrap());
    members.into_iter().map(value).collect()
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// The message that the salesperson collector sends for employee 1235 at branch 1.
const MESSAGE: &str = r#"{"branch_id": "1", "employee_id": "1235", "run_id": "2026-11-21T01:00:00Z"}"#;

fn message(branch_id: &str, employee_id: &str) -> String {
    format!(r#"{{"branch_id": "{branch_id}", "employee_id": "{employee_id}", "run_id": "2026-11-21T01:00:00Z"}}"#)
}

fn broken() -> Reply {
    Reply::failure(FetchError::Transient {
        reason: "the vendor answered 500".to_owned(),
        tries: 4,
        malformed: None,
    })
}
