//! Sorted files put together into one that is sorted, each change once, a few rows of each in memory at a time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMillisecondType;
use arrow_array::{Array, RecordBatch, StringArray};
use arrow_schema::ArrowError;
use arrow_select::interleave::interleave_record_batch;
use futures::StreamExt;
use futures::stream::BoxStream;

use crate::log::{Log, RUN_ID, SEQUENCE};
use crate::store::LakeError;

/// The rows that are handed on at once.
const ROWS: usize = 8192;

/// Whose change it is, and its number: what rows are sorted by, and what makes two of them one.
type Identity = Vec<String>;

/// Which of the rows that are one is kept, the least: one that says its run before one that does not, as the views have it. A batch
/// can be written while the runs cannot be read, and its records come again.
type Preference = (bool, i64);

/// A merge of sorted rows.
pub(crate) struct Merge {
    log: Log,
    sources: Vec<Source>,
    /// The next row of each source that has one.
    heads: BinaryHeap<Reverse<(Identity, Preference, usize)>>,
    last: Option<Identity>,
}

struct Source {
    rest: BoxStream<'static, Result<RecordBatch, LakeError>>,
    batch: Option<RecordBatch>,
    row: usize,
}

impl Merge {
    /// Begins to merge rows that are sorted by key and number each.
    pub(crate) async fn of(
        log: Log,
        sources: Vec<BoxStream<'static, Result<RecordBatch, LakeError>>>,
    ) -> Result<Self, LakeError> {
        let mut merge = Self {
            log,
            sources: Vec::with_capacity(sources.len()),
            heads: BinaryHeap::new(),
            last: None,
        };
        for rest in sources {
            let at = merge.sources.len();
            merge.sources.push(Source {
                rest,
                batch: None,
                row: 0,
            });
            merge.next_batch(at).await?;
        }
        Ok(merge)
    }

    /// Turns to the next rows of a source.
    async fn next_batch(&mut self, at: usize) -> Result<(), LakeError> {
        let source = &mut self.sources[at];
        source.row = 0;
        source.batch = None;
        while let Some(batch) = source.rest.next().await.transpose()? {
            if batch.num_rows() > 0 {
                source.batch = Some(batch);
                break;
            }
        }
        self.push_head(at)
    }

    fn push_head(&mut self, at: usize) -> Result<(), LakeError> {
        let source = &self.sources[at];
        if let Some(batch) = &source.batch {
            let identity = identity(self.log, batch, source.row).map_err(LakeError::Merge)?;
            self.heads.push(Reverse((identity, preference(batch, source.row), at)));
        }
        Ok(())
    }

    /// The next rows in order; `None` once there are no more.
    pub(crate) async fn next(&mut self) -> Result<Option<RecordBatch>, LakeError> {
        // The rows that were picked, by the batch they stand in; a source can go through several.
        let mut batches: Vec<RecordBatch> = Vec::new();
        let mut place_of: Vec<Option<usize>> = vec![None; self.sources.len()];
        let mut picked = Vec::new();
        while picked.len() < ROWS && batches.len() <= 2 * self.sources.len() {
            let Some(Reverse((identity, _, at))) = self.heads.pop() else {
                break;
            };
            let source = &mut self.sources[at];
            let Some(batch) = &source.batch else { continue };
            if self.last.as_ref() != Some(&identity) {
                let place = *place_of[at].get_or_insert_with(|| {
                    batches.push(batch.clone());
                    batches.len() - 1
                });
                picked.push((place, source.row));
                self.last = Some(identity);
            }
            source.row += 1;
            if source.row < batch.num_rows() {
                self.push_head(at)?;
            } else {
                place_of[at] = None;
                self.next_batch(at).await?;
            }
        }
        if picked.is_empty() {
            return Ok(None);
        }
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        interleave_record_batch(&batches, &picked)
            .map(Some)
            .map_err(LakeError::Merge)
    }
}

fn identity(log: Log, batch: &RecordBatch, row: usize) -> Result<Identity, ArrowError> {
    let column = |name: &str| -> Result<String, ArrowError> {
        let column = batch
            .column_by_name(name)
            .and_then(|column| column.as_string_opt::<i32>());
        let column: &StringArray =
            column.ok_or_else(|| ArrowError::SchemaError(format!("no column of texts {name}")))?;
        Ok(column.value(row).to_owned())
    };
    log.keys().into_iter().chain([SEQUENCE]).map(column).collect()
}

fn preference(batch: &RecordBatch, row: usize) -> Preference {
    let runs = batch
        .column_by_name(RUN_ID)
        .and_then(|column| column.as_primitive_opt::<TimestampMillisecondType>());
    match runs {
        Some(runs) if runs.is_valid(row) => (false, runs.value(row)),
        Some(_) => (true, 0),
        // The log of runs, where it is the key.
        None => (false, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch;
    use crate::change::Sequence;
    use crate::row::{Cell, Row};
    use futures::stream;

    fn rows(rows: &[(&str, u32)]) -> BoxStream<'static, Result<RecordBatch, LakeError>> {
        let row = |(key, sequence): &(&str, u32)| {
            let sequence = Sequence::parse(&sequence.to_string()).unwrap();
            let cells = Log::Branches.columns().iter().map(|column| match column.name {
                "branch_id" => Cell::Text((*key).to_owned()),
                "sequence" => Cell::Text(sequence.as_str().to_owned()),
                "changed_at" => Cell::Timestamp(0),
                "operation" | "attributes" => Cell::Text(String::new()),
                _ => Cell::Null,
            });
            Row {
                keys: vec![(*key).to_owned()],
                cells: cells.collect(),
                sequence,
                changed_at: 0,
                unfit: 0,
            }
        };
        // A batch a row: a source goes through many.
        let batches: Vec<_> = rows
            .iter()
            .map(|one| Ok(batch::of_rows(Log::Branches, &[row(one)]).unwrap()))
            .collect();
        stream::iter(batches).boxed()
    }

    async fn merged(sources: Vec<BoxStream<'static, Result<RecordBatch, LakeError>>>) -> Vec<(String, u32)> {
        let mut merge = Merge::of(Log::Branches, sources).await.unwrap();
        let mut all = Vec::new();
        while let Some(batch) = merge.next().await.unwrap() {
            for row in 0..batch.num_rows() {
                let identity = identity(Log::Branches, &batch, row).unwrap();
                all.push((identity[0].clone(), identity[1].parse().unwrap()));
            }
        }
        all
    }

    #[tokio::test]
    async fn rows_come_in_order_and_each_once() {
        let sources = vec![
            rows(&[("a", 1), ("a", 3), ("b", 1), ("c", 2)]),
            rows(&[("a", 3), ("a", 20), ("c", 1), ("c", 2)]),
            rows(&[]),
            rows(&[("a", 3)]),
        ];
        let expected = [("a", 1), ("a", 3), ("a", 20), ("b", 1), ("c", 1), ("c", 2)];
        assert_eq!(
            merged(sources).await,
            expected.map(|(key, sequence)| (key.to_owned(), sequence))
        );
    }

    #[tokio::test]
    async fn of_nothing_comes_nothing() {
        assert_eq!(merged(Vec::new()).await, []);
        assert_eq!(merged(vec![rows(&[])]).await, []);
    }

    #[tokio::test]
    async fn what_cannot_be_read_ends_it() {
        let broken = || LakeError::Merge(ArrowError::ComputeError("broken".to_owned()));
        let source = rows(&[("a", 1)])
            .chain(stream::once(async move { Err(broken()) }))
            .boxed();
        let mut merge = Merge::of(Log::Branches, vec![source]).await.unwrap();
        assert!(merge.next().await.is_err());
    }
}
