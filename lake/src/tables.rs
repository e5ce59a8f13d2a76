//! The tables, as whoever mends the lake reads them: whole, a page at a time.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use serde_dynamo::Item;

use crate::account;
use crate::log::Log;

/// A table cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("could not read the table {table}")]
pub struct TableError {
    /// The table.
    pub table: String,
    /// What the service answered.
    pub source: Box<dyn Error + Send + Sync>,
}

/// A part of a table.
#[derive(Debug, Default)]
pub struct Page {
    /// Its items.
    pub items: Vec<Item>,
    /// Where the next part begins; `None` after the last one.
    pub next: Option<HashMap<String, String>>,
}

/// Reads the tables whose changes the logs hold.
#[async_trait]
pub trait TableReader: Send + Sync {
    /// The items of the table of a log, from the beginning or from where a page ended; each as it was at some moment of the reading,
    /// not before it. Of the state table, at least the accounts of runs.
    ///
    /// # Errors
    /// If the table cannot be read.
    async fn page(&self, log: Log, from: Option<HashMap<String, String>>) -> Result<Page, TableError>;
}

/// The tables in DynamoDB.
pub struct DynamoTables {
    client: Client,
    names: BTreeMap<Log, String>,
}

impl DynamoTables {
    /// The tables of these names.
    pub fn new(client: Client, names: BTreeMap<Log, String>) -> Self {
        Self { client, names }
    }
}

#[async_trait]
impl TableReader for DynamoTables {
    async fn page(&self, log: Log, from: Option<HashMap<String, String>>) -> Result<Page, TableError> {
        let table = self.names.get(&log).map_or(log.table(), String::as_str);
        let mut scan = self.client.scan().table_name(table).consistent_read(true);
        if log == Log::Runs {
            scan = scan
                .filter_expression("begins_with(#id, :run)")
                .expression_attribute_names("#id", shared::state::dynamodb::ID)
                .expression_attribute_values(":run", AttributeValue::S(account::PREFIX.to_owned()));
        }
        let from = from.map(|keys| {
            keys.into_iter()
                .map(|(name, key)| (name, AttributeValue::S(key)))
                .collect()
        });
        let page = scan
            .set_exclusive_start_key(from)
            .send()
            .await
            .map_err(|error| TableError {
                table: table.to_owned(),
                source: error.into(),
            })?;
        let text = |(name, key)| match key {
            AttributeValue::S(text) => Some((name, text)),
            _ => None,
        };
        Ok(Page {
            next: page
                .last_evaluated_key
                .map(|keys| keys.into_iter().filter_map(text).collect()),
            items: page
                .items
                .unwrap_or_default()
                .into_iter()
                .map(|item| {
                    let attributes = item.into_iter().map(|(name, value)| (name, stored(value)));
                    Item::from(attributes.collect::<HashMap<_, _>>())
                })
                .collect(),
        })
    }
}

fn stored(attribute: AttributeValue) -> serde_dynamo::AttributeValue {
    use serde_dynamo::AttributeValue as Stored;
    match attribute {
        AttributeValue::S(text) => Stored::S(text),
        AttributeValue::N(number) => Stored::N(number),
        AttributeValue::Bool(flag) => Stored::Bool(flag),
        AttributeValue::Null(_) => Stored::Null(true),
        AttributeValue::L(elements) => Stored::L(elements.into_iter().map(stored).collect()),
        AttributeValue::M(members) => Stored::M(
            members
                .into_iter()
                .map(|(name, member)| (name, stored(member)))
                .collect(),
        ),
        AttributeValue::Ss(texts) => Stored::Ss(texts),
        AttributeValue::Ns(numbers) => Stored::Ns(numbers),
        AttributeValue::B(bytes) => Stored::B(bytes.into_inner()),
        AttributeValue::Bs(all) => Stored::Bs(all.into_iter().map(|bytes| bytes.into_inner()).collect()),
        // One that DynamoDB has come to have since: it is refused as no number.
        other => Stored::N(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Change, Operation};

    #[test]
    fn an_item_is_read_as_the_change_that_put_it() {
        let attribute = AttributeValue::M(HashMap::from([
            (
                "open".to_owned(),
                AttributeValue::L(vec![AttributeValue::Bool(true), AttributeValue::Null(true)]),
            ),
            ("rent".to_owned(), AttributeValue::N("1.10".to_owned())),
            ("seal".to_owned(), AttributeValue::B(vec![0, 255].into())),
            (
                "tags".to_owned(),
                AttributeValue::Ss(vec!["b".to_owned(), "a".to_owned()]),
            ),
        ]));
        let item = HashMap::from([
            ("branch_id".to_owned(), serde_dynamo::AttributeValue::S("1".to_owned())),
            ("all".to_owned(), stored(attribute)),
        ]);
        let change = Change::of_item(item.into(), &["branch_id"]).unwrap();
        assert_eq!(
            (change.operation, change.keys["branch_id"].as_str()),
            (Operation::Insert, "1")
        );
        assert_eq!(
            crate::json::object(&change.image).unwrap(),
            r#"{"all":{"open":[true,null],"rent":1.1,"seal":"AP8=","tags":["a","b"]}}"#
        );
    }
}
