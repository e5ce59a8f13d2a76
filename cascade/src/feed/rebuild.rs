//! Mending the lake from the tables, where the streams no longer had everything.

use std::collections::BTreeMap;

use lake::account;
use lake::change::{Change, Sequence, table_keys};
use lake::counts::Counts;
use lake::log::Log;
use lake::runs::Runs;

use super::{Feed, FeedError, records};

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
        let mut rebuilt = Rebuilt::new();
        for (log, table) in &self.tables {
            let items = self.items(*log, table).await?;
            let counts = self.lake.rebuild(*log, items, &runs, self.clock.now()).await?;
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

    /// All items of a table that belong into its log, as the changes that put them.
    async fn items(&self, log: Log, table: &str) -> Result<Vec<Change>, FeedError> {
        let keys = table_keys(log);
        let now = self.clock.now().unix_timestamp();
        let mut items = Vec::new();
        let mut last = None;
        loop {
            let mut scan = self.dynamodb.scan().table_name(table).consistent_read(true);
            if log == Log::Runs {
                scan = scan
                    .filter_expression("begins_with(#id, :run)")
                    .expression_attribute_names("#id", shared::state::dynamodb::ID)
                    .expression_attribute_values(
                        ":run",
                        aws_sdk_dynamodb::types::AttributeValue::S(account::PREFIX.to_owned()),
                    );
            }
            let page = scan
                .set_exclusive_start_key(last)
                .send()
                .await
                .map_err(|error| FeedError::Stream {
                    table: table.to_owned(),
                    source: error.into(),
                })?;
            for item in page.items() {
                let record = records::of_item(&keys, item, Sequence::zero().as_str(), now);
                let change = Change::read(&record.to_string(), &keys).map_err(|source| FeedError::Item {
                    table: table.to_owned(),
                    source,
                })?;
                items.push(change);
            }
            last = page.last_evaluated_key;
            if last.is_none() {
                return Ok(items);
            }
        }
    }
}
