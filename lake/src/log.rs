//! The logs: what each holds, and in which columns.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef, TimeUnit};
use shared::entity::Entity;

/// A change log: one row for each record of a table's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Log {
    /// The table `branch-…`.
    Branches,
    /// The table `salesperson-…`.
    Salespersons,
    /// The table `sale-…`.
    Sales,
    /// What the table `sync-…` says of runs.
    Runs,
}

/// What happened to the item: `insert`, `update`, `delete` or `remove`.
pub const OPERATION: &str = "operation";
/// What of an item has no column that holds it exactly: a JSON object.
pub const ATTRIBUTES: &str = "attributes";
/// When the vendor no longer had the record.
pub const DELETED_AT: &str = "deleted_at";
/// When the answer was fetched that the item comes from.
pub const LAST_MODIFIED: &str = shared::entity::LAST_MODIFIED;
/// The newest run that had begun by then; in the log of runs, the run itself.
pub const RUN_ID: &str = "run_id";
/// When the stream's record was made.
pub const CHANGED_AT: &str = "changed_at";
/// The stream's sequence number, of [`SEQUENCE_DIGITS`] digits: its order as text is the stream's.
pub const SEQUENCE: &str = "sequence";
/// The branch of a row in the log of runs; empty for the run as a whole.
pub const BRANCH_ID: &str = shared::entity::BRANCH_ID;

/// How long a sequence number is.
///
/// Source: "StreamRecord: SequenceNumber", Amazon DynamoDB API Reference.
pub const SEQUENCE_DIGITS: usize = 40;

/// The digits of a decimal column in all, and after the point.
pub const DECIMAL: (u8, i8) = (38, 10);

/// What began the run.
pub const RUN_KIND: &str = "kind";
/// The moments in a run's entry.
pub const RUN_TIMES: [&str; 3] = ["first_at", "last_at", "listed_at"];
/// Whether all that was expected of the run, or of it at a branch, is done.
pub const COMPLETE: &str = "complete";
/// What failed for good, and why: a JSON array of texts.
pub const REASONS: &str = "reasons";

/// The sets of a run's entry whose sizes the log keeps, under their own names.
pub const RUN_SETS: [&str; 7] = [
    "names_expected",
    "names_finished",
    "branches_expected",
    "branches_finished",
    "salespersons_expected",
    "salespersons_finished",
    "salespersons_dead",
];

/// The counts of a run's entry; one that is absent is 0.
pub const RUN_COUNTS: [&str; 20] = [
    "api_calls",
    "api_throttles",
    "rejected",
    "dead_lettered",
    "held_back",
    "branches_inserted",
    "branches_updated",
    "branches_unchanged",
    "branches_skipped",
    "branches_deleted",
    "salespersons_inserted",
    "salespersons_updated",
    "salespersons_unchanged",
    "salespersons_skipped",
    "salespersons_deleted",
    "sales_inserted",
    "sales_updated",
    "sales_unchanged",
    "sales_skipped",
    "sales_deleted",
];

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// An id, as text; where it was a whole number, its digits.
    Id,
    /// A whole number of 64 bits.
    Whole,
    /// A day.
    Date,
    /// A moment, in milliseconds, UTC.
    Timestamp,
    /// An exact number of [`DECIMAL`] digits.
    Decimal,
    /// Yes or no.
    Boolean,
}

/// A column of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Whether it can be null.
    pub nullable: bool,
}

impl Kind {
    /// The type in Arrow.
    pub fn data_type(self) -> DataType {
        match self {
            Self::Text | Self::Id => DataType::Utf8,
            Self::Whole => DataType::Int64,
            Self::Date => DataType::Date32,
            Self::Timestamp => DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            Self::Decimal => DataType::Decimal128(DECIMAL.0, DECIMAL.1),
            Self::Boolean => DataType::Boolean,
        }
    }
}

impl Log {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Branches, Self::Salespersons, Self::Sales, Self::Runs];

    /// The log's name, as its folder and its view have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Branches => "branches",
            Self::Salespersons => "salespersons",
            Self::Sales => "sales",
            Self::Runs => "runs",
        }
    }

    /// The name in SQL of the table of its raw files, duplicates included.
    pub fn table(self) -> &'static str {
        match self {
            Self::Branches => "branches_log",
            Self::Salespersons => "salespersons_log",
            Self::Sales => "sales_log",
            Self::Runs => "runs_log",
        }
    }

    /// The kind of record that it is about; none where it is about runs.
    pub fn entity(self) -> Option<Entity> {
        match self {
            Self::Branches => Some(Entity::Branch),
            Self::Salespersons => Some(Entity::Salesperson),
            Self::Sales => Some(Entity::Sale),
            Self::Runs => None,
        }
    }

    /// The columns that say whose row it is.
    pub fn keys(self) -> Vec<&'static str> {
        match self.entity() {
            Some(entity) => [Some(entity.partition_key()), entity.sort_key()]
                .into_iter()
                .flatten()
                .collect(),
            None => vec![RUN_ID, BRANCH_ID],
        }
    }

    /// The attributes of the vendor's that have a column of their own.
    pub fn known_attributes(self) -> &'static [(&'static str, Kind)] {
        match self {
            Self::Branches => &[
                ("branch_name", Kind::Text),
                ("branch_location", Kind::Text),
                ("employees", Kind::Whole),
                ("opened", Kind::Date),
                ("rent", Kind::Decimal),
                ("floor_space", Kind::Decimal),
                ("lifetime_revenue", Kind::Decimal),
            ],
            Self::Salespersons => &[
                ("employee_name", Kind::Text),
                ("occupation", Kind::Text),
                ("hired_on", Kind::Date),
                ("transferred_on", Kind::Date),
                ("commission_rate", Kind::Decimal),
            ],
            Self::Sales => &[
                (BRANCH_ID, Kind::Id),
                ("transaction_timestamp", Kind::Timestamp),
                ("product", Kind::Text),
                ("quantity", Kind::Whole),
                ("unit_price", Kind::Decimal),
                ("amount", Kind::Decimal),
                ("discount", Kind::Decimal),
                ("note", Kind::Text),
            ],
            Self::Runs => &[],
        }
    }

    /// The columns of its files. The partition ([`crate::layout::PARTITION`]) is none of them.
    pub fn columns(self) -> &'static [Column] {
        static COLUMNS: LazyLock<[Vec<Column>; 4]> = LazyLock::new(|| Log::ALL.map(columns));
        &COLUMNS[self as usize]
    }

    /// The columns of its files, as Arrow has them.
    pub fn schema(self) -> SchemaRef {
        static SCHEMAS: LazyLock<[SchemaRef; 4]> = LazyLock::new(|| {
            Log::ALL.map(|log| {
                let fields = log.columns().iter();
                let fields = fields.map(|column| Field::new(column.name, column.kind.data_type(), column.nullable));
                Arc::new(Schema::new(fields.collect::<Vec<_>>()))
            })
        });
        SCHEMAS[self as usize].clone()
    }
}

fn columns(log: Log) -> Vec<Column> {
    let filled = |name: &'static str, kind: Kind| Column {
        name,
        kind,
        nullable: false,
    };
    let nullable = |name: &'static str, kind: Kind| Column {
        name,
        kind,
        nullable: true,
    };
    let mut columns = vec![filled(OPERATION, Kind::Text)];
    columns.extend(log.keys().into_iter().map(|key| filled(key, Kind::Text)));
    columns.extend(log.known_attributes().iter().map(|(name, kind)| nullable(name, *kind)));
    if log.entity().is_some() {
        columns.extend([
            filled(ATTRIBUTES, Kind::Text),
            nullable(DELETED_AT, Kind::Timestamp),
            nullable(LAST_MODIFIED, Kind::Timestamp),
            nullable(RUN_ID, Kind::Timestamp),
        ]);
    } else {
        columns.push(nullable(RUN_KIND, Kind::Text));
        columns.extend(RUN_TIMES.map(|name| nullable(name, Kind::Timestamp)));
        columns.extend(RUN_SETS.iter().chain(&RUN_COUNTS).map(|name| filled(name, Kind::Whole)));
        columns.extend([filled(COMPLETE, Kind::Boolean), filled(REASONS, Kind::Text)]);
    }
    columns.extend([filled(CHANGED_AT, Kind::Timestamp), filled(SEQUENCE, Kind::Text)]);
    columns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logs_columns_are_what_its_views_and_its_readers_rely_on() {
        let names = |log: Log| {
            let names: Vec<_> = log.columns().iter().map(|column| column.name).collect();
            names.join(" ")
        };
        assert_eq!(
            names(Log::Sales),
            "operation sale_id employee_id branch_id transaction_timestamp product quantity unit_price amount discount \
             note attributes deleted_at last_modified run_id changed_at sequence"
        );
        assert_eq!(
            names(Log::Salespersons),
            "operation employee_id branch_id employee_name occupation hired_on transferred_on commission_rate \
             attributes deleted_at last_modified run_id changed_at sequence"
        );
        assert!(
            names(Log::Runs).starts_with("operation run_id branch_id kind first_at last_at listed_at names_expected ")
        );
        assert!(names(Log::Runs).ends_with(" sales_deleted complete reasons changed_at sequence"));
    }

    #[test]
    fn no_column_is_there_twice() {
        for log in Log::ALL {
            let mut names: Vec<_> = log.columns().iter().map(|column| column.name).collect();
            names.sort();
            let all = names.len();
            names.dedup();
            assert_eq!(names.len(), all, "{log:?}");
        }
    }
}
