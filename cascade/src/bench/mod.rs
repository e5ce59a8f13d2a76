//! The pipeline measured: the functions' own binaries as processes, with Lambda's runtime API, the embedded cloud and the
//! simulated vendor around them, all on this machine.

mod fleet;
mod ground;
pub mod pipeline;
mod process;
pub mod quota;
mod runtime_api;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

pub use fleet::Binaries;
pub use process::Readings;

use crate::cloud::CloudError;
use crate::pipeline::Stage;
use crate::vendor::VendorError;

/// The environment's name.
const ENVIRONMENT: &str = "bench";

/// Why nothing could be measured.
#[derive(Debug, Error)]
pub enum BenchError {
    /// A function's binary is not there.
    #[error("{} is missing: the functions' binaries have to lie beside this command; type: {build}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// What makes it.
        build: &'static str,
    },
    /// A file, a port or a process.
    #[error("could not {action}")]
    Io {
        /// What was tried.
        action: String,
        /// What the operating system said.
        source: io::Error,
    },
    /// A function ended by itself.
    #[error("a process of {} ended by itself; its output is in {}", stage.name(), log.display())]
    Ended {
        /// Which.
        stage: Stage,
        /// Where it wrote to.
        log: PathBuf,
    },
    /// What takes far longer than it should.
    #[error("not done after {} s: {left}; what the functions wrote is in {}", after.as_secs(), logs.display())]
    TimeOut {
        /// How long it was waited for.
        after: Duration,
        /// What was still to be done.
        left: String,
        /// Where the functions wrote to.
        logs: PathBuf,
    },
    /// A queue's visibility time-out could not be set.
    #[error("could not set the visibility time-out of {queue}: {reason}")]
    Visibility {
        /// The queue's URL.
        queue: String,
        /// What the queue service said.
        reason: String,
    },
    /// The embedded cloud.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// The simulated vendor.
    #[error(transparent)]
    Vendor(#[from] VendorError),
}

impl BenchError {
    fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}

/// How far a measurement is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Requests that the vendor has answered.
    pub done: usize,
    /// How many there are to be.
    pub expected: usize,
    /// Requests that it refused for want of quota.
    pub refused: usize,
    /// Processes killed.
    pub kills: usize,
}
