//! The branch collector as a Lambda function.

use std::process::ExitCode;
use std::sync::Arc;

use branches::BranchCollector;
use shared::entity::Entity;
use shared::lambda;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    lambda::run(
        |variables| variables.queue_url("SQS"),
        |queue_url, parts| BranchCollector {
            table: Arc::new(parts.table(Entity::Branch)),
            employee_queue: Arc::new(parts.queue(queue_url)),
            vendor: parts.vendor,
            checkpoints: parts.checkpoints,
            accounts: parts.accounts,
            rosters: parts.rosters,
            rejections: parts.rejections,
        },
    )
    .await
}
