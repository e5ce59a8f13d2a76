//! The lake: what the tables' streams say, kept as Parquet files that answer SQL.
//!
//! [`log`], [`layout`] and [`views`] say what is where; [`change`], [`row`] and [`account`] what a stream's record becomes.

pub mod account;
pub mod batch;
pub mod change;
pub mod json;
pub mod layout;
pub mod log;
pub mod moment;
pub mod row;
pub mod runs;
pub mod views;
