//! The schedules: that they start the functions, as often as they should.

use super::super::blueprint::{Function, SCHEDULER_ROLE};
use super::super::facts::{ScheduleFacts, Services, Stores, Told};
use super::{Context, Finding, arn_names, functions, unless};

pub(super) fn findings(context: &Context<'_>, services: &Services, stores: &Stores) -> Vec<Finding> {
    let mut findings = Vec::new();
    let paused = paused(context, services);
    let is_paused = paused.is_some();
    findings.extend(paused);
    for (function, told) in &services.schedules {
        findings.extend(of_schedule(context, function, told, is_paused, services, stores));
    }
    findings
}

/// That all schedules are disabled, as far as they are there and may be looked at. The templates offer that; some of them
/// disabled is what nobody can have meant.
fn paused(context: &Context<'_>, services: &Services) -> Option<Finding> {
    let schedules: Vec<_> = services
        .schedules
        .iter()
        .filter_map(|(function, told)| Some((context.name(function.schedule), told.found()?)))
        .collect();
    let names: Vec<_> = schedules.iter().map(|(name, _)| name.as_str()).collect();
    (!schedules.is_empty() && schedules.iter().all(|(_, facts)| !facts.is_enabled)).then(|| {
        Finding::warning(
            "schedules",
            format!("are disabled ({}): nothing but direct calls starts anything", names.join(", ")),
            "to end the pause, deploy with SchedulesState=ENABLED; if it was, they were disabled by hand: enable each in \
             EventBridge's console (Scheduler, Schedules)",
        )
    })
}

fn of_schedule(
    context: &Context<'_>,
    function: &'static Function,
    told: &Told<ScheduleFacts>,
    is_paused: bool,
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
    if !facts.is_enabled && !is_paused {
        problems.push(Finding::failed(
            &name,
            format!(
                "is disabled, while others are not: nothing starts {}",
                context.name(function.name)
            ),
            format!("{edit}, and enable it; to disable all of them, deploy with SchedulesState=DISABLED"),
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
        let says = if facts.is_enabled {
            format!("enabled, {} starts {target}, and did so lately", function.rate)
        } else {
            format!("there; enabled, {} starts {target}", function.rate)
        };
        Finding::ok(&name, says)
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
