//! The `cascade` command.

use std::process::ExitCode;

use cascade::commands::backfill::BackfillArgs;
use cascade::commands::bench::BenchArgs;
use cascade::commands::dashboard::DashboardArgs;
use cascade::commands::dlq::DlqArgs;
use cascade::commands::doctor::DoctorArgs;
use cascade::commands::lake::LakeArgs;
use cascade::commands::rejected::RejectedArgs;
use cascade::commands::run::RunArgs;
use cascade::commands::sql::SqlArgs;
use cascade::commands::status::StatusArgs;
use cascade::commands::up::UpArgs;
use cascade::commands::vendor::VendorArgs;
use cascade::commands::verify::VerifyArgs;
use cascade::commands::{
    CommandError, backfill, bench, dashboard, dlq, doctor, lake, rejected, run, sql, status, up, vendor, verify,
};
use clap::{Parser, Subcommand};
use shared::error_chain;

/// Keep a warehouse in step with a vendor's REST API, within the vendor's quota: the whole pipeline on this machine
///
/// Without a subcommand, `cascade run`: a simulated vendor and an embedded cloud are started, and everything is
/// collected once. Run it again: only what has changed at the vendor is written.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(RunArgs),
    Up(UpArgs),
    Status(StatusArgs),
    Dashboard(DashboardArgs),
    Dlq(DlqArgs),
    Rejected(RejectedArgs),
    Doctor(DoctorArgs),
    Lake(LakeArgs),
    Verify(VerifyArgs),
    Backfill(BackfillArgs),
    Sql(SqlArgs),
    Vendor(VendorArgs),
    Bench(BenchArgs),
}

/// Not everything was done.
const INCOMPLETE: u8 = 1;
/// The command could not be carried out; clap ends with this where the options are wrong, too.
const FAILED: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(args) => run::run(args).await,
        Command::Up(args) => up::up(args).await.map(|()| true),
        Command::Status(args) => status::status(args).await.map(|()| true),
        Command::Dashboard(args) => dashboard::dashboard(args).await.map(|()| true),
        Command::Dlq(args) => dlq::dlq(args).await,
        Command::Rejected(args) => rejected::rejected(args).await.map(|()| true),
        Command::Doctor(args) => doctor::doctor(args).await,
        Command::Lake(args) => lake::lake(args).await.map(|()| true),
        Command::Verify(args) => verify::verify(args).await,
        Command::Backfill(args) => backfill::backfill(args).await,
        Command::Sql(args) => Err(sql::sql(args)),
        Command::Vendor(args) => vendor::vendor(args).await.map(|()| true),
        Command::Bench(args) => bench::bench(args).await,
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(INCOMPLETE),
        Err(failure) => report(&failure),
    }
}

fn report(failure: &CommandError) -> ExitCode {
    eprintln!("error: {}", error_chain(failure));
    ExitCode::from(FAILED)
}
