//! Whether probabilities mean what they say.

use std::array;
use std::iter::Sum;
use std::ops::AddAssign;

use super::counts::SizeMismatch;
use crate::imaging::{Mask, ProbabilityMap};

/// Number of bins of a [`Reliability`], of equal width: that of Guo et al.
pub const RELIABILITY_BINS: usize = 15;

/// Pixels by the probability of tumour that was predicted, and how many of them are tumour.
///
/// Of the pixels with a probability of 0.7, 7 in 10 should be tumour. The accumulator takes any number of
/// pixels, and those of slices add up to those of a data set. Most pixels are background that no model
/// gets wrong, so that figures of all pixels are always good; [`Reliability::add_pixel`] takes those that
/// matter.
///
/// Definitions: C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, On Calibration of Modern Neural Networks,
/// ICML (2017), of the probability of tumour in place of that of the predicted class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reliability {
    bins: [Tally; RELIABILITY_BINS],
}

/// What fell into a bin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tally {
    pixels: u64,
    probability: f64,
    tumour: u64,
}

/// A bar of a reliability diagram: the pixels whose probabilities lie between two ends.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct ReliabilityBin {
    /// Lower end of the probabilities, 0..1.
    pub low: f64,
    /// Upper end of the probabilities; 1 is in the last bin.
    pub high: f64,
    /// Number of pixels.
    pub pixels: u64,
    /// Mean of their probabilities, 0..=1; `None` without pixels.
    pub mean_probability: Option<f64>,
    /// Share of them that is tumour, 0..=1; `None` without pixels.
    pub tumour_share: Option<f64>,
}

impl Reliability {
    /// Counts all pixels of a slice.
    ///
    /// # Errors
    /// [`SizeMismatch`] when the two differ in width or height; nothing is counted then.
    pub fn add(&mut self, probability: &ProbabilityMap, truth: &Mask) -> Result<(), SizeMismatch> {
        let sizes = SizeMismatch {
            prediction: (probability.width(), probability.height()),
            truth: (truth.width(), truth.height()),
        };
        if sizes.prediction != sizes.truth {
            return Err(sizes);
        }
        for (&p, &tumour) in probability.values().iter().zip(truth.pixels()) {
            self.add_pixel(p, tumour);
        }
        Ok(())
    }

    /// Counts a pixel of a probability in 0..=1.
    pub fn add_pixel(&mut self, probability: f32, tumour: bool) {
        let probability = f64::from(probability);
        // Exact, and so is the bin: no f32 but 0 and 1 lies on the edge of a fifteenth.
        let bin = (probability * RELIABILITY_BINS as f64) as usize;
        let bin = &mut self.bins[bin.min(RELIABILITY_BINS - 1)];
        bin.pixels += 1;
        bin.probability += probability;
        bin.tumour += u64::from(tumour);
    }

    /// Number of pixels counted.
    #[must_use]
    pub fn pixels(&self) -> u64 {
        self.bins.iter().map(|bin| bin.pixels).sum()
    }

    /// The expected calibration error (0..=1) of the probability of tumour; `None` without pixels.
    ///
    /// The mean over bins of |mean probability - share that is tumour|, weighed by their pixels.
    #[must_use]
    pub fn expected_calibration_error(&self) -> Option<f64> {
        let pixels = self.pixels();
        let gaps = self
            .bins
            .iter()
            .map(|bin| (bin.probability - bin.tumour as f64).abs());
        (pixels > 0).then(|| gaps.sum::<f64>() / pixels as f64)
    }

    /// The bins, from 0 to 1.
    #[must_use]
    pub fn bins(&self) -> [ReliabilityBin; RELIABILITY_BINS] {
        let edge = |number: usize| number as f64 / RELIABILITY_BINS as f64;
        array::from_fn(|number| {
            let Tally {
                pixels,
                probability,
                tumour,
            } = self.bins[number];
            let share = |of: f64| (pixels > 0).then(|| of / pixels as f64);
            ReliabilityBin {
                low: edge(number),
                high: edge(number + 1),
                pixels,
                mean_probability: share(probability),
                tumour_share: share(tumour as f64),
            }
        })
    }
}

impl AddAssign<&Self> for Reliability {
    fn add_assign(&mut self, other: &Self) {
        for (bin, other) in self.bins.iter_mut().zip(&other.bins) {
            bin.pixels += other.pixels;
            bin.probability += other.probability;
            bin.tumour += other.tumour;
        }
    }
}

impl AddAssign for Reliability {
    fn add_assign(&mut self, other: Self) {
        *self += &other;
    }
}

impl Sum for Reliability {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        parts.fold(Self::default(), |mut whole, part| {
            whole += &part;
            whole
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn of(pixels: &[(f32, bool)]) -> Reliability {
        let mut reliability = Reliability::default();
        for &(probability, tumour) in pixels {
            reliability.add_pixel(probability, tumour);
        }
        reliability
    }

    #[test]
    fn probabilities_that_mean_what_they_say_have_no_error() {
        let right = of(&[(0.25, true), (0.25, false), (0.25, false), (0.25, false)]);
        assert_eq!(right.expected_calibration_error(), Some(0.0));
        let certain = of(&[(1.0, true), (0.0, false)]);
        assert_eq!(certain.expected_calibration_error(), Some(0.0));
        let wrong = of(&[(1.0, false), (0.0, true)]);
        assert_eq!(wrong.expected_calibration_error(), Some(1.0));
    }

    #[test]
    fn errors_are_weighed_by_pixels() {
        // Three pixels of 0.5 and one tumour among them, one of 1 that is none: (3 · 1/6 + 1 · 1) / 4.
        let reliability = of(&[(0.5, true), (0.5, false), (0.5, false), (1.0, false)]);
        assert_eq!(reliability.expected_calibration_error(), Some(0.375));
        let [.., last] = reliability.bins();
        assert_eq!((last.pixels, last.tumour_share), (1, Some(0.0)));
        let middle = reliability.bins()[7];
        assert_eq!((middle.pixels, middle.mean_probability), (3, Some(0.5)));
        assert_eq!((middle.low, middle.high), (7.0 / 15.0, 8.0 / 15.0));
    }

    #[test]
    fn every_probability_has_a_bin_and_its_ends_hold_it() {
        for probability in (0..=1000_u16).map(|i| f32::from(i) / 1000.0) {
            let bins = of(&[(probability, true)]).bins();
            let bin = bins.iter().find(|bin| bin.pixels == 1).unwrap();
            let probability = f64::from(probability);
            assert!(bin.low <= probability && probability <= bin.high, "{bin:?}");
        }
    }

    #[test]
    fn nothing_has_no_error() {
        let nothing = Reliability::default();
        assert_eq!(
            (nothing.pixels(), nothing.expected_calibration_error()),
            (0, None)
        );
        assert_eq!(nothing.bins()[3].mean_probability, None);
        assert_eq!(nothing.bins()[3].tumour_share, None);
    }

    #[test]
    fn different_sizes_are_refused_whole() {
        let mut reliability = Reliability::default();
        let probability = ProbabilityMap::new(2, 1, vec![0.5; 2]).unwrap();
        assert!(reliability.add(&probability, &Mask::empty(1, 2)).is_err());
        assert_eq!(reliability.pixels(), 0);
    }
}
