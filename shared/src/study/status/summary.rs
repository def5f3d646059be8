//! The figures of a whole study, from those of its slices.

use serde::{Deserialize, Serialize};

use crate::imaging::Mask;
use crate::imaging::components::{Connectivity, label_3d};
use crate::scoring::{Counts, Estimate, PROTOCOL, PatientScore, Summary};
use crate::study::figures::rounded;
use crate::study::report::SliceReport;
use crate::study::score::SliceScoreDocument;
use crate::study::spacing::Spacing;

/// What was found in a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudySummary {
    /// Number of slices with a report.
    pub slices: usize,
    /// Number of those in which tumour was found.
    pub slices_with_tumour: usize,
    /// Number of pixels of all masks.
    pub tumour_voxels: u64,
    /// Volume of all masks in mm³; null unless every slice has the same spacing, with the distance between slices.
    pub tumour_volume_mm3: Option<f64>,
    /// Number of pixels of the largest part that hangs together through the slices, which are taken as neighbours in
    /// the natural order of their names; null where it was not asked for, and for slices of different sizes.
    pub largest_component_voxels: Option<u64>,
    /// Volume of that part in mm³.
    pub largest_component_mm3: Option<f64>,
    /// The scores; null while there are none.
    pub scores: Option<StudyScores>,
}

/// What the masks of a study are worth: always all four figures, from added-up counts, rounded to six decimals.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyScores {
    /// The definitions of the figures.
    pub protocol: String,
    /// Number of slices scored.
    pub slices: usize,
    /// Number of those with tumour.
    pub tumour_slices: usize,
    /// Number of those without.
    pub empty_slices: usize,
    /// The pixels of all of them.
    pub counts: Counts,
    /// Dice coefficient of the volume.
    pub volume_dice: f64,
    /// Mean Dice coefficient of the slices with tumour; null where there are none.
    pub tumour_slice_dice: Option<f64>,
    /// Mean Dice coefficient of all slices; one without tumour scores 1 when nothing was predicted, else 0.
    pub all_slice_dice: f64,
    /// Share of the slices without tumour for which some was predicted; null where there are none.
    pub false_positive_rate: Option<f64>,
}

/// Adds up what was found; what stands in the way of a figure is added to `warnings`.
pub(super) fn of(
    reports: &[SliceReport],
    scores: &[SliceScoreDocument],
    masks: &[Mask],
    warnings: &mut Vec<String>,
) -> StudySummary {
    let spacing = common_spacing(reports, warnings);
    let volume = |voxels| spacing.and_then(|spacing| spacing.volume_mm3(voxels));
    let tumour_voxels = reports.iter().map(|report| report.tumour_pixels).sum();
    let largest = largest_component(masks, warnings);
    StudySummary {
        slices: reports.len(),
        slices_with_tumour: reports.iter().filter(|r| r.tumour_pixels > 0).count(),
        tumour_voxels,
        tumour_volume_mm3: volume(tumour_voxels),
        largest_component_voxels: largest,
        largest_component_mm3: largest.and_then(volume),
        scores: StudyScores::of(scores),
    }
}

/// The spacing that all slices share.
fn common_spacing(reports: &[SliceReport], warnings: &mut Vec<String>) -> Option<Spacing> {
    let first = reports.first()?.spacing_mm;
    if reports.iter().any(|report| report.spacing_mm != first) {
        warnings.push("the slices have different spacings: there is no volume in mm³".to_owned());
        return None;
    }
    first
}

fn largest_component(masks: &[Mask], warnings: &mut Vec<String>) -> Option<u64> {
    if masks.is_empty() {
        return None;
    }
    match label_3d(masks, Connectivity::Corners) {
        Ok(components) => {
            let largest = components.largest();
            Some(largest.map_or(0, |index| components.as_slice()[index].volume))
        }
        Err(unequal) => {
            warnings.push(format!("there is no largest component: {unequal}"));
            None
        }
    }
}

impl StudyScores {
    /// `None` for no slices.
    fn of(scores: &[SliceScoreDocument]) -> Option<Self> {
        if scores.is_empty() {
            return None;
        }
        let patient = PatientScore {
            patient: String::new(),
            slices: scores
                .iter()
                .map(SliceScoreDocument::to_slice_score)
                .collect(),
        };
        let counts = patient.counts();
        let volume_dice = patient.volume_dice();
        let summary = Summary::of(&[patient]);
        // The interval of a single patient says nothing.
        let value = |estimate: Option<Estimate>| estimate.map(|estimate| rounded(estimate.value));
        Some(Self {
            protocol: PROTOCOL.to_owned(),
            slices: summary.slices,
            tumour_slices: summary.tumour_slices,
            empty_slices: summary.empty_slices,
            counts,
            volume_dice: rounded(volume_dice),
            tumour_slice_dice: value(summary.tumour_slice_dice),
            all_slice_dice: value(summary.all_slice_dice)?,
            false_positive_rate: value(summary.false_positive_rate),
        })
    }
}
