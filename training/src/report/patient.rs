//! The figures of one patient.

use glioseg_shared::scoring::{Counts, PatientScore};
use serde::Serialize;

/// What the page and the JSON say of a patient; areas are in pixels of all slices together.
#[derive(Serialize)]
pub(super) struct PatientFigures<'a> {
    pub(super) patient: &'a str,
    pub(super) slices: usize,
    pub(super) tumour_slices: usize,
    /// Slices without tumour on which some was predicted.
    pub(super) false_positive_slices: usize,
    pub(super) true_area: u64,
    pub(super) predicted_area: u64,
    pub(super) volume_dice: f64,
    /// Mean over the slices with tumour; `None` where there are none.
    pub(super) tumour_slice_dice: Option<f64>,
    pub(super) precision: Option<f64>,
    pub(super) recall: Option<f64>,
    counts: Counts,
}

impl<'a> PatientFigures<'a> {
    pub(super) fn of(score: &'a PatientScore) -> Self {
        let counts = score.counts();
        let (mut dice, mut tumour_slices, mut false_positive_slices) = (0.0, 0, 0);
        for slice in &score.slices {
            if slice.counts.true_area() > 0 {
                dice += slice.counts.dice();
                tumour_slices += 1;
            } else if slice.counts.predicted_area() > 0 {
                false_positive_slices += 1;
            }
        }
        Self {
            patient: &score.patient,
            slices: score.slices.len(),
            tumour_slices,
            false_positive_slices,
            true_area: counts.true_area(),
            predicted_area: counts.predicted_area(),
            volume_dice: counts.dice(),
            tumour_slice_dice: (tumour_slices > 0).then(|| dice / tumour_slices as f64),
            precision: counts.precision(),
            recall: counts.recall(),
            counts,
        }
    }

    pub(super) fn empty_slices(&self) -> usize {
        self.slices - self.tumour_slices
    }
}
