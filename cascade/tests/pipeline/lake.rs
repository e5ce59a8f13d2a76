//! The lake behind the tables: it says what they say, and how they came to.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::time::Duration;

use aws_sdk_dynamodb::types::AttributeValue;
use cascade::feed::{DIRECTORY, Feed, open_lake};
use futures::TryStreamExt;
use lake::log::Log;
use serde_json::{Value as Json, json};
use shared::number::Number;
use shared::value::Value;
use tempfile::TempDir;

use crate::command::User;
use crate::harness::{House, Setup, scan};

/// An item by its key: its other attributes.
type Items = BTreeMap<Vec<String>, BTreeMap<String, Value>>;

const HOUR: Duration = Duration::from_secs(60 * 60);

fn feed(house: &House, data: &Path) -> Feed {
    Feed::open(&house.cloud.sdk_config(), "test", data, None).expect("a feed")
}

fn table(house: &House, log: Log) -> &str {
    match log {
        Log::Branches => &house.places.branch_table,
        Log::Salespersons => &house.places.salesperson_table,
        Log::Sales => &house.places.sale_table,
        Log::Runs => &house.places.state_table,
    }
}

fn exact(attribute: AttributeValue) -> Value {
    match attribute {
        AttributeValue::S(text) => Value::String(text),
        AttributeValue::N(number) => Value::Number(Number::parse(&number).expect("a number")),
        AttributeValue::Bool(flag) => Value::Bool(flag),
        AttributeValue::Null(_) => Value::Null,
        AttributeValue::L(elements) => Value::Array(elements.into_iter().map(exact).collect()),
        AttributeValue::M(members) => Value::Object(
            members
                .into_iter()
                .map(|(name, member)| (name, exact(member)))
                .collect(),
        ),
        other => panic!("{other:?} is nothing that an answer writes"),
    }
}

/// What the table of a log holds.
async fn in_table(house: &House, log: Log) -> Items {
    let dynamodb = aws_sdk_dynamodb::Client::new(&house.cloud.sdk_config());
    let items = scan(&dynamodb, table(house, log))
        .await
        .into_iter()
        .map(|item: HashMap<_, _>| {
            let mut item: BTreeMap<String, Value> =
                item.into_iter().map(|(name, value)| (name, exact(value))).collect();
            let keys = log.keys().into_iter().map(|key| match item.remove(key) {
                Some(Value::String(text)) => text,
                other => panic!("{key} is {other:?}"),
            });
            (keys.collect(), item)
        });
    items.collect()
}

/// What the lake says of now: of each key its newest change, unless that took it away.
async fn in_lake(data: &Path, log: Log) -> Items {
    use arrow_array::StringArray;

    let (_, lake) = open_lake(data).expect("a lake");
    let mut newest: BTreeMap<Vec<String>, (String, String, BTreeMap<String, Value>)> = BTreeMap::new();
    for file in lake.files(log).await.expect("files") {
        let mut batches = lake.read(&file).await.expect("rows").batches;
        while let Some(batch) = batches.try_next().await.expect("rows") {
            let text = |name: &str| -> &StringArray {
                let column = batch.column_by_name(name).expect("a column");
                column.as_any().downcast_ref().expect("a column of texts")
            };
            for row in 0..batch.num_rows() {
                let keys = log
                    .keys()
                    .into_iter()
                    .map(|key| text(key).value(row).to_owned())
                    .collect();
                let change = (
                    text("sequence").value(row).to_owned(),
                    text("operation").value(row).to_owned(),
                    lake::row::item(log, &batch, row).expect("an item"),
                );
                let standing = newest.entry(keys).or_insert_with(|| change.clone());
                if change.0 > standing.0 {
                    *standing = change;
                }
            }
        }
    }
    newest.retain(|_, (_, operation, _)| !matches!(operation.as_str(), "delete" | "remove"));
    newest.into_iter().map(|(keys, (_, _, item))| (keys, item)).collect()
}

async fn assert_same(house: &House, data: &Path) {
    for log in [Log::Branches, Log::Salespersons, Log::Sales] {
        let (there, here) = (in_table(house, log).await, in_lake(data, log).await);
        assert!(!there.is_empty());
        assert_eq!(here.len(), there.len(), "{log:?}");
        for (keys, item) in &there {
            assert_eq!(here.get(keys), Some(item), "{log:?} {keys:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_hours_of_changes_the_lake_says_exactly_what_the_tables_say() {
    let house = House::start(Setup::usual(81)).await;
    let data = TempDir::new().expect("a directory");
    let feed = feed(&house, data.path());
    house.complete_run().await;
    let first = feed.carry().await.expect("carried");
    assert_eq!(
        (first.counts.rows, first.counts.refused, first.counts.unfit_values),
        (13 + 104 + 5200, 0, 0)
    );
    assert!(first.incomplete.is_empty());
    assert_same(&house, data.path()).await;
    for _ in 0..5 {
        house.advance(HOUR);
        house.complete_run().await;
        let more = feed.carry().await.expect("carried").counts;
        assert!(more.rows > 0 && more.rows < 1000, "{more:?}");
    }
    assert_same(&house, data.path()).await;
    // A row that somebody removes is gone from what there is now, and stays in what there was.
    let (keys, _) = in_table(&house, Log::Branches).await.pop_first().expect("a branch");
    let dynamodb = aws_sdk_dynamodb::Client::new(&house.cloud.sdk_config());
    let delete = dynamodb.delete_item().table_name(table(&house, Log::Branches));
    delete
        .key("branch_id", AttributeValue::S(keys[0].clone()))
        .send()
        .await
        .expect("deleted");
    assert_eq!(feed.carry().await.expect("carried").counts.rows, 1);
    assert_same(&house, data.path()).await;
    assert!(!in_lake(data.path(), Log::Branches).await.contains_key(&keys));
    assert_eq!(feed.carry().await.expect("carried").counts.records, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_crash_between_files_and_position_then_the_same_files_are_written_again() {
    let house = House::start(Setup::small(82)).await;
    let data = TempDir::new().expect("a directory");
    house.complete_run().await;
    let first = feed(&house, data.path()).carry().await.expect("carried").counts;
    let (_, lake) = open_lake(data.path()).expect("a lake");
    let names = async || {
        let mut names = Vec::new();
        for log in Log::ALL {
            names.extend(lake.files(log).await.expect("files").into_iter().map(|file| file.name));
        }
        names
    };
    let before = names().await;
    fs::remove_file(data.path().join(DIRECTORY).join("feed.json")).expect("removed");
    let again = feed(&house, data.path()).carry().await.expect("carried").counts;
    assert_eq!((again.rows, again.files), (first.rows, first.files));
    assert_eq!(names().await, before);
    assert_same(&house, data.path()).await;
    // From now on it goes on where it stopped, whoever carries it.
    assert_eq!(
        feed(&house, data.path()).carry().await.expect("carried").counts.records,
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn given_a_stream_that_has_lost_changes_then_it_is_told_until_the_lake_is_mended_from_the_tables() {
    let data = TempDir::new().expect("a directory");
    let house = House::start(Setup {
        data: Some(data.path().to_owned()),
        ..Setup::small(83)
    })
    .await;
    house.complete_run().await;
    feed(&house, data.path()).carry().await.expect("carried");
    for _ in 0..3 {
        house.advance(HOUR);
        house.complete_run().await;
    }
    // As DynamoDB forgets what is older than a day.
    let forget = |table: &str| {
        let tables = rusqlite::Connection::open(data.path().join("tables.sqlite")).expect("the tables' file");
        tables
            .execute("DELETE FROM _stream_records WHERE table_name = ?1", [table])
            .expect("forgotten")
    };
    assert!(forget("sale-test") > 130);
    let feed = feed(&house, data.path());
    assert_eq!(feed.carry().await.expect("carried").incomplete, ["sales"]);
    assert_ne!(
        in_lake(data.path(), Log::Sales).await,
        in_table(&house, Log::Sales).await
    );
    assert_eq!(feed.carry().await.expect("carried").incomplete, ["sales"]);
    let rebuilt = feed.rebuild().await.expect("mended");
    assert!(
        rebuilt["sales"].rows > 0 && rebuilt["branches"].rows == 0,
        "{rebuilt:?}"
    );
    assert_same(&house, data.path()).await;
    assert!(feed.carry().await.expect("carried").incomplete.is_empty());
    assert!(
        feed.rebuild()
            .await
            .expect("mended")
            .values()
            .all(|counts| counts.rows == 0)
    );
    // What changes next comes after what was mended.
    house.advance(HOUR);
    house.complete_run().await;
    feed.carry().await.expect("carried");
    assert_same(&house, data.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn given_rows_that_are_older_than_the_stream_then_it_is_told_at_the_first_time() {
    let data = TempDir::new().expect("a directory");
    let house = House::start(Setup {
        data: Some(data.path().to_owned()),
        ..Setup::small(84)
    })
    .await;
    house.complete_run().await;
    let tables = rusqlite::Connection::open(data.path().join("tables.sqlite")).expect("the tables' file");
    let first = "DELETE FROM _stream_records WHERE rowid IN (SELECT rowid FROM _stream_records WHERE table_name = 'branch-test' LIMIT 5)";
    assert_eq!(tables.execute(first, ()).expect("forgotten"), 5);
    let feed = feed(&house, data.path());
    assert_eq!(feed.carry().await.expect("carried").incomplete, ["branches"]);
    assert_eq!(feed.rebuild().await.expect("mended")["branches"].rows, 5);
    assert_same(&house, data.path()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_forgets_only_what_is_old_and_in_the_lake() {
    let data = TempDir::new().expect("a directory");
    let house = House::start(Setup {
        data: Some(data.path().to_owned()),
        ..Setup::small(85)
    })
    .await;
    house.complete_run().await;
    let tables = rusqlite::Connection::open(data.path().join("tables.sqlite")).expect("the tables' file");
    let kept = || -> i64 {
        let count = "SELECT count(*) FROM _stream_records WHERE table_name = 'branch-test'";
        tables.query_row(count, (), |row| row.get(0)).expect("a count")
    };
    let forget = async |feed: &Feed| {
        for (table, number) in feed.carried_up_to().await {
            house
                .cloud
                .forget_stream_records(&table, &number)
                .await
                .expect("forgotten");
        }
    };
    let feed = feed(&house, data.path());
    tables
        .execute("UPDATE _stream_records SET created_at = created_at - 90000", ())
        .expect("older");
    forget(&feed).await;
    assert_eq!(kept(), 13, "nothing of it is in the lake");
    feed.carry().await.expect("carried");
    forget(&feed).await;
    assert_eq!(kept(), 1, "the last one tells a later start that nothing is missing");
    let later = Feed::open(&house.cloud.sdk_config(), "test", data.path(), None).expect("a feed");
    assert!(later.carry().await.expect("carried").incomplete.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_not_understood_is_put_aside_and_the_rest_goes_on() {
    let house = House::start(Setup::small(86)).await;
    let data = TempDir::new().expect("a directory");
    let dynamodb = aws_sdk_dynamodb::Client::new(&house.cloud.sdk_config());
    for id in [
        "run/2026-11-21T01:00:00Z",
        "run/yesterday",
        "run/2026-11-21T02:00:00Z",
        "freshness",
    ] {
        let put = dynamodb.put_item().table_name(table(&house, Log::Runs));
        put.item("id", AttributeValue::S(id.to_owned()))
            .send()
            .await
            .expect("put");
    }
    let feed = feed(&house, data.path());
    let counts = feed.carry().await.expect("carried").counts;
    assert_eq!((counts.rows, counts.refused), (2, 1));
    let aside: Vec<_> = fs::read_dir(data.path().join(DIRECTORY).join("failed"))
        .expect("a directory")
        .map(|entry| fs::read_to_string(entry.expect("a file").path()).expect("a record"))
        .collect();
    assert!(aside.len() == 1 && aside[0].contains("run/yesterday"), "{aside:?}");
    assert_eq!(feed.carry().await.expect("carried").counts.records, 0);
}

#[test]
fn a_run_carries_into_the_lake_and_the_command_looks_at_it_and_puts_it_together() {
    let user = User::new();
    let none = user.cascade(&["lake", "status", "--data", "data"]);
    assert_eq!(none.status, Some(2));
    assert!(none.stderr.contains("could not find a lake in data"), "{}", none.stderr);
    let first = user.run(&["--quota", "60000"]);
    assert_eq!(first.status, Some(0), "{}", first.stderr);
    assert!(
        first.stdout.contains(" lake          183 rows in 4 files, "),
        "{}",
        first.stdout
    );
    for _ in 0..2 {
        let next = user.run(&["--quota", "60000", "--json"]);
        assert_eq!(next.status, Some(0), "{}", next.stderr);
        let report: Json = serde_json::from_str(&next.stdout).expect("JSON");
        assert_eq!(report["runs"][0]["lake"]["incomplete"], Json::Array(Vec::new()));
    }
    let status = |arguments: &[&str]| {
        let finished = user.cascade(&[&["lake"], arguments, &["--data", "data", "--json"]].concat());
        assert_eq!(finished.status, Some(0), "{}", finished.stderr);
        serde_json::from_str::<Json>(&finished.stdout).expect("JSON")
    };
    let before = status(&["status"]);
    let branches = &before["logs"][0];
    assert_eq!(branches["log"], "branches");
    assert!(
        branches["changes"].as_u64() >= Some(13) && branches["newest_change"].is_string(),
        "{branches}"
    );
    // Of a day that is not over, three files are few.
    assert_eq!(status(&["compact"])["compacted_files"], 0);
    assert_eq!(status(&["rebuild"])["sales"]["rows"], 0);
    assert_eq!(status(&["status"]), before);
    assert!(status(&["compact", "--today"])["compacted_files"].as_u64() >= Some(2));
    let after = status(&["status"]);
    assert_eq!(
        (&after["logs"][2]["files"], &after["logs"][2]["changes"]),
        (&json!(1), &before["logs"][2]["changes"])
    );
    let table = user.cascade(&["lake", "status", "--data", "data"]);
    assert!(
        table.stdout.contains("The lake in data/lake") && table.stdout.contains("newest change"),
        "{}",
        table.stdout
    );
    assert!(!table.stdout.contains("not in the lake"), "{}", table.stdout);
    assert_eq!(after["put_aside"], 0);
    // As a machine that lost its power leaves a file.
    let empty = format!(
        "data/lake/changes/sales/date=2026-11-20/{0}-{0}-1.parquet",
        "0".repeat(40)
    );
    let empty = user.data().with_file_name(empty);
    fs::create_dir_all(empty.parent().expect("a folder")).expect("a directory");
    fs::write(&empty, "").expect("a file");
    let failed = user.cascade(&["lake", "status", "--data", "data"]);
    assert_eq!(failed.status, Some(2));
    assert!(
        failed.stderr.contains(&format!("{} has no bytes", empty.display())) && failed.stderr.contains("Delete it"),
        "{}",
        failed.stderr
    );
    fs::remove_file(&empty).expect("deleted");
    // As the feed puts a record aside that it does not understand.
    let failed = user.data().join("lake/failed");
    fs::create_dir(&failed).expect("a directory");
    fs::write(failed.join("sale-local-1.json"), "{}").expect("a file");
    assert_eq!(status(&["status"])["put_aside"], 1);
    let table = user.cascade(&["lake", "status", "--data", "data"]);
    assert!(
        table
            .stdout
            .contains("not in the lake: 1. They are in data/lake/failed;"),
        "{}",
        table.stdout
    );
}
