//! A vendor that says what a test tells it to, for the collectors' tests.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use super::{Answer, FetchError, Fetched, Query, Question, Vendor};
use crate::clock::Clock;
use crate::invocation::Invocation;

/// A vendor that follows a script, and remembers what it was asked. Its time is tokio's.
#[derive(Debug)]
pub struct ScriptedVendor {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    script: Vec<(Query, VecDeque<Reply>)>,
    asked: Vec<Query>,
    not_modified: usize,
    answering: usize,
    most_at_once: usize,
    pace: Duration,
}

/// What the vendor says to one question.
#[derive(Clone, Debug)]
pub struct Reply {
    result: Result<Vec<Bytes>, FetchError>,
    takes: Duration,
    etag: Option<String>,
}

/// One request's limit.
const TIME_OUT: Duration = Duration::from_secs(10);

impl Reply {
    /// An answer of one page.
    pub fn body(body: impl Into<Bytes>) -> Self {
        Self::pages([body])
    }

    /// An answer of several pages.
    pub fn pages(pages: impl IntoIterator<Item = impl Into<Bytes>>) -> Self {
        Self {
            result: Ok(pages.into_iter().map(Into::into).collect()),
            takes: Duration::ZERO,
            etag: None,
        }
    }

    /// No answer.
    pub fn failure(error: FetchError) -> Self {
        Self {
            result: Err(error),
            takes: Duration::ZERO,
            etag: None,
        }
    }

    /// The same, under a name: whoever knows it already is told so instead.
    pub fn with_etag(self, etag: &str) -> Self {
        Self {
            etag: Some(etag.to_owned()),
            ..self
        }
    }

    /// The same, but only after `takes`.
    pub fn after(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }
}

/// A question that is being answered, until it is or its asker gives up.
struct Answering<'a>(&'a ScriptedVendor);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.state().answering -= 1;
    }
}

impl ScriptedVendor {
    /// A vendor that has nothing to say yet, with a quota that nobody notices. Answers are fetched at `clock`'s time.
    pub fn new(clock: Clock) -> Self {
        let state = State {
            script: Vec::new(),
            asked: Vec::new(),
            not_modified: 0,
            answering: 0,
            most_at_once: 0,
            pace: Duration::ZERO,
        };
        Self {
            clock,
            state: Mutex::new(state),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to what is said to a question. Each reply is given once, the last one from then on.
    pub fn says(&self, query: Query, reply: Reply) {
        let mut state = self.state();
        match state.script.iter_mut().find(|(scripted, _)| *scripted == query) {
            Some((_, replies)) => replies.push_back(reply),
            None => state.script.push((query, [reply].into())),
        }
    }

    /// Replaces whatever is said to a question.
    pub fn says_now(&self, query: Query, reply: Reply) {
        self.state().script.retain(|(scripted, _)| *scripted != query);
        self.says(query, reply);
    }

    /// Sets the time that the quota gives one request.
    pub fn set_pace(&self, pace: Duration) {
        self.state().pace = pace;
    }

    /// What was asked, in order.
    pub fn asked(&self) -> Vec<Query> {
        self.state().asked.clone()
    }

    /// How often it said that an answer is still the one that is known.
    pub fn not_modified(&self) -> usize {
        self.state().not_modified
    }

    /// How many questions were being answered at once, at the most.
    pub fn most_at_once(&self) -> usize {
        self.state().most_at_once
    }

    fn next_reply(&self, query: &Query) -> Reply {
        let mut state = self.state();
        state.asked.push(query.clone());
        state.answering += 1;
        state.most_at_once = state.most_at_once.max(state.answering);
        let scripted = state.script.iter_mut().find(|(scripted, _)| scripted == query);
        let reply = scripted.and_then(|(_, replies)| match replies.len() {
            0 | 1 => replies.front().cloned(),
            _ => replies.pop_front(),
        });
        reply.unwrap_or_else(|| Reply::failure(FetchError::Permanent(format!("the script does not know {query:?}"))))
    }
}

#[async_trait]
impl Vendor for ScriptedVendor {
    /// As the client does, this asks nothing that cannot be answered in time, and counts every page as a request.
    async fn fetch(
        &self,
        question: &Question,
        invocation: &Invocation,
        _quota_until: Instant,
    ) -> Result<Fetched, FetchError> {
        if !invocation.has_time_for(TIME_OUT) {
            return Err(FetchError::OutOfTime);
        }
        let reply = self.next_reply(&question.query);
        let _answering = Answering(self);
        let fetched_at = self.clock.now();
        let requests = match &reply.result {
            Ok(pages) => pages.len() as u64,
            Err(FetchError::Transient { tries, .. }) => u64::from(*tries),
            Err(FetchError::Permanent(_)) => 1,
            Err(FetchError::Quota { .. } | FetchError::OutOfTime) => 0,
        };
        invocation.tally.count(|counts| counts.api_calls += requests);
        tokio::time::sleep(reply.takes).await;
        let pages = reply.result?;
        if reply.etag.is_some() && reply.etag == question.etag {
            self.state().not_modified += 1;
            return Ok(Fetched::NotModified { asked_at: fetched_at });
        }
        Ok(Fetched::Answer(Answer {
            pages,
            fetched_at,
            etag: reply.etag,
            _memory: None,
        }))
    }

    fn pace(&self) -> Duration {
        self.state().pace
    }

    fn time_out(&self) -> Duration {
        TIME_OUT
    }
}
