//! `date_diff`, with the meaning that it has in Trino, and so in Athena.

use std::cmp::Ordering;
use std::sync::Arc;

use datafusion::arrow::array::{Array, Int64Array, TimestampMillisecondArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::cast::{as_string_array, as_timestamp_millisecond_array};
use datafusion::common::utils::take_function_args;
use datafusion::common::{ScalarValue, exec_datafusion_err, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use time::UtcDateTime;
use time::util::days_in_month;

/// `date_diff(unit, from, to)`: how many whole units lie between two moments; negative if `to` comes first.
///
/// (DuckDB's function of this name counts boundaries that are crossed; its `date_sub` is this one.)
pub(super) fn date_diff() -> ScalarUDF {
    ScalarUDF::new_from_impl(DateDiff {
        signature: Signature::user_defined(Volatility::Immutable),
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct DateDiff {
    signature: Signature,
}

const NAME: &str = "date_diff";
const MOMENT: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

impl ScalarUDFImpl for DateDiff {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let [unit, from, to] = take_function_args(NAME, types)?;
        let is_text = matches!(
            unit,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null
        );
        let is_moment = |moment: &DataType| {
            matches!(
                moment,
                DataType::Date32 | DataType::Date64 | DataType::Timestamp(..) | DataType::Null
            )
        };
        if is_text && is_moment(from) && is_moment(to) {
            Ok(vec![DataType::Utf8, from.clone(), to.clone()])
        } else {
            plan_err!("{NAME} takes a unit, and two dates or timestamps; it was given {unit}, {from} and {to}")
        }
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let [unit, from, to] = take_function_args(NAME, &args.args)?;
        let rows = if is_scalar { 1 } else { args.number_rows };
        let units = unit.to_array(rows)?;
        let units = as_string_array(&units)?;
        let (from, to) = (moments(from, rows)?, moments(to, rows)?);
        let mut differences = Vec::with_capacity(rows);
        for row in 0..rows {
            let is_null = units.is_null(row) || from.is_null(row) || to.is_null(row);
            differences.push(if is_null {
                None
            } else {
                Some(difference(units.value(row), from.value(row), to.value(row))?)
            });
        }
        let differences = Int64Array::from(differences);
        if is_scalar {
            Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&differences, 0)?))
        } else {
            Ok(ColumnarValue::Array(Arc::new(differences)))
        }
    }
}

fn moments(value: &ColumnarValue, rows: usize) -> Result<TimestampMillisecondArray> {
    let moments = cast(&value.to_array(rows)?, &MOMENT)?;
    Ok(as_timestamp_millisecond_array(&moments)?.clone())
}

/// Whole units between two moments, in milliseconds since 1970.
fn difference(unit: &str, from: i64, to: i64) -> Result<i64> {
    let milliseconds = i128::from(to) - i128::from(from);
    let whole = |unit: i64| Ok((milliseconds / i128::from(unit)) as i64);
    match unit.to_ascii_lowercase().as_str() {
        "millisecond" => whole(1),
        "second" => whole(1_000),
        "minute" => whole(60_000),
        "hour" => whole(3_600_000),
        "day" => whole(86_400_000),
        "week" => whole(604_800_000),
        "month" => months(from, to),
        "quarter" => Ok(months(from, to)? / 3),
        "year" => Ok(months(from, to)? / 12),
        _ => exec_err!(
            "{NAME} knows no unit '{unit}': expected millisecond, second, minute, hour, day, week, month, quarter or year"
        ),
    }
}

/// Whole months: from a day that the last month lacks, the month is whole on its last day.
fn months(from: i64, to: i64) -> Result<i64> {
    if to < from {
        return Ok(-months(to, from)?);
    }
    let (from, to) = (calendar(from)?, calendar(to)?);
    let number = |moment: UtcDateTime| i64::from(moment.year()) * 12 + i64::from(u8::from(moment.month()));
    let last = days_in_month(to.month(), to.year());
    let day = if to.day() == last {
        from.day().min(last)
    } else {
        from.day()
    };
    let is_whole = (to.day(), to.time()).cmp(&(day, from.time())) != Ordering::Less;
    Ok(number(to) - number(from) - i64::from(!is_whole))
}

fn calendar(milliseconds: i64) -> Result<UtcDateTime> {
    UtcDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000)
        .map_err(|_| exec_datafusion_err!("{NAME} was given a moment outside of the years -9999 to 9999"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::utc_datetime;

    fn between(unit: &str, from: UtcDateTime, to: UtcDateTime) -> i64 {
        let milliseconds = |moment: UtcDateTime| i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).unwrap();
        let there = difference(unit, milliseconds(from), milliseconds(to)).unwrap();
        assert_eq!(difference(unit, milliseconds(to), milliseconds(from)).unwrap(), -there);
        there
    }

    #[test]
    fn only_whole_units_count() {
        let from = utc_datetime!(2026-11-20 23:30:00.500);
        let to = utc_datetime!(2026-11-21 01:15);
        for (unit, whole) in [
            ("millisecond", 6_299_500),
            ("second", 6_299),
            ("minute", 104),
            ("hour", 1),
            ("day", 0),
        ] {
            assert_eq!(between(unit, from, to), whole, "{unit}");
        }
        assert_eq!(
            between("week", utc_datetime!(2026-11-01 0:00), utc_datetime!(2026-11-14 23:00)),
            1
        );
    }

    #[test]
    fn a_month_is_whole_on_its_day_or_its_last_one() {
        for (from, to, months) in [
            (utc_datetime!(2026-01-15 12:00), utc_datetime!(2026-02-15 11:59), 0),
            (utc_datetime!(2026-01-15 12:00), utc_datetime!(2026-02-15 12:00), 1),
            (utc_datetime!(2020-01-31 00:00), utc_datetime!(2020-02-28 00:00), 0),
            (utc_datetime!(2020-01-31 00:00), utc_datetime!(2020-02-29 00:00), 1),
            (utc_datetime!(2020-02-29 00:00), utc_datetime!(2021-02-28 00:00), 12),
            (utc_datetime!(2019-12-31 00:00), utc_datetime!(2021-03-30 00:00), 14),
        ] {
            assert_eq!(between("month", from, to), months, "{from} to {to}");
            assert_eq!(between("quarter", from, to), months / 3);
            assert_eq!(between("YEAR", from, to), months / 12);
        }
    }

    #[test]
    fn an_unknown_unit_is_refused_by_name() {
        let refusal = difference("fortnight", 0, 1).unwrap_err().to_string();
        assert!(
            refusal.contains("'fortnight'") && refusal.contains("quarter or year"),
            "{refusal}"
        );
    }
}
