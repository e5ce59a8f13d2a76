//! One run by nine processes at once: whether they keep to the vendor's quota together, and how much of it they use.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use fastrand::Rng;
use serde::Serialize;
use time::UtcDateTime;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::fleet::{Binaries, Function, Told};
use super::ground::Ground;
use super::{BenchError, Sight};
use crate::cloud::Usage;
use crate::pipeline::Stage;
use crate::vendor::{AnsweredRequest, QUOTA_WINDOW, Stats, WorldOptions};

/// The branches, each asked for once by its name and once for its staff.
const BRANCHES: usize = 13;

/// The fewest requests that a run can take: nobody sells anything.
pub const LEAST_REQUESTS: usize = 2 * BRANCHES;

/// How many processes of each function there are.
const PROCESSES: [(Stage, usize); 3] = [(Stage::Branches, 1), (Stage::Salespersons, 5), (Stage::Sales, 3)];

/// Sales of each salesperson: what is measured is requests, not rows.
const SALES: usize = 5;

/// The poll window, as `POLL_WINDOW_SECONDS` has it where nothing else is said.
const POLL_WINDOW: Duration = Duration::from_secs(50);

/// Where processes are killed: how long it takes until a message that one of them had comes back. On AWS it is 900 s, for
/// which nobody wants to wait here.
pub const HIDDEN_FOR: Duration = Duration::from_secs(30);

/// The poll window then: shorter than [`HIDDEN_FOR`], because a message may wait all of it for its place in the quota.
pub const SHORT_POLL_WINDOW: Duration = Duration::from_secs(20);

/// How long it is from kill to kill, in milliseconds.
const BETWEEN_KILLS: std::ops::Range<u64> = 3_000..8_000;

/// How often it is looked whether all is done.
const GLANCE: Duration = Duration::from_millis(100);

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct QuotaOptions {
    /// How many requests one run is to take, from [`LEAST_REQUESTS`].
    pub requests: usize,
    /// How many of them the vendor allows in any 60 seconds.
    pub quota: NonZeroUsize,
    /// Whether processes are killed on the way.
    pub kill: bool,
    /// Whether the functions share a state table.
    pub has_state: bool,
    /// What the world, and the kills, are drawn from.
    pub seed: u64,
}

/// What it came to.
#[derive(Clone, Debug, Serialize)]
pub struct QuotaReport {
    /// Requests that one run takes.
    pub expected: usize,
    /// How many the vendor allows in any 60 seconds.
    pub quota: usize,
    /// Whether the functions shared a state table.
    pub has_state: bool,
    /// How long a message that was received and not deleted stayed hidden, in seconds; `None`: 900, as on AWS.
    pub hidden_seconds: Option<u64>,
    /// How long a poll took new messages, in seconds.
    pub poll_window_seconds: u64,
    /// Processes killed and started anew.
    pub kills: usize,
    /// Different requests that the vendor answered in full.
    pub answered: usize,
    /// Messages in the dead-letter queues.
    pub dead_letters: u64,
    /// Errors that invocations ended in, those of killed processes left out.
    pub errors: Vec<String>,
    /// By the vendor's ledger.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Time from the run's start until its last message was done, in seconds.
    pub wall_seconds: f64,
    /// Requests to SQS, by operation.
    pub sqs: BTreeMap<String, u64>,
    /// Requests to DynamoDB on the state table, by operation.
    pub state_table: BTreeMap<String, u64>,
}

impl QuotaReport {
    /// Whether everything was done without a request over the quota.
    pub fn is_good(&self) -> bool {
        self.verdict.over_quota == 0 && self.is_done()
    }

    /// Whether everything was done.
    pub fn is_done(&self) -> bool {
        self.answered == self.expected && self.dead_letters == 0 && self.errors.is_empty()
    }
}

/// What the vendor's ledger says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Requests that arrived.
    pub requests: usize,
    /// Those before whose arrival, in the 60 seconds that end with it, the quota had been used up already; by their times
    /// alone, whatever the vendor answered.
    pub over_quota: usize,
    /// Those answered 429.
    pub answered_429: usize,
    /// The most that arrived in any 60 seconds.
    pub busiest_minute: usize,
    /// Time from the first to the last, in seconds.
    pub seconds: f64,
    /// The least time that so many can take, those answered 429 left out, in seconds.
    pub least_seconds: f64,
    /// How many times as long it took; `None` if it takes no time at all.
    pub ratio: Option<f64>,
}

impl Verdict {
    /// The verdict on these requests, in the order in which they arrived.
    pub fn on(requests: &[AnsweredRequest], quota: NonZeroUsize) -> Self {
        let stats = Stats::of(requests);
        let times: Vec<_> = requests.iter().map(|request| request.at).collect();
        let took = match (times.first(), times.last()) {
            (Some(&first), Some(&last)) => last - first,
            _ => Duration::ZERO,
        };
        let least = least_time(stats.requests - stats.answered_429, quota);
        Self {
            requests: stats.requests,
            over_quota: over_quota(&times, quota),
            answered_429: stats.answered_429,
            busiest_minute: stats.busiest_minute_of_all,
            seconds: took.as_secs_f64(),
            least_seconds: least.as_secs_f64(),
            ratio: (!least.is_zero()).then(|| took.as_secs_f64() / least.as_secs_f64()),
        }
    }
}

/// The least time from the first to the last of so many requests: the quota at once, and again whenever the window is over.
pub fn least_time(requests: usize, quota: NonZeroUsize) -> Duration {
    let windows = requests.saturating_sub(1) / quota;
    QUOTA_WINDOW * u32::try_from(windows).unwrap_or(u32::MAX)
}

/// How many of these arrivals, in order, were the quota's next or a later one within the 60 seconds that end with them.
pub fn over_quota(times: &[Duration], quota: NonZeroUsize) -> usize {
    let is_over = |place: usize| {
        let earlier = place.checked_sub(quota.get());
        // A request counts until 60 seconds after its arrival, that instant excluded.
        earlier.is_some_and(|earlier| times[place] - times[earlier] < QUOTA_WINDOW)
    };
    (0..times.len()).filter(|&place| is_over(place)).count()
}

/// A world in which one run takes so many requests.
fn world(requests: usize, seed: u64) -> WorldOptions {
    let salespersons = requests.saturating_sub(LEAST_REQUESTS);
    WorldOptions {
        salespersons_per_branch: salespersons / BRANCHES,
        extra_salespersons: salespersons % BRANCHES,
        sales_per_salesperson: SALES,
        ..WorldOptions::new(seed, UtcDateTime::now())
    }
}

/// Runs it; `watch` is told how far it is.
///
/// # Errors
/// If something cannot be started, a function ends by itself, or it takes far longer than it should.
pub async fn measure(options: QuotaOptions, watch: impl FnMut(Sight)) -> Result<QuotaReport, BenchError> {
    let binaries = Binaries::beside_this_command()?;
    let expected = options.requests.max(LEAST_REQUESTS);
    let ground = Ground::start(world(expected, options.seed), Some(options.quota.get()), true).await?;
    let measured = run(&binaries, &ground, options, expected, watch).await;
    ground.shutdown(measured).await
}

async fn run(
    binaries: &Binaries,
    ground: &Ground,
    options: QuotaOptions,
    expected: usize,
    mut watch: impl FnMut(Sight),
) -> Result<QuotaReport, BenchError> {
    if options.kill {
        ground.hide_received_for(HIDDEN_FOR).await?;
    }
    let told = Told {
        requests_per_minute: options.quota.get(),
        instances: PROCESSES.iter().map(|(_, number)| number).sum(),
        has_state: options.has_state,
        lookback_hours: 0,
        poll_window: if options.kill { SHORT_POLL_WINDOW } else { POLL_WINDOW },
    };
    let before = ground.cloud.usage();
    let mut functions = Vec::new();
    for (stage, number) in PROCESSES {
        for number in 1..=number {
            let name = format!("{}-{number}", stage.name());
            functions.push((Function::start(binaries, ground, &told, stage, &name).await?, name));
        }
    }
    for (function, _) in &mut functions {
        function.ready().await?;
    }
    functions.iter().for_each(|(function, _)| function.open());

    let begun = Instant::now();
    let limit = least_time(expected, options.quota) * 3 + Duration::from_secs(if options.kill { 900 } else { 300 });
    let mut rng = Rng::with_seed(options.seed);
    let mut next_kill = begun + Duration::from_millis(rng.u64(BETWEEN_KILLS));
    let mut sight = Sight {
        expected,
        ..Sight::default()
    };
    let mut glances = interval(GLANCE);
    glances.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        glances.tick().await;
        for (function, _) in &mut functions {
            function.check()?;
        }
        let requests = ground.vendor.requests();
        sight.done = answered(&requests);
        sight.refused = requests.iter().filter(|request| request.status == 429).count();
        watch(sight);
        let is_collected = functions
            .iter()
            .all(|(function, _)| function.stage != Stage::Branches || function.said().ended > 0);
        let left = ground.messages_left().await?;
        if is_collected && left == 0 {
            break;
        }
        if begun.elapsed() > limit {
            return Err(BenchError::TimeOut {
                after: limit,
                left: format!("{} of {expected} requests answered, {left} messages left", sight.done),
                logs: ground.folder.logs(),
            });
        }
        if options.kill && Instant::now() >= next_kill {
            // The first is the branch collector, which is left alone.
            let victim = rng.usize(1..functions.len());
            let (killed, name) = functions.swap_remove(victim);
            let stage = killed.stage;
            drop(killed);
            let mut anew = Function::start(binaries, ground, &told, stage, &name).await?;
            anew.ready().await?;
            anew.open();
            functions.push((anew, name));
            sight.kills += 1;
            next_kill = Instant::now() + Duration::from_millis(rng.u64(BETWEEN_KILLS));
        }
    }
    let wall = begun.elapsed();
    let usage = ground.cloud.usage().since(&before);
    let dead_letters = ground.dead_letters().await?;
    let requests = ground.vendor.requests();
    Ok(QuotaReport {
        expected,
        quota: options.quota.get(),
        has_state: options.has_state,
        hidden_seconds: options.kill.then_some(HIDDEN_FOR.as_secs()),
        poll_window_seconds: told.poll_window.as_secs(),
        kills: sight.kills,
        answered: answered(&requests),
        dead_letters,
        errors: functions
            .iter()
            .flat_map(|(function, _)| function.said().errors)
            .collect(),
        verdict: Verdict::on(&requests, options.quota),
        wall_seconds: wall.as_secs_f64(),
        sqs: of_sqs(&usage),
        state_table: usage.requests_by_operation(|asked| asked.resource == ground.places.state_table),
    })
}

fn of_sqs(usage: &Usage) -> BTreeMap<String, u64> {
    usage.requests_by_operation(|asked| asked.service == "SQS")
}

/// How many different requests were answered in full.
fn answered(requests: &[AnsweredRequest]) -> usize {
    let answered = requests.iter().filter(|request| matches!(request.status, 200 | 304));
    answered
        .map(|request| &request.path_and_query)
        .collect::<BTreeSet<_>>()
        .len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendor::World;

    fn quota(quota: usize) -> NonZeroUsize {
        NonZeroUsize::new(quota).unwrap()
    }

    fn at(seconds: &[f64]) -> Vec<Duration> {
        seconds.iter().map(|&at| Duration::from_secs_f64(at)).collect()
    }

    #[test]
    fn the_least_time_is_one_window_for_each_quota_used_up_before_the_last_request() {
        for (requests, quota_of, seconds) in [
            (0, 50, 0),
            (1, 50, 0),
            (50, 50, 0),
            (51, 50, 60),
            (130, 50, 120),
            (3, 1, 120),
        ] {
            assert_eq!(
                least_time(requests, quota(quota_of)),
                Duration::from_secs(seconds),
                "{requests} of {quota_of}"
            );
        }
    }

    #[test]
    fn a_request_is_over_the_quota_until_the_window_of_the_one_that_used_it_up_is_over() {
        // two in any 60 seconds
        for (times, over) in [
            (&[][..], 0),
            (&[0.0, 0.0], 0),
            (&[0.0, 0.0, 59.9], 1),
            (&[0.0, 0.0, 60.0], 0),
            (&[0.0, 59.0, 60.0, 61.0], 1),
            // those over it count as well
            (&[0.0, 1.0, 2.0, 3.0, 61.5], 3),
        ] {
            assert_eq!(over_quota(&at(times), quota(2)), over, "{times:?}");
        }
    }

    #[test]
    fn a_verdict_goes_by_times_and_leaves_refused_requests_out_of_the_least_time() {
        let asked = |at: f64, status| AnsweredRequest {
            at: Duration::from_secs_f64(at),
            path_and_query: format!("/sales?employeeID={at}"),
            status,
            body_bytes: 0,
            fault: None,
            spoiled_record: None,
        };
        let requests = [asked(10.0, 200), asked(11.0, 429), asked(70.0, 200), asked(145.0, 200)];
        assert_eq!(
            Verdict::on(&requests, quota(1)),
            Verdict {
                requests: 4,
                over_quota: 2,
                answered_429: 1,
                busiest_minute: 2,
                seconds: 135.0,
                least_seconds: 120.0,
                ratio: Some(1.125),
            }
        );
        assert_eq!(Verdict::on(&[], quota(1)).ratio, None);
    }

    #[test]
    fn a_world_takes_exactly_the_requests_asked_for() {
        for requests in [LEAST_REQUESTS, 27, 130, 2_000] {
            let world = World::new(world(requests, 7)).unwrap();
            let salespersons = world.expected_salespersons().len();
            assert_eq!(2 * world.expected_branches().len() + salespersons, requests);
        }
    }
}
