//! Mending the lake from the tables, where the streams no longer had everything.

use std::collections::BTreeMap;

use lake::counts::Counts;
use lake::rebuild::Rebuild;
use lake::runs::Runs;
use lake::tables::DynamoTables;

use super::{Feed, FeedError};

/// What was written for each log, by its name.
pub type Rebuilt = BTreeMap<&'static str, Counts>;

impl Feed {
    /// Brings the lake up to date with the streams, then writes what the tables hold and the lake does not.
    ///
    /// # Errors
    /// If a table cannot be read or the lake not be written.
    pub async fn rebuild(&self) -> Result<Rebuilt, FeedError> {
        self.carry().await?;
        // Meanwhile nothing is carried: what is changed while a table is read comes after it.
        let mut progress = self.progress.lock().await;
        let runs = match &self.state {
            Some(state) => Runs::read(&**state).await?,
            None => Runs::default(),
        };
        let names = self.tables.iter().cloned().collect();
        let rebuild = Rebuild {
            lake: &self.lake,
            tables: &DynamoTables::new(self.dynamodb.clone(), names),
            runs: &runs,
            now: self.clock.now(),
            ends: &|| false,
        };
        let mut rebuilt = Rebuilt::new();
        for (log, table) in &self.tables {
            let mut counts = Counts::default();
            rebuild.log(*log, &mut counts).await?;
            rebuilt.insert(log.name(), counts);
            if let Some(position) = progress.positions.of(table).cloned() {
                let position = super::Position {
                    is_incomplete: false,
                    ..position
                };
                progress.positions.set(table, &position)?;
            }
        }
        Ok(rebuilt)
    }
}
