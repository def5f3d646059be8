//! From an image as somebody sent or uploaded it to a prepared slice.
//!
//! What uploads go through on their way to the prepared object, for one slice that is answered at once.

use glioseg_shared::cloud::Problem;
use glioseg_shared::cloud::keys::{SliceName, StudyId};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::{ImagingError, Limits, SliceReader};
use glioseg_shared::study::{Prepared, Source, Spacing, StudyManifest, plausible};

/// What an image is called, and what else is known of it.
pub(crate) struct Label {
    pub(crate) study: StudyId,
    pub(crate) name: SliceName,
    pub(crate) file: String,
    pub(crate) spacing_mm: Option<Spacing>,
    pub(crate) manifest: StudyManifest,
}

/// Decodes a file of one slice.
///
/// # Errors
/// What to answer where it is none.
pub(crate) fn prepare(bytes: &[u8], limits: &Limits, label: Label) -> Result<Prepared, Problem> {
    let mut slices = SliceReader::new(bytes, limits).map_err(|error| problem(&error))?;
    let pages = slices.size_hint().0;
    if pages > 1 {
        return Err(Problem::unprocessable(format!(
            "the file has {pages} pages, one slice is answered at once: upload it to the uploads bucket"
        )));
    }
    let slice = match slices.next() {
        Some(slice) => slice.map_err(|error| problem(&error))?,
        None => return Err(Problem::bad_request("the file has no page")),
    };
    plausible::check_slice(&slice)
        .map_err(|error| Problem::unprocessable(format!("{error}; {}", error.advice())))?;
    let slice = label
        .manifest
        .arrange(slice)
        .map_err(|error| Problem::unprocessable(error.to_string()))?;
    Ok(Prepared {
        study: label.study,
        name: label.name,
        slice,
        spacing_mm: label.spacing_mm.or(label.manifest.spacing_mm),
        volume: None,
        source: Source {
            file: label.file,
            sha256: sha256_hex(bytes),
            page: 1,
        },
    })
}

/// What to answer to an image that cannot be read.
fn problem(error: &ImagingError) -> Problem {
    let detail = error.to_string();
    match error {
        ImagingError::TooLarge { .. } => Problem::payload_too_large(detail),
        ImagingError::NotFinite { .. } | ImagingError::Unsupported { .. } => {
            Problem::unprocessable(detail)
        }
        _ => Problem::bad_request(detail),
    }
}
