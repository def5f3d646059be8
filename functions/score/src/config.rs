//! What the environment says.

use std::ops::RangeInclusive;
use std::time::Duration;

use glioseg_shared::study::ServingLimits;
use glioseg_shared::study::limits::InvalidLimit;

/// How long S3 signs links for, in seconds: at most 7 days.
const PRESIGN_SECONDS: RangeInclusive<u64> = 1..=604_800;

/// What the environment says, read once at the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The bucket that users upload to: `UPLOADS_BUCKET`.
    pub uploads_bucket: String,
    /// The bucket that the functions write to: `RESULTS_BUCKET`.
    pub results_bucket: String,
    /// The event bus that finished studies are announced on: `EVENT_BUS_NAME`, else the account's own, `default`.
    pub event_bus: String,
    /// How long links are good for: `PRESIGN_SECONDS`, else 15 minutes.
    pub links_expire_in: Duration,
    /// What an image may ask for.
    pub limits: ServingLimits,
}

/// An environment variable that is missing or of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A variable that has no default is not set.
    #[error("{variable} is not set")]
    Missing {
        /// Its name.
        variable: &'static str,
    },
    /// The links' validity is no number in its range.
    #[error(
        "PRESIGN_SECONDS={value:?}: it has to be a whole number from {} to {}",
        PRESIGN_SECONDS.start(),
        PRESIGN_SECONDS.end()
    )]
    Presign {
        /// Its value.
        value: String,
    },
    /// A bound is no number in its range.
    #[error(transparent)]
    Limit(#[from] InvalidLimit),
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], which names the variable.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|variable| {
            std::env::var_os(variable).map(|value| value.to_string_lossy().into_owned())
        })
    }

    /// Reads variables that `value_of` knows.
    ///
    /// # Errors
    ///
    /// As [`Config::from_env`].
    pub fn from_variables(
        value_of: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let set = |variable| value_of(variable).filter(|value| !value.is_empty());
        let required = |variable| set(variable).ok_or(ConfigError::Missing { variable });
        let links_expire_in = match set("PRESIGN_SECONDS") {
            None => 900,
            Some(value) => value
                .trim()
                .parse()
                .ok()
                .filter(|seconds| PRESIGN_SECONDS.contains(seconds))
                .ok_or(ConfigError::Presign { value })?,
        };
        Ok(Self {
            uploads_bucket: required("UPLOADS_BUCKET")?,
            results_bucket: required("RESULTS_BUCKET")?,
            event_bus: set("EVENT_BUS_NAME").unwrap_or_else(|| "default".to_owned()),
            links_expire_in: Duration::from_secs(links_expire_in),
            limits: ServingLimits::from_variables(&value_of)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_variables(|variable| {
            let found = set.iter().find(|(name, _)| *name == variable);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    const BUCKETS: [(&str, &str); 2] = [("UPLOADS_BUCKET", "u"), ("RESULTS_BUCKET", "r")];

    #[test]
    fn only_the_buckets_have_to_be_named() {
        let config = read(&BUCKETS).unwrap();
        assert_eq!(config.event_bus, "default");
        assert_eq!(config.links_expire_in, Duration::from_secs(900));
        assert_eq!(config.limits, ServingLimits::default());
        let error = read(&BUCKETS[..1]).unwrap_err();
        assert_eq!(error.to_string(), "RESULTS_BUCKET is not set");
        let error = read(&[BUCKETS[1], ("UPLOADS_BUCKET", "")]).unwrap_err();
        assert_eq!(error.to_string(), "UPLOADS_BUCKET is not set");
    }

    #[test]
    fn what_is_of_no_use_is_named() {
        for (name, value) in [
            ("PRESIGN_SECONDS", "0"),
            ("PRESIGN_SECONDS", "604801"),
            ("PRESIGN_SECONDS", "soon"),
            ("MAX_SIDE", "-1"),
        ] {
            let error = read(&[BUCKETS[0], BUCKETS[1], (name, value)]).unwrap_err();
            let expected = format!("{name}={value:?}: ");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
        let config = read(&[BUCKETS[0], BUCKETS[1], ("PRESIGN_SECONDS", " 60 ")]).unwrap();
        assert_eq!(config.links_expire_in, Duration::from_secs(60));
    }
}
