//! Facts to findings.

mod alarms;
mod functions;
mod queues;
mod roles;
mod schedules;
mod source;
mod streams;
mod tables;
mod vendor;

pub use functions::settings;

use super::facts::{Facts, Source, Told};
use super::{Finding, Section};

/// What is to be said about an environment.
pub fn diagnose(facts: &Facts) -> Vec<Section> {
    let heading = match &facts.source {
        Source::Aws(_) => "Account",
        Source::Here(_) => "Data",
    };
    let context = Context::of(facts);
    let mut sections = vec![(heading, source::findings(&context, facts))];
    if let Some(nothing) = source::nothing_there(facts) {
        sections.push(("Environment", vec![nothing]));
        return sectioned(sections);
    }
    let Some(stores) = &facts.stores else {
        return sectioned(sections);
    };
    sections.push(("Tables", tables::findings(&context, stores)));
    sections.push(("Queues", queues::findings(&context, &stores.queues)));
    if let Some(services) = &facts.services {
        sections.push(("Functions", functions::findings(&context, &services.functions, stores)));
        sections.push(("Roles", roles::findings(&context, services)));
        sections.push(("Schedules", schedules::findings(&context, services, stores)));
        sections.push(("Streams", streams::findings(&context, services, stores)));
        sections.push(("Alarms", alarms::findings(&context, services)));
    }
    sections.push(("Vendor", vendor::findings(&context, facts)));
    sectioned(sections)
}

fn sectioned(sections: Vec<(&'static str, Vec<Finding>)>) -> Vec<Section> {
    let kept = sections.into_iter().filter(|(_, findings)| !findings.is_empty());
    kept.map(|(heading, findings)| Section { heading, findings }).collect()
}

/// What most checks need to know.
struct Context<'a> {
    environment: &'a str,
    is_aws: bool,
    /// The options by which `cascade`'s other commands find the environment. A data directory has only one, so that there
    /// `--environment` is not among them: `cascade run` has no such option.
    options: String,
    /// The data directory as a shell's word; `None` on AWS.
    data: Option<String>,
}

impl<'a> Context<'a> {
    fn of(facts: &'a Facts) -> Self {
        let environment = facts.environment.as_str();
        let (data, options) = match &facts.source {
            Source::Aws(_) => (None, format!(" --aws --environment {}", quoted(environment))),
            Source::Here(remembered) => {
                let data = quoted(&remembered.data);
                let options = format!(" --data {data}");
                (Some(data), options)
            }
        };
        Self {
            environment,
            is_aws: data.is_none(),
            options,
            data,
        }
    }

    /// A resource's whole name.
    fn name(&self, of: &str) -> String {
        format!("{of}-{}", self.environment)
    }

    /// How what is missing is made.
    fn make(&self) -> String {
        if self.is_aws {
            format!(
                "deploy the templates with Environment={} (sam build && sam deploy); what was deleted by hand is only made \
                 again once its stack is deleted, too",
                self.environment
            )
        } else {
            format!("cascade run{} makes it", self.options)
        }
    }

    /// How what differs from the templates is brought back, if no single command does it.
    fn make_anew(&self) -> String {
        match &self.data {
            None => {
                "compare it with the templates and set it right by hand: a deployment changes only what the templates change"
                    .to_owned()
            }
            Some(data) => format!(
                "delete the directory {data}; cascade run{}, with the options that its first run had, makes everything anew",
                self.options
            ),
        }
    }

    /// What is there, or the finding that it is not.
    fn found<'t, T>(&self, subject: &str, told: &'t Told<T>) -> Result<&'t T, Finding> {
        match told {
            Told::Found(thing) => Ok(thing),
            Told::Missing => Err(Finding::failed(subject, "is missing", self.make())),
            Told::Forbidden(action) => Err(Finding::skipped(
                subject,
                format!("not looked at: you may not {action}"),
                format!("have {action} allowed to you"),
            )),
            Told::Unread { action, reason } => Err(Finding::failed(
                subject,
                format!("could not be looked at: {action}: {reason}"),
                "try again; if it stays so, the reason says what is wrong between you and AWS",
            )),
        }
    }
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-_./:=,@".contains(character);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// Whether an ARN is that of a resource with this name.
fn arn_names(arn: &str, name: &str) -> bool {
    arn.rsplit([':', '/']).next() == Some(name)
}

/// `problems`, or that all is well.
fn unless(problems: Vec<Finding>, well: impl FnOnce() -> Finding) -> Vec<Finding> {
    if problems.is_empty() { vec![well()] } else { problems }
}

#[cfg(test)]
mod tests;
