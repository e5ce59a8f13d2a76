//! Questions to a lake that the lake's own function has written.

mod errors;
mod functions;
mod losing;
mod output;
mod program;
mod questions;
mod streams;
mod views;
