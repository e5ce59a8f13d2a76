//! The `cascade` command: the whole pipeline on one machine.

pub mod cloud;
pub mod vendor;
