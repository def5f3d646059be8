//! One predicted and one true mask in, one score out: pure.

use glioseg_shared::cloud::keys::{SliceName, StudyId};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::{ImagingError, Limits, Mask, decode_masks};
use glioseg_shared::scoring::SizeMismatch;
use glioseg_shared::study::score::{self, Comparison};
use glioseg_shared::study::{SliceScoreDocument, Spacing};

/// The files of two masks of one slice, and what is known of them.
#[derive(Clone, Debug)]
pub struct Pair<'a> {
    /// The study.
    pub study: StudyId,
    /// The slice.
    pub slice: SliceName,
    /// The predicted mask: a TIFF or PNG file of one page.
    pub prediction: &'a [u8],
    /// The true mask: a TIFF or PNG file of one page.
    pub truth: &'a [u8],
    /// How large a pixel is, where somebody said so; distances are in pixels otherwise.
    pub spacing_mm: Option<Spacing>,
    /// The model that predicted, if one of the stack did.
    pub model_version: Option<String>,
}

/// Which of the two masks of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The predicted one.
    Prediction,
    /// The true one.
    Truth,
}

impl std::fmt::Display for Side {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Prediction => "prediction",
            Self::Truth => "truth",
        })
    }
}

/// Why two files cannot be compared. None of these can be cured by trying again.
#[derive(Debug, thiserror::Error)]
pub enum Incomparable {
    /// A file holds no mask.
    #[error("the {side} cannot be read as a mask: {source}")]
    Unreadable {
        /// Which of the two.
        side: Side,
        /// What is wrong with it.
        source: ImagingError,
    },
    /// A file holds several masks.
    #[error("the {side} has {pages} pages, not one")]
    Pages {
        /// Which of the two.
        side: Side,
        /// How many it has.
        pages: usize,
    },
    /// The masks cover different pixels.
    #[error(transparent)]
    Size(#[from] SizeMismatch),
}

/// Scores a predicted mask against the truth. Equal pairs have equal scores, to the byte.
///
/// # Errors
///
/// [`Incomparable`]; what a file asks for is checked against `limits` before memory is allocated for its pixels.
pub fn score(pair: &Pair<'_>, limits: &Limits) -> Result<SliceScoreDocument, Incomparable> {
    let prediction = decode(pair.prediction, Side::Prediction, limits)?;
    let truth = decode(pair.truth, Side::Truth, limits)?;
    let comparison = Comparison {
        study: pair.study.clone(),
        slice: pair.slice.clone(),
        prediction: &prediction,
        truth: &truth,
        spacing_mm: pair.spacing_mm,
        model_version: pair.model_version.clone(),
        mask_sha256: sha256_hex(pair.prediction),
        truth_sha256: sha256_hex(pair.truth),
    };
    Ok(score::of(&comparison)?)
}

fn decode(bytes: &[u8], side: Side, limits: &Limits) -> Result<Mask, Incomparable> {
    let masks =
        decode_masks(bytes, limits).map_err(|source| Incomparable::Unreadable { side, source })?;
    let pages = masks.len();
    <[Mask; 1]>::try_from(masks)
        .map(|[mask]| mask)
        .map_err(|_| Incomparable::Pages { side, pages })
}
