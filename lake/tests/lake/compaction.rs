//! Small files become one, readers never miss a change, and a compaction that ends anywhere does no harm.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::{self, BoxStream};
use lake::compaction::Policy;
use lake::counts::Counts;
use lake::log::Log;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use serde_json::{Value, json};
use shared::state::StateTable;
use time::macros::utc_datetime;
use time::{Duration as Span, UtcDateTime};

use crate::stage::{NOON, Stage, record_at};

/// A store that does so many things more, and then nothing.
#[derive(Debug)]
pub(crate) struct Failing {
    inner: InMemory,
    left: AtomicI64,
}

impl Failing {
    pub(crate) fn over(inner: InMemory) -> Self {
        Self {
            inner,
            left: AtomicI64::new(i64::MAX),
        }
    }

    pub(crate) fn fail_after(&self, operations: i64) {
        self.left.store(operations, Ordering::SeqCst);
    }

    pub(crate) fn mend(&self) {
        self.left.store(i64::MAX, Ordering::SeqCst);
    }

    fn does(&self) -> Result<()> {
        if self.left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        Err(Error::Generic {
            store: "failing",
            source: "it does nothing more".into(),
        })
    }
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failing")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Failing {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.does()?;
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.does()?;
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.does()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.does() {
            Ok(()) => self.inner.delete_stream(locations),
            Err(failure) => stream::once(async { Err(failure) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.does() {
            Ok(()) => self.inner.list(prefix),
            Err(failure) => stream::once(async { Err(failure) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

const YESTERDAY: UtcDateTime = utc_datetime!(2026-11-20 12:00);

/// A change of one of ten sales, in a file of its own.
async fn deliver(stage: &Stage, sequence: u64, at: UtcDateTime) {
    let sale = (sequence % 10).to_string();
    let image = json!({"amount": {"N": sequence.to_string()}});
    stage
        .deliver(&[record_at(Log::Sales, "MODIFY", &[&sale, "7"], image, sequence, at)])
        .await;
}

async fn compact(stage: &Stage) -> Counts {
    compact_part(stage, json!({})).await
}

async fn compact_part(stage: &Stage, part: Value) -> Counts {
    let handled = stage.call(&json!({ "compact": part })).await;
    let answer = handled.answer.unwrap();
    assert_eq!(answer["statusCode"], 200);
    assert_eq!(answer["compacted_files"], handled.counts.compacted_files);
    handled.counts
}

#[tokio::test]
async fn given_small_files_of_a_day_that_is_over_then_one_takes_their_place_and_later_they_are_deleted() {
    let stage = Stage::new();
    for sequence in 1..=5 {
        deliver(&stage, sequence, YESTERDAY).await;
    }
    let changes = stage.changes(Log::Sales).await;
    let counts = compact(&stage).await;
    assert_eq!(
        (counts.compacted_files, counts.files, counts.rows, counts.deleted_files),
        (5, 1, 5, 0)
    );
    // Both are there, and each change is taken once.
    assert_eq!(stage.file_names(Log::Sales).await.len(), 6);
    assert_eq!(stage.changes(Log::Sales).await, changes);
    let status = stage.lake.status(Log::Sales).await.unwrap();
    assert_eq!((status.files, status.changes, status.replaced_files), (1, 5, 5));

    stage.clock.advance(Duration::from_secs(59 * 60));
    assert_eq!(compact(&stage).await, Counts::default());
    stage.clock.advance(Duration::from_secs(60));
    assert_eq!(compact(&stage).await.deleted_files, 5);
    let names = stage.file_names(Log::Sales).await;
    assert!(names.len() == 1 && names[0].starts_with("compacted-"), "{names:?}");
    assert_eq!(stage.changes(Log::Sales).await, changes);
    assert_eq!(stage.rows(Log::Sales).await.len(), 5);
    assert_eq!(compact(&stage).await, Counts::default());
}

#[tokio::test]
async fn the_day_that_is_not_over_is_compacted_once_it_has_many_small_files() {
    let stage = Stage::new();
    for sequence in 1..16 {
        deliver(&stage, sequence, NOON).await;
    }
    assert_eq!(compact(&stage).await, Counts::default());
    deliver(&stage, 16, NOON).await;
    assert_eq!(compact(&stage).await.compacted_files, 16);
    deliver(&stage, 17, NOON).await;
    assert_eq!(compact(&stage).await, Counts::default());
    assert_eq!(compact_part(&stage, json!({"today": true})).await.compacted_files, 2);
    deliver(&stage, 18, NOON).await;
    stage.clock.advance(Duration::from_secs(24 * 60 * 60));
    let counts = compact(&stage).await;
    assert_eq!((counts.compacted_files, counts.rows, counts.deleted_files), (2, 18, 18));
}

#[tokio::test]
async fn what_was_delivered_twice_is_there_once_after_it() {
    let stage = Stage::new();
    let record = |sequence| record_at(Log::Sales, "MODIFY", &["1", "7"], json!({}), sequence, YESTERDAY);
    stage.deliver(&[record(1), record(2)]).await;
    stage.deliver(&[record(2), record(3)]).await;
    assert_eq!(stage.rows(Log::Sales).await.len(), 4);
    let counts = compact(&stage).await;
    assert_eq!((counts.compacted_files, counts.rows), (2, 3));
}

#[tokio::test]
async fn of_a_change_that_is_there_with_its_run_and_without_the_former_stays() {
    for is_known_at_first in [true, false] {
        let stage = Stage::new();
        let image = json!({"last_modified": {"S": "2026-11-20T11:30:00.000Z"}});
        let record = |sequence| record_at(Log::Sales, "MODIFY", &["1", "7"], image.clone(), sequence, YESTERDAY);
        let runs = json!({"recent": ["2026-11-20T11:00:00Z"], "unreported": []});
        let entry = shared::state::Entry::after(None, &runs, None).unwrap();
        stage.state.swap(lake::runs::ENTRY, None, &entry).await.unwrap();
        // While the state table is down, rows do not say their run; the same records come again, cut otherwise.
        stage.state.fail(!is_known_at_first);
        stage.deliver(&[record(1)]).await;
        stage.state.fail(is_known_at_first);
        stage.deliver(&[record(1), record(2)]).await;
        stage.state.fail(false);
        assert_eq!(compact(&stage).await.rows, 2);
        stage.clock.advance(Duration::from_secs(60 * 60));
        compact(&stage).await;
        let first = stage.rows(Log::Sales).await.swap_remove(0);
        assert_eq!(
            first["run_id"].as_deref(),
            Some("2026-11-20T11:00:00.000Z"),
            "{is_known_at_first}"
        );
    }
}

#[tokio::test]
async fn many_files_are_put_together_a_few_at_a_time_and_large_ones_are_left() {
    let policy = Policy {
        at_once: 4,
        ..Policy::default()
    };
    let stage = Stage::with(Arc::new(InMemory::new()), policy);
    for sequence in 1..=20 {
        deliver(&stage, sequence, YESTERDAY).await;
    }
    let changes = stage.changes(Log::Sales).await;
    let counts = compact(&stage).await;
    assert_eq!(
        counts.rows,
        20 + 16 + 20,
        "20 files become 5, 4 of them and the 5th two, these one: {counts:?}"
    );
    stage.clock.advance(Duration::from_secs(60 * 60));
    compact(&stage).await;
    assert_eq!(stage.file_names(Log::Sales).await.len(), 1);
    assert_eq!(stage.changes(Log::Sales).await, changes);

    let nothing_is_small = Policy {
        target_bytes: 1,
        ..Policy::default()
    };
    let stage = Stage::with(Arc::new(InMemory::new()), nothing_is_small);
    for sequence in 1..=3 {
        deliver(&stage, sequence, YESTERDAY).await;
    }
    assert_eq!(compact(&stage).await, Counts::default());
}

/// A change of a sale, in a file of its own of some 30 KB that do not compress.
async fn deliver_large(stage: &Stage, sequence: u64) {
    let mut hash = sequence;
    let note: String = (0..2500)
        .map(|_| {
            hash = (hash ^ (hash >> 31))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .wrapping_add(1);
            format!("{hash:016x}")
        })
        .collect();
    let record = record_at(
        Log::Sales,
        "MODIFY",
        &[&sequence.to_string(), "7"],
        json!({"note": {"S": note}}),
        sequence,
        YESTERDAY,
    );
    stage.deliver(&[record]).await;
}

#[tokio::test]
async fn a_day_of_more_than_is_put_together_at_once_keeps_several_files_that_are_left_alone() {
    let policy = Policy {
        target_bytes: 100_000,
        ..Policy::default()
    };
    let stage = Stage::with(Arc::new(InMemory::new()), policy);
    for sequence in 1..=12 {
        deliver_large(&stage, sequence).await;
    }
    let changes = stage.changes(Log::Sales).await;
    let counts = compact(&stage).await;
    assert_eq!((counts.compacted_files, counts.files, counts.rows), (12, 4, 12));
    stage.clock.advance(Duration::from_secs(60 * 60));
    let counts = compact(&stage).await;
    assert_eq!((counts.files, counts.deleted_files), (0, 12));
    for file in stage.lake.files(Log::Sales).await.unwrap() {
        assert!(file.size >= 50_000 && file.size <= 100_000, "{file:?}");
    }
    assert_eq!(compact(&stage).await, Counts::default());
    assert_eq!(stage.changes(Log::Sales).await, changes);
    // A late change goes with nothing that is large already.
    deliver_large(&stage, 13).await;
    assert_eq!(compact(&stage).await, Counts::default());
}

#[test]
fn what_is_put_together_at_once_fits_the_functions_memory_well() {
    let template = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../templates/lake.yml")).unwrap();
    let (_, parameter) = template.split_once("  LakeMemory:").unwrap();
    let (_, default) = parameter.split_once("Default: ").unwrap();
    let megabytes: u64 = default.lines().next().unwrap().trim().parse().unwrap();
    // Ten times as much was measured, and a third is to be left.
    let needed = Policy::default().target_bytes * 10;
    assert!(needed * 3 <= megabytes * 1024 * 1024 * 2, "{needed} of {megabytes} MB");
}

#[tokio::test]
async fn a_call_can_name_the_part() {
    let stage = Stage::new();
    for sequence in 1..=3 {
        deliver(&stage, sequence, YESTERDAY).await;
        deliver(&stage, 100 + sequence, YESTERDAY - Span::DAY).await;
    }
    assert_eq!(
        compact_part(&stage, json!({"log": "branches"})).await,
        Counts::default()
    );
    let counts = compact_part(&stage, json!({"log": "sales", "date": "2026-11-19"})).await;
    assert_eq!(counts.compacted_files, 3);
    assert_eq!(compact(&stage).await.compacted_files, 3);
}

#[tokio::test]
async fn a_file_with_other_columns_is_left_as_it_is() {
    let stage = Stage::new();
    for sequence in 1..=2 {
        deliver(&stage, sequence, YESTERDAY).await;
        // As a version with other columns might have written it.
        let from = stage.lake.folder(Log::Branches);
        let branch = record_at(Log::Branches, "INSERT", &["1"], json!({}), 10 + sequence, YESTERDAY);
        stage.deliver(&[branch]).await;
        let file = stage.lake.files(Log::Branches).await.unwrap().pop().unwrap();
        let to = stage.lake.folder(Log::Sales).as_ref().to_owned();
        let to = Path::from(file.location.as_ref().replace(from.as_ref(), &to));
        stage
            .lake
            .objects()
            .copy_opts(&file.location, &to, CopyOptions::default())
            .await
            .unwrap();
    }
    let counts = compact_part(&stage, json!({"log": "sales"})).await;
    assert_eq!((counts.compacted_files, counts.rows), (2, 2));
    assert_eq!(stage.file_names(Log::Sales).await.len(), 5);
}

#[tokio::test]
async fn given_a_store_that_fails_at_any_step_then_no_change_is_lost_and_the_next_compaction_ends_it() {
    let mut steps = 0;
    loop {
        let objects = Arc::new(Failing::over(InMemory::new()));
        let stage = Stage::over(objects.clone());
        for sequence in 1..=4 {
            deliver(&stage, sequence, YESTERDAY).await;
        }
        let changes = stage.changes(Log::Sales).await;

        // A first compaction replaces, a second one an hour later deletes; either ends at some step.
        objects.fail_after(steps);
        let first = stage.call(&json!({"compact": {}})).await.answer;
        stage.clock.advance(Duration::from_secs(60 * 60));
        let second = stage.call(&json!({"compact": {}})).await.answer;
        let has_failed = first.is_err() || second.is_err();
        objects.mend();
        assert_eq!(stage.changes(Log::Sales).await, changes, "after {steps} steps");

        for _ in 0..2 {
            compact(&stage).await;
            assert_eq!(stage.changes(Log::Sales).await, changes, "after {steps} steps");
            stage.clock.advance(Duration::from_secs(60 * 60));
        }
        let names = stage.file_names(Log::Sales).await;
        assert!(
            names.len() == 1 && names[0].starts_with("compacted-"),
            "after {steps} steps: {names:?}"
        );
        assert_eq!(stage.rows(Log::Sales).await.len(), 4, "after {steps} steps");
        if !has_failed {
            break;
        }
        steps += 1;
    }
    assert!(
        steps > 15,
        "{steps} steps are fewer than files were read, written and deleted"
    );
}

#[tokio::test]
async fn given_no_time_left_then_nothing_is_begun() {
    let stage = Stage::new();
    for sequence in 1..=3 {
        deliver(&stage, sequence, YESTERDAY).await;
    }
    let call = shared::collector::Call {
        request_id: "r-1".to_owned(),
        now: stage.clock.now(),
        deadline: tokio::time::Instant::now(),
        stop: tokio_util::sync::CancellationToken::new(),
    };
    let handled = stage.function.handle("{}", call).await;
    assert!(handled.answer.is_ok());
    assert_eq!(handled.counts, Counts::default());
    assert_eq!(compact(&stage).await.compacted_files, 3);
}
