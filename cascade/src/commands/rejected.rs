//! `cascade rejected`: what the vendor sent that could not be stored.

use std::fmt;

use aws_sdk_dynamodb::types::AttributeValue;
use clap::Args;
use serde::Serialize;
use shared::entity::Entity;
use shared::error_chain;
use shared::rejections::{self, Remembered, Sighting};
use shared::state::dynamodb::{ID, entry};

use super::CommandError;
use super::output::{printable, say, table};
use super::place::{Place, PlaceArgs};

/// List the vendor's records that cannot be stored, and the answers that are not as expected: here, or in an AWS account
///
/// Each run tries them again before newer data. One that can be stored by then, or that the vendor does not send any more,
/// is listed no longer; one of somebody whom nobody asks for any more is listed for 30 days.
#[derive(Debug, Args)]
pub struct RejectedArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Print one JSON object, with a sample of each, instead of a table
    #[arg(long)]
    json: bool,
}

/// What was rejected of the answers to one question.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Question {
    /// `branches`, `employees` or `sales`.
    kind: &'static str,
    /// The name or id that was asked for.
    asked_for: String,
    #[serde(flatten)]
    remembered: Remembered,
}

/// All that is rejected.
#[derive(Debug, Serialize)]
struct List {
    questions: Vec<Question>,
}

/// Lists what is rejected.
///
/// # Errors
/// If there is nothing to look at, or it cannot be reached.
pub async fn rejected(args: RejectedArgs) -> Result<(), CommandError> {
    let place = Place::open(&args.place).await?;
    let dynamodb = aws_sdk_dynamodb::Client::new(&place.config);
    let questions = look(&dynamodb, &format!("sync-{}", args.place.environment())).await;
    place.close().await?;
    let list = List { questions: questions? };
    if args.json {
        say(format_args!("{:#}", serde_json::json!(list)))
    } else {
        say(&list)
    }
}

async fn look(dynamodb: &aws_sdk_dynamodb::Client, state_table: &str) -> Result<Vec<Question>, CommandError> {
    let failed = |reason| CommandError::Service {
        action: format!("look into the table {state_table}"),
        reason,
    };
    let mut items = dynamodb
        .scan()
        .table_name(state_table)
        .filter_expression("begins_with(#id, :prefix)")
        .expression_attribute_names("#id", ID)
        .expression_attribute_values(":prefix", AttributeValue::S(rejections::PREFIX.to_owned()))
        .into_paginator()
        .items()
        .send();
    let mut questions = Vec::new();
    while let Some(item) = items.next().await {
        let item = item.map_err(|failure| failed(error_chain(&failure)))?;
        let id = item.get(ID).and_then(|id| id.as_s().ok()).cloned().unwrap_or_default();
        let Some((kind, asked_for)) = asked(&id) else { continue };
        let remembered: Remembered = entry(item).read().map_err(|failure| failed(error_chain(&failure)))?;
        // What is mended stands there until the table forgets it.
        if !remembered.is_empty() {
            questions.push(Question {
                kind: kind.list_name(),
                asked_for: asked_for.to_owned(),
                remembered,
            });
        }
    }
    questions.sort_by(|one, other| (one.kind, &one.asked_for).cmp(&(other.kind, &other.asked_for)));
    Ok(questions)
}

/// What an entry is about; `None` if it is none of a question's.
fn asked(id: &str) -> Option<(Entity, &str)> {
    let (kind, asked_for) = id.strip_prefix(rejections::PREFIX)?.split_once('/')?;
    let kind = Entity::ALL.into_iter().find(|entity| entity.list_name() == kind)?;
    Some((kind, asked_for))
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.questions.is_empty() {
            return f.write_str("Nothing is rejected: all that the vendor sent is stored.");
        }
        let mut rows = Vec::new();
        for question in &self.questions {
            let mut add = |record: &str, sighting: &Sighting| {
                rows.push([
                    question.kind.to_owned(),
                    printable(&question.asked_for),
                    printable(record),
                    printable(&sighting.reason),
                    sighting.first_seen.clone(),
                    sighting.times.to_string(),
                ]);
            };
            let remembered = &question.remembered;
            if let Some(malformed) = &remembered.malformed {
                add("the whole answer", malformed);
            }
            for record in &remembered.records {
                add(&record.id, &record.sighting);
            }
        }
        let header = ["kind", "asked for", "record", "reason", "since", "times"];
        writeln!(f, "{}\n", table(header, &[5], 3, rows))?;
        let records: u64 = self.questions.iter().map(|question| question.remembered.total).sum();
        let listed: usize = self
            .questions
            .iter()
            .map(|question| question.remembered.records.len())
            .sum();
        let unlisted = records.saturating_sub(listed as u64);
        if unlisted > 0 {
            writeln!(f, "{unlisted} more records are rejected than are listed.")?;
        }
        f.write_str("Each is tried again by every run that asks for it; --json shows how it begins.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(reason: &str, times: u64) -> Sighting {
        Sighting {
            reason: reason.to_owned(),
            sample: "{}".to_owned(),
            first_seen: "2026-11-21T01:02:03.456Z".to_owned(),
            last_seen: "2026-11-21T02:02:03.456Z".to_owned(),
            times,
        }
    }

    #[test]
    fn an_entry_is_told_from_an_index() {
        assert_eq!(asked("rejected/sales/a/b"), Some((Entity::Sale, "a/b")));
        for other in ["rejected/sales", "rejected/runs/1", "roster/sales/1", "sales/1"] {
            assert_eq!(asked(other), None, "{other}");
        }
    }

    #[test]
    fn a_list_names_each_record_and_how_many_are_left_out() {
        let list = List {
            questions: vec![Question {
                kind: "sales",
                asked_for: "1235".to_owned(),
                remembered: Remembered {
                    total: 9,
                    records: vec![rejections::RememberedRecord {
                        id: "39\u{1b}72".to_owned(),
                        sighting: sighting("has no transaction_timestamp", 3),
                    }],
                    malformed: Some(sighting("it has no sales", 1)),
                },
            }],
        };
        let text = list.to_string();
        for words in [
            "39\\u{1b}72",
            "has no transaction_timestamp",
            "the whole answer",
            "8 more records are rejected than are listed.",
        ] {
            assert!(text.contains(words), "{words:?} in {text}");
        }
        let empty = List { questions: Vec::new() };
        assert!(empty.to_string().starts_with("Nothing is rejected"));
    }
}
