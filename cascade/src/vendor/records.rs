//! What the vendor knows, and how each record looks as JSON: `Display` writes the text that is answered.
//!
//! Numbers are integers in here (cents, millionths) and written digit by digit, because a float on the way would
//! neither keep a trailing zero nor more than 17 digits.

use std::fmt::{self, Display, Formatter};

use time::UtcDateTime;

use super::catalogue::{BRANCHES, CHANNELS, CUSTOMERS, FIRST_NAMES, LAST_NAMES, NOTES, OTHER_OCCUPATIONS, PRODUCTS};

#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) id: u64,
    /// Its place in [`BRANCHES`].
    pub(super) index: usize,
    pub(super) opened: UtcDateTime,
    pub(super) manager: u64,
    pub(super) floor_space_hundredths: u64,
    pub(super) rent_cents: u64,
    pub(super) loading_docks: u8,
    pub(super) open_on_saturdays: bool,
    /// Integer part, and nine decimals: more digits than a 64-bit float holds.
    pub(super) lifetime_revenue: (u64, u32),
}

impl Branch {
    pub(super) fn name(&self) -> &'static str {
        BRANCHES[self.index].name
    }
}

/// A branch as it is answered: it also says how many work there, which the staff knows and not the branch.
pub(super) struct StaffedBranch<'a> {
    pub(super) branch: &'a Branch,
    pub(super) employees: usize,
}

impl Display for StaffedBranch<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let branch = self.branch;
        let place = &BRANCHES[branch.index];
        write!(
            f,
            r#"{{"id":{},"branch_name":"{}","employees":{},"location":"{}","coordinates":{{"latitude":{},"longitude":{}}}"#,
            branch.id, place.name, self.employees, place.location, place.latitude, place.longitude
        )?;
        write!(
            f,
            r#","opened":"{}","manager":{{"employee_id":{},"contact":{{"phone":"{}-555-0100","fax":null}}}}"#,
            Day(branch.opened),
            branch.manager,
            place.area_code
        )?;
        write!(
            f,
            r#","floor_space":{},"rent":{},"open_on_saturdays":{},"paper_sizes":["letter","legal",[11,17]]"#,
            Hundredths(branch.floor_space_hundredths),
            Hundredths(branch.rent_cents),
            branch.open_on_saturdays
        )?;
        match branch.loading_docks {
            0 => f.write_str(r#","warehouse":null"#)?,
            docks => write!(f, r#","warehouse":{{"docks":{docks},"forklifts":[]}}"#)?,
        }
        let (whole, nanos) = branch.lifetime_revenue;
        write!(f, r#","lifetime_revenue":{whole}.{nanos:09}}}"#)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occupation {
    Salesperson,
    /// Its place in [`OTHER_OCCUPATIONS`].
    Other(usize),
}

#[derive(Clone, Debug)]
pub(super) struct Employee {
    pub(super) id: u64,
    /// Its place in [`BRANCHES`].
    pub(super) branch: usize,
    pub(super) occupation: Occupation,
    pub(super) first_name: usize,
    pub(super) last_name: usize,
    pub(super) hired: UtcDateTime,
    /// Of a branch in [`BRANCHES`], where the first contract was signed; the telephone number stays.
    pub(super) hired_at: usize,
    pub(super) transferred: Option<UtcDateTime>,
    pub(super) commission_basis_points: u16,
    pub(super) speaks_spanish: bool,
}

impl Employee {
    pub(super) fn is_salesperson(&self) -> bool {
        self.occupation == Occupation::Salesperson
    }
}

impl Display for Employee {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let occupation = match self.occupation {
            // The contract takes the word in any case of letters, so some of it comes capitalised.
            Occupation::Salesperson if self.id % 12 == 5 => "Salesperson",
            Occupation::Salesperson => "salesperson",
            Occupation::Other(index) => OTHER_OCCUPATIONS[index],
        };
        write!(
            f,
            r#"{{"id":{},"occupation":"{occupation}","name":"{} {}","hired_on":"{}""#,
            self.id,
            FIRST_NAMES[self.first_name],
            LAST_NAMES[self.last_name],
            Day(self.hired)
        )?;
        write!(
            f,
            r#","contact":{{"email":"e{}@dundermifflin.example","phone":{{"country":1,"number":"{}-555-01{:02}"}}}}"#,
            self.id,
            BRANCHES[self.hired_at].area_code,
            self.id % 100
        )?;
        if self.is_salesperson() {
            write!(f, r#","commission_rate":0.{:04}"#, self.commission_basis_points)?;
        }
        if let Some(day) = self.transferred {
            write!(f, r#","transferred_on":"{}""#, Day(day))?;
        }
        let languages = if self.speaks_spanish {
            r#"["en","es"]"#
        } else {
            r#"["en"]"#
        };
        write!(f, r#","languages":{languages},"company_car":null}}"#)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Sale {
    pub(super) id: u64,
    /// The id is a JSON string, not an integer.
    pub(super) textual_id: bool,
    pub(super) booked: UtcDateTime,
    pub(super) product: usize,
    pub(super) customer: usize,
    pub(super) quantity: u32,
    pub(super) amount_cents: u64,
    pub(super) discount_percent: Option<u8>,
    pub(super) channel: usize,
    /// An attribute that comes and goes: absent where `None`.
    pub(super) note: Option<usize>,
    /// An attribute only where the vendor itself says which branch booked it.
    pub(super) branch_id: Option<u64>,
}

impl Sale {
    pub(super) fn id_text(&self) -> String {
        if self.textual_id {
            format!("DM-{}", self.id)
        } else {
            self.id.to_string()
        }
    }
}

impl Display for Sale {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let quote = if self.textual_id { "\"" } else { "" };
        let (product, price_cents) = PRODUCTS[self.product];
        let (customer, segment) = CUSTOMERS[self.customer];
        write!(
            f,
            r#"{{"id":{quote}{}{quote},"transaction_timestamp":"{}","product":"{product}","quantity":{},"unit_price":{}"#,
            self.id_text(),
            Second(self.booked),
            self.quantity,
            Hundredths(price_cents.into())
        )?;
        write!(f, r#","amount":{},"discount":"#, Hundredths(self.amount_cents))?;
        match self.discount_percent {
            Some(percent) => write!(f, "0.{percent:02}")?,
            None => f.write_str("null")?,
        }
        write!(
            f,
            r#","customer":{{"id":{},"name":"{customer}","segment":"{segment}"}},"tags":["{}"]"#,
            400 + 13 * self.customer,
            CHANNELS[self.channel]
        )?;
        if let Some(note) = self.note {
            write!(f, r#","note":"{}""#, NOTES[note])?;
        }
        if let Some(branch_id) = self.branch_id {
            write!(f, r#","branch_id":{branch_id}"#)?;
        }
        f.write_str("}")
    }
}

struct Hundredths(u64);

impl Display for Hundredths {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

struct Day(UtcDateTime);

impl Display for Day {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04}-{:02}-{:02}",
            self.0.year(),
            u8::from(self.0.month()),
            self.0.day()
        )
    }
}

struct Second(UtcDateTime);

impl Display for Second {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (hour, minute, second) = self.0.as_hms();
        write!(f, "{} {hour:02}:{minute:02}:{second:02}", Day(self.0))
    }
}
