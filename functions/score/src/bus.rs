//! Where finished studies are announced.

use std::error::Error;
use std::future::Future;
use std::sync::{Mutex, PoisonError};

use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::config::http::HttpResponse;
use aws_sdk_eventbridge::error::{DisplayErrorContext, ProvideErrorMetadata, SdkError};
use aws_sdk_eventbridge::types::PutEventsRequestEntry;

/// The `source` of every event.
pub const SOURCE: &str = "glioseg";

/// One event, as subscribers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// The kind of event: EventBridge's `detail-type`.
    pub detail_type: &'static str,
    /// What happened: a JSON object.
    pub detail: String,
}

/// An event bus.
pub trait Bus: Send + Sync {
    /// Sends one event. It may arrive more than once: the detail carries an id by which subscribers can tell.
    ///
    /// # Errors
    ///
    /// [`BusError`] where the bus did not take the event.
    fn send(
        &self,
        announcement: &Announcement,
    ) -> impl Future<Output = Result<(), BusError>> + Send;
}

/// The bus did not take an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the event bus {bus} did not take {detail_type}: {reason}")]
pub struct BusError {
    bus: String,
    detail_type: &'static str,
    reason: String,
    retryable: bool,
}

impl BusError {
    /// Says which bus did not take which event, why, and whether it may take it later.
    #[must_use]
    pub fn new(
        bus: impl Into<String>,
        refused: &Announcement,
        reason: impl Into<String>,
        retryable: bool,
    ) -> Self {
        Self {
            bus: bus.into(),
            detail_type: refused.detail_type,
            reason: reason.into(),
            retryable,
        }
    }

    /// Whether the same event may be taken later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.retryable
    }
}

/// A bus of Amazon EventBridge.
#[derive(Clone, Debug)]
pub struct EventBridge {
    client: Client,
    bus: String,
}

impl EventBridge {
    /// A bus over a client that is configured already. Nothing is asked of the bus yet.
    #[must_use]
    pub fn new(client: Client, bus: impl Into<String>) -> Self {
        Self {
            client,
            bus: bus.into(),
        }
    }
}

impl Bus for EventBridge {
    async fn send(&self, announcement: &Announcement) -> Result<(), BusError> {
        let entry = PutEventsRequestEntry::builder()
            .event_bus_name(&self.bus)
            .source(SOURCE)
            .detail_type(announcement.detail_type)
            .detail(&announcement.detail)
            .build();
        let output = self
            .client
            .put_events()
            .entries(entry)
            .send()
            .await
            .map_err(|error| {
                let retryable = may_pass(&error);
                let reason = DisplayErrorContext(error).to_string();
                BusError::new(&self.bus, announcement, reason, retryable)
            })?;
        // The request succeeds although its entry failed.
        if output.failed_entry_count() == 0 {
            return Ok(());
        }
        let entry = output.entries().first();
        let code = entry
            .and_then(|entry| entry.error_code())
            .unwrap_or("no error code");
        let message = entry
            .and_then(|entry| entry.error_message())
            .unwrap_or("no message");
        let reason = format!("{code}: {message}");
        let retryable = code_may_pass(code);
        Err(BusError::new(&self.bus, announcement, reason, retryable))
    }
}

/// Whether what the SDK met, after the retries of its own, is about to pass.
fn may_pass<E>(error: &SdkError<E, HttpResponse>) -> bool
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match error {
        SdkError::ServiceError(service) => {
            matches!(service.raw().status().as_u16(), 429 | 500..)
                || service.err().code().is_some_and(code_may_pass)
        }
        SdkError::TimeoutError(_) | SdkError::ResponseError(_) => true,
        SdkError::DispatchFailure(failure) => {
            // The SDK gives a kind to those other failures alone that it would try again: a connection that ended
            // before the answer is one.
            failure.is_io() || failure.is_timeout() || failure.as_other().is_some()
        }
        _ => false,
    }
}

/// Source: "PutEventsResultEntry" of the Amazon EventBridge API reference, which parts retryable error codes from others.
fn code_may_pass(code: &str) -> bool {
    matches!(
        code,
        "InternalFailure" | "InternalException" | "ThrottlingException"
    )
}

/// A bus that keeps its events in memory, for what runs without AWS.
#[derive(Debug, Default)]
pub struct Recorder {
    announcements: Mutex<Vec<Announcement>>,
}

impl Recorder {
    /// All events so far, in the order in which they were sent.
    #[must_use]
    pub fn announcements(&self) -> Vec<Announcement> {
        self.announcements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Bus for Recorder {
    async fn send(&self, announcement: &Announcement) -> Result<(), BusError> {
        self.announcements
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(announcement.clone());
        Ok(())
    }
}

impl<B: Bus> Bus for std::sync::Arc<B> {
    async fn send(&self, announcement: &Announcement) -> Result<(), BusError> {
        self.as_ref().send(announcement).await
    }
}
