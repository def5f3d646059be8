//! Whether a model knows what it does not know: its probabilities, and its own guess of the Dice of every mask.

use glioseg_shared::imaging::{Mask, ProbabilityMap};
use glioseg_shared::scoring::{Reliability, SizeMismatch, spearman};
use serde::Serialize;

/// Probabilities between which a pixel is in doubt. Almost all others are background that no model gets wrong.
pub const DOUBT: std::ops::RangeInclusive<f32> = 0.01..=0.99;

/// Groups of equal size that slices fall into by expected Dice.
const GROUPS: usize = 5;

/// What was said with which certainty, and what became of it.
#[derive(Clone, Debug, Default)]
pub struct Certainty {
    /// All pixels by probability.
    pub pixels: Reliability,
    /// Those whose probability lies in [`DOUBT`].
    pub pixels_in_doubt: Reliability,
    /// Every slice, in the order of the evaluation.
    pub slices: Vec<SliceCertainty>,
}

/// The Dice coefficient that a mask was expected to have, and the one that it has; both 0..=1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SliceCertainty {
    /// [`soft_dice_confidence`](glioseg_shared::model::soft_dice_confidence) of the mask.
    pub expected_dice: f64,
    /// Its Dice coefficient.
    pub dice: f64,
    /// Whether the slice has tumour, or some was predicted: of the others there is little to say.
    pub any_tumour: bool,
}

/// Slices of similar expected Dice.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Group {
    /// Number of slices.
    pub slices: usize,
    /// Least expected Dice among them.
    pub low: f64,
    /// Largest expected Dice among them.
    pub high: f64,
    /// Mean of the expected Dice.
    pub expected_dice: f64,
    /// Mean of the Dice coefficient.
    pub dice: f64,
}

impl Certainty {
    /// Takes in the pixels of a slice.
    pub(super) fn add_pixels(
        &mut self,
        probability: &ProbabilityMap,
        truth: &Mask,
    ) -> Result<(), SizeMismatch> {
        self.pixels.add(probability, truth)?;
        for (&p, &tumour) in probability.values().iter().zip(truth.pixels()) {
            if DOUBT.contains(&p) {
                self.pixels_in_doubt.add_pixel(p, tumour);
            }
        }
        Ok(())
    }

    /// Spearman's rank correlation of expected and true Dice over all slices; `None` where either is the same everywhere.
    #[must_use]
    pub fn rank_correlation(&self) -> Option<f64> {
        correlation(self.slices.iter())
    }

    /// The same over the slices with tumour, true or predicted: the others are mostly right and easy.
    #[must_use]
    pub fn rank_correlation_with_tumour(&self) -> Option<f64> {
        correlation(self.with_tumour())
    }

    /// The slices with tumour, true or predicted, in five groups of equal size, from the lowest expected Dice to the
    /// highest; fewer groups where there are fewer slices.
    #[must_use]
    pub fn groups(&self) -> Vec<Group> {
        let mut slices: Vec<&SliceCertainty> = self.with_tumour().collect();
        slices.sort_by(|a, b| a.expected_dice.total_cmp(&b.expected_dice));
        let ends = (0..=GROUPS).map(|end| end * slices.len() / GROUPS);
        let ends: Vec<usize> = ends.collect();
        ends.windows(2)
            .filter_map(|ends| Group::of(&slices[ends[0]..ends[1]]))
            .collect()
    }

    fn with_tumour(&self) -> impl Iterator<Item = &SliceCertainty> {
        self.slices.iter().filter(|slice| slice.any_tumour)
    }
}

impl Group {
    /// `slices` are in the order of their expected Dice.
    fn of(slices: &[&SliceCertainty]) -> Option<Self> {
        let (first, last) = (slices.first()?, slices.last()?);
        let mean = |value: fn(&SliceCertainty) -> f64| {
            slices.iter().map(|slice| value(slice)).sum::<f64>() / slices.len() as f64
        };
        Some(Self {
            slices: slices.len(),
            low: first.expected_dice,
            high: last.expected_dice,
            expected_dice: mean(|slice| slice.expected_dice),
            dice: mean(|slice| slice.dice),
        })
    }
}

fn correlation<'a>(slices: impl Iterator<Item = &'a SliceCertainty>) -> Option<f64> {
    let (expected, dice): (Vec<f64>, Vec<f64>) = slices.map(|s| (s.expected_dice, s.dice)).unzip();
    spearman(&expected, &dice)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn certainty(slices: &[(f64, f64, bool)]) -> Certainty {
        let slices = slices
            .iter()
            .map(|&(expected_dice, dice, any_tumour)| SliceCertainty {
                expected_dice,
                dice,
                any_tumour,
            });
        Certainty {
            slices: slices.collect(),
            ..Certainty::default()
        }
    }

    #[test]
    fn slices_without_tumour_have_no_say_among_those_with_it() {
        let certainty = certainty(&[
            (0.9, 0.8, true),
            (0.5, 0.3, true),
            (0.7, 0.4, true),
            (0.1, 1.0, false),
        ]);
        assert_eq!(certainty.rank_correlation_with_tumour(), Some(1.0));
        assert!(certainty.rank_correlation().unwrap() < 0.0);
        assert_eq!(Certainty::default().rank_correlation(), None);
    }

    #[test]
    fn groups_go_from_the_least_certain_to_the_most() {
        let slices: Vec<_> = (0..10)
            .map(|i| (f64::from(9 - i) / 10.0, f64::from(9 - i) / 20.0, true))
            .collect();
        let groups = certainty(&slices).groups();
        assert_eq!(groups.len(), 5);
        let first = groups[0];
        assert_eq!((first.slices, first.low, first.high), (2, 0.0, 0.1));
        assert!((first.expected_dice - 0.05).abs() < 1e-12);
        assert!((first.dice - 0.025).abs() < 1e-12);
        assert!(groups.is_sorted_by(|a, b| a.high <= b.low));
        assert_eq!(certainty(&slices[..3]).groups().len(), 3);
        assert!(certainty(&[]).groups().is_empty());
    }

    #[test]
    fn doubt_leaves_out_what_is_certain() {
        let mut certainty = Certainty::default();
        let probability = ProbabilityMap::new(4, 1, vec![0.0, 0.005, 0.5, 0.999]).unwrap();
        let truth = Mask::new(4, 1, vec![false, false, true, true]).unwrap();
        certainty.add_pixels(&probability, &truth).unwrap();
        assert_eq!(certainty.pixels.pixels(), 4);
        assert_eq!(certainty.pixels_in_doubt.pixels(), 1);
        assert!(
            certainty
                .add_pixels(&probability, &Mask::empty(1, 1))
                .is_err()
        );
    }
}
