//! Every id once a run: what the state table remembers of each branch and salesperson, and who is at work on it.
//!
//! A [`Visit`] is the work on one id: begun with a claim, so that nobody else works on it meanwhile, and ended with a
//! checkpoint that says for which run it is done, and of which answer all effects are durable. A claim that was not
//! taken back tells the next visitor that rows may have been written of which no checkpoint knows.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, de};
use sha2::{Digest, Sha256};
use time::UtcDateTime;
use tokio::time::Instant;
use tracing::{debug, warn};

use crate::clock::Clock;
use crate::error_chain;
use crate::id::Id;
use crate::invocation::{Invocation, SETTLING_TIME};
use crate::jitter::Jitter;
use crate::quota::Class;
use crate::run::{RunId, last_modified};
use crate::state::{Entry, StateError, StateTable, Swapped};
use crate::tally::Gap;
use crate::vendor::{Answer, Fetched, Query, Question};
use crate::work::WorkError;

/// How long a checkpoint is kept after it was last written. Without it, the next answer is compared with its rows.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How much longer than its work a claim lasts: the settling, and a second by which clocks may differ.
const CLAIM_MARGIN: Duration = SETTLING_TIME.saturating_add(Duration::from_secs(1));

/// By how much a clock may be behind the one that a run is scheduled by.
const CLOCKS_APART: Duration = Duration::from_secs(60);

/// The longest that a message waits for somebody else who is at work on its id: he will be done long before his claim is
/// over, as a rule.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How often a claim is tried against others in a row.
const MAX_CONFLICTS: u32 = 20;

/// The longest id that stands in an entry's name as it is; DynamoDB takes keys of 2,048 bytes.
const LONGEST_PLAIN_ID: usize = 1024;

/// How many bytes of ids are remembered to be sent on without an answer. Each run writes them anew, and the table bills
/// each KB.
const MOST_ID_BYTES: usize = 4096;

/// What is written of one id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Checkpoint {
    /// The last run that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run_id: Option<RunId>,
    /// The last run that looked at all records, however old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole_run_id: Option<RunId>,
    /// The last run that compared all records with their rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    verified_run_id: Option<RunId>,
    /// When the last run was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    done_at: Option<String>,
    /// The last answer of which all effects are durable; none where a record of it was rejected or left for later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    answer: Option<Known>,
    /// Whether something is remembered of records that were rejected; where that is not known, it is looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    has_rejections: Option<bool>,
    /// Who is at work on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claim: Option<Claim>,
}

/// The rules by which a record becomes a row. A release that changes them counts one up: what was known by other rules is
/// compared again.
const RULES: u32 = 1;

/// An answer of which all effects are durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    /// [`RULES`], as they were.
    rules: u32,
    /// Of all its pages.
    fingerprint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    /// When it was asked for.
    fetched_at: String,
    /// Records before this time were not looked at, in milliseconds since 1970; none: all were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
    /// Whether records without a branch were given one.
    gives_branch: bool,
    /// Whether its records are on a roster, and the rows of those that had vanished are marked.
    #[serde(default)]
    keeps_roster: bool,
    effects: Effects,
}

/// What an answer came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effects {
    /// How many records were looked at.
    pub records: u64,
    /// How many were too old to be looked at.
    #[serde(default)]
    pub skipped: u64,
    /// The ids that are sent on.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "ids")]
    pub sent_on: Vec<Id>,
    /// Whether the rows now say all that the answer says: no record was rejected, none left for later.
    #[serde(skip, default = "always")]
    pub is_whole: bool,
}

fn always() -> bool {
    true
}

/// Ids are strings here. Their own way from JSON tells integers from strings, which a tree of JSON cannot.
fn ids<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Id>, D::Error> {
    let ids = Vec::<String>::deserialize(deserializer)?;
    ids.into_iter()
        .map(|id| Id::new(id).map_err(de::Error::custom))
        .collect()
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    by: String,
    /// Milliseconds since 1970.
    until: i64,
}

/// How much is done although it may have been done already.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thoroughness {
    /// Nothing: what is done for the run is not asked again, and what is known is not compared again.
    #[default]
    Usual,
    /// The vendor is asked without a condition.
    Force,
    /// The vendor is asked without a condition, and all rows are compared.
    Verify,
}

impl Thoroughness {
    /// What a call or a message asks for.
    pub fn of(force: bool, verify: bool) -> Self {
        match (force, verify) {
            (_, true) => Self::Verify,
            (true, false) => Self::Force,
            (false, false) => Self::Usual,
        }
    }
}

/// What is to be done about one id.
#[derive(Clone, Debug)]
pub struct Task {
    /// What is asked.
    pub query: Query,
    /// What the request is for.
    pub class: Class,
    /// The run it is done for; without one it is done whatever was done before.
    pub run_id: Option<RunId>,
    /// Records older than this are not looked at; none: all are.
    pub lookback: Option<time::Duration>,
    /// Whether records without a branch are given one.
    pub gives_branch: bool,
    /// Whether it looks at less than a run does, so that the run is not done with it.
    pub is_part_of_a_run: bool,
    /// Whether records that vanish are looked for.
    pub keeps_roster: bool,
    /// Whether records that have vanished are marked as deleted, however many they are.
    pub accepts_deletions: bool,
    /// How much is done again.
    pub thoroughness: Thoroughness,
}

impl Task {
    /// A task that looks at all records.
    pub fn new(query: Query, run_id: Option<RunId>) -> Self {
        Self {
            query,
            class: Class::Live,
            run_id,
            lookback: None,
            gives_branch: false,
            is_part_of_a_run: false,
            keeps_roster: false,
            accepts_deletions: false,
            thoroughness: Thoroughness::Usual,
        }
    }

    fn is_done(&self, checkpoint: &Checkpoint) -> bool {
        let done = match self.thoroughness {
            Thoroughness::Force => None,
            Thoroughness::Verify => checkpoint.verified_run_id,
            Thoroughness::Usual if self.lookback.is_none() => checkpoint.whole_run_id,
            Thoroughness::Usual => checkpoint.run_id,
        };
        // Records may still lack the branch that is known now.
        let lacks_branch = self.gives_branch && checkpoint.answer.as_ref().is_some_and(|known| !known.gives_branch);
        !lacks_branch
            && self
                .run_id
                .is_some_and(|run_id| done.is_some_and(|done| run_id <= done))
    }

    /// Whether the rows that this task looks at, in an answer asked for at `now`, are among those that are known.
    fn is_covered_by(&self, known: &Known, now: UtcDateTime) -> bool {
        let reaches_back = match (known.since, self.lookback) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(since), Some(lookback)) => since <= milliseconds(now.saturating_sub(lookback)),
        };
        reaches_back && (known.gives_branch || !self.gives_branch) && (known.keeps_roster || !self.keeps_roster)
    }
}

/// The name of a query's entry in the state table.
pub(crate) fn entry_id(query: &Query) -> String {
    let (kind, _, id) = query.parts();
    if id.len() <= LONGEST_PLAIN_ID {
        format!("{kind}/{id}")
    } else {
        format!("{kind}/sha256:{}", fingerprint([id.as_bytes()]))
    }
}

/// The state table, as far as it remembers ids.
#[derive(Clone)]
pub struct Checkpoints {
    table: Option<Arc<dyn StateTable>>,
    clock: Clock,
    jitter: Jitter,
}

/// The work on one id.
pub struct Visit<'a> {
    checkpoints: &'a Checkpoints,
    task: &'a Task,
    id: String,
    /// The entry with our claim; none if the state table could not be reached, or there is none.
    claimed: Option<Entry>,
    checkpoint: Checkpoint,
    /// The answer, once it is there.
    fetched: Option<FetchedAnswer>,
}

/// What has to be remembered of an answer.
struct FetchedAnswer {
    fingerprint: String,
    etag: Option<String>,
    fetched_at: UtcDateTime,
    /// Whether the rows said it already.
    is_known: bool,
}

/// What the vendor's answer means for the rows.
pub enum Finding {
    /// They have to be compared with it.
    New(Answer),
    /// They say it already: no row has to be read.
    Known {
        /// The answer, where the vendor sent it.
        answer: Option<Answer>,
        /// What it came to before.
        effects: Effects,
    },
}

impl Checkpoints {
    /// What `table` remembers; without one, nothing is remembered.
    pub fn new(table: Option<Arc<dyn StateTable>>, clock: Clock, jitter: Jitter) -> Self {
        Self { table, clock, jitter }
    }

    /// Begins the work on an id; `None` if it is done already. Where the state table cannot be reached it begins all the
    /// same: doing it twice changes nothing that is right.
    ///
    /// # Errors
    /// [`WorkError::Busy`], if somebody else is at work on it.
    pub async fn begin<'a>(&'a self, task: &'a Task, invocation: &Invocation) -> Result<Option<Visit<'a>>, WorkError> {
        let id = entry_id(&task.query);
        let (claimed, checkpoint) = match &self.table {
            None => (None, Checkpoint::default()),
            Some(table) => match self.claim(&**table, &id, task, invocation).await {
                Ok(Claimed::Ours(ours)) => {
                    let (entry, checkpoint) = *ours;
                    (Some(entry), checkpoint)
                }
                Ok(Claimed::Busy(wait)) => return Err(WorkError::Busy { wait }),
                Ok(Claimed::Done { is_superseded }) => {
                    debug!(is_superseded, "done already for this run");
                    invocation.tally.count(|counts| counts.already_done += 1);
                    if is_superseded {
                        invocation.tally.note_gap(Gap::Superseded);
                    }
                    return Ok(None);
                }
                Err(failure) => {
                    unreached(&failure, invocation);
                    (None, Checkpoint::default())
                }
            },
        };
        Ok(Some(Visit {
            checkpoints: self,
            task,
            id,
            claimed,
            checkpoint,
            fetched: None,
        }))
    }

    async fn claim(
        &self,
        table: &dyn StateTable,
        id: &str,
        task: &Task,
        invocation: &Invocation,
    ) -> Result<Claimed, StateError> {
        let mut entry = table.read(id).await?;
        for _ in 0..MAX_CONFLICTS {
            let mut checkpoint = read(entry.as_ref());
            if entry.is_none() {
                // Nobody has ever asked for it.
                checkpoint.has_rejections = Some(false);
            }
            if task.is_done(&checkpoint) {
                let is_superseded = task.run_id < checkpoint.run_id.max(checkpoint.whole_run_id);
                return Ok(Claimed::Done { is_superseded });
            }
            let now = self.clock.now();
            if let Some(claim) = checkpoint.claim.take() {
                let left = claim.until.saturating_sub(milliseconds(now));
                if left > 0 {
                    let left = Duration::from_millis(left.unsigned_abs());
                    return Ok(Claimed::Busy(left.min(LONGEST_WAIT)));
                }
                // Whoever had it may have written some of the rows.
                checkpoint.answer = None;
                checkpoint.has_rejections = None;
            }
            let time_left = invocation.work_until.saturating_duration_since(Instant::now());
            checkpoint.claim = Some(Claim {
                by: self.jitter.token(),
                until: milliseconds(now + time_left + CLAIM_MARGIN),
            });
            let claimed = Entry::after(entry.as_ref(), &checkpoint, Some(now + KEPT))?;
            match table
                .swap(id, entry.as_ref().map(|entry| entry.version), &claimed)
                .await?
            {
                Swapped::Done => return Ok(Claimed::Ours(Box::new((claimed, checkpoint)))),
                Swapped::Conflict(current) => entry = current,
            }
        }
        Ok(Claimed::Busy(Duration::from_secs(1)))
    }
}

/// What became of a claim.
enum Claimed {
    /// The entry with the claim, and what it says.
    Ours(Box<(Entry, Checkpoint)>),
    /// It is done for its run, or for a later one.
    Done {
        is_superseded: bool,
    },
    Busy(Duration),
}

impl Visit<'_> {
    /// What is to be done.
    pub fn task(&self) -> &Task {
        self.task
    }

    /// Whether nobody else is at work on the id: without the state table, nobody knows.
    pub fn is_claimed(&self) -> bool {
        self.claimed.is_some()
    }

    /// Whether something may be remembered of records that were rejected.
    pub fn may_have_rejections(&self) -> bool {
        self.checkpoint.has_rejections != Some(false)
    }

    /// Notes whether something is remembered of records that were rejected. If so, the next answer is looked at though it is
    /// known: what is remembered may be mended.
    pub fn note_rejections(&mut self, are_remembered: bool) {
        if are_remembered {
            self.checkpoint.answer = None;
        }
        self.checkpoint.has_rejections = Some(are_remembered);
    }

    /// The question to the vendor: with the name of the answer that is known, if the rows that are looked at are known
    /// to say it.
    pub fn question(&self) -> Question {
        let now = self.checkpoints.clock.now();
        let is_usual = self.task.thoroughness == Thoroughness::Usual;
        let known = self.checkpoint.answer.as_ref();
        let known = known.filter(|known| is_usual && self.task.is_covered_by(known, now));
        Question {
            query: self.task.query.clone(),
            class: self.task.class,
            etag: known.and_then(|known| known.etag.clone()),
        }
    }

    /// Says what an answer means for the rows. From then on they may be written.
    pub fn find(&mut self, fetched: Fetched) -> Finding {
        let known = self.checkpoint.answer.as_ref();
        match fetched {
            // It was asked for only because it is known.
            Fetched::NotModified { asked_at } => {
                let (fingerprint, etag, effects) = known
                    .map(|known| (known.fingerprint.clone(), known.etag.clone(), known.effects.clone()))
                    .unwrap_or_default();
                self.fetched = Some(FetchedAnswer {
                    fingerprint,
                    etag,
                    fetched_at: asked_at,
                    is_known: true,
                });
                Finding::Known { answer: None, effects }
            }
            Fetched::Answer(answer) => {
                let fingerprint = match self.checkpoints.table {
                    Some(_) => fingerprint(answer.pages.iter().map(Bytes::as_ref)),
                    None => String::new(),
                };
                let same = known.filter(|known| {
                    known.fingerprint == fingerprint
                        && self.task.thoroughness != Thoroughness::Verify
                        && self.task.is_covered_by(known, answer.fetched_at)
                });
                let effects = same.map(|known| known.effects.clone());
                self.fetched = Some(FetchedAnswer {
                    fingerprint,
                    etag: answer.etag.clone(),
                    fetched_at: answer.fetched_at,
                    is_known: same.is_some(),
                });
                match effects {
                    Some(effects) => Finding::Known {
                        answer: Some(answer),
                        effects,
                    },
                    None => Finding::New(answer),
                }
            }
        }
    }

    /// Ends the work: notes what is done and durable, or only that nobody is at it any more.
    ///
    /// # Errors
    /// The work's own.
    pub async fn end(self, result: Result<Effects, WorkError>, invocation: &Invocation) -> Result<(), WorkError> {
        let (effects, result) = match result {
            Ok(effects) => (Some(effects), Ok(())),
            Err(error) => (None, Err(error)),
        };
        if let Err(failure) = self.write_down(effects, invocation).await {
            // What was done is durable all the same. The claim ends by itself.
            unreached(&failure, invocation);
        }
        result
    }

    async fn write_down(self, effects: Option<Effects>, invocation: &Invocation) -> Result<(), StateError> {
        let Some(table) = &self.checkpoints.table else {
            return Ok(());
        };
        let now = self.checkpoints.clock.now();
        let Some(claimed) = &self.claimed else {
            return self.forget_answer(&**table, now).await;
        };
        let mut checkpoint = self.checkpoint.clone();
        checkpoint.claim = None;
        match effects {
            Some(effects) => {
                // A run of the future is none: the hours until then would count as done.
                let latest = RunId::scheduled_for(now + CLOCKS_APART);
                let run_id = self.task.run_id.unwrap_or(invocation.run_id).min(latest);
                // Else nobody would come back to it, and its run would look complete without what it leads to.
                let is_done = invocation.tally.gap().is_none();
                let done = |before: &mut Option<RunId>| {
                    if is_done {
                        *before = (*before).max(Some(run_id));
                    }
                };
                if !self.task.is_part_of_a_run {
                    done(&mut checkpoint.run_id);
                }
                if self.task.lookback.is_none() {
                    done(&mut checkpoint.whole_run_id);
                    if self.task.thoroughness == Thoroughness::Verify {
                        done(&mut checkpoint.verified_run_id);
                    }
                }
                checkpoint.done_at = Some(last_modified(now));
                checkpoint.answer = self.known(effects);
            }
            // Some of its rows may have been written.
            None if self.fetched.as_ref().is_some_and(|fetched| !fetched.is_known) => checkpoint.answer = None,
            None => {}
        }
        let next = Entry::after(Some(claimed), &checkpoint, Some(now + KEPT))?;
        match table.swap(&self.id, Some(claimed.version), &next).await? {
            Swapped::Done => {}
            Swapped::Conflict(_) => {
                warn!("the claim was over before the work was, and somebody else has begun it");
                // He may have found the rows right before they were written here.
                return self.forget_answer(&**table, now).await;
            }
        }
        Ok(())
    }

    /// What can be known from now on.
    fn known(&self, effects: Effects) -> Option<Known> {
        let fetched = self.fetched.as_ref().filter(|_| effects.is_whole)?;
        let before = self.checkpoint.answer.as_ref().filter(|_| fetched.is_known);
        let can_go_without = effects.sent_on.iter().map(|id| id.as_str().len() + 3).sum::<usize>() <= MOST_ID_BYTES;
        let since = self
            .task
            .lookback
            .map(|lookback| milliseconds(fetched.fetched_at.saturating_sub(lookback)));
        Some(Known {
            rules: RULES,
            fingerprint: fetched.fingerprint.clone(),
            etag: fetched.etag.clone().filter(|_| can_go_without),
            fetched_at: last_modified(fetched.fetched_at),
            since: before.map_or(since, |before| before.since),
            gives_branch: before.map_or(self.task.gives_branch, |before| before.gives_branch),
            keeps_roster: before.map_or(self.task.keeps_roster, |before| before.keeps_roster),
            effects: Effects {
                sent_on: if can_go_without { effects.sent_on } else { Vec::new() },
                ..effects
            },
        })
    }

    /// Work was done without a claim: what was known of the rows may be so no longer.
    async fn forget_answer(&self, table: &dyn StateTable, now: UtcDateTime) -> Result<(), StateError> {
        if self.fetched.is_none() {
            return Ok(());
        }
        let mut entry = table.read(&self.id).await?;
        for _ in 0..MAX_CONFLICTS {
            let mut checkpoint = read(entry.as_ref());
            if checkpoint.answer.take().is_none() {
                return Ok(());
            }
            let next = Entry::after(entry.as_ref(), &checkpoint, Some(now + KEPT))?;
            match table
                .swap(&self.id, entry.as_ref().map(|entry| entry.version), &next)
                .await?
            {
                Swapped::Done => return Ok(()),
                Swapped::Conflict(current) => entry = current,
            }
        }
        Ok(())
    }
}

fn unreached(failure: &StateError, invocation: &Invocation) {
    warn!(
        reason = error_chain(failure),
        "the state table cannot be reached; what is done is not remembered"
    );
    invocation.tally.count(|counts| counts.state_failures += 1);
}

/// What an entry says. What is not understood says nothing: the work is done, and the rows compared.
fn read(entry: Option<&Entry>) -> Checkpoint {
    let Some(entry) = entry else {
        return Checkpoint::default();
    };
    let mut checkpoint = entry.read().unwrap_or_else(|failure| {
        warn!(
            reason = error_chain(&failure),
            "a checkpoint is not understood and begun anew"
        );
        Checkpoint::default()
    });
    checkpoint.answer = checkpoint.answer.filter(|known| known.rules == RULES);
    checkpoint
}

fn milliseconds(time: UtcDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000_000)).unwrap_or(i64::MAX)
}

/// The SHA-256 of pages, each after its length, so that the same bytes cut elsewhere are not the same pages.
fn fingerprint<'a>(pages: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hash = Sha256::new();
    for page in pages {
        hash.update((page.len() as u64).to_be_bytes());
        hash.update(page);
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::utc_datetime;

    #[test]
    fn what_is_written_of_an_id_is_read_back() {
        let id = |text: &str| Id::new(text.to_owned()).unwrap();
        let run_id = Some(RunId::scheduled_for(utc_datetime!(2026-11-21 01:00)));
        let checkpoint = Checkpoint {
            run_id,
            whole_run_id: run_id,
            verified_run_id: None,
            done_at: Some("2026-11-21T01:02:03.456Z".to_owned()),
            answer: Some(Known {
                rules: RULES,
                fingerprint: fingerprint([b"{}".as_ref()]),
                etag: Some("\"a\"".to_owned()),
                fetched_at: "2026-11-21T01:02:03.456Z".to_owned(),
                since: Some(7),
                gives_branch: true,
                keeps_roster: true,
                effects: Effects {
                    records: 2,
                    skipped: 1,
                    sent_on: vec![id("1235"), id("a \"b\"")],
                    is_whole: true,
                },
            }),
            has_rejections: Some(true),
            claim: Some(Claim {
                by: "somebody".to_owned(),
                until: 1_795_220_101_000,
            }),
        };
        let entry = Entry::after(None, &checkpoint, None).unwrap();
        assert_eq!(entry.read::<Checkpoint>().unwrap(), checkpoint);
    }
}
