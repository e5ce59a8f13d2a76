//! Who asks, and whether there is anything to ask about.

use super::super::facts::{Caller, Facts, Remembered, Source, Told};
use super::{Context, Finding};

pub(super) fn findings(context: &Context<'_>, facts: &Facts) -> Vec<Finding> {
    match &facts.source {
        Source::Aws(caller) => of_caller(caller),
        Source::Here(remembered) => of_directory(context, remembered),
    }
}

fn of_caller(caller: &Caller) -> Vec<Finding> {
    let region = match &caller.region {
        Some(region) => Finding::ok("region", region.as_str()),
        None => Finding::failed(
            "region",
            "none is set",
            "set AWS_REGION to the region of the environment, or `region` in the profile that AWS_PROFILE names",
        ),
    };
    let identity = match &caller.identity {
        Told::Found(identity) => Finding::ok(
            "credentials",
            format!("account {}, as {}", identity.account, identity.arn),
        ),
        Told::Missing => Finding::skipped("credentials", "not looked at without a region", "set the region first"),
        Told::Forbidden(action) => Finding::failed(
            "credentials",
            format!("are not accepted for {action}"),
            "use credentials that no policy denies everything",
        ),
        Told::Unread { action, reason } => Finding::failed(
            "credentials",
            format!("could not be used: {action}: {reason}"),
            "set AWS_PROFILE, or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN; after `aws sso login`, \
             `aws configure export-credentials --format env` makes them; they may have run out, or AWS cannot be reached from here",
        ),
    };
    vec![region, identity]
}

fn of_directory(context: &Context<'_>, remembered: &Remembered) -> Vec<Finding> {
    let options = &context.options;
    let last_run = match &remembered.last_run {
        Some((run_id, true)) => Finding::ok("last run", format!("{run_id}, complete")),
        Some((run_id, false)) => Finding::warning(
            "last run",
            format!("{run_id}, left something undone"),
            format!("cascade run{options} goes on with it, and says what is left and why"),
        ),
        None => Finding::warning(
            "last run",
            "none has ended yet",
            format!("cascade run{options} makes one"),
        ),
    };
    vec![
        Finding::ok(remembered.data.as_str(), remembered.vendor.as_str()),
        last_run,
    ]
}

/// That nothing of the environment is there, which says more than a line for each thing that is missing.
pub(super) fn nothing_there(facts: &Facts) -> Option<Finding> {
    let caller = match &facts.source {
        Source::Aws(caller) => caller,
        Source::Here(remembered) => return no_such(&facts.environment, remembered),
    };
    let (stores, services) = (facts.stores.as_ref()?, facts.services.as_ref()?);
    let is_there = stores.tables.iter().any(|(_, told)| *told != Told::Missing)
        || stores.state != Told::Missing
        || stores.queues.values().any(|told| *told != Told::Missing)
        || services.functions.iter().any(|(_, told)| *told != Told::Missing);
    let environment = &facts.environment;
    (!is_there).then(|| {
        Finding::failed(
            environment.as_str(),
            format!(
                "there is no table, queue or function of this environment in account {}, region {}",
                caller.identity.found().map_or("?", |identity| &identity.account),
                caller.region.as_deref().unwrap_or("?")
            ),
            format!(
                "check the environment's name, the account and AWS_REGION; if they are right, deploy: sam build && sam \
                 deploy, with Environment={environment}"
            ),
        )
    })
}

/// That a data directory cannot have the environment, whatever is in it.
fn no_such(environment: &str, remembered: &Remembered) -> Option<Finding> {
    let only = remembered.environment;
    (environment != only).then(|| {
        Finding::failed(
            environment,
            format!("there is only `{only}` here: a data directory holds no other environment"),
            format!("leave out --environment to look at `{only}`, or look on AWS: cascade doctor --aws --environment {environment}"),
        )
    })
}
