//! The topic that runs are reported to, and what holds of a report.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use shared::run::RunId;
use shared::topic::{Notice, Topic, TopicError};

use crate::plan::{Fault, Sabotage};
use crate::process::{Process, Work};
use crate::sim::{Die, Invariant, lock, on_the_wire};
use crate::vendor::Asked;
use crate::world::{World, run_at};

/// A report that went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) run: RunId,
    pub(crate) is_complete: bool,
}

/// One process's way to the topic.
pub(crate) struct SimTopic {
    pub(crate) world: Arc<World>,
    pub(crate) process: Arc<Process>,
}

#[async_trait]
impl Topic for SimTopic {
    async fn publish(&self, notice: &Notice) -> Result<(), TopicError> {
        let (world, process, body) = (self.world.clone(), self.process.clone(), notice.body.clone());
        let taken = on_the_wire(async move {
            let sim = &world.sim;
            let fault = sim
                .strikes(Fault::LostAnswers, 30)
                .then(|| sim.throw(Die::Fault(Fault::LostAnswers), |rng| rng.bool()));
            sim.latency(50).await;
            if fault == Some(false) {
                return false;
            }
            let run = body["run_id"].as_str().and_then(|run| RunId::parse(run).ok());
            let sent = Sent {
                run: run.expect("a run"),
                is_complete: body["state"] == "complete",
            };
            sim.note(|| format!("{} reports {body}", process.name));
            world.check_report(sent, &body);
            lock(&world.reports).push(sent);
            sim.latency(50).await;
            fault.is_none()
        })
        .await;
        taken.then_some(()).ok_or_else(|| TopicError {
            source: "it cannot be reached".into(),
        })
    }
}

impl World {
    /// What holds as a run is reported: if it is said to be complete, all that was asked for it is durable.
    fn check_report(&self, sent: Sent, body: &Value) {
        if !sent.is_complete {
            return;
        }
        for queue in [&self.employee_queue, &self.sale_queue] {
            let bodies = lock(queue).sent_bodies();
            for work in bodies
                .iter()
                .map(|body| Work::of(body))
                .filter(|work| work.run == sent.run)
            {
                if work.first_load && lock(&self.state).lost_first_loads(work.run, &work.branch) {
                    continue;
                }
                if work.asked.kind == "employees" && lock(&self.state).lost_branch(work.run, &work.branch) {
                    continue;
                }
                if self.has_left(&work) {
                    continue;
                }
                if let Err(missing) = self.effects(&work) {
                    self.sim.violate(Invariant::Account, || {
                        format!("{} is reported complete ({body}), but {missing}", sent.run)
                    });
                }
            }
        }
    }

    /// Whether a message is about somebody of whom the branch's last answer does not tell any more, or about a branch of which
    /// no name's last answer does: a leftover of an attempt that was broken off before.
    fn has_left(&self, work: &Work) -> bool {
        let vendor = lock(&self.vendor);
        if !vendor.names_of(&work.branch).is_empty() && vendor.names_now_of(&work.branch).is_empty() {
            return true;
        }
        let last = vendor.given.get(&Asked::new("employees", work.branch.clone()));
        let last = last.and_then(|answers| answers.last());
        work.asked.kind == "sales"
            && last.is_some_and(|last| last.records.iter().all(|record| record.key.1 != work.asked.id))
    }

    /// What holds at the end: the last run, in which nothing failed, is reported complete, and only once; where nothing ever
    /// failed, all runs are.
    pub(crate) fn check_reports(&self, last: RunId) {
        let plan = &self.sim.plan;
        let mut complete: BTreeMap<RunId, usize> = BTreeMap::new();
        let reports = lock(&self.reports);
        for sent in reports.iter() {
            *complete.entry(sent.run).or_default() += usize::from(sent.is_complete);
        }
        let mut expected = vec![last];
        if plan.is_quiet() {
            let hours = 0..plan.runs;
            expected.extend(hours.map(|run| run_at(std::time::Duration::from_secs(3600) * run)));
        }
        for run in expected {
            let times = complete.get(&run).copied().unwrap_or_default();
            if times != 1 && plan.sabotage != Some(Sabotage::ForgetRuns) {
                self.sim.violate(Invariant::Account, || {
                    format!("{run} was reported complete {times} times: {reports:?}")
                });
            }
        }
    }
}
