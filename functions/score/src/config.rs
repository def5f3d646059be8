//! What the environment says.

use std::time::Duration;

use glioseg_shared::cloud::{Environment, EnvironmentError};
use glioseg_shared::study::ServingLimits;

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
    /// Whether slices with truth are collected for training: `COLLECT_LABELLED`, `true` or else `false`.
    pub collect_labelled: bool,
    /// What an image may ask for.
    pub limits: ServingLimits,
}

impl Config {
    /// Reads variables that `value_of` knows.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], which names the variable.
    pub fn from_variables(
        value_of: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, EnvironmentError> {
        let environment = Environment::new(value_of);
        let event_bus = environment.text("EVENT_BUS_NAME");
        Ok(Self {
            uploads_bucket: environment.bucket("UPLOADS_BUCKET")?,
            results_bucket: environment.bucket("RESULTS_BUCKET")?,
            event_bus: event_bus.unwrap_or_else(|| "default".to_owned()),
            links_expire_in: environment.presign()?,
            collect_labelled: environment.parsed("COLLECT_LABELLED", "false", truth)?,
            limits: ServingLimits::from_environment(&environment)?,
        })
    }
}

fn truth(text: &str) -> Result<bool, String> {
    text.parse()
        .map_err(|_| format!("{text:?} is neither true nor false"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Config, EnvironmentError> {
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
        assert!(!config.collect_labelled, "nobody has consented");
        assert_eq!(config.limits, ServingLimits::default());
        for (named, variable) in [
            ("UPLOADS_BUCKET", "RESULTS_BUCKET"),
            ("RESULTS_BUCKET", "UPLOADS_BUCKET"),
        ] {
            let error = read(&[(named, "b")]).unwrap_err();
            assert_eq!(error, EnvironmentError::NoBucket { variable });
        }
    }

    #[test]
    fn what_is_of_no_use_is_named() {
        for (name, value) in [
            ("PRESIGN_SECONDS", "0"),
            ("MAX_SIDE", "-1"),
            ("COLLECT_LABELLED", "yes"),
        ] {
            let error = read(&[BUCKETS[0], BUCKETS[1], (name, value)]).unwrap_err();
            let error = error.to_string();
            assert!(
                error.starts_with(name) && error.contains(&format!("{value:?}")),
                "{error}"
            );
        }
        let set = [("PRESIGN_SECONDS", " 60 "), ("COLLECT_LABELLED", "true")];
        let config = read(&[&BUCKETS[..], &set].concat()).unwrap();
        assert_eq!(config.links_expire_in, Duration::from_secs(60));
        assert!(config.collect_labelled);
    }
}
