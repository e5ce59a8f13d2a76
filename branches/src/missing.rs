//! Branches that a name led to before and does not lead to now: all names of an invocation are judged together, as a
//! vendor that has lost its branches answers each name as if it were unknown.

use shared::checkpoint::{Effects, Visit};
use shared::deletions::{RollCall, Shrinkage};
use shared::invocation::Invocation;
use shared::work::WorkError;

use crate::{BranchCollector, within_span};

/// What became of a name.
pub(crate) enum Collected<'a> {
    /// It is done.
    Done(Shrinkage),
    /// It leads to fewer branches than before; all else about it is done.
    Shrunk(Box<Answered<'a>>),
}

/// A name whose answer stands in the table.
pub(crate) struct Answered<'a> {
    pub(crate) name: &'a str,
    /// Counts what is done about it.
    pub(crate) counted: &'a Invocation,
    pub(crate) visit: Visit<'a>,
    pub(crate) effects: Effects,
    /// None, where the answer is known.
    pub(crate) called: Option<Called<'a>>,
}

/// A new answer's roll call, and when the answer was fetched.
pub(crate) struct Called<'a> {
    pub(crate) roll_call: RollCall<'a>,
    pub(crate) fetched_at: String,
}

impl Answered<'_> {
    fn shrinkage(&self) -> Shrinkage {
        match &self.called {
            Some(called) => called.roll_call.shrinkage(),
            None => Shrinkage {
                before: usize::try_from(self.effects.records).unwrap_or(usize::MAX),
                missing: 0,
            },
        }
    }
}

impl BranchCollector {
    /// Ends the work on a name, if it leads to all the branches that it led to before.
    pub(crate) async fn end_if_none_is_missing<'a>(&self, answered: Answered<'a>) -> Result<Collected<'a>, WorkError> {
        let shrinkage = answered.shrinkage();
        if shrinkage.missing > 0 {
            return Ok(Collected::Shrunk(Box::new(answered)));
        }
        self.end(answered, shrinkage).await?;
        Ok(Collected::Done(shrinkage))
    }

    /// Ends the work on the names that lead to fewer branches than before, beside others that have shrunk by so much
    /// together. Answers those that failed, as [`within_span`] does.
    pub(crate) async fn end_shrunk(&self, mut shrunk: Vec<Answered<'_>>, mut all: Shrinkage) -> Vec<String> {
        for answered in &mut shrunk {
            if let Some(called) = &mut answered.called {
                // If the time is over, it is for what follows, too.
                let renamed = called
                    .roll_call
                    .leave_out_renamed(answered.name, &*self.table, answered.counted);
                answered.counted.within_time(renamed).await.unwrap_or_default();
            }
            all += answered.shrinkage();
        }
        let mut failed = Vec::new();
        for answered in shrunk {
            let (name, counted) = (answered.name, answered.counted);
            let failure = within_span(name, self.end(answered, all), counted).await.err();
            self.settle(name, failure.as_deref(), counted).await;
            failed.extend(failure);
        }
        failed
    }

    /// Ends the work on a name, judged by how much all names have shrunk together.
    async fn end(&self, answered: Answered<'_>, all: Shrinkage) -> Result<(), WorkError> {
        let Answered {
            counted: invocation,
            visit,
            mut effects,
            called,
            ..
        } = answered;
        let mut result = Ok(());
        if let Some(Called { roll_call, fetched_at }) = called {
            let roll_call = roll_call.among(all);
            let settled = roll_call.settle(&*self.table, None, &fetched_at, effects.is_whole, invocation);
            result = settled.await.map(|is_settled| effects.is_whole &= is_settled);
        }
        let result = result.map(|()| effects).map_err(WorkError::from);
        visit.end(result, invocation).await
    }
}
