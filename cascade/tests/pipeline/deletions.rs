//! Salespersons who leave, move and come back, and sales that are taken back: their rows are marked, and never erased.

use std::collections::BTreeSet;
use std::time::Duration;

use cascade::pipeline::{Pipeline, RunOutcome};
use cascade::vendor::{World, WorldOptions};
use shared::deletions::DeletionRules;
use shared::entity::Entity;
use time::Duration as Span;

use crate::harness::{House, START, Setup};
use crate::model::Tables;

const HOUR: Duration = Duration::from_secs(3_600);

async fn complete_run(house: &House, pipeline: &Pipeline) -> RunOutcome {
    let outcome = house.run_by(pipeline).await;
    assert!(outcome.is_complete(), "{outcome:#?}");
    outcome
}

/// The worlds of a setup, hour by hour.
fn hours(setup: &Setup) -> impl Iterator<Item = (u32, World)> {
    let mut options = WorldOptions::new(setup.seed, START);
    options.salespersons_per_branch = setup.salespersons;
    options.sales_per_salesperson = setup.sales;
    let mut world = World::new(options).expect("a world");
    (0..5_000).map(move |hour| {
        world.advance_to(START + Span::hours(hour.into()));
        (hour, world.clone())
    })
}

fn branch_of(world: &World, employee_id: &str) -> Option<String> {
    let mut people = world.expected_salespersons().into_iter();
    Some(people.find(|person| person.id == employee_id)?.branch_id)
}

#[tokio::test]
async fn whoever_left_or_moved_is_marked_and_his_sales_stay() {
    // given
    let setup = Setup {
        salespersons: 4,
        sales: 3,
        ..Setup::small(42)
    };
    let house = House::start(setup).await;
    let pipeline = house.pipeline_with_state(DeletionRules::default());
    let first = complete_run(&house, &pipeline).await;
    assert_eq!(first.total().deleted, 0);
    let mut model = Tables::after_first_load(&house.vendor.world());
    let mut deleted = 0;
    // when
    for hours in [4, 6, 8] {
        house.advance(HOUR * hours);
        let writes = house.writes();
        let outcome = complete_run(&house, &pipeline).await;
        let total = outcome.total();
        deleted += total.deleted;
        assert_eq!((total.held_back, total.rejected), (0, 0));
        assert_eq!(house.writes() - writes, total.inserted + total.updated + total.deleted);
        model.observe(&house.vendor.world(), Some(house.clock.now() - Span::hours(24)));
        model.mark_departed(&house.vendor.world());
        // then
        house.tables().await.assert_same(&model);
    }
    let changes = house.vendor.world().changes();
    assert!(changes.departures > 0 && changes.transfers > 0, "{changes:?}");
    assert!(
        deleted >= changes.departures + changes.transfers,
        "{deleted} of {changes:?}"
    );
    // and where the vendor stands still, nobody is marked again
    let writes = house.writes();
    complete_run(&house, &pipeline).await;
    assert_eq!(house.writes(), writes);
}

#[tokio::test]
async fn who_moves_and_moves_back_is_unmarked_and_all_sales_of_the_time_in_between_arrive() {
    // given somebody who works at one branch, then for days at another, and then at the first one again
    let setup = Setup::small(32);
    let mut stays: Vec<(String, Vec<(u32, String)>)> = Vec::new();
    let found = hours(&setup).find_map(|(hour, world)| {
        for person in world.expected_salespersons() {
            let place = stays.iter().position(|(id, _)| *id == person.id).unwrap_or_else(|| {
                stays.push((person.id.clone(), Vec::new()));
                stays.len() - 1
            });
            let (_, branches) = &mut stays[place];
            if branches.last().is_none_or(|(_, branch)| *branch != person.branch_id) {
                branches.push((hour, person.branch_id));
            }
            if let [.., (_, home), (left, _), (back, again)] = &branches[..]
                && home == again
                && *back == hour
                && back - left > 48
            {
                return Some((person.id, home.clone(), *left, *back));
            }
        }
        None
    });
    let (employee_id, home, left, back) = found.expect("somebody comes back: choose another seed");
    let house = House::start(setup).await;
    let rules = DeletionRules::default().with_max_percent(100);
    let is_marked = async |house: &House| {
        let key = (employee_id.clone(), home.clone());
        house.tables().await.salespersons[&key].contains_key("deleted_at")
    };
    house.advance(HOUR * (left - 1));
    complete_run(&house, &house.pipeline_with_state(rules)).await;
    assert!(!is_marked(&house).await);
    house.advance(HOUR);
    complete_run(&house, &house.pipeline_with_state(rules)).await;
    assert!(is_marked(&house).await);
    // when
    house.advance(HOUR * (back - left));
    complete_run(&house, &house.pipeline_with_state(rules)).await;
    // then
    let world = house.vendor.world().clone();
    assert_eq!(branch_of(&world, &employee_id).as_ref(), Some(&home));
    assert!(!is_marked(&house).await);
    let tables = house.tables().await;
    let sales: Vec<_> = world.expected_sales();
    let own: Vec<_> = sales.iter().filter(|sale| sale.employee_id == employee_id).collect();
    assert!(!own.is_empty());
    for sale in own {
        assert!(tables.sale_ids().contains(sale.id.as_str()), "{sale:?}");
    }
}

#[tokio::test]
async fn sales_that_were_taken_back_are_marked_where_the_setting_says_so() {
    // given
    let setup = Setup {
        salespersons: 2,
        sales: 60,
        ..Setup::small(33)
    };
    let house = House::start(setup).await;
    let pipeline = house.pipeline_with_state(DeletionRules::of(&Entity::ALL));
    complete_run(&house, &pipeline).await;
    // when
    let mut deleted = 0;
    for _ in 0..6 {
        house.advance(HOUR);
        deleted += complete_run(&house, &pipeline).await.stages["sales"].deleted;
    }
    // then, of the salespersons who are still there, exactly those rows are marked whose sales are no more
    let world = house.vendor.world().clone();
    assert!(world.changes().deleted_sales > 0);
    let there: BTreeSet<_> = world
        .expected_salespersons()
        .into_iter()
        .map(|person| person.id)
        .collect();
    let told: BTreeSet<_> = world.expected_sales().into_iter().map(|sale| sale.id).collect();
    let mut marked = 0;
    for ((sale_id, employee_id), row) in house.tables().await.sales {
        let is_marked = row.contains_key("deleted_at");
        marked += u64::from(is_marked);
        if there.contains(&employee_id) {
            assert_eq!(is_marked, !told.contains(&sale_id), "{sale_id} of {employee_id}");
        }
    }
    assert_eq!(marked, deleted);
    assert!(marked > 0);
}
