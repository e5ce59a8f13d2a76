//! `cascade bench quota`: nine processes and one quota.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;

use clap::Args;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};

use super::progress::Progress;
use crate::bench::quota::{self, HIDDEN_FOR, LEAST_REQUESTS, QuotaOptions, QuotaReport, SHORT_POLL_WINDOW};
use crate::commands::CommandError;
use crate::commands::output::say;
use crate::state::DEFAULT_SEED;

/// One run by one branch, five salesperson and three sale collectors at once: do they keep to the quota together?
///
/// Judged by the times at which requests reach the vendor. Ends with status 1 if any was over the quota, or if not
/// everything was done.
#[derive(Debug, Args)]
pub(super) struct QuotaArgs {
    /// How many requests the run is to take; at least 26, for 13 branches without a salesperson
    #[arg(long, value_name = "N", default_value = "130", value_parser = parse_requests)]
    requests: usize,
    /// How many of them the vendor allows in any 60 seconds
    #[arg(long, value_name = "N", default_value = "50", value_parser = parse_quota)]
    quota: NonZeroUsize,
    /// Kill a random one of the processes that poll every few seconds, and start it anew. Messages then come back after 30 s
    /// in place of 900, and a poll takes new ones for 20 s in place of 50
    #[arg(long)]
    kill: bool,
    /// Leave STATE_DB unset, so that each process paces itself
    #[arg(long)]
    without_state: bool,
    /// What the world, and who is killed when, is drawn from
    #[arg(long, value_name = "N", default_value_t = DEFAULT_SEED)]
    seed: u64,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
}

fn parse_quota(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| "expected a whole number from 1".to_owned())
}

fn parse_requests(text: &str) -> Result<usize, String> {
    let requests = text.parse().ok().filter(|requests| *requests >= LEAST_REQUESTS);
    requests.ok_or_else(|| format!("expected a whole number from {LEAST_REQUESTS}"))
}

/// Measures, and answers whether the quota was kept and everything done.
pub(super) async fn quota(args: QuotaArgs) -> Result<bool, CommandError> {
    let options = QuotaOptions {
        requests: args.requests,
        quota: args.quota,
        kill: args.kill,
        has_state: !args.without_state,
        seed: args.seed,
    };
    if !args.json {
        eprintln!(
            "One run of {} requests by nine processes; the vendor allows {} in any 60 s.",
            args.requests, args.quota
        );
        if args.kill {
            eprintln!(
                "Processes are killed on the way: messages come back after {} s (900 on AWS), and polls take new ones for {} s.",
                HIDDEN_FOR.as_secs(),
                SHORT_POLL_WINDOW.as_secs()
            );
        }
    }
    let mut progress = Progress::new(args.json);
    let report = quota::measure(options, |sight| progress.show("quota", sight)).await?;
    drop(progress);
    if args.json {
        let mut json = serde_json::json!(report);
        json["is_good"] = report.is_good().into();
        say(format_args!("{json:#}"))?;
    } else {
        say(Shown(&report))?;
    }
    Ok(report.is_good())
}

struct Shown<'a>(&'a QuotaReport);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(report) = self;
        let verdict = &report.verdict;
        let mut table = Table::new();
        table.load_style(NOTHING);
        let mut row = |what: &str, value: String, remark: String| {
            table.add_row([what.to_owned(), value, remark]);
        };
        row(
            "requests",
            verdict.requests.to_string(),
            format!("{} of {} answered", report.answered, report.expected),
        );
        row(
            "over quota",
            verdict.over_quota.to_string(),
            format!("more than {} in the 60 s up to their arrival", report.quota),
        );
        row("answered 429", verdict.answered_429.to_string(), String::new());
        row(
            "most in any 60 s",
            verdict.busiest_minute.to_string(),
            format!("{} allowed", report.quota),
        );
        row(
            "first to last",
            format!("{:.1} s", verdict.seconds),
            match verdict.ratio {
                Some(ratio) => format!("{ratio:.3} of the least possible, {:.0} s", verdict.least_seconds),
                None => "the quota allows all at once".to_owned(),
            },
        );
        row(
            "until all was done",
            format!("{:.1} s", report.wall_seconds),
            String::new(),
        );
        if report.kills > 0 {
            row("processes killed", report.kills.to_string(), String::new());
        }
        row("dead letters", report.dead_letters.to_string(), String::new());
        let state = if report.has_state {
            self.each_request(&report.state_table)
        } else {
            "not used".to_owned()
        };
        row("state table", sum(&report.state_table), state);
        row("SQS", sum(&report.sqs), self.each_request(&report.sqs));
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        writeln!(f, "{table}\n")?;
        if report.is_good() {
            return write!(f, "Good: everything was done, and no request was over the quota.");
        }
        let mut bad = Vec::new();
        if verdict.over_quota > 0 {
            bad.push(format!("{} requests were over the quota", verdict.over_quota));
        }
        if !report.is_done() {
            bad.push("not everything was done as it should be".to_owned());
        }
        write!(f, "Not good: {}.", bad.join(", and "))?;
        report.errors.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl Shown<'_> {
    /// Requests to a service for one to the vendor.
    fn each_request(&self, by_operation: &BTreeMap<String, u64>) -> String {
        if by_operation.is_empty() {
            return "nothing was asked of it".to_owned();
        }
        let requests = self.0.verdict.requests.max(1) as f64;
        let each = by_operation
            .iter()
            .map(|(operation, number)| format!("{:.2} {operation}", *number as f64 / requests));
        format!("for one to the vendor: {}", each.collect::<Vec<_>>().join(", "))
    }
}

fn sum(by_operation: &BTreeMap<String, u64>) -> String {
    by_operation.values().sum::<u64>().to_string()
}
