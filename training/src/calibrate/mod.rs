//! Fitting to patients what comes after the network: temperature, threshold, smallest component.
//!
//! All three are chosen from one look at patients that the network was not trained on. A temperature changes how
//! certain the model is, not what it finds at a threshold of 0.5 (but for pixels on the edge of a slice that is resampled
//! or shrunk, since probabilities are interpolated).

mod postprocessing;
mod temperature;

use glioseg_shared::imaging::grid::Placement;
use glioseg_shared::model::Segmenter;
use glioseg_shared::model::contract::Postprocessing;

use crate::data::cache::CachedPatient;
use crate::package::{FILL_HOLES, PackageError};

use postprocessing::Candidates;
use temperature::LogitHistogram;

/// What comes after a network.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Calibration {
    /// What the logits are divided by, so that probabilities are shares (Guo et al. 2017, "On Calibration of Modern
    /// Neural Networks").
    pub temperature: f32,
    /// From these probabilities to a mask.
    pub postprocessing: Postprocessing,
}

/// Calibration that somebody has decided, by what more patients say than those at hand or by what an error costs.
/// What is `None` is left to the patients.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Decided {
    /// What the logits are divided by, above 0.
    pub temperature: Option<f32>,
    /// Least calibrated probability of tumour, above 0 and below 1.
    pub threshold: Option<f32>,
    /// Whether holes are filled.
    pub fill_holes: Option<bool>,
    /// Probability that a component must reach to stay, above 0 and below 1.
    pub seed_probability: Option<f32>,
    /// Pixels of the smallest component that stays.
    pub minimum_component_pixels: Option<u64>,
}

impl Decided {
    /// The whole calibration, where no patient is needed for it: temperature, threshold and smallest component are
    /// decided. What else is not is as in every new model.
    #[must_use]
    pub fn complete(self) -> Option<Calibration> {
        Some(Calibration {
            temperature: self.temperature?,
            postprocessing: Postprocessing {
                threshold: self.threshold?,
                fill_holes: self.fill_holes.unwrap_or(FILL_HOLES),
                seed_probability: self.seed_probability,
                minimum_component_pixels: self.minimum_component_pixels?,
                keep_largest: false,
            },
        })
    }

    /// The post-processing that was decided, and for the rest this one.
    #[must_use]
    pub fn or(self, other: Postprocessing) -> Postprocessing {
        Postprocessing {
            threshold: self.threshold.unwrap_or(other.threshold),
            fill_holes: self.fill_holes.unwrap_or(other.fill_holes),
            seed_probability: self.seed_probability.or(other.seed_probability),
            minimum_component_pixels: self
                .minimum_component_pixels
                .unwrap_or(other.minimum_component_pixels),
            ..other
        }
    }
}

/// What a model says of labelled patients, as far as its calibration needs it; observations of several models add up.
#[derive(Clone, Debug, Default)]
pub struct Observations {
    logits: LogitHistogram,
    candidates: Candidates,
}

impl Observations {
    /// Looks at every slice of `studies` through the model; its own post-processing is not used.
    ///
    /// # Errors
    /// When the model fails on a slice, or a mask is not as large as its slice.
    pub fn of(segmenter: &Segmenter, studies: &[&CachedPatient]) -> Result<Self, PackageError> {
        let mut observations = Self::default();
        for study in studies {
            let segmented = segmenter.segment_study(&study.slices)?;
            let probabilities: Vec<_> = segmented.into_iter().map(|s| s.probability).collect();
            let input = &segmenter.contract().input;
            let placements: Vec<_> = study
                .slices
                .iter()
                .map(|slice| Placement::of(slice, input.grid(), input.fit))
                .collect();
            observations.logits.add(&probabilities, &study.masks);
            let candidates = &mut observations.candidates;
            candidates.add(&probabilities, &placements, &study.masks)?;
        }
        Ok(observations)
    }

    /// What was observed of all but one.
    #[must_use]
    pub fn of_others(all: &[Self], left_out: Option<usize>) -> Self {
        let mut others = Self::default();
        for (_, other) in (0..).zip(all).filter(|&(index, _)| Some(index) != left_out) {
            others.merge(other);
        }
        others
    }

    /// Adds what was observed of other patients.
    pub fn merge(&mut self, other: &Self) {
        self.logits.merge(&other.logits);
        self.candidates.merge(&other.candidates);
    }

    /// What was decided; for the rest the temperature of the least cross-entropy, and the plainest post-processing that is
    /// as good as any.
    #[must_use]
    pub fn calibration(&self, decided: Decided) -> Calibration {
        let by_patients = || self.logits.temperature();
        let temperature = decided.temperature.unwrap_or_else(by_patients);
        let mut postprocessing = self.candidates.plainest();
        postprocessing.threshold = tempered(postprocessing.threshold, temperature);
        Calibration {
            temperature,
            postprocessing: decided.or(postprocessing),
        }
    }
}

/// The probability that a probability becomes when its logit is divided by `temperature`.
fn tempered(probability: f32, temperature: f32) -> f32 {
    let logit = (probability / (1.0 - probability)).ln();
    1.0 / (1.0 + (-logit / temperature).exp())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use glioseg_shared::imaging::grid::{Fit, Grid};
    use glioseg_shared::imaging::{Mask, ProbabilityMap};

    use super::*;

    /// Pixels that a model gives 0.9 or 0.1, `right` of every ten of them rightly.
    fn observed(right: usize) -> Observations {
        let (said, tumour): (Vec<f32>, Vec<bool>) = (0..20)
            .map(|i| {
                let yes = i % 2 == 0;
                (if yes { 0.9 } else { 0.1 }, yes == (i / 2 < right))
            })
            .unzip();
        let map = [ProbabilityMap::new(20, 1, said).unwrap()];
        let mask = [Mask::new(20, 1, tumour).unwrap()];
        let grid = Grid {
            width: 20,
            height: 1,
        };
        let mut observations = Observations::default();
        observations.logits.add(&map, &mask);
        let placement = [Placement {
            image: grid,
            grid,
            fit: Fit::ShrinkPad,
        }];
        let candidates = &mut observations.candidates;
        candidates.add(&map, &placement, &mask).unwrap();
        observations
    }

    #[test]
    fn who_is_left_out_has_no_say() {
        // One is always right, the other by chance.
        let folds = [observed(10), observed(5)];
        let temperature = |left_out| {
            Observations::of_others(&folds, left_out)
                .calibration(Decided::default())
                .temperature
        };
        assert!((temperature(Some(1)) - 0.5).abs() < 1e-2);
        assert!((temperature(Some(0)) - 4.0).abs() < 1e-2);
        assert!((0.6..3.9).contains(&temperature(None)));
    }

    #[test]
    fn a_threshold_by_patients_is_tempered_by_the_temperature_that_is_used() {
        let observed = observed(10);
        let with = |temperature, threshold| {
            observed.calibration(Decided {
                temperature,
                threshold,
                ..Decided::default()
            })
        };
        let raw = observed.candidates.plainest().threshold;
        for temperature in [0.5, 2.0, 4.0] {
            let given = with(Some(temperature), None);
            assert_eq!(given.temperature, temperature);
            assert_eq!(given.postprocessing.threshold, tempered(raw, temperature));
            assert_eq!(
                with(Some(temperature), Some(0.3)).postprocessing.threshold,
                0.3
            );
        }
    }

    #[test]
    fn a_temperature_moves_thresholds_with_the_probabilities_but_for_one_half() {
        for temperature in [0.5, 1.0, 3.0] {
            assert_eq!(tempered(0.5, temperature), 0.5);
        }
        assert_eq!(tempered(0.8, 1.0), 0.8);
        // The odds of 0.8 are 4; of their square root, 2 in 3.
        assert!((tempered(0.8, 2.0) - 2.0 / 3.0).abs() < 1e-6);
    }
}
