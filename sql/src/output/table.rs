//! A table for people: columns side by side where they fit, or else a line for each value.

use std::borrow::Cow;
use std::io::Write;

use comfy_table::{
    CellAlignment, ColumnConstraint, ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle, Width,
};
use futures::StreamExt;
use unicode_width::UnicodeWidthStr;

use super::cells::{Cells, is_decimal};
use super::{Layout, OutputError, Written};
use crate::session::Answer;

/// How NULL is shown; a text of these letters is shown in quotes.
const NULL: &str = "NULL";

/// A column of text that is longer is broken into lines rather than made narrower than this.
const NARROWEST: usize = 20;

/// A header with a line below it, and columns two spaces apart.
const STYLE: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none())
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .content_lines(ContentLineStyle::none());

pub(super) async fn write(answer: Answer, layout: Layout, to: &mut (dyn Write + Send)) -> Result<Written, OutputError> {
    let (mut shown, more) = Shown::collect(answer, layout.limit).await?;
    shown.align_decimals();
    let rows = shown.rows.len();
    match layout.width {
        Some(width) if !shown.fits(width) => shown.write_records(width, to)?,
        width => shown.write_columns(width, to)?,
    }
    to.flush()?;
    Ok(Written { rows, more })
}

/// What is shown.
struct Shown {
    columns: Vec<Column>,
    rows: Vec<Vec<String>>,
}

struct Column {
    name: String,
    is_number: bool,
    is_decimal: bool,
    /// Whether it may be broken into lines.
    is_text: bool,
}

impl Shown {
    async fn collect(mut answer: Answer, limit: Option<usize>) -> Result<(Self, bool), OutputError> {
        let fields = answer.schema.fields().iter();
        let columns = fields.map(|field| Column {
            name: one_line(field.name()).into_owned(),
            is_number: field.data_type().is_numeric(),
            is_decimal: is_decimal(field.data_type()),
            is_text: !field.data_type().is_primitive(),
        });
        let mut shown = Self {
            columns: columns.collect(),
            rows: Vec::new(),
        };
        let limit = limit.unwrap_or(usize::MAX);
        while let Some(batch) = answer.rows.next().await {
            let batch = batch?;
            let cells = Cells::of_columns(&batch)?;
            for row in 0..batch.num_rows() {
                if shown.rows.len() == limit {
                    return Ok((shown, true));
                }
                let values = cells.iter().map(|column| Ok(value(column.text(row)?)));
                shown.rows.push(values.collect::<Result<_, OutputError>>()?);
            }
        }
        Ok((shown, false))
    }

    /// Gives the decimals of a column one number of digits after the point, the least that is exact for all of them.
    fn align_decimals(&mut self) {
        for (position, _) in self.columns.iter().enumerate().filter(|(_, column)| column.is_decimal) {
            let digits = |number: &String| number.split_once('.').map_or(0, |(_, fraction)| fraction.len());
            let values = self.rows.iter().filter_map(|row| row.get(position));
            let most = values.map(digits).max().unwrap_or(0);
            for number in self.rows.iter_mut().filter_map(|row| row.get_mut(position)) {
                let missing = most - digits(number);
                if missing > 0 && number != NULL {
                    if missing == most {
                        number.push('.');
                    }
                    number.push_str(&"0".repeat(missing));
                }
            }
        }
    }

    fn natural_width(&self, position: usize) -> usize {
        let name = self.columns.get(position).map_or(0, |column| column.name.width());
        let values = self.rows.iter().filter_map(|row| row.get(position));
        values.map(|value| widest_line(value)).max().unwrap_or(0).max(name)
    }

    /// Whether columns side by side fit, with text broken into lines where need be.
    fn fits(&self, width: usize) -> bool {
        let mut least = 0;
        let mut natural = 0;
        for (position, column) in self.columns.iter().enumerate() {
            let wide = self.natural_width(position) + 2;
            natural += wide;
            least += if column.is_text { wide.min(NARROWEST + 2) } else { wide };
        }
        let has_lines = self.rows.iter().flatten().any(|value| value.contains('\n'));
        natural <= width || (least <= width && !has_lines)
    }

    fn write_columns(&self, width: Option<usize>, to: &mut dyn Write) -> Result<(), OutputError> {
        let mut table = Table::new();
        table.load_style(STYLE);
        table.set_header(self.columns.iter().map(|column| column.name.as_str()));
        for row in &self.rows {
            table.add_row(row);
        }
        if let Some(width) = width {
            table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
            table.set_content_arrangement(ContentArrangement::Dynamic);
        }
        for (position, column) in self.columns.iter().enumerate() {
            let narrowest = u16::try_from(self.natural_width(position).min(NARROWEST)).unwrap_or(u16::MAX);
            if let Some(laid_out) = table.column_mut(position) {
                laid_out.set_constraint(match column.is_text {
                    true => ColumnConstraint::LowerBoundary(Width::Fixed(narrowest + 2)),
                    false => ColumnConstraint::ContentWidth,
                });
                if column.is_number {
                    laid_out.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        writeln!(to, "{}", table.trim_fmt())?;
        Ok(())
    }

    fn write_records(&self, width: usize, to: &mut dyn Write) -> Result<(), OutputError> {
        let names = self.columns.iter().map(|column| column.name.width()).max().unwrap_or(0);
        for (number, row) in self.rows.iter().enumerate() {
            let title = format!("── {} ", number + 1);
            writeln!(to, "{title}{}", "─".repeat(width.saturating_sub(title.width())))?;
            for (column, value) in self.columns.iter().zip(row) {
                let padding = " ".repeat(names - column.name.width());
                let below = format!("\n{}", " ".repeat(names + 2));
                writeln!(to, "{}{padding}  {}", column.name, value.replace('\n', &below))?;
            }
        }
        Ok(())
    }
}

/// A value as it is shown: without anything that a terminal would obey.
fn value(text: Option<String>) -> String {
    match text {
        None => NULL.to_owned(),
        Some(text) if text == NULL => format!("\"{NULL}\""),
        Some(text) => plain(&text, |letter| letter == '\n').into_owned(),
    }
}

fn one_line(text: &str) -> Cow<'_, str> {
    plain(text, |_| false)
}

fn plain(text: &str, is_kept: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_told = |letter: char| letter.is_control() && !is_kept(letter);
    if !text.contains(is_told) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for letter in text.chars() {
        if is_told(letter) {
            shown.extend(letter.escape_default());
        } else {
            shown.push(letter);
        }
    }
    Cow::Owned(shown)
}

fn widest_line(value: &str) -> usize {
    value.lines().map(UnicodeWidthStr::width).max().unwrap_or(0)
}
