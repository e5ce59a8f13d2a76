//! Why a request to SQS was refused, in the words and codes AWS uses.

use thiserror::Error;

/// A request that was not done.
#[derive(Debug, Error)]
pub(in crate::cloud) enum SqsError {
    /// The request asks for what SQS refuses; sending it again changes nothing.
    #[error("{message}")]
    Refused {
        /// The error's name in the JSON protocol, namespace included.
        shape: &'static str,
        /// The error's name in the older query protocol, which AWS still sends along and some clients show.
        code: &'static str,
        /// What was wrong, for a person.
        message: String,
    },
    /// The queues' file could not be read or written.
    #[error("could not use the queues' database")]
    Storage(#[from] rusqlite::Error),
}

/// One constructor for each error of the API, with its two names.
macro_rules! refusals {
    ($($constructor:ident = $shape:literal, $code:literal;)*) => {
        impl SqsError {
            $(pub(super) fn $constructor(message: impl Into<String>) -> Self {
                Self::Refused { shape: $shape, code: $code, message: message.into() }
            })*
        }
    };
}

refusals! {
    batch_entry_ids_not_distinct = "com.amazonaws.sqs#BatchEntryIdsNotDistinct", "AWS.SimpleQueueService.BatchEntryIdsNotDistinct";
    batch_request_too_long = "com.amazonaws.sqs#BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong";
    empty_batch_request = "com.amazonaws.sqs#EmptyBatchRequest", "AWS.SimpleQueueService.EmptyBatchRequest";
    invalid_action = "com.amazonaws.sqs#InvalidAction", "InvalidAction";
    invalid_address = "com.amazonaws.sqs#InvalidAddress", "InvalidAddress";
    invalid_attribute_name = "com.amazonaws.sqs#InvalidAttributeName", "InvalidAttributeName";
    invalid_attribute_value = "com.amazonaws.sqs#InvalidAttributeValue", "InvalidAttributeValue";
    invalid_batch_entry_id = "com.amazonaws.sqs#InvalidBatchEntryId", "AWS.SimpleQueueService.InvalidBatchEntryId";
    invalid_message_contents = "com.amazonaws.sqs#InvalidMessageContents", "InvalidMessageContents";
    invalid_parameter = "com.amazonaws.sqs#InvalidParameterValueException", "InvalidParameterValue";
    message_not_inflight = "com.amazonaws.sqs#MessageNotInflight", "AWS.SimpleQueueService.MessageNotInflight";
    missing_parameter = "com.amazonaws.sqs#MissingRequiredParameterException", "MissingParameter";
    purge_queue_in_progress = "com.amazonaws.sqs#PurgeQueueInProgress", "AWS.SimpleQueueService.PurgeQueueInProgress";
    queue_does_not_exist = "com.amazonaws.sqs#QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue";
    queue_name_exists = "com.amazonaws.sqs#QueueNameExists", "QueueAlreadyExists";
    receipt_handle_is_invalid = "com.amazonaws.sqs#ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid";
    resource_not_found = "com.amazonaws.sqs#ResourceNotFoundException", "ResourceNotFoundException";
    serialization = "com.amazon.coral.service#SerializationException", "MalformedInput";
    too_many_entries = "com.amazonaws.sqs#TooManyEntriesInBatchRequest", "AWS.SimpleQueueService.TooManyEntriesInBatchRequest";
    unsupported_operation = "com.amazonaws.sqs#UnsupportedOperation", "AWS.SimpleQueueService.UnsupportedOperation";
}

impl SqsError {
    /// The error for a parameter whose value is out of bounds, worded as AWS does.
    pub(super) fn bad_value(parameter: &str, value: impl std::fmt::Display, reason: &str) -> Self {
        Self::invalid_parameter(format!(
            "Value {value} for parameter {parameter} is invalid. Reason: {reason}."
        ))
    }

    /// The error for a queue that is not there.
    pub(super) fn no_such_queue() -> Self {
        Self::queue_does_not_exist("The specified queue does not exist.")
    }
}
