//! Choosing threshold and smallest component on validation patients.

use glioseg_shared::imaging::Mask;
use glioseg_shared::model::contract::Postprocessing;
use glioseg_shared::model::{Segmenter, postprocess};
use glioseg_shared::scoring::{Counts, SizeMismatch};
use rayon::prelude::*;

use crate::data::cache::CachedPatient;
use crate::package::PackageError;

const THRESHOLDS: [f32; 13] = [
    0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9,
];
/// Of a 256x256 slice. Of the training patients' slices with tumour, 1 % hold fewer than 50 pixels of it, 8 % fewer than 256.
const MINIMUM_PIXELS: [u64; 9] = [1, 16, 32, 48, 64, 96, 128, 192, 256];

/// The post-processing with the highest mean of volume Dice and all-slice Dice on `studies`, through the model itself.
///
/// The two pull apart where it matters: volume Dice wants every tumour pixel, all-slice Dice punishes each false tumour.
/// The model's own post-processing is not used. Of equals the one closest to a threshold of 0.5 and no smallest
/// component wins.
///
/// # Errors
/// When the model fails on a slice, or a mask is not as large as its slice.
pub fn choose_postprocessing(
    segmenter: &Segmenter,
    studies: &[&CachedPatient],
) -> Result<Postprocessing, PackageError> {
    let candidates: Vec<Postprocessing> = THRESHOLDS
        .iter()
        .flat_map(|&threshold| {
            MINIMUM_PIXELS.iter().map(move |&pixels| Postprocessing {
                threshold,
                minimum_component_pixels: pixels,
                keep_largest: false,
            })
        })
        .collect();
    let mut volume = vec![0.0; candidates.len()];
    let mut slices = vec![0.0; candidates.len()];
    let mut count = 0;
    for study in studies {
        let segmented = segmenter.segment_study(&study.slices)?;
        count += segmented.len();
        let scores = candidates
            .par_iter()
            .map(|candidate| {
                let masks = segmented
                    .iter()
                    .map(|s| postprocess::mask(&s.probability, candidate));
                score(masks, &study.masks)
            })
            .collect::<Result<Vec<_>, SizeMismatch>>()?;
        for (candidate, (of_volume, of_slices)) in scores.into_iter().enumerate() {
            volume[candidate] += of_volume;
            slices[candidate] += of_slices;
        }
    }
    let value = |i: usize| volume[i] / studies.len() as f64 + slices[i] / count as f64;
    let distance = |c: &Postprocessing| {
        ((c.threshold - 0.5).abs() * 1000.0) as u64 * 1000 + c.minimum_component_pixels
    };
    let best = (0..candidates.len()).min_by(|&a, &b| {
        let by_value = value(b).total_cmp(&value(a));
        by_value.then(distance(&candidates[a]).cmp(&distance(&candidates[b])))
    });
    Ok(candidates[best.unwrap_or_default()])
}

/// Dice of the volume, and the sum of the Dice of its slices.
fn score(masks: impl Iterator<Item = Mask>, truth: &[Mask]) -> Result<(f64, f64), SizeMismatch> {
    let mut total = Counts::default();
    let mut slices = 0.0;
    for (mask, truth) in masks.zip(truth) {
        let counts = Counts::of(&mask, truth)?;
        slices += counts.dice();
        total += counts;
    }
    Ok((total.dice(), slices))
}
