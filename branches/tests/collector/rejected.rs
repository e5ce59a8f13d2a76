//! What cannot be stored is remembered, and comes first.

use shared::rejections::Remembered;

use super::*;

fn world() -> (World, Arc<MemoryState>) {
    let state = Arc::new(MemoryState::default());
    (World::build(Some(state.clone())), state)
}

fn remembered(state: &MemoryState, name: &str) -> Remembered {
    let entry = state.entries().remove(&format!("rejected/branches/{name}"));
    entry.map_or_else(Remembered::default, |entry| entry.read().unwrap())
}

#[tokio::test(start_paused = true)]
async fn names_with_rejected_branches_and_malformed_answers_are_asked_for_first_in_the_next_run() {
    let (world, state) = world();
    world
        .vendor
        .says_now(query("Stamford"), answer(&[r#"{"id": 11, "": 1}"#]));
    world
        .vendor
        .says_now(query("New York"), Reply::body(r#"{"result": {}}"#));
    assert!(world.handle("{}").await.answer.is_err());
    assert_eq!(remembered(&state, "Stamford").records[0].id, "11");
    let malformed = remembered(&state, "New York").malformed.unwrap();
    assert_eq!((&*malformed.sample, malformed.times), (r#"{"result": {}}"#, 1));

    let asked = world.asked().len();
    world.clock.advance(Duration::from_secs(3600));
    assert!(world.handle("{}").await.answer.is_err());
    assert_eq!(world.asked()[asked..asked + 3], ["Stamford", "New York", "Scranton"]);
    assert_eq!(remembered(&state, "New York").malformed.unwrap().times, 2);

    // Mended, they are names like all others.
    for (id, name) in [(11, "Stamford"), (13, "New York")] {
        world
            .vendor
            .says_now(query(name), answer(&[&format!(r#"{{"id": {id}}}"#)]));
    }
    world.answer("{}").await;
    assert!(remembered(&state, "Stamford").is_empty() && remembered(&state, "New York").is_empty());
    let asked = world.asked().len();
    world.answer("{}").await;
    assert_eq!(world.asked()[asked..], DEFAULT_BRANCHES);
}
