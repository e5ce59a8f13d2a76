//! What was told about an environment, before anybody judges it.

use std::collections::BTreeMap;
use std::fmt;

use shared::entity::Entity;
use shared::secret::SecretArn;
use url::Url;

use super::blueprint::Function;

/// What was told about one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told<T> {
    /// It is there.
    Found(T),
    /// There is no such thing.
    Missing,
    /// Whoever asks may not know: the action that is not allowed.
    Forbidden(&'static str),
    /// It could not be asked for.
    Unread {
        /// The action that failed.
        action: &'static str,
        /// Why it did.
        reason: String,
    },
}

impl<T> Told<T> {
    /// What is there.
    pub fn found(&self) -> Option<&T> {
        match self {
            Self::Found(thing) => Some(thing),
            Self::Missing | Self::Forbidden(_) | Self::Unread { .. } => None,
        }
    }
}

/// Everything that was told about an environment.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The environment's name.
    pub environment: String,
    /// Where it was looked for.
    pub source: Source,
    /// Tables and queues; `None` where nobody could be asked.
    pub stores: Option<Stores>,
    /// What only AWS has; `None` in the embedded cloud, and where nobody could be asked.
    pub services: Option<Services>,
    /// The vendors that the collectors are told of, each once. Empty if they were not to be asked.
    pub vendors: Vec<(Url, Reached)>,
    /// The vendor's quota, in requests a minute, as far as it was said.
    pub quota: Option<u32>,
}

/// Where the environment was looked for.
#[derive(Clone, Debug)]
pub enum Source {
    /// On AWS.
    Aws(Caller),
    /// In the embedded cloud.
    Here(Remembered),
}

/// Who asks AWS.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The region that is asked.
    pub region: Option<String>,
    /// Whom AWS takes the caller for; `Missing` without a region to ask in.
    pub identity: Told<Identity>,
}

/// Somebody whom AWS knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The account's number.
    pub account: String,
    /// The user or role.
    pub arn: String,
}

/// What the data directory remembers.
#[derive(Clone, Debug)]
pub struct Remembered {
    /// The directory.
    pub data: String,
    /// The only environment that is made in one.
    pub environment: &'static str,
    /// Whose data it holds.
    pub vendor: String,
    /// The last run's id, and whether it was complete.
    pub last_run: Option<(String, bool)>,
}

/// Tables and queues.
#[derive(Clone, Debug)]
pub struct Stores {
    /// One for each kind of record.
    pub tables: Vec<(Entity, Told<TableFacts>)>,
    /// The one that the functions share the quota by.
    pub state: Told<StateFacts>,
    /// One for each queue, by its name without the environment.
    pub queues: BTreeMap<&'static str, Told<QueueFacts>>,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFacts {
    /// `ACTIVE`, …
    pub status: String,
    /// Names and types of the keys, the partition key first.
    pub keys: Vec<(String, String)>,
    /// What the stream holds, such as `NEW_IMAGE`; `None` without one.
    pub stream: Option<String>,
    /// The stream's ARN, which a table that was made anew has another one of.
    pub stream_arn: Option<String>,
    /// Whether each request is paid for, rather than a capacity.
    pub is_on_demand: bool,
    /// Whether it may not be deleted.
    pub is_protected: bool,
    /// Whether it can be brought back to any point in time; `None` where that is not to be had.
    pub recovery: Option<Told<bool>>,
}

/// The state table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateFacts {
    /// What it has in common with the others.
    pub table: TableFacts,
    /// The attribute by which entries expire, if they do; `None` where that is not to be had.
    pub time_to_live: Option<Told<Option<String>>>,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueFacts {
    /// Where messages are sent.
    pub url: String,
    /// Its attributes, by SQS's names.
    pub attributes: BTreeMap<String, String>,
}

/// What only AWS has.
#[derive(Clone, Debug)]
pub struct Services {
    /// The functions.
    pub functions: Vec<(&'static Function, Told<FunctionFacts>)>,
    /// The schedules.
    pub schedules: Vec<(&'static Function, Told<ScheduleFacts>)>,
    /// Which streams the lake's function follows.
    pub mappings: Told<Vec<MappingFacts>>,
    /// The alarms that were found of those asked for.
    pub alarms: Told<Vec<AlarmFacts>>,
    /// The alarms' topic.
    pub alarm_topic: Announced,
    /// The topic of what runs came to.
    pub report_topic: Announced,
    /// The secrets that functions read the vendor's key from, each once.
    pub secrets: Vec<(SecretArn, Told<SecretFacts>)>,
}

/// A function's variables. Their values can be secrets: `Debug` shows only the names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Values(pub BTreeMap<String, String>);

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionFacts {
    /// Its ARN.
    pub arn: String,
    /// Its role's ARN.
    pub role: String,
    /// `Active`, …, and why, where it is not.
    pub state: String,
    /// Whether its last update was successful; what became of it, otherwise.
    pub last_update: String,
    /// Such as `provided.al2023`.
    pub runtime: String,
    /// Such as `arm64`.
    pub architecture: String,
    /// Its memory in MB.
    pub memory: i32,
    /// How long an invocation may take, in seconds.
    pub time_out: i32,
    /// How many of it may run at once; `None`: as many as the account allows.
    pub at_once: Option<i32>,
    /// Its environment.
    pub variables: Told<Values>,
    /// The ARN that failed invocations go to.
    pub dead_letters: Option<String>,
    /// `JSON` or `Text`.
    pub log_format: String,
    /// How often an invocation is tried again; `Found(None)` and `Missing` mean Lambda's default.
    pub retries: Told<Option<i32>>,
}

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleFacts {
    /// Whether it starts anything.
    pub is_enabled: bool,
    /// Such as `rate(1 hour)`.
    pub rate: String,
    /// The ARN of what it starts.
    pub target: String,
    /// The ARN of the role that it does so with.
    pub role: String,
    /// The ARN that events go to that could not be delivered.
    pub dead_letters: Option<String>,
    /// How often the function was started lately, by whomever: in so long that the schedule has done so twice.
    pub starts: Told<u64>,
}

/// An alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmFacts {
    /// Its whole name.
    pub name: String,
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub state: String,
    /// Whether it does anything when its state changes.
    pub has_actions: bool,
    /// The ARNs that are told of trouble.
    pub tells_trouble: Vec<String>,
    /// The ARNs that are told when it is over.
    pub tells_end: Vec<String>,
}

/// A stream that a function follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingFacts {
    /// By what it is told from others.
    pub uuid: String,
    /// The stream's ARN.
    pub stream: String,
    /// `Enabled`, `Disabled`, …
    pub state: String,
    /// What came of it last, such as `OK` or `PROBLEM: …`.
    pub last_result: String,
    /// The ARN that is told of records that could not be worked on.
    pub on_failure: Option<String>,
}

/// A topic, and who is told what is published to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// The topic.
    pub topic: Told<TopicFacts>,
    /// Who is told.
    pub subscriptions: Told<Vec<Subscription>>,
}

/// A topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its ARN.
    pub arn: String,
    /// The key that it is encrypted with.
    pub key: Option<String>,
}

/// Somebody who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// `email`, `sqs`, …
    pub protocol: String,
    /// An address.
    pub endpoint: String,
    /// An ARN, or `PendingConfirmation`, or `Deleted`.
    pub arn: String,
}

/// A secret. Its value is nobody's business here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFacts {
    /// Whether it is about to be deleted, and cannot be read any more.
    pub is_going: bool,
}

/// What came of a request to the vendor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reached {
    /// It answered with this status.
    Answered(u16),
    /// It did not answer.
    Not(String),
}
