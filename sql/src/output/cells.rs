//! Values as text: exact, and without what does not say anything.

use std::borrow::Cow;

use datafusion::arrow::array::Array;
use datafusion::arrow::buffer::NullBuffer;
use datafusion::arrow::datatypes::DataType;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};

/// A moment in UTC, as it is written in SQL; milliseconds only where there are some.
const MOMENT: &str = "%Y-%m-%d %H:%M:%S%.f";
/// A moment elsewhere, with its distance from UTC.
const MOMENT_ELSEWHERE: &str = "%Y-%m-%d %H:%M:%S%.f%:z";

/// A column's values of one batch.
pub(super) struct Cells<'a> {
    formatter: ArrayFormatter<'a>,
    nulls: Option<NullBuffer>,
    is_null: bool,
    is_decimal: bool,
}

impl<'a> Cells<'a> {
    /// The columns of a batch.
    ///
    /// # Errors
    /// If values of a type cannot be written as text.
    pub(super) fn of_columns(batch: &'a RecordBatch) -> Result<Vec<Self>, ArrowError> {
        batch.columns().iter().map(|column| Self::of(column.as_ref())).collect()
    }

    fn of(column: &'a dyn Array) -> Result<Self, ArrowError> {
        let elsewhere = match column.data_type() {
            DataType::Timestamp(_, Some(zone)) if !is_utc(zone) => MOMENT_ELSEWHERE,
            _ => MOMENT,
        };
        let options = FormatOptions::new()
            .with_display_error(false)
            .with_timestamp_format(Some(MOMENT))
            .with_timestamp_tz_format(Some(elsewhere));
        Ok(Self {
            formatter: ArrayFormatter::try_new(column, &options)?,
            nulls: column.logical_nulls(),
            is_null: column.data_type().is_null(),
            is_decimal: is_decimal(column.data_type()),
        })
    }

    /// The value in a row; none if it is NULL.
    ///
    /// # Errors
    /// If it cannot be written as text.
    pub(super) fn text(&self, row: usize) -> Result<Option<String>, ArrowError> {
        if self.is_null || self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(None);
        }
        let text = self.formatter.value(row).try_to_string()?;
        Ok(Some(if self.is_decimal {
            shortest(&text).into_owned()
        } else {
            text
        }))
    }
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "Z" | "+00:00" | "+0000" | "Etc/UTC")
}

/// Whether a type is an exact number with a fraction.
pub(super) fn is_decimal(kind: &DataType) -> bool {
    kind.is_decimal()
}

/// A decimal number without the zeros that its column's type puts after it: the same number.
pub(super) fn shortest(number: &str) -> Cow<'_, str> {
    match number.contains('.') {
        true => Cow::Borrowed(number.trim_end_matches('0').trim_end_matches('.')),
        false => Cow::Borrowed(number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::array::{
        BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, NullArray, StringArray,
        TimestampMillisecondArray,
    };

    fn texts(column: &dyn Array) -> Vec<Option<String>> {
        let cells = Cells::of(column).unwrap();
        (0..column.len()).map(|row| cells.text(row).unwrap()).collect()
    }

    fn some(texts: &[&str]) -> Vec<Option<String>> {
        texts.iter().map(|text| Some((*text).to_owned())).collect()
    }

    #[test]
    fn a_decimal_keeps_every_digit_and_no_zero_that_says_nothing() {
        let largest = i128::pow(10, 38) - 1;
        let column = Decimal128Array::from(vec![123_400_000_000, 1, -50_000_000_000, 1_000_000_000_000, 0, largest])
            .with_precision_and_scale(38, 10)
            .unwrap();
        let exact = [
            "12.34",
            "0.0000000001",
            "-5",
            "100",
            "0",
            "9999999999999999999999999999.9999999999",
        ];
        assert_eq!(texts(&column), some(&exact));
        let whole = Decimal128Array::from(vec![1200])
            .with_precision_and_scale(10, 0)
            .unwrap();
        assert_eq!(texts(&whole), some(&["1200"]));
    }

    #[test]
    fn a_moment_is_plain_and_says_where_it_is_unless_that_is_utc() {
        let milliseconds = vec![1_795_222_800_000, 1_795_222_800_120];
        let plain = some(&["2026-11-21 01:00:00", "2026-11-21 01:00:00.120"]);
        assert_eq!(texts(&TimestampMillisecondArray::from(milliseconds.clone())), plain);
        assert_eq!(
            texts(&TimestampMillisecondArray::from(milliseconds.clone()).with_timezone("UTC")),
            plain
        );
        let elsewhere = TimestampMillisecondArray::from(milliseconds).with_timezone("+02:00");
        assert_eq!(texts(&elsewhere)[0].as_deref(), Some("2026-11-21 03:00:00+02:00"));
    }

    #[test]
    fn null_is_no_text() {
        assert_eq!(
            texts(&StringArray::from(vec![Some(""), None])),
            [Some(String::new()), None]
        );
        assert_eq!(texts(&NullArray::new(1)), [None]);
    }

    #[test]
    fn other_values_are_written_as_sql_has_them() {
        assert_eq!(
            texts(&Int64Array::from(vec![i64::MIN])),
            some(&["-9223372036854775808"])
        );
        assert_eq!(texts(&BooleanArray::from(vec![true, false])), some(&["true", "false"]));
        assert_eq!(texts(&Date32Array::from(vec![20_778])), some(&["2026-11-21"]));
        assert_eq!(texts(&Float64Array::from(vec![0.1])), some(&["0.1"]));
    }
}
