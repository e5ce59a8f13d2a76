//! The tables on DynamoDB: the only module that knows its SDK.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementErrorCodeEnum as Code, BatchStatementRequest, BatchStatementResponse,
    KeysAndAttributes, ReturnValuesOnConditionCheckFailure,
};
use futures::StreamExt;
use tokio::sync::Semaphore;

use super::statement::{Parameter, Statement};
use super::{Table, TableError, Write, Written};
use crate::change::{Change, Row};
use crate::entity::{Entity, LAST_MODIFIED};
use crate::id::Id;
use crate::jitter::Jitter;
use crate::number::Number;
use crate::record::Key;
use crate::value::Value;

/// How many requests of this process are under way at one table at once.
const REQUESTS_AT_ONCE: usize = 32;

/// How many statements a batch may have.
///
/// Source: "BatchExecuteStatement", Amazon DynamoDB API Reference.
const MAX_STATEMENTS: usize = 25;

/// The bytes after which a batch ends, however few statements it has: so many batches at once fit into a function's memory.
const BATCH_BYTES: usize = 256 * 1024;

/// How often what DynamoDB left undone is asked for again without any of it being done before that is an error.
const UNPROCESSED_TRIES: u32 = 8;

/// The wait before what was left undone is asked for again; it doubles from try to try.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);

/// How long an expression may be, and how many operators it may have. What is larger is written as a whole item.
///
/// Source: "Expression parameters", quotas in the Amazon DynamoDB Developer Guide.
const MAX_EXPRESSION_BYTES: usize = 4096;
const MAX_OPERATORS: usize = 300;

type Item = HashMap<String, AttributeValue>;

/// One table of DynamoDB.
pub struct DynamoTable {
    client: Client,
    name: String,
    entity: Entity,
    jitter: Jitter,
    at_once: Semaphore,
}

impl DynamoTable {
    /// The table `name`, which holds records of one kind.
    pub fn new(client: Client, name: String, entity: Entity, jitter: Jitter) -> Self {
        Self {
            client,
            name,
            entity,
            jitter,
            at_once: Semaphore::new(REQUESTS_AT_ONCE),
        }
    }

    fn key(&self, key: &Key) -> Item {
        key.attributes(self.entity)
            .map(|(name, id)| (name.to_owned(), AttributeValue::S(id.as_str().to_owned())))
            .collect()
    }

    /// Key and row of an item; `None` if it has no key of the table's, which no item lacks.
    fn row(&self, mut item: Item) -> Option<(Key, Row)> {
        let id = take_id(&mut item, self.entity.partition_key())?;
        let parent = match self.entity.sort_key() {
            Some(name) => Some(take_id(&mut item, name)?),
            None => None,
        };
        Some((Key { id, parent }, row(item)))
    }

    async fn put(&self, key: &Key, mut item: Item, seen: Option<&Row>) -> Result<Written, TableError> {
        item.extend(self.key(key));
        let mut put = self
            .client
            .put_item()
            .table_name(&self.name)
            .set_item(Some(item))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        put = match seen {
            None => put
                .condition_expression("attribute_not_exists(#key)")
                .expression_attribute_names("#key", self.entity.partition_key()),
            Some(seen) => {
                let (condition, value) = as_seen(seen);
                put.condition_expression(condition)
                    .expression_attribute_names("#key", self.entity.partition_key())
                    .expression_attribute_names("#last_modified", LAST_MODIFIED)
                    .expression_attribute_values(":seen", value)
            }
        };
        let result = put.send().await;
        self.written(result.map(drop), |error| match error {
            aws_sdk_dynamodb::operation::put_item::PutItemError::ConditionalCheckFailedException(failed) => {
                Some(failed.item.unwrap_or_default())
            }
            _ => None,
        })
    }

    async fn update(&self, key: &Key, seen: &Row, update: Update, last_modified: &str) -> Result<Written, TableError> {
        let (condition, seen) = as_seen(seen);
        let result = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(self.key(key)))
            .update_expression(update.expression)
            .condition_expression(condition)
            .set_expression_attribute_names(Some(update.names))
            .expression_attribute_names("#key", self.entity.partition_key())
            .set_expression_attribute_values(Some(update.values))
            .expression_attribute_values(":now", AttributeValue::S(last_modified.to_owned()))
            .expression_attribute_values(":seen", seen)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send()
            .await;
        self.written(result.map(drop), |error| match error {
            aws_sdk_dynamodb::operation::update_item::UpdateItemError::ConditionalCheckFailedException(failed) => {
                Some(failed.item.unwrap_or_default())
            }
            _ => None,
        })
    }

    /// What a write's result means; `failed_condition` gives the item that stood in its way, if that was the error.
    fn written<E, R>(
        &self,
        result: Result<(), SdkError<E, R>>,
        failed_condition: impl FnOnce(E) -> Option<Item>,
    ) -> Result<Written, TableError>
    where
        E: Error + ProvideErrorMetadata + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        match result {
            Ok(()) => Ok(Written::Done),
            // About this item alone: the table, its key and the expressions are the same for all.
            Err(SdkError::ServiceError(error)) if error.err().code() == Some("ValidationException") => Ok(
                Written::Refused(error.err().message().unwrap_or("without a reason").to_owned()),
            ),
            Err(SdkError::ServiceError(error)) if error.err().code() == Some("ConditionalCheckFailedException") => {
                let item = failed_condition(error.into_err()).unwrap_or_default();
                Ok(Written::Changed(self.row(item).map(|(_, row)| row)))
            }
            Err(error) => Err(failed_with("write a row", error)),
        }
    }

    async fn turn(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        // The semaphore is never closed.
        self.at_once.acquire().await.ok()
    }

    async fn wait_before(&self, tries: u32) {
        let wait = FIRST_BACKOFF * 2u32.pow(tries.saturating_sub(1));
        tokio::time::sleep(self.jitter.around(wait)).await;
    }

    async fn read_rows(&self, keys: impl Iterator<Item = &Key> + Send) -> Result<HashMap<Key, Row>, TableError> {
        let mut wanted: Vec<_> = keys.map(|key| self.key(key)).collect();
        let mut rows = HashMap::with_capacity(wanted.len());
        let mut tries = 0;
        while !wanted.is_empty() {
            let asked = wanted.len();
            let request = KeysAndAttributes::builder()
                .set_keys(Some(wanted))
                // An old reading could make a change look like none.
                .consistent_read(true)
                .build()
                .map_err(|error| failed_with("accept keys", error))?;
            let answer = self
                .client
                .batch_get_item()
                .request_items(&self.name, request)
                .send()
                .await
                .map_err(|error| failed_with("read rows", error))?;
            let items = answer.responses.unwrap_or_default().into_values().flatten();
            rows.extend(items.filter_map(|item| self.row(item)));
            wanted = answer
                .unprocessed_keys
                .unwrap_or_default()
                .into_values()
                .flat_map(|keys| keys.keys)
                .collect();
            if wanted.is_empty() {
                break;
            }
            tries = if wanted.len() < asked { 1 } else { tries + 1 };
            if tries >= UNPROCESSED_TRIES {
                return Err(failed_with(
                    "read rows",
                    format!("{} keys stayed unprocessed", wanted.len()),
                ));
            }
            self.wait_before(tries).await;
        }
        Ok(rows)
    }

    /// Makes one write with a request of its own.
    async fn write(&self, write: &Write<'_>, last_modified: &str) -> Result<Written, TableError> {
        let _turn = self.turn().await;
        let Write { key, seen, change } = write;
        match (change, seen) {
            (Change::Unchanged, _) => Ok(Written::Done),
            (Change::Update { set, remove }, Some(seen)) => {
                let update = Update::new(set, remove);
                if update.operators <= MAX_OPERATORS && update.expression.len() <= MAX_EXPRESSION_BYTES {
                    return self.update(key, seen, update, last_modified).await;
                }
                let after = change.apply(Some(seen), last_modified);
                let attributes = after.attributes.iter().map(|(name, value)| (name.as_str(), value));
                self.put(key, item(attributes, last_modified), Some(seen)).await
            }
            (Change::Insert(attributes) | Change::Update { set: attributes, .. }, _) => {
                let attributes = attributes.iter().map(|(name, value)| (*name, *value));
                self.put(key, item(attributes, last_modified), *seen).await
            }
        }
    }

    /// Makes a batch of writes.
    async fn write_batch(&self, mut wanted: Vec<Placed<'_>>) -> Vec<Fate> {
        let _turn = self.turn().await;
        let mut fates = Vec::with_capacity(wanted.len());
        let mut conflicts = Vec::new();
        let mut tries = 0;
        while !wanted.is_empty() {
            let asked = wanted.len();
            let responses = match self.execute(&wanted).await {
                Ok(responses) => responses,
                Err(Refusal::OfTheBatch) => {
                    fates.extend(wanted.iter().map(|placed| (placed.place, None)));
                    break;
                }
                Err(Refusal::Failed(error)) => {
                    fates.extend(all_failed(&wanted, error));
                    break;
                }
            };
            let mut again = Vec::new();
            for (placed, response) in wanted.into_iter().zip(responses) {
                match self.outcome(response) {
                    Outcome::Known(result) => fates.push((placed.place, Some(result))),
                    Outcome::Conflict => conflicts.push(placed),
                    Outcome::Refused => fates.push((placed.place, None)),
                    Outcome::Later(reason) => again.push((placed, reason)),
                }
            }
            tries = if again.len() < asked { 1 } else { tries + 1 };
            if tries >= UNPROCESSED_TRIES {
                let failed = again
                    .drain(..)
                    .map(|(placed, reason)| (placed.place, Some(Err(failed_with("write a row", reason)))));
                fates.extend(failed);
            }
            wanted = again.into_iter().map(|(placed, _)| placed).collect();
            if !wanted.is_empty() {
                self.wait_before(tries).await;
            }
        }
        fates.extend(self.changed(conflicts).await);
        fates
    }

    /// The rows that stood in the way of writes, as they are now.
    async fn changed(&self, conflicts: Vec<Placed<'_>>) -> Vec<Fate> {
        match self.read_rows(conflicts.iter().map(|placed| placed.key)).await {
            Ok(mut rows) => conflicts
                .iter()
                .map(|placed| (placed.place, Some(Ok(Written::Changed(rows.remove(placed.key))))))
                .collect(),
            Err(error) => all_failed(&conflicts, error).collect(),
        }
    }

    /// Sends a batch's statements. Its answer has a response for each.
    async fn execute(&self, batch: &[Placed<'_>]) -> Result<Vec<BatchStatementResponse>, Refusal> {
        let statements = batch
            .iter()
            .map(|placed| request(&placed.statement))
            .collect::<Result<_, _>>()
            .map_err(|error| Refusal::Failed(failed_with("accept a statement", error)))?;
        let answer = self
            .client
            .batch_execute_statement()
            .set_statements(Some(statements))
            .send()
            .await;
        match answer {
            Ok(answer) => match answer.responses.unwrap_or_default() {
                responses if responses.len() == batch.len() => Ok(responses),
                responses => Err(Refusal::Failed(failed_with(
                    "say what became of each write",
                    format!("{} statements had {} answers", batch.len(), responses.len()),
                ))),
            },
            // One of them may be to blame; by themselves the others are not.
            Err(SdkError::ServiceError(error)) if error.err().code() == Some("ValidationException") => {
                Err(Refusal::OfTheBatch)
            }
            Err(error) => Err(Refusal::Failed(failed_with("write rows", error))),
        }
    }

    /// What a statement's response means.
    fn outcome(&self, response: BatchStatementResponse) -> Outcome {
        let Some(error) = response.error else {
            return Outcome::Known(Ok(Written::Done));
        };
        let reason = || {
            let code = error.code.as_ref().map_or("without a code", Code::as_str);
            format!("{code}: {}", error.message.as_deref().unwrap_or_default())
        };
        match error.code {
            Some(Code::ConditionalCheckFailed | Code::DuplicateItem) => {
                match error.item.and_then(|item| self.row(item)) {
                    Some((_, row)) => Outcome::Known(Ok(Written::Changed(Some(row)))),
                    // There is no row any more, or nothing was said of it; an `INSERT` never says.
                    None => Outcome::Conflict,
                }
            }
            Some(Code::ValidationError) => Outcome::Refused,
            Some(
                Code::ThrottlingError
                | Code::ProvisionedThroughputExceeded
                | Code::RequestLimitExceeded
                | Code::InternalServerError
                | Code::TransactionConflict,
            ) => Outcome::Later(reason()),
            // About the table or us, as far as is known.
            _ => Outcome::Known(Err(failed_with("write a row", reason()))),
        }
    }

    /// The writes that go in batches, and the places of those that do not.
    fn batches<'a>(&self, writes: &'a [Write<'a>], last_modified: &'a str) -> (Vec<Vec<Placed<'a>>>, Vec<usize>) {
        let mut batches: Vec<Vec<Placed<'a>>> = Vec::new();
        let (mut alone, mut bytes) = (Vec::new(), 0);
        for (place, write) in writes.iter().enumerate() {
            let Some(statement) = Statement::new(self.entity, &self.name, write, last_modified) else {
                alone.push(place);
                continue;
            };
            let size = statement.size();
            let placed = Placed {
                place,
                key: write.key,
                statement,
            };
            match batches.last_mut() {
                Some(batch) if batch.len() < MAX_STATEMENTS && bytes + size <= BATCH_BYTES => {
                    bytes += size;
                    batch.push(placed);
                }
                _ => {
                    bytes = size;
                    batches.push(vec![placed]);
                }
            }
        }
        // A batch of one saves nothing, and its statement would have to be parsed.
        alone.extend(
            batches
                .extract_if(.., |batch| batch.len() == 1)
                .flatten()
                .map(|placed| placed.place),
        );
        (batches, alone)
    }
}

/// A statement, the place of its write, and the key.
struct Placed<'a> {
    place: usize,
    key: &'a Key,
    statement: Statement<'a>,
}

/// A write's place, and what became of it; `None` if it has to be made by itself.
type Fate = (usize, Option<Result<Written, TableError>>);

/// Why a batch has no responses.
enum Refusal {
    /// DynamoDB finds fault with it, and does none of it.
    OfTheBatch,
    /// It may not have been done.
    Failed(TableError),
}

/// What a statement's response means.
enum Outcome {
    /// This has become of the write.
    Known(Result<Written, TableError>),
    /// The row is no longer as it was read; how it is now has to be read.
    Conflict,
    /// DynamoDB finds fault with the statement, or with the item.
    Refused,
    /// It was not done this time.
    Later(String),
}

fn request(statement: &Statement<'_>) -> Result<BatchStatementRequest, aws_sdk_dynamodb::error::BuildError> {
    let parameters = statement.parameters.iter().map(|parameter| match parameter {
        Parameter::Text(text) => AttributeValue::S((*text).to_owned()),
        Parameter::Value(value) => to_attribute(value),
    });
    BatchStatementRequest::builder()
        .statement(&statement.text)
        .set_parameters(Some(parameters.collect()))
        .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
        .build()
}

/// One error for each of the writes that it kept from being done.
fn all_failed(batch: &[Placed<'_>], error: TableError) -> impl Iterator<Item = Fate> {
    let source: Arc<dyn Error + Send + Sync> = error.source.into();
    batch
        .iter()
        .map(move |placed| (placed.place, Some(Err(failed_with(error.action, Arc::clone(&source))))))
}

#[async_trait]
impl Table for DynamoTable {
    fn entity(&self) -> Entity {
        self.entity
    }

    async fn read(&self, keys: Vec<Key>) -> Result<HashMap<Key, Row>, TableError> {
        let _turn = self.turn().await;
        self.read_rows(keys.iter()).await
    }

    async fn write_all(&self, writes: &[Write<'_>], last_modified: &str) -> Vec<Result<Written, TableError>> {
        let mut results: Vec<_> = writes.iter().map(|_| None).collect();
        let (batches, mut alone) = self.batches(writes, last_modified);
        let work: Vec<_> = batches.into_iter().map(|batch| self.write_batch(batch)).collect();
        let mut outcomes = futures::stream::iter(work).buffer_unordered(REQUESTS_AT_ONCE);
        while let Some(batch) = outcomes.next().await {
            for (place, result) in batch {
                match result {
                    Some(result) => results[place] = Some(result),
                    None => alone.push(place),
                }
            }
        }
        let work: Vec<_> = alone
            .into_iter()
            .map(|place| async move { (place, self.write(&writes[place], last_modified).await) })
            .collect();
        let mut outcomes = futures::stream::iter(work).buffer_unordered(REQUESTS_AT_ONCE);
        while let Some((place, result)) = outcomes.next().await {
            results[place] = Some(result);
        }
        let unknown = || Err(failed_with("write a row", "nothing became of it"));
        results
            .into_iter()
            .map(|result| result.unwrap_or_else(unknown))
            .collect()
    }
}

/// An update's expression.
struct Update {
    expression: String,
    names: HashMap<String, String>,
    values: Item,
    operators: usize,
}

impl Update {
    fn new(set: &BTreeMap<&str, &Value>, remove: &BTreeSet<&str>) -> Self {
        let mut expression = "SET #last_modified = :now".to_owned();
        let mut names = HashMap::from([("#last_modified".to_owned(), LAST_MODIFIED.to_owned())]);
        let mut values = HashMap::new();
        for (place, (name, value)) in set.iter().enumerate() {
            expression.push_str(&format!(", #s{place} = :s{place}"));
            names.insert(format!("#s{place}"), (*name).to_owned());
            values.insert(format!(":s{place}"), to_attribute(value));
        }
        for (place, name) in remove.iter().enumerate() {
            expression.push_str(if place == 0 { " REMOVE " } else { ", " });
            expression.push_str(&format!("#r{place}"));
            names.insert(format!("#r{place}"), (*name).to_owned());
        }
        Self {
            expression,
            names,
            values,
            operators: 1 + set.len() + remove.len(),
        }
    }
}

/// The condition that a row is as it was seen, and the value it needs. Every write sets `last_modified`, so that a row
/// with the same one is the same.
fn as_seen(seen: &Row) -> (&'static str, AttributeValue) {
    match &seen.last_modified {
        Some(last_modified) => (
            "attribute_exists(#key) AND #last_modified = :seen",
            AttributeValue::S(last_modified.clone()),
        ),
        None => (
            "attribute_exists(#key) AND NOT attribute_type(#last_modified, :seen)",
            AttributeValue::S("S".to_owned()),
        ),
    }
}

fn take_id(item: &mut Item, name: &str) -> Option<Id> {
    match item.remove(name)? {
        AttributeValue::S(id) => Id::new(id).ok(),
        _ => None,
    }
}

fn row(item: Item) -> Row {
    let mut row = Row::default();
    for (name, attribute) in item {
        match (name.as_str(), attribute) {
            (LAST_MODIFIED, AttributeValue::S(last_modified)) => row.last_modified = Some(last_modified),
            (LAST_MODIFIED, _) => {}
            (_, attribute) => match from_attribute(attribute) {
                Some(value) => {
                    row.attributes.insert(name, value);
                }
                None => {
                    row.foreign.insert(name);
                }
            },
        }
    }
    row
}

fn item<'a>(attributes: impl Iterator<Item = (&'a str, &'a Value)>, last_modified: &str) -> Item {
    let mut item: Item = attributes
        .map(|(name, value)| (name.to_owned(), to_attribute(value)))
        .collect();
    item.insert(LAST_MODIFIED.to_owned(), AttributeValue::S(last_modified.to_owned()));
    item
}

fn to_attribute(value: &Value) -> AttributeValue {
    match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(flag) => AttributeValue::Bool(*flag),
        Value::Number(number) => AttributeValue::N(number.to_string()),
        Value::String(text) => AttributeValue::S(text.clone()),
        Value::Array(elements) => AttributeValue::L(elements.iter().map(to_attribute).collect()),
        Value::Object(members) => AttributeValue::M(
            members
                .iter()
                .map(|(name, value)| (name.clone(), to_attribute(value)))
                .collect(),
        ),
    }
}

/// The value, or `None` if it is, or holds, one of a type that JSON does not have.
fn from_attribute(attribute: AttributeValue) -> Option<Value> {
    Some(match attribute {
        AttributeValue::Null(_) => Value::Null,
        AttributeValue::Bool(flag) => Value::Bool(flag),
        AttributeValue::N(number) => Value::Number(Number::parse(&number).ok()?),
        AttributeValue::S(text) => Value::String(text),
        AttributeValue::L(elements) => Value::Array(elements.into_iter().map(from_attribute).collect::<Option<_>>()?),
        AttributeValue::M(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, value)| Some((name, from_attribute(value)?)))
                .collect::<Option<_>>()?,
        ),
        // Sets, binary, and whatever DynamoDB comes to have.
        _ => return None,
    })
}

fn failed_with(action: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> TableError {
    TableError {
        action,
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::tests::any_json;
    use aws_sdk_dynamodb::config::{BehaviorVersion, Config, Credentials, Region};
    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };
    use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
    use aws_smithy_types::body::SdkBody;
    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use std::collections::VecDeque;
    use std::sync::Mutex;

    /// A DynamoDB that gives prepared answers, the last of them for ever, and keeps how many statements it was sent.
    #[derive(Clone, Debug)]
    struct Scripted {
        answers: Arc<Mutex<VecDeque<(u16, String)>>>,
        statements: Arc<Mutex<Vec<usize>>>,
    }

    impl Scripted {
        fn new<const N: usize>(answers: [(u16, String); N]) -> Self {
            Self {
                answers: Arc::new(Mutex::new(answers.into())),
                statements: Arc::default(),
            }
        }

        fn table(&self) -> DynamoTable {
            let connector = SharedHttpConnector::new(self.clone());
            let config = Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .region(Region::new("us-east-1"))
                .credentials_provider(Credentials::new("id", "secret", None, None, "test"))
                .http_client(http_client_fn(move |_, _| connector.clone()))
                .build();
            let name = "branch-dev".to_owned();
            DynamoTable::new(Client::from_conf(config), name, Entity::Branch, Jitter::seeded(1))
        }

        fn statements(&self) -> Vec<usize> {
            self.statements.lock().unwrap().clone()
        }
    }

    impl HttpConnector for Scripted {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let body: serde_json::Value = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
            let statements = body["Statements"].as_array().map_or(0, Vec::len);
            self.statements.lock().unwrap().push(statements);
            let mut answers = self.answers.lock().unwrap();
            let (status, body) = match answers.len() {
                1 => answers[0].clone(),
                _ => answers.pop_front().unwrap(),
            };
            let status = status.try_into().unwrap();
            HttpConnectorFuture::ready(Ok(HttpResponse::new(status, SdkBody::from(body))))
        }
    }

    fn responses(responses: &[&str]) -> (u16, String) {
        let responses: Vec<_> = responses
            .iter()
            .map(|code| match *code {
                "" => "{}".to_owned(),
                code => format!(r#"{{"Error": {{"Code": "{code}", "Message": "no"}}}}"#),
            })
            .collect();
        (200, format!(r#"{{"Responses": [{}]}}"#, responses.join(",")))
    }

    /// Writes three new rows to a DynamoDB of prepared answers.
    async fn write_three(dynamodb: &Scripted) -> Vec<Result<Written, TableError>> {
        let keys = ["1", "2", "3"].map(|id| Key {
            id: Id::new(id.to_owned()).unwrap(),
            parent: None,
        });
        let write = |key| Write {
            key,
            seen: None,
            change: Change::Insert(BTreeMap::new()),
        };
        let writes: Vec<_> = keys.iter().map(write).collect();
        dynamodb.table().write_all(&writes, "2026-11-21T01:00:00.000Z").await
    }

    #[tokio::test(start_paused = true)]
    async fn throttled_statements_are_sent_again_and_no_others() {
        let dynamodb = Scripted::new([
            responses(&["", "ThrottlingError", "ProvisionedThroughputExceeded"]),
            responses(&["InternalServerError", ""]),
            responses(&["RequestLimitExceeded"]),
            responses(&[""]),
        ]);
        let results = write_three(&dynamodb).await;
        assert!(
            results.iter().all(|result| matches!(result, Ok(Written::Done))),
            "{results:?}"
        );
        assert_eq!(dynamodb.statements(), [3, 2, 1, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_stays_throttled_is_an_error_in_the_end_and_never_dropped() {
        let dynamodb = Scripted::new([responses(&["", "ThrottlingError", ""]), responses(&["ThrottlingError"])]);
        let results = write_three(&dynamodb).await;
        assert!(
            matches!(results[..], [Ok(Written::Done), Err(_), Ok(Written::Done)]),
            "{results:?}"
        );
        assert_eq!(dynamodb.statements().len(), UNPROCESSED_TRIES as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_in_the_way_of_an_insert_is_read_and_the_rest_stays_written() {
        let row = r#"{"Responses": {"branch-dev": [{"branch_id": {"S": "2"}, "last_modified": {"S": "then"}}]}}"#;
        let dynamodb = Scripted::new([responses(&["", "DuplicateItem", ""]), (200, row.to_owned())]);
        let results = write_three(&dynamodb).await;
        let now = Row {
            last_modified: Some("then".to_owned()),
            ..Row::default()
        };
        assert_eq!(*results[1].as_ref().unwrap(), Written::Changed(Some(now)));
        assert!(
            matches!(results[..], [Ok(Written::Done), _, Ok(Written::Done)]),
            "{results:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_statement_that_is_refused_is_written_by_itself_for_the_reason() {
        let refusal = r#"{"__type": "ValidationException", "message": "too odd"}"#;
        let dynamodb = Scripted::new([responses(&["", "ValidationError", ""]), (400, refusal.to_owned())]);
        let results = write_three(&dynamodb).await;
        assert_eq!(*results[1].as_ref().unwrap(), Written::Refused("too odd".to_owned()));
        assert_eq!(dynamodb.statements(), [3, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_that_fails_is_an_error_of_each_of_its_rows() {
        let refusal = r#"{"__type": "AccessDeniedException", "message": "not you"}"#;
        let short = responses(&["", ""]);
        for answer in [(400, refusal.to_owned()), short, responses(&["AccessDenied"; 3])] {
            let results = write_three(&Scripted::new([answer])).await;
            assert!(results.iter().all(Result::is_err), "{results:?}");
        }
    }

    #[test]
    fn types_that_json_does_not_have_are_foreign() {
        let set = AttributeValue::Ss(vec!["a".to_owned()]);
        let nested = AttributeValue::L(vec![AttributeValue::Null(true), set.clone()]);
        let item = HashMap::from([
            ("set".to_owned(), set),
            ("nested".to_owned(), nested),
            ("text".to_owned(), AttributeValue::S("a".to_owned())),
            (LAST_MODIFIED.to_owned(), AttributeValue::N("7".to_owned())),
        ]);
        let row = row(item);
        assert_eq!(row.foreign, ["nested", "set"].map(str::to_owned).into());
        assert_eq!(row.attributes.into_keys().collect::<Vec<_>>(), ["text"]);
        assert_eq!(row.last_modified, None);
    }

    #[test]
    fn an_update_names_each_attribute_once() {
        let set = BTreeMap::from([("a.b", &Value::Null), ("c", &Value::Bool(true))]);
        let update = Update::new(&set, &["d", "e"].into());
        assert_eq!(
            update.expression,
            "SET #last_modified = :now, #s0 = :s0, #s1 = :s1 REMOVE #r0, #r1"
        );
        assert_eq!((update.names.len(), update.values.len(), update.operators), (5, 2, 5));
        assert_eq!(update.names["#s0"], "a.b");
    }

    proptest! {
        #[test]
        fn any_value_comes_back_from_dynamodbs_types_as_it_was(json in any_json()) {
            let text = json.to_string();
            let raw: &RawValue = serde_json::from_str(&text).unwrap();
            let value = Value::from_json(raw).unwrap();
            prop_assert_eq!(from_attribute(to_attribute(&value)), Some(value));
        }
    }
}
