use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use serde_json::value::RawValue;

use super::tree;
use crate::entity::{Entity, LAST_MODIFIED};
use crate::id::Id;
use crate::number::{MAX_SIGNIFICANT_DIGITS, Number, NumberError};
use crate::record::{MAX_ITEM_BYTES, Record, Rejection};
use crate::reserved_words::is_reserved;
use crate::run::{format_vendor_timestamp, parse_vendor_timestamp};
use crate::value::{Value, ValueError};
use crate::vendor::answer::{Head, Shape, Sketch, distinct, records};

/// Stands between an answer's pages (RFC 7464 puts it before each text); no JSON text holds it.
const PAGE_SEPARATOR: u8 = 0x1e;

/// Of an answer to `/branches`.
pub fn branches(answer: &[u8]) {
    check(Entity::Branch, answer, Shape::List, None);
}

/// Of an answer to `/employees?branchID=1`.
pub fn employees(answer: &[u8]) {
    let id = id("1");
    let shape = Shape::Under {
        id_name: "branch_id",
        id: &id,
        list: "employees",
    };
    check(Entity::Salesperson, answer, shape, Some(&id));
}

/// Of an answer to `/sales?employeeID=1235`.
pub fn sales(answer: &[u8]) {
    let id = id("1235");
    let shape = Shape::Under {
        id_name: "employee_id",
        id: &id,
        list: "sales",
    };
    check(Entity::Sale, answer, shape, Some(&id));
}

fn id(text: &str) -> Id {
    Id::new(text.to_owned()).expect("not empty")
}

fn check(entity: Entity, answer: &[u8], shape: Shape<'_>, parent: Option<&Id>) {
    let pages: Vec<_> = answer
        .split(|byte| *byte == PAGE_SEPARATOR)
        .map(Bytes::copy_from_slice)
        .collect();
    let found = records(&pages, shape);
    // serde_json's tree says how many records there are, or that this is no answer.
    let trees: Option<Vec<_>> = pages.iter().map(|page| tree(page)).collect();
    if let Some(trees) = trees {
        let counts: Option<Vec<_>> = trees.iter().map(|tree| count(tree, shape)).collect();
        assert_eq!(
            found.as_ref().ok().map(Vec::len),
            counts.map(|counts| counts.iter().sum()),
            "{found:?}"
        );
    }
    let Ok(found) = found else { return };

    let (sketches, unnamed) = distinct(entity, found.clone(), parent);
    nothing_is_lost(entity, &found, &sketches, parent);
    let places: Vec<_> = unnamed.iter().map(|unnamed| unnamed.place).collect();
    assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
    let standing: HashSet<_> = sketches.iter().map(|sketch| place(&found, sketch.raw)).collect();
    assert!(places.iter().all(|place| !standing.contains(place)), "{places:?}");
    for unnamed in unnamed {
        let raw = found[unnamed.place];
        assert_eq!(unnamed.is_object, raw.get().starts_with('{'));
        assert!(Record::from_json(entity, raw, parent, None).is_err(), "{raw}");
    }
    for sketch in sketches {
        check_head(&sketch);
        check_record(entity, &sketch, parent);
    }
}

/// How many records serde_json's tree of a page has; `None` if it is not of the shape.
fn count(page: &serde_json::Value, shape: Shape<'_>) -> Option<usize> {
    let result = page.get("result")?;
    let list = match shape {
        Shape::List => result,
        Shape::Under { id_name, id, list } => {
            let answered = match result.get(id_name)? {
                serde_json::Value::String(text) => text.clone(),
                // The ids that are asked for here are no floats.
                serde_json::Value::Number(number) => number.to_string(),
                _ => return None,
            };
            if answered != id.as_str() {
                return None;
            }
            result.get(list)?
        }
    };
    Some(list.as_array()?.len())
}

/// Where a record stands in its answer.
fn place(records: &[&RawValue], record: &RawValue) -> usize {
    records
        .iter()
        .position(|raw| std::ptr::eq(raw.get(), record.get()))
        .expect("a record of the answer")
}

/// Every record either stands, in its order and with an id of its own, or has no usable id, or makes way for a later
/// one with the same id.
fn nothing_is_lost(entity: Entity, records: &[&RawValue], sketches: &[Sketch<'_>], parent: Option<&Id>) {
    let places: Vec<_> = sketches.iter().map(|sketch| place(records, sketch.raw)).collect();
    assert!(places.is_sorted_by(|a, b| a < b), "{places:?}");
    let standing: HashMap<_, _> = sketches.iter().map(|sketch| &sketch.id).zip(places).collect();
    assert_eq!(standing.len(), sketches.len(), "an id stands twice");
    for (place, raw) in records.iter().enumerate() {
        let (alone, unnamed) = distinct(entity, vec![raw], parent);
        match (&alone[..], &unnamed[..]) {
            ([sketch], []) => assert!(standing[&sketch.id] >= place, "{raw}"),
            ([], [_]) => {}
            _ => panic!("one record became several: {raw}"),
        }
    }
}

/// What is read of a record ahead of the rest agrees with the whole.
fn check_head(sketch: &Sketch<'_>) {
    let Head {
        id,
        occupation,
        transaction_timestamp,
    } = sketch.head;
    if let Ok(members) = members(sketch.raw) {
        let texts = |raw: Option<&RawValue>| raw.map(|raw| raw.get().to_owned());
        assert_eq!(texts(id), texts(members.get("id").copied()));
        assert_eq!(texts(occupation), texts(members.get("occupation").copied()));
        assert_eq!(
            texts(transaction_timestamp),
            texts(members.get("transaction_timestamp").copied())
        );
    }
    let text = |raw: Option<&RawValue>| tree(raw?.get().as_bytes())?.as_str().map(str::to_owned);
    let salesperson = text(occupation).is_some_and(|text| text.to_lowercase() == "salesperson");
    assert_eq!(sketch.head.is_salesperson(), salesperson);
    if let Some(text) = text(transaction_timestamp)
        && let Some(time) = parse_vendor_timestamp(&text)
    {
        assert_eq!(format_vendor_timestamp(time), text);
    }
}

fn members(raw: &RawValue) -> serde_json::Result<BTreeMap<String, &RawValue>> {
    serde_json::from_str(raw.get())
}

/// A record holds exactly what the vendor sent, or is rejected for a reason that it gives.
fn check_record(entity: Entity, sketch: &Sketch<'_>, parent: Option<&Id>) {
    let first_seen = id("7");
    let raw = sketch.raw;
    let record = match Record::from_json(entity, raw, parent, Some(&first_seen)) {
        Ok(record) => record,
        Err(rejection) => return check_rejection(entity, raw, &rejection),
    };
    assert_eq!(record.key.id, sketch.id);
    assert_eq!(record.key.parent.as_ref(), parent);

    let keys: BTreeMap<_, _> = record.key.attributes(entity).collect();
    let mut stored = record.attributes.clone();
    for (name, raw) in members(raw).expect("a record is readable") {
        let says_the_key = |id: &&Id| Id::from_json(raw).is_ok_and(|said| said == **id);
        if name == "id" || keys.get(&*name).is_some_and(says_the_key) {
            continue;
        }
        let plain = !(keys.contains_key(&*name) || name == LAST_MODIFIED || is_reserved(&name));
        let stored_name = if plain {
            name
        } else {
            format!("{}{name}", entity.prefix())
        };
        let value = stored.remove(&stored_name).expect("every attribute is stored");
        check_value(raw, &value);
    }
    assert!(stored.is_empty(), "nobody sent {stored:?}");
    for name in record.attributes.keys() {
        assert!(
            !name.is_empty() && name != LAST_MODIFIED && !is_reserved(name),
            "{name}"
        );
        assert!(!keys.contains_key(&**name), "{name}");
    }
}

fn check_rejection(entity: Entity, raw: &RawValue, rejection: &Rejection) {
    let members = members(raw);
    match rejection {
        Rejection::NameTwice(stored) => {
            let members = members.expect("readable, or else it is rejected for that");
            let unprefixed = stored
                .strip_prefix(entity.prefix())
                .expect("one of them has the prefix");
            assert!(
                members.contains_key(stored) && members.contains_key(unprefixed),
                "{raw}"
            );
        }
        Rejection::NameLength(bytes) => {
            let members = members.expect("readable, or else it is rejected for that");
            assert!(members.keys().any(|name| name.len() == *bytes), "{raw}");
            assert!(*bytes == 0 || *bytes > 65_535, "{bytes}");
        }
        Rejection::Value { attribute, reason } => match members {
            Err(_) => assert!(matches!(reason, ValueError::Unreadable(_)), "{reason}"),
            Ok(members) => check_refusal(members[attribute], reason),
        },
        Rejection::TooLarge(bytes) => assert!(*bytes > MAX_ITEM_BYTES && raw.get().len() > MAX_ITEM_BYTES / 4),
        // It has an id that can be a key, or it would not have come this far.
        _ => panic!("{rejection}: {raw}"),
    }
}

fn check_refusal(raw: &RawValue, reason: &ValueError) {
    match reason {
        ValueError::Number { text, reason } => {
            assert!(raw.get().contains(text.as_str()), "{raw}");
            let (_, digits, exponent) = decimal(text).expect("JSON's numbers are decimal");
            let first = exponent + digits.len() as i128 - 1;
            match reason {
                NumberError::TooManyDigits(count) => {
                    assert!(digits.len() == *count && *count > MAX_SIGNIFICANT_DIGITS, "{text}");
                }
                NumberError::OutOfRange => assert!(!(-130..=125).contains(&first), "{text}"),
                NumberError::Malformed => panic!("{text} is a number"),
            }
        }
        ValueError::TooDeep => assert!(raw.get().matches(['[', '{']).count() > 32, "{raw}"),
        ValueError::EmptyName => assert!(raw.get().contains(r#""""#), "{raw}"),
        // Of JSON, only halves of surrogate pairs are not readable.
        ValueError::Unreadable(_) => assert!(raw.get().to_lowercase().contains(r"\ud"), "{raw}"),
    }
}

/// A value says what its text says, to the last digit; and says the same when it is written and read again.
fn check_value(raw: &RawValue, value: &Value) {
    check_meaning(raw.get(), value);
    let mut written = String::new();
    write(value, &mut written);
    let again: &RawValue = serde_json::from_str(&written).expect("JSON was written");
    assert_eq!(Value::from_json(again).expect("it was a value"), *value, "{written}");
}

fn check_meaning(raw: &str, value: &Value) {
    match value {
        Value::Null => assert_eq!(raw, "null"),
        Value::Bool(flag) => assert_eq!(raw, flag.to_string()),
        Value::Number(number) => check_number(raw, number),
        Value::String(text) => assert_eq!(serde_json::from_str::<String>(raw).expect("a string"), *text),
        Value::Array(elements) => {
            let raws: Vec<&RawValue> = serde_json::from_str(raw).expect("an array");
            assert_eq!(raws.len(), elements.len());
            raws.iter()
                .zip(elements)
                .for_each(|(raw, value)| check_meaning(raw.get(), value));
        }
        Value::Object(members) => {
            let raws: HashMap<String, &RawValue> = serde_json::from_str(raw).expect("an object");
            assert_eq!(raws.len(), members.len());
            members
                .iter()
                .for_each(|(name, value)| check_meaning(raws[name].get(), value));
        }
    }
}

fn check_number(raw: &str, number: &Number) {
    let text = number.as_str();
    assert_eq!(decimal(raw), decimal(text), "{raw} became {text}");
    assert_eq!(Number::parse(text).as_ref(), Ok(number));
    // However DynamoDB writes it, it is no change.
    let (negative, digits, exponent) = decimal(text).expect("a decimal number");
    let sign = if negative { "-" } else { "" };
    let whole = if digits.is_empty() { "0" } else { &digits };
    assert_eq!(Number::parse(&format!("{sign}{whole}E{exponent}")).as_ref(), Ok(number));
    assert_eq!(
        Number::parse(&format!("{sign}0.{whole}e{}", exponent + digits.len() as i128)).as_ref(),
        Ok(number)
    );
}

/// Sign, digits without zeros around them, and the power of ten of the last digit: what a decimal number is, read
/// without the code that is checked. Zero has neither digits nor exponent.
fn decimal(text: &str) -> Option<(bool, String, i128)> {
    let lower = text.to_lowercase();
    let (mantissa, exponent) = lower.split_once('e').unwrap_or((&lower, "0"));
    let negative = mantissa.starts_with('-');
    let mantissa = mantissa.trim_start_matches('-');
    let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    let digits = mantissa.replace('.', "");
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Some((false, String::new(), 0));
    }
    let stripped = digits.trim_end_matches('0');
    let outermost = if exponent.starts_with('-') { -1 } else { 1 } * i128::from(u64::MAX);
    let exponent = exponent.parse().unwrap_or(outermost) - fraction as i128 + (digits.len() - stripped.len()) as i128;
    Some((negative, stripped.to_owned(), exponent))
}

fn write(value: &Value, text: &mut String) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(flag) => text.push_str(&flag.to_string()),
        Value::Number(number) => text.push_str(number.as_str()),
        Value::String(string) => text.push_str(&serde_json::Value::from(string.as_str()).to_string()),
        Value::Array(elements) => {
            text.push('[');
            for (place, element) in elements.iter().enumerate() {
                text.push_str(if place == 0 { "" } else { "," });
                write(element, text);
            }
            text.push(']');
        }
        Value::Object(members) => {
            text.push('{');
            for (place, (name, member)) in members.iter().enumerate() {
                text.push_str(if place == 0 { "" } else { "," });
                text.push_str(&serde_json::Value::from(name.as_str()).to_string());
                text.push(':');
                write(member, text);
            }
            text.push('}');
        }
    }
}
