//! What the simulated company is made of. All of it is text as it stands between the quotes of a JSON string, so some
//! of it carries escapes that whoever reads the answers has to understand.

pub(super) struct BranchPlace {
    pub(super) name: &'static str,
    pub(super) location: &'static str,
    pub(super) latitude: &'static str,
    pub(super) longitude: &'static str,
    pub(super) area_code: u16,
}

const fn place(
    name: &'static str,
    location: &'static str,
    latitude: &'static str,
    longitude: &'static str,
    area_code: u16,
) -> BranchPlace {
    BranchPlace {
        name,
        location,
        latitude,
        longitude,
        area_code,
    }
}

/// The branches of the contract's section 2, in its order.
pub(super) const BRANCHES: [BranchPlace; 13] = [
    place("Scranton", "Scranton, PA", "41.408970", "-75.662410", 570),
    place("Akron", "Akron, OH", "41.081450", "-81.519010", 330),
    place("Buffalo", "Buffalo, NY", "42.886450", "-78.878370", 716),
    place("Rochester", "Rochester, NY", "43.156580", "-77.608850", 585),
    place("Syracuse", "Syracuse, NY", "43.048120", "-76.147420", 315),
    place("Utica", "Utica, NY", "43.100900", "-75.232660", 315),
    place("Binghamton", "Binghamton, NY", "42.098690", "-75.917970", 607),
    place("Albany", "Albany, NY", "42.652580", "-73.756230", 518),
    place("Nashua", "Nashua, NH", "42.765370", "-71.467570", 603),
    place("Pittsfield", "Pittsfield, MA", "42.450080", "-73.245380", 413),
    place("Stamford", "Stamford, CT", "41.053430", "-73.538730", 203),
    place("Yonkers", "Yonkers, NY", "40.931210", "-73.898750", 914),
    place("New York", "New York, NY", "40.714270", "-74.005970", 212),
];

/// Who works at a branch besides its salespersons, one each.
pub(super) const OTHER_OCCUPATIONS: [&str; 6] = [
    "regional manager",
    "accountant",
    "receptionist",
    "data engineer",
    "quality assurance",
    "warehouse foreman",
];

pub(super) const FIRST_NAMES: [&str; 32] = [
    "Alice",
    "Andr\\u00e9",
    "Beatriz",
    "Brian",
    "Carla",
    "Chidi",
    "Clark",
    "Daniela",
    "Devon",
    "Elena",
    "Frank",
    "Grace",
    "Hannah",
    "Hiro",
    "Irene",
    "Jonas",
    "Karen",
    "Kevin",
    "Leila",
    "Marcus",
    "Nate",
    "Nora",
    "Olga",
    "Pete",
    "Priya",
    "Ravi",
    "Ruth",
    "Sam",
    "Tessa",
    "Victor",
    "Yusuf",
    "Zoë",
];

pub(super) const LAST_NAMES: [&str; 32] = [
    "Adler",
    "Baptiste",
    "Bergström",
    "Brandt",
    "Castillo",
    "Chen",
    "Cohen",
    "Delgado",
    "Dubois",
    "Eriksen",
    "Fischer",
    "Garc\\u00eda",
    "Haddad",
    "Hughes",
    "Ito",
    "Jensen",
    "Kapoor",
    "Kowalski",
    "Larsen",
    "Lindqvist",
    "Mbeki",
    "Moretti",
    "Nakamura",
    "O'Brien",
    "Okafor",
    "Petrov",
    "Quinn",
    "Rossi",
    "Santos",
    "Turner",
    "Vogel",
    "Weiss",
];

/// Product and list price in cents.
pub(super) const PRODUCTS: [(&str, u32); 12] = [
    ("Copy paper A4 80 g", 499),
    ("Letter bond 24 lb", 849),
    ("Ledger 11x17", 1290),
    ("Card stock 110 lb", 1990),
    ("Recycled letter", 560),
    ("Photo gloss 4x6", 2475),
    ("Legal pads, 12", 1110),
    ("Envelopes #10", 3205),
    ("Labels 30\\/sheet", 2740),
    ("Parchment", 3999),
    ("Toner, black", 8450),
    ("Construction paper", 725),
];

/// Customer and segment.
pub(super) const CUSTOMERS: [(&str, &str); 16] = [
    ("Lackawanna County", "public"),
    ("Blue Cross", "health"),
    ("Dunmore High School", "school"),
    ("Harper Collins", "print"),
    ("Vance \\\"Cold\\\" Storage", "trade"),
    ("Caf\\u00e9 Disco", "food"),
    ("Poor Richard's", "food"),
    ("Gould's Printing", "print"),
    ("Ashley & Sons", "trade"),
    ("Jim's Auto", "trade"),
    ("Müller Druck", "print"),
    ("Apex Technology", "tech"),
    ("Eastern Penn", "health"),
    ("Deckert Bakery", "food"),
    ("Prince Family Paper", "trade"),
    ("Utica Library", "public"),
];

pub(super) const CHANNELS: [&str; 4] = ["phone", "visit", "web", "fax"];

pub(super) const NOTES: [&str; 4] = ["rush", "call first", "dock B", "tax exempt"];
