//! What the vendor sent comes out of the files exactly, however the records are delivered.

use std::collections::BTreeMap;

use lake::change::Change;
use lake::log::Log;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::stage::{Stage, keys, record};

/// An attribute's value in DynamoDB's form.
fn any_attribute() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        "-?[0-9]{1,18}".boxed(),
        "-?[0-9]{1,24}\\.[0-9]{1,12}".boxed(),
        "-?[1-9](\\.[0-9]{1,5})?E-?[0-9]{1,2}".boxed(),
    ];
    let text = prop_oneof![
        "\\PC{0,12}".boxed(),
        "20[0-9]{2}-[01][0-9]-[0-3][0-9]".boxed(),
        "20[0-9]{2}-[01][0-9]-[0-3][0-9] [0-2][0-9]:[0-5][0-9]:[0-5][0-9]".boxed(),
        "20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]\\.[0-9]{3}Z".boxed(),
    ];
    let leaf = prop_oneof![
        number.prop_map(|number| json!({ "N": number })),
        text.prop_map(|text| json!({ "S": text })),
        any::<bool>().prop_map(|flag| json!({ "BOOL": flag })),
        Just(json!({"NULL": true})),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|elements| json!({ "L": elements })),
            prop::collection::btree_map("[a-zA-Z_é.\"]{1,6}", inner, 0..4).prop_map(|members| json!({ "M": members })),
        ]
    })
}

/// An item's attributes: known ones of any type, and others.
fn any_image(log: Log) -> impl Strategy<Value = Value> {
    let known = log.known_attributes().iter().map(|(name, _)| *name);
    let names: Vec<_> = known
        .chain(["last_modified", "deleted_at", "attributes", "operation", "date"])
        .collect();
    let name = prop_oneof![prop::sample::select(names).prop_map(str::to_owned), "[a-zé_.]{1,8}"];
    prop::collection::btree_map(name, any_attribute(), 0..10).prop_map(|attributes| json!(attributes))
}

fn any_log() -> impl Strategy<Value = (Log, Value)> {
    prop::sample::select(vec![Log::Branches, Log::Salespersons, Log::Sales])
        .prop_flat_map(|log| (Just(log), any_image(log)))
}

/// What happens to one of three sales.
fn any_change() -> impl Strategy<Value = (usize, &'static str, Value)> {
    let name = prop_oneof![6 => Just("INSERT"), 6 => Just("MODIFY"), 1 => Just("REMOVE")];
    let image = prop_oneof![
        3 => any_image(Log::Sales).boxed(),
        1 => Just(json!({"deleted_at": {"S": "2026-11-21T01:02:03.456Z"}})).boxed(),
    ];
    (0..3_usize, name, image)
}

fn now(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_record_comes_out_of_its_file_with_the_same_values((log, attributes) in any_log()) {
        now(async {
            let names = ["7", "8"];
            let record = record(log, "INSERT", &names[..log.keys().len()], attributes, 1);
            let sent = Change::read(&record.to_string(), &log.keys()).unwrap();
            let stage = Stage::new();
            stage.deliver(&[record]).await;
            let rows = stage.rows(log).await;
            assert_eq!(rows.len(), 1);
            assert_eq!(stage.items(log).await, [sent.image]);
            assert_eq!(keys(log, &rows[0]), names[..log.keys().len()]);
        });
    }

    #[test]
    fn however_records_are_cut_and_repeated_the_lake_says_the_same(
        changes in prop::collection::vec(any_change(), 1..12),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..6),
    ) {
        now(async {
            let sales = [["1", "7"], ["1", "8"], ["2", "7"]];
            let records: Vec<_> = changes
                .into_iter()
                .zip(1..)
                .map(|((sale, name, image), sequence)| record(Log::Sales, name, &sales[sale], image, sequence))
                .collect();
            let (whole, cut) = (Stage::new(), Stage::new());
            whole.deliver(&records).await;
            // Any stretches of it, as replays and bisections deliver them, and then all of it one by one.
            for (from, to) in cuts {
                let (from, to) = (from.index(records.len()), to.index(records.len()));
                cut.deliver(&records[from.min(to)..=from.max(to)]).await;
            }
            for record in &records {
                cut.deliver(std::slice::from_ref(record)).await;
            }
            let expected: BTreeMap<_, _> = whole.changes(Log::Sales).await;
            assert_eq!(expected.len(), records.len());
            assert_eq!(cut.changes(Log::Sales).await, expected);
            let current = whole.current(Log::Sales).await;
            assert_eq!(cut.current(Log::Sales).await, current);
            cut.call(&json!({"compact": {}})).await.answer.unwrap();
            assert_eq!(cut.changes(Log::Sales).await, expected);
            assert_eq!(cut.current(Log::Sales).await, current);
        });
    }
}

#[tokio::test]
async fn given_the_same_batch_again_then_its_file_is_overwritten() {
    let stage = Stage::new();
    let batch = [
        record(Log::Branches, "INSERT", &["1"], json!({"rent": {"N": "1.10"}}), 1),
        record(Log::Branches, "MODIFY", &["1"], json!({"rent": {"N": "1.20"}}), 2),
    ];
    stage.deliver(&batch).await;
    let names = stage.file_names(Log::Branches).await;
    stage.deliver(&batch).await;
    assert_eq!(stage.file_names(Log::Branches).await, names);
    assert_eq!(
        names,
        ["0000000000000000000000000000000000000001-0000000000000000000000000000000000000002-2.parquet"]
    );
    assert_eq!(stage.rows(Log::Branches).await.len(), 2);
}
