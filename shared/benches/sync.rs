//! What an answer costs on its way to the table: found, read, compared, and made into requests.
//!
//! `cargo bench -p shared`; or, for instructions instead of time, a bench binary with `--test` and a name under callgrind.

use std::hint::black_box;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::{BehaviorVersion, Config, Credentials, Region};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shared::change::{Change, Row};
use shared::entity::Entity;
use shared::id::Id;
use shared::jitter::Jitter;
use shared::record::Record;
use shared::table::dynamodb::DynamoTable;
use shared::table::{MAX_READ, Table, Write, Written};
use shared::value::Value;
use shared::vendor::answer::{Shape, distinct, records};

const NOW: &str = "2026-11-21T02:00:00.000Z";

/// One sale. `note` names one of its attributes.
fn sale(id: usize, note: &str) -> String {
    format!(
        r#"{{"id":{id},"transaction_timestamp":"2023-01-01 23:43:23","channel":"phone","customer":{{"id":{customer},
        "name":"Dunmore High School","address":{{"street":"300 W Warren St","zip":"18512","floor":null}}}},
        "lines":[{{"sku":"A4-80-{id}","quantity":{quantity},"unit_price":12.50}},
        {{"sku":"LT-20","quantity":3,"unit_price":4.10}}],"total":{id}.10,"discount":0.075,"paid":true,"refunded":false,
        "currency":"USD","exchange_rate":1.000000000000000000000001,"{note}":"Dwight said \"yes\" — twice","tags":[]}}"#,
        customer = id % 97,
        quantity = id % 12 + 1,
    )
}

fn answer(sales: usize) -> Vec<Bytes> {
    let sales: Vec<_> = (0..sales).map(|id| sale(id, "note")).collect();
    let page = format!(r#"{{"result":{{"employee_id":1235,"sales":[{}]}}}}"#, sales.join(","));
    vec![page.into()]
}

fn id(text: &str) -> Id {
    Id::new(text.to_owned()).expect("an id")
}

fn record(json: &str) -> Record {
    let raw = serde_json::from_str(json).expect("JSON");
    Record::from_json(Entity::Sale, raw, Some(&id("1235")), Some(&id("1"))).expect("a record")
}

fn all_records(sales: usize, note: &str) -> Vec<Record> {
    (0..sales).map(|id| record(&sale(id, note))).collect()
}

fn row(record: &Record) -> Row {
    Row {
        attributes: record.attributes.clone(),
        last_modified: Some("2026-11-21T01:00:00.000Z".to_owned()),
        ..Row::default()
    }
}

fn find(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("find");
    for sales in [500, 20_000] {
        let pages = answer(sales);
        let employee_id = id("1235");
        let shape = Shape::Under {
            id_name: "employee_id",
            id: &employee_id,
            list: "sales",
        };
        group.throughput(Throughput::Bytes(pages[0].len() as u64));
        group.bench_function(BenchmarkId::from_parameter(sales), |bencher| {
            bencher.iter(|| {
                let found = records(black_box(&pages), shape).expect("records");
                distinct(Entity::Sale, found, Some(&employee_id)).0.len()
            });
        });
    }
}

fn read(criterion: &mut Criterion) {
    let json = sale(7, "note");
    criterion.bench_function("read", |bencher| bencher.iter(|| record(black_box(&json))));
}

fn compare(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compare");
    for (name, every) in [("unchanged", usize::MAX), ("1_percent_changed", 100)] {
        let records = all_records(500, "note");
        let mut rows: Vec<_> = records.iter().map(row).collect();
        for row in rows.iter_mut().step_by(every) {
            row.attributes
                .insert("paid".to_owned(), Value::Bool(every == usize::MAX));
        }
        group.throughput(Throughput::Elements(records.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let changes = records.iter().zip(&rows).filter(|(record, row)| {
                    Change::between(Entity::Sale, Some(row), black_box(record)) != Change::Unchanged
                });
                changes.count()
            });
        });
    }
}

/// Answers every request as if all of it had been done, without a network.
#[derive(Debug)]
struct Done;

impl HttpConnector for Done {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let is_batch = request
            .headers()
            .get("x-amz-target")
            .is_some_and(|target| target.ends_with("BatchExecuteStatement"));
        let responses = [r#"{"TableName":"sale-bench"}"#; 25].join(",");
        let body = if is_batch {
            format!(r#"{{"Responses":[{responses}]}}"#)
        } else {
            "{}".to_owned()
        };
        let status = 200u16.try_into().expect("a status");
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(body))))
    }
}

fn table() -> DynamoTable {
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("id", "secret", None, None, "bench"))
        .http_client(http_client_fn(|_, _| SharedHttpConnector::new(Done)))
        .build();
    let name = "sale-bench".to_owned();
    DynamoTable::new(Client::from_conf(config), name, Entity::Sale, Jitter::seeded(1))
}

fn insert(record: &Record) -> Write<'_> {
    Write {
        key: &record.key,
        seen: None,
        change: Change::between(Entity::Sale, None, record),
    }
}

/// A slice of new rows, all the way to bytes that are signed. A name with a dot keeps a row out of batches.
fn write(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("write");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let table = table();
    for (name, note) in [("in_batches", "note"), ("one_by_one", "n.te")] {
        let records = all_records(MAX_READ, note);
        group.throughput(Throughput::Elements(records.len() as u64));
        let writes = || -> Vec<_> { records.iter().map(insert).collect() };
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                writes,
                |writes| {
                    let results = runtime.block_on(table.write_all(&writes, NOW));
                    assert!(results.iter().all(|result| matches!(result, Ok(Written::Done))));
                },
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(benches, find, read, compare, write);
criterion_main!(benches);
