//! `cascade vendor`: the simulated vendor on its own.

use std::net::IpAddr;
use std::num::NonZeroU32;

use clap::Args;
use shared::clock::Clock;
use time::UtcDateTime;

use super::CommandError;
use super::output::say;
use super::session::{DEFAULT_QUOTA, LOOPBACK, WorldArgs, parse_count, vendor_options};
use crate::state::{DEFAULT_SALES, DEFAULT_SALESPERSONS, DEFAULT_SEED, Simulation, this_hour};
use crate::vendor::{Changes, VendorOptions, VendorServer};

/// Run the simulated vendor alone, until Ctrl-C
#[derive(Debug, Args)]
pub struct VendorArgs {
    /// The address to listen on
    #[arg(long, value_name = "ADDRESS", default_value_t = LOOPBACK)]
    pub bind: IpAddr,
    /// The port; 0: any that is free
    #[arg(long, value_name = "N", default_value_t = 8701)]
    pub port: u16,
    /// Requests that it allows in any 60 seconds
    #[arg(long, value_name = "N", default_value_t = DEFAULT_QUOTA, value_parser = parse_count)]
    pub quota: NonZeroU32,
    /// Records a page of an answer [default: all on one page]
    #[arg(long, value_name = "N")]
    pub page_size: Option<usize>,
    #[command(flatten)]
    world: WorldArgs,
}

/// Runs it until Ctrl-C.
///
/// # Errors
/// If it cannot listen, or an option cannot be met.
pub async fn vendor(args: VendorArgs) -> Result<(), CommandError> {
    let now = UtcDateTime::now();
    let simulation = Simulation {
        seed: args.world.seed.unwrap_or(DEFAULT_SEED),
        salespersons: args.world.salespersons.unwrap_or(DEFAULT_SALESPERSONS),
        sales: args.world.sales.unwrap_or(DEFAULT_SALES),
        start: args.world.start.unwrap_or(this_hour(now)),
        reached: None,
        changes: Changes::default(),
    };
    let clock = Clock::starting_at(args.world.start.unwrap_or(now));
    let options = VendorOptions {
        page_size: args.page_size,
        ..vendor_options(
            &simulation,
            clock,
            args.quota,
            args.world.faults()?,
            (args.bind, args.port).into(),
        )
    };
    let server = VendorServer::start(options).await?;
    let url = server.url();
    say(format_args!(
        "The vendor answers at {url}, {} requests a minute. Ctrl-C ends it.",
        args.quota
    ))?;
    say(format_args!("  curl '{url}/branches?branch=Scranton'"))?;
    say(format_args!("  curl {url}/_vendor/stats"))?;
    say(format_args!(
        "  curl -X POST {url}/_vendor/advance -d '{{\"hours\": 1}}'"
    ))?;
    super::run::interrupted().await;
    let stats = server.stats();
    say(format_args!(
        "{} requests, {} answered 429, busiest minute {}.",
        stats.requests, stats.answered_429, stats.busiest_minute
    ))?;
    server.shutdown().await;
    Ok(())
}
