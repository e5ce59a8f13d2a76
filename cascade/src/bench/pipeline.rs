//! What the pipeline costs: a first load, a run in which nothing has changed, and one in which a hundredth has, each by new
//! processes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use shared::tally::Counts;
use time::UtcDateTime;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::fleet::{Binaries, Function, Told};
use super::ground::Ground;
use super::process::Readings;
use super::{BenchError, Sight};
use crate::cloud::{Asked, Usage, Used};
use crate::pipeline::Stage;
use crate::vendor::WorldOptions;

/// The branches of every world.
const BRANCHES: usize = 13;

/// About how many sales a salesperson has.
const SALES_EACH: usize = 100;

/// One in so many sales is changed for the third pass.
const CHANGED: usize = 100;

/// A quota that nobody has to wait for. The vendor has none.
const QUOTA: usize = 1_000_000;

/// All sales are looked at in every pass, however old they are.
const LOOKBACK_HOURS: u32 = 0;

const POLL_WINDOW: Duration = Duration::from_secs(50);

/// How often it is looked whether all is done: how exact the time is.
const GLANCE: Duration = Duration::from_millis(20);

/// How long nothing may happen at the vendor.
const PATIENCE: Duration = Duration::from_secs(300);

/// What was there to be collected, and what each pass came to.
#[derive(Clone, Debug, Serialize)]
pub struct SizeReport {
    /// Branches at the vendor.
    pub branches: usize,
    /// Salespersons at the vendor.
    pub salespersons: usize,
    /// Sales at the vendor.
    pub sales: usize,
    /// First load, nothing changed, one in a hundred sales changed.
    pub passes: Vec<Pass>,
}

/// What one pass came to.
#[derive(Clone, Debug, Serialize)]
pub struct Pass {
    /// What it was.
    pub name: &'static str,
    /// Sales that are other than they were at the pass before.
    pub changed_sales: usize,
    /// What the functions counted.
    pub counts: Counts,
    /// Whether every change, and nothing else, was written, and no message is left or dead.
    pub is_right: bool,
    /// Errors that invocations ended in.
    pub errors: Vec<String>,
    /// Requests to the vendor, and the bytes of its answers' bodies.
    pub vendor: VendorUse,
    /// Requests to SQS.
    pub sqs: ServiceUse,
    /// Requests to DynamoDB on the table of each entity.
    pub tables: BTreeMap<&'static str, ServiceUse>,
    /// Requests to DynamoDB on the state table.
    pub state: ServiceUse,
    /// From the branch collector's event until no message was left, in seconds.
    pub wall_seconds: f64,
    /// What each function's process used up, its start included; `null` where the system does not tell.
    pub functions: BTreeMap<&'static str, Option<Readings>>,
}

/// What was asked of the vendor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct VendorUse {
    /// Requests.
    pub requests: usize,
    /// Of them, those answered 304: nothing has changed.
    pub answered_304: usize,
    /// Bytes of the answers' bodies.
    pub bytes_out: usize,
}

/// What was asked of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ServiceUse {
    /// The sums.
    #[serde(flatten)]
    pub used: Used,
    /// Requests by operation.
    pub by_operation: BTreeMap<String, u64>,
}

impl ServiceUse {
    fn of(usage: &Usage, counts: impl Fn(&Asked) -> bool) -> Self {
        Self {
            used: usage.of(&counts),
            by_operation: usage.requests_by_operation(&counts),
        }
    }
}

impl Pass {
    /// What was asked of the three record tables together.
    pub fn records(&self) -> ServiceUse {
        let mut sum = ServiceUse::default();
        for table in self.tables.values() {
            sum.used += table.used;
            for (operation, requests) in &table.by_operation {
                *sum.by_operation.entry(operation.clone()).or_default() += requests;
            }
        }
        sum
    }

    /// Seconds of a processor that all processes used up; `None` if that is not known of all.
    pub fn cpu_seconds(&self) -> Option<f64> {
        let readings = self.functions.values().copied().collect::<Option<Vec<_>>>()?;
        Some(readings.iter().map(|readings| readings.cpu_seconds).sum())
    }
}

/// Sizes of a world of about so many sales: salespersons a branch, and sales a salesperson.
pub fn sizes(sales: usize) -> (usize, usize) {
    let nearest = |number: usize, of: usize| ((number + of / 2) / of).max(1);
    let salespersons = nearest(sales, BRANCHES * SALES_EACH);
    (salespersons, nearest(sales, BRANCHES * salespersons))
}

/// Measures the three passes over a world of about so many sales, at a vendor that knows its answers by name if it has
/// `etags`; `watch` is told which pass it is and how far.
///
/// # Errors
/// If something cannot be started, a function ends by itself, or nothing happens for minutes.
pub async fn measure(
    sales: usize,
    seed: u64,
    etags: bool,
    watch: impl FnMut(&'static str, Sight),
) -> Result<SizeReport, BenchError> {
    let binaries = Binaries::beside_this_command()?;
    let (salespersons_per_branch, sales_per_salesperson) = sizes(sales);
    let world = WorldOptions {
        salespersons_per_branch,
        sales_per_salesperson,
        ..WorldOptions::new(seed, UtcDateTime::now())
    };
    let ground = Ground::start(world, None, etags).await?;
    let salespersons = BRANCHES * salespersons_per_branch;
    let sizes = Sizes {
        salespersons,
        sales: salespersons * sales_per_salesperson,
    };
    let passes = three_passes(&binaries, &ground, sizes, watch).await;
    let passes = ground.shutdown(passes).await?;
    Ok(SizeReport {
        branches: BRANCHES,
        salespersons,
        sales: sizes.sales,
        passes,
    })
}

async fn three_passes(
    binaries: &Binaries,
    ground: &Ground,
    sizes: Sizes,
    mut watch: impl FnMut(&'static str, Sight),
) -> Result<Vec<Pass>, BenchError> {
    let sales = sizes.sales;
    let mut passes = Vec::new();
    for name in ["first load", "nothing changed", "1 % changed"] {
        let changed = match passes.len() {
            0 => sales,
            1 => 0,
            _ => ground.vendor.correct_sales((sales / CHANGED).max(1)),
        };
        let mut watch = |sight| watch(name, sight);
        passes.push(pass(binaries, ground, sizes, name, changed, &mut watch).await?);
    }
    Ok(passes)
}

#[derive(Clone, Copy)]
struct Sizes {
    salespersons: usize,
    sales: usize,
}

async fn pass(
    binaries: &Binaries,
    ground: &Ground,
    sizes: Sizes,
    name: &'static str,
    changed: usize,
    watch: &mut impl FnMut(Sight),
) -> Result<Pass, BenchError> {
    let told = Told {
        requests_per_minute: QUOTA,
        instances: Stage::ALL.len(),
        has_state: true,
        lookback_hours: LOOKBACK_HOURS,
        poll_window: POLL_WINDOW,
    };
    let before = ground.cloud.usage();
    let asked_before = ground.vendor.count();
    let mut functions = Vec::new();
    for stage in Stage::ALL {
        functions.push(Function::start(binaries, ground, &told, stage, stage.name()).await?);
    }
    for function in &mut functions {
        function.ready().await?;
    }
    let begun = Instant::now();
    functions.iter().for_each(Function::open);
    until_done(ground, &mut functions, asked_before, sizes, watch).await?;
    let wall = begun.elapsed();
    for function in &mut functions {
        function.close().await?;
    }
    let readings = functions
        .iter()
        .map(|function| (function.stage.name(), function.readings()))
        .collect();
    let usage = ground.cloud.usage().since(&before);
    let said: Vec<_> = functions.iter().map(Function::said).collect();
    drop(functions);

    let mut counts = Counts::default();
    said.iter().for_each(|said| counts += said.counts);
    let errors: Vec<_> = said.into_iter().flat_map(|said| said.errors).collect();
    let is_whole = errors.is_empty() && ground.dead_letters().await? == 0;
    let (branches, salespersons) = (BRANCHES as u64, sizes.salespersons as u64);
    let (inserted, updated) = match name {
        "first load" => (branches + salespersons + sizes.sales as u64, 0),
        _ => (0, changed as u64),
    };
    let places = &ground.places;
    let table = |name: &str| ServiceUse::of(&usage, |asked| asked.service == "DynamoDB" && asked.resource == name);
    let requests = ground.vendor.requests().split_off(asked_before);
    Ok(Pass {
        name,
        changed_sales: changed,
        counts,
        is_right: is_whole
            && (counts.inserted, counts.updated) == (inserted, updated)
            && (counts.deleted, counts.held_back) == (0, 0),
        errors,
        vendor: VendorUse {
            requests: requests.len(),
            answered_304: requests.iter().filter(|request| request.status == 304).count(),
            bytes_out: requests.iter().map(|request| request.body_bytes).sum(),
        },
        sqs: ServiceUse::of(&usage, |asked| asked.service == "SQS"),
        tables: [
            ("branch", &places.branch_table),
            ("salesperson", &places.salesperson_table),
            ("sale", &places.sale_table),
        ]
        .map(|(entity, name)| (entity, table(name)))
        .into(),
        state: table(&places.state_table),
        wall_seconds: wall.as_secs_f64(),
        functions: readings,
    })
}

/// Waits until the branch collector has ended and no message is left.
async fn until_done(
    ground: &Ground,
    functions: &mut [Function],
    asked_before: usize,
    sizes: Sizes,
    watch: &mut impl FnMut(Sight),
) -> Result<(), BenchError> {
    let mut glances = interval(GLANCE);
    glances.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sight = Sight {
        expected: 2 * BRANCHES + sizes.salespersons,
        ..Sight::default()
    };
    let mut last_change = Instant::now();
    loop {
        glances.tick().await;
        for function in &mut *functions {
            function.check()?;
        }
        let done = ground.vendor.count() - asked_before;
        if done != sight.done {
            last_change = Instant::now();
        }
        sight.done = done;
        watch(sight);
        let is_collected = functions
            .iter()
            .all(|function| function.stage != Stage::Branches || function.said().ended > 0);
        if !is_collected && last_change.elapsed() <= PATIENCE {
            continue;
        }
        let left = ground.messages_left().await?;
        if is_collected && left == 0 {
            return Ok(());
        }
        if last_change.elapsed() > PATIENCE {
            return Err(BenchError::TimeOut {
                after: PATIENCE,
                left: format!(
                    "{done} of {} requests were made, {left} messages are left",
                    sight.expected
                ),
                logs: ground.folder.logs(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_world_has_about_as_many_sales_as_asked_for() {
        for (asked, salespersons, sales) in [
            (1, 1, 1),
            (200, 1, 15),
            (1_000, 1, 77),
            (10_000, 8, 96),
            (100_000, 77, 100),
        ] {
            assert_eq!(sizes(asked), (salespersons, sales), "{asked}");
        }
    }

    #[test]
    fn the_processor_time_is_known_only_if_it_is_of_all() {
        let of = |seconds: f64| {
            Some(Readings {
                cpu_seconds: seconds,
                peak_rss_bytes: 0,
            })
        };
        let pass = |functions| Pass {
            name: "",
            changed_sales: 0,
            counts: Counts::default(),
            is_right: true,
            errors: Vec::new(),
            vendor: VendorUse::default(),
            sqs: ServiceUse::default(),
            tables: BTreeMap::new(),
            state: ServiceUse::default(),
            wall_seconds: 0.0,
            functions,
        };
        assert_eq!(pass([("a", of(1.5)), ("b", of(0.25))].into()).cpu_seconds(), Some(1.75));
        assert_eq!(pass([("a", of(1.5)), ("b", None)].into()).cpu_seconds(), None);
    }
}
