//! One dead letter: why it failed, when it was sent, what it says.

use std::time::Duration;

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use time::UtcDateTime;
use tokio::time::Instant;

use super::{DeadLetterQueue, Origin};

/// Why a message failed that SQS moved to its dead-letter queue, as the queues are set up.
const TOO_MANY_RECEIVES: &str = "10 receives without success";

/// Why a letter failed that tells nothing about it.
const UNKNOWN: &str = "not told: whoever put it here left no reason";

/// A message or an invocation that failed.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The queue that it is in.
    pub queue: DeadLetterQueue,
    /// Its id, which stays the same from receive to receive.
    pub id: String,
    /// When it was sent: here by whoever put it here, or to its work queue, if it was SQS that moved it.
    pub sent_at: Option<UtcDateTime>,
    /// Why it failed.
    pub reason: String,
    /// The run that it belongs to.
    pub run_id: Option<String>,
    /// Its body as it is.
    pub body: String,
    /// Whether its body is only the beginning of what was sent, so that it must not be sent again.
    pub truncated: bool,
    /// What it is deleted by.
    pub(super) receipt: String,
    /// When it was asked for, and hidden from others.
    pub(super) received_at: Instant,
}

/// What Lambda sends to a destination instead of the event alone.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    request_context: Value,
    #[serde(borrow)]
    request_payload: &'a RawValue,
    #[serde(default)]
    response_payload: Value,
}

impl Letter {
    pub(super) fn read(queue: DeadLetterQueue, message: Message, received_at: Instant) -> Self {
        let system = message.attributes.unwrap_or_default();
        let system = |name| system.get(&name).map(String::as_str);
        let user = message.message_attributes.unwrap_or_default();
        let user = |name: &str| user.get(name)?.string_value.clone();
        let body = message.body.unwrap_or_default();
        let moved = system(MessageSystemAttributeName::DeadLetterQueueSourceArn).is_some();
        let reason = user("reason")
            .or_else(|| user("ErrorMessage"))
            // What EventBridge Scheduler could not deliver.
            .or_else(|| user("ERROR_MESSAGE"))
            .or_else(|| user("ERROR_CODE"))
            .or_else(|| envelope(&body).and_then(|envelope| envelope.reason()))
            .or_else(|| moved.then(|| TOO_MANY_RECEIVES.to_owned()))
            .unwrap_or_else(|| UNKNOWN.to_owned());
        let mut letter = Self {
            queue,
            id: message.message_id.unwrap_or_default(),
            sent_at: system(MessageSystemAttributeName::SentTimestamp).and_then(time_of),
            reason,
            run_id: user("run_id"),
            body,
            truncated: user("IS_PAYLOAD_TRUNCATED").is_some_and(|told| told.eq_ignore_ascii_case("true")),
            received_at,
            receipt: message.receipt_handle.unwrap_or_default(),
        };
        letter.run_id = letter.run_id.take().or_else(|| run_in(letter.event()));
        letter
    }

    /// How old it is at `now`.
    pub fn age(&self, now: UtcDateTime) -> Option<Duration> {
        Some((now - self.sent_at?).try_into().unwrap_or_default())
    }

    /// What is to be sent again: of an invocation its event, which may stand in an envelope; of a message all of it.
    pub fn event(&self) -> &str {
        match (self.queue.origin(), envelope(&self.body)) {
            (Origin::Function(_), Some(envelope)) => envelope.request_payload.get(),
            _ => &self.body,
        }
    }
}

fn envelope(body: &str) -> Option<Envelope<'_>> {
    let envelope: Envelope = serde_json::from_str(body).ok()?;
    envelope.request_context.is_object().then_some(envelope)
}

impl Envelope<'_> {
    fn reason(&self) -> Option<String> {
        let said = self.response_payload.get("errorMessage");
        let said = said.or_else(|| self.request_context.get("condition"));
        said.and_then(Value::as_str).map(str::to_owned)
    }
}

/// The run that a message or an event names.
fn run_in(event: &str) -> Option<String> {
    let event: Value = serde_json::from_str(event).ok()?;
    let named = event.get("run_id").or_else(|| event.get("time"))?;
    named.as_str().map(str::to_owned)
}

/// Reads a time in Unix milliseconds.
pub(super) fn time_of(milliseconds: &str) -> Option<UtcDateTime> {
    let milliseconds: i128 = milliseconds.parse().ok()?;
    UtcDateTime::from_unix_timestamp_nanos(milliseconds.checked_mul(1_000_000)?).ok()
}

/// A reason without what otherwise equal ones differ by: request ids, other ids, lines and columns. An HTTP status stays.
pub(super) fn kind_of(reason: &str) -> String {
    let reason = without_request_ids(reason);
    let mut kind = String::new();
    let mut rest = reason.as_str();
    while let Some(start) = rest.find(|character: char| character.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let end = from
            .find(|character: char| !character.is_ascii_digit())
            .unwrap_or(from.len());
        let (number, after) = from.split_at(end);
        kind.push_str(before);
        let stays = number.len() == 3 && before.ends_with("answered ") || reason == TOO_MANY_RECEIVES;
        kind.push_str(if stays { number } else { "…" });
        rest = after;
    }
    kind + rest
}

/// The least number of characters that make an id of hexadecimal digits: one part of a UUID, or a short commit.
const LEAST_ID: usize = 8;

/// A text with `…` for what looks like a UUID or a hash.
fn without_request_ids(text: &str) -> String {
    let of_an_id = |character: char| character.is_ascii_hexdigit() || character == '-';
    let mut without = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(of_an_id) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|character| !of_an_id(character)).unwrap_or(from.len());
        let (run, after) = from.split_at(end);
        let is_id = run.len() >= LEAST_ID && run.contains(|character: char| character.is_ascii_digit());
        without.push_str(before);
        without.push_str(if is_id { "…" } else { run });
        rest = after;
    }
    without + rest
}

/// Which letters are meant.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Those that were sent longer ago than this.
    pub older_than: Option<Duration>,
    /// Those whose reason holds this text, in any case of letters.
    pub reason: Option<String>,
}

impl Filter {
    /// Whether a letter is meant. One of unknown age is not older than anything.
    pub fn admits(&self, letter: &Letter, now: UtcDateTime) -> bool {
        let old_enough = self
            .older_than
            .is_none_or(|age| letter.age(now).is_some_and(|is| is > age));
        let said = self
            .reason
            .as_ref()
            .is_none_or(|text| letter.reason.to_lowercase().contains(&text.to_lowercase()));
        old_enough && said
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::types::MessageAttributeValue;
    use time::macros::utc_datetime;

    use super::*;

    const NOW: UtcDateTime = utc_datetime!(2026-11-21 03:00);

    fn text(value: &str) -> MessageAttributeValue {
        MessageAttributeValue::builder()
            .data_type("String")
            .string_value(value)
            .build()
            .unwrap()
    }

    fn read(queue: DeadLetterQueue, message: Message) -> Letter {
        Letter::read(queue, message, Instant::now())
    }

    fn sent_at_one(body: &str) -> aws_sdk_sqs::types::builders::MessageBuilder {
        let sent = utc_datetime!(2026-11-21 01:00).unix_timestamp() * 1000;
        Message::builder()
            .message_id("m")
            .body(body)
            .attributes(MessageSystemAttributeName::SentTimestamp, sent.to_string())
    }

    #[test]
    fn a_collectors_letter_tells_its_reason_and_its_run() {
        let message = sent_at_one(r#"{"branch_id": "1", "run_id": "2026-11-20T01:00:00Z"}"#)
            .message_attributes("reason", text("the vendor answered 404 Not Found"))
            .message_attributes("run_id", text("2026-11-21T01:00:00Z"));
        let letter = read(DeadLetterQueue::EmployeeWorkload, message.build());
        assert_eq!(letter.reason, "the vendor answered 404 Not Found");
        assert_eq!(letter.run_id.as_deref(), Some("2026-11-21T01:00:00Z"));
        assert_eq!(letter.age(NOW), Some(Duration::from_secs(7200)));
        assert_eq!(letter.event(), letter.body);
    }

    #[test]
    fn a_letter_that_sqs_moved_was_received_too_often_and_its_body_tells_the_run() {
        let source = "arn:aws:sqs:us-east-1:000000000000:sale-queue-dev";
        let message = sent_at_one(r#"{"employee_id": "7", "run_id": "2026-11-21T01:00:00Z"}"#)
            .attributes(MessageSystemAttributeName::DeadLetterQueueSourceArn, source);
        let letter = read(DeadLetterQueue::SaleWorkload, message.build());
        assert_eq!(letter.reason, "10 receives without success");
        assert_eq!(letter.run_id.as_deref(), Some("2026-11-21T01:00:00Z"));
    }

    #[test]
    fn a_letter_of_unknown_origin_says_so_and_one_without_a_time_has_no_age() {
        let letter = read(
            DeadLetterQueue::SaleWorkload,
            Message::builder().body("not JSON").build(),
        );
        assert!(letter.reason.starts_with("not told"), "{}", letter.reason);
        assert_eq!((letter.run_id.as_deref(), letter.age(NOW)), (None, None));
        let filter = Filter {
            older_than: Some(Duration::ZERO),
            ..Filter::default()
        };
        assert!(!filter.admits(&letter, NOW));
    }

    #[test]
    fn an_invocation_is_its_event_with_lambdas_attributes() {
        let event = r#"{"branches": ["Scranton"], "run_id": "2026-11-21T01:00:00Z"}"#;
        let message = sent_at_one(event)
            .message_attributes("RequestID", text("r"))
            .message_attributes("ErrorCode", text("200"))
            .message_attributes("ErrorMessage", text("branches failed: Scranton"));
        let letter = read(DeadLetterQueue::BranchFunction, message.build());
        assert_eq!(letter.reason, "branches failed: Scranton");
        assert_eq!(letter.run_id.as_deref(), Some("2026-11-21T01:00:00Z"));
        assert_eq!(letter.event(), event);
    }

    #[test]
    fn an_envelope_holds_the_event_to_the_digit_and_the_reason() {
        let event = r#"{"employee_id":123456789012345678901234567890}"#;
        let body = format!(
            r#"{{"version": "1.0", "requestContext": {{"condition": "RetriesExhausted"}}, "requestPayload": {event},
                "responsePayload": {{"errorType": "e", "errorMessage": "no quota"}}}}"#
        );
        let letter = read(DeadLetterQueue::SaleFunction, sent_at_one(&body).build());
        assert_eq!((letter.event(), letter.reason.as_str()), (event, "no quota"));
        // and a message of a work queue is sent as it is, whatever it looks like
        let message = read(DeadLetterQueue::SaleWorkload, sent_at_one(&body).build());
        assert_eq!(message.event(), body);
    }

    #[test]
    fn reasons_that_differ_in_numbers_alone_are_of_one_kind() {
        let of = |id: u32, status: u32| format!("the vendor answered {status} Not Found: no employee {id}");
        assert_eq!(kind_of(&of(7, 404)), "the vendor answered 404 Not Found: no employee …");
        assert_eq!(kind_of(&of(7, 404)), kind_of(&of(1235, 404)));
        assert_ne!(kind_of(&of(7, 404)), kind_of(&of(7, 403)));
        assert_eq!(kind_of(TOO_MANY_RECEIVES), TOO_MANY_RECEIVES);
        assert_eq!(kind_of(""), "");
    }

    #[test]
    fn reasons_that_differ_in_request_ids_are_of_one_kind() {
        let of = |id: &str| format!("RequestId: {id} Error: Task timed out after 900.00 seconds");
        let one = kind_of(&of("6a1f9912-0c7e-4f1b-9d4e-2b8f5a3c7d10"));
        assert_eq!(one, "RequestId: … Error: Task timed out after ….… seconds");
        assert_eq!(one, kind_of(&of("c0ffeeab-cdef-abcd-efab-cdefabcdef01")));
        assert_eq!(kind_of("defaced facade -- no id"), "defaced facade -- no id");
    }

    #[test]
    fn what_the_scheduler_could_not_deliver_says_why_and_whether_it_is_whole() {
        let scheduled = |message: Option<&str>, truncated: &str| {
            let mut letter = sent_at_one("{}")
                .message_attributes("ERROR_CODE", text("AccessDenied"))
                .message_attributes("EXHAUSTED_RETRY_CONDITION", text("MaximumRetryAttempts"))
                .message_attributes("IS_PAYLOAD_TRUNCATED", text(truncated));
            if let Some(message) = message {
                letter = letter.message_attributes("ERROR_MESSAGE", text(message));
            }
            read(DeadLetterQueue::SaleFunction, letter.build())
        };
        let told = scheduled(Some("not authorized to perform: lambda:InvokeFunction"), "false");
        assert_eq!(told.reason, "not authorized to perform: lambda:InvokeFunction");
        assert!(!told.truncated);
        let coded = scheduled(None, "true");
        assert_eq!(coded.reason, "AccessDenied");
        assert!(coded.truncated);
    }

    #[test]
    fn a_filter_admits_by_age_and_by_reason() {
        let message = sent_at_one("{}").message_attributes("reason", text("the vendor answered 404 Not Found"));
        let letter = read(DeadLetterQueue::SaleWorkload, message.build());
        let admits = |hours: u64, reason: Option<&str>| {
            let filter = Filter {
                older_than: Some(Duration::from_secs(hours * 3600)),
                reason: reason.map(str::to_owned),
            };
            filter.admits(&letter, NOW)
        };
        assert!(admits(1, None) && admits(1, Some("NOT found")));
        assert!(!admits(2, None) && !admits(3, None) && !admits(1, Some("403")));
    }
}
