//! CSV as RFC 4180 has it.

use std::borrow::Cow;
use std::io::Write;

use futures::StreamExt;

use super::cells::Cells;
use super::{OutputError, Written};
use crate::session::Answer;

pub(super) async fn write(mut answer: Answer, to: &mut (dyn Write + Send)) -> Result<Written, OutputError> {
    let names: Vec<Cow<'_, str>> = answer
        .schema
        .fields()
        .iter()
        .map(|field| quoted(field.name()))
        .collect();
    writeln!(to, "{}", names.join(","))?;
    let mut rows = 0;
    let mut line = String::new();
    while let Some(batch) = answer.rows.next().await {
        let batch = batch?;
        let columns = Cells::of_columns(&batch)?;
        for row in 0..batch.num_rows() {
            line.clear();
            for (position, column) in columns.iter().enumerate() {
                if position > 0 {
                    line.push(',');
                }
                if let Some(text) = column.text(row)? {
                    line.push_str(&quoted(&text));
                }
            }
            writeln!(to, "{line}")?;
        }
        rows += batch.num_rows();
    }
    to.flush()?;
    Ok(Written { rows, more: false })
}

/// A value as it stands in a line. An empty text is quoted, which tells it from NULL.
fn quoted(text: &str) -> Cow<'_, str> {
    if text.is_empty() || text.contains(['"', ',', '\n', '\r']) {
        Cow::Owned(format!("\"{}\"", text.replace('"', "\"\"")))
    } else {
        Cow::Borrowed(text)
    }
}
