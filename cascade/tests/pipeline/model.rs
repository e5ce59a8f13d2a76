//! What the tables have to say, worked out from the vendor's records without any code of the collectors: names after
//! the contract's section 5, numbers digit by digit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use aws_sdk_dynamodb::types::AttributeValue;
use cascade::vendor::World;
use serde_json::value::RawValue;
use time::{Duration, UtcDateTime};

/// A JSON value whose numbers are exact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    Number(Decimal),
    Text(String),
    List(Vec<Json>),
    Object(BTreeMap<String, Json>),
}

/// A decimal number: its sign, its digits without zeros at either end, and the power of ten of the last of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn parse(text: &str) -> Self {
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let exponent: i64 = exponent.parse().expect("an exponent");
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{}{fraction}", whole.trim_start_matches('-'));
        assert!(digits.bytes().all(|digit| digit.is_ascii_digit()), "a number: {text}");
        let significant = digits.trim_end_matches('0');
        let zeros = (digits.len() - significant.len()) as i64;
        let significant = significant.trim_start_matches('0');
        if significant.is_empty() {
            return Self {
                negative: false,
                digits: "0".to_owned(),
                exponent: 0,
            };
        }
        Self {
            negative: whole.starts_with('-'),
            digits: significant.to_owned(),
            exponent: exponent - fraction.len() as i64 + zeros,
        }
    }
}

impl Json {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    fn parse(text: &str) -> Self {
        match text.as_bytes()[0] {
            b'n' => Self::Null,
            b't' => Self::Bool(true),
            b'f' => Self::Bool(false),
            b'"' => Self::Text(serde_json::from_str(text).expect("a string")),
            b'[' => {
                let elements: Vec<Box<RawValue>> = serde_json::from_str(text).expect("an array");
                Self::List(elements.iter().map(|element| Self::parse(element.get())).collect())
            }
            b'{' => Self::Object(members(text)),
            _ => Self::Number(Decimal::parse(text)),
        }
    }

    fn of_attribute(attribute: &AttributeValue) -> Self {
        match attribute {
            AttributeValue::Null(_) => Self::Null,
            AttributeValue::Bool(value) => Self::Bool(*value),
            AttributeValue::N(number) => Self::Number(Decimal::parse(number)),
            AttributeValue::S(text) => Self::Text(text.clone()),
            AttributeValue::L(elements) => Self::List(elements.iter().map(Self::of_attribute).collect()),
            AttributeValue::M(members) => Self::Object(
                members
                    .iter()
                    .map(|(name, value)| (name.clone(), Self::of_attribute(value)))
                    .collect(),
            ),
            other => panic!("JSON has no such type: {other:?}"),
        }
    }
}

fn members(json: &str) -> BTreeMap<String, Json> {
    let members: BTreeMap<String, Box<RawValue>> = serde_json::from_str(json).expect("an object");
    members
        .into_iter()
        .map(|(name, raw)| (name, Json::parse(raw.get())))
        .collect()
}

/// A row, its key included and its `last_modified` left out.
pub(crate) type Row = BTreeMap<String, Json>;

/// A table's rows by partition key and sort key.
pub(crate) type Rows = BTreeMap<(String, String), Row>;

/// One kind of record: the names of its keys, and the names under which its attributes stand. Those that the
/// simulator's records have are all here, so that a new one makes somebody look up what the contract says of it.
struct Naming {
    keys: (&'static str, &'static str),
    unchanged: &'static [&'static str],
    prefixed: &'static [(&'static str, &'static str)],
}

const BRANCH: Naming = Naming {
    keys: ("branch_id", ""),
    unchanged: &[
        "branch_name",
        "coordinates",
        "employees",
        "floor_space",
        "lifetime_revenue",
        "manager",
        "open_on_saturdays",
        "opened",
        "paper_sizes",
        "rent",
        "warehouse",
    ],
    prefixed: &[("location", "branch_location")],
};

const SALESPERSON: Naming = Naming {
    keys: ("employee_id", "branch_id"),
    unchanged: &[
        "commission_rate",
        "company_car",
        "contact",
        "hired_on",
        "languages",
        "occupation",
        "transferred_on",
    ],
    prefixed: &[("name", "employee_name")],
};

const SALE: Naming = Naming {
    keys: ("sale_id", "employee_id"),
    unchanged: &[
        "amount",
        "branch_id",
        "customer",
        "discount",
        "note",
        "product",
        "quantity",
        "tags",
        "transaction_timestamp",
        "unit_price",
    ],
    prefixed: &[],
};

impl Naming {
    fn row(&self, json: &str, id: &str, parent: &str) -> ((String, String), Row) {
        let mut row = Row::new();
        for (name, value) in members(json) {
            let prefixed = self.prefixed.iter().find(|(from, _)| *from == name);
            let stored = match prefixed {
                _ if name == "id" => continue,
                Some((_, stored)) => *stored,
                None => self
                    .unchanged
                    .iter()
                    .find(|known| **known == name)
                    .unwrap_or_else(|| panic!("what name does the contract give the attribute {name}?")),
            };
            row.insert(stored.to_owned(), value);
        }
        row.insert(self.keys.0.to_owned(), Json::text(id));
        if !self.keys.1.is_empty() {
            row.insert(self.keys.1.to_owned(), Json::text(parent));
        }
        ((id.to_owned(), parent.to_owned()), row)
    }

    fn key(&self, row: &Row) -> (String, String) {
        let part = |name: &str| match row.get(name) {
            None if name.is_empty() => String::new(),
            Some(Json::Text(id)) => id.clone(),
            other => panic!("the key {name} is {other:?}"),
        };
        (part(self.keys.0), part(self.keys.1))
    }
}

/// The attribute of a row whose record has vanished, and what stands here for its time: that of the row's last write.
const DELETED_AT: &str = "deleted_at";
const MARKED: &str = "marked";

/// All three tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tables {
    pub(crate) branches: Rows,
    pub(crate) salespersons: Rows,
    pub(crate) sales: Rows,
    /// When each row was written, as far as that is known: by table and key.
    pub(crate) written: BTreeMap<(&'static str, String, String), String>,
}

impl Tables {
    /// What a first load has to leave.
    pub(crate) fn after_first_load(world: &World) -> Self {
        let mut tables = Self::default();
        tables.observe(world, None);
        tables
    }

    /// Takes up what a run finds that looks at the sales booked since `recent_from`: all of them, if `None`.
    pub(crate) fn observe(&mut self, world: &World, recent_from: Option<UtcDateTime>) {
        for branch in world.expected_branches() {
            let (key, row) = BRANCH.row(&branch.json, &branch.id, "");
            self.branches.insert(key, row);
        }
        let mut first_load = BTreeSet::new();
        for person in world.expected_salespersons() {
            let (key, row) = SALESPERSON.row(&person.json, &person.id, &person.branch_id);
            let before = self.salespersons.insert(key, row);
            if before.is_none_or(|before| before.contains_key(DELETED_AT)) {
                first_load.insert(person.id);
            }
        }
        for sale in world.expected_sales() {
            if let Some(recent_from) = recent_from.filter(|_| !first_load.contains(&sale.employee_id)) {
                // The lookback ends where the sale is asked for, some seconds after the run began.
                let since = sale.booked - recent_from;
                assert!(
                    since.is_negative() || since > Duration::seconds(30),
                    "too close to call, choose another seed: {since} {sale:?}"
                );
                if since.is_negative() {
                    continue;
                }
            }
            let (key, mut row) = SALE.row(&sale.json, &sale.id, &sale.employee_id);
            if !row.contains_key("branch_id") {
                let first_seen = self.sales.get(&key).and_then(|stored| stored.get("branch_id"));
                let branch = first_seen.cloned().unwrap_or(Json::text(sale.branch_id));
                row.insert("branch_id".to_owned(), branch);
            }
            self.sales.insert(key, row);
        }
    }

    /// Marks the salespersons who are not where they were.
    pub(crate) fn mark_departed(&mut self, world: &World) {
        let people = world.expected_salespersons();
        let there: BTreeSet<_> = people.into_iter().map(|person| (person.id, person.branch_id)).collect();
        let departed = self.salespersons.iter_mut().filter(|(key, _)| !there.contains(*key));
        departed.for_each(|(_, row)| drop(row.insert(DELETED_AT.to_owned(), Json::text(MARKED))));
    }

    pub(crate) fn add_branches(&mut self, items: Vec<HashMap<String, AttributeValue>>) {
        self.branches = self.read("branch", &BRANCH, items);
    }

    pub(crate) fn add_salespersons(&mut self, items: Vec<HashMap<String, AttributeValue>>) {
        self.salespersons = self.read("salesperson", &SALESPERSON, items);
    }

    pub(crate) fn add_sales(&mut self, items: Vec<HashMap<String, AttributeValue>>) {
        self.sales = self.read("sale", &SALE, items);
    }

    fn read(&mut self, table: &'static str, naming: &Naming, items: Vec<HashMap<String, AttributeValue>>) -> Rows {
        let read = |mut item: HashMap<String, AttributeValue>| {
            let Some(AttributeValue::S(last_modified)) = item.remove("last_modified") else {
                panic!("a row without last_modified: {item:?}");
            };
            let form: String = last_modified
                .chars()
                .map(|c| if c.is_ascii_digit() { '0' } else { c })
                .collect();
            assert_eq!(form, "0000-00-00T00:00:00.000Z", "{last_modified}");
            if let Some(deleted_at) = item.get_mut(DELETED_AT) {
                assert_eq!(*deleted_at, AttributeValue::S(last_modified.clone()));
                *deleted_at = AttributeValue::S(MARKED.to_owned());
            }
            let row: Row = item
                .iter()
                .map(|(name, value)| (name.clone(), Json::of_attribute(value)))
                .collect();
            let key = naming.key(&row);
            self.written
                .insert((table, key.0.clone(), key.1.clone()), last_modified);
            (key, row)
        };
        items.into_iter().map(read).collect()
    }

    /// The ids of the sales.
    pub(crate) fn sale_ids(&self) -> BTreeSet<&str> {
        self.sales.keys().map(|(id, _)| id.as_str()).collect()
    }

    /// Compares every row attribute by attribute.
    #[track_caller]
    pub(crate) fn assert_same(&self, expected: &Self) {
        for (table, found, expected) in [
            ("branch", &self.branches, &expected.branches),
            ("salesperson", &self.salespersons, &expected.salespersons),
            ("sale", &self.sales, &expected.sales),
        ] {
            for (key, row) in expected {
                assert_eq!(found.get(key), Some(row), "{table} {key:?}");
            }
            let surplus: Vec<_> = found.keys().filter(|key| !expected.contains_key(*key)).collect();
            assert!(surplus.is_empty(), "{table} rows too many: {surplus:?}");
        }
    }
}

#[test]
fn decimals_are_equal_where_their_values_are() {
    for same in [["1.10", "1.1"], ["1e2", "100"], ["-0.0", "0"], ["0.0500", "5E-2"]] {
        assert_eq!(Decimal::parse(same[0]), Decimal::parse(same[1]), "{same:?}");
    }
    for other in [
        ["1", "-1"],
        ["1", "10"],
        ["0.1", "0.10000000000000000001"],
        ["12", "1.2"],
    ] {
        assert_ne!(Decimal::parse(other[0]), Decimal::parse(other[1]), "{other:?}");
    }
}
