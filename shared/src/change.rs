//! Change detection: a record is written only if it differs from its row, because everything downstream of the
//! tables pays for every write.

use std::collections::{BTreeMap, BTreeSet};

use crate::entity::{DELETED_AT, Entity};
use crate::record::Record;
use crate::run::is_last_modified;
use crate::value::Value;

/// A row as the table holds it, its key left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Its attributes, `last_modified` left out.
    pub attributes: BTreeMap<String, Value>,
    /// The names of attributes of types that JSON does not have (sets, binary): no answer of the vendor's wrote them.
    pub foreign: BTreeSet<String>,
    /// Its `last_modified`, if that is a string.
    pub last_modified: Option<String>,
}

impl Row {
    /// Whether it is marked as deleted.
    pub fn is_deleted(&self) -> bool {
        is_marked(&self.attributes)
    }
}

/// Whether an item with these attributes is marked as deleted: by a time in the form of `last_modified`, as the collectors write
/// it. The vendor may send an attribute of that name, too; one that says anything else (`false`, `""`, a day) is no mark.
pub fn is_marked(attributes: &BTreeMap<String, Value>) -> bool {
    match attributes.get(DELETED_AT) {
        Some(Value::String(text)) => is_last_modified(text),
        _ => false,
    }
}

/// What has to be written to make a row say what a record says: parts of the two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Nothing: they say the same.
    Unchanged,
    /// There is no row yet: all of these.
    Insert(BTreeMap<&'a str, &'a Value>),
    /// Some attributes.
    Update {
        /// New values of attributes that differ or are missing.
        set: BTreeMap<&'a str, &'a Value>,
        /// Attributes that have vanished.
        remove: BTreeSet<&'a str>,
    },
}

impl<'a> Change<'a> {
    /// Compares a record with its row. `last_modified` takes no part, nor does a first-seen attribute that the row
    /// has and the vendor does not send.
    pub fn between(entity: Entity, row: Option<&'a Row>, record: &'a Record) -> Self {
        let first_seen_name = entity
            .first_seen_attribute()
            .filter(|name| !record.attributes.contains_key(*name));
        let first_seen = first_seen_name.zip(record.first_seen.as_ref());
        let attributes = record.attributes.iter().map(|(name, value)| (name.as_str(), value));

        let Some(row) = row else {
            return Self::Insert(attributes.chain(first_seen).collect());
        };

        let has = |name: &str| row.attributes.contains_key(name) || row.foreign.contains(name);
        let set: BTreeMap<_, _> = attributes
            .filter(|(name, value)| row.attributes.get(*name) != Some(*value))
            .chain(first_seen.filter(|(name, _)| !has(name)))
            .collect();
        let remove: BTreeSet<_> = row
            .attributes
            .keys()
            .chain(&row.foreign)
            .map(String::as_str)
            .filter(|name| !record.attributes.contains_key(*name) && first_seen_name != Some(name))
            .collect();
        if set.is_empty() && remove.is_empty() {
            Self::Unchanged
        } else {
            Self::Update { set, remove }
        }
    }

    /// The row after the change, written from an answer fetched at `last_modified`.
    pub fn apply(&self, row: Option<&Row>, last_modified: &str) -> Row {
        let mut after = row.cloned().unwrap_or_default();
        let owned = |(name, value): (&&str, &&Value)| ((*name).to_owned(), (*value).clone());
        match self {
            Self::Unchanged => return after,
            Self::Insert(attributes) => after.attributes = attributes.iter().map(owned).collect(),
            Self::Update { set, remove } => {
                after.attributes.retain(|name, _| !remove.contains(name.as_str()));
                after
                    .foreign
                    .retain(|name| !remove.contains(name.as_str()) && !set.contains_key(name.as_str()));
                after.attributes.extend(set.iter().map(owned));
            }
        }
        after.last_modified = Some(last_modified.to_owned());
        after
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Id;
    use crate::record::Key;
    use proptest::prelude::*;

    fn text(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    fn record(attributes: &[(&str, Value)], first_seen: Option<&str>) -> Record {
        Record {
            key: Key {
                id: Id::new("1".to_owned()).unwrap(),
                parent: None,
            },
            attributes: attributes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            first_seen: first_seen.map(text),
        }
    }

    fn row(attributes: &[(&str, Value)]) -> Row {
        Row {
            attributes: record(attributes, None).attributes,
            ..Row::default()
        }
    }

    fn insert<'a>(attributes: &'a [(&'a str, Value)]) -> Change<'a> {
        Change::Insert(attributes.iter().map(|(name, value)| (*name, value)).collect())
    }

    fn update<'a>(set: &'a [(&'a str, Value)], remove: &[&'a str]) -> Change<'a> {
        Change::Update {
            set: set.iter().map(|(name, value)| (*name, value)).collect(),
            remove: remove.iter().copied().collect(),
        }
    }

    #[test]
    fn only_a_time_of_our_own_form_marks_a_row_as_deleted() {
        let marked = |value: Value| row(&[("deleted_at", value)]).is_deleted();
        assert!(marked(text("2026-11-21T01:02:03.456Z")));
        for other in ["", "yesterday", "2026-11-21", "2026-11-21T01:02:03Z"] {
            assert!(!marked(text(other)), "{other}");
        }
        let zero = Value::Number(crate::number::Number::parse("0").unwrap());
        for other in [Value::Null, Value::Bool(false), Value::Bool(true), zero] {
            assert!(!marked(other.clone()), "{other:?}");
        }
        let foreign = Row {
            foreign: ["deleted_at".to_owned()].into(),
            ..Row::default()
        };
        assert!(!foreign.is_deleted() && !Row::default().is_deleted());
    }

    #[test]
    fn equal_is_unchanged_and_last_modified_takes_no_part() {
        let stored = Row {
            last_modified: Some("long ago".to_owned()),
            ..row(&[("a", text("1"))])
        };
        assert_eq!(
            Change::between(Entity::Branch, Some(&stored), &record(&[("a", text("1"))], None)),
            Change::Unchanged
        );
    }

    #[test]
    fn changed_missing_and_vanished_attributes_are_written_and_no_others() {
        let stored = row(&[("same", text("1")), ("changed", text("1")), ("vanished", text("1"))]);
        let record = record(
            &[("same", text("1")), ("changed", text("2")), ("missing", Value::Null)],
            None,
        );
        assert_eq!(
            Change::between(Entity::Salesperson, Some(&stored), &record),
            update(&[("changed", text("2")), ("missing", Value::Null)], &["vanished"])
        );
    }

    #[test]
    fn attributes_of_foreign_types_are_replaced_or_removed() {
        let stored = Row {
            foreign: ["a", "b"].map(str::to_owned).into(),
            ..Row::default()
        };
        let record = record(&[("a", Value::Null)], None);
        let change = Change::between(Entity::Branch, Some(&stored), &record);
        assert_eq!(change, update(&[("a", Value::Null)], &["b"]));
        assert!(change.apply(Some(&stored), "now").foreign.is_empty());
    }

    #[test]
    fn a_new_sale_gets_the_branch_it_was_first_seen_under() {
        assert_eq!(
            Change::between(Entity::Sale, None, &record(&[], Some("1"))),
            insert(&[("branch_id", text("1"))])
        );
    }

    #[test]
    fn a_sales_first_seen_branch_is_left_as_it_is() {
        let stored = row(&[("branch_id", text("1"))]);
        for later in [Some("2"), None] {
            assert_eq!(
                Change::between(Entity::Sale, Some(&stored), &record(&[], later)),
                Change::Unchanged
            );
        }
    }

    #[test]
    fn a_sale_seen_without_a_branch_gets_one_once_it_is_known() {
        let (stored, record) = (row(&[]), record(&[], Some("2")));
        let change = Change::between(Entity::Sale, Some(&stored), &record);
        assert_eq!(change, update(&[("branch_id", text("2"))], &[]));
    }

    #[test]
    fn the_vendors_own_branch_stands_above_the_first_seen_one() {
        let own = record(&[("branch_id", text("3"))], Some("2"));
        assert_eq!(
            Change::between(Entity::Sale, Some(&row(&[("branch_id", text("1"))])), &own),
            update(&[("branch_id", text("3"))], &[])
        );
        assert_eq!(
            Change::between(Entity::Sale, None, &own),
            insert(&[("branch_id", text("3"))])
        );
    }

    fn any_attributes() -> impl Strategy<Value = BTreeMap<String, Value>> {
        let value = prop_oneof![
            Just(Value::Null),
            "[ab]".prop_map(Value::String),
            any::<bool>().prop_map(Value::Bool)
        ];
        prop::collection::btree_map("[a-d]|branch_id", value, 0..6)
    }

    fn any_entity() -> impl Strategy<Value = Entity> {
        prop::sample::select(&Entity::ALL)
    }

    proptest! {
        #[test]
        fn a_diff_is_empty_on_equals(entity in any_entity(), attributes in any_attributes()) {
            let stored = Row { attributes: attributes.clone(), ..Row::default() };
            let same = Record { attributes, ..record(&[], None) };
            prop_assert_eq!(Change::between(entity, Some(&stored), &same), Change::Unchanged);
        }

        #[test]
        fn applying_a_diff_yields_the_new_record(
            entity in any_entity(),
            old in prop::option::of(any_attributes()),
            new in any_attributes(),
            first_seen in prop::option::of("[12]"),
        ) {
            let stored = old.map(|attributes| Row { attributes, ..Row::default() });
            let record = Record { attributes: new, ..record(&[], first_seen.as_deref()) };
            let change = Change::between(entity, stored.as_ref(), &record);
            let after = change.apply(stored.as_ref(), "2026-11-21T01:02:03.456Z");

            let mut expected = record.attributes.clone();
            if entity == Entity::Sale && !expected.contains_key("branch_id") {
                let kept = stored.as_ref().and_then(|row| row.attributes.get("branch_id").cloned());
                expected.extend(kept.or(record.first_seen.clone()).map(|value| ("branch_id".to_owned(), value)));
            }
            prop_assert_eq!(&after.attributes, &expected);
            prop_assert_eq!(Change::between(entity, Some(&after), &record), Change::Unchanged);
        }

        #[test]
        fn a_diff_writes_nothing_that_is_already_there(old in any_attributes(), new in any_attributes()) {
            let stored = Row { attributes: old, ..Row::default() };
            let record = Record { attributes: new, ..record(&[], None) };
            if let Change::Update { set, remove } = Change::between(Entity::Branch, Some(&stored), &record) {
                prop_assert!(set.iter().all(|(name, value)| stored.attributes.get(*name) != Some(*value)));
                prop_assert!(remove.iter().all(|name| stored.attributes.contains_key(*name)));
            }
        }
    }
}
