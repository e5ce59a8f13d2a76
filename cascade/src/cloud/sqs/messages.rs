//! Messages: what may be sent, and what becomes of them in their queue.

use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rusqlite::{OptionalExtension, Row, Transaction};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::error::SqsError;
use super::queues::{self, Queue};
use super::{ACCOUNT, MAXIMUM_MESSAGE_BYTES};

/// What is stored about messages. Times are Unix milliseconds.
///
/// `receives` counts those from the queue the message is in, `earlier_receives` those from the queue it was
/// dead-lettered from: a redrive policy judges the former, `ApproximateReceiveCount` is the sum.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS messages (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        queue INTEGER NOT NULL,
        id TEXT NOT NULL,
        body TEXT NOT NULL,
        attributes TEXT NOT NULL,
        system_attributes TEXT NOT NULL,
        sent_at INTEGER NOT NULL,
        visible_at INTEGER NOT NULL,
        receives INTEGER NOT NULL DEFAULT 0,
        earlier_receives INTEGER NOT NULL DEFAULT 0,
        first_received_at INTEGER,
        received_at INTEGER,
        source_arn TEXT
    );
    CREATE INDEX IF NOT EXISTS messages_by_visibility ON messages (queue, visible_at, seq);
    CREATE INDEX IF NOT EXISTS messages_by_age ON messages (queue, sent_at, seq);";

/// The longest a message can stay invisible after a receive, in seconds.
const LONGEST_VISIBILITY: i64 = 43_200;
const LONGEST_DELAY: i64 = 900;
const MOST_ATTRIBUTES: usize = 10;

const SYSTEM_ATTRIBUTES: [&str; 9] = [
    "ApproximateFirstReceiveTimestamp",
    "ApproximateReceiveCount",
    "AWSTraceHeader",
    "DeadLetterQueueSourceArn",
    "MessageDeduplicationId",
    "MessageGroupId",
    "SenderId",
    "SentTimestamp",
    "SequenceNumber",
];

/// Attributes of a message by name; the order is the one that their digest needs.
pub(in crate::cloud) type MessageAttributes = BTreeMap<String, MessageAttribute>;

/// One attribute of a message.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::cloud) struct MessageAttribute {
    /// `String`, `Number` or `Binary`, perhaps with `.` and a label of the sender's own.
    #[serde(default)]
    pub(in crate::cloud) data_type: String,
    /// The value of a `String` or `Number`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cloud) string_value: Option<String>,
    /// The value of a `Binary`, in base 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(in crate::cloud) binary_value: Option<String>,
}

impl MessageAttribute {
    /// How the digest tells text from bytes, and the value's bytes.
    fn transport(&self) -> Result<(u8, Vec<u8>), &'static str> {
        match (self.data_type.split('.').next(), &self.string_value, &self.binary_value) {
            (Some("String"), Some(text), None) => Ok((1, text.as_bytes().to_vec())),
            (Some("Number"), Some(text), None) if is_number(text) => Ok((1, text.as_bytes().to_vec())),
            (Some("Number"), Some(_), None) => Err("its value is not a number"),
            (Some("Binary"), None, Some(base64)) => {
                let bytes = STANDARD.decode(base64).map_err(|_| "its value is not base 64")?;
                Ok((2, bytes))
            }
            (Some("String" | "Number"), ..) => Err("a type String or Number needs a StringValue and nothing else"),
            (Some("Binary"), ..) => Err("a type Binary needs a BinaryValue and nothing else"),
            _ => Err("its type must be String, Number or Binary, perhaps with a label"),
        }
    }
}

fn is_number(text: &str) -> bool {
    let written_as_one = text.chars().all(|c| c.is_ascii_digit() || "+-.eE".contains(c));
    written_as_one && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// A message that a client wants to send.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::cloud) struct Outgoing {
    /// Its text.
    #[serde(default)]
    pub(in crate::cloud) message_body: Option<String>,
    /// Seconds until it can be received; by default the queue's.
    #[serde(default)]
    pub(in crate::cloud) delay_seconds: Option<i64>,
    /// The sender's own attributes.
    #[serde(default)]
    pub(in crate::cloud) message_attributes: Option<MessageAttributes>,
    /// The X-Ray header, if any.
    #[serde(default)]
    pub(in crate::cloud) message_system_attributes: Option<MessageAttributes>,
    /// Accepted on standard queues for fair queueing; has no effect here but is handed on.
    #[serde(default)]
    pub(in crate::cloud) message_group_id: Option<String>,
    /// For FIFO queues only.
    #[serde(default)]
    pub(in crate::cloud) message_deduplication_id: Option<String>,
}

impl Outgoing {
    /// What counts against the limit on size: body and attributes, in bytes.
    pub(in crate::cloud) fn size(&self) -> usize {
        let body = self.message_body.as_ref().map_or(0, String::len);
        let attributes = self.message_attributes.iter().flatten().map(|(name, attribute)| {
            let value = attribute.transport().map_or(0, |(_, bytes)| bytes.len());
            name.len() + attribute.data_type.len() + value
        });
        body + attributes.sum::<usize>()
    }

    /// Checks the message against AWS's limits and stores it. Answers as SendMessage does.
    pub(in crate::cloud) fn send(
        &self,
        transaction: &Transaction<'_>,
        queue: &Queue,
        now: i64,
    ) -> Result<Value, SqsError> {
        let body = self
            .message_body
            .as_deref()
            .filter(|body| !body.is_empty())
            .ok_or_else(|| SqsError::missing_parameter("The request must contain the parameter MessageBody."))?;
        check_characters(body)?;
        let limit = queue.setting("MaximumMessageSize");
        if self.size() as i64 > limit {
            return Err(SqsError::invalid_parameter(format!(
                "One or more parameters are invalid. Reason: Message must be shorter than {limit} bytes."
            )));
        }
        if let Some(seconds) = self.delay_seconds
            && !(0..=LONGEST_DELAY).contains(&seconds)
        {
            return Err(SqsError::bad_value(
                "DelaySeconds",
                seconds,
                "DelaySeconds must be >= 0 and <= 900",
            ));
        }
        if self.message_deduplication_id.is_some() {
            return Err(SqsError::invalid_parameter(
                "The request includes the parameter MessageDeduplicationId, which is not valid for this queue type.",
            ));
        }
        let none = MessageAttributes::new();
        let attributes = self.message_attributes.as_ref().unwrap_or(&none);
        check_attributes(attributes)?;
        let trace = self.message_system_attributes.as_ref().unwrap_or(&none);
        if let Some(name) = trace.keys().find(|name| *name != "AWSTraceHeader") {
            return Err(SqsError::invalid_parameter(format!(
                "Message system attribute name '{name}' is invalid; the only one that can be sent is AWSTraceHeader."
            )));
        }

        let mut system: queues::Attributes = trace
            .iter()
            .filter_map(|(name, attribute)| Some((name.clone(), attribute.string_value.clone()?)))
            .collect();
        if let Some(group) = &self.message_group_id {
            system.insert("MessageGroupId".into(), group.clone());
        }
        let id = Uuid::new_v4().to_string();
        let delay = self.delay_seconds.unwrap_or_else(|| queue.setting("DelaySeconds"));
        transaction
            .prepare_cached(
                "INSERT INTO messages (queue, id, body, attributes, system_attributes, sent_at, visible_at)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
            )?
            .execute((
                queue.id,
                &id,
                body,
                json!(attributes).to_string(),
                queues::json_text(&system),
                now,
                now + delay * 1000,
            ))?;
        let mut answer = json!({"MessageId": id, "MD5OfMessageBody": digest(body)});
        if !attributes.is_empty() {
            answer["MD5OfMessageAttributes"] = attributes_digest(attributes).into();
        }
        if !trace.is_empty() {
            answer["MD5OfMessageSystemAttributes"] = attributes_digest(trace).into();
        }
        Ok(answer)
    }
}

/// Refuses a body with a character that the W3C's XML 1.0 does not allow.
fn check_characters(body: &str) -> Result<(), SqsError> {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{FFFD}' | '\u{10000}'..);
    match body.chars().find(|&c| !allowed(c)) {
        None => Ok(()),
        Some(c) => Err(SqsError::invalid_message_contents(format!(
            "Invalid character '#x{:X}' was found in the message body, the set of allowed characters is \
             #x9 | #xA | #xD | [#x20-#xD7FF] | [#xE000-#xFFFD] | [#x10000-#x10FFFF].",
            u32::from(c)
        ))),
    }
}

fn check_attributes(attributes: &MessageAttributes) -> Result<(), SqsError> {
    if attributes.len() > MOST_ATTRIBUTES {
        return Err(SqsError::invalid_parameter(format!(
            "Number of message attributes [{}] exceeds the allowed maximum [{MOST_ATTRIBUTES}].",
            attributes.len()
        )));
    }
    for (name, attribute) in attributes {
        let lower = name.to_ascii_lowercase();
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let well_formed = (1..=256).contains(&name.len())
            && name.chars().all(allowed)
            && !name.starts_with('.')
            && !name.ends_with('.')
            && !name.contains("..");
        if !well_formed || lower.starts_with("aws.") || lower.starts_with("amazon.") {
            return Err(SqsError::invalid_parameter(format!(
                "Message (user) attribute name '{name}' is invalid: 1 to 256 letters, digits, _ - and single periods \
                 inside, not beginning with AWS. or Amazon."
            )));
        }
        let wrong = |reason: &str| {
            SqsError::invalid_parameter(format!("The message (user) attribute '{name}' is invalid: {reason}."))
        };
        if attribute.data_type.len() > 256 {
            return Err(wrong("its type is longer than 256 characters"));
        }
        let (_, value) = attribute.transport().map_err(wrong)?;
        if value.is_empty() {
            return Err(SqsError::invalid_parameter(format!(
                "Message (user) attribute '{name}' must contain a non-empty value of type '{}'.",
                attribute.data_type
            )));
        }
        if attribute
            .string_value
            .as_deref()
            .is_some_and(|text| check_characters(text).is_err())
        {
            return Err(wrong("its value holds a character that is not allowed"));
        }
    }
    Ok(())
}

/// The MD5 that SQS gives of a text, by which clients check that it arrived whole.
fn digest(text: &str) -> String {
    format!("{:x}", md5::compute(text))
}

/// The MD5 of attributes: each name, type and value in order of name, with lengths of four bytes before them.
fn attributes_digest(attributes: &MessageAttributes) -> String {
    let mut digest = md5::Context::new();
    let mut consume = |bytes: &[u8], before: &[u8]| {
        digest.consume(before);
        digest.consume((bytes.len() as u32).to_be_bytes());
        digest.consume(bytes);
    };
    for (name, attribute) in attributes {
        // What is stored was checked when it was sent, so the other case does not arise.
        if let Ok((kind, value)) = attribute.transport() {
            consume(name.as_bytes(), &[]);
            consume(attribute.data_type.as_bytes(), &[]);
            consume(&value, &[kind]);
        }
    }
    format!("{:x}", digest.compute())
}

/// What a receive is to return with its messages.
pub(super) struct Wanted {
    system: Vec<String>,
    user: Vec<String>,
}

impl Wanted {
    /// Checks the names of system attributes; those of users' attributes can be any.
    pub(super) fn new(system: Vec<String>, user: Vec<String>) -> Result<Self, SqsError> {
        for name in &system {
            if name != "All" && !SYSTEM_ATTRIBUTES.contains(&name.as_str()) {
                // The older parameter, AttributeNames, is also allowed to name a queue's attributes.
                queues::check_attribute_name(name)?;
            }
        }
        Ok(Self { system, user })
    }

    fn wants_system(&self, name: &str) -> bool {
        self.system.iter().any(|wanted| wanted == "All" || wanted == name)
    }

    fn wants_user(&self, name: &str) -> bool {
        self.user.iter().any(|wanted| match wanted.strip_suffix(".*") {
            Some(prefix) => name.starts_with(prefix),
            None => wanted == "All" || wanted == name,
        })
    }
}

/// What one look into a queue gave.
pub(super) struct Received {
    /// As ReceiveMessage answers them.
    pub(super) messages: Vec<Value>,
    /// When the next message there is becomes visible.
    pub(super) next_visible_at: Option<i64>,
    /// The dead-letter queue that got messages, if any did.
    pub(super) dead_lettered_to: Option<i64>,
}

/// One message as it is stored, right before a receive.
struct Stored {
    seq: i64,
    id: String,
    body: String,
    attributes: MessageAttributes,
    system_attributes: queues::Attributes,
    sent_at: i64,
    receives: i64,
    earlier_receives: i64,
    first_received_at: Option<i64>,
    source_arn: Option<String>,
}

impl Stored {
    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            seq: row.get(0)?,
            id: row.get(1)?,
            body: row.get(2)?,
            attributes: queues::json_column(row, 3)?,
            system_attributes: queues::json_column(row, 4)?,
            sent_at: row.get(5)?,
            receives: row.get(6)?,
            earlier_receives: row.get(7)?,
            first_received_at: row.get(8)?,
            source_arn: row.get(9)?,
        })
    }

    fn claims(&self) -> i64 {
        self.receives + self.earlier_receives
    }

    /// The message as the receive that happens `now` returns it.
    fn into_answer(self, queue: &Queue, wanted: &Wanted, now: i64) -> Value {
        let handle = Receipt {
            queue: queue.id,
            seq: self.seq,
            claim: self.claims() + 1,
        };
        let mut answer = json!({
            "MessageId": self.id,
            "ReceiptHandle": handle.to_string(),
            "MD5OfBody": digest(&self.body),
        });
        let mut system = self.system_attributes;
        system.insert("SenderId".into(), ACCOUNT.into());
        system.insert("SentTimestamp".into(), self.sent_at.to_string());
        system.insert(
            "ApproximateReceiveCount".into(),
            (self.receives + self.earlier_receives + 1).to_string(),
        );
        system.insert(
            "ApproximateFirstReceiveTimestamp".into(),
            self.first_received_at.unwrap_or(now).to_string(),
        );
        if let Some(source) = self.source_arn {
            system.insert("DeadLetterQueueSourceArn".into(), source);
        }
        system.retain(|name, _| wanted.wants_system(name));
        if !system.is_empty() {
            answer["Attributes"] = json!(system);
        }
        let mut attributes = self.attributes;
        attributes.retain(|name, _| wanted.wants_user(name));
        if !attributes.is_empty() {
            answer["MD5OfMessageAttributes"] = attributes_digest(&attributes).into();
            answer["MessageAttributes"] = json!(attributes);
        }
        answer["Body"] = self.body.into();
        answer
    }
}

/// Receives up to `most` messages that are visible `now`, and hides them for `visibility` seconds.
///
/// A message that was received as often as the redrive policy allows goes to the dead-letter queue instead, with its
/// id, its attributes and the time it was sent.
pub(super) fn receive(
    transaction: &Transaction<'_>,
    queue: &Queue,
    wanted: &Wanted,
    most: i64,
    visibility: i64,
    now: i64,
) -> Result<Received, SqsError> {
    drop_expired(transaction, queue, now)?;
    let redrive = match queue.redrive_policy() {
        Some(policy) => Queue::find(transaction, &policy.target)?.map(|target| (target.id, policy.receives)),
        None => None,
    };
    let mut dead_lettered_to = None;
    let received = loop {
        let visible: Vec<Stored> = transaction
            .prepare_cached(
                "SELECT seq, id, body, attributes, system_attributes, sent_at, receives, earlier_receives,
                     first_received_at, source_arn
                 FROM messages WHERE queue = ? AND visible_at <= ? ORDER BY visible_at, seq LIMIT ?",
            )?
            .query_map((queue.id, now, most), Stored::from_row)?
            .collect::<rusqlite::Result<_>>()?;
        let Some((target, allowed)) = redrive else {
            break visible;
        };
        let exhausted: Vec<i64> = visible
            .iter()
            .filter(|message| message.receives >= allowed)
            .map(|message| message.seq)
            .collect();
        if exhausted.is_empty() {
            break visible;
        }
        for seq in exhausted {
            transaction
                .prepare_cached(
                    "UPDATE messages SET queue = ?, source_arn = ?, visible_at = ?, receives = 0,
                         earlier_receives = earlier_receives + receives
                     WHERE seq = ?",
                )?
                .execute((target, queues::arn(&queue.name), now, seq))?;
        }
        dead_lettered_to = Some(target);
    };
    for message in &received {
        transaction
            .prepare_cached(
                "UPDATE messages SET visible_at = ?, receives = receives + 1, received_at = ?,
                     first_received_at = coalesce(first_received_at, ?)
                 WHERE seq = ?",
            )?
            .execute((now + visibility * 1000, now, now, message.seq))?;
    }
    let next_visible_at = transaction
        .prepare_cached("SELECT min(visible_at) FROM messages WHERE queue = ?")?
        .query_row([queue.id], |row| row.get(0))?;
    Ok(Received {
        messages: received
            .into_iter()
            .map(|message| message.into_answer(queue, wanted, now))
            .collect(),
        next_visible_at,
        dead_lettered_to,
    })
}

/// What a client shows to delete or hide a message that it received.
#[derive(Debug, PartialEq)]
struct Receipt {
    queue: i64,
    seq: i64,
    /// Which of the message's receives it stands for: only the latest one's receipt is good.
    claim: i64,
}

impl std::fmt::Display for Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plain = format!("receipt {} {} {}", self.queue, self.seq, self.claim);
        f.write_str(&URL_SAFE_NO_PAD.encode(plain))
    }
}

impl Receipt {
    fn parse(handle: &str, queue: &Queue) -> Result<Self, SqsError> {
        let invalid =
            || SqsError::receipt_handle_is_invalid(format!("The input receipt handle \"{handle}\" is not valid."));
        let bytes = URL_SAFE_NO_PAD.decode(handle).map_err(|_| invalid())?;
        let plain = String::from_utf8(bytes).map_err(|_| invalid())?;
        let numbers = plain
            .strip_prefix("receipt ")
            .map(|numbers| numbers.split(' ').map(str::parse).collect::<Result<Vec<i64>, _>>());
        match numbers {
            Some(Ok(numbers)) => match numbers[..] {
                [of, seq, claim] if of == queue.id => Ok(Self { queue: of, seq, claim }),
                _ => Err(invalid()),
            },
            _ => Err(invalid()),
        }
    }
}

/// Deletes the message of that receipt. One that is gone already, or was received again since, is no error.
pub(super) fn delete(transaction: &Transaction<'_>, queue: &Queue, handle: &str) -> Result<(), SqsError> {
    let receipt = Receipt::parse(handle, queue)?;
    transaction
        .prepare_cached("DELETE FROM messages WHERE seq = ? AND queue = ? AND receives + earlier_receives = ?")?
        .execute((receipt.seq, queue.id, receipt.claim))?;
    Ok(())
}

/// Hides the message of that receipt for `seconds` from now on.
pub(super) fn change_visibility(
    transaction: &Transaction<'_>,
    queue: &Queue,
    handle: &str,
    seconds: i64,
    now: i64,
) -> Result<(), SqsError> {
    check_visibility(seconds)?;
    let receipt = Receipt::parse(handle, queue)?;
    let found: Option<(i64, i64)> = transaction
        .prepare_cached(
            "SELECT visible_at, received_at FROM messages
             WHERE seq = ? AND queue = ? AND receives + earlier_receives = ?",
        )?
        .query_row((receipt.seq, queue.id, receipt.claim), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    let Some((visible_at, received_at)) = found else {
        return Err(SqsError::bad_value(
            "ReceiptHandle",
            handle,
            "Message does not exist or is not available for visibility timeout change",
        ));
    };
    if visible_at <= now {
        return Err(SqsError::message_not_inflight("The specified message isn't in flight."));
    }
    let until = now + seconds * 1000;
    if until > received_at + LONGEST_VISIBILITY * 1000 {
        return Err(SqsError::bad_value(
            "VisibilityTimeout",
            seconds,
            "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]",
        ));
    }
    transaction
        .prepare_cached("UPDATE messages SET visible_at = ? WHERE seq = ?")?
        .execute((until, receipt.seq))?;
    Ok(())
}

/// Refuses a visibility time-out that is out of bounds.
pub(super) fn check_visibility(seconds: i64) -> Result<(), SqsError> {
    if (0..=LONGEST_VISIBILITY).contains(&seconds) {
        return Ok(());
    }
    Err(SqsError::bad_value(
        "VisibilityTimeout",
        seconds,
        "Must be between 0 and 43200, if provided",
    ))
}

/// How many messages of a queue are visible, in flight, and delayed.
pub(super) fn counts(transaction: &Transaction<'_>, queue: &Queue, now: i64) -> rusqlite::Result<queues::Attributes> {
    drop_expired(transaction, queue, now)?;
    let names = [
        "ApproximateNumberOfMessages",
        "ApproximateNumberOfMessagesNotVisible",
        "ApproximateNumberOfMessagesDelayed",
    ];
    let counts: [i64; 3] = transaction
        .prepare_cached(
            "SELECT count(*) FILTER (WHERE visible_at <= ?2),
                    count(*) FILTER (WHERE visible_at > ?2 AND receives > 0),
                    count(*) FILTER (WHERE visible_at > ?2 AND receives = 0)
             FROM messages WHERE queue = ?1",
        )?
        .query_row((queue.id, now), |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?;
    Ok(names
        .iter()
        .zip(counts)
        .map(|(name, count)| ((*name).to_owned(), count.to_string()))
        .collect())
}

/// The age of a queue's oldest message in seconds; `None` if it has no message.
pub(super) fn oldest_seconds(transaction: &Transaction<'_>, queue: &Queue, now: i64) -> rusqlite::Result<Option<i64>> {
    let sent_at: Option<i64> = transaction
        .prepare_cached("SELECT min(sent_at) FROM messages WHERE queue = ?")?
        .query_row([queue.id], |row| row.get(0))?;
    Ok(sent_at.map(|sent_at| (now - sent_at).max(0) / 1000))
}

/// Deletes all messages of a queue.
pub(super) fn purge(transaction: &Transaction<'_>, queue: &Queue) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM messages WHERE queue = ?", [queue.id])?;
    Ok(())
}

/// Deletes the messages that are older than the queue keeps them.
fn drop_expired(transaction: &Transaction<'_>, queue: &Queue, now: i64) -> rusqlite::Result<()> {
    let oldest = now - queue.setting("MessageRetentionPeriod") * 1000;
    transaction
        .prepare_cached("DELETE FROM messages WHERE queue = ? AND sent_at <= ?")?
        .execute((queue.id, oldest))?;
    Ok(())
}

/// What moving messages out of a dead-letter queue came to.
pub(super) struct Moved {
    /// How many messages of each destination's id were moved.
    pub(super) by_destination: HashMap<i64, i64>,
    /// Why no more can be moved, in AWS's words.
    pub(super) failure: Option<&'static str>,
}

/// Moves up to `most` visible messages of `source`, oldest first and none that came after `last_seq`, to `destination`
/// or, without one, to the queue each of them was dead-lettered from. As on AWS they are new messages there, with
/// another id and sent now.
pub(super) fn redrive(
    transaction: &Transaction<'_>,
    source: i64,
    destination: Option<i64>,
    last_seq: i64,
    most: i64,
    now: i64,
) -> rusqlite::Result<Moved> {
    let mut moved = Moved {
        by_destination: HashMap::new(),
        failure: None,
    };
    let waiting: Vec<(i64, Option<String>)> = transaction
        .prepare_cached(
            "SELECT seq, source_arn FROM messages WHERE queue = ? AND visible_at <= ? AND seq <= ?
             ORDER BY sent_at, seq LIMIT ?",
        )?
        .query_map((source, now, last_seq, most), |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (seq, source_arn) in waiting {
        let target = match (destination, source_arn.as_deref().and_then(queues::name_in_arn)) {
            (Some(destination), _) => destination,
            (None, Some(name)) => match Queue::find(transaction, name)? {
                Some(queue) => queue.id,
                None => {
                    moved.failure = Some("AWS.SimpleQueueService.NonExistentQueue");
                    break;
                }
            },
            (None, None) => {
                moved.failure = Some("CouldNotDetermineMessageSource");
                break;
            }
        };
        transaction
            .prepare_cached(
                "INSERT INTO messages (queue, id, body, attributes, system_attributes, sent_at, visible_at)
                 SELECT ?, ?, body, attributes, system_attributes, ?, ? FROM messages WHERE seq = ?",
            )?
            .execute((target, Uuid::new_v4().to_string(), now, now, seq))?;
        transaction
            .prepare_cached("DELETE FROM messages WHERE seq = ?")?
            .execute([seq])?;
        *moved.by_destination.entry(target).or_default() += 1;
    }
    Ok(moved)
}

/// How many messages of a queue are visible, and the number of the latest.
pub(super) fn visible(transaction: &Transaction<'_>, queue: &Queue, now: i64) -> rusqlite::Result<(i64, i64)> {
    drop_expired(transaction, queue, now)?;
    transaction.query_row(
        "SELECT count(*), coalesce(max(seq), 0) FROM messages WHERE queue = ? AND visible_at <= ?",
        (queue.id, now),
        |row| Ok((row.get(0)?, row.get(1)?)),
    )
}

/// Refuses a batch with no entries, too many, or ids that are malformed or not distinct; `entry` names their type.
pub(super) fn check_batch(ids: &[Option<&str>], entry: &str) -> Result<(), SqsError> {
    if ids.is_empty() {
        return Err(SqsError::empty_batch_request(format!(
            "There should be at least one {entry} in the request."
        )));
    }
    if ids.len() > 10 {
        return Err(SqsError::too_many_entries(format!(
            "Maximum number of entries per request are 10. You have sent {}.",
            ids.len()
        )));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    for (index, id) in ids.iter().enumerate() {
        let id = id.unwrap_or_default();
        if id.is_empty() || id.len() > 80 || !id.chars().all(allowed) {
            return Err(SqsError::invalid_batch_entry_id(
                "A batch entry id can only contain alphanumeric characters, hyphens and underscores. \
                 It can be at most 80 letters long.",
            ));
        }
        if ids[..index].contains(&Some(id)) {
            return Err(SqsError::batch_entry_ids_not_distinct(format!("Id {id} repeated.")));
        }
    }
    Ok(())
}

/// Refuses a batch of messages that are too long together.
pub(super) fn check_batch_size(bytes: usize) -> Result<(), SqsError> {
    if bytes <= MAXIMUM_MESSAGE_BYTES {
        return Ok(());
    }
    Err(SqsError::batch_request_too_long(format!(
        "Batch requests cannot be longer than {MAXIMUM_MESSAGE_BYTES} bytes. You have sent {bytes} bytes."
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(data_type: &str, text: Option<&str>, base64: Option<&str>) -> MessageAttribute {
        MessageAttribute {
            data_type: data_type.into(),
            string_value: text.map(Into::into),
            binary_value: base64.map(Into::into),
        }
    }

    #[test]
    fn the_digest_of_attributes_follows_the_rule_that_aws_publishes() {
        // Written out by hand from the developer guide's steps: name, type, transport, value; big-endian lengths.
        let attributes = MessageAttributes::from([
            ("b".to_owned(), attribute("Binary", None, Some("AAE="))),
            ("a".to_owned(), attribute("Number.int", Some("7"), None)),
        ]);
        let bytes = b"\0\0\0\x01a\0\0\0\x0aNumber.int\x01\0\0\0\x017\0\0\0\x01b\0\0\0\x06Binary\x02\0\0\0\x02\0\x01";
        assert_eq!(attributes_digest(&attributes), format!("{:x}", md5::compute(bytes)));
    }

    #[test]
    fn an_attribute_whose_value_does_not_fit_its_type_is_refused() {
        for wrong in [
            attribute("Number", Some("seven"), None),
            attribute("Number", Some("inf"), None),
            attribute("Binary", None, Some("***")),
            attribute("Binary", Some("text"), None),
            attribute("Boolean", Some("true"), None),
            attribute("String", None, None),
            attribute("String", Some(""), None),
            attribute("", Some("x"), None),
        ] {
            let attributes = MessageAttributes::from([("name".to_owned(), wrong.clone())]);
            assert!(check_attributes(&attributes).is_err(), "{wrong:?} was taken");
        }
        for right in [
            attribute("Number", Some("-1.5e3"), None),
            attribute("String.label", Some("x"), None),
        ] {
            let attributes = MessageAttributes::from([("name".to_owned(), right.clone())]);
            assert!(check_attributes(&attributes).is_ok(), "{right:?} was refused");
        }
    }

    #[test]
    fn only_characters_of_xml_are_taken() {
        for right in ["a\tb\r\n", "\u{D7FF}\u{E000}\u{FFFD}\u{10000}\u{10FFFF}"] {
            assert!(check_characters(right).is_ok(), "{right:?} was refused");
        }
        for wrong in ["\0", "\u{1F}", "\u{FFFE}", "\u{FFFF}"] {
            assert!(check_characters(wrong).is_err(), "{wrong:?} was taken");
        }
    }

    #[test]
    fn attributes_can_be_asked_for_by_prefix() {
        let wanted = Wanted {
            system: vec![],
            user: vec!["run.*".into(), "reason".into()],
        };
        let all = ["run.id", "run.at", "reason", "reasons", "other"];
        let got: Vec<_> = all.into_iter().filter(|name| wanted.wants_user(name)).collect();
        assert_eq!(got, ["run.id", "run.at", "reason"]);
    }
}
