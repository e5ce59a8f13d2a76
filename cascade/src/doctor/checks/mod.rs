//! Facts to findings.

mod alarms;
mod functions;
mod queues;
mod roles;
mod schedules;
mod source;
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
    let mut sections = vec![(heading, source::findings(facts))];
    let Some(stores) = &facts.stores else {
        return sectioned(sections);
    };
    if let Some(nothing) = source::nothing_there(facts) {
        sections.push(("Environment", vec![nothing]));
        return sectioned(sections);
    }
    let context = Context::of(facts);
    sections.push(("Tables", tables::findings(&context, &stores.tables)));
    sections.push(("Queues", queues::findings(&context, &stores.queues)));
    if let Some(services) = &facts.services {
        sections.push(("Functions", functions::findings(&context, &services.functions, stores)));
        sections.push(("Roles", roles::findings(&context, services)));
        sections.push(("Schedules", schedules::findings(&context, services, stores)));
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
    /// The options by which `cascade`'s other commands find the environment.
    options: String,
}

impl<'a> Context<'a> {
    fn of(facts: &'a Facts) -> Self {
        let environment = facts.environment.as_str();
        let (is_aws, options) = match &facts.source {
            Source::Aws(_) => (true, format!(" --aws --environment {environment}")),
            Source::Here(remembered) => (false, format!(" --data {}", remembered.data)),
        };
        Self {
            environment,
            is_aws,
            options,
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
    fn make_anew(&self) -> &'static str {
        if self.is_aws {
            "compare it with the templates and set it right by hand: a deployment changes only what the templates change"
        } else {
            "delete the data directory; cascade run makes everything anew"
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
