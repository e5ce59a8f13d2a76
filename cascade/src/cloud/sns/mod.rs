//! SNS: topics whose messages go to SQS queues and to an outbox, which shows what e-mail subscribers would have got.
//!
//! Standard topics, the protocols `sqs` and `email`. Messages are not signed (their signature says so), tags and
//! access policies are accepted and govern nothing, filter policies are refused.

pub(super) mod wire;

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row, Transaction};
use serde_json::{Value, json};
use shared::clock::Clock;
use time::UtcDateTime;
use time::macros::format_description;
use uuid::Uuid;

use super::sqs::messages::{MessageAttribute, MessageAttributes, Outgoing};
use super::sqs::queues::{self, Queue};
use super::sqs::{Sqs, SqsError};
use super::store::Store;
use super::{ACCOUNT, REGION, unix_milliseconds};
use wire::{Form, SnsError};

/// What is stored about topics.
pub(super) const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS topics (
        name TEXT PRIMARY KEY,
        attributes TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS subscriptions (
        arn TEXT PRIMARY KEY,
        topic TEXT NOT NULL,
        protocol TEXT NOT NULL,
        endpoint TEXT NOT NULL,
        raw INTEGER NOT NULL,
        confirmed INTEGER NOT NULL,
        token TEXT NOT NULL,
        UNIQUE (topic, protocol, endpoint)
    );
    CREATE TABLE IF NOT EXISTS outbox (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        sent_at INTEGER NOT NULL,
        recipient TEXT NOT NULL,
        topic_arn TEXT NOT NULL,
        subject TEXT NOT NULL,
        body TEXT NOT NULL,
        confirmation_token TEXT
    );";

/// The limit on a message with its attributes, in bytes.
const MAXIMUM_MESSAGE_BYTES: usize = 262_144;
const PAGE: usize = 100;

const ACTIONS: &str = "ConfirmSubscription, CreateTopic, DeleteTopic, GetSubscriptionAttributes, GetTopicAttributes, \
    ListSubscriptions, ListSubscriptionsByTopic, ListTopics, Publish, SetSubscriptionAttributes, SetTopicAttributes, \
    Subscribe, Unsubscribe";

/// Attributes of a topic that can be set.
const TOPIC_ATTRIBUTES: [&str; 6] = [
    "DeliveryPolicy",
    "DisplayName",
    "KmsMasterKeyId",
    "Policy",
    "SignatureVersion",
    "TracingConfig",
];

/// A mail that a subscriber would have got.
#[derive(Clone, Debug, PartialEq)]
pub struct Mail {
    /// When it was sent.
    pub sent_at: UtcDateTime,
    /// The subscriber's address.
    pub to: String,
    /// The topic it came from.
    pub topic_arn: String,
    /// The subject as published, or AWS's default.
    pub subject: String,
    /// The message.
    pub body: String,
    /// On the mail that asks for confirmation: what ConfirmSubscription wants to see.
    pub confirmation_token: Option<String>,
}

/// The service.
pub(super) struct Sns {
    store: Store,
    clock: Clock,
    sqs: Sqs,
}

/// A subscription as it is stored.
struct Subscription {
    arn: String,
    topic: String,
    protocol: String,
    endpoint: String,
    raw: bool,
    confirmed: bool,
}

impl Subscription {
    const SELECT: &str = "SELECT arn, topic, protocol, endpoint, raw, confirmed FROM subscriptions";

    fn from_row(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            arn: row.get(0)?,
            topic: row.get(1)?,
            protocol: row.get(2)?,
            endpoint: row.get(3)?,
            raw: row.get(4)?,
            confirmed: row.get(5)?,
        })
    }

    fn get(transaction: &Transaction<'_>, arn: &str) -> Result<Self, SnsError> {
        transaction
            .query_row(&format!("{} WHERE arn = ?", Self::SELECT), [arn], Self::from_row)
            .optional()?
            .ok_or(SnsError::NotFound("Subscription"))
    }

    /// All subscriptions, or those of one topic.
    fn list(transaction: &Transaction<'_>, topic: Option<&str>) -> rusqlite::Result<Vec<Self>> {
        let sql = format!("{} WHERE ?1 IS NULL OR topic = ?1 ORDER BY arn", Self::SELECT);
        let mut statement = transaction.prepare_cached(&sql)?;
        statement.query_map([topic], Self::from_row)?.collect()
    }

    /// As the lists show it, which keep back the ARN until the subscription is confirmed.
    fn member(&self) -> String {
        let arn = if self.confirmed {
            &self.arn
        } else {
            "PendingConfirmation"
        };
        let inner = wire::element("SubscriptionArn", arn)
            + &wire::element("Owner", ACCOUNT)
            + &wire::element("Protocol", &self.protocol)
            + &wire::element("Endpoint", &self.endpoint)
            + &wire::element("TopicArn", &topic_arn(&self.topic));
        wire::wrap("member", &inner)
    }
}

/// What is published.
struct Publication {
    id: String,
    topic_arn: String,
    message: Message,
    subject: Option<String>,
    attributes: MessageAttributes,
    at: UtcDateTime,
}

/// A message, perhaps with another text for each protocol (`MessageStructure=json`).
enum Message {
    Plain(String),
    ByProtocol(BTreeMap<String, Value>),
}

impl Message {
    fn parse(text: &str, structure: Option<&str>) -> Result<Self, SnsError> {
        let wrong = |reason: &str| SnsError::InvalidParameter(format!("Message Structure - {reason}"));
        match structure {
            None => Ok(Self::Plain(text.to_owned())),
            Some("json") => {
                let texts: BTreeMap<String, Value> =
                    serde_json::from_str(text).map_err(|_| wrong("JSON message body failed to parse"))?;
                if !texts.get("default").is_some_and(Value::is_string) {
                    return Err(wrong("No default entry in JSON message body"));
                }
                Ok(Self::ByProtocol(texts))
            }
            Some(_) => Err(wrong("Only json is known")),
        }
    }

    fn text(&self, protocol: &str) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::ByProtocol(texts) => [protocol, "default"]
                .iter()
                .find_map(|key| texts.get(*key).and_then(Value::as_str))
                .unwrap_or_default(),
        }
    }
}

impl Publication {
    /// What a subscribed queue gets.
    fn for_queue(&self, subscription: &Subscription) -> Outgoing {
        let text = self.message.text("sqs");
        if subscription.raw {
            return Outgoing {
                message_body: Some(text.to_owned()),
                message_attributes: Some(self.attributes.clone()),
                ..Outgoing::default()
            };
        }
        let mut envelope = json!({
            "Type": "Notification",
            "MessageId": self.id,
            "TopicArn": self.topic_arn,
            "Message": text,
            "Timestamp": timestamp(self.at),
            "SignatureVersion": "1",
            "Signature": "not signed: sent by the embedded SNS",
            "SigningCertURL": "",
            "UnsubscribeURL": "",
        });
        if let Some(subject) = &self.subject {
            envelope["Subject"] = subject.as_str().into();
        }
        if !self.attributes.is_empty() {
            let attributes = self.attributes.iter().map(|(name, attribute)| {
                let value = attribute.string_value.as_ref().or(attribute.binary_value.as_ref());
                (name.clone(), json!({"Type": attribute.data_type, "Value": value}))
            });
            envelope["MessageAttributes"] = attributes.collect::<serde_json::Map<_, _>>().into();
        }
        Outgoing {
            message_body: Some(envelope.to_string()),
            ..Outgoing::default()
        }
    }

    /// Hands the message to everyone who has subscribed; answers the ids of the queues that got it.
    fn deliver(&self, transaction: &Transaction<'_>, topic: &str) -> Result<Vec<i64>, SnsError> {
        let mut queues = Vec::new();
        for subscription in Subscription::list(transaction, Some(topic))? {
            if !subscription.confirmed {
                continue;
            }
            if subscription.protocol == "email" {
                let subject = self.subject.as_deref().unwrap_or("AWS Notification Message");
                let body = self.message.text("email");
                post(
                    transaction,
                    self.at,
                    &subscription.endpoint,
                    &self.topic_arn,
                    subject,
                    body,
                    None,
                )?;
                continue;
            }
            let queue = match queues::name_in_arn(&subscription.endpoint) {
                Some(name) => Queue::find(transaction, name)?,
                None => None,
            };
            let Some(queue) = queue else {
                tracing::warn!(
                    queue = subscription.endpoint,
                    "a topic's message found no queue and is lost"
                );
                continue;
            };
            match self
                .for_queue(&subscription)
                .send(transaction, &queue, unix_milliseconds(self.at))
            {
                Ok(_) => queues.push(queue.id),
                Err(SqsError::Storage(error)) => return Err(error.into()),
                Err(refused @ SqsError::Refused { .. }) => {
                    tracing::warn!(
                        queue = subscription.endpoint,
                        error = &refused as &dyn std::error::Error,
                        "a topic's message was refused by its queue and is lost"
                    );
                }
            }
        }
        Ok(queues)
    }
}

impl Sns {
    /// The service over `store`, which the queues of `sqs` are in too.
    pub(super) fn new(store: Store, clock: Clock, sqs: Sqs) -> Self {
        Self { store, clock, sqs }
    }

    /// Does the action that `form` names; answers in XML.
    pub(super) async fn handle(&self, form: Form, request_id: &str) -> Result<String, SnsError> {
        let action = form.get("Action").unwrap_or_default().to_owned();
        let result = match action.as_str() {
            "ConfirmSubscription" => self.run(move |t| confirm_subscription(t, &form)).await.map(Some),
            "CreateTopic" => self.run(move |t| create_topic(t, &form)).await.map(Some),
            "DeleteTopic" => self.run(move |t| delete_topic(t, &form)).await.map(|()| None),
            "GetSubscriptionAttributes" => self.run(move |t| subscription_attributes(t, &form)).await.map(Some),
            "GetTopicAttributes" => self.run(move |t| topic_attributes(t, &form)).await.map(Some),
            "ListSubscriptions" => self.run(move |t| list_subscriptions(t, &form, None)).await.map(Some),
            "ListSubscriptionsByTopic" => self.run(move |t| list_by_topic(t, &form)).await.map(Some),
            "ListTopics" => self.run(move |t| list_topics(t, &form)).await.map(Some),
            "Publish" => self.publish(form).await.map(Some),
            "SetSubscriptionAttributes" => self
                .run(move |t| set_subscription_attribute(t, &form))
                .await
                .map(|()| None),
            "SetTopicAttributes" => self.run(move |t| set_topic_attribute(t, &form)).await.map(|()| None),
            "Subscribe" => {
                let now = self.clock.now();
                self.run(move |t| subscribe(t, &form, now)).await.map(Some)
            }
            "Unsubscribe" => self.run(move |t| unsubscribe(t, &form)).await.map(|()| None),
            other => Err(SnsError::InvalidAction(format!(
                "The action {other} is not provided by the embedded SNS, which provides {ACTIONS}."
            ))),
        };
        Ok(wire::answer(&action, result?.as_deref(), request_id))
    }

    /// What e-mail subscribers would have got, oldest first.
    pub(super) async fn outbox(&self) -> Result<Vec<Mail>, rusqlite::Error> {
        self.store
            .run(|transaction| {
                let mut statement = transaction.prepare_cached(
                    "SELECT sent_at, recipient, topic_arn, subject, body, confirmation_token FROM outbox ORDER BY seq",
                )?;
                let mails = statement.query_map([], |row| {
                    let nanoseconds = i128::from(row.get::<_, i64>(0)?) * 1_000_000;
                    Ok(Mail {
                        sent_at: UtcDateTime::from_unix_timestamp_nanos(nanoseconds)
                            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?,
                        to: row.get(1)?,
                        topic_arn: row.get(2)?,
                        subject: row.get(3)?,
                        body: row.get(4)?,
                        confirmation_token: row.get(5)?,
                    })
                })?;
                mails.collect()
            })
            .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, SnsError> + Send + 'static,
    ) -> Result<T, SnsError> {
        self.store.run(work).await
    }

    async fn publish(&self, form: Form) -> Result<String, SnsError> {
        let invalid = |what: &str| Err(SnsError::InvalidParameter(what.to_owned()));
        let Some(arn) = form.get("TopicArn").or(form.get("TargetArn")) else {
            return invalid("TopicArn is missing; a topic is all that can be published to here");
        };
        let topic = topic_name(arn)?.to_owned();
        let text = form.required("Message")?;
        let subject = form.get("Subject").map(str::to_owned);
        let attributes = message_attributes(&form)?;
        let outgoing = Outgoing {
            message_body: Some(text.to_owned()),
            message_attributes: Some(attributes.clone()),
            ..Outgoing::default()
        };
        if text.is_empty() {
            return invalid("Empty message");
        }
        if outgoing.size() > MAXIMUM_MESSAGE_BYTES {
            return invalid("Message too long");
        }
        if let Some(subject) = &subject
            && (subject.is_empty() || subject.chars().count() > 100 || subject.chars().any(char::is_control))
        {
            return invalid("Subject");
        }
        let publication = Publication {
            id: Uuid::new_v4().to_string(),
            topic_arn: topic_arn(&topic),
            message: Message::parse(text, form.get("MessageStructure"))?,
            subject,
            attributes,
            at: self.clock.now(),
        };
        let answer = wire::element("MessageId", &publication.id);
        let deliver = move |transaction: &Transaction<'_>| {
            attributes_of(transaction, &topic)?;
            publication.deliver(transaction, &topic)
        };
        for queue in self.run(deliver).await? {
            self.sqs.wake(queue);
        }
        Ok(answer)
    }
}

fn message_attributes(form: &Form) -> Result<MessageAttributes, SnsError> {
    let attributes: MessageAttributes = form
        .entries("MessageAttributes", "Name")
        .map(|(prefix, name)| {
            let value = |member: &str| form.get(&format!("{prefix}.Value.{member}")).map(str::to_owned);
            let attribute = MessageAttribute {
                data_type: value("DataType").unwrap_or_default(),
                string_value: value("StringValue"),
                binary_value: value("BinaryValue"),
            };
            (name.to_owned(), attribute)
        })
        .collect();
    for (name, attribute) in &attributes {
        let valued = match attribute.data_type.as_str() {
            "String" | "String.Array" | "Number" => attribute.string_value.is_some(),
            "Binary" => attribute.binary_value.is_some(),
            _ => false,
        };
        if !valued {
            return Err(SnsError::InvalidParameter(format!(
                "The message attribute '{name}' needs a type (String, String.Array, Number or Binary) and a value of it"
            )));
        }
    }
    Ok(attributes)
}

fn create_topic(transaction: &Transaction<'_>, form: &Form) -> Result<String, SnsError> {
    let name = form.required("Name")?;
    check_topic_name(name)?;
    let attributes = form.map("Attributes", "key", "value");
    for attribute in attributes.keys() {
        check_topic_attribute(attribute)?;
    }
    transaction.execute(
        "INSERT INTO topics (name, attributes) VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
        (name, json!(attributes).to_string()),
    )?;
    Ok(wire::element("TopicArn", &topic_arn(name)))
}

fn delete_topic(transaction: &Transaction<'_>, form: &Form) -> Result<(), SnsError> {
    let name = topic_name(form.required("TopicArn")?)?;
    transaction.execute("DELETE FROM topics WHERE name = ?", [name])?;
    transaction.execute("DELETE FROM subscriptions WHERE topic = ?", [name])?;
    Ok(())
}

fn topic_attributes(transaction: &Transaction<'_>, form: &Form) -> Result<String, SnsError> {
    let name = topic_name(form.required("TopicArn")?)?;
    let mut attributes = attributes_of(transaction, name)?;
    let subscriptions = Subscription::list(transaction, Some(name))?;
    let confirmed = subscriptions
        .iter()
        .filter(|subscription| subscription.confirmed)
        .count();
    let pending = subscriptions.len() - confirmed;
    attributes.entry("DisplayName".into()).or_default();
    attributes.extend([
        ("TopicArn".into(), topic_arn(name)),
        ("Owner".into(), ACCOUNT.into()),
        ("SubscriptionsConfirmed".into(), confirmed.to_string()),
        ("SubscriptionsPending".into(), pending.to_string()),
        ("SubscriptionsDeleted".into(), "0".into()),
    ]);
    Ok(wire::attributes(&attributes))
}

fn set_topic_attribute(transaction: &Transaction<'_>, form: &Form) -> Result<(), SnsError> {
    let name = topic_name(form.required("TopicArn")?)?;
    let attribute = form.required("AttributeName")?;
    check_topic_attribute(attribute)?;
    let mut attributes = attributes_of(transaction, name)?;
    let value = form.get("AttributeValue").unwrap_or_default();
    attributes.insert(attribute.into(), value.into());
    transaction.execute(
        "UPDATE topics SET attributes = ? WHERE name = ?",
        (json!(attributes).to_string(), name),
    )?;
    Ok(())
}

fn list_topics(transaction: &Transaction<'_>, form: &Form) -> Result<String, SnsError> {
    let mut statement = transaction.prepare("SELECT name FROM topics ORDER BY name")?;
    let names: Vec<String> = statement
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let members = names.into_iter().map(|name| {
        let member = wire::wrap("member", &wire::element("TopicArn", &topic_arn(&name)));
        (name, member)
    });
    Ok(page(form, "Topics", members))
}

fn subscribe(transaction: &Transaction<'_>, form: &Form, now: UtcDateTime) -> Result<String, SnsError> {
    let topic = topic_name(form.required("TopicArn")?)?;
    attributes_of(transaction, topic)?;
    let protocol = form.required("Protocol")?;
    let endpoint = form.required("Endpoint")?;
    let well_formed = match protocol {
        "sqs" => queues::name_in_arn(endpoint).is_some(),
        "email" => matches!(endpoint.split_once('@'), Some((user, host)) if !user.is_empty() && !host.is_empty()),
        other => {
            return Err(SnsError::InvalidParameter(format!(
                "Protocol {other} is not provided here; sqs and email are"
            )));
        }
    };
    if !well_formed {
        return Err(SnsError::InvalidParameter(format!(
            "Endpoint {endpoint} is none for the protocol {protocol}: expected a queue's ARN for sqs, an address for email"
        )));
    }
    let mut raw = false;
    for (name, value) in form.map("Attributes", "key", "value") {
        raw = subscription_attribute(&name, &value, protocol)?;
    }
    let present: Option<(String, bool)> = transaction
        .query_row(
            "SELECT arn, confirmed FROM subscriptions WHERE topic = ? AND protocol = ? AND endpoint = ?",
            (topic, protocol, endpoint),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    let (arn, confirmed) = match present {
        Some(present) => present,
        None => {
            let arn = format!("{}:{}", topic_arn(topic), Uuid::new_v4());
            // A queue of the same account needs no confirmation.
            let confirmed = protocol == "sqs";
            let token = Uuid::new_v4().simple().to_string();
            transaction.execute(
                "INSERT INTO subscriptions (arn, topic, protocol, endpoint, raw, confirmed, token)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
                (&arn, topic, protocol, endpoint, raw, confirmed, &token),
            )?;
            if !confirmed {
                let topic_arn = topic_arn(topic);
                let body = format!(
                    "You have chosen to subscribe to the topic {topic_arn}. To confirm this subscription, call \
                     ConfirmSubscription with the token {token}."
                );
                let subject = "AWS Notification - Subscription Confirmation";
                post(transaction, now, endpoint, &topic_arn, subject, &body, Some(&token))?;
            }
            (arn, confirmed)
        }
    };
    let shown = confirmed || form.get("ReturnSubscriptionArn") == Some("true");
    let arn = if shown { &arn } else { "pending confirmation" };
    Ok(wire::element("SubscriptionArn", arn))
}

fn confirm_subscription(transaction: &Transaction<'_>, form: &Form) -> Result<String, SnsError> {
    let topic = topic_name(form.required("TopicArn")?)?;
    attributes_of(transaction, topic)?;
    let arn: Option<String> = transaction
        .query_row(
            "UPDATE subscriptions SET confirmed = 1 WHERE topic = ? AND token = ? RETURNING arn",
            (topic, form.required("Token")?),
            |row| row.get(0),
        )
        .optional()?;
    let arn = arn.ok_or_else(|| SnsError::InvalidParameter("Token".into()))?;
    Ok(wire::element("SubscriptionArn", &arn))
}

/// Ends a subscription; one that has ended already is no error.
fn unsubscribe(transaction: &Transaction<'_>, form: &Form) -> Result<(), SnsError> {
    let arn = form.required("SubscriptionArn")?;
    if !arn.starts_with("arn:aws:sns:") {
        return Err(SnsError::InvalidParameter(format!(
            "SubscriptionArn {arn} is none: expected arn:aws:sns:region:account:topic:id"
        )));
    }
    transaction.execute("DELETE FROM subscriptions WHERE arn = ?", [arn])?;
    Ok(())
}

fn list_by_topic(transaction: &Transaction<'_>, form: &Form) -> Result<String, SnsError> {
    let topic = topic_name(form.required("TopicArn")?)?;
    attributes_of(transaction, topic)?;
    list_subscriptions(transaction, form, Some(topic))
}

fn list_subscriptions(transaction: &Transaction<'_>, form: &Form, topic: Option<&str>) -> Result<String, SnsError> {
    let members = Subscription::list(transaction, topic)?
        .into_iter()
        .map(|subscription| (subscription.arn.clone(), subscription.member()));
    Ok(page(form, "Subscriptions", members))
}

fn subscription_attributes(transaction: &Transaction<'_>, form: &Form) -> Result<String, SnsError> {
    let subscription = Subscription::get(transaction, form.required("SubscriptionArn")?)?;
    let pending = !subscription.confirmed;
    Ok(wire::attributes(&BTreeMap::from([
        ("SubscriptionArn".into(), subscription.arn),
        ("TopicArn".into(), topic_arn(&subscription.topic)),
        ("Owner".into(), ACCOUNT.into()),
        ("Protocol".into(), subscription.protocol),
        ("Endpoint".into(), subscription.endpoint),
        ("RawMessageDelivery".into(), subscription.raw.to_string()),
        ("PendingConfirmation".into(), pending.to_string()),
        ("ConfirmationWasAuthenticated".into(), (!pending).to_string()),
    ])))
}

fn set_subscription_attribute(transaction: &Transaction<'_>, form: &Form) -> Result<(), SnsError> {
    let subscription = Subscription::get(transaction, form.required("SubscriptionArn")?)?;
    let value = form.get("AttributeValue").unwrap_or_default();
    let raw = subscription_attribute(form.required("AttributeName")?, value, &subscription.protocol)?;
    transaction.execute(
        "UPDATE subscriptions SET raw = ? WHERE arn = ?",
        (raw, &subscription.arn),
    )?;
    Ok(())
}

/// Whether messages are delivered raw, which is the only attribute of a subscription that can be set here.
fn subscription_attribute(name: &str, value: &str, protocol: &str) -> Result<bool, SnsError> {
    match (name, value) {
        ("RawMessageDelivery", "true") if protocol == "sqs" => Ok(true),
        ("RawMessageDelivery", "false") => Ok(false),
        ("RawMessageDelivery", _) => Err(SnsError::InvalidParameter(format!(
            "Attributes Reason: RawMessageDelivery is true or false, and true for the protocol sqs only; got {value} for {protocol}"
        ))),
        _ => Err(SnsError::InvalidParameter(format!(
            "Attributes Reason: {name} is not provided here; RawMessageDelivery is"
        ))),
    }
}

fn post(
    transaction: &Transaction<'_>,
    at: UtcDateTime,
    to: &str,
    topic_arn: &str,
    subject: &str,
    body: &str,
    token: Option<&str>,
) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO outbox (sent_at, recipient, topic_arn, subject, body, confirmation_token)
         VALUES (?, ?, ?, ?, ?, ?)",
        (unix_milliseconds(at), to, topic_arn, subject, body, token),
    )?;
    Ok(())
}

/// The attributes that were set on a topic; an error if there is no such topic.
fn attributes_of(transaction: &Transaction<'_>, name: &str) -> Result<BTreeMap<String, String>, SnsError> {
    transaction
        .prepare_cached("SELECT attributes FROM topics WHERE name = ?")?
        .query_row([name], |row| queues::json_column(row, 0))
        .optional()?
        .ok_or(SnsError::NotFound("Topic"))
}

fn check_topic_attribute(name: &str) -> Result<(), SnsError> {
    if TOPIC_ATTRIBUTES.contains(&name) {
        return Ok(());
    }
    Err(SnsError::InvalidParameter(format!(
        "AttributeName {name} cannot be set here; {} can",
        TOPIC_ATTRIBUTES.join(", ")
    )))
}

fn check_topic_name(name: &str) -> Result<(), SnsError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if (1..=256).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(SnsError::InvalidParameter(format!(
        "Topic Name {name}: expected 1 to 256 letters, digits, hyphens and underscores (FIFO topics are not provided)"
    )))
}

/// The name in `arn:aws:sns:region:account:name`.
fn topic_name(arn: &str) -> Result<&str, SnsError> {
    match arn.split(':').collect::<Vec<_>>()[..] {
        ["arn", "aws", "sns", _region, _account, name] if !name.is_empty() => Ok(name),
        _ => Err(SnsError::InvalidParameter(format!(
            "TopicArn {arn} is none: expected arn:aws:sns:region:account:topic"
        ))),
    }
}

fn topic_arn(name: &str) -> String {
    format!("arn:aws:sns:{REGION}:{ACCOUNT}:{name}")
}

/// The members under `list` that follow the request's token; each comes with what a token after it would be.
fn page(form: &Form, list: &str, members: impl Iterator<Item = (String, String)>) -> String {
    let token = form.get("NextToken");
    let mut rest = members
        .filter(|(key, _)| token.is_none_or(|token| key.as_str() > token))
        .peekable();
    let mut inner = String::new();
    let mut last = String::new();
    for (key, member) in rest.by_ref().take(PAGE) {
        inner.push_str(&member);
        last = key;
    }
    let mut answer = wire::wrap(list, &inner);
    if rest.peek().is_some() {
        answer.push_str(&wire::element("NextToken", &last));
    }
    answer
}

fn timestamp(at: UtcDateTime) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    // The format asks for nothing that a time does not have.
    at.format(&format).unwrap_or_default()
}
