//! The lake: what the tables' streams say, kept as Parquet files that answer SQL.
//!
//! [`log`], [`layout`] and [`views`] say what is where; [`change`], [`row`] and [`account`] what a stream's record becomes;
//! [`store`] owns the objects, in a local directory or in S3; [`handler`] is the function.

pub mod account;
pub mod batch;
pub mod change;
pub mod compaction;
pub mod counts;
pub mod event;
pub mod file;
pub mod function;
pub mod handler;
pub mod json;
pub mod layout;
pub mod log;
mod merge;
pub mod moment;
mod reader;
pub mod rebuild;
pub mod row;
pub mod runs;
pub mod sightings;
pub mod standing;
pub mod status;
pub mod store;
pub mod tables;
mod upload;
pub mod views;
