//! Rows as Arrow has them.

use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, Date32Builder, Decimal128Builder, Int64Builder, StringBuilder, TimestampMillisecondBuilder,
};
use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::ArrowError;

use crate::log::{DECIMAL, Kind, Log};
use crate::row::{Cell, Row};

/// The rows as columns, in their order.
///
/// # Errors
/// If a row is not laid out as its log is.
pub fn of_rows(log: Log, rows: &[Row]) -> Result<RecordBatch, ArrowError> {
    let columns = log.columns().iter().enumerate();
    let columns = columns.map(|(at, column)| {
        array(
            column.kind,
            rows.iter().map(|row| row.cells.get(at).unwrap_or(&Cell::Null)),
        )
        .ok_or_else(|| ArrowError::SchemaError(format!("a row of {} has another {}", log.table(), column.name)))
    });
    RecordBatch::try_new(log.schema(), columns.collect::<Result<_, _>>()?)
}

/// A column; `None` if a cell is of another kind.
fn array<'a>(kind: Kind, cells: impl Iterator<Item = &'a Cell>) -> Option<ArrayRef> {
    macro_rules! built {
        ($builder:expr, $cell:pat => $value:expr) => {{
            let mut builder = $builder;
            for cell in cells {
                match cell {
                    Cell::Null => builder.append_null(),
                    $cell => builder.append_value($value),
                    _ => return None,
                }
            }
            Arc::new(builder.finish()) as ArrayRef
        }};
    }
    Some(match kind {
        Kind::Text | Kind::Id => built!(StringBuilder::new(), Cell::Text(text) => text),
        Kind::Whole => built!(Int64Builder::new(), Cell::Whole(number) => *number),
        Kind::Date => built!(Date32Builder::new(), Cell::Date(day) => *day),
        Kind::Timestamp => {
            built!(TimestampMillisecondBuilder::new().with_data_type(kind.data_type()), Cell::Timestamp(time) => *time)
        }
        Kind::Decimal => {
            let builder = Decimal128Builder::new()
                .with_precision_and_scale(DECIMAL.0, DECIMAL.1)
                .ok()?;
            built!(builder, Cell::Decimal(scaled) => *scaled)
        }
        Kind::Boolean => built!(BooleanBuilder::new(), Cell::Boolean(flag) => *flag),
    })
}

/// What has to be written of a batch of changes: each once, in the order in which a file has them. Of a run's account, which
/// every piece of work adds to, only the newest.
pub fn in_file_order(log: Log, mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by(|one, other| (&one.keys, &one.sequence).cmp(&(&other.keys, &other.sequence)));
    rows.dedup_by(|later, earlier| later.keys == earlier.keys && later.sequence == earlier.sequence);
    if log == Log::Runs {
        rows.reverse();
        rows.dedup_by(|older, newer| older.keys == newer.keys);
        rows.reverse();
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Sequence;
    use arrow_array::Array;

    fn row(keys: [&str; 2], sequence: &str) -> Row {
        Row {
            keys: keys.map(str::to_owned).into(),
            sequence: Sequence::parse(sequence).unwrap(),
            changed_at: 0,
            cells: Vec::new(),
            unfit: 0,
        }
    }

    fn sequences(log: Log, rows: Vec<Row>) -> Vec<String> {
        let short = |row: &Row| row.sequence.as_str().trim_start_matches('0').to_owned();
        in_file_order(log, rows).iter().map(short).collect()
    }

    #[test]
    fn each_change_stands_once_by_key_and_number() {
        let rows = || {
            vec![
                row(["b", "1"], "3"),
                row(["a", "1"], "10"),
                row(["a", "1"], "9"),
                row(["b", "1"], "3"),
            ]
        };
        assert_eq!(sequences(Log::Sales, rows()), ["9", "10", "3"]);
        assert_eq!(sequences(Log::Runs, rows()), ["10", "3"]);
    }

    #[test]
    fn a_row_that_is_not_laid_out_as_its_log_is_refused() {
        let mut bad = row(["1", ""], "1");
        bad.cells = vec![Cell::Whole(1)];
        let error = of_rows(Log::Branches, &[bad]).unwrap_err();
        assert!(
            error.to_string().contains("branches_log has another operation"),
            "{error}"
        );
    }

    #[test]
    fn no_rows_are_a_batch_as_well() {
        let batch = of_rows(Log::Runs, &[]).unwrap();
        assert_eq!((batch.num_rows(), batch.num_columns()), (0, Log::Runs.columns().len()));
        assert!(batch.column(0).is_empty());
    }
}
