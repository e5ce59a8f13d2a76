//! `cascade dashboard`: one page that shows an environment live.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::CommandError;
use super::output::say;
use super::place::{Place, PlaceArgs, Where};
use super::run::interrupted;
use super::session::{LOOPBACK, parse_count};
use crate::dashboard::{Access, Cadence, Dashboard, DashboardError, Observer, ObserverOptions, Site};

/// The port of the page, here and in `up`.
pub(super) const PORT: u16 = 8702;

/// Serve one page that shows an environment live: what waits and flows, the quota, runs, freshness, dead letters, sales
///
/// Here it looks at the cloud that `cascade up` or `cascade run` has on the data directory, wherever that is and whenever it is
/// started again; if none is running, it opens the data itself, which then is in use until Ctrl-C. `cascade up` serves the same page.
///
/// With --aws, services are asked every 10 seconds (--every) as long as a page is open: about 62 requests a minute, and for 13 branches
/// about 60 read units of DynamoDB, as no table is read through. That costs less than a cent an hour. While no page is open nothing is
/// asked. Looking at dead letters hides them from others for some seconds: that is
/// done when their number has changed, at most every 5 minutes, and else every 15. It takes the permissions to read queues, tables, metrics
/// and the branch collector's settings.
///
/// Whoever is on this machine may open the page. With --bind, whoever has its address, which then holds a token; it is not
/// encrypted on the way: in a network that is not yours, rather reach it through `ssh -L 8702:127.0.0.1:8702`.
#[derive(Debug, Args)]
pub struct DashboardArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// The address that the page is served on
    #[arg(long, value_name = "ADDRESS", default_value_t = LOOPBACK)]
    bind: IpAddr,
    /// The page's port; 0: any that is free
    #[arg(long, value_name = "N", default_value_t = PORT)]
    port: u16,
    /// Seconds between two looks [default: 1, with --aws 10]
    #[arg(long, value_name = "SECONDS", value_parser = parse_count)]
    every: Option<NonZeroU32>,
    /// Requests a minute that the vendor allows, where the collectors' settings cannot be read
    #[arg(long, value_name = "N", value_parser = parse_count)]
    quota: Option<NonZeroU32>,
}

/// Serves the page until Ctrl-C.
///
/// # Errors
/// If there is nothing to look at, the port cannot be had, or the limit is told where it is known.
pub async fn dashboard(args: DashboardArgs) -> Result<(), CommandError> {
    // What clap requires is there by its default, too.
    if args.quota.is_some() && !args.place.aws {
        return Err(DashboardError::QuotaHere.into());
    }
    let mut place = Place::open(&args.place).await?;
    let every = args.every.map_or_else(
        || Cadence::usual(place.site),
        |seconds| Duration::from_secs(seconds.get().into()),
    );
    let cadence = Cadence::of(place.site, every);
    let site = match place.site {
        Where::Here => Site::Here {
            config: place.config.clone(),
            data: args.place.data.clone(),
            follows: !place.is_own(),
        },
        Where::Aws => Site::Aws {
            config: place.config.clone(),
            quota: args.quota.map(NonZeroU32::get),
        },
    };
    let options = ObserverOptions {
        site,
        environment: args.place.environment().to_owned(),
        cadence,
        stop: CancellationToken::new(),
    };
    place.offer()?;
    let dashboard = match serve(SocketAddr::new(args.bind, args.port), options).await {
        Ok(dashboard) => dashboard,
        Err(failure) => {
            place.withdraw().await?;
            return Err(failure);
        }
    };
    if place.site == Where::Aws {
        say(format_args!(
            "While it is open, AWS is asked about {} times a minute; while it is not, never.",
            cadence.requests_a_minute()
        ))?;
    }
    say("Ctrl-C ends it.")?;
    interrupted().await;
    dashboard.shutdown().await;
    // Dead letters were touched.
    place.keep_time()?;
    place.withdraw().await
}

/// Serves the page, and says where.
pub(super) async fn serve(address: SocketAddr, options: ObserverOptions) -> Result<Dashboard, CommandError> {
    let access = Access::of(address.ip());
    let is_open = matches!(access, Access::Loopback);
    let dashboard = Dashboard::start(address, access, Observer::new(options)).await?;
    say(format_args!("The page is at {}", dashboard.url()))?;
    if !is_open {
        say("Whoever has this address sees it. Elsewhere than on this machine, put this machine's name in it.")?;
    }
    Ok(dashboard)
}
