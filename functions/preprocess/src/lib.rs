//! From uploads to prepared slices.
//!
//! - [`decode`]: the bytes of an upload in, prepared slices and truth masks out; pure.
//! - [`event`]: objects that arrive in the uploads bucket.
//! - [`http`]: links to upload with.
//! - [`config`]: the environment.
//!
//! The results of an upload are made from what the upload holds when it is looked at, not from what it held when its
//! event was sent; whoever writes looks again afterwards, and begins anew where the upload, or what is known of its
//! study, changed. So events may come late, twice, at once and in any order, and the same results are left behind.
//!
//! Nothing that was made is taken away here. Where a newer upload cannot be read, or contradicts a newer `study.json`, it
//! is set aside, and what was made before stays beside the rejection, which says so, until an upload can be read again.
//! Where a corrected file has fewer pages than before, what the others became stays too, until the study is deleted.

// Bad input ends in an error; where something is expected all the same, the place says why it holds.
#![warn(clippy::expect_used, clippy::panic, clippy::unreachable, clippy::todo)]

mod archive;
pub mod config;
pub mod decode;
pub mod event;
mod gate;
pub mod http;
mod package;
mod refusal;
mod reject;
mod settle;
mod study;

use glioseg_shared::cloud::events::{self, EventError, Failed, Invocation};
use glioseg_shared::cloud::telemetry::{self, Metrics};
use glioseg_shared::cloud::{Presign, Storage};
use serde_json::Value;

use config::Config;
use gate::Gate;

pub use refusal::Refusal;

/// Objects of one event that are worked on at once: while one is decoded, others are read and written.
const CONCURRENCY: usize = 4;

/// The function's name in metrics and answers.
pub(crate) const FUNCTION: &str = "preprocess";

/// The function, over any kind of store.
pub struct Preprocess<S> {
    uploads: S,
    results: S,
    gate: Gate,
    config: Config,
}

/// The two buckets.
#[derive(Clone, Debug)]
pub struct Buckets<S> {
    /// What users upload.
    pub uploads: S,
    /// Everything derived.
    pub results: S,
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

impl<S: Storage + Presign> Preprocess<S> {
    /// The function over its buckets; nothing is read yet.
    pub fn new(buckets: Buckets<S>, config: Config) -> Self {
        Self {
            uploads: buckets.uploads,
            results: buckets.results,
            gate: Gate::new(CONCURRENCY),
            config,
        }
    }

    /// Handles whatever the function is invoked with.
    ///
    /// # Errors
    /// [`HandlerError`] where the sender is to send the event again. HTTP requests are always answered.
    pub async fn handle(&self, payload: Value) -> Result<Value, HandlerError> {
        if telemetry::is_cold_start() {
            Metrics::new(FUNCTION).count("ColdStarts", 1).emit();
        }
        match events::parse(payload)? {
            Invocation::Objects(objects) => {
                let handled = events::run_objects(objects, CONCURRENCY, |object| async move {
                    self.on_object(&object).await.map(|_| ())
                });
                Ok(handled.await?)
            }
            Invocation::Http(request) => Ok(self.on_http(&request).await.into_api_gateway()),
            Invocation::Refused(problem) => Ok(problem.into_response().into_api_gateway()),
            Invocation::Empty => Ok(Value::Null),
        }
    }
}
