//! Queues: their names, addresses and attributes.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row, Transaction};
use serde::Deserialize;

use super::error::SqsError;
use super::{ACCOUNT, MAXIMUM_MESSAGE_BYTES, REGION};

/// What is stored about queues.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS queues (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        attributes TEXT NOT NULL,
        tags TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        modified_at INTEGER NOT NULL,
        purged_at INTEGER
    );";

/// Attributes, or tags, by name.
pub(super) type Attributes = BTreeMap<String, String>;

/// A numeric attribute that a queue always has.
struct Setting {
    name: &'static str,
    least: i64,
    most: i64,
    default: i64,
}

const SETTINGS: [Setting; 5] = [
    Setting {
        name: "DelaySeconds",
        least: 0,
        most: 900,
        default: 0,
    },
    Setting {
        name: "MaximumMessageSize",
        least: 1024,
        most: MAXIMUM_MESSAGE_BYTES as i64,
        default: MAXIMUM_MESSAGE_BYTES as i64,
    },
    Setting {
        name: "MessageRetentionPeriod",
        least: 60,
        most: 1_209_600,
        default: 345_600,
    },
    Setting {
        name: "ReceiveMessageWaitTimeSeconds",
        least: 0,
        most: 20,
        default: 0,
    },
    Setting {
        name: "VisibilityTimeout",
        least: 0,
        most: 43_200,
        default: 30,
    },
];

/// Attributes that are kept and shown but govern nothing here: nobody is refused and nothing is encrypted.
const KEPT: [&str; 4] = [
    "KmsDataKeyReusePeriodSeconds",
    "KmsMasterKeyId",
    "Policy",
    "SqsManagedSseEnabled",
];

/// An attribute of the embedded queues alone, told only to who asks for it by name: the age of the oldest message in
/// seconds. On AWS that is a metric of CloudWatch's, by this name.
pub const OLDEST_MESSAGE: &str = "ApproximateAgeOfOldestMessage";

/// Another of them: the time there, in Unix milliseconds. The embedded queues can be hours ahead of the machine, and an age
/// is measured by the clock that messages were sent by.
pub const CURRENT_TIME: &str = "CurrentTimestamp";

/// Attributes that SQS computes; they can be asked for but not set.
const COMPUTED: [&str; 6] = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesDelayed",
    "ApproximateNumberOfMessagesNotVisible",
    "CreatedTimestamp",
    "LastModifiedTimestamp",
    "QueueArn",
];

/// Where a queue's messages go after too many receives.
#[derive(Debug, PartialEq)]
pub(super) struct RedrivePolicy {
    /// The dead-letter queue's name.
    pub(super) target: String,
    /// How often a message may be received.
    pub(super) receives: i64,
}

/// A queue as it is stored.
pub(in crate::cloud) struct Queue {
    /// Never used again, even if the queue is deleted and made anew.
    pub(in crate::cloud) id: i64,
    /// Unique among the queues there are.
    pub(super) name: String,
    /// Only what was set; see [`Queue::setting`] for the rest.
    pub(super) attributes: Attributes,
    pub(super) tags: Attributes,
    /// Unix milliseconds, as are all times in this module.
    pub(super) created_at: i64,
    pub(super) modified_at: i64,
    pub(super) purged_at: Option<i64>,
}

impl Queue {
    const COLUMNS: &str = "id, name, attributes, tags, created_at, modified_at, purged_at";

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            attributes: json_column(row, 2)?,
            tags: json_column(row, 3)?,
            created_at: row.get(4)?,
            modified_at: row.get(5)?,
            purged_at: row.get(6)?,
        })
    }

    /// The queue called `name`, if there is one.
    pub(in crate::cloud) fn find(transaction: &Transaction<'_>, name: &str) -> rusqlite::Result<Option<Self>> {
        let sql = format!("SELECT {} FROM queues WHERE name = ?", Self::COLUMNS);
        transaction
            .prepare_cached(&sql)?
            .query_row([name], Self::from_row)
            .optional()
    }

    /// The queue called `name`; an error if there is none.
    pub(super) fn get(transaction: &Transaction<'_>, name: &str) -> Result<Self, SqsError> {
        Self::find(transaction, name)?.ok_or_else(SqsError::no_such_queue)
    }

    /// All queues, by name.
    pub(super) fn all(transaction: &Transaction<'_>) -> rusqlite::Result<Vec<Self>> {
        let sql = format!("SELECT {} FROM queues ORDER BY name", Self::COLUMNS);
        transaction
            .prepare_cached(&sql)?
            .query_map([], Self::from_row)?
            .collect()
    }

    /// Makes a queue of that name; `attributes` have been checked.
    pub(super) fn insert(
        transaction: &Transaction<'_>,
        name: &str,
        attributes: &Attributes,
        tags: &Attributes,
        now: i64,
    ) -> rusqlite::Result<()> {
        transaction.execute(
            "INSERT INTO queues (name, attributes, tags, created_at, modified_at) VALUES (?, ?, ?, ?, ?)",
            (name, json_text(attributes), json_text(tags), now, now),
        )?;
        Ok(())
    }

    /// Stores the attributes and tags as they are now.
    pub(super) fn update(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction.execute(
            "UPDATE queues SET attributes = ?, tags = ?, modified_at = ?, purged_at = ? WHERE id = ?",
            (
                json_text(&self.attributes),
                json_text(&self.tags),
                self.modified_at,
                self.purged_at,
                self.id,
            ),
        )?;
        Ok(())
    }

    /// The value of a numeric attribute, set or by default.
    pub(super) fn setting(&self, name: &str) -> i64 {
        let default = SETTINGS
            .iter()
            .find(|setting| setting.name == name)
            .map_or(0, |setting| setting.default);
        let set = self.attributes.get(name).and_then(|value| value.parse().ok());
        set.unwrap_or(default)
    }

    /// Where this queue's messages go after too many receives, if anywhere.
    pub(super) fn redrive_policy(&self) -> Option<RedrivePolicy> {
        self.attributes
            .get("RedrivePolicy")
            .and_then(|policy| redrive_policy(policy).ok())
    }

    /// Every attribute but the counts of messages.
    pub(super) fn described(&self) -> Attributes {
        let mut all: Attributes = SETTINGS
            .iter()
            .map(|setting| (setting.name.to_owned(), setting.default.to_string()))
            .collect();
        all.insert("SqsManagedSseEnabled".into(), "true".into());
        all.extend(self.attributes.clone());
        all.insert("QueueArn".into(), arn(&self.name));
        all.insert("CreatedTimestamp".into(), (self.created_at / 1000).to_string());
        all.insert("LastModifiedTimestamp".into(), (self.modified_at / 1000).to_string());
        all
    }
}

/// The name in `arn:aws:sqs:region:account:name`.
pub(in crate::cloud) fn name_in_arn(arn: &str) -> Option<&str> {
    let parts: Vec<&str> = arn.split(':').collect();
    match parts[..] {
        ["arn", "aws", "sqs", _region, _account, name] if !name.is_empty() => Some(name),
        _ => None,
    }
}

/// The name of the resource that a queue is to policies and other services.
pub(super) fn arn(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
}

/// The name in a queue's URL. Its host is of no interest: the port can be another one after a restart.
pub(super) fn name_in_url(url: &str) -> Result<&str, SqsError> {
    let path = url.split_once("://").map_or(url, |(_, rest)| rest);
    match path.trim_end_matches('/').split('/').collect::<Vec<_>>()[..] {
        [_host, _account, name] if !name.is_empty() => Ok(name),
        _ => Err(SqsError::invalid_address(format!(
            "The address {url} is not valid for this endpoint; expected http://host/{ACCOUNT}/queue-name."
        ))),
    }
}

/// Refuses a name that a queue cannot have.
pub(super) fn check_name(name: &str) -> Result<(), SqsError> {
    if name.ends_with(".fifo") {
        return Err(SqsError::bad_value(
            "QueueName",
            name,
            "FIFO queues are not provided here, only standard ones",
        ));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 80 || !name.chars().all(allowed) {
        return Err(SqsError::invalid_parameter(
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
        ));
    }
    Ok(())
}

/// Checks attributes that a client sets. Those with an empty value are to be removed.
pub(super) fn check_attributes(transaction: &Transaction<'_>, attributes: &Attributes) -> Result<(), SqsError> {
    for (name, value) in attributes {
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.name == name) {
            let fits = |number: i64| (setting.least..=setting.most).contains(&number);
            if !value.parse().is_ok_and(fits) {
                return Err(SqsError::invalid_attribute_value(format!(
                    "Invalid value for the parameter {name}: {value:?}; expected an integer from {} to {}.",
                    setting.least, setting.most
                )));
            }
        } else if name == "RedrivePolicy" {
            if !value.is_empty() {
                let policy = redrive_policy(value)?;
                if Queue::find(transaction, &policy.target)?.is_none() {
                    return Err(SqsError::bad_value(
                        "RedrivePolicy",
                        value,
                        "Dead letter target does not exist",
                    ));
                }
            }
        } else if name == "RedriveAllowPolicy" {
            if !value.is_empty() && serde_json::from_str::<BTreeMap<String, serde_json::Value>>(value).is_err() {
                return Err(SqsError::bad_value(
                    "RedriveAllowPolicy",
                    value,
                    "It must be a JSON object",
                ));
            }
        } else if !KEPT.contains(&name.as_str()) {
            return Err(unknown_attribute(name));
        }
    }
    Ok(())
}

/// Refuses a name of an attribute that queues do not have.
pub(super) fn check_attribute_name(name: &str) -> Result<(), SqsError> {
    let known = SETTINGS.iter().map(|setting| setting.name).chain(KEPT).chain(COMPUTED);
    if known
        .chain([
            "All",
            "RedrivePolicy",
            "RedriveAllowPolicy",
            OLDEST_MESSAGE,
            CURRENT_TIME,
        ])
        .any(|k| k == name)
    {
        return Ok(());
    }
    Err(unknown_attribute(name))
}

/// The first attribute in `wanted` whose value `queue` does not have.
pub(super) fn differing<'a>(queue: &Queue, wanted: &'a Attributes) -> Option<&'a str> {
    let present = queue.described();
    wanted.iter().find_map(|(name, value)| {
        let same = match (name.as_str(), present.get(name)) {
            ("RedrivePolicy", Some(present)) => redrive_policy(value).ok() == redrive_policy(present).ok(),
            (_, present) => present.map_or("", String::as_str) == value,
        };
        (!same).then_some(name.as_str())
    })
}

/// Lays what a client set over what a queue has.
pub(super) fn merge(attributes: &mut Attributes, set: Attributes) {
    for (name, value) in set {
        if value.is_empty() {
            attributes.remove(&name);
        } else {
            attributes.insert(name, value);
        }
    }
}

fn unknown_attribute(name: &str) -> SqsError {
    SqsError::invalid_attribute_name(format!("Unknown Attribute {name}."))
}

fn redrive_policy(text: &str) -> Result<RedrivePolicy, SqsError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Policy {
        dead_letter_target_arn: String,
        max_receive_count: IntegerOrText,
    }
    // AWS takes the count both ways, and tools write it both ways.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum IntegerOrText {
        Integer(i64),
        Text(String),
    }

    let wrong = |reason: &str| SqsError::bad_value("RedrivePolicy", text, reason);
    let policy: Policy = serde_json::from_str(text)
        .map_err(|_| wrong("It must be JSON that holds deadLetterTargetArn and maxReceiveCount"))?;
    let receives = match policy.max_receive_count {
        IntegerOrText::Integer(number) => Some(number),
        IntegerOrText::Text(text) => text.parse().ok(),
    };
    let receives = receives
        .filter(|number| (1..=1000).contains(number))
        .ok_or_else(|| wrong("Invalid value for maxReceiveCount: expected an integer from 1 to 1000"))?;
    let target = name_in_arn(&policy.dead_letter_target_arn)
        .ok_or_else(|| wrong("Invalid value for deadLetterTargetArn"))?
        .to_owned();
    Ok(RedrivePolicy { target, receives })
}

/// A column that holds JSON which this module wrote.
pub(in crate::cloud) fn json_column<T: serde::de::DeserializeOwned>(
    row: &Row<'_>,
    index: usize,
) -> rusqlite::Result<T> {
    let text = row.get_ref(index)?.as_str()?;
    serde_json::from_str(text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, rusqlite::types::Type::Text, Box::new(error)))
}

/// A map of text as JSON.
pub(super) fn json_text(map: &Attributes) -> String {
    serde_json::json!(map).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_url_is_read_whatever_its_host() {
        assert_eq!(name_in_url("http://127.0.0.1:1/000000000000/q").ok(), Some("q"));
        assert_eq!(
            name_in_url("https://sqs.us-east-1.amazonaws.com/000000000000/q/").ok(),
            Some("q")
        );
        for wrong in ["", "q", "http://host/q", "http://host/0/q/more"] {
            assert!(name_in_url(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn a_redrive_policy_counts_as_number_or_text_and_within_bounds() {
        let policy = |count: &str| {
            redrive_policy(&format!(
                r#"{{"maxReceiveCount":{count},"deadLetterTargetArn":"{}"}}"#,
                arn("d")
            ))
        };
        let ten = RedrivePolicy {
            target: "d".into(),
            receives: 10,
        };
        assert_eq!(policy("10").ok(), Some(ten));
        assert_eq!(policy("\"10\"").ok(), policy("10").ok());
        for wrong in ["0", "1001", "\"ten\"", "null"] {
            assert!(policy(wrong).is_err(), "{wrong} was taken");
        }
    }
}
