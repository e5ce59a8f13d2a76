//! The lake: what the tables' streams say, kept as Parquet files that answer SQL.

pub mod layout;
pub mod log;
pub mod views;
