//! The `cascade` command: the whole pipeline on one machine.

pub mod backfill;
pub mod bench;
pub mod cloud;
pub mod commands;
pub mod dashboard;
pub mod dead_letters;
pub mod doctor;
pub mod feed;
pub mod pipeline;
pub mod state;
pub mod status;
pub mod vendor;
