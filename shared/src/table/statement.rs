//! Writes as PartiQL, DynamoDB's only language in which a batch can carry conditions.
//!
//! Sources: "PartiQL for DynamoDB: insert statements, update statements", Amazon DynamoDB Developer Guide;
//! "BatchExecuteStatement", "BatchStatementRequest", Amazon DynamoDB API Reference.

use super::Write;
use crate::change::Change;
use crate::entity::{Entity, LAST_MODIFIED};
use crate::value::Value;

/// How many characters a statement may have; bytes are counted, which are never fewer.
const MAX_STATEMENT_BYTES: usize = 8192;

/// How many attributes a statement names at most. Comparisons count as DynamoDB's operators do, of which 300 are allowed;
/// nothing is said of the others.
const MAX_ATTRIBUTES: usize = 250;

/// A write as a statement, whose values are parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement<'a> {
    /// The statement, with a `?` for each parameter.
    pub(super) text: String,
    /// The parameters, in the order of their marks.
    pub(super) parameters: Vec<Parameter<'a>>,
}

/// What stands for a `?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter<'a> {
    /// A string.
    Text(&'a str),
    /// One of a record's values.
    Value(&'a Value),
}

impl Parameter<'_> {
    fn stored_size(self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Value(value) => value.stored_size(),
        }
    }
}

impl<'a> Statement<'a> {
    /// The statement that makes a write to `table`: an `INSERT` fails where there is a row, an `UPDATE` where there is
    /// none or another than was seen. `None` if no statement can be trusted to say it: it would be too long, it needs
    /// names that one reader of PartiQL may take for something else than another, or a condition that PartiQL lacks.
    pub(super) fn new(entity: Entity, table: &str, write: &Write<'a>, last_modified: &'a str) -> Option<Self> {
        let mut statement = Self {
            text: String::new(),
            parameters: Vec::new(),
        };
        let seen = write.seen.map(|row| row.last_modified.as_deref());
        match (&write.change, seen) {
            (Change::Insert(attributes), None) => {
                let names = attributes.keys().copied();
                if attributes.len() > MAX_ATTRIBUTES || !names.clone().all(is_plain) {
                    return None;
                }
                statement.push(&["INSERT INTO \"", table, "\" VALUE {"]);
                for (name, id) in write.key.attributes(entity) {
                    statement.assign("'", name, "':?,", Parameter::Text(id.as_str()));
                }
                for (name, value) in attributes {
                    statement.assign("'", name, "':?,", Parameter::Value(value));
                }
                statement.assign("'", LAST_MODIFIED, "':?}", Parameter::Text(last_modified));
            }
            (Change::Update { set, remove }, Some(Some(seen))) => {
                let mut names = set.keys().chain(remove).copied();
                if set.len() + remove.len() > MAX_ATTRIBUTES || !names.all(is_plain) {
                    return None;
                }
                statement.push(&["UPDATE \"", table, "\""]);
                statement.assign(" SET \"", LAST_MODIFIED, "\"=?", Parameter::Text(last_modified));
                for (name, value) in set {
                    statement.assign(" SET \"", name, "\"=?", Parameter::Value(value));
                }
                for name in remove {
                    statement.push(&[" REMOVE \"", name, "\""]);
                }
                for (place, (name, id)) in write.key.attributes(entity).enumerate() {
                    let before = if place == 0 { " WHERE \"" } else { " AND \"" };
                    statement.assign(before, name, "\"=?", Parameter::Text(id.as_str()));
                }
                statement.assign(" AND \"", LAST_MODIFIED, "\"=?", Parameter::Text(seen));
            }
            (Change::Unchanged | Change::Insert(_) | Change::Update { .. }, _) => return None,
        }
        (statement.text.len() <= MAX_STATEMENT_BYTES).then_some(statement)
    }

    /// The bytes that the statement comes to, about.
    pub(super) fn size(&self) -> usize {
        let parameters = self.parameters.iter().map(|parameter| parameter.stored_size());
        self.text.len() + parameters.sum::<usize>()
    }

    fn push(&mut self, parts: &[&str]) {
        self.text.extend(parts.iter().copied());
    }

    fn assign(&mut self, before: &str, name: &str, after: &str, parameter: Parameter<'a>) {
        self.push(&[before, name, after]);
        self.parameters.push(parameter);
    }
}

/// Whether a name in quotes is the same name to every reader: without quotes, escapes, or what paths are made of.
fn is_plain(name: &str) -> bool {
    name.chars()
        .all(|character| character.is_alphanumeric() || matches!(character, '_' | '-' | ' '))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Row;
    use crate::id::Id;
    use crate::record::Key;

    const NOW: &str = "2026-11-21T02:00:00.000Z";
    const SEEN: &str = "2026-11-21T01:00:00.000Z";

    fn key() -> Key {
        let id = |text: &str| Id::new(text.to_owned()).unwrap();
        Key {
            id: id("7"),
            parent: Some(id("1235")),
        }
    }

    fn row(last_modified: Option<&str>) -> Row {
        Row {
            last_modified: last_modified.map(str::to_owned),
            ..Row::default()
        }
    }

    fn statement<'a>(key: &'a Key, seen: Option<&'a Row>, change: Change<'a>) -> Option<Statement<'a>> {
        Statement::new(Entity::Sale, "sale-dev", &Write { key, seen, change }, NOW)
    }

    #[test]
    fn a_new_row_is_an_insert_of_parameters() {
        let (key, name, price) = (key(), "it's \"?\"".to_owned(), Value::Null);
        let name = Value::String(name);
        let change = Change::Insert([("employee-name", &name), ("price é", &price)].into());
        let statement = statement(&key, None, change).unwrap();
        assert_eq!(
            statement.text,
            "INSERT INTO \"sale-dev\" VALUE \
             {'sale_id':?,'employee_id':?,'employee-name':?,'price é':?,'last_modified':?}"
        );
        assert_eq!(
            statement.parameters,
            [
                Parameter::Text("7"),
                Parameter::Text("1235"),
                Parameter::Value(&name),
                Parameter::Value(&price),
                Parameter::Text(NOW),
            ]
        );
    }

    #[test]
    fn a_change_is_an_update_of_the_row_that_was_seen() {
        let (key, seen, value) = (key(), row(Some(SEEN)), Value::Bool(true));
        let change = Change::Update {
            set: [("a", &value)].into(),
            remove: ["b", "c"].into(),
        };
        let statement = statement(&key, Some(&seen), change).unwrap();
        assert_eq!(
            statement.text,
            "UPDATE \"sale-dev\" SET \"last_modified\"=? SET \"a\"=? REMOVE \"b\" REMOVE \"c\" \
             WHERE \"sale_id\"=? AND \"employee_id\"=? AND \"last_modified\"=?"
        );
        assert_eq!(
            statement.parameters,
            [
                Parameter::Text(NOW),
                Parameter::Value(&value),
                Parameter::Text("7"),
                Parameter::Text("1235"),
                Parameter::Text(SEEN),
            ]
        );
    }

    #[test]
    fn names_that_could_be_read_otherwise_make_no_statement() {
        let (key, seen, value) = (key(), row(Some(SEEN)), Value::Null);
        for name in [
            "it's", "a\"b", "a.b", "a[0]", "a\\b", "a`b", "a\nb", "a?", "a\u{0}", "😀",
        ] {
            let insert = Change::Insert([(name, &value)].into());
            assert_eq!(statement(&key, None, insert), None, "{name:?}");
            let (set, remove) = ([(name, &value)].into(), [name].into());
            let update = Change::Update { set, remove: [].into() };
            assert_eq!(statement(&key, Some(&seen), update), None, "{name:?}");
            let update = Change::Update { set: [].into(), remove };
            assert_eq!(statement(&key, Some(&seen), update), None, "{name:?}");
        }
    }

    #[test]
    fn what_is_too_long_or_has_no_time_to_compare_makes_no_statement() {
        let (key, value, long) = (key(), Value::Null, "x".repeat(MAX_STATEMENT_BYTES));
        assert_eq!(
            statement(&key, None, Change::Insert([(long.as_str(), &value)].into())),
            None
        );
        let names: Vec<_> = (0..=MAX_ATTRIBUTES).map(|name| name.to_string()).collect();
        let many = names.iter().map(|name| (name.as_str(), &value));
        assert_eq!(statement(&key, None, Change::Insert(many.clone().collect())), None);
        assert!(statement(&key, None, Change::Insert(many.skip(1).collect())).is_some());
        let untimed = row(None);
        let change = Change::Update {
            set: [("a", &value)].into(),
            remove: [].into(),
        };
        assert_eq!(statement(&key, Some(&untimed), change), None);
    }
}
