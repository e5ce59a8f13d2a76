//! The state table on DynamoDB.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes, ReturnValue, ReturnValuesOnConditionCheckFailure};
use serde_json::{Map, Number, Value};
use time::UtcDateTime;
use tokio::time::sleep;

use super::{Addition, Entry, StateError, StateTable, Swapped};

/// The partition key.
pub const ID: &str = "id";

/// The attribute by which DynamoDB's time to live removes an entry, in seconds since 1970.
pub const EXPIRES_AT: &str = "expires_at";

const VERSION: &str = "version";

/// How often a request is tried in all, and how long one try may take. Whoever asks goes on without the table sooner
/// rather than later.
const TRIES: u32 = 3;
const TRY: Duration = Duration::from_secs(2);
const CONNECT: Duration = Duration::from_secs(1);

/// How many entries one request reads; DynamoDB's limit.
const MOST_READ: usize = 100;

/// How long before each try those entries are waited for that DynamoDB left out of the one before.
const READ_AGAIN_AFTER: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1600),
];

/// An item as the SDK has it.
type Item = HashMap<String, AttributeValue>;

/// The state table on DynamoDB.
pub struct DynamoState {
    client: Client,
    table: String,
}

impl DynamoState {
    /// The table `table`.
    pub fn new(aws: &SdkConfig, table: String) -> Self {
        let config = aws_sdk_dynamodb::config::Builder::from(aws)
            .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT)
                    .operation_attempt_timeout(TRY)
                    .build(),
            )
            .build();
        Self {
            client: Client::from_conf(config),
            table,
        }
    }

    /// Those of the entries `ids` that are there, by their ids, as they were a moment ago: a reading that may be old costs half
    /// of one that may not.
    ///
    /// # Errors
    /// If they could not be read.
    pub async fn read_all(&self, ids: &[String]) -> Result<BTreeMap<String, Entry>, StateError> {
        let mut entries = BTreeMap::new();
        for part in ids.chunks(MOST_READ) {
            let keys = part
                .iter()
                .map(|id| Item::from([(ID.to_owned(), AttributeValue::S(id.clone()))]));
            let mut left = Some(keys.collect::<Vec<_>>());
            for wait in READ_AGAIN_AFTER {
                let Some(keys) = left.take() else { break };
                sleep(wait).await;
                left = self.read_part(keys, &mut entries).await?;
            }
            if left.is_some() {
                return Err(StateError {
                    action: "be read",
                    source: "DynamoDB left entries out again and again: it is asked for more than it gives".into(),
                });
            }
        }
        Ok(entries)
    }

    /// Adds the entries of these keys to `entries`; answers the keys that were left out, if there are any.
    async fn read_part(
        &self,
        keys: Vec<Item>,
        entries: &mut BTreeMap<String, Entry>,
    ) -> Result<Option<Vec<Item>>, StateError> {
        let request = KeysAndAttributes::builder().set_keys(Some(keys)).build();
        let request = request.map_err(|error| StateError {
            action: "be read",
            source: error.into(),
        })?;
        let asked = self.client.batch_get_item().request_items(&self.table, request);
        let answer = asked.send().await.map_err(|error| failed("be read", error))?;
        let items = answer.responses.and_then(|mut tables| tables.remove(&self.table));
        for item in items.unwrap_or_default() {
            let id = item.get(ID).and_then(|id| id.as_s().ok()).cloned();
            entries.extend(id.map(|id| (id, entry(item))));
        }
        let left = answer
            .unprocessed_keys
            .and_then(|mut tables| tables.remove(&self.table));
        Ok(left.map(|left| left.keys).filter(|keys| !keys.is_empty()))
    }
}

#[async_trait]
impl StateTable for DynamoState {
    async fn read(&self, id: &str) -> Result<Option<Entry>, StateError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key(ID, AttributeValue::S(id.to_owned()))
            // An old reading would cost a conflict, or a request that was made already.
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| failed("be read", error))?;
        Ok(answer.item.map(entry))
    }

    async fn swap(&self, id: &str, seen: Option<u64>, entry: &Entry) -> Result<Swapped, StateError> {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item(id, entry)))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match seen {
            None => put
                .condition_expression("attribute_not_exists(#id)")
                .expression_attribute_names("#id", ID),
            Some(version) => put
                .condition_expression("#version = :seen")
                .expression_attribute_names("#version", VERSION)
                .expression_attribute_values(":seen", AttributeValue::N(version.to_string())),
        };
        match put.send().await {
            Ok(_) => Ok(Swapped::Done),
            Err(SdkError::ServiceError(error)) if error.err().is_conditional_check_failed_exception() => {
                let current = match error.into_err() {
                    PutItemError::ConditionalCheckFailedException(failed) => failed.item,
                    _ => None,
                };
                let current = match current {
                    Some(item) => Some(self::entry(item)),
                    // Whoever emulates DynamoDB may not send the item along.
                    None => self.read(id).await?,
                };
                if current.as_ref() == Some(entry) {
                    return Ok(Swapped::Done);
                }
                Ok(Swapped::Conflict(current))
            }
            Err(error) => Err(failed("be written", error)),
        }
    }

    async fn add(&self, id: &str, addition: &Addition) -> Result<Entry, StateError> {
        let update = Update::of(addition);
        let answer = self
            .client
            .update_item()
            .table_name(&self.table)
            .key(ID, AttributeValue::S(id.to_owned()))
            .update_expression(update.expression)
            .set_expression_attribute_names(Some(update.names))
            .set_expression_attribute_values(Some(update.values))
            .return_values(ReturnValue::AllNew)
            .send()
            .await
            .map_err(|error| failed("be added to", error))?;
        Ok(entry(answer.attributes.unwrap_or_default()))
    }
}

/// An addition as DynamoDB takes it.
struct Update {
    expression: String,
    names: HashMap<String, String>,
    values: Item,
}

impl Update {
    fn of(addition: &Addition) -> Self {
        let (mut names, mut values) = (HashMap::new(), Item::new());
        let mut name = |name: &str, value: AttributeValue| {
            let number = names.len();
            names.insert(format!("#{number}"), name.to_owned());
            values.insert(format!(":{number}"), value);
            (format!("#{number}"), format!(":{number}"))
        };
        let number = |number: i128| AttributeValue::N(number.to_string());
        let mut add = vec![name(VERSION, number(1))];
        add.extend(
            addition
                .numbers
                .iter()
                .map(|(key, value)| name(key, number((*value).into()))),
        );
        // DynamoDB knows no empty set.
        let sets = addition.sets.iter().filter(|(_, members)| !members.is_empty());
        add.extend(sets.map(|(key, members)| name(key, AttributeValue::Ss(members.iter().cloned().collect()))));
        let first = addition.first.iter().map(|(key, text)| {
            let (name, value) = name(key, AttributeValue::S(text.clone()));
            format!("{name} = if_not_exists({name}, {value})")
        });
        let mut set: Vec<_> = first.collect();
        let last = addition
            .last
            .iter()
            .map(|(key, text)| (*key, AttributeValue::S(text.clone())));
        let expires_at = addition
            .expires_at
            .map(|time| (EXPIRES_AT, number(time.unix_timestamp().into())));
        set.extend(last.chain(expires_at).map(|(key, value)| {
            let (name, value) = name(key, value);
            format!("{name} = {value}")
        }));
        let add: Vec<_> = add.into_iter().map(|(name, value)| format!("{name} {value}")).collect();
        let mut expression = format!("ADD {}", add.join(", "));
        if !set.is_empty() {
            expression = format!("{expression} SET {}", set.join(", "));
        }
        Self {
            expression,
            names,
            values,
        }
    }
}

fn failed<E, R>(action: &'static str, error: SdkError<E, R>) -> StateError
where
    E: std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    StateError {
        action,
        source: error.into(),
    }
}

fn item(id: &str, entry: &Entry) -> Item {
    let number = |number: i128| AttributeValue::N(number.to_string());
    let mut item: Item = entry
        .body
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), attribute(value)?)))
        .collect();
    item.insert(ID.to_owned(), AttributeValue::S(id.to_owned()));
    item.insert(VERSION.to_owned(), number(entry.version.into()));
    if let Some(time) = entry.expires_at {
        item.insert(EXPIRES_AT.to_owned(), number(time.unix_timestamp().into()));
    }
    item
}

/// The entry of an item. What is no part of an entry, somebody else has put there: it is left out.
pub fn entry(mut item: Item) -> Entry {
    item.remove(ID);
    let mut whole = |name: &str| {
        item.remove(name)
            .and_then(|value| value.as_n().ok()?.parse::<i64>().ok())
    };
    let version = whole(VERSION).and_then(|version| version.try_into().ok()).unwrap_or(0);
    let expires_at = whole(EXPIRES_AT).and_then(|seconds| UtcDateTime::from_unix_timestamp(seconds).ok());
    Entry {
        version,
        body: item
            .into_iter()
            .filter_map(|(name, attribute)| Some((name, value(attribute)?)))
            .collect(),
        expires_at,
    }
}

/// `None` for null, which an entry leaves out.
fn attribute(value: &Value) -> Option<AttributeValue> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(flag) => AttributeValue::Bool(*flag),
        Value::Number(number) => AttributeValue::N(number.to_string()),
        Value::String(text) => AttributeValue::S(text.clone()),
        Value::Array(elements) => AttributeValue::L(elements.iter().filter_map(attribute).collect()),
        Value::Object(members) => AttributeValue::M(
            members
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), attribute(value)?)))
                .collect(),
        ),
    })
}

/// `None` for what no entry holds.
fn value(attribute: AttributeValue) -> Option<Value> {
    Some(match attribute {
        AttributeValue::Bool(flag) => flag.into(),
        AttributeValue::N(number) => Value::Number(number.parse::<Number>().ok()?),
        AttributeValue::S(text) => text.into(),
        AttributeValue::L(elements) => elements.into_iter().filter_map(value).collect(),
        AttributeValue::Ss(mut members) => {
            members.sort();
            members.into()
        }
        AttributeValue::M(members) => Value::Object(
            members
                .into_iter()
                .filter_map(|(name, attribute)| Some((name, value(attribute)?)))
                .collect::<Map<_, _>>(),
        ),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;
    use time::macros::utc_datetime;

    #[test]
    fn an_entry_comes_back_from_its_item_as_it_was() {
        let body = json!({"run_id": "2026-11-21T01:00:00Z", "from": 3_590_445_600_u64, "ids": ["1", "2"], "all": true,
            "claim": {"by": "x", "until": 7}});
        let entry_written = Entry::after(None, &body, Some(utc_datetime!(2026-12-05 01:00:00.5))).unwrap();
        let item = item("sales/1235", &entry_written);
        assert_eq!(item[ID], AttributeValue::S("sales/1235".to_owned()));
        assert_eq!(item[EXPIRES_AT], AttributeValue::N("1796432400".to_owned()));
        assert_eq!(entry(item), entry_written);
    }

    #[test]
    fn an_addition_is_one_update_without_a_condition() {
        let addition = Addition {
            numbers: [("api_calls", 2)].into(),
            sets: [
                ("finished", BTreeSet::from(["1".to_owned()])),
                ("dead", BTreeSet::new()),
            ]
            .into(),
            first: [("first_at", "a".to_owned())].into(),
            last: [("last_at", "b".to_owned())].into(),
            expires_at: Some(utc_datetime!(2026-12-05 01:00)),
        };
        let update = Update::of(&addition);
        assert_eq!(
            update.expression,
            "ADD #0 :0, #1 :1, #2 :2 SET #3 = if_not_exists(#3, :3), #4 = :4, #5 = :5"
        );
        let named = |name: &str| {
            let (place, _) = update.names.iter().find(|(_, named)| *named == name).unwrap();
            update.values[&place.replace('#', ":")].clone()
        };
        assert_eq!(update.names.len(), 6);
        assert_eq!(named("version"), AttributeValue::N("1".to_owned()));
        assert_eq!(named("api_calls"), AttributeValue::N("2".to_owned()));
        assert_eq!(named("finished"), AttributeValue::Ss(vec!["1".to_owned()]));
        assert_eq!(named("first_at"), AttributeValue::S("a".to_owned()));
        assert_eq!(named("expires_at"), AttributeValue::N("1796432400".to_owned()));
    }

    #[test]
    fn what_is_null_is_left_out() {
        let entry = Entry::after(None, &json!({"etag": null}), None).unwrap();
        let item = item("a", &entry);
        assert_eq!(item.len(), 2, "{item:?}");
    }
}
