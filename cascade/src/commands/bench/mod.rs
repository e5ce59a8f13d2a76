//! `cascade bench`: what the pipeline keeps to, and what it costs, measured on this machine.

use clap::{Args, Subcommand};

use super::CommandError;
use super::run::interrupted;

mod pipeline;
mod progress;
mod quota;

/// Measure the functions' own binaries, each in a process of its own, against an embedded cloud and a simulated vendor
///
/// They have to lie beside this command: `cargo build --release --workspace` makes all of them.
#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    Quota(quota::QuotaArgs),
    Pipeline(pipeline::PipelineArgs),
}

/// Measures, prints what came of it, and answers whether it was as it should be.
///
/// # Errors
/// If nothing can be measured.
pub async fn bench(args: BenchArgs) -> Result<bool, CommandError> {
    // Dropping what is measured ends its processes.
    tokio::select! {
        () = interrupted() => Err(CommandError::Interrupted),
        done = async {
            match args.bench {
                Bench::Quota(args) => quota::quota(args).await,
                Bench::Pipeline(args) => pipeline::pipeline(args).await,
            }
        } => done,
    }
}
