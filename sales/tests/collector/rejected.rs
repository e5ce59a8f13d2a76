//! What cannot be stored is remembered, and tried again.

use serde_json::json;
use shared::rejections::{Rejections, Remembered};
use shared::vendor::client::ApiKey;
use shared::vendor::excerpt::Excerpts;

use super::*;

const CALL: &str = r#"{"employee_id": 1235, "branch_id": 1}"#;

fn world(sales: &[&str]) -> (World, Arc<MemoryState>) {
    let state = Arc::new(MemoryState::default());
    let mut world = World::with_state(&state, sales);
    let excerpts = Excerpts::new(ApiKey::new("s3cret".to_owned()));
    world.collector.rejections = Rejections::new(Some(state.clone()), world.clock.clone(), excerpts);
    (world, state)
}

async fn run_after(world: &World, hours: u64) -> Json {
    world.clock.advance(Duration::from_secs(hours * 3600));
    world.answer(CALL).await
}

fn remembered(state: &MemoryState) -> Remembered {
    let entry = state.entries().remove("rejected/sales/1235");
    entry.map_or_else(Remembered::default, |entry| entry.read().unwrap())
}

fn indexed(state: &MemoryState) -> Json {
    let entry = state.entries().remove("rejected/sales");
    entry.map_or(Json::Null, |entry| entry.body["ids"].clone())
}

#[tokio::test(start_paused = true)]
async fn a_rejected_sale_is_remembered_with_reason_sample_and_times_and_forgotten_once_it_is_mended() {
    let bad = recent("3972", r#", "note": "key s3cret", "": 1"#);
    let (world, state) = world(&[&recent("1", ""), &bad, r#"{"id": null}"#]);
    run_after(&world, 0).await;
    let first = remembered(&state);
    assert_eq!((first.total, first.records.len(), &first.malformed), (2, 2, &None));
    let (unnamed, record) = (&first.records[0], &first.records[1]);
    assert_eq!((&*unnamed.id, &*record.id), ("number 3 of the answer", "3972"));
    assert_eq!(
        unnamed.sighting.reason,
        "its id is null, expected an integer or a string"
    );
    assert_eq!(
        record.sighting.reason,
        "an attribute's name has 0 bytes, expected 1 to 65535"
    );
    assert_eq!(record.sighting.sample, bad.replace("s3cret", "[API_KEY]"));
    assert_eq!(
        (
            &*record.sighting.first_seen,
            &*record.sighting.last_seen,
            record.sighting.times
        ),
        ("2026-11-21T01:02:03.456Z", "2026-11-21T01:02:03.456Z", 1)
    );
    assert_eq!(indexed(&state), json!(["1235"]));

    // and again an hour later, when the other one is no more
    world.change_sales(&[&recent("1", ""), &bad]);
    assert_eq!(run_after(&world, 1).await["rejected"], 1);
    let again = remembered(&state);
    assert_eq!((again.total, again.records.len()), (1, 1));
    let sighting = &again.records[0].sighting;
    assert_eq!(
        (&*sighting.first_seen, &*sighting.last_seen, sighting.times),
        ("2026-11-21T01:02:03.456Z", "2026-11-21T02:02:03.456Z", 2)
    );

    // and when it is mended
    world.change_sales(&[&recent("1", ""), &recent("3972", "")]);
    assert_eq!(run_after(&world, 1).await["inserted"], 1);
    assert!(remembered(&state).is_empty());
    let entry = &state.entries()["rejected/sales/1235"];
    assert!(
        entry.expires_at.unwrap() <= world.clock.now(),
        "the table may forget it"
    );
    assert_eq!(indexed(&state), json!([]));
    // then nobody looks there any more
    let version = entry.version;
    world.change_sales(&[&recent("1", r#", "paper": "A4""#), &recent("3972", "")]);
    let reads = state.reads();
    assert_eq!(run_after(&world, 1).await["updated"], 1);
    assert_eq!(state.reads() - reads, 1, "the claim");
    assert_eq!(state.entries()["rejected/sales/1235"].version, version);
}

#[tokio::test(start_paused = true)]
async fn a_sale_that_was_rejected_is_looked_at_in_the_next_answer_whatever_its_age() {
    let bad = recent("3972", r#", "": 1"#);
    let (world, _) = world(&[&bad, &sale("7", "2026-11-19 00:00:00", "")]);
    assert_eq!(run_after(&world, 0).await["rejected"], 1);
    // when it is mended two days later, it is older than the lookback
    world.change_sales(&[
        &sale("8", "2026-11-22 00:00:00", ""),
        &recent("3972", ""),
        &sale("7", "2026-11-19 00:00:00", ""),
    ]);
    let answer = run_after(&world, 48).await;
    assert_eq!((&answer["inserted"], &answer["skipped"]), (&json!(1), &json!(2)));
    assert_eq!(world.sale_ids(), ["3972"]);
}

#[tokio::test(start_paused = true)]
async fn a_malformed_answer_is_remembered_until_there_is_a_good_one() {
    let (world, state) = world(&[&recent("1", "")]);
    run_after(&world, 0).await;
    let malformed = format!(
        r#"{{"result": {{"employee_id": 1235}}, "hint": "s3cret", "x": "{}"}}"#,
        "é".repeat(600)
    );
    world.vendor.says_now(sales_of("1235"), Reply::body(malformed.clone()));
    for times in 1..=2 {
        world.queue.put(MESSAGE.replace("T01", &format!("T0{}", times + 1)));
        world.clock.advance(Duration::from_secs(3600));
        assert_eq!(world.answer("{}").await["dead_lettered"], 1);
        let sighting = remembered(&state).malformed.unwrap();
        assert_eq!(sighting.times, times);
        assert_eq!(
            sighting.reason,
            "the vendor's answer is not as expected: it has no sales"
        );
        let whole = malformed.replace("s3cret", "[API_KEY]");
        assert!(whole.starts_with(&sighting.sample), "{}", sighting.sample);
        assert!(
            (499..=500).contains(&sighting.sample.len()),
            "{}",
            sighting.sample.len()
        );
    }
    assert_eq!(indexed(&state), json!(["1235"]));
    world.change_sales(&[&recent("1", "")]);
    run_after(&world, 1).await;
    assert!(remembered(&state).is_empty());
    assert_eq!(indexed(&state), json!([]));
}

#[tokio::test(start_paused = true)]
async fn of_pages_the_malformed_one_is_the_sample() {
    let (world, state) = world(&[]);
    let good = format!(
        r#"{{"result": {{"employee_id": 1235, "sales": [{}]}}}}"#,
        recent("1", "")
    );
    world
        .vendor
        .says_now(sales_of("1235"), Reply::pages([good, r#"{"result": 7}"#.to_owned()]));
    assert!(world.handle(CALL).await.answer.is_err());
    assert_eq!(remembered(&state).malformed.unwrap().sample, r#"{"result": 7}"#);
}

#[tokio::test(start_paused = true)]
async fn of_many_rejected_sales_the_first_are_listed_and_all_are_counted() {
    let sales: Vec<_> = (0..120).map(|id| recent(&id.to_string(), r#", "": 1"#)).collect();
    let (world, state) = world(&sales.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(run_after(&world, 0).await["rejected"], 120);
    let remembered = remembered(&state);
    assert_eq!((remembered.total, remembered.records.len()), (120, 50));
}

#[tokio::test(start_paused = true)]
async fn without_the_state_table_records_are_rejected_and_not_remembered() {
    let (world, state) = world(&[&recent("3972", r#", "": 1"#)]);
    state.fail(true);
    assert_eq!(run_after(&world, 0).await["rejected"], 1);
    state.fail(false);
    assert_eq!(remembered(&state), Remembered::default());
    assert_eq!(run_after(&world, 1).await["rejected"], 1);
    assert_eq!(remembered(&state).records[0].sighting.times, 1);
}

#[tokio::test(start_paused = true)]
async fn what_somebody_who_was_killed_may_have_noted_is_looked_for() {
    let (world, state) = world(&[&recent("3972", "")]);
    // given somebody who noted a rejection, and was killed before he could say so
    let noted = json!({"total": 1, "records": [{"id": "3972", "reason": "r", "sample": "s", "times": 1,
        "first_seen": "2026-11-20T00:00:00.000Z", "last_seen": "2026-11-20T00:00:00.000Z"}]});
    let noted = shared::state::Entry::after(None, &noted, None).unwrap();
    state.swap("rejected/sales/1235", None, &noted).await.unwrap();
    let claimed = json!({"claim": {"by": "somebody", "until": 0}});
    let claimed = shared::state::Entry::after(None, &claimed, None).unwrap();
    state.swap("sales/1235", None, &claimed).await.unwrap();
    assert_eq!(run_after(&world, 0).await["inserted"], 1);
    assert!(remembered(&state).is_empty());
}
