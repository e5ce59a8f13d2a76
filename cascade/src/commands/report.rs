//! What a run came to, as a table and a few sentences.

use std::fmt;
use std::num::NonZeroU32;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use indicatif::DecimalBytes;
use lake::counts::Counts;
use serde::{Serialize, Serializer};

use crate::cloud::Usage;
use crate::feed::Carried;
use crate::pipeline::{RunOutcome, Stage};
use crate::vendor::{Changes, Stats};

/// What a run asked of the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Database {
    /// Requests that read rows, up to 100 each.
    read_requests: u64,
    /// Requests that wrote rows, up to 25 each.
    write_requests: u64,
    /// Read request units of the rows.
    read_units: f64,
    /// Write request units of the rows.
    write_units: f64,
    /// Requests to the state table.
    state_requests: u64,
}

impl Database {
    /// What `usage` says of rows, and of the table in which the state is kept.
    pub(super) fn of(usage: &Usage, state_table: &str) -> Self {
        let of_rows = |operations: [&str; 4]| {
            usage.of(|asked| {
                asked.service == "DynamoDB"
                    && asked.resource != state_table
                    && operations.contains(&asked.operation.as_str())
            })
        };
        let read = of_rows(["BatchGetItem", "GetItem", "Query", "Scan"]);
        let written = of_rows(["BatchExecuteStatement", "PutItem", "UpdateItem", "DeleteItem"]);
        Self {
            read_requests: read.requests,
            write_requests: written.requests,
            read_units: read.read_units,
            write_units: written.write_units,
            state_requests: usage.of(|asked| asked.resource == state_table).requests,
        }
    }
}

/// What a run came to, from every side.
#[derive(Debug, Serialize)]
pub(super) struct RunReport {
    /// Whether it was the first on these tables.
    pub(super) first: bool,
    /// Whether every row was compared, whatever was known of it.
    pub(super) verified: bool,
    pub(super) outcome: RunOutcome,
    /// The fewest requests that it can be done with.
    pub(super) least_requests: u64,
    pub(super) quota: NonZeroU32,
    /// What the simulated vendor saw.
    pub(super) vendor: Option<Stats>,
    /// What changed in the simulated world since the run before.
    pub(super) changes: Option<Changes>,
    pub(super) database: Database,
    /// What was carried into the lake, or why not all of it was.
    #[serde(serialize_with = "serialize_lake")]
    pub(super) lake: Result<Carried, String>,
    /// Where the log lines are.
    pub(super) log: String,
    /// Whether the user ended it.
    pub(super) interrupted: bool,
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = &self.outcome;
        let total = outcome.total();
        let kind = match (self.verified, self.first) {
            (true, _) => ", every row compared",
            (false, true) => ", the first load",
            (false, false) => "",
        };
        writeln!(f, "Run {}{kind}", outcome.run_id)?;
        if let Some(news) = self.changes.filter(|_| !self.first).and_then(describe_changes) {
            writeln!(f, "The vendor's clock has moved on since the last run: {news}.")?;
        }
        writeln!(f)?;
        writeln!(f, "{}", self.records())?;
        writeln!(f)?;

        let sent: u64 = outcome.stages.values().map(|counts| counts.enqueued).sum();
        let left: u64 = outcome.left.values().map(|depth| depth.all()).sum();
        let mut facts = Facts::default();
        facts.add(
            "messages",
            format!(
                "{} sent, {} done, {} dead-lettered, {} left in the queues",
                grouped(sent),
                grouped(total.done),
                grouped(outcome.new_dead_letters),
                grouped(left)
            ),
        );
        let retried = total.failed + total.deferred + total.handed_back;
        if retried > 0 {
            facts.add(
                "",
                format!(
                    "{} tries failed and came again, {} were deferred, {} were handed back",
                    total.failed, total.deferred, total.handed_back
                ),
            );
        }
        facts.add(
            "vendor",
            format!(
                "{} requests, {} is the least possible; {} answered 429",
                grouped(total.api_calls),
                grouped(self.least_requests),
                total.api_throttles
            ),
        );
        if let Some(vendor) = &self.vendor {
            facts.add(
                "",
                format!(
                    "{} in the busiest minute, {} allowed",
                    vendor.busiest_minute, self.quota
                ),
            );
            if !vendor.faults.is_empty() {
                let faults: Vec<_> = vendor
                    .faults
                    .iter()
                    .map(|(fault, count)| format!("{count} {fault}"))
                    .collect();
                facts.add("", format!("faults it was told to make: {}", faults.join(", ")));
            }
        }
        facts.add(
            "DynamoDB",
            format!(
                "{} rows written by {} requests, {} requests read rows",
                grouped(total.inserted + total.updated + total.deleted),
                grouped(self.database.write_requests),
                grouped(self.database.read_requests)
            ),
        );
        facts.add(
            "",
            format!(
                "{} write units and {} read units; {} requests for quota and progress",
                grouped(self.database.write_units.ceil() as u64),
                grouped(self.database.read_units.ceil() as u64),
                grouped(self.database.state_requests)
            ),
        );
        if let Ok(carried) = &self.lake {
            let Counts { rows, files, bytes, .. } = carried.counts;
            let files = if files == 1 {
                "1 file".to_owned()
            } else {
                format!("{} files", grouped(files))
            };
            facts.add(
                "lake",
                format!("{} rows in {files}, {}", grouped(rows), DecimalBytes(bytes)),
            );
        }
        let skipped = match outcome.skipped_seconds {
            0 => String::new(),
            seconds => format!(", and {seconds} s of waiting skipped on the simulated clock"),
        };
        facts.add("time", format!("{:.1} s{skipped}", outcome.seconds));
        write!(f, "{facts}")?;
        writeln!(f)?;
        self.verdict(f)
    }
}

impl RunReport {
    fn records(&self) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header(["", "inserted", "updated", "deleted", "unchanged", "skipped", "rejected"]);
        for stage in Stage::ALL {
            let counts = self.outcome.stage(stage);
            let row = [
                counts.inserted,
                counts.updated,
                counts.deleted,
                counts.unchanged,
                counts.skipped,
                counts.rejected,
            ]
            .map(grouped);
            table.add_row(std::iter::once(stage.name().to_owned()).chain(row));
        }
        table
            .column_iter_mut()
            .skip(1)
            .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        table
    }

    /// Whether every message is done, and the lake has what it came to.
    pub(super) fn is_complete(&self) -> bool {
        self.outcome.is_complete() && self.lake.is_ok()
    }

    /// Whether all is done, and if not, what is left and where to look.
    fn verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Lacking(&self.lake))?;
        let outcome = &self.outcome;
        let total = outcome.total();
        if outcome.is_complete() {
            if self.lake.is_err() {
                return writeln!(f, "Every message is done. The log says more: {}", self.log);
            }
            if total.unchanged > 0 {
                write!(f, "{} unchanged records cost no write. ", grouped(total.unchanged))?;
            }
            if total.rejected > 0 {
                write!(
                    f,
                    "{} records were rejected; {} says which and why. ",
                    total.rejected, self.log
                )?;
            }
            if total.held_back > 0 {
                write!(
                    f,
                    "{} records have vanished from answers that shrank too much to be believed; nothing was marked, and {} \
                     says which. ",
                    grouped(total.held_back),
                    self.log
                )?;
            }
            return writeln!(f, "Complete: every message is done.");
        }
        let why = if self.interrupted {
            "it was interrupted"
        } else {
            "not every message is done"
        };
        writeln!(f, "Incomplete: {why}.")?;
        for error in &outcome.errors {
            writeln!(f, "  {error}")?;
        }
        for (queue, depth) in outcome.left.iter().filter(|(_, depth)| depth.all() > 0) {
            writeln!(
                f,
                "  {} messages are left in {queue}; the next run takes them up.",
                depth.all()
            )?;
        }
        for (queue, letters) in outcome.dead_letters.iter().filter(|(_, letters)| **letters > 0) {
            writeln!(f, "  {letters} messages are in {queue}; each carries its reason.")?;
        }
        writeln!(f, "The log says more: {}", self.log)
    }
}

/// What the lake lacks, if anything.
struct Lacking<'a>(&'a Result<Carried, String>);

impl fmt::Display for Lacking<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let carried = match self.0 {
            Err(failure) => {
                return writeln!(
                    f,
                    "Incomplete: the lake is behind the tables, and the next run goes on from there: {failure}."
                );
            }
            Ok(carried) => carried,
        };
        if !carried.incomplete.is_empty() {
            writeln!(
                f,
                "The streams no longer had everything for the lake's {}: `cascade lake rebuild` takes the rows from the tables.",
                carried.incomplete.join(", ")
            )?;
        }
        if carried.counts.refused > 0 {
            writeln!(
                f,
                "Records of the streams that were not understood, and are not in the lake: {}; `cascade lake status` says where they \
                 are.",
                grouped(carried.counts.refused)
            )?;
        }
        Ok(())
    }
}

fn serialize_lake<S: Serializer>(lake: &Result<Carried, String>, serializer: S) -> Result<S::Ok, S::Error> {
    match lake {
        Ok(carried) => carried.serialize(serializer),
        Err(failure) => serializer.collect_map([("error", failure)]),
    }
}

/// Lines with a name before each.
#[derive(Default)]
struct Facts(Vec<(&'static str, String)>);

impl Facts {
    fn add(&mut self, name: &'static str, fact: String) {
        self.0.push((name, fact));
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .iter()
            .try_for_each(|(name, fact)| writeln!(f, " {name:<13} {fact}"))
    }
}

fn describe_changes(changes: Changes) -> Option<String> {
    let kinds = [
        (changes.new_sales, "new sales"),
        (changes.late_sales + changes.late_after_transfer, "sales published late"),
        (changes.corrected_sales, "sales corrected"),
        (changes.deleted_sales, "sales deleted"),
        (changes.hires, "hired"),
        (changes.transfers, "transferred"),
        (changes.departures, "left"),
    ];
    let news: Vec<_> = kinds
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, kind)| format!("{count} {kind}"))
        .collect();
    (!news.is_empty()).then(|| news.join(", "))
}

/// A number with its thousands apart.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits
        .as_bytes()
        .rchunks(3)
        .rev()
        .map(String::from_utf8_lossy)
        .collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_thousands_apart() {
        assert_eq!(
            [0, 999, 1000, 5_200_130].map(grouped),
            ["0", "999", "1,000", "5,200,130"]
        );
    }

    #[test]
    fn what_the_lake_lacks_is_told_and_what_is_put_aside_too() {
        let mut carried = Carried::default();
        assert_eq!(Lacking(&Ok(carried.clone())).to_string(), "");
        carried.counts.refused = 2;
        let aside = "Records of the streams that were not understood, and are not in the lake: 2; `cascade lake status` says where \
                     they are.\n";
        assert_eq!(Lacking(&Ok(carried.clone())).to_string(), aside);
        carried.incomplete = vec!["sales"];
        let both = Lacking(&Ok(carried)).to_string();
        assert!(
            both.starts_with("The streams no longer had everything for the lake's sales: ") && both.ends_with(aside)
        );
        let behind = Lacking(&Err("the disk is full".to_owned())).to_string();
        assert!(
            behind.starts_with("Incomplete: the lake is behind the tables") && behind.ends_with("the disk is full.\n")
        );
    }

    #[test]
    fn changes_name_only_what_happened() {
        let changes = Changes {
            new_sales: 3,
            transfers: 1,
            ..Changes::default()
        };
        assert_eq!(describe_changes(changes).unwrap(), "3 new sales, 1 transferred");
        assert_eq!(describe_changes(Changes::default()), None);
    }
}
