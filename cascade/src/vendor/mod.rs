//! The vendor simulator: Dunder Mifflin's API as section 1 of the contract describes it, on this machine.

mod catalogue;
mod records;
mod world;

pub use world::{Changes, ExpectedBranch, ExpectedSale, ExpectedSalesperson, World, WorldError, WorldOptions};
