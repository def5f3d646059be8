//! The environment, read once.

use std::time::Duration;

use glioseg_shared::study::ServingLimits;
use glioseg_shared::study::limits::InvalidLimit;

/// How long an upload link is good for unless `PRESIGN_SECONDS` says otherwise.
const DEFAULT_PRESIGN: Duration = Duration::from_secs(900);

/// Longest that S3 signs for: seven days.
const MAX_PRESIGN_SECONDS: u64 = 7 * 24 * 3600;

/// What the function is told by its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `UPLOADS_BUCKET`: what users upload.
    pub uploads_bucket: String,
    /// `RESULTS_BUCKET`: everything derived.
    pub results_bucket: String,
    /// `PRESIGN_SECONDS`: how long an upload link is good for, by default 900.
    pub presign: Duration,
    /// What an upload may ask for.
    pub limits: ServingLimits,
}

/// An environment that the function cannot run in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A variable has to be set.
    #[error("{variable} is not set: it names a bucket")]
    Missing {
        /// The variable.
        variable: &'static str,
    },
    /// `PRESIGN_SECONDS` is none.
    #[error(
        "PRESIGN_SECONDS={value:?}: it has to be a whole number from 1 to {MAX_PRESIGN_SECONDS}"
    )]
    Presign {
        /// Its value.
        value: String,
    },
    /// A bound is none.
    #[error(transparent)]
    Limit(#[from] InvalidLimit),
}

impl Config {
    /// Reads the environment.
    ///
    /// # Errors
    /// [`ConfigError`], which names the variable.
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
                .filter(|name| !name.is_empty())
                .ok_or(ConfigError::Missing { variable })
        };
        Ok(Self {
            uploads_bucket: bucket("UPLOADS_BUCKET")?,
            results_bucket: bucket("RESULTS_BUCKET")?,
            presign: match value_of("PRESIGN_SECONDS") {
                None => DEFAULT_PRESIGN,
                Some(value) => match value.trim().parse() {
                    Ok(seconds @ 1..=MAX_PRESIGN_SECONDS) => Duration::from_secs(seconds),
                    _ => return Err(ConfigError::Presign { value }),
                },
            },
            limits: ServingLimits::from_variables(value_of)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_variables(|asked| {
            variables
                .iter()
                .find(|(name, _)| *name == asked)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_is_set_counts_and_the_rest_has_its_default() {
        let config = read(&[
            ("UPLOADS_BUCKET", "up"),
            ("RESULTS_BUCKET", "down"),
            ("PRESIGN_SECONDS", "60"),
            ("MAX_PAGES", "3"),
        ])
        .unwrap();
        assert_eq!(config.uploads_bucket, "up");
        assert_eq!(config.results_bucket, "down");
        assert_eq!(config.presign, Duration::from_secs(60));
        assert_eq!(config.limits.max_pages, 3);
        let config = read(&[("UPLOADS_BUCKET", "up"), ("RESULTS_BUCKET", "down")]).unwrap();
        assert_eq!(config.presign, Duration::from_secs(900));
        assert_eq!(config.limits, ServingLimits::default());
    }

    #[test]
    fn what_is_wrong_is_named_at_the_start() {
        let wrong = |name: &'static str, value: &str| {
            let variables = [("UPLOADS_BUCKET", "up"), ("RESULTS_BUCKET", "down")];
            let mut variables = variables.to_vec();
            variables.retain(|(known, _)| *known != name);
            variables.push((name, value));
            read(&variables).unwrap_err().to_string()
        };
        for (name, value) in [
            ("UPLOADS_BUCKET", ""),
            ("RESULTS_BUCKET", ""),
            ("PRESIGN_SECONDS", "0"),
            ("PRESIGN_SECONDS", "604801"),
            ("PRESIGN_SECONDS", "soon"),
            ("MAX_SIDE", "-1"),
        ] {
            assert!(wrong(name, value).starts_with(name), "{name}={value}");
        }
    }
}
