//! `cascade run`: hourly runs of the whole pipeline, here.

use std::num::NonZeroU32;
use std::time::Duration;

use branches::DEFAULT_BRANCHES;
use clap::Args;
use serde_json::json;
use shared::checkpoint::Thoroughness;
use shared::run::RunId;
use tokio::signal::unix::{SignalKind, signal};

use super::CommandError;
use super::output::say;
use super::progress::Progress;
use super::report::{Database, RunReport};
use super::session::{Listen, Session, SessionArgs, parse_count};
use crate::pipeline::View;
use crate::state::{Source, next_hour};

/// Run the pipeline for an hour: every branch, every salesperson, every sale, within the vendor's quota
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    session: SessionArgs,
    /// Hourly runs, one after the other; the simulated vendor's clock moves on an hour with each
    #[arg(long, value_name = "N", default_value = "1", value_parser = parse_count)]
    hours: NonZeroU32,
    /// Leave the simulated vendor's clock where the last run left it: nothing has changed there
    #[arg(long, conflicts_with = "vendor")]
    frozen: bool,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// Runs, prints what came of it, and answers whether every message was done.
///
/// # Errors
/// If the cloud, the vendor or the state cannot be used.
pub async fn run(args: RunArgs) -> Result<bool, CommandError> {
    collect(args, Thoroughness::Usual).await
}

/// Compares every row with what the vendor says now, and answers whether every message was done.
///
/// # Errors
/// As [`run`].
pub(super) async fn verify(session: SessionArgs, json: bool) -> Result<bool, CommandError> {
    let args = RunArgs {
        session,
        hours: NonZeroU32::MIN,
        frozen: true,
        json,
    };
    collect(args, Thoroughness::Verify).await
}

async fn collect(args: RunArgs, thoroughness: Thoroughness) -> Result<bool, CommandError> {
    let mut session = Session::start(&args.session, args.frozen, Listen::default()).await?;
    let stop = session.stop.clone();
    tokio::spawn(async move {
        interrupted().await;
        stop.cancel();
    });
    if !args.json {
        let vendor = if session.vendor.is_some() {
            "a simulated vendor"
        } else {
            "the vendor"
        };
        eprintln!(
            "Collecting from {vendor} at {}, {} requests a minute.\n",
            session.vendor_url, session.quota
        );
    }
    session.forget_streams().await?;
    let mut reports = Vec::new();
    for hour in 0..args.hours.get() {
        if hour > 0 {
            move_to_next_hour(&mut session)?;
        }
        let report = run_once(&mut session, thoroughness, args.json).await?;
        if !args.json {
            say(&report)?;
        }
        let goes_on = report.is_complete() && !session.stop.is_cancelled();
        reports.push(report);
        if !goes_on {
            break;
        }
    }
    let complete = reports.len() == args.hours.get() as usize && reports.iter().all(RunReport::is_complete);
    if args.json {
        say(format_args!("{:#}", json!({ "complete": complete, "runs": reports })))?;
    }
    session.shutdown().await?;
    Ok(complete)
}

/// The simulated world's next hour. With a real vendor, hours pass by themselves: the next run is begun at once.
fn move_to_next_hour(session: &mut Session) -> Result<(), CommandError> {
    if let Source::Simulated(_) = session.state.source {
        let now = session.clock.now();
        session.clock.advance((next_hour(now) - now).unsigned_abs());
        session.cloud.time_moved();
        session.state.reach(session.clock.now())?;
    }
    Ok(())
}

/// The run of this second, or of the next one: what is done for the last run is not done for it again.
async fn next_run(session: &Session) -> RunId {
    let run_id = RunId::scheduled_for(session.clock.now());
    let last = session
        .state
        .last_run
        .as_ref()
        .and_then(|run| RunId::parse(&run.run_id).ok());
    if last.is_none_or(|last| last < run_id) {
        return run_id;
    }
    let second = Duration::from_secs(1);
    if session.clock.advance(second) {
        session.cloud.time_moved();
    } else {
        tokio::time::sleep(second).await;
    }
    RunId::scheduled_for(session.clock.now())
}

async fn run_once(session: &mut Session, thoroughness: Thoroughness, quiet: bool) -> Result<RunReport, CommandError> {
    let run_id = next_run(session).await;
    let view = View::default();
    let asked_before = session.vendor.as_ref().map_or(0, |vendor| vendor.stats().requests);
    let cloud_before = session.cloud.usage();
    let outcome = {
        let progress = Progress::new(quiet, session.quota, DEFAULT_BRANCHES.len());
        let Session {
            pipeline,
            cloud,
            state,
            clock,
            ..
        } = &mut *session;
        let running = pipeline.run(run_id, thoroughness, &view, || {
            cloud.time_moved();
            // A clock that went back after a kill would hide messages, and keep rows from being written.
            if let Err(failure) = state.reach(clock.now()) {
                tracing::warn!(reason = shared::error_chain(&failure), "the clock's time is not kept");
            }
        });
        progress.watch(&view, running).await?
    };
    let first = session.state.last_run.is_none();
    let changes = match (&session.vendor, &mut session.state.source) {
        (Some(vendor), Source::Simulated(simulation)) => {
            let now = vendor.world().changes();
            let before = std::mem::replace(&mut simulation.changes, now);
            Some(now.since(before))
        }
        _ => None,
    };
    session.state.last_run = Some(outcome.clone());
    session.state.reach(session.clock.now())?;
    let database = Database::of(&session.cloud.usage().since(&cloud_before), &session.places.state_table);
    let lake = session
        .feed
        .carry()
        .await
        .map_err(|failure| shared::error_chain(&failure));
    Ok(RunReport {
        first,
        verified: thoroughness == Thoroughness::Verify,
        least_requests: outcome.least_requests(DEFAULT_BRANCHES.len()),
        quota: session.quota,
        vendor: session.vendor.as_ref().map(|vendor| vendor.stats_since(asked_before)),
        changes,
        database,
        lake,
        log: session.log.display().to_string(),
        interrupted: session.stop.is_cancelled(),
        outcome,
    })
}

/// Returns once the user ends the command (Ctrl-C), or somebody else does (SIGTERM).
pub(super) async fn interrupted() {
    let mut terminate = match signal(SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(error) => {
            tracing::warn!(reason = %error, "SIGTERM cannot be listened for");
            return tokio::signal::ctrl_c().await.unwrap_or_default();
        }
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
