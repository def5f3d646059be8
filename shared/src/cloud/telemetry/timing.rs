//! Timings that a caller may see.

use std::fmt;
use std::time::Duration;

use super::milliseconds;

/// The header `Server-Timing`: what a request's time went into.
///
/// ```
/// use std::time::Duration;
/// use glioseg_shared::cloud::telemetry::ServerTiming;
///
/// let timing = ServerTiming::default()
///     .stage("decode", Duration::from_micros(1500))
///     .stage("inference", Duration::from_millis(40));
/// assert_eq!(timing.to_string(), "decode;dur=1.500, inference;dur=40.000");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerTiming {
    stages: Vec<(&'static str, Duration)>,
}

impl ServerTiming {
    /// The name of the header.
    pub const HEADER: &'static str = "server-timing";

    /// Adds a stage; the name is a token, such as `decode`.
    #[must_use]
    pub fn stage(mut self, name: &'static str, duration: Duration) -> Self {
        self.stages.push((name, duration));
        self
    }
}

impl fmt::Display for ServerTiming {
    /// The header's value, in milliseconds with three decimals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, duration)) in self.stages.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            let dur = milliseconds(*duration);
            write!(f, "{separator}{name};dur={dur:.3}")?;
        }
        Ok(())
    }
}
