//! `cascade verify`: every row compared with what the vendor says now.

use clap::Args;
use serde_json::json;

use super::CommandError;
use super::output::say;
use super::place::{PlaceArgs, parse_environment};
use super::run;
use super::session::SessionArgs;
use crate::dead_letters::FunctionCourier;

/// Compare every row with what the vendor says now, and write those that differ
///
/// A run reads no row of which it is known that it says what the vendor says. This one trusts nothing of that: it asks for
/// every branch, salesperson and sale, and compares them all, however old. With --aws it asks the deployed branch
/// collector to begin, as background work, which takes what live work leaves of the quota; the other two carry it on.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    session: SessionArgs,
    /// Begin it in the AWS account that the standard AWS environment points to
    #[arg(long, requires = "environment", conflicts_with_all = ["data", "vendor", "quota"])]
    aws: bool,
    /// The deployed environment's name
    #[arg(long, value_name = "NAME", requires = "aws", value_parser = parse_environment)]
    environment: Option<String>,
    /// Print one JSON object instead of tables
    #[arg(long, conflicts_with = "aws")]
    json: bool,
}

/// Verifies, and answers whether every message was done; on AWS, whether it was begun.
///
/// # Errors
/// If the cloud, the vendor or the state cannot be used.
pub async fn verify(args: VerifyArgs) -> Result<bool, CommandError> {
    let Some(environment) = args.environment.filter(|_| args.aws) else {
        return run::verify(args.session, args.json).await;
    };
    let function = format!("branch-collector-{environment}");
    let config = PlaceArgs::aws_config().await;
    let event = json!({"branches": [], "verify": true, "background": true}).to_string();
    let begun = FunctionCourier::new(&config, function.clone()).call(&event).await;
    begun.map_err(|reason| CommandError::Service {
        action: "begin".to_owned(),
        reason,
    })?;
    say(format_args!(
        "{function} begins; every message of this run says \"verify\". `cascade status --aws --environment {environment}` shows \
         what is left, and the metric RecordsUpdated what was mended."
    ))?;
    Ok(true)
}
