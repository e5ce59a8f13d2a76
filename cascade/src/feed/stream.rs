//! The stream of one table of the embedded cloud.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodbstreams::types::{Record, Shard, ShardIteratorType};
use lake::change::Sequence;

use super::FeedError;
use super::positions::Position;

/// How many records a request may answer with.
const PAGE: i32 = 1000;

/// A table's stream, with how far it has been read.
pub(super) struct Stream {
    client: aws_sdk_dynamodbstreams::Client,
    pub(super) table: String,
    pub(super) arn: String,
    shards: Vec<String>,
    /// Where reading goes on, by shard; none for a shard that has ended.
    iterators: BTreeMap<String, Option<String>>,
}

/// What came of a request for records.
pub(super) struct Page {
    pub(super) records: Vec<Record>,
    /// Whether there was no more at the time.
    pub(super) is_last: bool,
}

impl Stream {
    /// Finds a table's stream; reading goes on after `position`. Answers as well whether records were lost in between: the
    /// stream has forgotten them before they were read, or it is another one.
    pub(super) async fn open(
        client: &aws_sdk_dynamodbstreams::Client,
        table: &str,
        arn: String,
        position: Option<&Position>,
    ) -> Result<(Self, bool), FeedError> {
        let mut stream = Self {
            client: client.clone(),
            table: table.to_owned(),
            arn,
            shards: Vec::new(),
            iterators: BTreeMap::new(),
        };
        let shards = stream.describe().await?;
        let mut lost = position.is_some_and(|position| position.arn != stream.arn);
        for shard in shards {
            let Some(id) = shard.shard_id() else { continue };
            let after = position
                .filter(|_| !lost)
                .and_then(|position| position.shards.get(id))
                .map(String::as_str);
            let start = shard
                .sequence_number_range()
                .and_then(|range| range.starting_sequence_number());
            // The last record that was read is kept in the stream as long as anything after it.
            let forgotten = after.is_some_and(|after| start.is_none_or(|start| later(start, after)));
            let iterator = match stream.iterator(id, after.filter(|_| !forgotten)).await? {
                Some(iterator) => iterator,
                // What comes after the position has been forgotten in part.
                None => {
                    lost = true;
                    stream.iterator(id, None).await?.unwrap_or_default()
                }
            };
            lost |= forgotten;
            stream.shards.push(id.to_owned());
            stream.iterators.insert(id.to_owned(), Some(iterator));
        }
        Ok((stream, lost))
    }

    /// Its shards, parents before their children as DynamoDB lists them.
    async fn describe(&self) -> Result<Vec<Shard>, FeedError> {
        let mut shards = Vec::new();
        let mut last = None;
        loop {
            let answer = self
                .client
                .describe_stream()
                .stream_arn(&self.arn)
                .set_exclusive_start_shard_id(last)
                .send()
                .await
                .map_err(|error| self.failed(error))?;
            let Some(description) = answer.stream_description else {
                return Ok(shards);
            };
            shards.extend(description.shards.unwrap_or_default());
            last = description.last_evaluated_shard_id;
            if last.is_none() {
                return Ok(shards);
            }
        }
    }

    /// Where a shard is read from: after a record, or from its beginning. `None` if the record has been forgotten.
    async fn iterator(&self, shard: &str, after: Option<&str>) -> Result<Option<String>, FeedError> {
        let kind = match after {
            Some(_) => ShardIteratorType::AfterSequenceNumber,
            None => ShardIteratorType::TrimHorizon,
        };
        let answer = self
            .client
            .get_shard_iterator()
            .stream_arn(&self.arn)
            .shard_id(shard)
            .shard_iterator_type(kind)
            .set_sequence_number(after.map(str::to_owned))
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(Some(answer.shard_iterator.unwrap_or_default())),
            Err(error)
                if after.is_some()
                    && error
                        .as_service_error()
                        .is_some_and(|error| error.is_trimmed_data_access_exception()) =>
            {
                Ok(None)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Its shards, in the order in which they are read.
    pub(super) fn shards(&self) -> &[String] {
        &self.shards
    }

    /// The next records of a shard.
    pub(super) async fn next(&mut self, shard: &str) -> Result<Page, FeedError> {
        let Some(Some(iterator)) = self.iterators.get(shard) else {
            return Ok(Page {
                records: Vec::new(),
                is_last: true,
            });
        };
        let answer = self
            .client
            .get_records()
            .shard_iterator(iterator)
            .limit(PAGE)
            .send()
            .await
            .map_err(|error| self.failed(error))?;
        let records = answer.records.unwrap_or_default();
        let is_last = answer.next_shard_iterator.is_none() || records.is_empty();
        self.iterators.insert(shard.to_owned(), answer.next_shard_iterator);
        Ok(Page { records, is_last })
    }

    fn failed<E, R>(&self, error: SdkError<E, R>) -> FeedError
    where
        E: std::error::Error + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        FeedError::Stream {
            table: self.table.clone(),
            source: error.into(),
        }
    }
}

/// Whether a record comes after another.
fn later(one: &str, other: &str) -> bool {
    Sequence::parse(one) > Sequence::parse(other)
}
