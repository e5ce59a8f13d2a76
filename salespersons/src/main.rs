//! The salesperson collector as a Lambda function.

use std::process::ExitCode;
use std::sync::Arc;

use salespersons::SalespersonCollector;
use shared::entity::Entity;
use shared::lambda;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    lambda::run(
        |variables| {
            let source = variables.queue_url("SOURCE_SQS");
            let target = variables.queue_url("TARGET_SQS");
            let poll_window = variables.poll_window();
            Some((source?, target?, poll_window))
        },
        |(source, target, poll_window), parts| SalespersonCollector {
            table: Arc::new(parts.table(Entity::Salesperson)),
            employee_queue: Arc::new(parts.queue(source)),
            sale_queue: Arc::new(parts.queue(target)),
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
