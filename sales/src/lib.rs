//! The sale collector: asks the vendor for a salesperson's sales, and writes those that changed.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use shared::collector::{Collector, InvocationError};
use shared::entity::Entity;
use shared::event::SaleCall;
use shared::id::Id;
use shared::invocation::Invocation;
use shared::jitter::Jitter;
use shared::message::SaleMessage;
use shared::queue::{Message, WorkQueue};
use shared::run::{RunId, last_modified};
use shared::sync::{reject, reject_unnamed, sync};
use shared::table::Table;
use shared::vendor::answer::{Shape, distinct, records};
use shared::vendor::{Query, Vendor};
use shared::work::{Desk, WorkError, Worker};
use tokio::time::Instant;
use tracing::{Instrument, error_span};

pub mod lookback;

use lookback::{Lookback, Recency};

/// The sale collector.
pub struct SaleCollector {
    /// Whom to ask.
    pub vendor: Arc<dyn Vendor>,
    /// Where sales are written.
    pub table: Arc<dyn Table>,
    /// Where salespersons' ids come from.
    pub sale_queue: Arc<dyn WorkQueue>,
    /// How far back a sale still counts as recent.
    pub lookback: Lookback,
    /// How long a poll takes new messages.
    pub poll_window: Duration,
    /// Randomness for the delays of messages that failed.
    pub jitter: Jitter,
}

/// One salesperson's sales.
struct Order<'a> {
    employee_id: &'a Id,
    /// Given to sales that are seen for the first time.
    branch_id: Option<&'a Id>,
    lookback: Lookback,
}

impl SaleCollector {
    fn desk(&self) -> Desk<'_, Self> {
        Desk {
            worker: self,
            queue: &*self.sale_queue,
            window: self.poll_window,
            jitter: &self.jitter,
        }
    }

    async fn collect(&self, order: Order<'_>, invocation: &Invocation, quota_until: Instant) -> Result<(), WorkError> {
        let employee_id = order.employee_id;
        let answer = self
            .vendor
            .fetch(&Query::Sales(employee_id.clone()), invocation, quota_until)
            .await?;
        let shape = Shape::Under {
            id_name: "employee_id",
            id: employee_id,
            list: "sales",
        };
        let (mut sketches, unnamed) = distinct(Entity::Sale, records(&answer.pages, shape)?, Some(employee_id));
        unnamed
            .iter()
            .for_each(|unnamed| reject_unnamed(unnamed, &invocation.tally));
        sketches.retain(|sketch| {
            match order
                .lookback
                .judge(sketch.head.transaction_timestamp, answer.fetched_at)
            {
                Ok(Recency::Recent) => true,
                Ok(Recency::Old) => {
                    invocation.tally.count(|counts| counts.skipped += 1);
                    false
                }
                Err(rejection) => {
                    reject(sketch.id.as_str(), &rejection, &invocation.tally);
                    false
                }
            }
        });
        let fetched_at = last_modified(answer.fetched_at);
        sync(
            &*self.table,
            sketches,
            Some(employee_id),
            order.branch_id,
            &fetched_at,
            &invocation.tally,
        )
        .await?;
        Ok(())
    }
}

#[async_trait]
impl Worker for SaleCollector {
    type Message = SaleMessage;

    async fn work(&self, message: SaleMessage, invocation: &Invocation, quota_until: Instant) -> Result<(), WorkError> {
        let order = Order {
            employee_id: &message.employee_id,
            branch_id: message.branch_id.as_ref(),
            lookback: if message.first_load {
                Lookback::ALL
            } else {
                self.lookback
            },
        };
        self.collect(order, invocation, quota_until).await
    }

    fn pace(&self) -> Duration {
        self.vendor.pace()
    }

    fn least_time(&self) -> Duration {
        self.vendor.time_out()
    }
}

#[async_trait]
impl Collector for SaleCollector {
    type Call = SaleCall;

    const NAME: &'static str = "sale-collector";

    fn run_id(call: &SaleCall) -> Option<RunId> {
        call.run_id
    }

    async fn scheduled(&self, invocation: &Invocation) -> Result<(), InvocationError> {
        Ok(self.desk().poll(invocation).await?)
    }

    async fn direct(&self, call: SaleCall, invocation: &Invocation) -> Result<(), InvocationError> {
        let order = Order {
            employee_id: &call.employee_id,
            branch_id: call.branch_id.as_ref(),
            lookback: match call.lookback_hours {
                _ if call.first_load => Lookback::ALL,
                Some(hours) => Lookback::hours(hours),
                None => self.lookback,
            },
        };
        let span = error_span!(
            "call",
            employee_id = call.employee_id.as_str(),
            branch_id = call.branch_id.as_ref().map(Id::as_str),
        );
        let work = self.collect(order, invocation, invocation.work_until);
        let work = invocation.within_time(work).instrument(span);
        Ok(work.await.map_err(WorkError::from)??)
    }

    async fn records(&self, messages: Vec<Message>, invocation: &Invocation) -> Vec<String> {
        self.desk().records(messages, invocation).await
    }
}
