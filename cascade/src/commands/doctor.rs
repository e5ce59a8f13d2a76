//! `cascade doctor`: whether an environment can work, line by line and with the mend for each.

use std::fmt;
use std::num::NonZeroU32;

use clap::Args;
use serde_json::json;

use super::CommandError;
use super::output::say;
use super::place::{Place, PlaceArgs, Where};
use super::session::{ENVIRONMENT, parse_count};
use crate::doctor::facts::Remembered;
use crate::doctor::look::{self, Options};
use crate::doctor::{Section, Status, checks};
use crate::state::{Source, State};

/// Say whether an environment can work, line by line and with the mend for what is wrong
///
/// Looks at tables, queues and the vendor; with --aws also at credentials, functions, roles, schedules, alarms and who
/// hears them. Nothing is changed. Ends with status 1 if something failed.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// With --aws: the vendor's quota, in requests a minute, to compare the functions' settings with
    // Both are needed: --data excuses what it conflicts with from being required.
    #[arg(long, value_name = "N", requires = "aws", conflicts_with = "data", value_parser = parse_count)]
    quota: Option<NonZeroU32>,
    /// Do not ask the vendor whether it answers, which costs one request of its quota
    #[arg(long)]
    no_vendor: bool,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

/// Prints what was found, and answers whether nothing failed.
///
/// # Errors
/// If there is nothing to look at.
pub async fn doctor(args: DoctorArgs) -> Result<bool, CommandError> {
    let place = Place::open(&args.place).await?;
    let environment = args.place.environment();
    let options = Options {
        quota: args.quota.map(NonZeroU32::get),
        asks_vendor: !args.no_vendor,
    };
    let facts = match &place.state {
        None => look::on_aws(&place.config, environment, options).await,
        Some(state) => {
            let (vendor, what) = vendor(state);
            let remembered = Remembered {
                data: args.place.data.display().to_string(),
                environment: ENVIRONMENT,
                vendor: what,
                last_run: state
                    .last_run
                    .as_ref()
                    .map(|run| (run.run_id.clone(), run.is_complete())),
            };
            look::here(&place.config, environment, remembered, vendor, options).await
        }
    };
    let site = place.site;
    place.close().await?;
    let sections = checks::diagnose(&facts);
    let diagnosis = Diagnosis {
        environment,
        site,
        sections,
    };
    if args.json {
        say(format_args!("{:#}", diagnosis.json()))?;
    } else {
        say(&diagnosis)?;
    }
    Ok(diagnosis.count(Status::Failed) == 0)
}

/// A real vendor's URL, and what is said of the vendor. A simulated one is started by each run, and needs no asking.
fn vendor(state: &State) -> (Option<url::Url>, String) {
    match &state.source {
        Source::Simulated(simulation) => (
            None,
            format!("holds the data of a simulated vendor, seed {}", simulation.seed),
        ),
        Source::Url(url) => (url::Url::parse(url).ok(), format!("holds the data of {url}")),
    }
}

/// All that was found.
struct Diagnosis<'a> {
    environment: &'a str,
    site: Where,
    sections: Vec<Section>,
}

impl Diagnosis<'_> {
    fn count(&self, status: Status) -> usize {
        let findings = self.sections.iter().flat_map(|section| &section.findings);
        findings.filter(|finding| finding.status == status).count()
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "environment": self.environment,
            "place": self.site,
            "failed": self.count(Status::Failed),
            "warnings": self.count(Status::Warning),
            "skipped": self.count(Status::Skipped),
            "sections": self.sections,
        })
    }
}

impl fmt::Display for Diagnosis<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for section in &self.sections {
            writeln!(f, "{}", section.heading)?;
            for finding in &section.findings {
                let status = match finding.status {
                    Status::Ok => "ok",
                    Status::Warning => "warning",
                    Status::Failed => "failed",
                    Status::Skipped => "skipped",
                };
                writeln!(f, "  {status:<8} {}: {}", finding.subject, finding.says)?;
                if let Some(mend) = &finding.mend {
                    writeln!(f, "           mend: {mend}")?;
                }
            }
            writeln!(f)?;
        }
        let [failed, warnings, skipped] =
            [Status::Failed, Status::Warning, Status::Skipped].map(|status| self.count(status));
        let verdict = match (failed, warnings, skipped) {
            (0, 0, 0) => "It can work",
            (0, _, _) => "It can work, as far as was seen",
            _ => "It cannot work as it should",
        };
        let s = if warnings == 1 { "" } else { "s" };
        write!(
            f,
            "{verdict}: {failed} failed, {warnings} warning{s}, {skipped} skipped."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Finding;

    #[test]
    fn one_warning_is_not_many() {
        let verdict = |warnings: usize| {
            let warning = Finding::warning("alarm-topic-dev", "is not encrypted at rest", "encrypt it");
            let section = Section {
                heading: "Alarms",
                findings: vec![warning; warnings],
            };
            let diagnosis = Diagnosis {
                environment: "dev",
                site: Where::Aws,
                sections: vec![section],
            };
            diagnosis.to_string().lines().last().unwrap_or_default().to_owned()
        };
        assert_eq!(
            verdict(1),
            "It can work, as far as was seen: 0 failed, 1 warning, 0 skipped."
        );
        assert_eq!(
            verdict(2),
            "It can work, as far as was seen: 0 failed, 2 warnings, 0 skipped."
        );
    }
}
