//! What can be asked: tables, and the columns of one.

use std::fmt::Write;

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use unicode_width::UnicodeWidthStr;

use crate::diagnosis::Diagnosis;
use crate::session::Table;

/// All tables, a line each.
pub fn list(tables: &[Table]) -> String {
    let lines = tables.iter().map(|table| (table.name.as_str(), table.about.clone()));
    aligned(lines)
}

/// The columns of the table with this name, and their types.
///
/// # Errors
/// If there is no such table.
pub fn describe(tables: &[Table], name: &str) -> Result<String, Diagnosis> {
    let Some(table) = tables.iter().find(|table| table.name.eq_ignore_ascii_case(name)) else {
        let names: Vec<String> = tables.iter().map(|table| table.name.clone()).collect();
        return Err(Diagnosis::missing("table", name, &names));
    };
    let columns = table.columns.iter().map(|(name, kind)| (name.as_str(), sql_type(kind)));
    Ok(format!("{}: {}\n\n{}", table.name, table.about, aligned(columns)))
}

fn aligned<'a>(lines: impl Iterator<Item = (&'a str, String)> + Clone) -> String {
    let widest = lines.clone().map(|(name, _)| name.width()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, about) in lines {
        let padding = " ".repeat(widest - name.width());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name}{padding}  {about}");
    }
    text
}

/// A type by its name in Athena.
fn sql_type(kind: &DataType) -> String {
    match kind {
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => "varchar".to_owned(),
        DataType::Int64 => "bigint".to_owned(),
        DataType::Int32 => "integer".to_owned(),
        DataType::Float64 => "double".to_owned(),
        DataType::Boolean => "boolean".to_owned(),
        DataType::Date32 => "date".to_owned(),
        DataType::Decimal128(digits, scale) => format!("decimal({digits}, {scale})"),
        DataType::Timestamp(TimeUnit::Millisecond, Some(_)) => "timestamp(3), UTC".to_owned(),
        DataType::Timestamp(_, None) => "timestamp".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> Vec<Table> {
        let column = |name: &str, kind| (name.to_owned(), kind);
        vec![
            Table {
                name: "sales".to_owned(),
                about: "the sales as they are now".to_owned(),
                columns: vec![
                    column("sale_id", DataType::Utf8),
                    column("amount", DataType::Decimal128(38, 10)),
                    column(
                        "changed_at",
                        DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
                    ),
                ],
            },
            Table {
                name: "runs".to_owned(),
                about: "the runs".to_owned(),
                columns: Vec::new(),
            },
        ]
    }

    #[test]
    fn tables_are_listed_with_what_they_hold() {
        assert_eq!(list(&tables()), "sales  the sales as they are now\nruns   the runs\n");
    }

    #[test]
    fn a_table_is_described_by_its_columns() {
        assert_eq!(
            describe(&tables(), "SALES").unwrap(),
            "sales: the sales as they are now\n\nsale_id     varchar\namount      decimal(38, 10)\nchanged_at  \
             timestamp(3), UTC\n"
        );
    }

    #[test]
    fn of_an_unknown_table_the_error_says_which_there_are() {
        for (name, hint) in [("sale", "did you mean sales?"), ("customers", "there are sales, runs")] {
            assert_eq!(describe(&tables(), name).unwrap_err().hints(), [hint], "{name}");
        }
    }
}
