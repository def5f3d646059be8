//! What was found in a slice.

use serde::{Deserialize, Serialize};

use super::document::Document;
use super::figures::rounded;
use super::intensity::IntensityRecord;
use super::prepared::{Prepared, VolumePlace};
use super::spacing::Spacing;
use crate::cloud::keys::{Channel, SliceName, StudyId};
use crate::imaging::components::{Connectivity, label_2d};
use crate::imaging::contour::contours;
use crate::imaging::{BoundingBox, Mask, ProbabilityMap};
use crate::model::contract::NOTICE;
use crate::model::{MaskSizeMismatch, Segmentation, soft_dice_confidence};

/// Most components that are listed one by one.
const MAX_COMPONENTS: usize = 1024;

/// Most corners that the contours of a report have together; of noise they could outweigh the image.
const MAX_POINTS: usize = 1 << 16;

/// The document `reports/<study>/<slice>.json`, and the answer to a request for a report.
///
/// Numbers that are not whole are rounded to six decimals. What is not known is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceReport {
    schema: Schema,
    /// The study.
    pub study: StudyId,
    /// The slice.
    pub slice: SliceName,
    /// Columns of the slice, and of its mask.
    pub width: usize,
    /// Rows of the slice, and of its mask.
    pub height: usize,
    /// Number of pixels of the mask.
    pub tumour_pixels: u64,
    /// Area of the mask in mm²; null without a spacing.
    pub area_mm2: Option<f64>,
    /// The smallest rectangle that holds the mask; null for an empty one.
    pub bounding_box: Option<BoundingBox>,
    /// Number of components: pixels that touch by sides or corners belong together, as in post-processing.
    pub component_count: usize,
    /// The components, in the order of their first pixels, row by row; at most 1024 of them.
    pub components: Vec<ReportComponent>,
    /// The outlines, in the same order, in pixels.
    pub contours: Vec<ReportContour>,
    /// Whether all outlines are there: those beyond 65,536 corners are left out.
    pub contours_complete: bool,
    /// How certain the model is.
    pub confidence: Confidence,
    /// How large a pixel is.
    pub spacing_mm: Option<Spacing>,
    /// How the intensities became 8-bit.
    pub intensity: IntensityRecord,
    /// Place of the slice in the volume that it came in.
    pub volume: Option<VolumePlace>,
    /// The model.
    pub model: ReportModel,
    /// SHA-256 of the upload.
    pub input_sha256: String,
    /// Page of the upload, from 1.
    pub input_page: usize,
    /// Limits of use.
    pub notice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Schema {
    #[serde(rename = "glioseg-report-1")]
    V1,
}

/// A connected part of a mask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportComponent {
    /// Number of its pixels.
    pub pixels: u64,
    /// Its area in mm²; null without a spacing.
    pub area_mm2: Option<f64>,
    /// The smallest rectangle that holds it.
    pub bounding_box: BoundingBox,
}

/// A closed polygon along the sides of pixels; its last corner joins its first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportContour {
    /// Whether it is the rim of a hole rather than of a component.
    pub hole: bool,
    /// Its corners as `[x, y]`: columns to the left, rows above.
    pub points: Vec<[usize; 2]>,
}

/// How certain the model is of a slice, by its own probabilities of tumour.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confidence {
    /// Mean over the pixels of the mask, 0..=1; null for an empty one.
    pub mean_probability: Option<f64>,
    /// Largest of the slice, 0..=1.
    pub max_probability: f64,
    /// The Dice coefficient that the mask is expected to have, 0..=1: [`soft_dice_confidence`].
    ///
    /// Slices with low values are those to look at first. It is no better than the probabilities are: a
    /// tumour that the model is sure not to see leaves it high.
    pub expected_dice: f64,
}

/// Which model found it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportModel {
    /// Its version.
    pub version: String,
    /// The channel that serves it.
    pub channel: String,
}

impl Document for SliceReport {
    const NAME: &'static str = "slice report";
    const MAX_BYTES: u64 = 4 << 20;
}

/// Says what a model found in a slice.
///
/// # Errors
/// [`MaskSizeMismatch`] when the mask and its probabilities differ in size, which those of a segmenter
/// never do.
pub fn of(
    prepared: &Prepared,
    found: &Segmentation,
    channel: &Channel,
) -> Result<SliceReport, MaskSizeMismatch> {
    let mask = &found.mask;
    let area = |pixels| prepared.spacing_mm.map(|spacing| spacing.area_mm2(pixels));
    let tumour_pixels = mask.area();
    let components = label_2d(mask, Connectivity::Corners);
    let (contours, contours_complete) = outlines(mask);
    Ok(SliceReport {
        schema: Schema::V1,
        study: prepared.study.clone(),
        slice: prepared.name.clone(),
        width: mask.width(),
        height: mask.height(),
        tumour_pixels,
        area_mm2: area(tumour_pixels),
        bounding_box: mask.bounding_box(),
        component_count: components.len(),
        components: components
            .as_slice()
            .iter()
            .take(MAX_COMPONENTS)
            .map(|component| ReportComponent {
                pixels: component.area,
                area_mm2: area(component.area),
                bounding_box: component.bounds,
            })
            .collect(),
        contours,
        contours_complete,
        confidence: Confidence::of(mask, &found.probability)?,
        spacing_mm: prepared.spacing_mm,
        intensity: prepared.slice.intensity().into(),
        volume: prepared.volume.clone(),
        model: ReportModel {
            version: found.model_version.clone(),
            channel: channel.to_string(),
        },
        input_sha256: prepared.source.sha256.clone(),
        input_page: prepared.source.page,
        notice: NOTICE.to_owned(),
    })
}

/// The outlines of a mask as far as they are listed, and whether they are all.
fn outlines(mask: &Mask) -> (Vec<ReportContour>, bool) {
    let all = contours(mask);
    let mut points = 0;
    let listed: Vec<ReportContour> = all
        .iter()
        .take_while(|contour| {
            points += contour.points().len();
            points <= MAX_POINTS
        })
        .map(|contour| ReportContour {
            hole: contour.is_hole(),
            points: contour.points().iter().map(|p| [p.x, p.y]).collect(),
        })
        .collect();
    let complete = listed.len() == all.len();
    (listed, complete)
}

impl Confidence {
    fn of(mask: &Mask, probability: &ProbabilityMap) -> Result<Self, MaskSizeMismatch> {
        let expected_dice = soft_dice_confidence(mask, probability)?;
        let values = probability.values();
        let (mut sum, mut pixels) = (0.0, 0_u64);
        for (&value, _) in values.iter().zip(mask.pixels()).filter(|(_, set)| **set) {
            sum += f64::from(value);
            pixels += 1;
        }
        Ok(Self {
            mean_probability: (pixels > 0).then(|| rounded(sum / pixels as f64)),
            max_probability: rounded(f64::from(values.iter().copied().fold(0.0, f32::max))),
            expected_dice: rounded(expected_dice),
        })
    }
}
