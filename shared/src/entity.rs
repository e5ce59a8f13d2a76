//! The three kinds of record, and how each is named and keyed in its table (the contract's section 5).

/// A kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entity {
    /// A branch of the vendor.
    Branch,
    /// An employee whose occupation is salesperson, at one branch.
    Salesperson,
    /// A sale of one salesperson.
    Sale,
}

/// The attribute that holds when the answer that caused a row's last write was fetched.
pub const LAST_MODIFIED: &str = "last_modified";

/// The attribute that a row has whose record has vanished from the vendor's answers: since when, in the form of
/// [`LAST_MODIFIED`].
pub const DELETED_AT: &str = "deleted_at";

/// The attribute that a sale is given on first sight where the vendor sends none.
pub const BRANCH_ID: &str = "branch_id";

/// The length in bytes that DynamoDB allows a partition key.
///
/// Source: "Constraints in Amazon DynamoDB", Amazon DynamoDB Developer Guide.
pub const MAX_PARTITION_KEY_BYTES: usize = 2048;

/// The length in bytes that DynamoDB allows a sort key; source as for [`MAX_PARTITION_KEY_BYTES`].
pub const MAX_SORT_KEY_BYTES: usize = 1024;

impl Entity {
    /// All kinds, in the order of the cascade.
    pub const ALL: [Self; 3] = [Self::Branch, Self::Salesperson, Self::Sale];

    /// The kind's name in logs and tables' names: `branch`, `salesperson`, `sale`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Branch => "branch",
            Self::Salesperson => "salesperson",
            Self::Sale => "sale",
        }
    }

    /// The name of the vendor's list of them: `branches`, `employees`, `sales`.
    pub fn list_name(self) -> &'static str {
        match self {
            Self::Branch => "branches",
            Self::Salesperson => "employees",
            Self::Sale => "sales",
        }
    }

    /// What is put before an attribute's name that cannot stand as it is.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Branch => "branch_",
            Self::Salesperson => "employee_",
            Self::Sale => "sale_",
        }
    }

    /// The partition key's name: it holds the vendor's `id`.
    pub fn partition_key(self) -> &'static str {
        match self {
            Self::Branch => BRANCH_ID,
            Self::Salesperson => "employee_id",
            Self::Sale => "sale_id",
        }
    }

    /// The sort key's name: it holds the id under which the record was asked for.
    pub fn sort_key(self) -> Option<&'static str> {
        match self {
            Self::Branch => None,
            Self::Salesperson => Some(BRANCH_ID),
            Self::Sale => Some("employee_id"),
        }
    }

    /// The attribute that a row is given when it is first seen and that later answers without it leave as it is.
    pub fn first_seen_attribute(self) -> Option<&'static str> {
        match self {
            Self::Branch | Self::Salesperson => None,
            Self::Sale => Some(BRANCH_ID),
        }
    }
}
