//! What an upload may ask for, from the environment.

use std::ops::RangeInclusive;

use crate::imaging::Limits;

/// Longest side that may be asked for: three bytes of each pixel then fit into a TIFF file, whose offsets have 32 bits.
const MAX_SIDE: u64 = 32_767;

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

/// An environment variable that is no usable bound.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable}={value:?}: it has to be a whole number from {} to {}", range.start(), range.end())]
pub struct InvalidLimit {
    variable: &'static str,
    value: String,
    range: RangeInclusive<u64>,
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
    /// Reads the bounds from the environment; what it does not set has its default.
    ///
    /// # Errors
    /// [`InvalidLimit`], which names the variable, for the first that is no number in its range.
    pub fn from_env() -> Result<Self, InvalidLimit> {
        Self::from_variables(|variable| {
            std::env::var_os(variable).map(|value| value.to_string_lossy().into_owned())
        })
    }

    /// Reads the bounds from variables that `value_of` knows.
    ///
    /// # Errors
    /// As [`ServingLimits::from_env`].
    pub fn from_variables(
        value_of: impl Fn(&'static str) -> Option<String>,
    ) -> Result<Self, InvalidLimit> {
        let default = Self::default();
        Ok(Self {
            max_upload_bytes: bound(
                &value_of,
                "MAX_UPLOAD_BYTES",
                1..=5 << 30,
                default.max_upload_bytes,
            )?,
            max_side: bound(&value_of, "MAX_SIDE", 1..=MAX_SIDE, default.max_side)?,
            max_pages: bound(&value_of, "MAX_PAGES", 1..=65_535, default.max_pages)?,
            max_decoded_bytes: bound(
                &value_of,
                "MAX_DECODED_BYTES",
                1..=8 << 30,
                default.max_decoded_bytes,
            )?,
            max_zip_entries: bound(
                &value_of,
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

fn bound<T: TryFrom<u64>>(
    value_of: &impl Fn(&'static str) -> Option<String>,
    variable: &'static str,
    range: RangeInclusive<u64>,
    default: T,
) -> Result<T, InvalidLimit> {
    let Some(value) = value_of(variable) else {
        return Ok(default);
    };
    let number = value
        .trim()
        .parse()
        .ok()
        .filter(|number| range.contains(number));
    number
        .and_then(|number| T::try_from(number).ok())
        .ok_or(InvalidLimit {
            variable,
            value,
            range,
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_not_set_has_its_default() {
        let limits = ServingLimits::from_variables(|_| None).unwrap();
        assert_eq!(limits, ServingLimits::default());
        assert_eq!(limits.imaging(), Limits::default());
    }

    #[test]
    fn what_is_set_counts() {
        let limits = ServingLimits::from_variables(|variable| match variable {
            "MAX_SIDE" => Some("512".to_owned()),
            "MAX_PAGES" => Some(" 7 ".to_owned()),
            _ => None,
        });
        assert_eq!(
            limits.unwrap(),
            ServingLimits {
                max_side: 512,
                max_pages: 7,
                ..ServingLimits::default()
            }
        );
    }

    #[test]
    fn what_is_no_bound_is_named() {
        for variable in [
            "MAX_UPLOAD_BYTES",
            "MAX_SIDE",
            "MAX_PAGES",
            "MAX_DECODED_BYTES",
            "MAX_ZIP_ENTRIES",
        ] {
            for value in ["", "0", "-1", "1e3", "many", "99999999999999999999"] {
                let error = ServingLimits::from_variables(|asked| {
                    (asked == variable).then(|| value.to_owned())
                })
                .unwrap_err()
                .to_string();
                assert!(
                    error.starts_with(&format!("{variable}={value:?}")),
                    "{error}"
                );
            }
        }
    }
}
