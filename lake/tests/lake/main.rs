//! The lake's function over a store in memory, or one that fails: what goes in comes out of the files as it was.

mod compaction;
mod exact;
mod failures;
mod files;
mod process;
mod rebuild;
mod runs;
mod stage;
mod views;
