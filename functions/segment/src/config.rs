//! What the environment says, read and checked once.

use std::time::Duration;

use glioseg_shared::cloud::keys::{Channel, InvalidName};
use glioseg_shared::study::ServingLimits;
use glioseg_shared::study::limits::InvalidLimit;

/// Longest refresh time: a day.
const MAX_REFRESH_SECONDS: u64 = 24 * 60 * 60;

/// Everything that the environment decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Bucket that users upload to: `UPLOADS_BUCKET`.
    pub uploads_bucket: String,
    /// Bucket of everything derived: `RESULTS_BUCKET`.
    pub results_bucket: String,
    /// Bucket of the models: `MODELS_BUCKET`.
    pub models_bucket: String,
    /// The line of models to serve: `MODEL_CHANNEL`, default `fast`.
    pub channel: Channel,
    /// How old the last look at the channel may be: `MODEL_REFRESH_SECONDS`, default 60; 0 looks at every request.
    pub refresh_after: Duration,
    /// Bounds on what comes from outside.
    pub limits: ServingLimits,
}

/// Why the environment cannot be worked with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A variable without a default is not set.
    #[error("{variable} is not set: it names a bucket")]
    Missing {
        /// The variable.
        variable: &'static str,
    },
    /// The channel's name is none.
    #[error("MODEL_CHANNEL: {0}")]
    Channel(#[from] InvalidName),
    /// The refresh time is none.
    #[error(
        "MODEL_REFRESH_SECONDS={value:?}: it has to be a whole number from 0 to {MAX_REFRESH_SECONDS}"
    )]
    Refresh {
        /// Its value.
        value: String,
    },
    /// A bound is none.
    #[error(transparent)]
    Limit(#[from] InvalidLimit),
}

impl Config {
    /// Reads the environment of the process.
    ///
    /// # Errors
    /// [`ConfigError`], which names the variable, for the first that cannot be used.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|variable| {
            std::env::var_os(variable).map(|value| value.to_string_lossy().into_owned())
        })
    }

    /// Reads variables that `value_of` knows.
    ///
    /// # Errors
    /// As [`Config::from_env`].
    pub fn from_variables(
        value_of: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let bucket = |variable| {
            value_of(variable)
                .filter(|value| !value.is_empty())
                .ok_or(ConfigError::Missing { variable })
        };
        Ok(Self {
            uploads_bucket: bucket("UPLOADS_BUCKET")?,
            results_bucket: bucket("RESULTS_BUCKET")?,
            models_bucket: bucket("MODELS_BUCKET")?,
            channel: Channel::parse(value_of("MODEL_CHANNEL").as_deref().unwrap_or("fast"))?,
            refresh_after: refresh(value_of("MODEL_REFRESH_SECONDS"))?,
            limits: ServingLimits::from_variables(&value_of)?,
        })
    }
}

fn refresh(value: Option<String>) -> Result<Duration, ConfigError> {
    let Some(value) = value else {
        return Ok(Duration::from_secs(60));
    };
    match value.trim().parse() {
        Ok(seconds) if seconds <= MAX_REFRESH_SECONDS => Ok(Duration::from_secs(seconds)),
        _ => Err(ConfigError::Refresh { value }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn with(name: &str, value: &str) -> Result<Config, ConfigError> {
        Config::from_variables(|variable| match variable {
            _ if variable == name => Some(value.to_owned()),
            "UPLOADS_BUCKET" => Some("u".to_owned()),
            "RESULTS_BUCKET" => Some("r".to_owned()),
            "MODELS_BUCKET" => Some("m".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn only_buckets_have_no_default() {
        let config = with("", "").unwrap();
        assert_eq!(
            (
                config.uploads_bucket.as_str(),
                config.results_bucket.as_str()
            ),
            ("u", "r")
        );
        assert_eq!(config.models_bucket, "m");
        assert_eq!(config.channel.as_str(), "fast");
        assert_eq!(config.refresh_after, Duration::from_secs(60));
        assert_eq!(config.limits, ServingLimits::default());
        for variable in ["UPLOADS_BUCKET", "RESULTS_BUCKET", "MODELS_BUCKET"] {
            assert_eq!(with(variable, ""), Err(ConfigError::Missing { variable }));
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (variable, value) in [
            ("MODEL_CHANNEL", "a/b"),
            ("MODEL_REFRESH_SECONDS", "-1"),
            ("MODEL_REFRESH_SECONDS", "86401"),
            ("MODEL_REFRESH_SECONDS", "1.5"),
            ("MAX_SIDE", "0"),
        ] {
            let error = with(variable, value).unwrap_err().to_string();
            assert!(error.starts_with(variable), "{error}");
        }
        assert_eq!(
            with("MODEL_REFRESH_SECONDS", " 0 ").unwrap().refresh_after,
            Duration::ZERO
        );
    }
}
