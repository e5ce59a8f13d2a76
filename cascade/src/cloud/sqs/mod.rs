//! SQS: standard queues with AWS's limits, words and error codes, over the JSON protocol that its SDKs and CLI speak.
//!
//! FIFO queues are refused, permissions and encryption are not enforced, counts are exact and not approximate, and a
//! queue's name can be used again as soon as the queue is deleted. The rest is meant to be as on AWS;
//! `cascade/tests/cloud/conformance.rs` compares it with a second implementation.

mod error;
pub(super) mod messages;
mod moves;
pub(super) mod queues;

pub use queues::{CURRENT_TIME, OLDEST_MESSAGE};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Transaction;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use shared::clock::Clock;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub(super) use error::SqsError;
use messages::{Outgoing, Wanted};
use queues::{Attributes, Queue};

use super::store::Store;
use super::{ACCOUNT, REGION, unix_milliseconds};

/// What is stored about queues, messages and redrives.
pub(super) const SCHEMAS: [&str; 3] = [queues::SCHEMA, messages::SCHEMA, moves::SCHEMA];

/// The limit on a message, and on all of a batch, in bytes.
const MAXIMUM_MESSAGE_BYTES: usize = 1_048_576;

const OPERATIONS: &str = "CancelMessageMoveTask, ChangeMessageVisibility, ChangeMessageVisibilityBatch, CreateQueue, \
    DeleteMessage, DeleteMessageBatch, DeleteQueue, GetQueueAttributes, GetQueueUrl, ListDeadLetterSourceQueues, \
    ListMessageMoveTasks, ListQueueTags, ListQueues, PurgeQueue, ReceiveMessage, SendMessage, SendMessageBatch, \
    SetQueueAttributes, StartMessageMoveTask, TagQueue, UntagQueue";

/// The service. Clones share it.
#[derive(Clone)]
pub(super) struct Sqs(Arc<Shared>);

struct Shared {
    store: Store,
    clock: Clock,
    /// Where the queues' URLs begin: `http://127.0.0.1:port`.
    endpoint: String,
    /// Who waits for messages, by queue id.
    waiting: Mutex<HashMap<i64, Arc<Notify>>>,
    stop: CancellationToken,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct QueueRequest {
    queue_url: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NameRequest {
    queue_name: Option<String>,
}

#[derive(Deserialize)]
struct CreateQueue {
    #[serde(rename = "QueueName")]
    name: Option<String>,
    #[serde(rename = "Attributes", default)]
    attributes: Option<Attributes>,
    // The only member of the API's requests that begins with a small letter.
    #[serde(rename = "tags", default)]
    tags: Option<Attributes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListRequest {
    queue_url: Option<String>,
    queue_name_prefix: Option<String>,
    max_results: Option<i64>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetQueueAttributes {
    queue_url: Option<String>,
    attribute_names: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SetQueueAttributes {
    queue_url: Option<String>,
    attributes: Option<Attributes>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TagRequest {
    queue_url: Option<String>,
    tags: Option<Attributes>,
    tag_keys: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendMessage {
    queue_url: Option<String>,
    #[serde(flatten)]
    message: Outgoing,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BatchRequest<T> {
    queue_url: Option<String>,
    #[serde(default = "Vec::new")]
    entries: Vec<Entry<T>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<T> {
    id: Option<String>,
    #[serde(flatten)]
    content: T,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ReceiptEntry {
    receipt_handle: Option<String>,
    visibility_timeout: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ReceiptRequest {
    queue_url: Option<String>,
    #[serde(flatten)]
    receipt: ReceiptEntry,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ReceiveMessage {
    queue_url: Option<String>,
    attribute_names: Option<Vec<String>>,
    message_system_attribute_names: Option<Vec<String>>,
    message_attribute_names: Option<Vec<String>>,
    max_number_of_messages: Option<i64>,
    visibility_timeout: Option<i64>,
    wait_time_seconds: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MoveRequest {
    source_arn: Option<String>,
    destination_arn: Option<String>,
    max_number_of_messages_per_second: Option<i64>,
    max_results: Option<i64>,
    task_handle: Option<String>,
}

impl Sqs {
    /// The service over `store`, whose queues' URLs begin with `endpoint`. Redrives that were running go on.
    pub(super) async fn start(
        store: Store,
        clock: Clock,
        endpoint: String,
        stop: CancellationToken,
    ) -> Result<Self, SqsError> {
        let sqs = Self(Arc::new(Shared {
            store,
            clock,
            endpoint,
            waiting: Mutex::default(),
            stop,
        }));
        for handle in sqs.0.store.run(moves::unfinished).await? {
            tokio::spawn(sqs.clone().work_through(handle));
        }
        Ok(sqs)
    }

    /// Does the operation of that name on a request in JSON; answers in JSON. Nothing at all stands for an empty answer.
    pub(super) async fn handle(&self, operation: &str, body: &[u8]) -> Result<Option<Value>, SqsError> {
        match operation {
            "CancelMessageMoveTask" => self.cancel_message_move_task(parse(body)?).await.map(Some),
            "ChangeMessageVisibility" => self.change_message_visibility(parse(body)?).await.map(|()| None),
            "ChangeMessageVisibilityBatch" => self.change_message_visibility_batch(parse(body)?).await.map(Some),
            "CreateQueue" => self.create_queue(parse(body)?).await.map(Some),
            "DeleteMessage" => self.delete_message(parse(body)?).await.map(|()| None),
            "DeleteMessageBatch" => self.delete_message_batch(parse(body)?).await.map(Some),
            "DeleteQueue" => self.delete_queue(parse(body)?).await.map(|()| None),
            "GetQueueAttributes" => self.get_queue_attributes(parse(body)?).await.map(Some),
            "GetQueueUrl" => self.get_queue_url(parse(body)?).await.map(Some),
            "ListDeadLetterSourceQueues" => self.list_dead_letter_source_queues(parse(body)?).await.map(Some),
            "ListMessageMoveTasks" => self.list_message_move_tasks(parse(body)?).await.map(Some),
            "ListQueueTags" => self.list_queue_tags(parse(body)?).await.map(Some),
            "ListQueues" => self.list_queues(parse(body)?).await.map(Some),
            "PurgeQueue" => self.purge_queue(parse(body)?).await.map(|()| None),
            "ReceiveMessage" => self.receive_message(parse(body)?).await.map(Some),
            "SendMessage" => self.send_message(parse(body)?).await.map(Some),
            "SendMessageBatch" => self.send_message_batch(parse(body)?).await.map(Some),
            "SetQueueAttributes" => self.set_queue_attributes(parse(body)?).await.map(|()| None),
            "StartMessageMoveTask" => self.start_message_move_task(parse(body)?).await.map(Some),
            "TagQueue" | "UntagQueue" => self.change_tags(parse(body)?).await.map(|()| None),
            other => Err(SqsError::invalid_action(format!(
                "The action {other} is not provided by the embedded SQS, which provides {OPERATIONS}."
            ))),
        }
    }

    /// Wakes every receive that waits, to look again.
    pub(super) fn wake_all(&self) {
        for waiting in self.waiting().values() {
            waiting.notify_waiters();
        }
    }

    /// Wakes the receives that wait for messages of that queue.
    pub(super) fn wake(&self, queue: i64) {
        if let Some(waiting) = self.waiting().get(&queue) {
            waiting.notify_waiters();
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<i64, Arc<Notify>>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> i64 {
        unix_milliseconds(self.0.clock.now())
    }

    fn url(&self, name: &str) -> String {
        format!("{}/{ACCOUNT}/{name}", self.0.endpoint)
    }

    /// Runs `work` on the queue at `url` in one transaction.
    async fn on_queue<T: Send + 'static>(
        &self,
        url: Option<String>,
        work: impl FnOnce(&Transaction<'_>, Queue) -> Result<T, SqsError> + Send + 'static,
    ) -> Result<T, SqsError> {
        let url = required(url, "QueueUrl")?;
        let name = queues::name_in_url(&url)?.to_owned();
        self.0
            .store
            .run(move |transaction| work(transaction, Queue::get(transaction, &name)?))
            .await
    }

    async fn create_queue(&self, request: CreateQueue) -> Result<Value, SqsError> {
        let name = required(request.name, "QueueName")?;
        queues::check_name(&name)?;
        let url = self.url(&name);
        let now = self.now();
        let create = move |transaction: &Transaction<'_>| {
            let wanted = request.attributes.unwrap_or_default();
            queues::check_attributes(transaction, &wanted)?;
            let Some(present) = Queue::find(transaction, &name)? else {
                let mut attributes = Attributes::new();
                queues::merge(&mut attributes, wanted);
                let tags = request.tags.unwrap_or_default();
                return Ok(Queue::insert(transaction, &name, &attributes, &tags, now)?);
            };
            match queues::differing(&present, &wanted) {
                None => Ok(()),
                Some(attribute) => Err(SqsError::queue_name_exists(format!(
                    "A queue already exists with the same name and a different value for attribute {attribute}"
                ))),
            }
        };
        self.0.store.run(create).await?;
        Ok(json!({"QueueUrl": url}))
    }

    async fn delete_queue(&self, request: QueueRequest) -> Result<(), SqsError> {
        let delete = |transaction: &Transaction<'_>, queue: Queue| {
            messages::purge(transaction, &queue)?;
            transaction.execute("DELETE FROM queues WHERE id = ?", [queue.id])?;
            Ok(queue.id)
        };
        let id = self.on_queue(request.queue_url, delete).await?;
        // Those who wait for its messages look again, and learn that it is gone.
        self.wake(id);
        self.waiting().remove(&id);
        Ok(())
    }

    async fn get_queue_url(&self, request: NameRequest) -> Result<Value, SqsError> {
        let name = required(request.queue_name, "QueueName")?;
        let url = self.url(&name);
        self.0
            .store
            .run(move |transaction| Queue::get(transaction, &name))
            .await?;
        Ok(json!({"QueueUrl": url}))
    }

    async fn list_queues(&self, request: ListRequest) -> Result<Value, SqsError> {
        let names = self
            .0
            .store
            .run(|transaction| Ok::<_, SqsError>(names(Queue::all(transaction)?)))
            .await?;
        let prefix = request.queue_name_prefix.as_deref().unwrap_or_default();
        let names = names.into_iter().filter(|name| name.starts_with(prefix)).collect();
        self.page(names, "QueueUrls", request.max_results, request.next_token)
    }

    async fn list_dead_letter_source_queues(&self, request: ListRequest) -> Result<Value, SqsError> {
        let sources = |transaction: &Transaction<'_>, target: Queue| {
            let mut queues = Queue::all(transaction)?;
            queues.retain(|queue| {
                queue
                    .redrive_policy()
                    .is_some_and(|policy| policy.target == target.name)
            });
            Ok(names(queues))
        };
        let names = self.on_queue(request.queue_url, sources).await?;
        self.page(names, "queueUrls", request.max_results, request.next_token)
    }

    /// One page of URLs under the key `member`. The token is the name that the page before ended with.
    fn page(
        &self,
        mut names: Vec<String>,
        member: &str,
        most: Option<i64>,
        token: Option<String>,
    ) -> Result<Value, SqsError> {
        if let Some(most) = most
            && !(1..=1000).contains(&most)
        {
            return Err(SqsError::bad_value(
                "MaxResults",
                most,
                "Must be an integer from 1 to 1000",
            ));
        }
        names.retain(|name| token.as_ref().is_none_or(|token| name > token));
        let rest = names.split_off(names.len().min(most.unwrap_or(1000) as usize));
        let urls: Vec<String> = names.iter().map(|name| self.url(name)).collect();
        let mut answer = json!({});
        if !urls.is_empty() {
            answer[member] = urls.into();
        }
        // AWS pages only if asked to.
        if let (false, Some(_), Some(last)) = (rest.is_empty(), most, names.pop()) {
            answer["NextToken"] = last.into();
        }
        Ok(answer)
    }

    async fn get_queue_attributes(&self, request: GetQueueAttributes) -> Result<Value, SqsError> {
        let now = self.now();
        let names = request.attribute_names.unwrap_or_default();
        for name in &names {
            queues::check_attribute_name(name)?;
        }
        let read = move |transaction: &Transaction<'_>, queue: Queue| {
            let mut attributes = queue.described();
            attributes.append(&mut messages::counts(transaction, &queue, now)?);
            attributes.retain(|name, _| names.iter().any(|wanted| wanted == "All" || wanted == name));
            if names.iter().any(|name| name == queues::OLDEST_MESSAGE)
                && let Some(seconds) = messages::oldest_seconds(transaction, &queue, now)?
            {
                attributes.insert(queues::OLDEST_MESSAGE.to_owned(), seconds.to_string());
            }
            if names.iter().any(|name| name == queues::CURRENT_TIME) {
                attributes.insert(queues::CURRENT_TIME.to_owned(), now.to_string());
            }
            Ok(attributes)
        };
        let attributes = self.on_queue(request.queue_url, read).await?;
        Ok(if attributes.is_empty() {
            json!({})
        } else {
            json!({"Attributes": attributes})
        })
    }

    async fn set_queue_attributes(&self, request: SetQueueAttributes) -> Result<(), SqsError> {
        let set = required(request.attributes, "Attributes")?;
        let now = self.now();
        let write = move |transaction: &Transaction<'_>, mut queue: Queue| {
            queues::check_attributes(transaction, &set)?;
            queues::merge(&mut queue.attributes, set);
            queue.modified_at = now;
            Ok(queue.update(transaction)?)
        };
        self.on_queue(request.queue_url, write).await
    }

    async fn purge_queue(&self, request: QueueRequest) -> Result<(), SqsError> {
        let now = self.now();
        let purge = move |transaction: &Transaction<'_>, mut queue: Queue| {
            if queue.purged_at.is_some_and(|last| (last..last + 60_000).contains(&now)) {
                return Err(SqsError::purge_queue_in_progress(format!(
                    "Only one PurgeQueue operation on {} is allowed every 60 seconds.",
                    queue.name
                )));
            }
            messages::purge(transaction, &queue)?;
            queue.purged_at = Some(now);
            Ok(queue.update(transaction)?)
        };
        self.on_queue(request.queue_url, purge).await
    }

    async fn change_tags(&self, request: TagRequest) -> Result<(), SqsError> {
        let change = |transaction: &Transaction<'_>, mut queue: Queue| {
            queue.tags.extend(request.tags.unwrap_or_default());
            for key in request.tag_keys.unwrap_or_default() {
                queue.tags.remove(&key);
            }
            Ok(queue.update(transaction)?)
        };
        self.on_queue(request.queue_url, change).await
    }

    async fn list_queue_tags(&self, request: QueueRequest) -> Result<Value, SqsError> {
        let tags = self.on_queue(request.queue_url, |_, queue| Ok(queue.tags)).await?;
        Ok(if tags.is_empty() {
            json!({})
        } else {
            json!({"Tags": tags})
        })
    }

    async fn send_message(&self, request: SendMessage) -> Result<Value, SqsError> {
        let now = self.now();
        let send = move |transaction: &Transaction<'_>, queue: Queue| {
            Ok((queue.id, request.message.send(transaction, &queue, now)?))
        };
        let (queue, answer) = self.on_queue(request.queue_url, send).await?;
        self.wake(queue);
        Ok(answer)
    }

    async fn send_message_batch(&self, request: BatchRequest<Outgoing>) -> Result<Value, SqsError> {
        check_ids(&request.entries, "SendMessageBatchRequestEntry")?;
        messages::check_batch_size(request.entries.iter().map(|entry| entry.content.size()).sum())?;
        let now = self.now();
        let send = move |transaction: &Transaction<'_>, queue: Queue| {
            let answer = each(request.entries, |message| message.send(transaction, &queue, now))?;
            Ok((queue.id, answer))
        };
        let (queue, answer) = self.on_queue(request.queue_url, send).await?;
        self.wake(queue);
        Ok(answer)
    }

    async fn receive_message(&self, request: ReceiveMessage) -> Result<Value, SqsError> {
        let most = request.max_number_of_messages.unwrap_or(1);
        if !(1..=10).contains(&most) {
            return Err(SqsError::bad_value(
                "MaxNumberOfMessages",
                most,
                "Must be between 1 and 10, if provided",
            ));
        }
        if let Some(seconds) = request.wait_time_seconds
            && !(0..=20).contains(&seconds)
        {
            return Err(SqsError::bad_value(
                "WaitTimeSeconds",
                seconds,
                "Must be >= 0 and <= 20, if provided",
            ));
        }
        if let Some(seconds) = request.visibility_timeout {
            messages::check_visibility(seconds)?;
        }
        let mut system = request.attribute_names.unwrap_or_default();
        system.extend(request.message_system_attribute_names.unwrap_or_default());
        let user = request.message_attribute_names.unwrap_or_default();
        let wanted = Arc::new(Wanted::new(system, user)?);

        let (queue, default_wait) = self
            .on_queue(request.queue_url.clone(), |_, queue| {
                Ok((queue.id, queue.setting("ReceiveMessageWaitTimeSeconds")))
            })
            .await?;
        let deadline = self.now() + request.wait_time_seconds.unwrap_or(default_wait) * 1000;
        let arrivals = Arc::clone(self.waiting().entry(queue).or_default());
        loop {
            let arrival = arrivals.notified();
            tokio::pin!(arrival);
            // From here on no wake-up is missed, though the first look into the queue comes before the wait.
            arrival.as_mut().enable();
            let now = self.now();
            let wanted = Arc::clone(&wanted);
            let look = move |transaction: &Transaction<'_>, queue: Queue| {
                let visibility = request
                    .visibility_timeout
                    .unwrap_or_else(|| queue.setting("VisibilityTimeout"));
                messages::receive(transaction, &queue, &wanted, most, visibility, now)
            };
            let received = self.on_queue(request.queue_url.clone(), look).await?;
            if let Some(queue) = received.dead_lettered_to {
                self.wake(queue);
            }
            if !received.messages.is_empty() {
                return Ok(json!({"Messages": received.messages}));
            }
            if now >= deadline || self.0.stop.is_cancelled() {
                return Ok(json!({}));
            }
            let until = received.next_visible_at.unwrap_or(deadline).min(deadline);
            let pause = Duration::from_millis(until.saturating_sub(now).unsigned_abs());
            tokio::select! {
                () = arrival => {}
                () = tokio::time::sleep(pause) => {}
                () = self.0.stop.cancelled() => {}
            }
        }
    }

    async fn delete_message(&self, request: ReceiptRequest) -> Result<(), SqsError> {
        let handle = required(request.receipt.receipt_handle, "ReceiptHandle")?;
        let delete = move |transaction: &Transaction<'_>, queue: Queue| messages::delete(transaction, &queue, &handle);
        self.on_queue(request.queue_url, delete).await
    }

    async fn delete_message_batch(&self, request: BatchRequest<ReceiptEntry>) -> Result<Value, SqsError> {
        check_ids(&request.entries, "DeleteMessageBatchRequestEntry")?;
        let delete = |transaction: &Transaction<'_>, queue: Queue| {
            each(request.entries, |entry| {
                let handle = required(entry.receipt_handle, "ReceiptHandle")?;
                messages::delete(transaction, &queue, &handle)?;
                Ok(json!({}))
            })
        };
        self.on_queue(request.queue_url, delete).await
    }

    async fn change_message_visibility(&self, request: ReceiptRequest) -> Result<(), SqsError> {
        let now = self.now();
        let change = move |transaction: &Transaction<'_>, queue: Queue| {
            hide(transaction, &queue, request.receipt, now)?;
            Ok(queue.id)
        };
        let queue = self.on_queue(request.queue_url, change).await?;
        self.wake(queue);
        Ok(())
    }

    async fn change_message_visibility_batch(&self, request: BatchRequest<ReceiptEntry>) -> Result<Value, SqsError> {
        check_ids(&request.entries, "ChangeMessageVisibilityBatchRequestEntry")?;
        let now = self.now();
        let change = move |transaction: &Transaction<'_>, queue: Queue| {
            let answer = each(request.entries, |entry| {
                hide(transaction, &queue, entry, now)?;
                Ok(json!({}))
            })?;
            Ok((queue.id, answer))
        };
        let (queue, answer) = self.on_queue(request.queue_url, change).await?;
        self.wake(queue);
        Ok(answer)
    }

    async fn start_message_move_task(&self, request: MoveRequest) -> Result<Value, SqsError> {
        let source = required(request.source_arn, "SourceArn")?;
        let now = self.now();
        let start = move |transaction: &Transaction<'_>| {
            moves::start(
                transaction,
                &source,
                request.destination_arn.as_deref(),
                request.max_number_of_messages_per_second,
                now,
            )
        };
        let handle = self.0.store.run(start).await?;
        tokio::spawn(self.clone().work_through(handle.clone()));
        Ok(json!({"TaskHandle": handle}))
    }

    /// Moves messages until the task of that handle has come to an end, or the service to its own.
    async fn work_through(self, handle: String) {
        loop {
            let now = self.now();
            let task = handle.clone();
            match self
                .0
                .store
                .run(move |transaction| moves::step(transaction, &task, now))
                .await
            {
                Ok(step) => {
                    step.destinations.into_iter().for_each(|queue| self.wake(queue));
                    if step.ended || self.0.stop.is_cancelled() {
                        return;
                    }
                    if step.paced {
                        tokio::select! {
                            () = tokio::time::sleep(Duration::from_secs(1)) => {}
                            () = self.0.stop.cancelled() => return,
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(
                        task = handle,
                        error = &error as &dyn std::error::Error,
                        "redrive stopped; it goes on after a restart"
                    );
                    return;
                }
            }
        }
    }

    async fn list_message_move_tasks(&self, request: MoveRequest) -> Result<Value, SqsError> {
        let source = required(request.source_arn, "SourceArn")?;
        let most = request.max_results.unwrap_or(1);
        let tasks = self
            .0
            .store
            .run(move |transaction| moves::list(transaction, &source, most))
            .await?;
        Ok(json!({"Results": tasks}))
    }

    async fn cancel_message_move_task(&self, request: MoveRequest) -> Result<Value, SqsError> {
        let handle = required(request.task_handle, "TaskHandle")?;
        let moved = self
            .0
            .store
            .run(move |transaction| moves::cancel(transaction, &handle))
            .await?;
        Ok(json!({"ApproximateNumberOfMessagesMoved": moved}))
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, SqsError> {
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|error| {
        SqsError::serialization(format!(
            "The request's body is not the JSON that this action expects: {error}."
        ))
    })
}

fn required<T>(value: Option<T>, parameter: &str) -> Result<T, SqsError> {
    value.ok_or_else(|| SqsError::missing_parameter(format!("The request must contain the parameter {parameter}.")))
}

fn names(queues: Vec<Queue>) -> Vec<String> {
    queues.into_iter().map(|queue| queue.name).collect()
}

fn check_ids<T>(entries: &[Entry<T>], entry: &str) -> Result<(), SqsError> {
    let ids: Vec<Option<&str>> = entries.iter().map(|entry| entry.id.as_deref()).collect();
    messages::check_batch(&ids, entry)
}

fn hide(transaction: &Transaction<'_>, queue: &Queue, entry: ReceiptEntry, now: i64) -> Result<(), SqsError> {
    let handle = required(entry.receipt_handle, "ReceiptHandle")?;
    let seconds = required(entry.visibility_timeout, "VisibilityTimeout")?;
    messages::change_visibility(transaction, queue, &handle, seconds, now)
}

/// Does each entry of a batch by itself: one that is refused does not keep the others from being done.
fn each<T>(entries: Vec<Entry<T>>, mut work: impl FnMut(T) -> Result<Value, SqsError>) -> Result<Value, SqsError> {
    let mut successful = Vec::new();
    let mut failed = Vec::new();
    for entry in entries {
        match work(entry.content) {
            Ok(mut answer) => {
                answer["Id"] = entry.id.into();
                successful.push(answer);
            }
            Err(SqsError::Refused { code, message, .. }) => failed.push(json!({
                "Id": entry.id, "SenderFault": true, "Code": code, "Message": message,
            })),
            Err(storage @ SqsError::Storage(_)) => return Err(storage),
        }
    }
    let mut answer = json!({"Successful": successful});
    if !failed.is_empty() {
        answer["Failed"] = failed.into();
    }
    Ok(answer)
}
