//! The subcommands, a module each.

pub mod backfill;
pub mod bench;
pub mod dashboard;
pub mod dlq;
pub mod doctor;
pub mod lake;
pub mod rejected;
pub mod run;
pub mod sql;
pub mod status;
pub mod up;
pub mod vendor;
pub mod verify;

mod output;
mod place;
mod progress;
mod report;
pub mod session;

use thiserror::Error;

use crate::backfill::BackfillError;
use crate::bench::BenchError;
use crate::cloud::CloudError;
use crate::dashboard::DashboardError;
use crate::feed::FeedError;
use crate::pipeline::DepthError;
use crate::state::StateError;
use crate::status::StatusError;
use crate::vendor::{FaultsError, VendorError};

/// Why a command could not be carried out.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The embedded cloud.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// The simulated vendor.
    #[error(transparent)]
    Vendor(#[from] VendorError),
    /// The faults asked of it.
    #[error(transparent)]
    Faults(#[from] FaultsError),
    /// What is remembered between two calls.
    #[error(transparent)]
    State(#[from] StateError),
    /// A backfill.
    #[error(transparent)]
    Backfill(#[from] BackfillError),
    /// A service that was asked how things stand.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// A measurement.
    #[error(transparent)]
    Bench(#[from] BenchError),
    /// The lake.
    #[error(transparent)]
    Feed(#[from] FeedError),
    /// The page.
    #[error(transparent)]
    Dashboard(#[from] DashboardError),
    /// The user.
    #[error("interrupted")]
    Interrupted,
    /// A queue.
    #[error(transparent)]
    Depth(#[from] DepthError),
    /// The vendor's client.
    #[error(transparent)]
    Client(#[from] shared::vendor::http::ClientError),
    /// The vendor's key, in the environment.
    #[error("API_KEY cannot stand in an HTTP header; set it to the vendor's key, or leave it unset")]
    ApiKey,
    /// A service that was asked for something.
    #[error("could not {action}: {reason}")]
    Service {
        /// What was asked of it.
        action: String,
        /// What it said.
        reason: String,
    },
    /// A file or the terminal.
    #[error("could not {action}")]
    Io {
        /// What was tried.
        action: String,
        /// What the operating system said.
        source: std::io::Error,
    },
}
