//! Logs, metrics and timings, without names of patients.
//!
//! Everything is one JSON document a line on standard output, where Lambda collects it. A program that never calls
//! [`init`] writes neither logs nor metrics.

mod metrics;
mod names;
mod timing;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

pub use metrics::Metrics;
pub use names::{KeyLog, scrub};
pub use timing::ServerTiming;

const LEVEL_VARIABLE: &str = "GLIOSEG_LOG";

static METRICS_ARE_ON: AtomicBool = AtomicBool::new(false);

/// Why nothing can be logged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The variable `GLIOSEG_LOG` is neither a level nor a filter.
    #[error("GLIOSEG_LOG={value:?} is no filter such as info or glioseg_shared=debug: {reason}")]
    Filter {
        /// Its value.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody receives this program's logs already.
    #[error("logs have a receiver already")]
    Twice,
}

/// Sends logs, as JSON, and metrics to standard output from now on.
///
/// `GLIOSEG_LOG` filters the logs: a level, or targets with levels (default `info`).
///
/// # Errors
///
/// [`TelemetryError`] where the filter cannot be read, or logs have another receiver already.
pub fn init() -> Result<(), TelemetryError> {
    let value = std::env::var(LEVEL_VARIABLE)
        .ok()
        .filter(|value| !value.is_empty())
        .unwrap_or_else(|| "info".to_owned());
    let filter = EnvFilter::try_new(&value).map_err(|error| TelemetryError::Filter {
        value,
        reason: error.to_string(),
    })?;
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .try_init()
        .map_err(|_| TelemetryError::Twice)?;
    METRICS_ARE_ON.store(true, Ordering::Relaxed);
    Ok(())
}

/// Whether this is the first time that this process is asked.
#[must_use]
pub fn is_cold_start() -> bool {
    static ASKED: AtomicBool = AtomicBool::new(false);
    !ASKED.swap(true, Ordering::Relaxed)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
