//! The schedules: that they start the functions, as often as they should.

use super::super::blueprint::{Function, SCHEDULER_ROLE};
use super::super::facts::{ScheduleFacts, Services, Stores, Told};
use super::{Context, Finding, arn_names, functions, unless};

pub(super) fn findings(context: &Context<'_>, services: &Services, stores: &Stores) -> Vec<Finding> {
    services
        .schedules
        .iter()
        .flat_map(|(function, told)| of_schedule(context, function, told, services, stores))
        .collect()
}

fn of_schedule(
    context: &Context<'_>,
    function: &'static Function,
    told: &Told<ScheduleFacts>,
    services: &Services,
    stores: &Stores,
) -> Vec<Finding> {
    let name = context.name(function.schedule);
    let facts = match context.found(&name, told) {
        Ok(facts) => facts,
        Err(finding) => return vec![finding],
    };
    let edit = format!("edit the schedule {name} in EventBridge's console (Scheduler, Schedules)");
    let mut problems = Vec::new();
    if !facts.is_enabled {
        problems.push(Finding::failed(
            &name,
            format!("is disabled: nothing starts {}", context.name(function.name)),
            format!(
                "deploy with SchedulesState=ENABLED; if it was, {edit}. An environment that is only called directly is meant \
                 to be like this"
            ),
        ));
    }
    if facts.rate != function.rate {
        problems.push(Finding::failed(
            &name,
            format!("runs at {}, expected {}", facts.rate, function.rate),
            edit.clone(),
        ));
    }
    let target = context.name(function.name);
    let own = services.functions.iter().find(|(other, _)| *other == function);
    let is_target = match own.and_then(|(_, told)| told.found()) {
        Some(own) => facts.target == own.arn,
        None => arn_names(&facts.target, &target),
    };
    if !is_target {
        problems.push(Finding::failed(
            &name,
            format!("starts {}, expected {target}", facts.target),
            edit.clone(),
        ));
    }
    let dead_letters = facts.dead_letters.as_deref();
    problems.extend(functions::dead_letters(
        context,
        function,
        dead_letters,
        &name,
        stores,
        || edit,
    ));
    problems.extend(starts(context, function, facts, &name));
    unless(problems, || {
        Finding::ok(
            &name,
            format!("enabled, {} starts {target}, and did so lately", function.rate),
        )
    })
}

/// Whether the schedule does what it says: only then are its role and the function's known to work.
fn starts(context: &Context<'_>, function: &Function, facts: &ScheduleFacts, name: &str) -> Option<Finding> {
    let starts = match &facts.starts {
        Told::Found(starts) => *starts,
        told => return context.found(&format!("{name}, starts"), told).err(),
    };
    (facts.is_enabled && starts == 0).then(|| {
        Finding::warning(
            name,
            format!("{} was not started in the last {} minutes", context.name(function.name), function.two_starts / 60),
            format!(
                "wait, if it was deployed only now; otherwise see that {role} trusts scheduler.amazonaws.com and allows \
                 lambda:InvokeFunction (aws iam get-role --role-name {role}), and what waits in {}",
                context.name(function.dead_letters),
                role = context.name(SCHEDULER_ROLE),
            ),
        )
    })
}
