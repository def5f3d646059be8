//! How certain a model may be: the temperature of its logits.

use glioseg_shared::imaging::{Mask, ProbabilityMap};

/// Logits beyond this count as this: closer to 1, f32 has too few probabilities to tell logits apart.
const LARGEST: f64 = 16.0;
const BINS_A_UNIT: f64 = 32.0;
const BINS: usize = (2.0 * LARGEST * BINS_A_UNIT) as usize + 1;

/// Temperatures that are considered: beyond them the patients are too few or too alike to say.
const LOWEST: f64 = 0.5;
const HIGHEST: f64 = 4.0;

/// Pixels by logit, with and without tumour.
///
/// Cross-entropy at any temperature follows from it, to the width of a bin (1/32), without another look at a pixel.
#[derive(Clone, Debug)]
pub(super) struct LogitHistogram {
    with_tumour: Vec<u64>,
    without: Vec<u64>,
}

impl Default for LogitHistogram {
    fn default() -> Self {
        Self {
            with_tumour: vec![0; BINS],
            without: vec![0; BINS],
        }
    }
}

impl LogitHistogram {
    /// Adds every pixel of the slices of a study.
    pub(super) fn add(&mut self, probabilities: &[ProbabilityMap], truth: &[Mask]) {
        for (probability, mask) in probabilities.iter().zip(truth) {
            for (&p, &tumour) in probability.values().iter().zip(mask.pixels()) {
                let counts = if tumour {
                    &mut self.with_tumour
                } else {
                    &mut self.without
                };
                counts[bin(p)] += 1;
            }
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (counts, others) in [
            (&mut self.with_tumour, &other.with_tumour),
            (&mut self.without, &other.without),
        ] {
            for (count, other) in counts.iter_mut().zip(others) {
                *count += other;
            }
        }
    }

    /// The temperature from 0.5 to 4 whose probabilities have the least cross-entropy; 1 where there are no pixels.
    ///
    /// The cross-entropy is convex in the reciprocal of the temperature, which a golden-section search (Kiefer 1953)
    /// narrows down to 1e-4.
    pub(super) fn temperature(&self) -> f32 {
        const GOLDEN: f64 = 0.618_033_988_749_894_9;
        if self
            .with_tumour
            .iter()
            .chain(&self.without)
            .all(|&n| n == 0)
        {
            return 1.0;
        }
        let (mut low, mut high) = (1.0 / HIGHEST, 1.0 / LOWEST);
        let (mut left, mut right) = (high - GOLDEN * (high - low), low + GOLDEN * (high - low));
        let (mut at_left, mut at_right) = (self.cross_entropy(left), self.cross_entropy(right));
        while high - low > 1e-4 {
            if at_left <= at_right {
                (high, right, at_right) = (right, left, at_left);
                left = high - GOLDEN * (high - low);
                at_left = self.cross_entropy(left);
            } else {
                (low, left, at_left) = (left, right, at_right);
                right = low + GOLDEN * (high - low);
                at_right = self.cross_entropy(right);
            }
        }
        (2.0 / (low + high)) as f32
    }

    /// The summed cross-entropy of all pixels, with logits times `factor`, in nats.
    fn cross_entropy(&self, factor: f64) -> f64 {
        let pixels = self.with_tumour.iter().zip(&self.without).enumerate();
        pixels
            .map(|(bin, (&with, &without))| {
                let z = logit(bin) * factor;
                with as f64 * softplus(-z) + without as f64 * softplus(z)
            })
            .sum()
    }
}

fn bin(probability: f32) -> usize {
    let p = f64::from(probability);
    // At 0 and 1 the logit is infinite, and clamped like any other that is large.
    let logit = (p / (1.0 - p)).ln().clamp(-LARGEST, LARGEST);
    ((logit + LARGEST) * BINS_A_UNIT).round() as usize
}

fn logit(bin: usize) -> f64 {
    bin as f64 / BINS_A_UNIT - LARGEST
}

/// ln(1 + exp(x)) without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    /// Pixels whose chance of tumour is what `logit / truth` says, seen by a model that says `logit`.
    fn drawn(truth: f64, seed: u64) -> LogitHistogram {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let sigmoid = |z: f64| 1.0 / (1.0 + (-z).exp());
        let (said, tumour): (Vec<f32>, Vec<bool>) = (0..200_000)
            .map(|_| {
                let z = rng.random_range(-6.0..6.0);
                let tumour = rng.random::<f64>() < sigmoid(z / truth);
                (sigmoid(z) as f32, tumour)
            })
            .unzip();
        let mut histogram = LogitHistogram::default();
        histogram.add(
            &[ProbabilityMap::new(400, 500, said).unwrap()],
            &[Mask::new(400, 500, tumour).unwrap()],
        );
        histogram
    }

    #[test]
    fn the_temperature_of_overconfident_and_of_timid_models_is_found() {
        for (truth, seed) in [(0.7, 1), (1.0, 2), (1.6, 3), (2.5, 4)] {
            let found = f64::from(drawn(truth, seed).temperature());
            assert!((found / truth - 1.0).abs() < 0.03, "{truth}: {found}");
        }
    }

    #[test]
    fn nothing_is_said_of_nothing_and_no_more_than_is_known_of_the_perfect() {
        assert_eq!(LogitHistogram::default().temperature(), 1.0);
        let mut perfect = LogitHistogram::default();
        perfect.add(
            &[ProbabilityMap::new(2, 1, vec![0.0, 1.0]).unwrap()],
            &[Mask::new(2, 1, vec![false, true]).unwrap()],
        );
        assert!((f64::from(perfect.temperature()) - LOWEST).abs() < 1e-3);
    }

    #[test]
    fn halves_make_the_whole() {
        let (mut one, two) = (drawn(1.6, 3), drawn(1.6, 4));
        one.merge(&two);
        assert_eq!(
            one.with_tumour.iter().chain(&one.without).sum::<u64>(),
            400_000
        );
    }

    #[test]
    fn logits_are_binned_to_a_thirty_second() {
        for z in [-16.0_f64, -3.125, 0.0, 0.5, 9.0] {
            let p = 1.0 / (1.0 + (-z).exp());
            assert!((logit(bin(p as f32)) - z).abs() <= 1.0 / 32.0, "{z}");
        }
        assert_eq!((bin(0.0), bin(1.0)), (0, BINS - 1));
    }
}
