//! The roles that functions and schedules take on. Whether a role does what it should is not asked of IAM: its SDK alone
//! takes longer to build than all others together. A schedule that starts its function shows it.

use super::super::blueprint::SCHEDULER_ROLE;
use super::super::facts::Services;
use super::{Context, Finding, arn_names};

pub(super) fn findings(context: &Context<'_>, services: &Services) -> Vec<Finding> {
    let functions = services.functions.iter().filter_map(|(function, told)| {
        let (name, role) = (context.name(function.name), context.name(function.role));
        Some(of_role(&name, &told.found()?.role, &role, || {
            format!("aws lambda update-function-configuration --function-name {name} --role <the ARN of {role}>")
        }))
    });
    let schedules = services.schedules.iter().filter_map(|(function, told)| {
        let (name, role) = (context.name(function.schedule), context.name(SCHEDULER_ROLE));
        Some(of_role(&name, &told.found()?.role, &role, || {
            format!("edit the schedule {name} in EventBridge's console (Scheduler, Schedules)")
        }))
    });
    functions.chain(schedules).collect()
}

fn of_role(name: &str, arn: &str, role: &str, mend: impl FnOnce() -> String) -> Finding {
    if arn_names(arn, role) {
        Finding::ok(name, format!("takes on {role}"))
    } else {
        Finding::failed(name, format!("takes on {arn}, expected {role}"), mend())
    }
}
