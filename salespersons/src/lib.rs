//! The salesperson collector: asks the vendor for a branch's employees, writes the salespersons that changed, and sends
//! the id of each on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shared::collector::{Collector, InvocationError};
use shared::entity::Entity;
use shared::event::SalespersonCall;
use shared::id::Id;
use shared::invocation::Invocation;
use shared::jitter::Jitter;
use shared::message::{EmployeeMessage, SaleMessage, WorkMessage};
use shared::queue::{Message, Outbox, WorkQueue};
use shared::record::Key;
use shared::run::{RunId, last_modified};
use shared::sync::{read_records, reject_unnamed, slices, write_changes};
use shared::table::Table;
use shared::vendor::answer::{Shape, Sketch, distinct, records};
use shared::vendor::{Query, Vendor};
use shared::work::{Desk, WorkError, Worker};
use tokio::time::Instant;
use tracing::{Instrument, error_span};

/// The salesperson collector.
pub struct SalespersonCollector {
    /// Whom to ask.
    pub vendor: Arc<dyn Vendor>,
    /// Where salespersons are written.
    pub table: Arc<dyn Table>,
    /// Where branches' ids come from.
    pub employee_queue: Arc<dyn WorkQueue>,
    /// Where salespersons' ids are sent.
    pub sale_queue: Arc<dyn Outbox>,
    /// How long a poll takes new messages.
    pub poll_window: Duration,
    /// Randomness for the delays of messages that failed.
    pub jitter: Jitter,
}

impl SalespersonCollector {
    fn desk(&self) -> Desk<'_, Self> {
        Desk {
            worker: self,
            queue: &*self.employee_queue,
            window: self.poll_window,
            jitter: &self.jitter,
        }
    }

    async fn collect(
        &self,
        branch_id: &Id,
        run_id: RunId,
        invocation: &Invocation,
        quota_until: Instant,
    ) -> Result<(), WorkError> {
        let answer = self
            .vendor
            .fetch(&Query::Employees(branch_id.clone()), invocation, quota_until)
            .await?;
        let shape = Shape::Under {
            id_name: "branch_id",
            id: branch_id,
            list: "employees",
        };
        let (mut sketches, unnamed) = distinct(Entity::Salesperson, records(&answer.pages, shape)?, Some(branch_id));
        // Whoever is no salesperson is none of ours, whatever the record is like; of what is no object nobody can tell.
        for unnamed in unnamed
            .iter()
            .filter(|unnamed| unnamed.head.is_salesperson() || !unnamed.is_object)
        {
            reject_unnamed(unnamed, &invocation.tally);
        }
        sketches.retain(|sketch| sketch.head.is_salesperson());
        let fetched_at = last_modified(answer.fetched_at);
        for slice in slices(sketches) {
            self.sync_slice(slice, branch_id, run_id, &fetched_at, invocation)
                .await?;
        }
        Ok(())
    }

    async fn sync_slice(
        &self,
        slice: Vec<Sketch<'_>>,
        branch_id: &Id,
        run_id: RunId,
        fetched_at: &str,
        invocation: &Invocation,
    ) -> Result<(), WorkError> {
        let records = read_records(Entity::Salesperson, &slice, Some(branch_id), None, &invocation.tally);
        let key = |sketch: &Sketch<'_>| Key {
            id: sketch.id.clone(),
            parent: Some(branch_id.clone()),
        };
        let rows = self.table.read(slice.iter().map(key).collect()).await?;
        let message = |sketch: &Sketch<'_>| {
            let message = SaleMessage {
                branch_id: Some(branch_id.clone()),
                employee_id: sketch.id.clone(),
                run_id: Some(run_id),
                first_load: !rows.contains_key(&key(sketch)),
            };
            message.to_body()
        };
        // Before the rows: a row without its message would look as if the first load had been asked for.
        self.sale_queue
            .send(slice.iter().map(message).collect(), Duration::ZERO)
            .await?;
        invocation.tally.count(|counts| counts.enqueued += slice.len() as u64);
        write_changes(&*self.table, records, rows, fetched_at, &invocation.tally).await?;
        Ok(())
    }
}

#[async_trait]
impl Worker for SalespersonCollector {
    type Message = EmployeeMessage;

    async fn work(
        &self,
        message: EmployeeMessage,
        invocation: &Invocation,
        quota_until: Instant,
    ) -> Result<(), WorkError> {
        let run_id = message.run_id.unwrap_or(invocation.run_id);
        self.collect(&message.branch_id, run_id, invocation, quota_until).await
    }

    fn pace(&self) -> Duration {
        self.vendor.pace()
    }

    fn least_time(&self) -> Duration {
        self.vendor.time_out()
    }
}

#[async_trait]
impl Collector for SalespersonCollector {
    type Call = SalespersonCall;

    const NAME: &'static str = "salesperson-collector";

    fn run_id(call: &SalespersonCall) -> Option<RunId> {
        call.run_id
    }

    async fn scheduled(&self, invocation: &Invocation) -> Result<(), InvocationError> {
        Ok(self.desk().poll(invocation).await?)
    }

    async fn direct(&self, call: SalespersonCall, invocation: &Invocation) -> Result<(), InvocationError> {
        let span = error_span!("call", branch_id = call.branch_id.as_str());
        let work = self.collect(&call.branch_id, invocation.run_id, invocation, invocation.work_until);
        let work = invocation.within_time(work).instrument(span);
        Ok(work.await.map_err(WorkError::from)??)
    }

    async fn records(&self, messages: Vec<Message>, invocation: &Invocation) -> Vec<String> {
        self.desk().records(messages, invocation).await
    }
}
