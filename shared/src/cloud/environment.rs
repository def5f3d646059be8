//! What the environment says, read and checked variable by variable.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How long S3 signs links for, in seconds: at most seven days.
const PRESIGN_SECONDS: RangeInclusive<u64> = 1..=7 * 24 * 3600;

/// How long a link is good for where the environment does not say: 15 minutes.
const DEFAULT_PRESIGN_SECONDS: u64 = 900;

/// Variables with their values.
pub struct Environment<'a> {
    value_of: Box<dyn Fn(&'static str) -> Option<String> + 'a>,
}

/// A variable that is missing or of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvironmentError {
    /// A bucket that has no name.
    #[error("{variable} is not set: it names a bucket")]
    NoBucket {
        /// The variable.
        variable: &'static str,
    },
    /// A value that is no whole number, or one out of its range.
    #[error("{variable}={value:?}: it has to be a whole number from {} to {}", range.start(), range.end())]
    NoNumber {
        /// The variable.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What the number may be.
        range: RangeInclusive<u64>,
    },
    /// A text that does not mean what it should.
    #[error("{variable}: {reason}")]
    BadText {
        /// The variable.
        variable: &'static str,
        /// What the reader of its value said, which names the value.
        reason: String,
    },
}

/// The value of a variable of this process, for [`Environment::new`]; what is no UTF-8 in it becomes U+FFFD.
#[must_use]
pub fn of_process(variable: &'static str) -> Option<String> {
    std::env::var_os(variable).map(|value| value.to_string_lossy().into_owned())
}

impl<'a> Environment<'a> {
    /// The variables that `value_of` knows, such as those [`of_process`].
    pub fn new(value_of: impl Fn(&'static str) -> Option<String> + 'a) -> Self {
        Self {
            value_of: Box::new(value_of),
        }
    }

    /// The name of a bucket, which has no default.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::NoBucket`] where it is not set, or empty.
    pub fn bucket(&self, variable: &'static str) -> Result<String, EnvironmentError> {
        self.text(variable)
            .ok_or(EnvironmentError::NoBucket { variable })
    }

    /// A text; `None` where it is not set, or empty.
    #[must_use]
    pub fn text(&self, variable: &'static str) -> Option<String> {
        (self.value_of)(variable).filter(|value| !value.is_empty())
    }

    /// What a text means, or `default` does where there is none.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::BadText`] where it means nothing to `parse`.
    pub fn parsed<T, E: Display>(
        &self,
        variable: &'static str,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Result<T, EnvironmentError> {
        let value = self.text(variable).unwrap_or_else(|| default.to_owned());
        parse(&value).map_err(|error| EnvironmentError::BadText {
            variable,
            reason: error.to_string(),
        })
    }

    /// A whole number of `range`, spaces around it allowed; `default` where it is not set.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::NoNumber`] where it is set to anything else, which an empty text is, too.
    pub fn whole_number<T: TryFrom<u64>>(
        &self,
        variable: &'static str,
        range: RangeInclusive<u64>,
        default: T,
    ) -> Result<T, EnvironmentError> {
        let Some(value) = (self.value_of)(variable) else {
            return Ok(default);
        };
        let number = value.trim().parse().ok();
        number
            .filter(|number| range.contains(number))
            .and_then(|number| T::try_from(number).ok())
            .ok_or(EnvironmentError::NoNumber {
                variable,
                value,
                range,
            })
    }

    /// How long links to objects are good for: `PRESIGN_SECONDS`, from 1 second to 7 days, by default 15 minutes.
    ///
    /// # Errors
    ///
    /// As [`Environment::whole_number`].
    pub fn presign(&self) -> Result<Duration, EnvironmentError> {
        self.whole_number("PRESIGN_SECONDS", PRESIGN_SECONDS, DEFAULT_PRESIGN_SECONDS)
            .map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn with<'a>(name: &'a str, value: &'a str) -> Environment<'a> {
        Environment::new(move |variable| (variable == name).then(|| value.to_owned()))
    }

    #[test]
    fn a_bucket_has_to_be_named() {
        assert_eq!(with("A_BUCKET", "a").bucket("A_BUCKET").unwrap(), "a");
        for environment in [with("A_BUCKET", ""), with("ANOTHER", "a")] {
            let error = environment.bucket("A_BUCKET").unwrap_err();
            assert_eq!(error.to_string(), "A_BUCKET is not set: it names a bucket");
        }
    }

    #[test]
    fn a_text_means_what_the_reader_makes_of_it() {
        let shout = |text: &str| match text {
            "" | "?" => Err(format!("{text:?} has no letters")),
            text => Ok(text.to_uppercase()),
        };
        assert_eq!(with("A", "b").parsed("A", "c", shout).unwrap(), "B");
        for environment in [with("A", ""), with("B", "b")] {
            assert_eq!(environment.parsed("A", "c", shout).unwrap(), "C");
        }
        let error = with("A", "?").parsed("A", "c", shout).unwrap_err();
        assert_eq!(error.to_string(), "A: \"?\" has no letters");
    }

    #[test]
    fn a_number_is_whole_and_in_its_range() {
        let read = |value: &str| with("N", value).whole_number("N", 0..=300, 7_u16);
        assert_eq!(read("0").unwrap(), 0);
        assert_eq!(read(" 300 ").unwrap(), 300);
        assert_eq!(with("M", "1").whole_number("N", 0..=300, 7_u16).unwrap(), 7);
        for value in [
            "",
            "301",
            "-1",
            "1.5",
            "1e2",
            "many",
            "99999999999999999999",
        ] {
            let error = read(value).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("N={value:?}: it has to be a whole number from 0 to 300")
            );
        }
        // A range that the type cannot hold is no way around it.
        let wide = with("N", "300").whole_number("N", 0..=300, 7_u8);
        assert!(wide.is_err());
    }

    #[test]
    fn links_last_as_long_as_s3_signs() {
        let presign = |value| with("PRESIGN_SECONDS", value).presign();
        assert_eq!(presign("60").unwrap(), Duration::from_secs(60));
        assert_eq!(presign("604800").unwrap(), Duration::from_secs(7 * 86_400));
        assert_eq!(
            with("", "").presign().unwrap(),
            Duration::from_secs(15 * 60)
        );
        for value in ["0", "604801", "soon"] {
            let error = presign(value).unwrap_err().to_string();
            assert!(error.starts_with("PRESIGN_SECONDS="), "{error}");
        }
    }
}
