//! `cascade status`: rows by table, messages by queue, the last run.

use std::fmt;

use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::CommandError;
use super::output::say;
use super::place::{Place, PlaceArgs};
use crate::status::{Status, StatusReader, Where};

/// Count rows and messages: here, or in an AWS account
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// Prints the status.
///
/// # Errors
/// If there is nothing to look at, or it cannot be reached.
pub async fn status(args: StatusArgs) -> Result<(), CommandError> {
    let place = Place::open(&args.place).await?;
    let last_run = place.state.as_ref().and_then(|state| state.last_run.clone());
    let reader = StatusReader::new(&place.config, args.place.environment(), place.site);
    let status = reader.status(last_run).await;
    place.close().await?;
    let status = status?;
    if args.json {
        say(format_args!("{:#}", serde_json::json!(status)))?;
    } else {
        say(Printed(&status))?;
    }
    Ok(())
}

/// A status as tables.
struct Printed<'a>(&'a Status);

impl fmt::Display for Printed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(status) = self;
        let rows = match status.place {
            Where::Here => "rows",
            Where::Aws => "rows, up to 6 hours ago",
        };
        let mut tables = plain_table(["table", rows]);
        for table in &status.tables {
            let rows = table.rows.map_or("missing".to_owned(), |rows| rows.to_string());
            tables.add_row([table.name.clone(), rows]);
        }
        let mut queues = plain_table(["queue", "waiting", "in flight", "delayed", "oldest"]);
        for queue in &status.queues {
            let [waiting, in_flight, delayed] = match queue.depth {
                Some(depth) => [depth.waiting, depth.in_flight, depth.delayed].map(|count| count.to_string()),
                None => ["missing".to_owned(), String::new(), String::new()],
            };
            let oldest = queue
                .oldest_seconds
                .map_or(String::new(), |seconds| format!("{seconds} s"));
            queues.add_row([queue.name.clone(), waiting, in_flight, delayed, oldest]);
        }
        writeln!(f, "{tables}\n\n{queues}\n")?;
        match &status.last_run {
            Some(run) => {
                let total = run.total();
                let complete = if run.is_complete() { "complete" } else { "incomplete" };
                write!(
                    f,
                    "Last run {}: {complete}, {} inserted, {} updated, {} deleted, {} unchanged, {} requests, {:.1} s",
                    run.run_id,
                    total.inserted,
                    total.updated,
                    total.deleted,
                    total.unchanged,
                    total.api_calls,
                    run.seconds
                )
            }
            None => write!(f, "Last run: not known here"),
        }
    }
}

fn plain_table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header);
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}
