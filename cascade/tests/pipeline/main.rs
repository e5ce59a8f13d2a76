//! The whole pipeline: embedded cloud, simulated vendor, and the three collectors with the real AWS SDKs between them.

mod accounts;
mod backfill;
mod command;
mod crashes;
mod deletions;
mod deliveries;
mod failures;
mod harness;
mod hours;
mod lake;
mod loads;
mod model;
mod quota;
mod rejected;
