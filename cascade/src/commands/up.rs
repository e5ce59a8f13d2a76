//! `cascade up`: the cloud, the vendor, the schedule and the page, until Ctrl-C.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use shared::error_chain;
use shared::run::RunId;
use shared::tally::Counts;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::CommandError;
use super::dashboard;
use super::output::say;
use super::run::interrupted;
use super::session::{ENVIRONMENT, LOOPBACK, Listen, Session, SessionArgs, parse_count};
use crate::dashboard::{Cadence, Dashboard, ObserverOptions, Site};
use crate::pipeline::{Stage, View};
use crate::state::next_hour;
use crate::status::Where;

/// Keep the cloud, the vendor, the schedule and the page of `cascade dashboard` running on fixed ports, until Ctrl-C
#[derive(Debug, Args)]
pub struct UpArgs {
    #[command(flatten)]
    session: SessionArgs,
    /// How many times faster than the clock on the wall the hours and minutes of the schedule pass
    #[arg(long, value_name = "N", default_value = "1", conflicts_with = "vendor", value_parser = parse_count)]
    speed: NonZeroU32,
    /// The address that cloud, vendor and page listen on; whoever reaches it is let in, to the page with the token that its
    /// address then holds. Containers on Linux reach Docker's bridge, which usually is 172.17.0.1
    #[arg(long, value_name = "ADDRESS", default_value_t = LOOPBACK)]
    bind: IpAddr,
    /// The cloud's port
    #[arg(long, value_name = "N", default_value_t = 8700)]
    port: u16,
    /// The simulated vendor's port
    #[arg(long, value_name = "N", default_value_t = 8701)]
    vendor_port: u16,
    /// The port of the page that shows all of it live; 0: any that is free
    #[arg(long, value_name = "N", default_value_t = dashboard::PORT)]
    dashboard_port: u16,
    /// Serve no page
    #[arg(long, conflicts_with = "dashboard_port")]
    no_dashboard: bool,
    /// Offer the cloud and the vendor without running the collectors
    #[arg(long)]
    no_schedule: bool,
}

/// The schedule of the two collectors that poll.
const MINUTE: Duration = Duration::from_secs(60);

/// How often a hurried clock is moved on.
const TICK: Duration = Duration::from_millis(250);

/// How often the streams are looked at for the lake.
const FEED: Duration = Duration::from_secs(1);

/// How often the lake's small files are put together.
const COMPACTION: Duration = Duration::from_secs(60 * 60);

/// Runs until Ctrl-C.
///
/// # Errors
/// If the cloud, the vendor, the page's port or the state cannot be used.
pub async fn up(args: UpArgs) -> Result<(), CommandError> {
    let listen = Listen {
        address: args.bind,
        cloud: args.port,
        vendor: args.vendor_port,
    };
    let mut session = Session::start(&args.session, false, listen).await?;
    let endpoint = session.cloud.endpoint();
    say(format_args!(
        "The cloud is at {endpoint}, the vendor at {}, {} requests a minute.",
        session.vendor_url, session.quota
    ))?;
    say(format_args!("To look in with the AWS CLI:\n"))?;
    say(format_args!(
        "  export AWS_ACCESS_KEY_ID=cascade AWS_SECRET_ACCESS_KEY=cascade AWS_REGION=us-east-1"
    ))?;
    say(format_args!(
        "  aws --endpoint-url {endpoint} dynamodb scan --table-name {} --max-items 3\n",
        session.places.branch_table
    ))?;
    let page = match serve_page(&args, &session).await {
        Ok(page) => page,
        Err(failure) => {
            session.shutdown().await?;
            return Err(failure);
        }
    };
    say(format_args!(
        "`cascade status` counts rows and messages, {} has the log. Ctrl-C ends all.\n",
        session.log.display()
    ))?;

    let stop = session.stop.clone();
    session.forget_streams().await?;
    if args.no_schedule {
        tokio::select! {
            () = interrupted() => {}
            ended = lake(&session) => return ended,
        }
    } else {
        let view = View::default();
        let running = async {
            tokio::try_join!(
                hourly(&session, &view),
                every_minute(&session, &view, Stage::Salespersons, args.speed),
                every_minute(&session, &view, Stage::Sales, args.speed),
                hurry(&session, args.speed),
                lake(&session),
            )
            .map(drop)
        };
        tokio::pin!(running);
        tokio::select! {
            () = interrupted() => {}
            ended = &mut running => return ended,
        }
        eprintln!("Ending: messages that are not begun go back to their queues.");
        stop.cancel();
        running.await?;
    }
    session.feed.carry().await?;
    session.state.reach(session.clock.now())?;
    if let Some(page) = page {
        page.shutdown().await;
    }
    session.shutdown().await
}

/// Serves the page, unless it is not wanted, and says where.
async fn serve_page(args: &UpArgs, session: &Session) -> Result<Option<Dashboard>, CommandError> {
    if args.no_dashboard {
        return Ok(None);
    }
    let options = ObserverOptions {
        site: Site::Here {
            config: session.cloud.sdk_config(),
            data: args.session.data.clone(),
            follows: false,
        },
        environment: ENVIRONMENT.to_owned(),
        cadence: Cadence::of(Where::Here, Cadence::usual(Where::Here)),
        stop: session.stop.child_token(),
    };
    dashboard::serve(SocketAddr::new(args.bind, args.dashboard_port), options)
        .await
        .map(Some)
}

/// The branch collector at the start and at every full hour by the session's clock.
async fn hourly(session: &Session, view: &View) -> Result<(), CommandError> {
    let mut due = session.clock.now();
    while wait_until(session, due).await {
        let run_id = RunId::scheduled_for(due);
        let event = json!({ "run_id": run_id.to_string() }).to_string();
        let handled = session.pipeline.invoke(Stage::Branches, &event, view).await;
        match handled.answer {
            Ok(_) => say(format_args!(
                "{run_id}  {}  {}",
                Stage::Branches.name(),
                describe(&handled.counts)
            ))?,
            Err(failure) => say(format_args!("{run_id}  {}  failed: {failure}", Stage::Branches.name()))?,
        }
        due = next_hour(due);
    }
    Ok(())
}

/// Waits until the session's clock shows `due`; `false` if all is to end before.
async fn wait_until(session: &Session, due: time::UtcDateTime) -> bool {
    let mut ticks = interval(TICK);
    while session.clock.now() < due {
        tokio::select! {
            () = session.stop.cancelled() => return false,
            _ = ticks.tick() => {}
        }
    }
    !session.stop.is_cancelled()
}

async fn every_minute(session: &Session, view: &View, stage: Stage, speed: NonZeroU32) -> Result<(), CommandError> {
    let minute = (MINUTE / speed.get()).max(Duration::from_secs(1));
    let mut next = Instant::now();
    while !session.stop.is_cancelled() {
        tokio::select! {
            () = session.stop.cancelled() => break,
            () = sleep_until(next) => {}
        }
        next += minute;
        // As with a function's reserved concurrency, a poll that is still running holds up the next one.
        let event = json!({ "run_id": RunId::scheduled_for(session.clock.now()).to_string() }).to_string();
        let handled = session.pipeline.invoke(stage, &event, view).await;
        let counts = handled.counts;
        match handled.answer {
            Err(failure) => say(format_args!(
                "{}  {}  failed: {failure}",
                RunId::scheduled_for(session.clock.now()),
                stage.name()
            ))?,
            Ok(_) if counts == Counts::default() => {}
            Ok(_) => say(format_args!(
                "{}  {}  {}",
                RunId::scheduled_for(session.clock.now()),
                stage.name(),
                describe(&counts)
            ))?,
        }
        next = next.max(Instant::now());
    }
    Ok(())
}

/// Moves a simulated clock on, so that it runs `speed` times as fast.
async fn hurry(session: &Session, speed: NonZeroU32) -> Result<(), CommandError> {
    let extra = TICK * (speed.get() - 1);
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        tokio::select! {
            () = session.stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        if !extra.is_zero() && session.clock.advance(extra) {
            session.cloud.time_moved();
        }
    }
}

/// Carries what the streams have into the lake, about each second, and once an hour puts small files together.
async fn lake(session: &Session) -> Result<(), CommandError> {
    let mut ticks = interval(FEED);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut compacted = Instant::now();
    // Told when it changes, not each second anew.
    let mut told = None;
    loop {
        tokio::select! {
            () = session.stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        let failure = session.feed.carry().await.err().map(|failure| error_chain(&failure));
        if failure != told {
            match &failure {
                Some(failure) => say(format_args!("The lake is behind the tables: {failure}"))?,
                None => say(format_args!("The lake is up to date again."))?,
            }
            told = failure;
        }
        if compacted.elapsed() >= COMPACTION {
            compacted = Instant::now();
            session.forget_streams().await?;
            if let Err(failure) = session.feed.compact().await {
                say(format_args!(
                    "The lake's small files are not put together: {}",
                    error_chain(&failure)
                ))?;
            }
        }
    }
}

fn describe(counts: &Counts) -> String {
    let kinds = [
        (counts.inserted, "inserted"),
        (counts.updated, "updated"),
        (counts.deleted, "deleted"),
        (counts.held_back, "held back"),
        (counts.unchanged, "unchanged"),
        (counts.skipped, "skipped"),
        (counts.rejected, "rejected"),
        (counts.enqueued, "sent on"),
        (counts.failed, "failed"),
        (counts.deferred, "deferred"),
        (counts.dead_lettered, "dead-lettered"),
        (counts.api_calls, "requests"),
    ];
    let said: Vec<_> = kinds
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, kind)| format!("{count} {kind}"))
        .collect();
    if said.is_empty() {
        "nothing to do".to_owned()
    } else {
        said.join(", ")
    }
}
