use super::*;
use crate::state::memory::MemoryState;
use crate::topic::memory::MemoryTopic;
use time::macros::utc_datetime;
use tokio_util::sync::CancellationToken;

struct World {
    table: Arc<MemoryState>,
    topic: Arc<MemoryTopic>,
    clock: Clock,
    accounts: Accounts,
}

impl World {
    fn new() -> Self {
        let table = Arc::new(MemoryState::default());
        let topic = Arc::new(MemoryTopic::default());
        let clock = Clock::starting_at(utc_datetime!(2026-11-21 01:00:05));
        let accounts = Accounts::new(
            Some(table.clone()),
            Some(topic.clone()),
            clock.clone(),
            Jitter::seeded(1),
            "test".to_owned(),
            Some(50),
        );
        Self {
            table,
            topic,
            clock,
            accounts,
        }
    }

    fn invocation(&self) -> Invocation {
        let deadline = Instant::now() + Duration::from_secs(900);
        Invocation::new(None, self.clock.now(), deadline, CancellationToken::new())
    }

    /// Begins a run of Akron, whose branch is 2, with salespersons 7 and 8.
    async fn begin(&self, run_id: RunId) {
        let (tally, invocation) = (Tally::default(), self.invocation());
        self.accounts
            .begin(run_id, Kind::Schedule, &["Akron".to_owned()], &tally)
            .await;
        self.accounts.expect_branches(run_id, &[id("2")], &tally).await;
        self.accounts
            .settle_name(run_id, "Akron", None, &tally, &invocation)
            .await;
    }

    async fn list(&self, run_id: RunId) {
        let tally = Tally::default();
        let salespersons = [id("7"), id("8")];
        self.accounts
            .expect_salespersons(run_id, &id("2"), &salespersons, &tally)
            .await;
        self.settle(run_id, &Piece::Branch(id("2")), Ending::Done).await;
    }

    async fn settle(&self, run_id: RunId, piece: &Piece, ending: Ending<'_>) {
        let invocation = self.invocation();
        self.accounts
            .settle(run_id, piece, ending, &invocation.tally, &invocation)
            .await;
    }

    fn states(&self) -> Vec<String> {
        let notices = self.topic.notices();
        let state = |notice: &crate::topic::Notice| {
            let said = |name: &str| notice.body[name].as_str().unwrap_or_default().to_owned();
            format!("{} {}", said("run_id"), said("state"))
        };
        notices.iter().map(state).collect()
    }
}

fn id(id: &str) -> Id {
    Id::new(id.to_owned()).unwrap()
}

fn run(hour: u8) -> RunId {
    RunId::parse(&format!("2026-11-21T{hour:02}:00:00Z")).unwrap()
}

fn salesperson(employee_id: &str) -> Piece {
    Piece::Salesperson {
        branch_id: id("2"),
        employee_id: id(employee_id),
        first_load: false,
    }
}

#[tokio::test]
async fn the_last_piece_sends_the_report_whatever_comes_again() {
    let world = World::new();
    world.begin(run(1)).await;
    // A salesperson can be done before it is known that there are no others.
    world.settle(run(1), &salesperson("8"), Ending::Done).await;
    world.list(run(1)).await;
    assert!(world.states().is_empty());
    for _ in 0..2 {
        world.settle(run(1), &salesperson("7"), Ending::Done).await;
    }
    world.list(run(1)).await;
    assert_eq!(world.states(), ["2026-11-21T01:00:00Z complete"]);
    assert!(world.table.entries().contains_key("run/2026-11-21T01:00:00Z/2"));
}

#[tokio::test]
async fn a_run_with_a_dead_letter_is_reported_incomplete_and_once() {
    let world = World::new();
    world.begin(run(1)).await;
    world.list(run(1)).await;
    world
        .settle(run(1), &salesperson("7"), Ending::DeadLetter("the vendor answers 404"))
        .await;
    world.settle(run(1), &salesperson("8"), Ending::Done).await;
    assert_eq!(world.states(), ["2026-11-21T01:00:00Z incomplete"]);
    let notice = &world.topic.notices()[0];
    assert!(
        notice
            .text
            .contains("- salesperson 7 of branch 2: the vendor answers 404"),
        "{}",
        notice.text
    );
    // Once it is mended and sent again nobody is told a second time.
    world.settle(run(1), &salesperson("7"), Ending::Done).await;
    assert_eq!(world.states().len(), 1);
}

#[tokio::test]
async fn a_run_that_stays_incomplete_is_reported_at_the_start_of_the_next_one() {
    let world = World::new();
    world.begin(run(1)).await;
    world.begin(run(2)).await;
    world.begin(run(2)).await;
    world.begin(run(3)).await;
    assert_eq!(
        world.states(),
        ["2026-11-21T01:00:00Z incomplete", "2026-11-21T02:00:00Z incomplete"]
    );
    assert!(world.topic.notices()[0].text.contains("- branch 2: no word of it yet"));
}

#[tokio::test]
async fn a_report_that_could_not_be_sent_goes_out_with_the_next_run() {
    let world = World::new();
    world.topic.fail(true);
    world.begin(run(1)).await;
    world.list(run(1)).await;
    for employee_id in ["7", "8"] {
        world.settle(run(1), &salesperson(employee_id), Ending::Done).await;
    }
    assert!(world.states().is_empty());
    world.topic.fail(false);
    world.begin(run(2)).await;
    assert_eq!(world.states(), ["2026-11-21T01:00:00Z complete"]);
}

#[tokio::test]
async fn what_could_not_be_added_keeps_a_run_from_looking_complete() {
    let world = World::new();
    world.begin(run(1)).await;
    let invocation = world.invocation();
    world.table.fail(true);
    world
        .accounts
        .expect_salespersons(run(1), &id("2"), &[id("7")], &invocation.tally)
        .await;
    world.table.fail(false);
    assert_eq!(invocation.tally.gap(), Some(Gap::NotAdded));
    assert_eq!(invocation.tally.counts().state_failures, 1);
    world
        .accounts
        .settle(
            run(1),
            &Piece::Branch(id("2")),
            Ending::Done,
            &invocation.tally,
            &invocation,
        )
        .await;
    assert!(world.states().is_empty());
}

#[tokio::test]
async fn a_branch_is_as_fresh_as_the_newest_run_that_it_is_complete_for() {
    let world = World::new();
    let tally = Tally::default();
    world.accounts.note_staleness(&tally).await;
    assert_eq!(tally.staleness(), None);
    for hour in [1, 0] {
        world.begin(run(hour)).await;
        world.list(run(hour)).await;
        for employee_id in ["7", "8"] {
            world.settle(run(hour), &salesperson(employee_id), Ending::Done).await;
        }
    }
    let fresh = freshness::by_branch(&*world.table).await.unwrap();
    assert_eq!(fresh, BTreeMap::from([("2".to_owned(), run(1))]));
    world.accounts.note_staleness(&tally).await;
    assert_eq!(tally.staleness().map(|age| age.as_secs()), Some(5));
}

#[tokio::test]
async fn a_run_that_could_not_be_begun_at_once_is_reported_all_the_same() {
    let world = World::new();
    let (tally, names) = (Tally::default(), ["Akron".to_owned()]);
    let begin = async || world.accounts.begin(run(1), Kind::Schedule, &names, &tally).await;
    world.table.fail(true);
    assert!(!begin().await);
    world.table.fail(false);
    world
        .accounts
        .settle_name(run(1), "Akron", None, &tally, &world.invocation())
        .await;
    assert!(world.states().is_empty());
    assert!(begin().await);
    assert_eq!(world.states(), ["2026-11-21T01:00:00Z complete"]);
}

#[tokio::test]
async fn who_does_not_report_leaves_it_to_the_next_run() {
    let mut world = World::new();
    let reporter = world.accounts.clone();
    world.accounts = reporter.clone().without_reports();
    world.begin(run(1)).await;
    world.list(run(1)).await;
    for employee_id in ["7", "8"] {
        world.settle(run(1), &salesperson(employee_id), Ending::Done).await;
    }
    assert!(world.states().is_empty());
    world.accounts = reporter;
    world.begin(run(2)).await;
    assert_eq!(world.states(), ["2026-11-21T01:00:00Z complete"]);
}

#[tokio::test]
async fn a_backfill_is_waited_for_over_many_runs_and_no_longer_than_a_queue_keeps_its_messages() {
    let world = World::new();
    let tally = Tally::default();
    let backfill = RunId::parse("2026-11-21T00:30:00Z").unwrap();
    let begin = async |run_id, kind| {
        world
            .accounts
            .begin(run_id, kind, &["everything".to_owned()], &tally)
            .await
    };
    begin(backfill, Kind::Backfill).await;
    begin(run(1), Kind::Schedule).await;
    assert!(world.states().is_empty());
    world.clock.advance(BACKFILL_LASTS);
    let later = RunId::scheduled_for(world.clock.now());
    begin(later, Kind::Schedule).await;
    assert_eq!(
        world.states(),
        ["2026-11-21T00:30:00Z incomplete", "2026-11-21T01:00:00Z incomplete"]
    );
}

#[tokio::test]
async fn a_branch_is_none_the_fresher_for_chosen_salespersons() {
    let world = World::new();
    let invocation = world.invocation();
    let tally = &invocation.tally;
    let name = "salesperson 7";
    world
        .accounts
        .begin(run(1), Kind::Backfill, &[name.to_owned()], tally)
        .await;
    world.accounts.expect_branches(run(1), &[id("2")], tally).await;
    world
        .accounts
        .expect_salespersons(run(1), &id("2"), &[id("7")], tally)
        .await;
    world.accounts.choose(run(1), &id("2"), tally, &invocation).await;
    world.accounts.settle_name(run(1), name, None, tally, &invocation).await;
    assert!(world.states().is_empty());
    world.settle(run(1), &salesperson("7"), Ending::Done).await;
    assert_eq!(world.states(), ["2026-11-21T01:00:00Z complete"]);
    assert_eq!(freshness::by_branch(&*world.table).await.unwrap(), BTreeMap::new());
}

#[tokio::test]
async fn a_branch_that_was_never_complete_is_as_old_as_the_first_run_without_it() {
    let world = World::new();
    let tally = Tally::default();
    freshness::complete(&*world.table, &id("9"), run(3)).await.unwrap();
    for hour in [1, 2] {
        world.begin(run(hour)).await;
        world
            .settle(run(hour), &Piece::Branch(id("2")), Ending::DeadLetter("404"))
            .await;
    }
    world.accounts.note_staleness(&tally).await;
    assert_eq!(tally.staleness().map(|age| age.as_secs()), Some(5), "of run 1");
    world.begin(run(3)).await;
    world.list(run(3)).await;
    for employee_id in ["7", "8"] {
        world.settle(run(3), &salesperson(employee_id), Ending::Done).await;
    }
    assert_eq!(freshness::oldest(&*world.table).await.unwrap(), Some(run(3)));
}

#[tokio::test]
async fn a_branch_that_is_no_longer_asked_for_does_not_make_the_rest_look_stale() {
    let world = World::new();
    freshness::complete(&*world.table, &id("9"), run(0)).await.unwrap();
    world.begin(run(1)).await;
    world.list(run(1)).await;
    for employee_id in ["7", "8"] {
        world.settle(run(1), &salesperson(employee_id), Ending::Done).await;
    }
    let fresh = freshness::by_branch(&*world.table).await.unwrap();
    assert_eq!(fresh.keys().collect::<Vec<_>>(), ["2"]);
}

#[tokio::test]
async fn only_so_many_runs_are_remembered() {
    let world = World::new();
    for minute in 0..250 {
        let run_id = RunId::scheduled_for(utc_datetime!(2026-11-21 01:00) + time::Duration::minutes(minute));
        world.accounts.begin(run_id, Kind::Call, &[], &Tally::default()).await;
    }
    let runs = register::Runs::read(&*world.table).await.unwrap();
    assert_eq!(runs.recent.len(), 200);
    assert_eq!(
        runs.at(utc_datetime!(2026-11-21 04:00:30)),
        Some(RunId::parse("2026-11-21T04:00:00Z").unwrap())
    );
    assert_eq!(runs.at(utc_datetime!(2026-11-21 01:00)), None);
}
