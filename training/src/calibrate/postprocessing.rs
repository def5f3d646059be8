//! Choosing threshold and smallest component.

use glioseg_shared::imaging::grid::Placement;
use glioseg_shared::imaging::{Mask, ProbabilityMap};
use glioseg_shared::model::contract::Postprocessing;
use glioseg_shared::model::postprocess;
use glioseg_shared::scoring::{Counts, SizeMismatch};
use rayon::prelude::*;

use crate::package::FILL_HOLES;

const THRESHOLDS: [f32; 13] = [
    0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9,
];
/// Of a 256x256 slice. Of the training patients' slices with tumour, 1 % hold fewer than 50 pixels of it, 8 % fewer than 256.
const MINIMUM_PIXELS: [u64; 9] = [1, 16, 32, 48, 64, 96, 128, 192, 256];

/// How far below the best value a plainer choice may lie. A dozen validation patients cannot tell such differences
/// apart (the intervals of their figures are many times as wide), and a threshold far from 0.5 or a large smallest
/// component, chosen for them, hides tumours of other patients. Twice as much leaves false tumours that 82 patients do
/// tell apart: the smallest component is then 32 pixels and not 64.
const TOLERANCE: f64 = 0.002;

/// Every post-processing on offer, with what it is worth on the studies so far.
#[derive(Clone, Debug)]
pub(super) struct Candidates {
    candidates: Vec<Postprocessing>,
    sums: Vec<Sums>,
}

impl Default for Candidates {
    fn default() -> Self {
        let candidates: Vec<Postprocessing> = THRESHOLDS
            .iter()
            .flat_map(|&threshold| {
                MINIMUM_PIXELS.iter().map(move |&pixels| Postprocessing {
                    threshold,
                    fill_holes: FILL_HOLES,
                    seed_probability: None,
                    minimum_component_pixels: pixels,
                    keep_largest: false,
                })
            })
            .collect();
        Self {
            sums: vec![Sums::default(); candidates.len()],
            candidates,
        }
    }
}

impl Candidates {
    /// Scores every candidate on the slices of a study, which lay on the grid as `placements` say.
    ///
    /// # Errors
    /// When a mask is not as large as its slice.
    pub(super) fn add(
        &mut self,
        probabilities: &[ProbabilityMap],
        placements: &[Placement],
        truth: &[Mask],
    ) -> Result<(), SizeMismatch> {
        // Candidates that differ in the smallest component alone have the same foreground.
        let scores = self
            .candidates
            .par_chunks(MINIMUM_PIXELS.len())
            .map(|candidates| {
                let foregrounds: Vec<Mask> = probabilities
                    .iter()
                    .map(|p| postprocess::foreground(p, &candidates[0]))
                    .collect();
                let scores = candidates.iter().map(|candidate| {
                    let slices = foregrounds.iter().zip(probabilities).zip(placements);
                    let masks = slices.map(|((mask, p), placement)| {
                        postprocess::components(mask.clone(), p, placement, candidate)
                    });
                    score(masks, truth)
                });
                scores.collect()
            })
            .collect::<Result<Vec<Vec<_>>, SizeMismatch>>()?;
        for (sum, of_study) in self.sums.iter_mut().zip(scores.iter().flatten()) {
            sum.add(of_study);
        }
        Ok(())
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (sum, other) in self.sums.iter_mut().zip(&other.sums) {
            sum.add(other);
        }
    }

    /// The plainest post-processing that is as good as any.
    ///
    /// Good is the mean of volume Dice, tumour-slice Dice and all-slice Dice: the first two want every tumour pixel,
    /// large tumours and small ones, the last punishes each false tumour. As good as any is at most 0.002 below the
    /// best; plainest is the threshold closest to 0.5, then the smallest component that is removed.
    pub(super) fn plainest(&self) -> Postprocessing {
        let values: Vec<f64> = self.sums.iter().map(Sums::value).collect();
        self.candidates[plainest(&self.candidates, &values)]
    }
}

/// The place of the plainest candidate whose value is at most [`TOLERANCE`] below the best.
fn plainest(candidates: &[Postprocessing], values: &[f64]) -> usize {
    let best = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let plainness = |c: &Postprocessing| {
        let hundredths = ((c.threshold - 0.5).abs() * 100.0).round() as u64;
        (hundredths, c.minimum_component_pixels)
    };
    (0..candidates.len())
        .filter(|&i| values[i] >= best - TOLERANCE)
        .min_by_key(|&i| plainness(&candidates[i]))
        .unwrap_or_default()
}

/// Sums of Dice over studies and slices, and their numbers.
#[derive(Clone, Debug, Default)]
struct Sums {
    volume: f64,
    volumes: usize,
    tumour_slices: f64,
    with_tumour: usize,
    all_slices: f64,
    slices: usize,
}

impl Sums {
    fn add(&mut self, other: &Self) {
        self.volume += other.volume;
        self.volumes += other.volumes;
        self.tumour_slices += other.tumour_slices;
        self.with_tumour += other.with_tumour;
        self.all_slices += other.all_slices;
        self.slices += other.slices;
    }

    /// The mean of the three figures; one without a single slice or study counts 0, the same for every candidate.
    fn value(&self) -> f64 {
        let mean = |sum: f64, n: usize| if n == 0 { 0.0 } else { sum / n as f64 };
        (mean(self.volume, self.volumes)
            + mean(self.tumour_slices, self.with_tumour)
            + mean(self.all_slices, self.slices))
            / 3.0
    }
}

/// The sums over one study.
fn score(masks: impl Iterator<Item = Mask>, truth: &[Mask]) -> Result<Sums, SizeMismatch> {
    let mut total = Counts::default();
    let mut sums = Sums {
        volumes: 1,
        ..Sums::default()
    };
    for (mask, truth) in masks.zip(truth) {
        let counts = Counts::of(&mask, truth)?;
        let dice = counts.dice();
        sums.all_slices += dice;
        sums.slices += 1;
        if counts.true_area() > 0 {
            sums.tumour_slices += dice;
            sums.with_tumour += 1;
        }
        total += counts;
    }
    sums.volume = total.dice();
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(threshold: f32, minimum_component_pixels: u64) -> Postprocessing {
        Postprocessing {
            threshold,
            fill_holes: FILL_HOLES,
            seed_probability: None,
            minimum_component_pixels,
            keep_largest: false,
        }
    }

    #[test]
    fn a_plainer_choice_wins_where_the_best_is_hardly_better() {
        let candidates = [
            candidate(0.85, 192),
            candidate(0.5, 96),
            candidate(0.5, 32),
            candidate(0.55, 1),
        ];
        assert_eq!(plainest(&candidates, &[0.9, 0.8985, 0.8985, 0.899]), 2);
        assert_eq!(plainest(&candidates, &[0.9, 0.8985, 0.897, 0.899]), 1);
        assert_eq!(plainest(&candidates, &[0.9, 0.897, 0.897, 0.8985]), 3);
        assert_eq!(plainest(&candidates, &[0.9, 0.880, 0.897, 0.897]), 0);
    }

    #[test]
    fn the_three_figures_weigh_the_same() {
        let truth = Mask::new(2, 1, vec![true, false]);
        let empty = Mask::new(2, 1, vec![false, false]);
        let full = Mask::new(2, 1, vec![true, true]);
        let (Ok(truth), Ok(empty), Ok(full)) = (truth, empty, full) else {
            panic!("the sizes fit");
        };
        // One slice hit by half (Dice 2/3), one false tumour: volume Dice 2/(1 + 4), slices 2/3 and (2/3 + 0)/2.
        let sums = score([full.clone(), full].into_iter(), &[truth, empty]);
        let value = sums.map(|sums| sums.value()).unwrap_or_default();
        assert!(
            (value - (0.4 + 2.0 / 3.0 + 1.0 / 3.0) / 3.0).abs() < 1e-12,
            "{value}"
        );
    }
}
