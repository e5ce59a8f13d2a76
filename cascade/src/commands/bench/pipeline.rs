//! `cascade bench pipeline`: what a load costs.

use std::fmt;

use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde_json::json;

use super::progress::Progress;
use crate::bench::Readings;
use crate::bench::pipeline::{self, Pass, SizeReport};
use crate::commands::CommandError;
use crate::commands::output::say;
use crate::commands::report::grouped;
use crate::pipeline::Stage;
use crate::state::DEFAULT_SEED;

/// A first load, a run in which nothing has changed and one in which 1 % of the sales has: requests, request units, time,
/// processor and memory
///
/// One process of each function, and new ones for each pass; no quota; all sales are looked at in every pass
/// (SALES_LOOKBACK_HOURS=0). Ends with status 1 if anything else was written than what had changed.
#[derive(Debug, Args)]
pub(super) struct PipelineArgs {
    /// How many sales there are; the numbers that 13 equal branches can have which are nearest to these
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1000,10000,100000")]
    sales: Vec<usize>,
    /// What the world is made from
    #[arg(long, value_name = "N", default_value_t = DEFAULT_SEED)]
    seed: u64,
    /// Have a vendor that knows no ETag, and so sends every answer in full
    #[arg(long)]
    without_etags: bool,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// Measures, and answers whether exactly what had changed was written.
pub(super) async fn pipeline(args: PipelineArgs) -> Result<bool, CommandError> {
    let mut reports = Vec::new();
    for sales in args.sales {
        let mut progress = Progress::new(args.json);
        let report = pipeline::measure(sales, args.seed, !args.without_etags, |pass, sight| {
            progress.show(&format!("{sales} sales, {pass}"), sight);
        })
        .await?;
        drop(progress);
        if !args.json {
            say(format_args!("{}\n", Shown(&report)))?;
        }
        reports.push(report);
    }
    let is_right = reports
        .iter()
        .flat_map(|report| &report.passes)
        .all(|pass| pass.is_right);
    if args.json {
        say(format_args!("{:#}", json!({"is_right": is_right, "sizes": reports})))?;
    } else if is_right {
        say("In every pass exactly what had changed was written.")?;
    } else {
        say("Not right: see the passes that did not write exactly what had changed.")?;
    }
    Ok(is_right)
}

struct Shown<'a>(&'a SizeReport);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(report) = self;
        writeln!(
            f,
            "{} sales of {} salespersons at {} branches\n",
            grouped(report.sales as u64),
            grouped(report.salespersons as u64),
            report.branches
        )?;
        writeln!(f, "{}\n", self.totals())?;
        writeln!(f, "{}", self.each())?;
        let mut errors = report.passes.iter().flat_map(|pass| &pass.errors);
        errors.try_for_each(|error| writeln!(f, "  {error}"))
    }
}

impl Shown<'_> {
    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(NOTHING);
        let names = self.0.passes.iter().map(|pass| pass.name.to_owned());
        table.set_header(std::iter::once(String::new()).chain(names));
        table
    }

    fn totals(&self) -> Table {
        let mut table = self.table();
        let mut row = |what: &str, value: &dyn Fn(&Pass) -> String| {
            let values = self.0.passes.iter().map(value);
            table.add_row(std::iter::once(format!(" {what}")).chain(values));
        };
        row("rows written", &|pass| {
            grouped(pass.counts.inserted + pass.counts.updated)
        });
        row("vendor: requests", &|pass| grouped(pass.vendor.requests as u64));
        row("  answered 304", &|pass| grouped(pass.vendor.answered_304 as u64));
        row("  from it", &|pass| bytes(pass.vendor.bytes_out as u64));
        row("SQS: requests", &|pass| grouped(pass.sqs.used.requests));
        row("  to it", &|pass| bytes(pass.sqs.used.bytes_in));
        row("  from it", &|pass| bytes(pass.sqs.used.bytes_out));
        row("record tables: requests", &|pass| grouped(pass.records().used.requests));
        row("  read units", &|pass| units(pass.records().used.read_units));
        row("  write units", &|pass| units(pass.records().used.write_units));
        row("  to them", &|pass| bytes(pass.records().used.bytes_in));
        row("  from them", &|pass| bytes(pass.records().used.bytes_out));
        for operation in self.operations() {
            row(&format!("  {operation}"), &|pass| {
                let requests = pass.records().by_operation.get(&operation).copied();
                grouped(requests.unwrap_or_default())
            });
        }
        row("state table: requests", &|pass| grouped(pass.state.used.requests));
        row("  read units", &|pass| units(pass.state.used.read_units));
        row("  write units", &|pass| units(pass.state.used.write_units));
        row("time", &|pass| format!("{:.2} s", pass.wall_seconds));
        row("processor", &|pass| {
            known(pass.cpu_seconds(), |seconds| format!("{seconds:.2} s"))
        });
        for stage in Stage::ALL {
            row(&format!("  {}", stage.name()), &|pass| {
                known(readings(pass, stage), |readings| {
                    format!("{:.2} s", readings.cpu_seconds)
                })
            });
        }
        for stage in Stage::ALL {
            row(&format!("peak memory of {}", stage.name()), &|pass| {
                known(readings(pass, stage), |readings| bytes(readings.peak_rss_bytes))
            });
        }
        row("exactly what changed", &|pass| {
            if pass.is_right { "yes" } else { "NO" }.to_owned()
        });
        align(&mut table);
        table
    }

    fn operations(&self) -> Vec<String> {
        let mut operations: Vec<_> = self
            .0
            .passes
            .iter()
            .flat_map(|pass| pass.records().by_operation.into_keys())
            .collect();
        operations.sort_unstable();
        operations.dedup();
        operations
    }

    /// What one sale and one salesperson come to.
    fn each(&self) -> Table {
        let mut table = self.table();
        let (sales, people) = (self.0.sales as f64, self.0.salespersons as f64);
        let mut row = |what: &str, value: &dyn Fn(&Pass) -> Option<f64>| {
            let values = self
                .0
                .passes
                .iter()
                .map(|pass| known(value(pass), |value| format!("{value:.3}")));
            table.add_row(std::iter::once(format!(" {what}")).chain(values));
        };
        let of = |pass: &Pass, entity: &str| pass.tables.get(entity).cloned().unwrap_or_default().used;
        row("a sale: read units", &|pass| Some(of(pass, "sale").read_units / sales));
        row("a changed sale: write units", &|pass| {
            let changed = pass.changed_sales as f64;
            (changed > 0.0).then(|| of(pass, "sale").write_units / changed)
        });
        row("an unchanged sale: write units", &|pass| {
            (pass.changed_sales == 0).then(|| of(pass, "sale").write_units / sales)
        });
        row("a salesperson: read units", &|pass| {
            Some(of(pass, "salesperson").read_units / people)
        });
        row("  write units", &|pass| {
            Some(of(pass, "salesperson").write_units / people)
        });
        row("  state read units", &|pass| Some(pass.state.used.read_units / people));
        row("  state write units", &|pass| {
            Some(pass.state.used.write_units / people)
        });
        row("  SQS requests", &|pass| Some(pass.sqs.used.requests as f64 / people));
        row("processor, ms for 1,000 sales", &|pass| {
            pass.cpu_seconds().map(|seconds| seconds * 1_000_000.0 / sales)
        });
        align(&mut table);
        table
    }
}

fn readings(pass: &Pass, stage: Stage) -> Option<Readings> {
    pass.functions.get(stage.name()).copied().flatten()
}

fn known<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

fn units(units: f64) -> String {
    // Halves come of reads that are not strongly consistent.
    let half = if units.fract() > 0.0 { ".5" } else { "" };
    format!("{}{half}", grouped(units as u64))
}

fn bytes(bytes: u64) -> String {
    format!("{:.2} MB", bytes as f64 / 1e6)
}

fn align(table: &mut Table) {
    table
        .column_iter_mut()
        .skip(1)
        .for_each(|column| column.set_cell_alignment(CellAlignment::Right));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_keep_their_halves() {
        assert_eq!([0.0, 1234.5, 7.0].map(units), ["0", "1,234.5", "7"]);
    }
}
