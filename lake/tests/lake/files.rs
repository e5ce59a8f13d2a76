//! Which files there are, and what they say of themselves.

use bytes::Bytes;
use lake::file;
use lake::log::Log;
use lake::store::Lake;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path;
use parquet::basic::Compression;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::json;
use std::sync::Arc;
use time::macros::utc_datetime;
use url::Url;

use crate::stage::{NOON, Stage, record, record_at, text};

async fn metadata(stage: &Stage, log: Log) -> Vec<ParquetMetaData> {
    let mut all = Vec::new();
    for file in stage.lake.files(log).await.unwrap() {
        let bytes: Bytes = stage
            .lake
            .objects()
            .get(&file.location)
            .await
            .unwrap()
            .bytes()
            .await
            .unwrap();
        all.push(SerializedFileReader::new(bytes).unwrap().metadata().clone());
    }
    all
}

#[tokio::test]
async fn given_changes_of_two_days_and_two_tables_then_each_has_its_file() {
    let stage = Stage::new();
    let before_midnight = utc_datetime!(2026-11-20 23:59:59);
    stage
        .deliver(&[
            record_at(Log::Sales, "INSERT", &["1", "7"], json!({}), 1, before_midnight),
            record_at(Log::Sales, "INSERT", &["2", "7"], json!({}), 2, NOON),
            record_at(Log::Branches, "INSERT", &["1"], json!({}), 3, NOON),
        ])
        .await;
    let mut places = Vec::new();
    for log in Log::ALL {
        for file in stage.lake.files(log).await.unwrap() {
            places.push(file.location.to_string());
        }
    }
    let zeros = "0".repeat(39);
    let file = |log: &str, date: &str, sequence: u8| {
        format!("prefix/changes/{log}/date={date}/{zeros}{sequence}-{zeros}{sequence}-1.parquet")
    };
    assert_eq!(
        places,
        [
            file("branches", "2026-11-21", 3),
            file("sales", "2026-11-20", 1),
            file("sales", "2026-11-21", 2)
        ]
    );
}

#[tokio::test]
async fn a_file_is_sorted_by_key_and_number_compressed_and_says_what_it_holds() {
    let stage = Stage::new();
    let key = |sale: &'static str, sequence| record(Log::Sales, "INSERT", &[sale, "7"], json!({}), sequence);
    stage
        .deliver(&[key("b", 9), key("a", 10), key("b", 11), key("a", 2)])
        .await;
    let rows = stage.rows(Log::Sales).await;
    let order: Vec<_> = rows
        .iter()
        .map(|row| {
            format!(
                "{}{}",
                text(row, "sale_id"),
                text(row, "sequence").trim_start_matches('0')
            )
        })
        .collect();
    assert_eq!(order, ["a2", "a10", "b9", "b11"]);

    let metadata = &metadata(&stage, Log::Sales).await[0];
    let about = file::about(metadata).unwrap();
    assert_eq!(about.log, "sales");
    assert_eq!(about.first_sequence.trim_start_matches('0'), "2");
    assert_eq!(about.last_sequence.trim_start_matches('0'), "11");
    let group = &metadata.row_groups()[0];
    assert!(
        group
            .columns()
            .iter()
            .all(|column| matches!(column.compression(), Compression::ZSTD(_)))
    );
    let sorted: Vec<_> = group
        .sorting_columns()
        .unwrap()
        .iter()
        .map(|column| column.column_idx)
        .collect();
    assert_eq!(sorted, [1, 2, 16]);
}

#[tokio::test]
async fn what_is_no_file_of_rows_is_left_out() {
    let stage = Stage::new();
    stage
        .deliver(&[record(Log::Sales, "INSERT", &["1", "7"], json!({}), 1)])
        .await;
    for other in [
        "date=2026-11-21/a.parquet#1",
        "date=2026-11-21/a.txt",
        "date=today/a.parquet",
        "a.parquet",
    ] {
        let path = Path::from(format!("prefix/changes/sales/{other}"));
        stage.lake.objects().put(&path, Bytes::from("x").into()).await.unwrap();
    }
    assert_eq!(stage.file_names(Log::Sales).await.len(), 1);
}

#[tokio::test]
async fn a_file_that_is_none_is_named_by_its_place_and_one_without_bytes_says_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let lake = Lake::open(&Url::from_directory_path(directory.path()).unwrap()).unwrap();
    let folder = directory.path().join("changes/sales/date=2026-11-20");
    std::fs::create_dir_all(&folder).unwrap();
    let number = "0".repeat(40);
    let file = folder.join(format!("{number}-{number}-1.parquet"));
    for (bytes, reason) in [
        (
            "",
            " has no bytes, which no file of rows has: whoever wrote it was cut off. Delete it; `cascade lake rebuild`",
        ),
        ("no rows at all", ""),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let named = format!("{}{reason}", file.display());
        let error = lake.status(Log::Sales).await.unwrap_err().to_string();
        assert!(error.contains(&named), "{error}");
        let error = lake.standing(Log::Sales).await.unwrap_err().to_string();
        assert!(error.contains(&named), "{error}");
    }
}

#[tokio::test]
async fn a_local_directory_is_a_lake_before_it_is_there_and_leaves_no_half_files() {
    let directory = tempfile::tempdir().unwrap();
    let url = Url::from_directory_path(directory.path().join("new lake")).unwrap();
    let lake = Lake::open(&url).unwrap();
    assert_eq!(lake.files(Log::Sales).await.unwrap(), []);
    let stage = Stage::over(lake.objects().clone());
    let inner = Lake::over(lake.objects().clone(), lake.root().clone());
    let function = lake::handler::LakeFunction::new(
        inner,
        [("sale-dev".to_owned(), Log::Sales)].into(),
        None,
        stage.clock.clone(),
        shared::jitter::Jitter::seeded(1),
    );
    let stage = Stage {
        function,
        lake,
        ..stage
    };
    stage
        .deliver(&[record(Log::Sales, "INSERT", &["1", "7"], json!({}), 1)])
        .await;
    let folder = directory.path().join("new lake/changes/sales/date=2026-11-21");
    let names: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, stage.file_names(Log::Sales).await);
    assert_eq!(stage.rows(Log::Sales).await.len(), 1);
}

#[test]
fn what_is_no_lakes_url_is_refused_by_name() {
    for url in ["https://bucket", "file://host/x"] {
        let error = Lake::open(&Url::parse(url).unwrap()).unwrap_err().to_string();
        assert!(
            error.contains("is no lake's URL, expected file:///… or s3://bucket/prefix"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_status_counts_what_stands_in_the_files() {
    let stage = Stage::over(Arc::new(InMemory::new()));
    let late = utc_datetime!(2026-11-21 12:30);
    stage
        .deliver(&[record(Log::Sales, "INSERT", &["1", "7"], json!({}), 1)])
        .await;
    stage
        .deliver(&[record_at(Log::Sales, "MODIFY", &["1", "7"], json!({}), 2, late)])
        .await;
    let status = stage.lake.status(Log::Sales).await.unwrap();
    assert_eq!((status.changes, status.files, status.replaced_files), (2, 2, 0));
    assert_eq!(status.newest_change, Some(late.unix_timestamp() * 1000));
    let sizes: u64 = stage
        .lake
        .files(Log::Sales)
        .await
        .unwrap()
        .iter()
        .map(|file| file.size)
        .sum();
    assert_eq!(status.bytes, sizes);
    assert_eq!(stage.lake.status(Log::Runs).await.unwrap(), Default::default());
}
