//! Tables, as the contract's section 5 has them.

use shared::entity::Entity;

use super::super::blueprint::PRODUCTION;
use super::super::facts::{TableFacts, Told};
use super::{Context, Finding, unless};

pub(super) fn findings(context: &Context<'_>, tables: &[(Entity, Told<TableFacts>)]) -> Vec<Finding> {
    tables
        .iter()
        .flat_map(|(entity, told)| of_table(context, *entity, told))
        .collect()
}

fn of_table(context: &Context<'_>, entity: Entity, told: &Told<TableFacts>) -> Vec<Finding> {
    let name = context.name(entity.name());
    let table = match context.found(&name, told) {
        Ok(table) => table,
        Err(finding) => return vec![finding],
    };
    let update = |change: &str| {
        if context.is_aws {
            format!("aws dynamodb update-table --table-name {name} {change}")
        } else {
            context.make_anew()
        }
    };
    let mut problems = Vec::new();
    let wait = "wait until it is; if it stays so, its page in DynamoDB's console says why";
    match table.status.as_str() {
        "ACTIVE" => {}
        // It is read and written meanwhile.
        "UPDATING" => problems.push(Finding::warning(
            &name,
            "is UPDATING, expected ACTIVE: it can be used, but not be changed again yet",
            wait,
        )),
        other => problems.push(Finding::failed(&name, format!("is {other}, expected ACTIVE"), wait)),
    }
    let keys: Vec<_> = [Some(entity.partition_key()), entity.sort_key()]
        .into_iter()
        .flatten()
        .map(|key| (key.to_owned(), "S".to_owned()))
        .collect();
    if table.keys != keys {
        problems.push(Finding::failed(
            &name,
            format!("has the keys {}, expected {}", listed(&table.keys), listed(&keys)),
            if context.is_aws {
                "a table's keys cannot be changed: keep what it holds elsewhere, delete it and its stack, and deploy again; \
                 the next run fills it"
                    .to_owned()
            } else {
                context.make_anew()
            },
        ));
    }
    if !table.is_on_demand {
        problems.push(Finding::warning(
            &name,
            "is billed by provisioned capacity, expected on demand: writes above the capacity are throttled",
            update("--billing-mode PAY_PER_REQUEST"),
        ));
    }
    match table.stream.as_deref() {
        Some("NEW_IMAGE") => {}
        None => problems.push(Finding::failed(
            &name,
            "has no stream, expected one of new images: nobody downstream is told of changes",
            update("--stream-specification StreamEnabled=true,StreamViewType=NEW_IMAGE"),
        )),
        Some(other) => problems.push(Finding::failed(
            &name,
            format!("has a stream of {other}, expected NEW_IMAGE"),
            update("--stream-specification StreamEnabled=false, and then again with StreamEnabled=true,StreamViewType=NEW_IMAGE"),
        )),
    }
    match &table.recovery {
        None | Some(Told::Found(true)) => {}
        Some(Told::Found(false) | Told::Missing) => problems.push(Finding::warning(
            &name,
            "cannot be brought back to a point in time: what is deleted or overwritten is gone",
            format!(
                "aws dynamodb update-continuous-backups --table-name {name} --point-in-time-recovery-specification \
                 PointInTimeRecoveryEnabled=true"
            ),
        )),
        Some(told) => problems.extend(context.found(&format!("{name}, recovery"), told).err()),
    }
    if context.is_aws && context.environment == PRODUCTION && !table.is_protected {
        problems.push(Finding::warning(
            &name,
            "may be deleted, expected deletion protection in production",
            update("--deletion-protection-enabled"),
        ));
    }
    unless(problems, || {
        let recovery = table.recovery.as_ref().map_or("", |_| ", point-in-time recovery");
        let protection = if table.is_protected {
            ", protected from deletion"
        } else {
            ""
        };
        let keys = listed(&keys);
        Finding::ok(
            &name,
            format!("active, keys {keys}, on demand, stream of new images{recovery}{protection}"),
        )
    })
}

fn listed(keys: &[(String, String)]) -> String {
    let keys: Vec<_> = keys.iter().map(|(name, kind)| format!("{name} ({kind})")).collect();
    if keys.is_empty() {
        "none".to_owned()
    } else {
        keys.join(", ")
    }
}
