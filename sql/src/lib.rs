//! Questions to the lake, in SQL.
//!
//! [`location`] says where a lake is, [`session`] opens it and answers, [`statement`] lets through what only reads, and
//! [`diagnosis`] says why a question has no answer. [`output`] writes answers; [`command`], [`console`] and [`prompt`] are
//! what a person sees. DataFusion and Arrow are known in here only.

pub mod catalogue;
pub mod command;
pub mod console;
pub mod diagnosis;
mod functions;
pub mod location;
pub mod output;
pub mod place;
pub mod prompt;
pub mod s3;
pub mod session;
pub mod statement;
mod store_error;
