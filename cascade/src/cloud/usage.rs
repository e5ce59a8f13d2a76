//! What was asked of the cloud, and what AWS would bill for it: counted always, because it costs next to nothing.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use axum::body::Bytes;
use dynoxide::types::{Item, item_size};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// DynamoDB's operations that answer what they used up, if they are asked to.
const METERED: [&str; 13] = [
    "BatchExecuteStatement",
    "BatchGetItem",
    "BatchWriteItem",
    "DeleteItem",
    "ExecuteStatement",
    "ExecuteTransaction",
    "GetItem",
    "PutItem",
    "Query",
    "Scan",
    "TransactGetItems",
    "TransactWriteItems",
    "UpdateItem",
];

/// Those of them that are paid for in read units.
const READS: [&str; 5] = ["BatchGetItem", "GetItem", "Query", "Scan", "TransactGetItems"];

/// What is counted together: the requests of one operation on one table, queue or topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// `DynamoDB`, `DynamoDBStreams`, `SQS` or `SNS`.
    pub service: &'static str,
    /// The operation, such as `UpdateItem`.
    pub operation: String,
    /// The table's or queue's name; several of one request are separated by commas. Empty if it names none.
    pub resource: String,
}

/// What requests came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Used {
    /// How many there were.
    pub requests: u64,
    /// Bytes of the requests' bodies.
    pub bytes_in: u64,
    /// Bytes of the answers' bodies.
    pub bytes_out: u64,
    /// DynamoDB's read request units: one for 4 KB of an item read strongly consistently, half of it otherwise; an item
    /// that is not there costs as much as one that is small.
    pub read_units: f64,
    /// DynamoDB's write request units: one for 1 KB of the item before or after the write, whichever is larger. A write
    /// whose condition was not met costs them too.
    pub write_units: f64,
}

impl std::ops::AddAssign for Used {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.read_units += other.read_units;
        self.write_units += other.write_units;
    }
}

/// What was asked of the cloud since its start, or between two moments.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage(BTreeMap<Asked, Used>);

impl Usage {
    /// What came after `earlier`, a usage of the same cloud.
    pub fn since(&self, earlier: &Self) -> Self {
        let rest = self.0.iter().map(|(asked, now)| {
            let before = earlier.0.get(asked).copied().unwrap_or_default();
            let rest = Used {
                requests: now.requests.saturating_sub(before.requests),
                bytes_in: now.bytes_in.saturating_sub(before.bytes_in),
                bytes_out: now.bytes_out.saturating_sub(before.bytes_out),
                read_units: now.read_units - before.read_units,
                write_units: now.write_units - before.write_units,
            };
            (asked.clone(), rest)
        });
        Self(rest.filter(|(_, used)| *used != Used::default()).collect())
    }

    /// The sum over what `counts` picks.
    pub fn of(&self, counts: impl Fn(&Asked) -> bool) -> Used {
        let mut sum = Used::default();
        let picked = self.0.iter().filter(|(asked, _)| counts(asked));
        picked.for_each(|(_, used)| sum += *used);
        sum
    }

    /// How many requests there were of each operation that `counts` picks.
    pub fn requests_by_operation(&self, counts: impl Fn(&Asked) -> bool) -> BTreeMap<String, u64> {
        let mut requests = BTreeMap::new();
        for (asked, used) in self.0.iter().filter(|(asked, _)| counts(asked)) {
            *requests.entry(asked.operation.clone()).or_default() += used.requests;
        }
        requests
    }

    /// How many requests there were, by service and operation, such as `DynamoDB.UpdateItem`.
    pub(super) fn requests(&self) -> BTreeMap<String, u64> {
        let mut requests = BTreeMap::new();
        for (asked, used) in &self.0 {
            let name = format!("{}.{}", asked.service, asked.operation);
            *requests.entry(name).or_default() += used.requests;
        }
        requests
    }
}

/// Where it is written down.
#[derive(Default)]
pub(super) struct Meter(Mutex<Usage>);

impl Meter {
    /// Counts a request as it comes in.
    pub(super) fn begin(&self, asked: &Asked, bytes_in: usize) {
        let used = Used {
            requests: 1,
            bytes_in: bytes_in as u64,
            ..Used::default()
        };
        self.add(asked, used);
    }

    /// Counts what its answer came to.
    pub(super) fn add(&self, asked: &Asked, used: Used) {
        let mut usage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match usage.0.get_mut(asked) {
            Some(sum) => *sum += used,
            None => drop(usage.0.insert(asked.clone(), used)),
        }
    }

    pub(super) fn usage(&self) -> Usage {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Asked {
    pub(super) fn of(service: &'static str, operation: &str, resource: String) -> Self {
        Self {
            service,
            operation: operation.to_owned(),
            resource,
        }
    }

    /// A request to SQS.
    pub(super) fn of_queue(operation: &str, body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Names {
            #[serde(rename = "QueueUrl")]
            url: Option<String>,
            #[serde(rename = "QueueName")]
            name: Option<String>,
        }
        let names = serde_json::from_slice::<Names>(body).ok();
        let queue = names.and_then(|names| names.url.or(names.name));
        let queue = queue.map(|queue| queue.rsplit('/').next().unwrap_or_default().to_owned());
        Self::of("SQS", operation, queue.unwrap_or_default())
    }
}

/// A request to DynamoDB, and how its units come to be known: the database is asked for them in the client's name.
pub(super) struct Metered {
    pub(super) asked: Asked,
    /// The request as it is handed on.
    pub(super) body: Bytes,
    /// Whether the client does not expect the units in its answer.
    unasked: bool,
    /// Whether the units are read units.
    reads: bool,
}

/// A statement of a batch.
#[derive(Deserialize)]
struct Statement<'a> {
    #[serde(rename = "Statement", borrow)]
    text: Cow<'a, str>,
}

/// The table that a PartiQL statement is about: what is quoted first, in the way in which tables are.
fn table_of(statement: &str) -> Option<&str> {
    statement.split('"').nth(1)
}

fn is_select(statement: &str) -> bool {
    let verb = statement.trim_start().get(..6);
    verb.is_some_and(|verb| verb.eq_ignore_ascii_case("select"))
}

impl Metered {
    /// Of a request that could not be read, nothing but its number is counted.
    pub(super) fn new(operation: &str, body: Bytes) -> Self {
        #[derive(Deserialize)]
        struct Names<'a> {
            #[serde(rename = "TableName", borrow)]
            table: Option<Cow<'a, str>>,
            #[serde(rename = "RequestItems", borrow)]
            tables: Option<BTreeMap<Cow<'a, str>, IgnoredAny>>,
            #[serde(rename = "Statement", borrow)]
            statement: Option<Cow<'a, str>>,
            #[serde(rename = "Statements", alias = "TransactStatements", default, borrow)]
            statements: Vec<Statement<'a>>,
        }
        let text = std::str::from_utf8(&body).unwrap_or_default();
        let names = serde_json::from_str::<Names>(text).ok();
        let statements = || {
            let names = names.as_ref()?;
            let several = names.statements.iter().map(|statement| &statement.text);
            Some(names.statement.iter().chain(several))
        };
        let resource = match &names {
            Some(Names { table: Some(table), .. }) => table.to_string(),
            Some(Names {
                tables: Some(tables), ..
            }) => tables.keys().map(AsRef::as_ref).collect::<Vec<_>>().join(","),
            Some(_) => {
                let tables: BTreeSet<_> = statements()
                    .into_iter()
                    .flatten()
                    .filter_map(|text| table_of(text))
                    .collect();
                tables.into_iter().collect::<Vec<_>>().join(",")
            }
            None => String::new(),
        };
        // A batch of statements either reads or writes.
        let selects = statements()
            .and_then(|mut statements| statements.next())
            .is_some_and(|first| is_select(first));
        let reads = selects || READS.contains(&operation);
        let asked = Asked::of("DynamoDB", operation, resource);
        let inside = text.trim_start().strip_prefix('{');
        let inside = inside.filter(|_| names.is_some() && METERED.contains(&operation));
        match inside.filter(|inside| !inside.contains("ReturnConsumedCapacity")) {
            Some(inside) => {
                let comma = if inside.trim_start().starts_with('}') { "" } else { "," };
                let body = format!("{{\"ReturnConsumedCapacity\":\"TOTAL\"{comma}{inside}").into();
                Self {
                    asked,
                    body,
                    unasked: true,
                    reads,
                }
            }
            None => Self {
                asked,
                body,
                unasked: false,
                reads,
            },
        }
    }

    /// The answer as the client expects it, and what it came to.
    pub(super) fn answer(&self, succeeded: bool, body: Bytes) -> (Bytes, Used) {
        let (body, units) = if succeeded {
            self.take_units(body)
        } else {
            let units = units_of_failure(&body);
            (body, units)
        };
        let reads = self.reads;
        let used = Used {
            bytes_out: body.len() as u64,
            read_units: if reads { units } else { 0.0 },
            write_units: if reads { 0.0 } else { units },
            ..Used::default()
        };
        (body, used)
    }

    fn take_units(&self, body: Bytes) -> (Bytes, f64) {
        let text = std::str::from_utf8(&body).unwrap_or_default();
        let Ok(mut members) = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(text) else {
            return (body, 0.0);
        };
        let Some(consumed) = members.remove("ConsumedCapacity") else {
            return (body, 0.0);
        };
        let units = units(consumed);
        match serde_json::to_vec(&members) {
            Ok(rest) if self.unasked => (rest.into(), units),
            _ => (body, units),
        }
    }
}

/// The sum over all tables.
fn units(consumed: &RawValue) -> f64 {
    #[derive(Deserialize)]
    struct Consumed {
        #[serde(rename = "CapacityUnits", default)]
        units: f64,
    }
    let several = serde_json::from_str::<Vec<Consumed>>(consumed.get());
    let one = || serde_json::from_str::<Consumed>(consumed.get()).map(|one| vec![one]);
    let tables = several.or_else(|_| one()).unwrap_or_default();
    tables.iter().map(|table| table.units).sum()
}

/// A write whose condition was not met costs what the item in its way would, and at least one unit. How large that is,
/// is known only where the client asked for the item.
fn units_of_failure(body: &[u8]) -> f64 {
    #[derive(Deserialize)]
    struct Failure {
        #[serde(rename = "__type", default)]
        kind: String,
        #[serde(rename = "Item", default)]
        item: Item,
    }
    match serde_json::from_slice::<Failure>(body) {
        Ok(failure) if failure.kind.ends_with("ConditionalCheckFailedException") => {
            item_size(&failure.item).div_ceil(1024).max(1) as f64
        }
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn metered(operation: &str, body: &str) -> (String, Value) {
        let metered = Metered::new(operation, body.to_owned().into());
        let handed_on = serde_json::from_slice(&metered.body).unwrap();
        (metered.asked.resource, handed_on)
    }

    fn counts(requests: u64, read_units: f64) -> Used {
        Used {
            requests,
            read_units,
            ..Used::default()
        }
    }

    #[test]
    fn what_came_between_two_moments_is_their_difference() {
        // given
        let meter = Meter::default();
        let get = Asked::of("DynamoDB", "GetItem", "sale-test".to_owned());
        let receive = Asked::of_queue(
            "ReceiveMessage",
            br#"{"QueueUrl": "http://127.0.0.1:1/0/sale-queue-test"}"#,
        );
        meter.add(&get, counts(3, 1.5));
        meter.add(&receive, counts(1, 0.0));
        let before = meter.usage();
        // when
        meter.begin(&get, 10);
        meter.add(&get, counts(0, 0.5));
        let between = meter.usage().since(&before);
        // then
        assert_eq!(
            between.of(|_| true),
            Used {
                bytes_in: 10,
                ..counts(1, 0.5)
            }
        );
        assert_eq!(
            between.requests_by_operation(|_| true),
            BTreeMap::from([("GetItem".to_owned(), 1)])
        );
        assert_eq!(
            meter.usage().of(|asked| asked.resource == "sale-queue-test").requests,
            1
        );
        assert_eq!(meter.usage().requests()["DynamoDB.GetItem"], 4);
    }

    #[test]
    fn the_units_are_asked_for_where_they_can_be_and_the_client_did_not() {
        let total = json!("TOTAL");
        let (table, handed_on) = metered("GetItem", r#" {"TableName": "a", "Key": {}}"#);
        assert_eq!((table.as_str(), &handed_on["ReturnConsumedCapacity"]), ("a", &total));
        let (tables, handed_on) = metered("BatchGetItem", r#"{"RequestItems": {"b": {"Keys": []}, "a": {}}}"#);
        assert_eq!((tables.as_str(), &handed_on["ReturnConsumedCapacity"]), ("a,b", &total));
        let insert =
            r#"{"Statements": [{"Statement": "INSERT INTO \"c\" VALUE {'id':?}", "Parameters": [{"S": "1"}]}]}"#;
        let (tables, handed_on) = metered("BatchExecuteStatement", insert);
        assert_eq!((tables.as_str(), &handed_on["ReturnConsumedCapacity"]), ("c", &total));
        assert_eq!(metered("Scan", "{}").1, json!({"ReturnConsumedCapacity": "TOTAL"}));
        for (operation, body) in [
            ("DescribeTable", r#"{"TableName": "a"}"#),
            ("GetItem", r#"{"TableName": "a", "ReturnConsumedCapacity": "NONE"}"#),
            ("GetItem", "[]"),
            ("GetItem", r#"{"TableName": 1}"#),
        ] {
            assert_eq!(metered(operation, body).1, serde_json::from_str::<Value>(body).unwrap());
        }
    }

    #[test]
    fn the_client_is_answered_what_it_asked_for_and_the_units_are_counted() {
        let answer =
            r#"{"Responses":{"a":[{"n":{"N":"1.10"}}]},"ConsumedCapacity":[{"TableName":"a","CapacityUnits":2.5}]}"#;
        let asked = |body: &'static str| {
            let metered = Metered::new("BatchGetItem", body.into());
            let (answer, used) = metered.answer(true, answer.into());
            assert_eq!((used.read_units, used.write_units), (2.5, 0.0));
            answer
        };
        assert_eq!(
            asked(r#"{"RequestItems":{}}"#),
            r#"{"Responses":{"a":[{"n":{"N":"1.10"}}]}}"#
        );
        assert_eq!(asked(r#"{"RequestItems":{},"ReturnConsumedCapacity":"TOTAL"}"#), answer);
    }

    #[test]
    fn statements_cost_what_their_verb_says() {
        let answer = r#"{"Responses":[{}],"ConsumedCapacity":[{"TableName":"a","CapacityUnits":1.0}]}"#;
        for (statement, expected) in [
            (r#"UPDATE \"a\" SET \"b\"=?"#, (0.0, 1.0)),
            (r#"select * from \"a\""#, (1.0, 0.0)),
        ] {
            let request = format!(r#"{{"Statements":[{{"Statement":"{statement}"}}]}}"#);
            let metered = Metered::new("BatchExecuteStatement", request.into());
            assert_eq!(metered.asked.resource, "a");
            let used = metered.answer(true, answer.into()).1;
            assert_eq!((used.read_units, used.write_units), expected, "{statement}");
        }
    }

    #[test]
    fn a_condition_that_is_not_met_costs_what_the_item_in_its_way_would() {
        let put = Metered::new("PutItem", r#"{"TableName":"a"}"#.into());
        let units = |answer: Value| put.answer(false, answer.to_string().into()).1.write_units;
        let kind = "com.amazonaws.dynamodb.v20120810#ConditionalCheckFailedException";
        assert_eq!(units(json!({ "__type": kind })), 1.0);
        let long = "x".repeat(2000);
        assert_eq!(units(json!({"__type": kind, "Item": {"text": {"S": long}}})), 2.0);
        assert_eq!(
            units(json!({"__type": "com.amazon.coral.validate#ValidationException"})),
            0.0
        );
    }
}
