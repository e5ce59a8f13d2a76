//! The vendor simulator: Dunder Mifflin's API as section 1 of the contract describes it, on this machine.
//!
//! [`World`] is the truth, a pure function of a seed, sizes, a start and the hours gone by. [`VendorServer`] shows it
//! over HTTP, enforces the [`Quota`], commits the [`Faults`] it was told to and writes a ledger of what it was asked,
//! so that a run of the pipeline can be judged from the vendor's side ([`Stats`]).
//!
//! What is deliberately absent: TLS (it only ever listens on loopback), redirects, and any endpoint that lists ids
//! without the level above, because the real vendor has none.

mod catalogue;
mod faults;
mod ledger;
mod page;
mod quota;
mod records;
mod server;
mod world;

pub use faults::{BadRecord, Fault, FaultRates, Faults, FaultsError, MAX_RATED_FAULTS_IN_A_ROW, Target};
pub use ledger::{AnsweredRequest, Stats};
pub use quota::{QUOTA_WINDOW, Quota};
pub use server::{FaultsHandle, LinkForm, RetryAfterForm, VendorError, VendorOptions, VendorServer};
pub use world::{Changes, ExpectedBranch, ExpectedSale, ExpectedSalesperson, World, WorldError, WorldOptions};
