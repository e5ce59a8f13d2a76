//! A row of a log: a change laid out in the log's columns, exactly.

use std::collections::BTreeMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Decimal128Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, ArrayRef, RecordBatch};
use serde_json::value::RawValue;
use shared::number::Number;
use shared::run::{format_vendor_timestamp, last_modified};
use shared::value::Value;

use crate::change::{Change, Sequence, Unreadable};
use crate::json;
use crate::log::{ATTRIBUTES, CHANGED_AT, DECIMAL, DELETED_AT, Kind, LAST_MODIFIED, Log, OPERATION, RUN_ID, SEQUENCE};
use crate::moment;
use crate::runs::Runs;

/// What stands in one column of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cell {
    /// Nothing.
    Null,
    /// A text.
    Text(String),
    /// A whole number.
    Whole(i64),
    /// A day, in days since 1970.
    Date(i32),
    /// A moment, in milliseconds since 1970.
    Timestamp(i64),
    /// A number times ten to the power of its column's scale.
    Decimal(i128),
    /// Yes or no.
    Boolean(bool),
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Whose row it is.
    pub keys: Vec<String>,
    /// The number of its change.
    pub sequence: Sequence,
    /// When the change was made, in milliseconds since 1970.
    pub changed_at: i64,
    /// What stands in each of the log's columns.
    pub cells: Vec<Cell>,
    /// How many values have a column and do not fit it, null aside: they are among the attributes.
    pub unfit: usize,
}

impl Row {
    /// The row with another number.
    pub(crate) fn numbered(mut self, log: Log, sequence: Sequence) -> Self {
        let at = log.columns().iter().position(|column| column.name == SEQUENCE);
        if let Some(cell) = at.and_then(|at| self.cells.get_mut(at)) {
            *cell = Cell::Text(sequence.as_str().to_owned());
        }
        self.sequence = sequence;
        self
    }
}

/// The attributes of our own that have a column: times as `last_modified` holds them.
const MOMENTS: [&str; 2] = [LAST_MODIFIED, DELETED_AT];

/// How an attribute goes with the columns of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fit {
    /// It has none.
    NoColumn,
    /// Its column holds it.
    Fits,
    /// It is of the JSON type that its column is for, and the column cannot hold it: another form, or too many digits.
    OtherForm,
    /// It is of another JSON type.
    OtherType,
}

/// How the value of an attribute goes with the columns of a log of an entity.
pub(crate) fn fit(log: Log, name: &str, value: &Value) -> Fit {
    let known = log.known_attributes().iter().find(|(known, _)| *known == name);
    let (cell, kind) = match known {
        Some((_, kind)) => (cell(*kind, value), *kind),
        None if MOMENTS.contains(&name) => (moment_cell(value), Kind::Timestamp),
        None => return Fit::NoColumn,
    };
    let is_of_type = matches!(
        (kind, value),
        (Kind::Text | Kind::Id | Kind::Date | Kind::Timestamp, Value::String(_))
            | (Kind::Id | Kind::Whole | Kind::Decimal, Value::Number(_))
            | (Kind::Boolean, Value::Bool(_))
    );
    match (cell, is_of_type) {
        (Some(_), _) => Fit::Fits,
        (None, true) => Fit::OtherForm,
        (None, false) => Fit::OtherType,
    }
}

/// The row of a change in the log of an entity. `runs` says which run it belongs to.
///
/// # Errors
/// If a value has no text, which none is known not to have.
pub fn of_entity(log: Log, change: Change, runs: &Runs) -> Result<Row, Unreadable> {
    let Change {
        operation,
        mut keys,
        image: mut attributes,
        changed_at,
        sequence,
    } = change;
    let keys: Vec<String> = log.keys().into_iter().filter_map(|key| keys.remove(key)).collect();
    let mut cells: BTreeMap<&str, Cell> = log
        .keys()
        .into_iter()
        .zip(keys.iter().cloned().map(Cell::Text))
        .collect();
    cells.insert(OPERATION, Cell::Text(operation.name().to_owned()));
    let mut unfit = 0;
    let mut fetched_at = None;
    let known = log.known_attributes().iter().map(|(name, kind)| (*name, Some(*kind)));
    for (name, kind) in known.chain(MOMENTS.map(|name| (name, None))) {
        let Some(value) = attributes.get(name) else { continue };
        let cell = kind.map_or_else(|| moment_cell(value), |kind| cell(kind, value));
        if name == LAST_MODIFIED
            && let Some(Cell::Timestamp(time)) = cell
        {
            fetched_at = Some(time);
        }
        let says_all = cell.as_ref().is_some_and(|cell| says_all(cell, value));
        unfit += usize::from(cell.is_none() && *value != Value::Null);
        cells.insert(name, cell.unwrap_or(Cell::Null));
        if says_all {
            attributes.remove(name);
        }
    }
    let run = fetched_at.and_then(|time| runs.newest_at(time));
    cells.insert(RUN_ID, run.map_or(Cell::Null, Cell::Timestamp));
    cells.insert(
        ATTRIBUTES,
        Cell::Text(json::object(&attributes).map_err(Unreadable::Json)?),
    );
    cells.insert(CHANGED_AT, Cell::Timestamp(changed_at));
    cells.insert(SEQUENCE, Cell::Text(sequence.as_str().to_owned()));
    Ok(Row {
        keys,
        sequence,
        changed_at,
        cells: in_order(log, cells),
        unfit,
    })
}

/// The cells in the order of the log's columns; what is not among them is null.
pub(crate) fn in_order(log: Log, mut cells: BTreeMap<&str, Cell>) -> Vec<Cell> {
    let columns = log.columns().iter();
    columns
        .map(|column| cells.remove(column.name).unwrap_or(Cell::Null))
        .collect()
}

/// The value in a column of that kind; `None` if it does not fit there exactly.
fn cell(kind: Kind, value: &Value) -> Option<Cell> {
    Some(match (kind, value) {
        (Kind::Text | Kind::Id, Value::String(text)) => Cell::Text(text.clone()),
        (Kind::Id, Value::Number(number)) if is_whole(number) => Cell::Text(number.to_string()),
        (Kind::Whole, Value::Number(number)) => Cell::Whole(number.as_str().parse().ok()?),
        (Kind::Decimal, Value::Number(number)) => Cell::Decimal(scaled(number)?),
        (Kind::Date, Value::String(text)) => Cell::Date(moment::day(text)?),
        (Kind::Timestamp, Value::String(text)) => Cell::Timestamp(moment::of_vendor_timestamp(text)?),
        (Kind::Boolean, Value::Bool(flag)) => Cell::Boolean(*flag),
        _ => return None,
    })
}

/// A time of our own, which has milliseconds.
fn moment_cell(value: &Value) -> Option<Cell> {
    match value {
        Value::String(text) => moment::of_last_modified(text).map(Cell::Timestamp),
        _ => None,
    }
}

/// Whether the value can be told from the cell. An id's digits do not say whether they were a number or a text.
fn says_all(cell: &Cell, value: &Value) -> bool {
    !matches!((cell, value), (Cell::Text(_), Value::Number(_)))
}

fn is_whole(number: &Number) -> bool {
    let digits = number.as_str().trim_start_matches('-');
    digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The number times ten to the power of the scale, if that is a whole number of no more digits than a column has.
pub(crate) fn scaled(number: &Number) -> Option<i128> {
    let scale = usize::from(DECIMAL.1.unsigned_abs());
    let (whole, fraction) = number.as_str().split_once('.').unwrap_or((number.as_str(), ""));
    if fraction.len() > scale {
        return None;
    }
    // A number with an exponent is no number of digits alone: it is too large, or too close to zero.
    let scaled: i128 = format!("{whole}{fraction:0<scale$}").parse().ok()?;
    (scaled.unsigned_abs() < 10_u128.pow(DECIMAL.0.into())).then_some(scaled)
}

/// The item that a row of an entity's log came from, its key left out: what [`of_entity`] was given. `None` if the batch has other
/// columns, or attributes that are no JSON object.
pub fn item(log: Log, batch: &RecordBatch, row: usize) -> Option<BTreeMap<String, Value>> {
    let attributes = batch.column_by_name(ATTRIBUTES)?.as_string_opt::<i32>()?.value(row);
    let attributes: BTreeMap<String, Box<RawValue>> = serde_json::from_str(attributes).ok()?;
    let mut item = attributes
        .into_iter()
        .map(|(name, raw)| Some((name, Value::from_json(&raw).ok()?)))
        .collect::<Option<BTreeMap<_, _>>>()?;
    let known = log.known_attributes().iter().map(|(name, kind)| (*name, Some(*kind)));
    for (name, kind) in known.chain(MOMENTS.map(|name| (name, None))) {
        let column = batch.column_by_name(name)?;
        // What its column does not hold exactly stands among the attributes.
        if column.is_valid(row) && !item.contains_key(name) {
            item.insert(name.to_owned(), value(kind, column, row)?);
        }
    }
    Some(item)
}

/// The value that stands in a column; in one of our own times, if it is none of a known attribute's.
fn value(kind: Option<Kind>, column: &ArrayRef, row: usize) -> Option<Value> {
    let time = || moment::time_of(column.as_primitive_opt::<TimestampMillisecondType>()?.value(row));
    let number = |text: String| Number::parse(&text).ok().map(Value::Number);
    match kind {
        Some(Kind::Text | Kind::Id) => Some(Value::String(column.as_string_opt::<i32>()?.value(row).to_owned())),
        Some(Kind::Whole) => number(column.as_primitive_opt::<Int64Type>()?.value(row).to_string()),
        Some(Kind::Date) => {
            let day = column.as_primitive_opt::<Date32Type>()?.value(row);
            moment::date_of(day).map(|date| Value::String(moment::format_date(date)))
        }
        Some(Kind::Timestamp) => Some(Value::String(format_vendor_timestamp(time()?))),
        Some(Kind::Decimal) => {
            let scaled = column.as_primitive_opt::<Decimal128Type>()?.value(row);
            number(format!("{scaled}E-{}", DECIMAL.1))
        }
        Some(Kind::Boolean) => Some(Value::Bool(column.as_boolean_opt()?.value(row))),
        None => Some(Value::String(last_modified(time()?))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Operation;
    use serde_json::value::RawValue;

    fn sale(json: &str) -> Row {
        let raw: BTreeMap<String, &RawValue> = serde_json::from_str(json).unwrap();
        let image = raw
            .into_iter()
            .map(|(name, raw)| (name, Value::from_json(raw).unwrap()))
            .collect();
        let keys = [("sale_id", "3972"), ("employee_id", "1235")];
        let change = Change {
            operation: Operation::Insert,
            keys: keys.map(|(name, key)| (name.to_owned(), key.to_owned())).into(),
            image,
            changed_at: 5,
            sequence: Sequence::zero(),
        };
        let runs = Runs::of(["2026-11-21T01:00:00Z", "2026-11-21T02:00:00Z"]);
        of_entity(Log::Sales, change, &runs).unwrap()
    }

    fn cell_of(row: &Row, name: &str) -> Cell {
        let at = Log::Sales.columns().iter().position(|column| column.name == name);
        row.cells[at.unwrap()].clone()
    }

    fn text(text: &str) -> Cell {
        Cell::Text(text.to_owned())
    }

    #[test]
    fn known_attributes_go_to_their_columns_and_the_others_stay_json() {
        let row = sale(
            r#"{"transaction_timestamp": "2023-01-01 23:43:23", "product": "paper", "quantity": 3, "unit_price": 4.50,
                "amount": -13.5, "tags": ["web", 1.10], "last_modified": "2026-11-21T01:02:03.456Z"}"#,
        );
        assert_eq!(row.keys, ["3972", "1235"]);
        assert_eq!(cell_of(&row, "sale_id"), text("3972"));
        assert_eq!(cell_of(&row, "operation"), text("insert"));
        assert_eq!(
            cell_of(&row, "transaction_timestamp"),
            Cell::Timestamp(1_672_616_603_000)
        );
        assert_eq!(cell_of(&row, "quantity"), Cell::Whole(3));
        assert_eq!(cell_of(&row, "unit_price"), Cell::Decimal(45_000_000_000));
        assert_eq!(cell_of(&row, "amount"), Cell::Decimal(-135_000_000_000));
        assert_eq!(cell_of(&row, "note"), Cell::Null);
        assert_eq!(cell_of(&row, ATTRIBUTES), text(r#"{"tags":["web",1.1]}"#));
        assert_eq!(cell_of(&row, LAST_MODIFIED), Cell::Timestamp(1_795_222_923_456));
        assert_eq!(cell_of(&row, RUN_ID), Cell::Timestamp(1_795_222_800_000));
        assert_eq!(row.unfit, 0);
    }

    #[test]
    fn what_does_not_fit_its_column_is_null_there_and_kept_as_json() {
        let row = sale(
            r#"{"transaction_timestamp": "yesterday", "quantity": 2.5, "amount": "13.50", "unit_price": 0.00000000001,
                "product": {"a": 1}, "last_modified": 7}"#,
        );
        for name in [
            "transaction_timestamp",
            "quantity",
            "amount",
            "unit_price",
            "product",
            LAST_MODIFIED,
            RUN_ID,
        ] {
            assert_eq!(cell_of(&row, name), Cell::Null, "{name}");
        }
        assert_eq!(
            cell_of(&row, ATTRIBUTES),
            text(
                r#"{"amount":"13.50","last_modified":7,"product":{"a":1},"quantity":2.5,"transaction_timestamp":"yesterday","unit_price":1E-11}"#
            )
        );
        assert_eq!(row.unfit, 6);
    }

    #[test]
    fn null_is_told_from_absent_and_is_no_misfit() {
        let row = sale(r#"{"discount": null}"#);
        assert_eq!(cell_of(&row, "discount"), Cell::Null);
        assert_eq!(cell_of(&row, ATTRIBUTES), text(r#"{"discount":null}"#));
        assert_eq!(row.unfit, 0);
    }

    #[test]
    fn a_sales_branch_is_its_id_as_text_however_the_vendor_writes_it() {
        let own = sale(r#"{"branch_id": 3}"#);
        assert_eq!(cell_of(&own, "branch_id"), text("3"));
        assert_eq!(cell_of(&own, ATTRIBUTES), text(r#"{"branch_id":3}"#));
        let first_seen = sale(r#"{"branch_id": "3"}"#);
        assert_eq!(cell_of(&first_seen, "branch_id"), text("3"));
        assert_eq!(cell_of(&first_seen, ATTRIBUTES), text("{}"));
        assert_eq!(cell_of(&sale(r#"{"branch_id": 3.5}"#), "branch_id"), Cell::Null);
    }

    #[test]
    fn decimals_are_scaled_without_a_float() {
        let scaled = |text: &str| scaled(&Number::parse(text).unwrap());
        for (number, expected) in [
            ("0", Some(0)),
            ("-0.0000000001", Some(-1)),
            ("0.1", Some(1_000_000_000)),
            ("9999999999999999999999999999.9999999999", Some(10_i128.pow(38) - 1)),
            ("-9999999999999999999999999999.9999999999", Some(1 - 10_i128.pow(38))),
            ("10000000000000000000000000000", None),
            ("0.00000000001", None),
            ("1E40", None),
            ("1E-20", None),
            ("2.5E-20", None),
        ] {
            assert_eq!(scaled(number), expected, "{number}");
        }
    }
}
