//! The truth at the vendor: branches, staff and sales, and how they change hour by hour.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use time::{Duration, UtcDateTime};

use super::catalogue::{BRANCHES, CHANNELS, CUSTOMERS, FIRST_NAMES, LAST_NAMES, NOTES, OTHER_OCCUPATIONS, PRODUCTS};
use super::records::{Branch, Employee, Occupation, Sale, StaffedBranch};

const MAX_PEOPLE: usize = 1_000_000;
const MAX_SALES: usize = 20_000_000;
const HISTORY_DAYS: u32 = 400;
const PERCENT_OF_SALES_ON_LAST_DAY: u32 = 6;

/// What a world is made from. Equal options make equal worlds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorldOptions {
    /// Where all randomness comes from.
    pub seed: u64,
    /// When the world begins; to the second, between the years 2000 and 9000.
    pub start: UtcDateTime,
    /// Salespersons at each of the 13 branches at the start.
    pub salespersons_per_branch: usize,
    /// So many more salespersons, one each at the first branches (in the contract's order): at most one a branch.
    pub extra_salespersons: usize,
    /// Sales of each salesperson at the start.
    pub sales_per_salesperson: usize,
    /// Gives one salesperson (see [`World::heavy_salesperson`]) this many sales at the start instead.
    pub heavy_salesperson: Option<usize>,
}

impl WorldOptions {
    /// The usual world, of 104 salespersons and 5,200 sales.
    pub fn new(seed: u64, start: UtcDateTime) -> Self {
        Self {
            seed,
            start,
            salespersons_per_branch: 8,
            extra_salespersons: 0,
            sales_per_salesperson: 50,
            heavy_salesperson: None,
        }
    }
}

/// Why a world cannot be made.
#[derive(Debug, Error)]
pub enum WorldError {
    /// Sizes beyond what the simulator is built for.
    #[error("a world of {people} people and {sales} sales is too large: at most {MAX_PEOPLE} and {MAX_SALES}")]
    TooLarge {
        /// People asked for, at all branches.
        people: usize,
        /// Sales asked for, of all salespersons.
        sales: usize,
    },
    /// A start that leaves no room for history or future.
    #[error("a world cannot start in the year {year}: expected 2000 to 9000")]
    Start {
        /// The year asked for.
        year: i32,
    },
}

/// What has happened since the start, by kind of event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changes {
    /// Whole hours gone by.
    pub hours: u64,
    /// Sales booked and published within the same hour.
    pub new_sales: u64,
    /// Sales published hours after they were booked, those of the next counter included.
    pub late_sales: u64,
    /// Late sales booked at the branch from which the salesperson had been transferred by the time of publication.
    pub late_after_transfer: u64,
    /// Sales of which something was corrected, those of the next two counters included.
    pub corrected_sales: u64,
    /// Corrections that added an attribute.
    pub attributes_added: u64,
    /// Corrections that took an attribute away.
    pub attributes_removed: u64,
    /// Sales taken back.
    pub deleted_sales: u64,
    /// New salespersons.
    pub hires: u64,
    /// Salespersons who moved to another branch.
    pub transfers: u64,
    /// Salespersons who left the company.
    pub departures: u64,
}

impl Changes {
    /// What happened after `earlier`, a count of the same world.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            hours: self.hours.saturating_sub(earlier.hours),
            new_sales: self.new_sales.saturating_sub(earlier.new_sales),
            late_sales: self.late_sales.saturating_sub(earlier.late_sales),
            late_after_transfer: self.late_after_transfer.saturating_sub(earlier.late_after_transfer),
            corrected_sales: self.corrected_sales.saturating_sub(earlier.corrected_sales),
            attributes_added: self.attributes_added.saturating_sub(earlier.attributes_added),
            attributes_removed: self.attributes_removed.saturating_sub(earlier.attributes_removed),
            deleted_sales: self.deleted_sales.saturating_sub(earlier.deleted_sales),
            hires: self.hires.saturating_sub(earlier.hires),
            transfers: self.transfers.saturating_sub(earlier.transfers),
            departures: self.departures.saturating_sub(earlier.departures),
        }
    }
}

/// A branch as a reader of the API should know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedBranch {
    /// The vendor's id, as a string.
    pub id: String,
    /// The name under which it is asked for.
    pub name: String,
    /// The record as JSON text.
    pub json: String,
}

/// A salesperson as a reader of the API should know him or her.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedSalesperson {
    /// The vendor's id, as a string.
    pub id: String,
    /// The branch he or she works at now.
    pub branch_id: String,
    /// The record as JSON text.
    pub json: String,
}

/// A sale as a reader of the API should know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedSale {
    /// The vendor's id, as a string.
    pub id: String,
    /// Whose sale it is.
    pub employee_id: String,
    /// Where the salesperson works now; the sale may have been booked, and first been seen, elsewhere.
    pub branch_id: String,
    /// The sale's `transaction_timestamp`.
    pub booked: UtcDateTime,
    /// The record as JSON text.
    pub json: String,
}

/// A transfer of the hour before, which owes one sale from the last day at the old branch.
#[derive(Clone, Debug)]
struct Transfer {
    employee: u64,
    from: usize,
    at: UtcDateTime,
}

/// The vendor's data: a pure function of its options and the hours gone by.
///
/// Whoever left the company is no longer listed at any branch, while `/sales` still answers for the id, as a vendor
/// keeps its books; the `expected_…` lists hold only what the cascade can reach, and only that still changes.
#[derive(Clone, Debug)]
pub struct World {
    options: WorldOptions,
    branches: Vec<Branch>,
    staff: BTreeMap<u64, Employee>,
    /// By salesperson, in the order of publication.
    sales: BTreeMap<u64, Vec<Sale>>,
    heavy: Option<u64>,
    recent_transfers: Vec<Transfer>,
    people_ever: u64,
    sales_ever: u64,
    changes: Changes,
}

impl World {
    /// The world as it is at its start.
    ///
    /// # Errors
    /// If the sizes or the start are beyond what the simulator is built for.
    pub fn new(options: WorldOptions) -> Result<Self, WorldError> {
        let people = options
            .salespersons_per_branch
            .saturating_add(OTHER_OCCUPATIONS.len())
            .saturating_mul(BRANCHES.len())
            .saturating_add(options.extra_salespersons.min(BRANCHES.len()));
        let sales = options
            .salespersons_per_branch
            .saturating_mul(BRANCHES.len())
            .saturating_add(options.extra_salespersons.min(BRANCHES.len()))
            .saturating_mul(options.sales_per_salesperson)
            .saturating_add(options.heavy_salesperson.unwrap_or(0));
        if people > MAX_PEOPLE || sales > MAX_SALES {
            return Err(WorldError::TooLarge { people, sales });
        }
        let year = options.start.year();
        if !(2000..=9000).contains(&year) {
            return Err(WorldError::Start { year });
        }
        let mut rng = hour_rng(options.seed, 0);
        let mut world = Self {
            options: WorldOptions {
                start: options.start.truncate_to_second(),
                ..options
            },
            branches: Vec::new(),
            staff: BTreeMap::new(),
            sales: BTreeMap::new(),
            heavy: None,
            recent_transfers: Vec::new(),
            people_ever: 0,
            sales_ever: 0,
            changes: Changes::default(),
        };
        for index in 0..BRANCHES.len() {
            world.open_branch(index, &mut rng);
        }
        Ok(world)
    }

    /// The options it was made from.
    pub fn options(&self) -> &WorldOptions {
        &self.options
    }

    /// Lets every whole hour up to `now` happen. An earlier time than the world's changes nothing.
    pub fn advance_to(&mut self, now: UtcDateTime) {
        let hours = u64::try_from((now - self.options.start).whole_hours()).unwrap_or(0);
        while self.changes.hours < hours {
            self.live_one_hour();
        }
    }

    /// What has happened since the start.
    pub fn changes(&self) -> Changes {
        self.changes
    }

    /// The id of the salesperson with the number of sales asked for in [`WorldOptions::heavy_salesperson`].
    pub fn heavy_salesperson(&self) -> Option<String> {
        self.heavy.map(|id| id.to_string())
    }

    /// Every branch as it is now, in the contract's order.
    pub fn expected_branches(&self) -> Vec<ExpectedBranch> {
        self.branches
            .iter()
            .map(|branch| ExpectedBranch {
                id: branch.id.to_string(),
                name: branch.name().to_owned(),
                json: self.staffed(branch).to_string(),
            })
            .collect()
    }

    /// Every salesperson who works for the company now, by id.
    pub fn expected_salespersons(&self) -> Vec<ExpectedSalesperson> {
        self.salespersons()
            .map(|person| ExpectedSalesperson {
                id: person.id.to_string(),
                branch_id: self.branches[person.branch].id.to_string(),
                json: person.to_string(),
            })
            .collect()
    }

    /// Every sale of the salespersons who work for the company now, by salesperson, in the order of publication.
    pub fn expected_sales(&self) -> Vec<ExpectedSale> {
        self.salespersons()
            .flat_map(|person| {
                self.sales[&person.id].iter().map(|sale| ExpectedSale {
                    id: sale.id_text(),
                    employee_id: person.id.to_string(),
                    branch_id: self.branches[person.branch].id.to_string(),
                    booked: sale.booked,
                    json: sale.to_string(),
                })
            })
            .collect()
    }

    /// Adds a cent to the amounts of `count` sales, the same ones each time: every nth of
    /// [`expected_sales`](Self::expected_sales), so that they are spread evenly over the salespersons. Answers how many
    /// there were.
    pub fn correct_evenly(&mut self, count: usize) -> usize {
        let all = self.sales_booked_from(UtcDateTime::MIN);
        let count = count.min(all.len());
        for nth in 0..count {
            let (employee, index) = all[nth * all.len() / count];
            if let Some(sale) = self.sales.get_mut(&employee).and_then(|sales| sales.get_mut(index)) {
                sale.amount_cents += 1;
            }
        }
        self.changes.corrected_sales += count as u64;
        count
    }

    pub(super) fn branch_named(&self, name: &str) -> Option<StaffedBranch<'_>> {
        let branch = self.branches.iter().find(|branch| branch.name() == name)?;
        Some(self.staffed(branch))
    }

    /// Everyone at the branch with this id; `None` if there is no such branch.
    pub(super) fn staff_of(&self, branch_id: u64) -> Option<Vec<&Employee>> {
        let index = self.branches.iter().position(|branch| branch.id == branch_id)?;
        Some(self.staff.values().filter(|person| person.branch == index).collect())
    }

    /// All sales of the employee with this id; `None` if nobody ever had it.
    pub(super) fn sales_of(&self, employee_id: u64) -> Option<&[Sale]> {
        self.sales.get(&employee_id).map(Vec::as_slice)
    }

    fn staffed<'a>(&self, branch: &'a Branch) -> StaffedBranch<'a> {
        StaffedBranch {
            branch,
            employees: self
                .staff
                .values()
                .filter(|person| person.branch == branch.index)
                .count(),
        }
    }

    fn salespersons(&self) -> impl Iterator<Item = &Employee> {
        self.staff.values().filter(|person| person.is_salesperson())
    }

    fn open_branch(&mut self, index: usize, rng: &mut Rng) {
        let start = self.options.start;
        for occupation in 0..OTHER_OCCUPATIONS.len() {
            self.employ(index, Occupation::Other(occupation), start - long_ago(rng), rng);
        }
        // The first of the other occupations leads the branch.
        let manager = self
            .staff
            .values()
            .filter(|person| person.branch == index)
            .map(|person| person.id)
            .min();
        self.branches.push(Branch {
            id: scattered(index as u64, self.options.seed, 100, 900, 557),
            index,
            opened: start - Duration::days(rng.i64(4_000..15_000)),
            manager: manager.unwrap_or_default(),
            floor_space_hundredths: rng.u64(80_000..400_000),
            rent_cents: rng.u64(300_000..2_500_000),
            loading_docks: rng.u8(0..4),
            open_on_saturdays: rng.bool(),
            lifetime_revenue: (rng.u64(10_000_000_000..9_000_000_000_000), rng.u32(0..1_000_000_000)),
        });
        let salespersons = self.options.salespersons_per_branch + usize::from(index < self.options.extra_salespersons);
        for place in 0..salespersons {
            let person = self.employ(index, Occupation::Salesperson, start - long_ago(rng), rng);
            let mut sales = self.options.sales_per_salesperson;
            if let Some(many) = self.options.heavy_salesperson.filter(|_| index == 0 && place == 0) {
                self.heavy = Some(person);
                sales = many;
            }
            for _ in 0..sales {
                let seconds_ago = if rng.u32(0..100) < PERCENT_OF_SALES_ON_LAST_DAY {
                    rng.u32(1..86_400)
                } else {
                    rng.u32(86_400..HISTORY_DAYS * 86_400)
                };
                self.sell(person, start - Duration::seconds(seconds_ago.into()), None, rng);
            }
        }
    }

    fn employ(&mut self, branch: usize, occupation: Occupation, hired: UtcDateTime, rng: &mut Rng) -> u64 {
        let id = scattered(self.people_ever, self.options.seed, 1_000_000, 9_000_000, 5_562_301);
        self.people_ever += 1;
        self.sales.insert(id, Vec::new());
        self.staff.insert(
            id,
            Employee {
                id,
                branch,
                occupation,
                first_name: rng.usize(0..FIRST_NAMES.len()),
                last_name: rng.usize(0..LAST_NAMES.len()),
                hired,
                hired_at: branch,
                transferred: None,
                commission_basis_points: rng.u16(50..500),
                speaks_spanish: rng.u8(0..4) == 0,
            },
        );
        id
    }

    fn sell(&mut self, employee: u64, booked: UtcDateTime, branch_id: Option<u64>, rng: &mut Rng) {
        let number = self.sales_ever;
        self.sales_ever += 1;
        let product = rng.usize(0..PRODUCTS.len());
        let quantity = rng.u32(1..120);
        let discount_percent = (rng.u8(0..4) == 0).then(|| rng.u8(1..20));
        let list_cents = u64::from(PRODUCTS[product].1) * u64::from(quantity);
        self.sales.entry(employee).or_default().push(Sale {
            id: scattered(number, self.options.seed, 100_000_000, 900_000_000, 618_033_989),
            textual_id: rng.u8(0..10) == 0,
            booked,
            product,
            customer: rng.usize(0..CUSTOMERS.len()),
            quantity,
            amount_cents: list_cents * u64::from(100 - discount_percent.unwrap_or(0)) / 100,
            discount_percent,
            channel: rng.usize(0..CHANNELS.len()),
            note: (rng.u8(0..4) == 0).then(|| rng.usize(0..NOTES.len())),
            branch_id,
        });
    }

    fn live_one_hour(&mut self) {
        self.changes.hours += 1;
        let mut rng = hour_rng(self.options.seed, self.changes.hours);
        let end = self.options.start + Duration::hours(i64::try_from(self.changes.hours).unwrap_or(i64::MAX));
        // Shares of the size at the start, so that a long life makes the world grow steadily and not exponentially;
        // the floors keep even the smallest world alive.
        let people = (self.options.salespersons_per_branch * BRANCHES.len()) as f64;
        let sales = people * self.options.sales_per_salesperson as f64;
        self.correct(some(&mut rng, (sales * 0.005).max(0.5)), end, &mut rng);
        self.take_back(some(&mut rng, (sales * 0.0005).max(0.1)), end, &mut rng);
        self.publish_after_transfers(&mut rng);
        self.publish_new(some(&mut rng, (sales * 0.005).max(0.5)), end, &mut rng);
        self.publish_late(some(&mut rng, (sales * 0.001).max(0.25)), end, &mut rng);
        self.transfer(some(&mut rng, (people * 0.005).max(0.1)), end, &mut rng);
        self.dismiss(some(&mut rng, (people * 0.003).max(0.05)), &mut rng);
        for _ in 0..some(&mut rng, (people * 0.004).max(0.1)) {
            let branch = rng.usize(0..BRANCHES.len());
            self.employ(branch, Occupation::Salesperson, end, &mut rng);
            self.changes.hires += 1;
        }
    }

    /// Corrects up to `count` sales, each at most once, four in five of them from the last 24 hours.
    fn correct(&mut self, count: usize, end: UtcDateTime, rng: &mut Rng) {
        let mut corrected = BTreeSet::new();
        let recent = self.sales_booked_from(end - Duration::hours(24));
        let all = self.sales_booked_from(UtcDateTime::MIN);
        for _ in 0..count {
            let pool = if rng.u8(0..5) < 4 && !recent.is_empty() {
                &recent
            } else {
                &all
            };
            let Some(&(employee, index)) = rng.choice(pool) else {
                return;
            };
            if !corrected.insert((employee, index)) {
                continue;
            }
            let Some(sale) = self.sales.get_mut(&employee).and_then(|sales| sales.get_mut(index)) else {
                continue;
            };
            self.changes.corrected_sales += 1;
            if rng.u8(0..3) < 2 {
                sale.amount_cents += rng.u64(1..5_000);
            } else if sale.note.take().is_some() {
                self.changes.attributes_removed += 1;
            } else {
                sale.note = Some(rng.usize(0..NOTES.len()));
                self.changes.attributes_added += 1;
            }
        }
    }

    /// Deletes up to `count` sales, half of them from the last 24 hours.
    fn take_back(&mut self, count: usize, end: UtcDateTime, rng: &mut Rng) {
        for _ in 0..count {
            let from = if rng.bool() {
                end - Duration::hours(24)
            } else {
                UtcDateTime::MIN
            };
            let pool = self.sales_booked_from(from);
            let Some(&(employee, index)) = rng.choice(&pool) else {
                continue;
            };
            if let Some(sales) = self.sales.get_mut(&employee) {
                sales.remove(index);
                self.changes.deleted_sales += 1;
            }
        }
    }

    fn publish_new(&mut self, count: usize, end: UtcDateTime, rng: &mut Rng) {
        let people: Vec<u64> = self.salespersons().map(|person| person.id).collect();
        for _ in 0..count {
            let Some(&person) = rng.choice(&people) else { return };
            self.sell(person, end - Duration::seconds(rng.i64(1..3_600)), None, rng);
            self.changes.new_sales += 1;
        }
    }

    fn publish_late(&mut self, count: usize, end: UtcDateTime, rng: &mut Rng) {
        let people: Vec<u64> = self.salespersons().map(|person| person.id).collect();
        for _ in 0..count {
            let Some(&person) = rng.choice(&people) else { return };
            self.sell(
                person,
                end - Duration::seconds(rng.i64(2 * 3_600..22 * 3_600)),
                None,
                rng,
            );
            self.changes.late_sales += 1;
        }
    }

    /// For each transfer of the hour before, one sale of the last day at the old branch. Half of them name that branch.
    fn publish_after_transfers(&mut self, rng: &mut Rng) {
        for transfer in std::mem::take(&mut self.recent_transfers) {
            let branch_id = rng.bool().then(|| self.branches[transfer.from].id);
            let booked = transfer.at - Duration::seconds(rng.i64(3_600..8 * 3_600));
            if self.staff.contains_key(&transfer.employee) {
                self.sell(transfer.employee, booked, branch_id, rng);
                self.changes.late_sales += 1;
                self.changes.late_after_transfer += 1;
            }
        }
    }

    fn transfer(&mut self, count: usize, end: UtcDateTime, rng: &mut Rng) {
        let people: Vec<u64> = self.salespersons().map(|person| person.id).collect();
        for employee in rng.choose_multiple(people, count) {
            let Some(person) = self.staff.get_mut(&employee) else {
                continue;
            };
            let from = person.branch;
            person.branch = (from + rng.usize(1..BRANCHES.len())) % BRANCHES.len();
            person.transferred = Some(end);
            self.recent_transfers.push(Transfer {
                employee,
                from,
                at: end,
            });
            self.changes.transfers += 1;
        }
    }

    /// Lets up to `count` salespersons go, but nobody's last colleague.
    fn dismiss(&mut self, count: usize, rng: &mut Rng) {
        let people: Vec<(u64, usize)> = self.salespersons().map(|person| (person.id, person.branch)).collect();
        for (employee, branch) in rng.choose_multiple(people, count) {
            if self.salespersons().filter(|person| person.branch == branch).count() > 1 {
                self.staff.remove(&employee);
                self.changes.departures += 1;
            }
        }
    }

    /// Salesperson and place in the list, of every sale the cascade can reach that was booked at `from` or later.
    fn sales_booked_from(&self, from: UtcDateTime) -> Vec<(u64, usize)> {
        self.salespersons()
            .flat_map(|person| {
                let sales = self.sales[&person.id].iter().enumerate();
                sales
                    .filter(move |(_, sale)| sale.booked >= from)
                    .map(|(index, _)| (person.id, index))
            })
            .collect()
    }
}

/// The randomness of one hour, whatever came before it.
fn hour_rng(seed: u64, hour: u64) -> Rng {
    let mut hours = Rng::with_seed(hour);
    Rng::with_seed(seed ^ hours.u64(..))
}

/// `expected` as a whole number, rounded up as often as its fraction says.
fn some(rng: &mut Rng, expected: f64) -> usize {
    expected as usize + usize::from(rng.f64() < expected.fract())
}

fn long_ago(rng: &mut Rng) -> Duration {
    Duration::days(rng.i64(400..7_000))
}

/// The id of the `number`th record of its kind: distinct for the first `count` numbers, in no visible order.
/// `stride` has no divisor in common with `count`.
fn scattered(number: u64, seed: u64, first: u64, count: u64, stride: u64) -> u64 {
    first + (seed % count + number % count * stride) % count
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;
    use std::collections::HashMap;
    use time::macros::utc_datetime;

    const START: UtcDateTime = utc_datetime!(2026-11-21 01:00);

    fn world(seed: u64) -> World {
        World::new(WorldOptions::new(seed, START)).unwrap()
    }

    fn everything(
        world: &World,
    ) -> (
        Vec<ExpectedBranch>,
        Vec<ExpectedSalesperson>,
        Vec<ExpectedSale>,
        Changes,
    ) {
        (
            world.expected_branches(),
            world.expected_salespersons(),
            world.expected_sales(),
            world.changes(),
        )
    }

    #[test]
    fn a_world_starts_with_exactly_the_sizes_asked_for() {
        // given / when
        let world = world(7);
        // then
        let branches = world.expected_branches();
        assert_eq!(branches.len(), 13);
        assert_eq!(
            (branches[0].name.as_str(), branches[12].name.as_str()),
            ("Scranton", "New York")
        );
        let people = world.expected_salespersons();
        assert_eq!(people.len(), 13 * 8);
        for branch in &branches {
            assert_eq!(people.iter().filter(|person| person.branch_id == branch.id).count(), 8);
        }
        let mut sales_of: HashMap<String, usize> = HashMap::new();
        for sale in world.expected_sales() {
            *sales_of.entry(sale.employee_id).or_default() += 1;
        }
        assert_eq!(sales_of.len(), 13 * 8);
        assert!(sales_of.values().all(|&sales| sales == 50));
    }

    #[test]
    fn extra_salespersons_work_at_the_first_branches() {
        // given / when
        let options = WorldOptions {
            salespersons_per_branch: 1,
            extra_salespersons: 2,
            ..WorldOptions::new(7, START)
        };
        let world = World::new(options).unwrap();
        // then
        let people = world.expected_salespersons();
        let at = |branch: &ExpectedBranch| people.iter().filter(|person| person.branch_id == branch.id).count();
        let numbers: Vec<_> = world.expected_branches().iter().map(at).collect();
        assert_eq!(numbers, [2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]);
    }

    #[test]
    fn sales_corrected_on_demand_are_as_many_as_asked_for_and_spread_evenly() {
        // given
        let mut world = world(7);
        let before = world.expected_sales();
        // when
        let corrected = world.correct_evenly(52);
        // then
        assert_eq!((corrected, world.changes().corrected_sales), (52, 52));
        let places = before
            .iter()
            .zip(world.expected_sales())
            .enumerate()
            .filter(|(_, (before, after))| before.json != after.json)
            .map(|(place, _)| place);
        assert_eq!(
            places.collect::<Vec<_>>(),
            (0..52).map(|nth| nth * 100).collect::<Vec<_>>()
        );
        assert_eq!(world.correct_evenly(1_000_000), 5_200);
    }

    #[test]
    fn ids_are_distinct_and_not_consecutive() {
        let mut world = world(3);
        world.advance_to(START + Duration::hours(100));
        let sales = world.expected_sales();
        let ids: BTreeSet<_> = sales.iter().map(|sale| &sale.id).collect();
        assert_eq!(ids.len(), sales.len());
        let numbers: Vec<u64> = sales.iter().filter_map(|sale| sale.id.parse().ok()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0].abs_diff(pair[1]) > 1));
        assert!(numbers.len() < sales.len(), "some ids are text");
        assert!(numbers.len() > sales.len() * 8 / 10, "most ids are numbers");
        let people: BTreeSet<_> = world
            .expected_salespersons()
            .into_iter()
            .map(|person| person.id)
            .collect();
        assert_eq!(people.len(), world.expected_salespersons().len());
        let branches: BTreeSet<_> = world.expected_branches().into_iter().map(|branch| branch.id).collect();
        assert_eq!(branches.len(), 13);
    }

    #[test]
    fn every_record_is_json_with_literal_decimals_and_of_the_size_promised() {
        let mut world = world(5);
        world.advance_to(START + Duration::hours(30));
        let sales = world.expected_sales();
        for sale in &sales {
            let fields: HashMap<String, Box<RawValue>> = serde_json::from_str(&sale.json).unwrap();
            let id = fields["id"].get().trim_matches('"');
            assert_eq!(id, sale.id);
            let amount = fields["amount"].get();
            assert_eq!(
                amount.split_once('.').map(|(_, cents)| cents.len()),
                Some(2),
                "{amount}"
            );
        }
        let mean = sales.iter().map(|sale| sale.json.len()).sum::<usize>() / sales.len();
        assert!((200..=250).contains(&mean), "{mean} bytes a sale");
        assert!(
            sales.iter().any(|sale| sale.json.contains("0,\"discount\"")),
            "some amounts end in a zero"
        );
        for text in world.expected_branches().into_iter().map(|branch| branch.json) {
            serde_json::from_str::<HashMap<String, Box<RawValue>>>(&text).unwrap();
        }
        for text in world.expected_salespersons().into_iter().map(|person| person.json) {
            serde_json::from_str::<HashMap<String, Box<RawValue>>>(&text).unwrap();
        }
    }

    #[test]
    fn the_state_depends_on_seed_and_hours_and_not_on_how_one_got_there() {
        // given
        let (mut in_one_leap, mut in_steps) = (world(11), world(11));
        // when
        in_one_leap.advance_to(START + Duration::hours(72));
        for minutes in (0..=72 * 60).step_by(25) {
            in_steps.advance_to(START + Duration::minutes(minutes));
        }
        in_steps.advance_to(START + Duration::hours(72));
        // then
        assert_eq!(everything(&in_one_leap), everything(&in_steps));
        // and another seed tells another story
        let mut other = world(12);
        other.advance_to(START + Duration::hours(72));
        assert_ne!(everything(&in_one_leap), everything(&other));
    }

    #[test]
    fn time_going_backwards_or_less_than_an_hour_changes_nothing() {
        let mut world = world(1);
        let before = everything(&world);
        world.advance_to(START - Duration::days(9));
        world.advance_to(START + Duration::minutes(59));
        assert_eq!(everything(&world), before);
    }

    #[test]
    fn hours_bring_changes_of_every_kind_but_touch_few_sales() {
        // given
        let mut world = world(2);
        let before: HashMap<_, _> = world
            .expected_sales()
            .into_iter()
            .map(|sale| (sale.id, sale.json))
            .collect();
        // when
        world.advance_to(START + Duration::hours(1));
        let after: HashMap<_, _> = world
            .expected_sales()
            .into_iter()
            .map(|sale| (sale.id, sale.json))
            .collect();
        let first_hour = world.changes();
        world.advance_to(START + Duration::hours(12));
        // then
        let touched = after.iter().filter(|(id, json)| before.get(*id) != Some(*json)).count();
        assert!((20..260).contains(&touched), "{touched} of 5,200");
        let told = first_hour.new_sales + first_hour.late_sales + first_hour.corrected_sales;
        assert!(touched as u64 <= told, "{touched} touched, but {told} told");
        let all = world.changes().since(Changes::default());
        for (kind, count) in [
            ("new", all.new_sales),
            ("late", all.late_sales),
            ("late after a transfer", all.late_after_transfer),
            ("corrected", all.corrected_sales),
            ("attribute added", all.attributes_added),
            ("attribute removed", all.attributes_removed),
            ("deleted", all.deleted_sales),
            ("hires", all.hires),
            ("transfers", all.transfers),
            ("departures", all.departures),
        ] {
            assert!(count > 0, "nothing {kind} in 12 hours: {all:?}");
        }
    }

    #[test]
    fn a_transferred_salesperson_keeps_id_and_sales_and_is_at_one_branch_only() {
        // given
        let mut world = world(2);
        let before: HashMap<_, _> = world
            .expected_salespersons()
            .into_iter()
            .map(|person| (person.id, person.branch_id))
            .collect();
        // when
        world.advance_to(START + Duration::hours(12));
        // then
        let after = world.expected_salespersons();
        let moved: Vec<_> = after
            .iter()
            .filter(|person| before.get(&person.id).is_some_and(|branch| *branch != person.branch_id))
            .collect();
        assert!(!moved.is_empty());
        for person in moved {
            let id = person.id.parse().unwrap();
            assert!(!world.sales_of(id).unwrap().is_empty());
            let listed = world.branches.iter().filter(|branch| {
                world
                    .staff_of(branch.id)
                    .unwrap()
                    .iter()
                    .any(|employee| employee.id == id)
            });
            let listed: Vec<String> = listed.map(|branch| branch.id.to_string()).collect();
            assert_eq!(listed.join(" and "), person.branch_id);
        }
    }

    #[test]
    fn a_sale_of_the_last_day_at_the_old_branch_is_published_after_the_move() {
        let mut world = world(2);
        let mut named = 0;
        for hour in 1..200 {
            let transfers = world.recent_transfers.clone();
            let before: BTreeSet<_> = world.sales.values().flatten().map(|sale| sale.id).collect();
            world.advance_to(START + Duration::hours(hour));
            for transfer in transfers
                .iter()
                .filter(|transfer| world.staff.contains_key(&transfer.employee))
            {
                let late = world.sales[&transfer.employee]
                    .iter()
                    .find(|sale| !before.contains(&sale.id) && sale.booked < transfer.at);
                let sale = late.expect("a sale booked before the move");
                assert!(transfer.at - sale.booked <= Duration::hours(24));
                named += u64::from(sale.branch_id == Some(world.branches[transfer.from].id));
            }
        }
        assert!(
            named > 0 && named < world.changes().late_after_transfer,
            "{named} of {:?}",
            world.changes()
        );
    }

    #[test]
    fn one_salesperson_can_be_given_any_number_of_sales() {
        let mut options = WorldOptions::new(1, START);
        options.heavy_salesperson = Some(1_234);
        let world = World::new(options).unwrap();
        let heavy = world.heavy_salesperson().unwrap();
        let sales = world.expected_sales();
        assert_eq!(sales.iter().filter(|sale| sale.employee_id == heavy).count(), 1_234);
        assert_eq!(sales.len(), 103 * 50 + 1_234);
    }

    #[test]
    fn an_empty_or_tiny_world_lives_on() {
        for (salespersons, sales) in [(0, 0), (1, 0), (1, 1)] {
            let mut options = WorldOptions::new(9, START);
            options.salespersons_per_branch = salespersons;
            options.sales_per_salesperson = sales;
            let mut world = World::new(options).unwrap();
            world.advance_to(START + Duration::hours(48));
            assert!(
                world.changes().hires > 0 && world.changes().new_sales > 0,
                "{:?}",
                world.changes()
            );
        }
    }

    #[test]
    fn sizes_and_starts_beyond_reason_are_refused() {
        let mut options = WorldOptions::new(9, START);
        options.salespersons_per_branch = usize::MAX;
        assert!(matches!(World::new(options), Err(WorldError::TooLarge { .. })));
        let options = WorldOptions::new(9, utc_datetime!(1969-01-01 00:00));
        assert!(matches!(World::new(options), Err(WorldError::Start { year: 1969 })));
    }
}
