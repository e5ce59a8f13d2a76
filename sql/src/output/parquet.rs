//! A Parquet file for other engines.

use std::io::Write;

use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use futures::StreamExt;

use super::{OutputError, Written};
use crate::session::Answer;

/// How many rows are held before they are written.
const ROW_GROUP: usize = 128 * 1024;

pub(super) async fn write(mut answer: Answer, to: &mut (dyn Write + Send)) -> Result<Written, OutputError> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .build();
    let mut writer = ArrowWriter::try_new(&mut *to, answer.schema.clone(), Some(properties))?;
    let mut rows = 0;
    while let Some(batch) = answer.rows.next().await {
        let batch = batch?;
        writer.write(&batch)?;
        rows += batch.num_rows();
    }
    writer.close()?;
    to.flush()?;
    Ok(Written { rows, more: false })
}
