//! The lake as a Lambda function.

use std::process::ExitCode;
use std::sync::Arc;

use lake::function::{Measured, NAME, Settings};
use lake::handler::LakeFunction;
use lake::store::{Lake, OpenError};
use lake::tables::DynamoTables;
use shared::lambda;
use shared::state::StateTable;
use shared::state::dynamodb::DynamoState;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    lambda::run_handler(NAME, Settings::read, |settings, ground| -> Result<_, OpenError> {
        let state = settings
            .state_table
            .map(|table| -> Arc<dyn StateTable> { Arc::new(DynamoState::new(&ground.aws, table)) });
        let lake = Lake::open(&settings.lake)?;
        let names = settings.tables.iter().map(|(table, log)| (*log, table.clone()));
        let reader = DynamoTables::new(aws_sdk_dynamodb::Client::new(&ground.aws), names.collect());
        Ok(Measured {
            function: LakeFunction::new(
                lake,
                settings.tables,
                state,
                ground.clock.clone(),
                ground.jitter.clone(),
            )
            .with_reader(Arc::new(reader)),
            name: ground.process.function.clone(),
            environment: settings.environment,
            clock: ground.clock.clone(),
        })
    })
    .await
}
