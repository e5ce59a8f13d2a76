//! `cascade lake`: the lake under a data directory, looked at, put together, mended.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use indicatif::DecimalBytes;
use lake::counts::Counts;
use lake::log::Log;
use lake::moment::time_of;
use lake::status::LogStatus;
use lake::store::Lake;
use serde::Serialize;
use serde_json::json;
use shared::run::last_modified;
use shared::state::dynamodb::DynamoState;

use super::CommandError;
use super::output::say;
use super::place::{Place, PlaceArgs};
use super::report::grouped;
use super::session::ENVIRONMENT;
use crate::feed::{self, DIRECTORY, Feed, FeedError, Rebuilt};

/// Look at the lake of Parquet files that the tables' changes are carried into, and look after it
///
/// `cascade run` and `cascade up` carry the changes by themselves.
#[derive(Debug, Args)]
pub struct LakeArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Count changes, files and bytes, and name the newest change of each log
    Status(Options),
    /// Put small files together: those of days that are over, and of today where there are many
    Compact(CompactOptions),
    /// Take rows from the tables that the lake lacks: after the tables' streams have lost changes, or for a data directory that is
    /// older than its lake
    Rebuild(Options),
}

#[derive(Debug, Args)]
struct CompactOptions {
    #[command(flatten)]
    options: Options,
    /// Put today's files together however few they are
    #[arg(long)]
    today: bool,
}

#[derive(Debug, Args)]
struct Options {
    /// Directory that tables, queues and the lake are kept in
    #[arg(long, value_name = "DIR", default_value = ".cascade")]
    data: PathBuf,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

/// Does what was asked of the lake.
///
/// # Errors
/// If there is no lake, or it cannot be read or written.
pub async fn lake(args: LakeArgs) -> Result<(), CommandError> {
    match args.command {
        Command::Status(options) => status(&options).await,
        Command::Compact(options) => compact(&options).await,
        Command::Rebuild(options) => rebuild(&options).await,
    }
}

/// The lake under a data directory that there has been a run on.
fn open(options: &Options) -> Result<Lake, CommandError> {
    if !options.data.join(DIRECTORY).is_dir() {
        return Err(CommandError::Service {
            action: format!("find a lake in {}", options.data.display()),
            reason: "nothing has been carried into one yet; `cargo run` does, and --data chooses another directory"
                .to_owned(),
        });
    }
    Ok(feed::open_lake(&options.data)?.1)
}

async fn status(options: &Options) -> Result<(), CommandError> {
    let lake = open(options)?;
    let mut logs = Vec::new();
    for log in Log::ALL {
        let status = lake.status(log).await.map_err(FeedError::from)?;
        logs.push((log, status));
    }
    let place = options.data.join(DIRECTORY).display().to_string();
    let (aside, put_aside) = feed::put_aside(&options.data)?;
    if options.json {
        let logs: Vec<_> = logs.iter().map(|(log, status)| LogLine::of(*log, status)).collect();
        let status = json!({ "lake": place, "logs": logs, "put_aside": put_aside });
        say(format_args!("{status:#}"))
    } else {
        say(Report {
            place,
            logs,
            aside: aside.display().to_string(),
            put_aside,
        })
    }
}

async fn compact(CompactOptions { options, today }: &CompactOptions) -> Result<(), CommandError> {
    let counts = feed::compact(&open(options)?, *today).await?;
    if options.json {
        return say(format_args!("{:#}", json!(counts)));
    }
    let Counts {
        compacted_files,
        files,
        rows,
        bytes,
        deleted_files,
        ..
    } = counts;
    if compacted_files == 0 {
        say("There are no small files that are worth putting together.")?;
    } else {
        say(format_args!(
            "{} files became {} of {} rows and {}; they stay for an hour, for whoever is reading them.",
            grouped(compacted_files),
            grouped(files),
            grouped(rows),
            DecimalBytes(bytes)
        ))?;
    }
    if deleted_files > 0 {
        say(format_args!(
            "{} files that had been replaced before are deleted.",
            grouped(deleted_files)
        ))?;
    }
    Ok(())
}

async fn rebuild(options: &Options) -> Result<(), CommandError> {
    let place = Place::open(&PlaceArgs::here(options.data.clone())).await?;
    let rebuilt = rebuild_at(&place, &options.data).await;
    place.close().await?;
    let rebuilt = rebuilt?;
    if options.json {
        return say(format_args!("{:#}", json!(rebuilt)));
    }
    let rows: u64 = rebuilt.values().map(|counts| counts.rows).sum();
    let refused: u64 = rebuilt.values().map(|counts| counts.refused).sum();
    if refused > 0 {
        say(format_args!(
            "Items of the tables that are not understood, and are left out: {}. The log says which and why.",
            grouped(refused)
        ))?;
    } else if rows == 0 {
        return say("The lake has everything that the tables hold.");
    }
    for (log, counts) in rebuilt.iter().filter(|(_, counts)| counts.rows > 0) {
        say(format_args!(
            "{log}: {} rows taken from the table",
            grouped(counts.rows)
        ))?;
    }
    Ok(())
}

async fn rebuild_at(place: &Place, data: &Path) -> Result<Rebuilt, CommandError> {
    let Some(cloud) = place.own_cloud() else {
        // Whoever carries the streams writes down how far; two would contradict each other.
        return Err(CommandError::Service {
            action: "mend the lake".to_owned(),
            reason: format!("{} is in use by another process; end that one first", data.display()),
        });
    };
    // What another version of this command left may lack something.
    cloud.provision(ENVIRONMENT).await?;
    let state = DynamoState::new(&place.config, format!("{}-{ENVIRONMENT}", feed::STATE_TABLE));
    let feed = Feed::open(&place.config, ENVIRONMENT, data, Some(Arc::new(state)))?;
    Ok(feed.rebuild().await?)
}

#[derive(Serialize)]
struct LogLine {
    log: &'static str,
    changes: u64,
    files: u64,
    bytes: u64,
    replaced_files: u64,
    newest_change: Option<String>,
}

impl LogLine {
    fn of(log: Log, status: &LogStatus) -> Self {
        Self {
            log: log.name(),
            changes: status.changes,
            files: status.files,
            bytes: status.bytes,
            replaced_files: status.replaced_files,
            newest_change: status.newest_change.and_then(time_of).map(last_modified),
        }
    }
}

struct Report {
    place: String,
    logs: Vec<(Log, LogStatus)>,
    /// Where records are that were not understood.
    aside: String,
    put_aside: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(["", "changes", "files", "bytes", "newest change"]);
        for (log, status) in &self.logs {
            let line = LogLine::of(*log, status);
            table.add_row([
                line.log.to_owned(),
                grouped(line.changes),
                grouped(line.files),
                DecimalBytes(line.bytes).to_string(),
                line.newest_change.unwrap_or_default(),
            ]);
        }
        table
            .column_iter_mut()
            .skip(1)
            .take(3)
            .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        writeln!(f, "The lake in {}\n\n{table}", self.place)?;
        let replaced: u64 = self.logs.iter().map(|(_, status)| status.replaced_files).sum();
        if replaced > 0 {
            write!(
                f,
                "\n{} files more have been replaced, and are deleted by a compaction an hour later.",
                grouped(replaced)
            )?;
        }
        if self.put_aside > 0 {
            write!(
                f,
                "\nRecords that were not understood, and are not in the lake: {}. They are in {}; the log of the run that met them \
                 says why. Once that is mended, `cascade lake rebuild` takes from the tables what they hold now, and the files can \
                 be deleted.",
                grouped(self.put_aside),
                self.aside
            )?;
        }
        Ok(())
    }
}
