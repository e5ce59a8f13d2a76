//! What an answer says, checked against the contract's section 1 before anything of it is applied. The records stay
//! slices of the body: a tree of 100,000 sales would not fit into a function's memory.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::entity::Entity;
use crate::id::Id;
use crate::record::{Key, Rejection};
use crate::value::shorten;

/// An answer that is JSON, but not as the contract's section 1 says. No further try can mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the vendor's answer is not as expected: {reason}")]
pub struct MalformedAnswer {
    reason: String,
    page: usize,
}

impl MalformedAnswer {
    /// Which of its pages it is, from 0.
    pub fn page(&self) -> usize {
        self.page
    }
}

/// Where an answer's records stand in it.
#[derive(Clone, Copy, Debug)]
pub enum Shape<'a> {
    /// `{"result": [record, …]}`
    List,
    /// `{"result": {"<id_name>": id, "<list>": [record, …]}}`
    Under {
        /// The name of the id that the answer repeats.
        id_name: &'static str,
        /// The id that was asked for.
        id: &'a Id,
        /// The name of the list.
        list: &'static str,
    },
}

/// The records of an answer, of all its pages, unread.
///
/// # Errors
/// If the answer does not have the shape, or is about another id than was asked for.
pub fn records<'a>(pages: &'a [Bytes], shape: Shape<'_>) -> Result<Vec<&'a RawValue>, MalformedAnswer> {
    let mut all = Vec::new();
    for (page, body) in pages.iter().enumerate() {
        let mut records = records_of_page(body, shape).map_err(|reason| MalformedAnswer { reason, page })?;
        all.append(&mut records);
    }
    Ok(all)
}

fn records_of_page<'a>(page: &'a [u8], shape: Shape<'_>) -> Result<Vec<&'a RawValue>, String> {
    let members = object(page, "the answer")?;
    let result = member(&members, "result")?;
    let list = match shape {
        Shape::List => result,
        Shape::Under { id_name, id, list } => {
            let members = object(result.get().as_bytes(), "result")?;
            let answered =
                Id::from_json(member(&members, id_name)?).map_err(|error| format!("result's {id_name} {error}"))?;
            if answered != *id {
                return Err(format!(
                    "it is about {id_name} {}, not {id}",
                    shorten(answered.as_str())
                ));
            }
            member(&members, list)?
        }
    };
    serde_json::from_str(list.get()).map_err(|_| "the records are not a JSON array".to_owned())
}

fn object<'a>(json: &'a [u8], what: &str) -> Result<BTreeMap<String, &'a RawValue>, String> {
    serde_json::from_slice(json).map_err(|_| format!("{what} is not a JSON object"))
}

fn member<'a>(members: &BTreeMap<String, &'a RawValue>, name: &str) -> Result<&'a RawValue, String> {
    members.get(name).copied().ok_or_else(|| format!("it has no {name}"))
}

/// A record of which only what decides about it has been read.
#[derive(Debug)]
pub struct Sketch<'a> {
    /// Its id, which can be a key.
    pub id: Id,
    /// What decides about it.
    pub head: Head<'a>,
    /// All of it.
    pub raw: &'a RawValue,
}

/// A record that has no usable id, and why.
#[derive(Debug)]
pub struct Unnamed<'a> {
    /// The place it has in the answer, from 0.
    pub place: usize,
    /// Whether it is a JSON object at all.
    pub is_object: bool,
    /// What decides about it.
    pub head: Head<'a>,
    /// Why.
    pub rejection: Rejection,
    /// All of it.
    pub raw: &'a RawValue,
}

/// The distinct records of an answer, in its order: of the same id twice, the last one stands. Beside them those that
/// have no usable id.
pub fn distinct<'a>(
    entity: Entity,
    records: Vec<&'a RawValue>,
    parent: Option<&Id>,
) -> (Vec<Sketch<'a>>, Vec<Unnamed<'a>>) {
    let mut seen = HashSet::with_capacity(records.len());
    let (mut sketches, mut rejected) = (Vec::with_capacity(records.len()), Vec::new());
    for (place, raw) in records.into_iter().enumerate().rev() {
        let head = Head::read(raw);
        let is_object = raw.get().starts_with('{');
        let id = match head.id.map(Id::from_json) {
            None if is_object => Err(Rejection::MissingId),
            None => Err(Rejection::NotAnObject),
            Some(id) => id.map_err(Rejection::Id),
        };
        match id
            .and_then(|id| Key::new(entity, id, parent.cloned()))
            .map(|key| key.id)
        {
            Ok(id) => {
                if seen.insert(id.clone()) {
                    sketches.push(Sketch { id, head, raw });
                }
            }
            Err(rejection) => rejected.push(Unnamed {
                place,
                is_object,
                head,
                rejection,
                raw,
            }),
        }
    }
    sketches.reverse();
    rejected.reverse();
    (sketches, rejected)
}

/// The members of a record that decide about it. Of a name that stands twice, the last one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Head<'a> {
    /// `id`
    pub id: Option<&'a RawValue>,
    /// An employee's `occupation`.
    pub occupation: Option<&'a RawValue>,
    /// A sale's `transaction_timestamp`.
    pub transaction_timestamp: Option<&'a RawValue>,
}

impl<'a> Head<'a> {
    /// What `raw` has of them: nothing, if it is no object.
    fn read(raw: &'a RawValue) -> Self {
        serde_json::from_str(raw.get()).unwrap_or_default()
    }

    /// Whether this is an employee whose occupation is salesperson, in any case of letters.
    pub fn is_salesperson(&self) -> bool {
        self.occupation
            .and_then(|raw| serde_json::from_str::<String>(raw.get()).ok())
            .is_some_and(|occupation| occupation.to_lowercase() == "salesperson")
    }
}

impl<'de> Deserialize<'de> for Head<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct HeadVisitor;

        impl<'de> Visitor<'de> for HeadVisitor {
            type Value = Head<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Head<'de>, A::Error> {
                let mut head = Head::default();
                while let Some(name) = members.next_key::<Name>()? {
                    match name {
                        Name::Id => head.id = Some(members.next_value()?),
                        Name::Occupation => head.occupation = Some(members.next_value()?),
                        Name::TransactionTimestamp => head.transaction_timestamp = Some(members.next_value()?),
                        Name::Other => {
                            members.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(head)
            }
        }

        deserializer.deserialize_map(HeadVisitor)
    }
}

enum Name {
    Id,
    Occupation,
    TransactionTimestamp,
    Other,
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;

        impl Visitor<'_> for NameVisitor {
            type Value = Name;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name")
            }

            fn visit_bytes<E>(self, name: &[u8]) -> Result<Name, E> {
                Ok(match name {
                    b"id" => Name::Id,
                    b"occupation" => Name::Occupation,
                    b"transaction_timestamp" => Name::TransactionTimestamp,
                    _ => Name::Other,
                })
            }
        }

        // As bytes: a name that is no text, such as half of a surrogate pair, must not hide the record's id.
        deserializer.deserialize_bytes(NameVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Id {
        Id::new(text.to_owned()).unwrap()
    }

    fn pages(pages: &[&'static str]) -> Vec<Bytes> {
        pages.iter().map(|page| Bytes::from_static(page.as_bytes())).collect()
    }

    fn texts(answer: &[Bytes], shape: Shape<'_>) -> Result<Vec<String>, String> {
        let records = records(answer, shape).map_err(|error| error.to_string())?;
        Ok(records.into_iter().map(|raw| raw.get().to_owned()).collect())
    }

    fn employees(id: &Id) -> Shape<'_> {
        Shape::Under {
            id_name: "branch_id",
            id,
            list: "employees",
        }
    }

    #[test]
    fn the_records_of_all_pages_are_found_in_order() {
        let answer = pages(&[
            r#"{"result": {"branch_id": 1, "employees": [{"id": 1}, 2], "more": {}}}"#,
            r#"{"next": null, "result": {"employees": [ {"id":3} ], "branch_id": "1"}}"#,
        ]);
        assert_eq!(
            texts(&answer, employees(&id("1"))).unwrap(),
            [r#"{"id": 1}"#, "2", r#"{"id":3}"#]
        );
        assert_eq!(
            texts(&pages(&[r#"{"result": []}"#]), Shape::List).unwrap(),
            Vec::<String>::new()
        );
    }

    #[test]
    fn an_answer_of_another_shape_is_refused_by_what_it_lacks() {
        for (answer, reason) in [
            ("[]", "the answer is not a JSON object"),
            ("{}", "it has no result"),
            (r#"{"result": []}"#, "result is not a JSON object"),
            (r#"{"result": {"employees": []}}"#, "it has no branch_id"),
            (r#"{"result": {"branch_id": 1}}"#, "it has no employees"),
            (
                r#"{"result": {"branch_id": 1, "employees": {}}}"#,
                "the records are not a JSON array",
            ),
            (
                r#"{"result": {"branch_id": 2, "employees": []}}"#,
                "it is about branch_id 2, not 1",
            ),
            (
                r#"{"result": {"branch_id": null, "employees": []}}"#,
                "result's branch_id is null",
            ),
        ] {
            let error = texts(&pages(&[answer]), employees(&id("1"))).unwrap_err();
            assert!(error.contains(reason), "{answer}: {error}");
        }
        let error = texts(&pages(&[r#"{"result": {}}"#]), Shape::List).unwrap_err();
        assert!(error.contains("the records are not a JSON array"), "{error}");
    }

    #[test]
    fn of_the_same_id_twice_the_last_record_stands_in_its_place() {
        let answer = pages(&[r#"{"result": [{"id": 1, "a": 1}, {"id": 2}, {"id": "1", "a": 2}]}"#]);
        let (sketches, rejected) = distinct(Entity::Branch, records(&answer, Shape::List).unwrap(), None);
        let texts: Vec<_> = sketches.iter().map(|sketch| sketch.raw.get()).collect();
        assert_eq!(texts, [r#"{"id": 2}"#, r#"{"id": "1", "a": 2}"#]);
        assert!(rejected.is_empty());
    }

    #[test]
    fn records_without_a_usable_id_are_rejected_by_their_place() {
        let answer = pages(&[r#"{"result": [{"id": ""}, {"id": 1}, 7, {"id": 2, "id": null}, {}]}"#]);
        let (sketches, rejected) = distinct(Entity::Branch, records(&answer, Shape::List).unwrap(), None);
        assert_eq!(sketches.len(), 1);
        let reasons: Vec<_> = rejected.iter().map(|r| (r.place, r.rejection.to_string())).collect();
        assert_eq!(
            reasons,
            [
                (0, "its id is an empty string".to_owned()),
                (2, "is not a JSON object".to_owned()),
                (3, "its id is null, expected an integer or a string".to_owned()),
                (4, "has no id".to_owned()),
            ]
        );
    }

    #[test]
    fn a_name_that_is_no_text_does_not_hide_the_others() {
        let answer = pages(&[r#"{"result": [{"\ud800": 1, "\u0069d": 7, "occupation": "salesperson"}]}"#]);
        let (sketches, rejected) = distinct(Entity::Branch, records(&answer, Shape::List).unwrap(), None);
        assert_eq!(sketches[0].id, id("7"));
        assert!(sketches[0].head.is_salesperson() && rejected.is_empty());
    }

    #[test]
    fn an_occupation_is_told_in_any_case_of_letters() {
        let head = |json: &'static str| Head::read(serde_json::from_str(json).unwrap());
        assert!(head(r#"{"occupation": "SalesPerson", "x": [1]}"#).is_salesperson());
        assert!(!head(r#"{"occupation": "salesperson", "occupation": "data engineer"}"#).is_salesperson());
        assert!(!head(r#"{"occupation": ["salesperson"]}"#).is_salesperson());
        assert!(!head("3").is_salesperson());
    }
}
