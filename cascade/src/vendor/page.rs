//! What is answered where nothing goes wrong: an answer's records, page by page, as text.

use std::fmt::{Display, Write};
use std::hash::{DefaultHasher, Hasher};

use axum::body::Bytes;

use super::faults::BadRecord;
use super::world::World;

#[derive(Clone, Copy)]
pub(super) enum Endpoint {
    Branches,
    Employees,
    Sales,
}

impl Endpoint {
    pub(super) fn of(path: &str) -> Option<Self> {
        match path {
            "/branches" => Some(Self::Branches),
            "/employees" => Some(Self::Employees),
            "/sales" => Some(Self::Sales),
            _ => None,
        }
    }

    pub(super) fn parameter(self) -> &'static str {
        match self {
            Self::Branches => "branch",
            Self::Employees => "branchID",
            Self::Sales => "employeeID",
        }
    }
}

/// One page of an answer.
#[derive(Clone)]
pub(super) struct Page {
    pub(super) body: Bytes,
    pub(super) etag: String,
    pub(super) is_last: bool,
    pub(super) spoiled_record: Option<String>,
}

/// A page of what is asked for; `None` if there is no such id.
pub(super) fn write_page(
    world: &World,
    endpoint: Endpoint,
    id: &str,
    number: usize,
    page_size: Option<usize>,
    spoil: Option<BadRecord>,
) -> Option<Page> {
    let cut = Cut {
        number,
        size: page_size.unwrap_or(usize::MAX),
        spoil,
    };
    let written = match endpoint {
        Endpoint::Branches => {
            let found: Vec<_> = world.branch_named(id).into_iter().collect();
            cut.write(r#"{"result":["#, &found, "]}", |_| true)
        }
        Endpoint::Employees => {
            let branch: u64 = id.parse().ok()?;
            let begin = format!(r#"{{"result":{{"branch_id":{branch},"employees":["#);
            cut.write(&begin, &world.staff_of(branch)?, "]}}", |person| {
                person.is_salesperson()
            })
        }
        Endpoint::Sales => {
            let employee: u64 = id.parse().ok()?;
            let begin = format!(r#"{{"result":{{"employee_id":{employee},"sales":["#);
            cut.write(&begin, world.sales_of(employee)?, "]}}", |_| true)
        }
    };
    Some(written)
}

/// Which part of a list is written, and how.
struct Cut {
    number: usize,
    size: usize,
    spoil: Option<BadRecord>,
}

impl Cut {
    /// `worth_spoiling`: whether anybody would notice if this record were invalid.
    fn write<T: Display>(&self, begin: &str, all: &[T], end: &str, worth_spoiling: impl Fn(&T) -> bool) -> Page {
        let from = (self.number - 1).saturating_mul(self.size).min(all.len());
        let to = from.saturating_add(self.size).min(all.len());
        let records = &all[from..to];
        let mut spoiled = None;
        if let Some(how) = self.spoil {
            let candidates: Vec<usize> = (0..records.len())
                .filter(|&place| worth_spoiling(&records[place]))
                .collect();
            spoiled = candidates.get(candidates.len() / 2).map(|&place| (place, how));
        }
        let mut spoiled_record = None;
        let mut body = String::with_capacity(begin.len() + records.len() * 240 + end.len());
        body.push_str(begin);
        for (place, record) in records.iter().enumerate() {
            if place > 0 {
                body.push(',');
            }
            match spoiled {
                Some((chosen, how)) if chosen == place => {
                    let text = record.to_string();
                    body.push_str(&how.spoil(&text));
                    spoiled_record = Some(id_in(&text));
                }
                _ => {
                    // Writing to a string cannot fail.
                    let _ = write!(body, "{record}");
                }
            }
        }
        body.push_str(end);
        let mut hasher = DefaultHasher::new();
        hasher.write(body.as_bytes());
        Page {
            etag: format!("\"{:016x}\"", hasher.finish()),
            body: Bytes::from(body),
            is_last: to == all.len(),
            spoiled_record,
        }
    }
}

/// The id with which every record begins.
fn id_in(record: &str) -> String {
    let id = record.strip_prefix(r#"{"id":"#).and_then(|rest| rest.split(',').next());
    id.unwrap_or_default().trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendor::world::WorldOptions;
    use time::macros::utc_datetime;

    fn world() -> World {
        World::new(WorldOptions::new(1, utc_datetime!(2026-11-21 01:00))).unwrap()
    }

    fn sales_page(world: &World, number: usize, size: Option<usize>) -> Page {
        let id = &world.expected_salespersons()[0].id;
        write_page(world, Endpoint::Sales, id, number, size, None).unwrap()
    }

    fn records_on(page: &Page) -> usize {
        page.body
            .windows(21)
            .filter(|text| text == b"transaction_timestamp")
            .count()
    }

    #[test]
    fn pages_are_full_but_for_the_last_one_and_empty_beyond_it() {
        let world = world();
        let shape = |number, size| {
            let page = sales_page(&world, number, size);
            (records_on(&page), page.is_last)
        };
        assert_eq!(shape(1, None), (50, true));
        assert_eq!(shape(1, Some(20)), (20, false));
        assert_eq!(shape(3, Some(20)), (10, true));
        assert_eq!(shape(2, Some(25)), (25, true));
        assert_eq!(shape(4, Some(20)), (0, true));
        assert_eq!(shape(usize::MAX, Some(usize::MAX)), (0, true));
    }

    #[test]
    fn an_etag_stands_for_the_content_of_its_page() {
        let world = world();
        let tag = |number| sales_page(&world, number, Some(20)).etag;
        assert_eq!(tag(1), tag(1));
        assert_ne!(tag(1), tag(2));
        assert!(
            tag(1).starts_with('"') && tag(1).ends_with('"'),
            "strong and quoted: {}",
            tag(1)
        );
    }

    #[test]
    fn an_id_nobody_has_has_no_page_but_an_unknown_branch_name_an_empty_one() {
        let world = world();
        for (endpoint, id) in [
            (Endpoint::Employees, "1"),
            (Endpoint::Sales, "1"),
            (Endpoint::Sales, "one"),
        ] {
            assert!(write_page(&world, endpoint, id, 1, None, None).is_none());
        }
        let page = write_page(&world, Endpoint::Branches, "Slough", 1, None, None).unwrap();
        assert_eq!((&page.body[..], page.is_last), (&br#"{"result":[]}"#[..], true));
    }
}
