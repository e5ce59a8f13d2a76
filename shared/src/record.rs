//! What a record is: one of the vendor's objects under the names of its table.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::value::RawValue;

use crate::entity::{Entity, LAST_MODIFIED, MAX_PARTITION_KEY_BYTES, MAX_SORT_KEY_BYTES};
use crate::id::{Id, IdError};
use crate::reserved_words;
use crate::value::{Value, ValueError};

/// The bytes that DynamoDB allows an item, names included.
///
/// Source: "Quotas in Amazon DynamoDB: item size", Amazon DynamoDB Developer Guide.
pub const MAX_ITEM_BYTES: usize = 400 * 1024;

/// The bytes that DynamoDB allows an attribute's name; source as for [`MAX_ITEM_BYTES`].
const MAX_NAME_BYTES: usize = 65_535;

/// The bytes of `2026-11-21T01:02:03.456Z`, the form of every `last_modified`.
const LAST_MODIFIED_BYTES: usize = 24;

/// A row's key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The record's own id.
    pub id: Id,
    /// The id of what the record belongs to: a salesperson's branch, a sale's employee.
    pub parent: Option<Id>,
}

/// A record as it should stand in its table, but for its `last_modified`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Where it stands.
    pub key: Key,
    /// The vendor's attributes under the table's names, the key's left out.
    pub attributes: BTreeMap<String, Value>,
    /// What to give the entity's first-seen attribute where neither the vendor nor the row has one.
    pub first_seen: Option<Value>,
}

/// Why a record cannot be stored. The others of the same answer are.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// It is no JSON object.
    #[error("is not a JSON object")]
    NotAnObject,
    /// It has no `id`.
    #[error("has no id")]
    MissingId,
    /// Its `id` is none.
    #[error("its id {0}")]
    Id(#[source] IdError),
    /// Its key is longer than DynamoDB allows.
    #[error("its key {name} has {bytes} bytes, more than the {limit} that DynamoDB keeps")]
    KeyTooLong {
        /// The key's name.
        name: &'static str,
        /// Its length.
        bytes: usize,
        /// The longest that fits.
        limit: usize,
    },
    /// Two attributes would have to stand under one name.
    #[error("two of its attributes would be stored as {0:?}")]
    NameTwice(String),
    /// An attribute's name that DynamoDB refuses.
    #[error("an attribute's name has {0} bytes, expected 1 to {MAX_NAME_BYTES}")]
    NameLength(usize),
    /// A value that DynamoDB cannot hold.
    #[error("its attribute {attribute:?} cannot be stored: {reason}")]
    Value {
        /// The vendor's name of it.
        attribute: String,
        /// What is wrong.
        reason: ValueError,
    },
    /// The whole is too large.
    #[error("would be an item of {0} bytes, more than the {MAX_ITEM_BYTES} that DynamoDB keeps")]
    TooLarge(usize),
    /// Its transaction's time is missing.
    #[error("has no transaction_timestamp")]
    NoTimestamp,
    /// Its transaction's time cannot be read.
    #[error("its transaction_timestamp {0} is not of the form \"2023-01-01 23:43:23\"")]
    Timestamp(String),
    /// Its transaction's time cannot be right.
    #[error("its transaction_timestamp {0} is more than 24 hours in the future")]
    Future(String),
    /// What the database said of it.
    #[error("DynamoDB refuses it: {0}")]
    Refused(String),
    /// What the database said of its row, with the mark that it is deleted.
    #[error("it has vanished, and DynamoDB refuses the mark on its row: {0}")]
    Unmarkable(String),
}

impl Key {
    /// Checks an id, and the one it belongs to, against DynamoDB's limits on keys.
    ///
    /// # Errors
    /// If one of them is too long.
    pub fn new(entity: Entity, id: Id, parent: Option<Id>) -> Result<Self, Rejection> {
        let too_long = |name, text: &Id, limit| {
            (text.as_str().len() > limit).then_some(Rejection::KeyTooLong {
                name,
                bytes: text.as_str().len(),
                limit,
            })
        };
        if let Some(rejection) = too_long(entity.partition_key(), &id, MAX_PARTITION_KEY_BYTES) {
            return Err(rejection);
        }
        if let (Some(name), Some(parent)) = (entity.sort_key(), &parent)
            && let Some(rejection) = too_long(name, parent, MAX_SORT_KEY_BYTES)
        {
            return Err(rejection);
        }
        Ok(Self { id, parent })
    }

    /// The key's names and values, partition key first.
    pub fn attributes(&self, entity: Entity) -> impl Iterator<Item = (&'static str, &Id)> {
        let sort = entity.sort_key().zip(self.parent.as_ref());
        std::iter::once((entity.partition_key(), &self.id)).chain(sort)
    }
}

impl Record {
    /// Makes a record of one of the vendor's objects.
    ///
    /// `parent` is the id under which it was asked for, `first_seen` what to give the entity's first-seen attribute.
    ///
    /// # Errors
    /// If it cannot be stored exactly as it is.
    pub fn from_json(
        entity: Entity,
        raw: &RawValue,
        parent: Option<&Id>,
        first_seen: Option<&Id>,
    ) -> Result<Self, Rejection> {
        if !raw.get().starts_with('{') {
            return Err(Rejection::NotAnObject);
        }
        let mut members: BTreeMap<String, &RawValue> =
            serde_json::from_str(raw.get()).map_err(|error| Rejection::Value {
                attribute: String::new(),
                reason: ValueError::Unreadable(error),
            })?;
        let id = members.remove("id").ok_or(Rejection::MissingId)?;
        let key = Key::new(entity, Id::from_json(id).map_err(Rejection::Id)?, parent.cloned())?;

        let mut attributes = BTreeMap::new();
        for (name, raw) in members {
            if name.is_empty() || name.len() > MAX_NAME_BYTES {
                return Err(Rejection::NameLength(name.len()));
            }
            if repeats_key(entity, &key, &name, raw) {
                continue;
            }
            let value = match Value::from_json(raw) {
                Ok(value) => value,
                Err(reason) => {
                    return Err(Rejection::Value {
                        attribute: name,
                        reason,
                    });
                }
            };
            match attributes.entry(stored_name(entity, &key, name)) {
                Entry::Vacant(entry) => entry.insert(value),
                Entry::Occupied(entry) => return Err(Rejection::NameTwice(entry.key().clone())),
            };
        }
        let record = Self {
            key,
            attributes,
            first_seen: first_seen.map(|id| Value::String(id.as_str().to_owned())),
        };
        match record.stored_size(entity) {
            size if size > MAX_ITEM_BYTES => Err(Rejection::TooLarge(size)),
            _ => Ok(record),
        }
    }

    /// The bytes that DynamoDB counts for the item that this record becomes.
    fn stored_size(&self, entity: Entity) -> usize {
        let key: usize = self
            .key
            .attributes(entity)
            .map(|(name, id)| name.len() + id.as_str().len())
            .sum();
        let attributes: usize = self
            .attributes
            .iter()
            .map(|(name, value)| name.len() + value.stored_size())
            .sum();
        let first_seen = match (entity.first_seen_attribute(), &self.first_seen) {
            (Some(name), Some(value)) if !self.attributes.contains_key(name) => name.len() + value.stored_size(),
            _ => 0,
        };
        key + attributes + first_seen + LAST_MODIFIED.len() + LAST_MODIFIED_BYTES
    }
}

/// Whether an attribute only says again what the key says.
fn repeats_key(entity: Entity, key: &Key, name: &str, raw: &RawValue) -> bool {
    let mut of_that_name = key.attributes(entity).filter(|(key_name, _)| *key_name == name);
    of_that_name.any(|(_, key_value)| Id::from_json(raw).is_ok_and(|id| id == *key_value))
}

/// The name under which an attribute is stored.
fn stored_name(entity: Entity, key: &Key, name: String) -> String {
    let is_of_key = key.attributes(entity).any(|(key_name, _)| key_name == name);
    if is_of_key || name == LAST_MODIFIED || reserved_words::is_reserved(&name) {
        return format!("{}{name}", entity.prefix());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::Number;
    use crate::value::tests::{any_json, to_serde};
    use proptest::prelude::*;

    fn id(text: &str) -> Id {
        Id::new(text.to_owned()).unwrap()
    }

    fn record(entity: Entity, json: &str) -> Result<Record, Rejection> {
        let parent = match entity {
            Entity::Branch => None,
            Entity::Salesperson => Some(id("1")),
            Entity::Sale => Some(id("1235")),
        };
        Record::from_json(
            entity,
            serde_json::from_str(json).unwrap(),
            parent.as_ref(),
            Some(&id("7")),
        )
    }

    fn names(entity: Entity, json: &str) -> Vec<String> {
        record(entity, json).unwrap().attributes.into_keys().collect()
    }

    fn reason(entity: Entity, json: &str) -> String {
        record(entity, json).unwrap_err().to_string()
    }

    #[test]
    fn the_id_becomes_the_key_as_a_string() {
        let salesperson = record(Entity::Salesperson, r#"{"id": 1235}"#).unwrap();
        assert_eq!(
            salesperson.key,
            Key {
                id: id("1235"),
                parent: Some(id("1"))
            }
        );
        assert!(salesperson.attributes.is_empty());
    }

    #[test]
    fn reserved_words_stand_under_the_entitys_prefix_in_any_case_of_letters() {
        assert_eq!(
            names(
                Entity::Branch,
                r#"{"id": 1, "branch_name": "Scranton", "Location": "PA", "last_modified": 1}"#
            ),
            ["branch_Location", "branch_last_modified", "branch_name"]
        );
        assert_eq!(
            names(Entity::Salesperson, r#"{"id": 1, "name": "Jim"}"#),
            ["employee_name"]
        );
        assert_eq!(names(Entity::Sale, r#"{"id": 1, "date": {"name": 1}}"#), ["sale_date"]);
    }

    #[test]
    fn names_inside_an_attribute_are_left_as_they_are() {
        let sale = record(Entity::Sale, r#"{"id": 1, "buyer": {"name": 1, "sale_id": 2}}"#).unwrap();
        let Value::Object(buyer) = &sale.attributes["buyer"] else {
            panic!("no object")
        };
        assert_eq!(buyer.keys().collect::<Vec<_>>(), ["name", "sale_id"]);
    }

    #[test]
    fn what_the_key_says_already_is_not_stored_twice() {
        assert!(names(Entity::Salesperson, r#"{"id": 5, "employee_id": "5", "branch_id": 1}"#).is_empty());
        assert_eq!(
            names(Entity::Salesperson, r#"{"id": 5, "employee_id": 6, "branch_id": null}"#),
            ["employee_branch_id", "employee_employee_id"]
        );
    }

    #[test]
    fn a_sales_own_branch_is_an_attribute_like_any_other() {
        let sale = record(Entity::Sale, r#"{"id": 5, "branch_id": 3}"#).unwrap();
        assert_eq!(sale.attributes["branch_id"], Value::Number(Number::parse("3").unwrap()));
    }

    #[test]
    fn two_attributes_for_one_name_reject_the_record() {
        assert_eq!(
            reason(Entity::Salesperson, r#"{"id": 5, "name": "a", "employee_name": "b"}"#),
            r#"two of its attributes would be stored as "employee_name""#
        );
    }

    #[test]
    fn the_same_name_twice_leaves_the_last() {
        let branch = record(Entity::Branch, r#"{"id": 1, "a": 1, "id": 2, "a": 2}"#).unwrap();
        assert_eq!(branch.key.id, id("2"));
        assert_eq!(branch.attributes["a"], Value::Number(Number::parse("2").unwrap()));
    }

    #[test]
    fn what_cannot_be_stored_is_rejected_with_its_reason() {
        for (json, expected) in [
            ("[]", "is not a JSON object"),
            ("{}", "has no id"),
            (r#"{"id": ""}"#, "its id is an empty string"),
            (r#"{"id": null}"#, "its id is null, expected an integer or a string"),
            (
                r#"{"id": 1.5}"#,
                "its id is a number that is no integer, expected an integer or a string",
            ),
            (
                r#"{"id": 1, "": 1}"#,
                "an attribute's name has 0 bytes, expected 1 to 65535",
            ),
            (
                r#"{"id": 1, "amount": 1e200}"#,
                "its attribute \"amount\" cannot be stored: the number 1e200 is outside DynamoDB's range of 1E-130 to 9.9E+125",
            ),
        ] {
            assert_eq!(reason(Entity::Branch, json), expected, "{json}");
        }
    }

    #[test]
    fn a_key_may_be_as_long_as_dynamodb_allows() {
        let with_id = |bytes| format!(r#"{{"id": "{}"}}"#, "x".repeat(bytes));
        assert!(record(Entity::Sale, &with_id(2048)).is_ok());
        assert!(reason(Entity::Sale, &with_id(2049)).contains("2049 bytes"));
        assert!(Key::new(Entity::Sale, id("1"), Some(id(&"x".repeat(1025)))).is_err());
    }

    #[test]
    fn an_item_may_be_as_large_as_dynamodb_allows() {
        let with_text = |bytes| format!(r#"{{"id": 1, "remark": "{}"}}"#, "x".repeat(bytes));
        // branch_id + "1", "remark", last_modified + its value
        let around = 9 + 1 + 6 + 13 + 24;
        assert!(record(Entity::Branch, &with_text(MAX_ITEM_BYTES - around)).is_ok());
        assert!(reason(Entity::Branch, &with_text(MAX_ITEM_BYTES - around + 1)).contains("409601 bytes"));
    }

    proptest! {
        #[test]
        fn any_json_object_comes_through_whole(
            members in prop::collection::btree_map("[a-z]{3}_[a-z_é.]{1,8}", any_json(), 0..8)
        ) {
            prop_assume!(!members.contains_key(LAST_MODIFIED));
            let mut object: serde_json::Map<_, _> = members.clone().into_iter().collect();
            object.insert("id".to_owned(), 9.into());
            let record = record(Entity::Branch, &serde_json::Value::Object(object).to_string()).unwrap();
            let kept: BTreeMap<_, _> =
                record.attributes.iter().map(|(name, value)| (name.clone(), to_serde(value))).collect();
            prop_assert_eq!(kept, members);
        }

        #[test]
        fn any_json_at_all_is_a_record_or_a_rejection(json in any_json()) {
            let text = json.to_string();
            let is_record = record(Entity::Sale, &text).is_ok();
            let id = json.get("id");
            prop_assert!(!is_record || id.is_some());
        }
    }
}
