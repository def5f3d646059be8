//! Every event that invokes a function, read in one place.
//!
//! Events are looked at field by field rather than through the types of `aws_lambda_events`: its `S3Event` requires
//! fields that nothing here needs (`eventTime`, `userIdentity`, `requestParameters`) and that other senders of S3
//! events leave out, and one record that lacks one would make the whole batch unreadable.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::future::Future;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::http::{HttpRequest, form_decode};
use super::problem::Problem;
use super::replace::Sequencer;
use super::storage::StorageError;
use super::telemetry::{KeyLog, scrub};

/// What invoked the function.
#[derive(Clone, Debug, PartialEq)]
pub enum Invocation {
    /// Objects were created.
    Objects(ObjectEvents),
    /// Somebody waits for an answer.
    Http(HttpRequest),
    /// Somebody waits for an answer, and the request cannot be read: this is the answer.
    Refused(Problem),
    /// S3 asks whether it can be heard (`s3:TestEvent`); nothing is to be done.
    Empty,
}

/// Objects that were created, by the messages that say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectEvents {
    /// The messages; one without an identifier where the event came directly.
    pub messages: Vec<Message>,
    /// Who sent them, which decides how failures are reported.
    pub source: Source,
}

/// Who sent an event about objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// S3, directly.
    S3,
    /// A queue: each message is reported as failed by itself.
    Sqs,
    /// EventBridge, directly.
    EventBridge,
}

/// One message about objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The queue's identifier of it.
    pub id: Option<String>,
    /// The objects that were created, none for a message about something else; an error where the body is no event,
    /// which fails this message alone.
    pub objects: Result<Vec<ObjectCreated>, EventError>,
}

/// An object that was created or replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectCreated {
    /// The bucket it is in.
    pub bucket: String,
    /// Its key, decoded; not yet checked to be an [`ObjectKey`](super::ObjectKey).
    pub key: String,
    /// Length of its content in bytes.
    pub size: Option<u64>,
    /// Its state at that moment, without the quotes that an [`ETag`](super::ETag) has.
    pub etag: Option<String>,
    /// Its version, in a bucket that keeps versions.
    pub version_id: Option<String>,
    /// The place of the event among those of the key.
    pub sequencer: Option<Sequencer>,
}

/// Why an event cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// It is of no form that is known here.
    #[error(
        "the event is neither of S3, SQS or EventBridge nor an HTTP request of payload format 2.0"
    )]
    Unknown,
    /// A message of a queue is not JSON.
    #[error("the message's body is no JSON: {reason}")]
    NotJson {
        /// What the parser says.
        reason: String,
    },
    /// A field is missing or of another type.
    #[error("the event's {field} is missing or unreadable")]
    Field {
        /// The field.
        field: &'static str,
    },
}

impl EventError {
    /// Whether the very same event may be read later: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// Reads the payload of an invocation.
///
/// # Errors
///
/// [`EventError::Unknown`] for a payload of another form. What is wrong with one message of a queue, or with the
/// records of a direct event, is that message's error.
pub fn parse(payload: Value) -> Result<Invocation, EventError> {
    if HttpRequest::is_event(&payload) {
        return Ok(match HttpRequest::from_event(&payload) {
            Ok(request) => Invocation::Http(request),
            Err(problem) => Invocation::Refused(problem),
        });
    }
    if is_test_event(&payload) {
        return Ok(Invocation::Empty);
    }
    let direct = |objects, source| {
        Invocation::Objects(ObjectEvents {
            messages: vec![Message { id: None, objects }],
            source,
        })
    };
    if is_event_bridge(&payload) {
        return Ok(direct(event_bridge(&payload), Source::EventBridge));
    }
    let records = records(&payload)?;
    if records
        .iter()
        .any(|record| source_of(record) == Some("aws:sqs"))
    {
        return Ok(Invocation::Objects(ObjectEvents {
            messages: records.iter().map(message).collect(),
            source: Source::Sqs,
        }));
    }
    if records
        .iter()
        .any(|record| source_of(record) != Some("aws:s3"))
    {
        return Err(EventError::Unknown);
    }
    Ok(direct(s3_records(records), Source::S3))
}

fn is_test_event(event: &Value) -> bool {
    event.get("Event").and_then(Value::as_str) == Some("s3:TestEvent")
}

fn is_event_bridge(event: &Value) -> bool {
    event.get("source").and_then(Value::as_str) == Some("aws.s3")
        && event.get("detail-type").is_some_and(Value::is_string)
}

fn records(event: &Value) -> Result<&[Value], EventError> {
    event
        .get("Records")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .ok_or(EventError::Unknown)
}

fn source_of(record: &Value) -> Option<&str> {
    record.get("eventSource")?.as_str()
}

/// A message of a queue, with an event of S3 or EventBridge as its body.
fn message(record: &Value) -> Message {
    Message {
        id: text(record, "/messageId"),
        objects: message_body(record),
    }
}

fn message_body(record: &Value) -> Result<Vec<ObjectCreated>, EventError> {
    let body = record
        .get("body")
        .and_then(Value::as_str)
        .ok_or(EventError::Field { field: "body" })?;
    let event: Value = serde_json::from_str(body).map_err(|error| EventError::NotJson {
        reason: error.to_string(),
    })?;
    if is_test_event(&event) {
        return Ok(Vec::new());
    }
    if is_event_bridge(&event) {
        return event_bridge(&event);
    }
    s3_records(records(&event)?)
}

fn s3_records(records: &[Value]) -> Result<Vec<ObjectCreated>, EventError> {
    records
        .iter()
        .filter_map(|record| s3_record(record).transpose())
        .collect()
}

/// `None` for a record about something else than a new object.
fn s3_record(record: &Value) -> Result<Option<ObjectCreated>, EventError> {
    let name = record
        .get("eventName")
        .and_then(Value::as_str)
        .ok_or(EventError::Field { field: "eventName" })?;
    if !name
        .strip_prefix("s3:")
        .unwrap_or(name)
        .starts_with("ObjectCreated:")
    {
        return Ok(None);
    }
    let key = text(record, "/s3/object/key")
        .and_then(|key| form_decode(&key))
        .ok_or(EventError::Field {
            field: "s3.object.key",
        })?;
    Ok(Some(ObjectCreated {
        bucket: text(record, "/s3/bucket/name").ok_or(EventError::Field {
            field: "s3.bucket.name",
        })?,
        key,
        size: record.pointer("/s3/object/size").and_then(Value::as_u64),
        etag: text(record, "/s3/object/eTag"),
        version_id: text(record, "/s3/object/versionId"),
        sequencer: sequencer(record, "/s3/object/sequencer")?,
    }))
}

/// EventBridge sends one object an event, and its key as it is.
fn event_bridge(event: &Value) -> Result<Vec<ObjectCreated>, EventError> {
    if event.get("detail-type").and_then(Value::as_str) != Some("Object Created") {
        return Ok(Vec::new());
    }
    Ok(vec![ObjectCreated {
        bucket: text(event, "/detail/bucket/name").ok_or(EventError::Field {
            field: "detail.bucket.name",
        })?,
        key: text(event, "/detail/object/key").ok_or(EventError::Field {
            field: "detail.object.key",
        })?,
        size: event.pointer("/detail/object/size").and_then(Value::as_u64),
        etag: text(event, "/detail/object/etag"),
        version_id: text(event, "/detail/object/version-id"),
        sequencer: sequencer(event, "/detail/object/sequencer")?,
    }])
}

/// Text that is not empty.
fn text(event: &Value, pointer: &str) -> Option<String> {
    event
        .pointer(pointer)
        .and_then(Value::as_str)
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

/// One that cannot be read is an error, since taking it for none would make the event the oldest of its key.
fn sequencer(event: &Value, pointer: &str) -> Result<Option<Sequencer>, EventError> {
    text(event, pointer)
        .map(|text| {
            Sequencer::parse(&text).ok_or(EventError::Field {
                field: "object's sequencer",
            })
        })
        .transpose()
}

/// An error that knows whether the same work may succeed later.
pub trait Retryable {
    /// Whether the very same work may succeed later.
    fn is_retryable(&self) -> bool;
}

impl Retryable for StorageError {
    fn is_retryable(&self) -> bool {
        self.is_retryable()
    }
}

/// Some objects of an event that came directly were not handled; the sender is to send the event again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{failed} of {of} objects were not handled; the first: {first}")]
pub struct Failed {
    failed: usize,
    of: usize,
    first: String,
    retryable: bool,
}

impl Failed {
    /// Whether all that failed may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }
}

/// Handles the objects of an event, at most `concurrency` (at least one) at a time, and answers as its sender expects.
///
/// The handler deals itself with what can never succeed; whatever it returns as an error is logged and reported as
/// failed. A queue is told which messages to keep (`batchItemFailures`), and sends only these again.
///
/// # Errors
///
/// [`Failed`] where an object of a direct event failed, or a failed message of a queue has no identifier to be named by.
pub async fn run_objects<F, Fut, E>(
    events: ObjectEvents,
    concurrency: usize,
    handle: F,
) -> Result<Value, Failed>
where
    F: Fn(ObjectCreated) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Display + Retryable,
{
    let source = events.source;
    let mut ids = Vec::new();
    let mut outcome = Outcome::default();
    let mut work = Vec::new();
    for (index, message) in events.messages.into_iter().enumerate() {
        ids.push(message.id);
        match message.objects {
            Ok(objects) => work.extend(objects.into_iter().map(|object| (index, object))),
            Err(error) => {
                tracing::error!(%error, "a message cannot be read");
                outcome.fail(index, error.to_string(), false);
            }
        }
    }
    outcome.of = work.len() + outcome.failed;
    let handle = &handle;
    let mut results = stream::iter(work)
        .map(|(index, object)| async move {
            let key = object.key.clone();
            (index, key, handle(object).await)
        })
        .buffer_unordered(concurrency.max(1));
    while let Some((index, key, result)) = results.next().await {
        if let Err(error) = result {
            let (text, retryable) = (scrub(&error.to_string(), &key), error.is_retryable());
            tracing::error!(key = %KeyLog(&key), error = %text, retryable, "an object was not handled");
            outcome.fail(index, text, retryable);
        }
    }
    outcome.report(source, &ids)
}

/// What failed so far.
#[derive(Default)]
struct Outcome {
    of: usize,
    failed: usize,
    first: Option<String>,
    for_good: bool,
    messages: BTreeSet<usize>,
}

impl Outcome {
    fn fail(&mut self, message: usize, error: String, retryable: bool) {
        self.failed += 1;
        self.first.get_or_insert(error);
        self.for_good |= !retryable;
        self.messages.insert(message);
    }

    fn report(self, source: Source, ids: &[Option<String>]) -> Result<Value, Failed> {
        let failed_ids: Option<Vec<&str>> = self
            .messages
            .iter()
            .map(|&index| ids[index].as_deref())
            .collect();
        match (source, failed_ids, self.first) {
            (Source::Sqs, Some(ids), _) => {
                let failures: Vec<Value> = ids
                    .iter()
                    .map(|id| json!({ "itemIdentifier": id }))
                    .collect();
                Ok(json!({ "batchItemFailures": failures }))
            }
            (_, _, None) => Ok(Value::Null),
            (_, _, Some(first)) => Err(Failed {
                failed: self.failed,
                of: self.of,
                first,
                retryable: !self.for_good,
            }),
        }
    }
}
