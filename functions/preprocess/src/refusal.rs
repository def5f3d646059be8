//! Why an upload can never be read, and what its sender can do about it.

use glioseg_shared::cloud::keys::NotAnUpload;
use glioseg_shared::imaging::{ImagingError, Limit};
use glioseg_shared::study::DocumentError;
use glioseg_shared::study::manifest::ColourInsteadOfGrey;
use glioseg_shared::study::plausible::Implausible;

use crate::archive::ArchiveError;

/// Why an upload can never be read, in words for the person who sent it. Trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub advice: String,
    /// The entry at fault, where the upload is an archive and one of its entries is.
    pub entry: Option<String>,
}

impl Refusal {
    pub(crate) fn new(reason: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            advice: advice.into(),
            entry: None,
        }
    }

    /// Of a file whose name says that nothing can be made of it.
    pub(crate) fn of_name(file: &str) -> Self {
        Self::new(
            format!("{file:?} is neither an image nor study.json nor a zip"),
            "upload slices as .tif, .tiff or .png, their truth as <slice>_mask.tif, or a whole study as .zip",
        )
    }

    /// The same of one entry of an archive.
    pub(crate) fn of_entry(self, entry: &str) -> Self {
        Self {
            entry: Some(entry.to_owned()),
            ..self
        }
    }
}

impl From<NotAnUpload> for Refusal {
    fn from(error: NotAnUpload) -> Self {
        Self::new(
            error.to_string(),
            "upload the file under a key of the form <study>/<slice>.tif, or a whole study as <study>.zip",
        )
    }
}

impl From<Implausible> for Refusal {
    fn from(error: Implausible) -> Self {
        Self::new(error.to_string(), error.advice())
    }
}

impl From<ImagingError> for Refusal {
    fn from(error: ImagingError) -> Self {
        let advice = match &error {
            ImagingError::Empty => "upload the file again: no byte of it arrived",
            ImagingError::UnknownFormat { .. } => {
                "export the slices as TIFF or PNG; renaming a file does not change its format"
            }
            ImagingError::Damaged { .. } => {
                "compare the file with its original and upload it again, or export it anew"
            }
            ImagingError::Unsupported { .. } => {
                "convert the file: TIFF of 8- or 16-bit unsigned or 32-bit floating-point samples, or PNG of 8 or 16 \
                 bits; grey (FLAIR) or RGB (pre-contrast, FLAIR, post-contrast); without alpha and palette"
            }
            ImagingError::TooLarge { limit, .. } => match limit {
                Limit::Side => "upload slices of fewer pixels a side",
                Limit::Pages => "split the file into several of fewer pages",
                _ => "split the file into several, or upload slices of fewer pixels",
            },
            ImagingError::NotFinite { .. } => {
                "replace NaN and infinite pixels before exporting; the background is usually 0"
            }
            ImagingError::NotAMask { .. } => {
                "a mask holds 0 and one other value, in one channel or three equal ones; if this is an image, upload it \
                 under a name without `_mask`"
            }
            _ => "export the slice anew",
        };
        Self::new(error.to_string(), advice)
    }
}

impl From<ArchiveError> for Refusal {
    fn from(error: ArchiveError) -> Self {
        let advice = match &error {
            ArchiveError::Damaged(_) => {
                "compare the archive with its original and upload it again, or pack it anew"
            }
            ArchiveError::Unsupported(_) => {
                "pack the study as a plain zip: Deflate, no password, one file, no ZIP64"
            }
            ArchiveError::TooManyEntries { .. } | ArchiveError::TooLarge { .. } => {
                "upload the slices one by one, or as files of several pages"
            }
            ArchiveError::UnsafeName { .. } => {
                "pack the study anew from inside its folder, so that all names are relative"
            }
        };
        Self::new(error.to_string(), advice)
    }
}

impl From<DocumentError> for Refusal {
    fn from(error: DocumentError) -> Self {
        Self::new(
            error.to_string(),
            "write study.json like {\"slices\": 24, \"spacing_mm\": [0.5, 0.5, 3], \"channels\": [\"pre-contrast\", \
             \"FLAIR\", \"post-contrast\"]}, leaving out what is not known",
        )
    }
}

impl From<ColourInsteadOfGrey> for Refusal {
    fn from(error: ColourInsteadOfGrey) -> Self {
        Self::new(
            error.to_string(),
            "name all three channels in study.json in the order of the file, or upload FLAIR as grey slices",
        )
    }
}
