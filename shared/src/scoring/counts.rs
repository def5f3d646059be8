//! The integer counts that every overlap figure is made of.

use std::iter::Sum;
use std::ops::{Add, AddAssign};

use crate::imaging::Mask;

/// Two masks that should cover the same pixels have different sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the prediction has {}x{} pixels, the truth {}x{}",
    prediction.0, prediction.1, truth.0, truth.1
)]
pub struct SizeMismatch {
    /// Columns and rows of the prediction.
    pub prediction: (usize, usize),
    /// Columns and rows of the truth.
    pub truth: (usize, usize),
}

/// Pixels by what was predicted (positive or negative) and whether that was right.
///
/// Counts of slices add up to the counts of their volume, so that a figure of a volume never
/// averages figures of slices.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Counts {
    /// Tumour, and predicted so.
    pub true_positive: u64,
    /// Predicted as tumour, but none.
    pub false_positive: u64,
    /// Tumour, but not predicted.
    pub false_negative: u64,
    /// Neither tumour nor predicted so.
    pub true_negative: u64,
}

impl Counts {
    /// Counts the pixels of a predicted mask against the true one.
    ///
    /// # Errors
    /// [`SizeMismatch`] when the masks differ in width or height.
    pub fn of(prediction: &Mask, truth: &Mask) -> Result<Self, SizeMismatch> {
        let sizes = SizeMismatch {
            prediction: (prediction.width(), prediction.height()),
            truth: (truth.width(), truth.height()),
        };
        if sizes.prediction != sizes.truth {
            return Err(sizes);
        }
        let (mut both, mut predicted, mut actual) = (0_u64, 0_u64, 0_u64);
        // Sums of single bytes over at most 255 pixels stay in byte lanes, which the compiler
        // turns into vector instructions; a sum straight into u64 is several times slower.
        let pairs = prediction
            .pixels()
            .chunks(255)
            .zip(truth.pixels().chunks(255));
        for (prediction, truth) in pairs {
            let (mut b, mut p, mut t) = (0_u8, 0_u8, 0_u8);
            for (&in_prediction, &in_truth) in prediction.iter().zip(truth) {
                b += u8::from(in_prediction & in_truth);
                p += u8::from(in_prediction);
                t += u8::from(in_truth);
            }
            both += u64::from(b);
            predicted += u64::from(p);
            actual += u64::from(t);
        }
        let all = prediction.pixels().len() as u64;
        Ok(Self {
            true_positive: both,
            false_positive: predicted - both,
            false_negative: actual - both,
            true_negative: all + both - predicted - actual,
        })
    }

    /// Number of pixels predicted as tumour.
    #[must_use]
    pub fn predicted_area(&self) -> u64 {
        self.true_positive + self.false_positive
    }

    /// Number of pixels that are tumour.
    #[must_use]
    pub fn true_area(&self) -> u64 {
        self.true_positive + self.false_negative
    }

    /// Number of pixels counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.predicted_area() + self.false_negative + self.true_negative
    }

    /// Dice coefficient 2|P∩G| / (|P|+|G|), 0..=1; 1 when both masks are empty.
    #[must_use]
    pub fn dice(&self) -> f64 {
        ratio(
            2.0 * self.true_positive as f64,
            self.predicted_area() as f64 + self.true_area() as f64,
        )
        .unwrap_or(1.0)
    }

    /// Jaccard index |P∩G| / |P∪G|, 0..=1; 1 when both masks are empty.
    #[must_use]
    pub fn iou(&self) -> f64 {
        ratio(
            self.true_positive as f64,
            self.predicted_area() as f64 + self.false_negative as f64,
        )
        .unwrap_or(1.0)
    }

    /// Share of the predicted pixels that are tumour; `None` when nothing was predicted.
    #[must_use]
    pub fn precision(&self) -> Option<f64> {
        ratio(self.true_positive as f64, self.predicted_area() as f64)
    }

    /// Share of the tumour pixels that were predicted; `None` when there is no tumour.
    #[must_use]
    pub fn recall(&self) -> Option<f64> {
        ratio(self.true_positive as f64, self.true_area() as f64)
    }
}

fn ratio(numerator: f64, denominator: f64) -> Option<f64> {
    (denominator > 0.0).then(|| numerator / denominator)
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            true_positive: self.true_positive + other.true_positive,
            false_positive: self.false_positive + other.false_positive,
            false_negative: self.false_negative + other.false_negative,
            true_negative: self.true_negative + other.true_negative,
        }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), Add::add)
    }
}

impl<'a> Sum<&'a Self> for Counts {
    fn sum<I: Iterator<Item = &'a Self>>(counts: I) -> Self {
        counts.copied().sum()
    }
}
