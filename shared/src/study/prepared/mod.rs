//! A slice, checked, with all that segmenting it takes.
//!
//! It is stored as an 8-bit RGB PNG, which any viewer shows, with what else is known of the slice as JSON in an `iTXt`
//! chunk of keyword `glioseg`. Equal slices have equal bytes.

mod container;

use serde::{Deserialize, Serialize};

use super::figures::is_sha256;
use super::intensity::IntensityRecord;
use super::spacing::Spacing;
use crate::cloud::keys::{SliceName, StudyId};
use crate::imaging::{CHANNELS, ImagingError, Limits, Slice};
use crate::model::contract::{Input, NOTICE, Sequence};

/// Longest name of an uploaded file: that of a key.
const MAX_FILE_NAME_BYTES: usize = 1024;

/// A slice with its names, its origin, and how large its pixels are.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// The study that it belongs to.
    pub study: StudyId,
    /// Its name within the study.
    pub name: SliceName,
    /// Its pixels.
    pub slice: Slice,
    /// How large a pixel is, where somebody said so.
    pub spacing_mm: Option<Spacing>,
    /// Its place in the volume that it came in, where it came in one file with others.
    pub volume: Option<VolumePlace>,
    /// Where it came from.
    pub source: Source,
}

/// The place of a slice in the volume that it came in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VolumePlace {
    /// The uploaded file, without its study.
    pub file: String,
    /// Number of the slice, from 0.
    pub index: usize,
    /// Number of slices of the volume.
    pub of: usize,
}

/// Where a slice came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The uploaded file, without its study.
    pub file: String,
    /// SHA-256 of the uploaded object, in lower-case hexadecimal digits.
    pub sha256: String,
    /// Page of the file, from 1.
    pub page: usize,
}

/// Why bytes are no prepared slice. None of these can be cured by trying again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PreparedError {
    /// It asks for more than the limits allow; nothing was allocated for it.
    #[error(transparent)]
    TooLarge(ImagingError),
    /// It breaks the PNG format, or is none.
    #[error("damaged prepared slice: {reason}")]
    Damaged {
        /// What the decoder said.
        reason: String,
    },
    /// It is a sound PNG, but not of the kind that is prepared.
    #[error("not a prepared slice: {reason}")]
    NotPrepared {
        /// Which property.
        reason: String,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Schema {
    #[serde(rename = "glioseg-prepared-1")]
    V1,
}

/// What the chunk holds.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    schema: Schema,
    study: StudyId,
    slice: SliceName,
    channels: [Sequence; CHANNELS],
    intensity: IntensityRecord,
    spacing_mm: Option<Spacing>,
    volume: Option<VolumePlace>,
    source: Source,
    notice: String,
}

impl Prepared {
    /// The slice as a PNG; [`Prepared::decode`] gives exactly the same back.
    ///
    /// # Panics
    /// When a side exceeds the 2<sup>31</sup> - 1 pixels that the format can hold.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the description has no maps")]
    pub fn encode(&self) -> Vec<u8> {
        let description = Description {
            schema: Schema::V1,
            study: self.study.clone(),
            slice: self.name.clone(),
            channels: Input::CHANNELS,
            intensity: self.slice.intensity().into(),
            spacing_mm: self.spacing_mm,
            volume: self.volume.clone(),
            source: self.source.clone(),
            notice: NOTICE.to_owned(),
        };
        let text = serde_json::to_string(&description).expect("it has no maps");
        container::write(&self.slice, &text)
    }

    /// Columns and rows of a prepared slice, of which nothing but the header is read. The rest may be damaged.
    ///
    /// # Errors
    /// [`PreparedError::Damaged`] for what has no header.
    pub fn size(bytes: &[u8]) -> Result<(usize, usize), PreparedError> {
        let (width, height) = container::size(bytes)?;
        Ok((width as usize, height as usize))
    }

    /// Reads a prepared slice, its size checked against `limits` before memory is allocated for pixels.
    ///
    /// # Errors
    /// [`PreparedError`] for everything that [`Prepared::encode`] did not write.
    pub fn decode(bytes: &[u8], limits: &Limits) -> Result<Self, PreparedError> {
        let container::Contents {
            width,
            height,
            pixels,
            text,
        } = container::read(bytes, limits)?;
        let description: Description =
            serde_json::from_str(&text).map_err(|error| not_prepared(error.to_string()))?;
        let Description {
            schema: Schema::V1,
            study,
            slice: name,
            channels,
            intensity,
            spacing_mm,
            volume,
            source,
            notice: _,
        } = description;
        if channels != Input::CHANNELS {
            return Err(not_prepared(format!(
                "its channels are {channels:?} instead of {:?}",
                Input::CHANNELS
            )));
        }
        source.check()?;
        volume.as_ref().map_or(Ok(()), VolumePlace::check)?;
        let intensity = intensity.intensity().ok_or_else(|| {
            not_prepared(
                "it says of its intensities both that they are rescaled and that they are not",
            )
        })?;
        let slice = Slice::new(width, height, pixels, intensity)
            .map_err(|error| not_prepared(error.to_string()))?;
        Ok(Self {
            study,
            name,
            slice,
            spacing_mm,
            volume,
            source,
        })
    }
}

impl VolumePlace {
    fn check(&self) -> Result<(), PreparedError> {
        check_file(&self.file)?;
        if self.index >= self.of {
            return Err(not_prepared(format!(
                "it is number {} from 0 of {} slices",
                self.index, self.of
            )));
        }
        Ok(())
    }
}

impl Source {
    fn check(&self) -> Result<(), PreparedError> {
        check_file(&self.file)?;
        if !is_sha256(&self.sha256) {
            return Err(not_prepared(format!("{:?} is no SHA-256", self.sha256)));
        }
        if self.page == 0 {
            return Err(not_prepared("pages count from 1"));
        }
        Ok(())
    }
}

fn check_file(name: &str) -> Result<(), PreparedError> {
    if name.is_empty() || name.len() > MAX_FILE_NAME_BYTES {
        return Err(not_prepared("its file has a name of 1 to 1024 bytes"));
    }
    Ok(())
}

fn not_prepared(reason: impl Into<String>) -> PreparedError {
    PreparedError::NotPrepared {
        reason: reason.into(),
    }
}
