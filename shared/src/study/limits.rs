//! What an upload may ask for, from the environment.

use crate::cloud::{Environment, EnvironmentError};
use crate::imaging::Limits;

/// The bounds on everything that comes from outside, checked before memory is spent on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServingLimits {
    /// Most bytes of an uploaded object: `MAX_UPLOAD_BYTES`.
    pub max_upload_bytes: u64,
    /// Most columns, and most rows, of a slice: `MAX_SIDE`.
    pub max_side: u32,
    /// Most pages of a file: `MAX_PAGES`.
    pub max_pages: usize,
    /// Most bytes that all pages of a file, or all entries of a zip, may take once decoded: `MAX_DECODED_BYTES`.
    pub max_decoded_bytes: u64,
    /// Most entries of a zip: `MAX_ZIP_ENTRIES`.
    pub max_zip_entries: usize,
}

impl Default for ServingLimits {
    /// 256 MiB an upload, 4096 pixels a side, 512 pages, 256 MiB decoded, 2048 entries.
    fn default() -> Self {
        let imaging = Limits::default();
        Self {
            max_upload_bytes: 256 << 20,
            max_side: imaging.max_side,
            max_pages: imaging.max_pages,
            max_decoded_bytes: imaging.max_decoded_bytes,
            max_zip_entries: 2048,
        }
    }
}

impl ServingLimits {
    /// Reads the bounds; what the environment does not set has its default.
    ///
    /// # Errors
    /// [`EnvironmentError`], which names the variable, for the first that is no number in its range.
    pub fn from_environment(environment: &Environment<'_>) -> Result<Self, EnvironmentError> {
        let default = Self::default();
        Ok(Self {
            max_upload_bytes: environment.whole_number(
                "MAX_UPLOAD_BYTES",
                1..=5 << 30,
                default.max_upload_bytes,
            )?,
            max_side: environment.whole_number(
                "MAX_SIDE",
                1..=Limits::LONGEST_SIDE.into(),
                default.max_side,
            )?,
            max_pages: environment.whole_number("MAX_PAGES", 1..=65_535, default.max_pages)?,
            max_decoded_bytes: environment.whole_number(
                "MAX_DECODED_BYTES",
                1..=8 << 30,
                default.max_decoded_bytes,
            )?,
            max_zip_entries: environment.whole_number(
                "MAX_ZIP_ENTRIES",
                1..=65_535,
                default.max_zip_entries,
            )?,
        })
    }

    /// What is allowed of one image file.
    #[must_use]
    pub fn imaging(&self) -> Limits {
        Limits {
            max_side: self.max_side,
            max_pages: self.max_pages,
            max_decoded_bytes: self.max_decoded_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<ServingLimits, EnvironmentError> {
        ServingLimits::from_environment(&Environment::new(|asked| {
            let found = set.iter().find(|(variable, _)| *variable == asked);
            found.map(|(_, value)| (*value).to_owned())
        }))
    }

    #[test]
    fn what_is_not_set_has_its_default() {
        let limits = read(&[]).unwrap();
        assert_eq!(limits, ServingLimits::default());
        assert_eq!(limits.imaging(), Limits::default());
    }

    #[test]
    fn what_is_set_counts() {
        assert_eq!(
            read(&[("MAX_SIDE", "32767"), ("MAX_PAGES", " 7 ")]).unwrap(),
            ServingLimits {
                max_side: 32_767,
                max_pages: 7,
                ..ServingLimits::default()
            }
        );
    }

    #[test]
    fn what_is_no_bound_is_named() {
        for (variable, too_much) in [
            ("MAX_UPLOAD_BYTES", "5368709121"),
            ("MAX_SIDE", "32768"),
            ("MAX_PAGES", "65536"),
            ("MAX_DECODED_BYTES", "8589934593"),
            ("MAX_ZIP_ENTRIES", "65536"),
        ] {
            for value in ["0", too_much] {
                let error = read(&[(variable, value)]).unwrap_err().to_string();
                let expected = format!("{variable}={value:?}: ");
                assert!(error.starts_with(&expected), "{error}");
            }
        }
    }
}
