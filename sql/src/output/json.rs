//! JSON: an array of objects, one a line.

use std::io::Write;
use std::sync::Arc;

use datafusion::arrow::array::Array;
use datafusion::arrow::datatypes::FieldRef;
use datafusion::arrow::error::ArrowError;
use datafusion::arrow::json::writer::{
    Encoder, EncoderFactory, EncoderOptions, JsonFormat, NullableEncoder, WriterBuilder,
};
use datafusion::arrow::util::display::{ArrayFormatter, FormatOptions};
use futures::StreamExt;

use super::cells::{is_decimal, shortest};
use super::{OutputError, Written};
use crate::session::Answer;

pub(super) async fn write(mut answer: Answer, to: &mut (dyn Write + Send)) -> Result<Written, OutputError> {
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .with_encoder_factory(Arc::new(ExactNumbers))
        .build::<_, Lines>(&mut *to);
    let mut rows = 0;
    while let Some(batch) = answer.rows.next().await {
        let batch = batch?;
        writer.write(&batch)?;
        rows += batch.num_rows();
    }
    writer.finish()?;
    drop(writer);
    to.flush()?;
    Ok(Written { rows, more: false })
}

/// An array with a line for each element.
#[derive(Debug, Default)]
struct Lines;

impl JsonFormat for Lines {
    fn start_stream<W: Write>(&self, to: &mut W) -> Result<(), ArrowError> {
        Ok(to.write_all(b"[")?)
    }

    fn start_row<W: Write>(&self, to: &mut W, is_first: bool) -> Result<(), ArrowError> {
        Ok(to.write_all(if is_first { b"\n" } else { b",\n" })?)
    }

    fn end_stream<W: Write>(&self, to: &mut W) -> Result<(), ArrowError> {
        Ok(to.write_all(b"\n]\n")?)
    }
}

/// Writes decimals as numbers, without the zeros that their column's type puts after them.
#[derive(Debug)]
struct ExactNumbers;

impl EncoderFactory for ExactNumbers {
    fn make_default_encoder<'a>(
        &self,
        _: &'a FieldRef,
        array: &'a dyn Array,
        _: &'a EncoderOptions,
    ) -> Result<Option<NullableEncoder<'a>>, ArrowError> {
        if !is_decimal(array.data_type()) {
            return Ok(None);
        }
        let formatter = ArrayFormatter::try_new(array, &FormatOptions::new())?;
        Ok(Some(NullableEncoder::new(
            Box::new(ExactNumber(formatter)),
            array.nulls().cloned(),
        )))
    }
}

struct ExactNumber<'a>(ArrayFormatter<'a>);

impl Encoder for ExactNumber<'_> {
    fn encode(&mut self, row: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(shortest(&self.0.value(row).to_string()).as_bytes());
    }
}
