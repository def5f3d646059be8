//! What the mask of a slice is worth against the truth.

use serde::{Deserialize, Serialize};

use super::document::Document;
use super::figures::{is_sha256, rounded};
use super::spacing::Spacing;
use crate::cloud::keys::{SliceName, StudyId};
use crate::imaging::Mask;
use crate::model::contract::NOTICE;
use crate::scoring::{Counts, PROTOCOL, SizeMismatch, SliceScore, surface_distances};

/// The document `scores/<study>/<slice>.json`, and the answer to a request for a score.
///
/// Numbers that are not whole are rounded to six decimals. What is not defined is null, never 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceScoreDocument {
    schema: Schema,
    /// The study.
    pub study: StudyId,
    /// The slice.
    pub slice: SliceName,
    /// The definitions of every figure: [`PROTOCOL`].
    pub protocol: String,
    /// Pixels by what was predicted and whether that was right.
    pub counts: Counts,
    /// Dice coefficient, 0..=1; 1 when both masks are empty.
    pub dice: f64,
    /// Jaccard index, 0..=1; 1 when both masks are empty.
    pub iou: f64,
    /// Share of the predicted pixels that are tumour; null when none was predicted.
    pub precision: Option<f64>,
    /// Share of the tumour's pixels that were predicted; null when there is none.
    pub recall: Option<f64>,
    /// The larger of both ways' 95th percentiles of the distance between the outlines; null when a mask is empty.
    pub hd95: Option<f64>,
    /// Average symmetric surface distance; null when a mask is empty.
    pub average_surface_distance: Option<f64>,
    /// Unit of the two distances.
    pub distance_unit: DistanceUnit,
    /// Number of pixels predicted.
    pub predicted_pixels: u64,
    /// Number of pixels that are tumour.
    pub true_pixels: u64,
    /// Predicted area in mm²; null without a spacing.
    pub predicted_area_mm2: Option<f64>,
    /// Area of the tumour in mm²; null without a spacing.
    pub true_area_mm2: Option<f64>,
    /// How large a pixel is.
    pub spacing_mm: Option<Spacing>,
    /// The model that predicted; null where a mask was sent that no model of the stack made.
    pub model_version: Option<String>,
    /// SHA-256 of the predicted mask's file.
    pub mask_sha256: String,
    /// SHA-256 of the true mask's file.
    pub truth_sha256: String,
    /// Limits of use.
    pub notice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Schema {
    #[serde(rename = "glioseg-score-1")]
    V1,
}

/// What a distance is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DistanceUnit {
    /// Pixels: the spacing is not known.
    #[serde(rename = "px")]
    Pixels,
    /// Millimetres.
    #[serde(rename = "mm")]
    Millimetres,
}

/// Two masks of a slice, and what is known of them.
#[derive(Clone, Debug)]
pub struct Comparison<'a> {
    /// The study.
    pub study: StudyId,
    /// The slice.
    pub slice: SliceName,
    /// The predicted mask.
    pub prediction: &'a Mask,
    /// The true mask.
    pub truth: &'a Mask,
    /// How large a pixel is, where somebody said so.
    pub spacing_mm: Option<Spacing>,
    /// The model that predicted, if one of the stack did.
    pub model_version: Option<String>,
    /// SHA-256 of the predicted mask's file.
    pub mask_sha256: String,
    /// SHA-256 of the true mask's file.
    pub truth_sha256: String,
}

impl Document for SliceScoreDocument {
    const NAME: &'static str = "slice score";
    const MAX_BYTES: u64 = 64 << 10;

    fn check(&self) -> Result<(), String> {
        for (field, digest) in [
            ("mask_sha256", &self.mask_sha256),
            ("truth_sha256", &self.truth_sha256),
        ] {
            if !is_sha256(digest) {
                return Err(format!("{field} is {digest:?}"));
            }
        }
        if self.protocol != PROTOCOL {
            return Err(format!("protocol is {:?}, not {PROTOCOL}", self.protocol));
        }
        Ok(())
    }
}

/// Scores a predicted mask against the truth.
///
/// # Errors
/// [`SizeMismatch`] when the masks differ in width or height.
pub fn of(comparison: &Comparison<'_>) -> Result<SliceScoreDocument, SizeMismatch> {
    let Comparison {
        prediction,
        truth,
        spacing_mm,
        ..
    } = *comparison;
    let counts = Counts::of(prediction, truth)?;
    let distances = surface_distances(
        prediction,
        truth,
        spacing_mm.map_or([1.0, 1.0], |spacing| spacing.rows_columns()),
    );
    let area = |pixels| spacing_mm.map(|spacing| spacing.area_mm2(pixels));
    Ok(SliceScoreDocument {
        schema: Schema::V1,
        study: comparison.study.clone(),
        slice: comparison.slice.clone(),
        protocol: PROTOCOL.to_owned(),
        counts,
        dice: rounded(counts.dice()),
        iou: rounded(counts.iou()),
        precision: counts.precision().map(rounded),
        recall: counts.recall().map(rounded),
        hd95: distances.map(|distances| rounded(distances.hd95)),
        average_surface_distance: distances.map(|distances| rounded(distances.average)),
        distance_unit: if spacing_mm.is_some() {
            DistanceUnit::Millimetres
        } else {
            DistanceUnit::Pixels
        },
        predicted_pixels: counts.predicted_area(),
        true_pixels: counts.true_area(),
        predicted_area_mm2: area(counts.predicted_area()),
        true_area_mm2: area(counts.true_area()),
        spacing_mm,
        model_version: comparison.model_version.clone(),
        mask_sha256: comparison.mask_sha256.clone(),
        truth_sha256: comparison.truth_sha256.clone(),
        notice: NOTICE.to_owned(),
    })
}

impl SliceScoreDocument {
    /// What adds up to the score of the study: the counts alone.
    pub(super) fn to_slice_score(&self) -> SliceScore {
        SliceScore {
            slice: self.slice.to_string(),
            counts: self.counts,
            surface: None,
        }
    }
}
