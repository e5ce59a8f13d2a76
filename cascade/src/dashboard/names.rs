//! What changes seldom: the branches' names, and the vendor's limit.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, KeysAndAttributes};
use shared::entity::{BRANCH_ID, Entity};
use shared::error_chain;
use shared::quota::QuotaSettings;
use shared::run::{RunId, is_last_modified};
use tokio::time::Instant;

use super::cadence::BRANCHES_A_REQUEST;

/// How long a name is taken to be right, and how long there is taken to be none: the row may be about to be written.
const KEPT: Duration = Duration::from_secs(300);
const UNNAMED: Duration = Duration::from_secs(10);

/// The attribute that a branch's name stands in (the contract's section 1).
const NAME: &str = "branch_name";
/// The attribute that marks a row whose record is gone at the vendor's.
const DELETED_AT: &str = "deleted_at";

/// Branches' names, by id.
#[derive(Debug, Default)]
pub(super) struct Names(BTreeMap<String, Known>);

#[derive(Debug)]
struct Known {
    name: Option<String>,
    is_deleted: bool,
    due_at: Instant,
}

impl Names {
    /// The name of a branch, or its id where the name is not known; `None` if the branch is gone at the vendor's.
    pub(super) fn of(&self, id: &str) -> Option<String> {
        let unnamed = || format!("Branch {id}");
        match self.0.get(id) {
            Some(known) if known.is_deleted => None,
            Some(known) => Some(known.name.clone().unwrap_or_else(unnamed)),
            None => Some(unnamed()),
        }
    }

    /// Reads the names of those that are not known, or were read long ago, and forgets all others' names.
    ///
    /// # Errors
    /// If the branch table cannot be read; the text says why.
    pub(super) async fn read(
        &mut self,
        client: &aws_sdk_dynamodb::Client,
        environment: &str,
        branches: &BTreeMap<String, Option<RunId>>,
        at: Instant,
    ) -> Result<(), String> {
        let is_due = |id: &&String| self.0.get(*id).is_none_or(|known| at >= known.due_at);
        let wanted: Vec<_> = branches.keys().filter(is_due).collect();
        let table = format!("{}-{environment}", Entity::Branch.name());
        for part in wanted.chunks(BRANCHES_A_REQUEST) {
            let keys = part
                .iter()
                .map(|id| (BRANCH_ID.to_owned(), AttributeValue::S((*id).clone())));
            let request = KeysAndAttributes::builder()
                .set_keys(Some(keys.map(|key| [key].into()).collect()))
                .projection_expression("#id, #name, #deleted_at")
                .expression_attribute_names("#id", BRANCH_ID)
                .expression_attribute_names("#name", NAME)
                .expression_attribute_names("#deleted_at", DELETED_AT)
                .build()
                .map_err(|failure| error_chain(&failure))?;
            let sent = client.batch_get_item().request_items(&table, request).send().await;
            let answer = sent.map_err(|failure| error_chain(&failure))?;
            // What was not processed is asked for soon, as what is not there.
            for id in part {
                self.0.entry((*id).clone()).or_insert(Known {
                    name: None,
                    is_deleted: false,
                    due_at: at + UNNAMED,
                });
            }
            for row in answer.responses.unwrap_or_default().remove(&table).unwrap_or_default() {
                let text = |name: &str| row.get(name).and_then(|value| value.as_s().ok()).cloned();
                if let Some(id) = text(BRANCH_ID).filter(|id| branches.contains_key(id)) {
                    let known = Known {
                        name: text(NAME),
                        is_deleted: text(DELETED_AT).is_some_and(|mark| is_last_modified(&mark)),
                        due_at: at + KEPT,
                    };
                    self.0.insert(id, known);
                }
            }
        }
        self.0.retain(|id, _| branches.contains_key(id));
        Ok(())
    }
}

/// How many requests in any 60 seconds the collectors' settings allow them; `None` if they do not say.
///
/// # Errors
/// If the settings cannot be read; the text says why, and holds none of them.
pub(super) async fn granted_quota(client: &aws_sdk_lambda::Client, environment: &str) -> Result<Option<u32>, String> {
    let function = format!("branch-collector-{environment}");
    let sent = client.get_function_configuration().function_name(function).send().await;
    let variables = sent
        .map_err(|failure| error_chain(&failure))?
        .environment
        .and_then(|environment| environment.variables)
        .unwrap_or_default();
    let number = |name: &str| variables.get(name).and_then(|text| text.parse::<u32>().ok());
    let settings = number("API_REQUESTS_PER_MINUTE")
        .and_then(NonZeroU32::new)
        .map(|requests| QuotaSettings {
            share_percent: number("API_QUOTA_SHARE").unwrap_or(100),
            ..QuotaSettings::per_minute(requests)
        });
    Ok(settings.map(|settings| settings.limits().per_window.get()))
}
