//! From prepared slices, and images sent to it, to masks.
//!
//! - [`mod@slice`]: a prepared slice in, mask, pictures and report out; pure.
//! - [`model`]: the model that serves, swapped between two requests.
//! - [`event`]: prepared slices that arrive in the results bucket.
//! - [`http`]: images that somebody sends, and questions about the model.
//! - [`config`]: the environment.

// Bad input ends in an error; where something is expected all the same, the place says why it holds.
#![warn(clippy::expect_used, clippy::panic, clippy::unreachable, clippy::todo)]

pub mod config;
pub mod event;
pub mod http;
mod image;
pub mod model;
mod request;
pub mod slice;
mod workers;

use glioseg_shared::cloud::Storage;
use glioseg_shared::cloud::events::{self, EventError, Failed, Invocation};
use glioseg_shared::cloud::telemetry::{self, Metrics};
use serde_json::Value;

use config::Config;
use model::{Clock, ModelSlot};
use workers::Workers;

/// Objects of one event that are worked on at once: while one is computed on, others are read and written.
const CONCURRENCY: usize = 4;

/// The function, over any kind of store.
pub struct Segment<S> {
    uploads: S,
    results: S,
    model: ModelSlot<S>,
    workers: Workers,
    config: Config,
}

/// The three buckets.
#[derive(Clone, Debug)]
pub struct Buckets<S> {
    /// What users upload.
    pub uploads: S,
    /// Everything derived.
    pub results: S,
    /// The models.
    pub models: S,
}

/// Why an invocation failed as a whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandlerError {
    /// The payload is no event that is known.
    #[error(transparent)]
    Event(#[from] EventError),
    /// Objects that were announced directly were not dealt with.
    #[error(transparent)]
    Failed(#[from] Failed),
}

impl<S: Storage> Segment<S> {
    /// The function over its buckets; nothing is read yet.
    pub fn new(buckets: Buckets<S>, config: Config, clock: Clock) -> Self {
        Self {
            uploads: buckets.uploads,
            results: buckets.results,
            model: ModelSlot::new(
                buckets.models,
                config.channel.clone(),
                config.refresh_after,
                clock,
            ),
            workers: Workers::new(),
            config,
        }
    }

    /// Picks the model up before the first request. That it fails is told in the log, and tried again then.
    pub async fn warm_up(&self) {
        let _ = self.model.current().await;
    }

    /// Handles whatever the function is invoked with.
    ///
    /// # Errors
    /// [`HandlerError`] where the sender is to send the event again. HTTP requests are always answered.
    pub async fn handle(&self, payload: Value) -> Result<Value, HandlerError> {
        if telemetry::is_cold_start() {
            Metrics::new("segment").count("ColdStarts", 1).emit();
        }
        match events::parse(payload)? {
            Invocation::Objects(objects) => {
                let handled =
                    events::run_objects(objects, CONCURRENCY, |object| self.on_object(object));
                Ok(handled.await?)
            }
            Invocation::Http(request) => Ok(self.on_http(request).await.into_api_gateway()),
            Invocation::Refused(problem) => Ok(problem.into_response().into_api_gateway()),
            Invocation::Empty => Ok(Value::Null),
        }
    }

    /// Most bytes of a prepared slice: its pixels as they are, should they not compress, and what PNG adds.
    fn max_prepared_bytes(&self) -> u64 {
        let decoded = self.config.limits.max_decoded_bytes;
        decoded.saturating_add(decoded / 64).saturating_add(1 << 20)
    }
}
