//! The environment, read once.

use std::time::Duration;

use glioseg_shared::cloud::{Environment, EnvironmentError};
use glioseg_shared::study::ServingLimits;

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

impl Config {
    /// Reads variables that `value_of` knows.
    ///
    /// # Errors
    /// [`EnvironmentError`], which names the variable.
    pub fn from_variables(
        value_of: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, EnvironmentError> {
        let environment = Environment::new(value_of);
        Ok(Self {
            uploads_bucket: environment.bucket("UPLOADS_BUCKET")?,
            results_bucket: environment.bucket("RESULTS_BUCKET")?,
            presign: environment.presign()?,
            limits: ServingLimits::from_environment(&environment)?,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Config, EnvironmentError> {
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
            ("MAX_SIDE", "-1"),
        ] {
            assert!(wrong(name, value).starts_with(name), "{name}={value}");
        }
    }
}
