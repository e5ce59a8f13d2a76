//! The sale collector as a Lambda function.

use std::process::ExitCode;
use std::sync::Arc;

use sales::SaleCollector;
use sales::lookback::Lookback;
use shared::entity::Entity;
use shared::lambda;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    lambda::run(
        |variables| {
            let queue_url = variables.queue_url("SQS");
            let lookback = Lookback::hours(variables.lookback_hours());
            let poll_window = variables.poll_window();
            Some((queue_url?, lookback, poll_window))
        },
        |(queue_url, lookback, poll_window), parts| SaleCollector {
            table: Arc::new(parts.table(Entity::Sale)),
            sale_queue: Arc::new(parts.queue(queue_url)),
            lookback,
            poll_window,
            vendor: parts.vendor,
            checkpoints: parts.checkpoints,
            accounts: parts.accounts,
            rosters: parts.rosters,
            rejections: parts.rejections,
            jitter: parts.jitter,
        },
    )
    .await
}
