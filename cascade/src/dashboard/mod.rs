//! One page that shows an environment live: what waits and flows, the quota, runs, freshness, dead letters, sales.
//!
//! An [`Observer`] asks the services, and only while somebody looks if asking costs something; a [`Server`] hands what it found to
//! every page that is open, as server-sent events of what has changed. The page itself is three kinds of text in `page/`, built
//! into the program: it fetches nothing from anywhere else.

mod access;
mod accounts;
mod board;
mod cadence;
mod history;
mod letters;
mod names;
mod observer;
mod server;
mod services;
mod snapshot;

use std::io;
use std::net::SocketAddr;

use thiserror::Error;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use access::{Access, Token};
pub use board::{Board, Posted};
pub use cadence::Cadence;
pub use observer::{Observer, ObserverOptions};
pub use server::Server;
pub use services::Site;
pub use snapshot::{Clocks, Figures};

/// Why there is no page.
#[derive(Debug, Error)]
pub enum DashboardError {
    /// The port cannot be listened on.
    #[error("could not serve the page on {address}{}", hint(source))]
    Listen {
        /// The address and port.
        address: SocketAddr,
        /// What the operating system said.
        source: io::Error,
    },
    /// The limit was told where it is known.
    #[error("--quota goes with --aws; here the quota of the last run is known")]
    QuotaHere,
}

/// What can be done about a port that cannot be listened on.
fn hint(failure: &io::Error) -> &'static str {
    match failure.kind() {
        io::ErrorKind::AddrInUse => {
            "; if another cascade serves its page there already, open that one, or choose another port (0: any that is free)"
        }
        io::ErrorKind::AddrNotAvailable => "; --bind takes an address of this machine, or 0.0.0.0 for all of them",
        _ => "",
    }
}

/// A page that is served, and whoever gathers what it shows. Dropping it ends it without waiting.
pub struct Dashboard {
    server: Server,
    stop: CancellationToken,
    observing: JoinHandle<()>,
    _stop_when_dropped: DropGuard,
}

impl Dashboard {
    /// Serves the page on `address`, to whom `access` lets in, with what `observer` sees.
    ///
    /// # Errors
    /// If the port cannot be listened on.
    pub async fn start(address: SocketAddr, access: Access, observer: Observer) -> Result<Self, DashboardError> {
        let board = Board::default();
        let server = Server::start(address, access, board.clone()).await?;
        let stop = observer.stop();
        let observing = tokio::spawn(observer.observe(board));
        Ok(Self {
            server,
            _stop_when_dropped: stop.clone().drop_guard(),
            stop,
            observing,
        })
    }

    /// Where the page is, with the token if it needs one.
    pub fn url(&self) -> &str {
        self.server.url()
    }

    /// Ends what is under way: letters that were being looked at are handed back.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.server.shutdown().await;
        // It ends by itself; if it has failed, there is nothing to wait for.
        let _ = self.observing.await;
    }
}
