//! What people and programs are told of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use serde_json::{Value, json};
use time::UtcDateTime;
use time::format_description::well_known::Rfc3339;

use super::Kind;
use super::entries::{BranchAccount, Numbers, Rows, RunAccount, State};
use crate::id::Id;
use crate::run::RunId;
use crate::topic::Notice;

/// How many of the missing pieces a report names; it counts them all.
const MOST_NAMED: usize = 50;

/// Why a piece is missing that nobody will come back to.
const SUPERSEDED: &str = "a later run has taken it over";

/// The longest subject that SNS takes.
const LONGEST_SUBJECT: usize = 100;

/// A piece that a run lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// What it is: `branch` or `salesperson`.
    pub what: &'static str,
    /// The branch's name, where its id is not known yet.
    pub branch_name: Option<String>,
    /// The branch's id.
    pub branch_id: Option<String>,
    /// The salesperson's id.
    pub employee_id: Option<String>,
    /// Why, as far as the account says; `None`: it is under way, or was lost sight of.
    pub why: Option<String>,
}

/// A run's report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The environment.
    pub environment: String,
    /// The run.
    pub run_id: RunId,
    /// What began it.
    pub kind: Option<Kind>,
    /// How far it is.
    pub extent: State,
    /// Its first and last moments.
    pub moments: Option<(UtcDateTime, UtcDateTime)>,
    /// Its branches' ids.
    pub branch_ids: BTreeSet<String>,
    /// How many branches are complete, and how many there are; of those without an answer yet, by name.
    pub branches: (usize, usize),
    /// How many salespersons are collected, and how many are known.
    pub salespersons: (usize, usize),
    /// What was done in all.
    pub numbers: Numbers,
    /// Requests sent to the vendor.
    pub requests: u64,
    /// Records that cannot be stored.
    pub rejected: u64,
    /// The quota, in requests a minute, where it is known.
    pub requests_per_minute: Option<u32>,
    /// All that is missing.
    pub missing: Vec<Missing>,
}

impl Report {
    /// The report of a run, from its account and those of its branches.
    pub fn new(
        environment: &str,
        run_id: RunId,
        requests_per_minute: Option<u32>,
        run: &RunAccount,
        branches: &BTreeMap<Id, BranchAccount>,
    ) -> Self {
        let mut numbers = run.numbers;
        branches.values().for_each(|branch| numbers += branch.numbers);
        let unknown: Vec<_> = run.names_expected.difference(&run.names_finished).collect();
        let mut missing: Vec<_> = unknown
            .iter()
            .map(|name| Missing {
                what: "branch",
                branch_name: Some((*name).clone()),
                branch_id: None,
                employee_id: None,
                why: if run.names_superseded.contains(*name) {
                    Some(SUPERSEDED.to_owned())
                } else {
                    why(&run.reasons, name)
                },
            })
            .collect();
        let mut salespersons = (0, 0);
        let mut complete = 0;
        for (id, branch) in branches {
            complete += usize::from(branch.state() == State::Complete);
            let open = branch.open();
            let known = branch.salespersons_expected.union(&branch.first_loads_expected).count();
            salespersons.0 += known - open.len();
            salespersons.1 += known;
            if !branch.is_known() {
                missing.push(Missing {
                    what: "branch",
                    branch_name: None,
                    branch_id: Some(id.as_str().to_owned()),
                    employee_id: None,
                    why: match branch.superseded_at {
                        Some(_) => Some(SUPERSEDED.to_owned()),
                        None => why(&branch.reasons, id.as_str()),
                    },
                });
            }
            missing.extend(branch.open().into_iter().map(|employee_id| Missing {
                what: "salesperson",
                branch_name: None,
                branch_id: Some(id.as_str().to_owned()),
                employee_id: Some(employee_id.clone()),
                why: why(&branch.reasons, employee_id),
            }));
        }
        let last = branches.values().filter_map(|branch| branch.last_at.as_deref());
        let last = last.chain(run.last_at.as_deref()).max();
        let first = branches.values().filter_map(|branch| branch.first_at.as_deref());
        let first = first.chain(run.first_at.as_deref()).min();
        Self {
            environment: environment.to_owned(),
            run_id,
            kind: run.kind,
            extent: run.state(),
            moments: first.and_then(moment).zip(last.and_then(moment)),
            branch_ids: run.branches_expected.clone(),
            branches: (complete, branches.len() + unknown.len()),
            salespersons,
            numbers,
            requests: numbers.api_calls,
            rejected: numbers.rejected,
            requests_per_minute,
            missing,
        }
    }

    /// Whether all of the run is done.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// `complete` or `incomplete`.
    pub fn state_name(&self) -> &'static str {
        if self.is_complete() { "complete" } else { "incomplete" }
    }

    fn seconds(&self) -> f64 {
        self.moments
            .map_or(0.0, |(first, last)| (last - first).as_seconds_f64())
    }

    /// How much of what the quota allowed in the run's time was used, in percent.
    fn quota_percent(&self) -> Option<f64> {
        // A run shorter than the vendor's window has the whole window's quota.
        let minutes = (self.seconds() / 60.0).max(1.0);
        let allowed = minutes * f64::from(self.requests_per_minute?);
        Some(100.0 * self.requests as f64 / allowed)
    }

    /// What somebody who reads this should do next.
    fn next_step(&self) -> String {
        let environment = &self.environment;
        if self.numbers.dead_lettered > 0 && !self.is_complete() {
            format!(
                "See why with `cascade dlq list --aws --environment {environment}`, mend it, and send the letters again \
                 with `cascade dlq redrive --aws --environment {environment} --yes`."
            )
        } else if !self.is_complete() {
            format!(
                "What is missing may still wait in its queue: `cascade status --aws --environment {environment}` counts it. \
                 If nothing waits or flows, `cascade doctor --aws --environment {environment}` says what is wrong."
            )
        } else if self.numbers.held_back > 0 {
            "Records have vanished at the vendor, by more at once than are believed to be deleted: the logs name them \
             (message \"deletions held back …\"). If they are deleted, call the collector with \"accept_deletions\": true."
                .to_owned()
        } else if self.rejected > 0 {
            format!(
                "See which records, and why, with `cascade rejected --aws --environment {environment}`, and have them mended \
                 at the vendor. They are tried again with the next run, before newer data."
            )
        } else {
            "Nothing.".to_owned()
        }
    }

    /// The report as a notice.
    pub fn notice(&self) -> Notice {
        let subject = format!(
            "Cascade {}: run {} {}",
            self.environment,
            self.run_id,
            self.state_name()
        );
        let printable = subject.chars().filter(|char| matches!(char, ' '..='~'));
        Notice {
            subject: printable.take(LONGEST_SUBJECT).collect(),
            text: self.text(),
            body: self.json(),
        }
    }

    fn rows(&self) -> impl Iterator<Item = (&'static str, Rows)> {
        ["branches", "salespersons", "sales"].into_iter().zip(self.numbers.rows)
    }

    fn json(&self) -> Value {
        let rows: serde_json::Map<_, _> = self
            .rows()
            .map(|(kind, rows)| {
                let rows = json!({
                    "inserted": rows.inserted,
                    "updated": rows.updated,
                    "unchanged": rows.unchanged,
                    "skipped": rows.skipped,
                    "deleted": rows.deleted,
                });
                (kind.to_owned(), rows)
            })
            .collect();
        let missing = self.missing.iter().take(MOST_NAMED).map(|missing| {
            let parts = [
                ("what", Some(missing.what.to_owned())),
                ("branch_name", missing.branch_name.clone()),
                ("branch_id", missing.branch_id.clone()),
                ("employee_id", missing.employee_id.clone()),
                ("why", missing.why.clone()),
            ];
            let parts = parts
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
            Value::Object(parts.collect())
        });
        json!({
            "environment": self.environment,
            "run_id": self.run_id,
            "kind": self.kind,
            "state": self.state_name(),
            "first_at": self.moments.map(|(first, _)| crate::run::last_modified(first)),
            "last_at": self.moments.map(|(_, last)| crate::run::last_modified(last)),
            "seconds": self.seconds(),
            "branches": {"complete": self.branches.0, "expected": self.branches.1},
            "salespersons": {"collected": self.salespersons.0, "expected": self.salespersons.1},
            "rows": rows,
            "rejected": self.rejected,
            "dead_lettered": self.numbers.dead_lettered,
            "held_back": self.numbers.held_back,
            "requests": self.requests,
            "throttled": self.numbers.api_throttles,
            "requests_per_minute": self.requests_per_minute,
            "quota_used_percent": self.quota_percent().map(|percent| (percent * 10.0).round() / 10.0),
            "missing": self.missing.len(),
            "missing_first": missing.collect::<Vec<_>>(),
            "next_step": self.next_step(),
        })
    }

    /// The report for people.
    pub fn text(&self) -> String {
        let mut text = format!(
            "Run {} of {} is {}.\n\n",
            self.run_id,
            self.environment,
            self.state_name()
        );
        let mut line = |line: std::fmt::Arguments<'_>| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{line}");
        };
        let (branches, salespersons) = (self.branches, self.salespersons);
        line(format_args!("Branches      {} of {} complete", branches.0, branches.1));
        line(format_args!(
            "Salespersons  {} of {} collected",
            salespersons.0, salespersons.1
        ));
        let quota = match (self.quota_percent(), self.requests_per_minute) {
            (Some(percent), Some(quota)) => format!(", {percent:.0} % of the quota of {quota} a minute"),
            _ => String::new(),
        };
        line(format_args!(
            "Requests      {} ({} answered 429){quota}",
            self.requests, self.numbers.api_throttles
        ));
        line(format_args!("Time          {:.0} s", self.seconds()));
        line(format_args!("Rejected      {}", self.rejected));
        line(format_args!("Dead letters  {}", self.numbers.dead_lettered));
        if self.numbers.held_back > 0 {
            line(format_args!("Held back     {}", self.numbers.held_back));
        }
        line(format_args!(
            "\n{:<13}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "Rows", "inserted", "updated", "unchanged", "skipped", "deleted"
        ));
        for (kind, rows) in self.rows() {
            line(format_args!(
                "{kind:<13}{:>10}{:>10}{:>10}{:>10}{:>10}",
                rows.inserted, rows.updated, rows.unchanged, rows.skipped, rows.deleted
            ));
        }
        if !self.missing.is_empty() {
            line(format_args!("\nMissing ({}):", self.missing.len()));
            for missing in self.missing.iter().take(MOST_NAMED) {
                line(format_args!("- {missing}"));
            }
            let more = self.missing.len().saturating_sub(MOST_NAMED);
            if more > 0 {
                line(format_args!("- and {more} more"));
            }
        }
        line(format_args!("\nWhat to do: {}", self.next_step()));
        text
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.branch_name, &self.branch_id, &self.employee_id) {
            (_, Some(branch_id), Some(employee_id)) => write!(f, "salesperson {employee_id} of branch {branch_id}")?,
            (_, Some(branch_id), None) => write!(f, "branch {branch_id}")?,
            (name, ..) => write!(f, "branch {}", name.as_deref().unwrap_or_default())?,
        }
        match &self.why {
            Some(why) => write!(f, ": {why}"),
            None => f.write_str(": no word of it yet"),
        }
    }
}

/// The reason that an account gives for an id or a name.
fn why(reasons: &BTreeSet<String>, id: &str) -> Option<String> {
    reasons
        .iter()
        .find_map(|reason| reason.strip_prefix(id)?.strip_prefix(": "))
        .map(str::to_owned)
}

fn moment(text: &str) -> Option<UtcDateTime> {
    time::OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_utc()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Entry;

    fn account(body: Value) -> Entry {
        Entry::after(None, &body, None).unwrap()
    }

    fn report(run: Value, branches: &[(&str, Value)]) -> Report {
        let run_id = RunId::parse("2026-11-21T01:00:00Z").unwrap();
        let run = RunAccount::read(&account(run)).unwrap();
        let branches = branches.iter().map(|(id, body)| {
            let account = BranchAccount::read(&account(body.clone())).unwrap();
            (Id::new((*id).to_owned()).unwrap(), account)
        });
        Report::new("prod", run_id, Some(50), &run, &branches.collect())
    }

    fn complete() -> Report {
        report(
            json!({"kind": "schedule", "names_expected": ["Akron"], "names_finished": ["Akron"],
                "branches_expected": ["2"], "branches_finished": ["2"], "api_calls": 1, "branches_inserted": 1,
                "first_at": "2026-11-21T01:00:01.000Z", "last_at": "2026-11-21T01:00:02.000Z"}),
            &[(
                "2",
                json!({"listed_at": "t", "salespersons_expected": ["7"], "salespersons_finished": ["7"],
                    "api_calls": 2, "salespersons_updated": 1, "sales_inserted": 40, "sales_skipped": 2,
                    "first_at": "2026-11-21T01:00:02.000Z", "last_at": "2026-11-21T01:02:01.000Z"}),
            )],
        )
    }

    #[test]
    fn a_complete_run_is_told_with_what_was_done() {
        let notice = complete().notice();
        assert_eq!(notice.subject, "Cascade prod: run 2026-11-21T01:00:00Z complete");
        assert_eq!(
            notice.text,
            "Run 2026-11-21T01:00:00Z of prod is complete.

Branches      1 of 1 complete
Salespersons  1 of 1 collected
Requests      3 (0 answered 429), 3 % of the quota of 50 a minute
Time          120 s
Rejected      0
Dead letters  0

Rows           inserted   updated unchanged   skipped   deleted
branches              1         0         0         0         0
salespersons          0         1         0         0         0
sales                40         0         0         2         0

What to do: Nothing.
"
        );
        let body = notice.body;
        assert_eq!((&body["state"], &body["seconds"]), (&json!("complete"), &json!(120.0)));
        assert_eq!(body["rows"]["sales"]["inserted"], 40);
        assert_eq!((&body["requests"], &body["missing"]), (&json!(3), &json!(0)));
    }

    #[test]
    fn an_incomplete_run_says_what_is_missing_and_why() {
        let report = report(
            json!({"kind": "schedule", "names_expected": ["Akron", "Utica", "Albany"], "names_finished": ["Akron"],
                "names_superseded": ["Albany"], "branches_expected": ["2", "3"],
                "reasons": ["Utica: the vendor answers 503"]}),
            &[
                (
                    "2",
                    json!({"listed_at": "t", "salespersons_expected": ["7", "8"], "salespersons_finished": ["8"],
                        "salespersons_dead": ["7"], "dead_lettered": 1, "reasons": ["7: the vendor answers 404"]}),
                ),
                ("3", json!({})),
            ],
        );
        let missing: Vec<_> = report.missing.iter().map(ToString::to_string).collect();
        assert_eq!(
            missing,
            [
                "branch Albany: a later run has taken it over",
                "branch Utica: the vendor answers 503",
                "salesperson 7 of branch 2: the vendor answers 404",
                "branch 3: no word of it yet",
            ]
        );
        assert_eq!((report.branches, report.salespersons), ((0, 4), (1, 2)));
        let notice = report.notice();
        assert!(notice.subject.ends_with("incomplete"), "{}", notice.subject);
        assert!(notice.text.contains("Missing (4):\n- branch Albany"), "{}", notice.text);
        assert!(
            notice.text.contains("cascade dlq redrive --aws --environment prod"),
            "{}",
            notice.text
        );
        assert_eq!(notice.body["missing_first"][2]["employee_id"], "7");
        assert_eq!(notice.body["missing_first"][2]["why"], "the vendor answers 404");
    }

    #[test]
    fn a_report_names_only_so_many_of_the_missing_and_counts_all() {
        let ids: Vec<_> = (1000..1200).map(|id| id.to_string()).collect();
        let report = report(
            json!({}),
            &[("2", json!({"listed_at": "t", "salespersons_expected": ids}))],
        );
        let notice = report.notice();
        assert_eq!(notice.body["missing"], 200);
        assert_eq!(notice.body["missing_first"].as_array().unwrap().len(), MOST_NAMED);
        assert!(notice.text.contains("- and 150 more\n"), "{}", notice.text);
    }

    #[test]
    fn a_subject_is_as_sns_takes_it() {
        let mut report = complete();
        report.environment = "ü\n".repeat(80);
        let subject = report.notice().subject;
        assert!(subject.len() <= LONGEST_SUBJECT && subject.chars().all(|char| matches!(char, ' '..='~')));
    }
}
