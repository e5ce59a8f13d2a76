//! Tables, as the contract's section 5 has them.

use shared::entity::Entity;
use shared::state::dynamodb::{EXPIRES_AT, ID};

use super::super::blueprint::{PRODUCTION, STATE_TABLE};
use super::super::facts::{StateFacts, Stores, TableFacts, Told};
use super::{Context, Finding, unless};

pub(super) fn findings(context: &Context<'_>, stores: &Stores) -> Vec<Finding> {
    let rows = stores.tables.iter();
    rows.flat_map(|(entity, told)| of_table(context, *entity, told))
        .chain(of_state(context, &stores.state))
        .collect()
}

fn of_table(context: &Context<'_>, entity: Entity, told: &Told<TableFacts>) -> Vec<Finding> {
    let name = context.name(entity.name());
    let table = match context.found(&name, told) {
        Ok(table) => table,
        Err(finding) => return vec![finding],
    };
    let update = |change: &str| update(context, &name, change);
    let keys: Vec<_> = [Some(entity.partition_key()), entity.sort_key()]
        .into_iter()
        .flatten()
        .map(of_text)
        .collect();
    let mut problems = of_any(context, &name, table, &keys);
    problems.extend(of_stream(context, &name, table));
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

/// That a table tells of its changes.
fn of_stream(context: &Context<'_>, name: &str, table: &TableFacts) -> Option<Finding> {
    let update = |change: &str| update(context, name, change);
    match table.stream.as_deref() {
        Some("NEW_IMAGE") => None,
        None => Some(Finding::failed(
            name,
            "has no stream, expected one of new images: nobody downstream is told of changes",
            update("--stream-specification StreamEnabled=true,StreamViewType=NEW_IMAGE"),
        )),
        Some(other) => Some(Finding::failed(
            name,
            format!("has a stream of {other}, expected NEW_IMAGE"),
            update(
                "--stream-specification StreamEnabled=false, and then again with StreamEnabled=true,StreamViewType=NEW_IMAGE",
            ),
        )),
    }
}

/// The table that the functions share the quota by. What it says of now is all that matters of it, and what it says of runs is
/// carried on: it needs no recovery and no protection.
fn of_state(context: &Context<'_>, told: &Told<StateFacts>) -> Vec<Finding> {
    let name = context.name(STATE_TABLE);
    let enable = || {
        format!(
            "aws dynamodb update-time-to-live --table-name {name} --time-to-live-specification \
             Enabled=true,AttributeName={EXPIRES_AT}"
        )
    };
    let state = match context.found(&name, told) {
        Ok(state) => state,
        Err(mut finding) => {
            // Empty is how it begins, so that it can be made by hand as well as by its stack.
            if let (Told::Missing, true, Some(mend)) = (told, context.is_aws, &mut finding.mend) {
                mend.push_str(&format!(
                    "; or make it by hand, empty: aws dynamodb create-table --table-name {name} --billing-mode PAY_PER_REQUEST \
                     --attribute-definitions AttributeName={ID},AttributeType=S --key-schema AttributeName={ID},KeyType=HASH \
                     --stream-specification StreamEnabled=true,StreamViewType=NEW_IMAGE, and then {}; look again afterwards, \
                     for what follows its stream",
                    enable()
                ));
            }
            return vec![finding];
        }
    };
    let keys = [of_text(ID)];
    let mut problems = of_any(context, &name, &state.table, &keys);
    problems.extend(of_stream(context, &name, &state.table));
    match &state.time_to_live {
        None => {}
        Some(Told::Found(Some(attribute))) if attribute == EXPIRES_AT => {}
        Some(Told::Found(Some(other))) => problems.push(Finding::warning(
            &name,
            format!("has entries removed by their {other}, expected {EXPIRES_AT}: those of long ago stay"),
            format!(
                "switch it off (Enabled=false,AttributeName={other}) and, an hour later, on: {}",
                enable()
            ),
        )),
        Some(Told::Found(None) | Told::Missing) => problems.push(Finding::warning(
            &name,
            format!("has no time to live, expected one by {EXPIRES_AT}: entries of long ago stay"),
            enable(),
        )),
        Some(told) => problems.extend(context.found(&format!("{name}, time to live"), told).err()),
    }
    unless(problems, || {
        let expiry = state
            .time_to_live
            .as_ref()
            .map_or(String::new(), |_| format!(", entries expire by {EXPIRES_AT}"));
        Finding::ok(
            &name,
            format!(
                "active, keys {}, on demand, stream of new images{expiry}",
                listed(&keys)
            ),
        )
    })
}

/// What is wrong with a table, of what no table may have.
fn of_any(context: &Context<'_>, name: &str, table: &TableFacts, keys: &[(String, String)]) -> Vec<Finding> {
    let mut problems = Vec::new();
    let wait = "wait until it is; if it stays so, its page in DynamoDB's console says why";
    match table.status.as_str() {
        "ACTIVE" => {}
        // It is read and written meanwhile.
        "UPDATING" => problems.push(Finding::warning(
            name,
            "is UPDATING, expected ACTIVE: it can be used, but not be changed again yet",
            wait,
        )),
        other => problems.push(Finding::failed(name, format!("is {other}, expected ACTIVE"), wait)),
    }
    if table.keys != keys {
        problems.push(Finding::failed(
            name,
            format!("has the keys {}, expected {}", listed(&table.keys), listed(keys)),
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
            name,
            "is billed by provisioned capacity, expected on demand: writes above the capacity are throttled",
            update(context, name, "--billing-mode PAY_PER_REQUEST"),
        ));
    }
    problems
}

/// How a table's setting is changed.
fn update(context: &Context<'_>, name: &str, change: &str) -> String {
    if context.is_aws {
        format!("aws dynamodb update-table --table-name {name} {change}")
    } else {
        context.make_anew()
    }
}

/// A key that is a text.
fn of_text(key: &str) -> (String, String) {
    (key.to_owned(), "S".to_owned())
}

fn listed(keys: &[(String, String)]) -> String {
    let keys: Vec<_> = keys.iter().map(|(name, kind)| format!("{name} ({kind})")).collect();
    if keys.is_empty() {
        "none".to_owned()
    } else {
        keys.join(", ")
    }
}
