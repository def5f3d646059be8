//! What the environment says, read and checked once.

use std::time::Duration;

use glioseg_shared::cloud::keys::Channel;
use glioseg_shared::cloud::{Environment, EnvironmentError};
use glioseg_shared::study::ServingLimits;

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

impl Config {
    /// Reads variables that `value_of` knows.
    ///
    /// # Errors
    /// [`EnvironmentError`], which names the variable, for the first that cannot be used.
    pub fn from_variables(
        value_of: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, EnvironmentError> {
        let environment = Environment::new(value_of);
        let refresh_seconds =
            environment.whole_number("MODEL_REFRESH_SECONDS", 0..=MAX_REFRESH_SECONDS, 60)?;
        Ok(Self {
            uploads_bucket: environment.bucket("UPLOADS_BUCKET")?,
            results_bucket: environment.bucket("RESULTS_BUCKET")?,
            models_bucket: environment.bucket("MODELS_BUCKET")?,
            channel: environment.parsed("MODEL_CHANNEL", "fast", Channel::parse)?,
            refresh_after: Duration::from_secs(refresh_seconds),
            limits: ServingLimits::from_environment(&environment)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn with(name: &str, value: &str) -> Result<Config, EnvironmentError> {
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
            assert_eq!(
                with(variable, ""),
                Err(EnvironmentError::NoBucket { variable })
            );
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (variable, value) in [
            ("MODEL_CHANNEL", "a/b"),
            ("MODEL_REFRESH_SECONDS", "86401"),
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
