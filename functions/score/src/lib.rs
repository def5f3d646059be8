//! From masks and truth to scores, and from the objects of a study to how it stands.
//!
//! - [`mod@slice`]: one predicted and one true mask in, a score out; pure.
//! - [`event`]: masks and truths that arrive in the results bucket.
//! - [`completion`]: announcing on a [`bus`] that a closed study is done.
//! - `collect`: keeping slices with their truth for training, where that is wished.
//! - [`http`]: two masks that somebody sends or names, how a study stands, [`delete`] for one, and [`withdraw`] for all
//!   of a patient.
//! - [`memory`]: what slices that are collected at once share.
//! - [`config`]: the environment.

// Bad input ends in an error; where something is expected all the same, the place says why it holds.
#![warn(clippy::expect_used, clippy::panic, clippy::unreachable, clippy::todo)]

pub mod bus;
mod collect;
pub mod completion;
pub mod config;
pub mod delete;
mod derive;
mod error;
pub mod event;
mod form;
pub mod http;
mod input;
mod listing;
pub mod memory;
mod pair;
mod roll;
pub mod slice;
mod study;
pub mod sweep;
pub mod withdraw;

use glioseg_shared::cloud::events::{self, Invocation};
use glioseg_shared::cloud::telemetry::{self, Metrics};
use glioseg_shared::cloud::{Presign, Storage};
use serde_json::Value;

pub use error::ScoreError;

use bus::Bus;
use config::Config;
use memory::Memory;

/// What logs and metrics call the function.
const FUNCTION: &str = "score";

/// Objects of one event that are worked on at once: nearly all of the time goes into waiting for the bucket.
const CONCURRENCY: usize = 8;

/// The function, over any kind of store and bus.
#[derive(Clone, Debug)]
pub struct Score<S, B> {
    /// What users upload.
    pub uploads: S,
    /// Everything derived.
    pub results: S,
    /// Where finished studies are announced.
    pub bus: B,
    /// What slices that are collected for training at once share.
    pub memory: Memory,
    /// What the environment says.
    pub config: Config,
}

impl<S: Storage + Presign, B: Bus> Score<S, B> {
    /// Handles whatever the function is invoked with.
    ///
    /// # Errors
    ///
    /// [`ScoreError`] where the sender is to send the event again. HTTP requests are always answered.
    pub async fn handle(&self, payload: Value) -> Result<Value, ScoreError> {
        if telemetry::is_cold_start() {
            Metrics::new(FUNCTION).count("ColdStarts", 1).emit();
        }
        match events::parse(payload)? {
            // Boxed, since what waits for a bucket in it is nested deeper than the compiler follows.
            Invocation::Objects(objects) => {
                let handle = |object| Box::pin(self.on_object(object));
                Ok(events::run_objects(objects, CONCURRENCY, handle).await?)
            }
            Invocation::Http(request) => {
                Ok(Box::pin(self.on_http(request)).await.into_api_gateway())
            }
            Invocation::Refused(problem) => Ok(problem.into_response().into_api_gateway()),
            Invocation::Empty => Ok(Value::Null),
        }
    }
}
