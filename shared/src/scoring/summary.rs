//! The four figures that are always reported together, with their intervals.

use super::bootstrap::bootstrap;
use super::counts::{Counts, SizeMismatch};
use super::quantile::quantile;
use super::surface::{SurfaceDistances, surface_distances};
use crate::imaging::Mask;

/// Name of the definitions behind every figure of this module; a changed definition has a new name.
pub const PROTOCOL: &str = "glioseg-scoring-1";

/// What a prediction is worth on one slice.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct SliceScore {
    /// Name of the slice.
    pub slice: String,
    /// Pixels by prediction and truth: the areas, Dice, IoU, precision and recall come from these.
    pub counts: Counts,
    /// Distances between the outlines, in pixels or in the unit of the spacing; `None` when the
    /// prediction or the truth is empty.
    pub surface: Option<SurfaceDistances>,
}

impl SliceScore {
    /// Scores a predicted mask, with distances in pixels.
    ///
    /// # Errors
    /// [`SizeMismatch`] when the masks differ in width or height.
    pub fn of(
        slice: impl Into<String>,
        prediction: &Mask,
        truth: &Mask,
    ) -> Result<Self, SizeMismatch> {
        Ok(Self {
            slice: slice.into(),
            counts: Counts::of(prediction, truth)?,
            surface: surface_distances(prediction, truth, [1.0, 1.0]),
        })
    }
}

/// What the predictions are worth on all slices of one patient.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct PatientScore {
    /// Name of the patient.
    pub patient: String,
    /// The patient's slices.
    pub slices: Vec<SliceScore>,
}

impl PatientScore {
    /// The counts of the whole volume.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.slices.iter().map(|slice| slice.counts).sum()
    }

    /// Dice coefficient of the whole volume, 0..=1.
    #[must_use]
    pub fn volume_dice(&self) -> f64 {
        self.counts().dice()
    }
}

/// A figure with its 95 % bootstrap interval over patients.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Estimate {
    /// The figure.
    pub value: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
    /// Number of patients or slices that the figure is a mean (or median) of.
    pub n: usize,
}

/// The four figures of a set of patients; a figure that nothing was found for is `None`.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Summary {
    /// The definitions used: [`PROTOCOL`].
    pub protocol: String,
    /// Number of patients.
    pub patients: usize,
    /// Number of slices.
    pub slices: usize,
    /// Number of slices with tumour.
    pub tumour_slices: usize,
    /// Number of slices without tumour.
    pub empty_slices: usize,
    /// Mean over patients of the Dice coefficient of the whole volume.
    pub volume_dice_mean: Option<Estimate>,
    /// Median over patients of the Dice coefficient of the whole volume.
    pub volume_dice_median: Option<Estimate>,
    /// Mean of the Dice coefficient over slices with tumour.
    pub tumour_slice_dice: Option<Estimate>,
    /// Mean of the Dice coefficient over all slices; one without tumour scores 1 when nothing was
    /// predicted, else 0.
    pub all_slice_dice: Option<Estimate>,
    /// Share of the slices without tumour for which some was predicted.
    pub false_positive_rate: Option<Estimate>,
}

impl Summary {
    /// Summarises the scores of patients.
    ///
    /// Figures of slices are means over the slices of all patients together. Their intervals
    /// resample patients, not slices: the slices of a patient resemble each other.
    #[must_use]
    pub fn of(patients: &[PatientScore]) -> Self {
        let totals: Vec<Totals> = patients.iter().map(Totals::of).collect();
        let pooled = |part: fn(&Totals) -> Mean| {
            let pool = |totals: &[&Totals]| {
                totals
                    .iter()
                    .map(|t| part(t))
                    .fold(Mean::default(), Mean::and)
            };
            estimate(&totals, pool(&totals.iter().collect::<Vec<_>>()).n, |t| {
                pool(t).value()
            })
        };
        let count = |part: fn(&Totals) -> Mean| totals.iter().map(|t| part(t).n).sum();
        Self {
            protocol: PROTOCOL.to_owned(),
            patients: patients.len(),
            slices: count(|t| t.all_slices),
            tumour_slices: count(|t| t.tumour_slices),
            empty_slices: count(|t| t.false_positives),
            volume_dice_mean: estimate(&totals, totals.len(), mean_volume_dice),
            volume_dice_median: estimate(&totals, totals.len(), median_volume_dice),
            tumour_slice_dice: pooled(|t| t.tumour_slices),
            all_slice_dice: pooled(|t| t.all_slices),
            false_positive_rate: pooled(|t| t.false_positives),
        }
    }
}

/// A sum and the number of its terms.
#[derive(Clone, Copy, Default)]
struct Mean {
    sum: f64,
    n: usize,
}

impl Mean {
    fn push(&mut self, value: f64) {
        self.sum += value;
        self.n += 1;
    }

    fn and(self, other: Self) -> Self {
        Self {
            sum: self.sum + other.sum,
            n: self.n + other.n,
        }
    }

    fn value(self) -> Option<f64> {
        (self.n > 0).then(|| self.sum / self.n as f64)
    }
}

/// What a patient adds to each figure, so that a resample need not visit slices.
struct Totals {
    volume_dice: f64,
    tumour_slices: Mean,
    all_slices: Mean,
    /// Over slices without tumour, 1 where some was predicted.
    false_positives: Mean,
}

impl Totals {
    fn of(patient: &PatientScore) -> Self {
        let mut totals = Self {
            volume_dice: patient.volume_dice(),
            tumour_slices: Mean::default(),
            all_slices: Mean::default(),
            false_positives: Mean::default(),
        };
        for SliceScore { counts, .. } in &patient.slices {
            let dice = counts.dice();
            totals.all_slices.push(dice);
            if counts.true_area() > 0 {
                totals.tumour_slices.push(dice);
            } else {
                totals
                    .false_positives
                    .push(f64::from(u8::from(counts.predicted_area() > 0)));
            }
        }
        totals
    }
}

fn mean_volume_dice(patients: &[&Totals]) -> Option<f64> {
    let sum: f64 = patients.iter().map(|patient| patient.volume_dice).sum();
    (!patients.is_empty()).then(|| sum / patients.len() as f64)
}

fn median_volume_dice(patients: &[&Totals]) -> Option<f64> {
    let mut dice: Vec<f64> = patients.iter().map(|patient| patient.volume_dice).collect();
    dice.sort_unstable_by(f64::total_cmp);
    quantile(&dice, 0.5)
}

fn estimate(
    totals: &[Totals],
    n: usize,
    statistic: impl Fn(&[&Totals]) -> Option<f64>,
) -> Option<Estimate> {
    let value = statistic(&totals.iter().collect::<Vec<_>>())?;
    let interval = bootstrap(totals, statistic)?;
    Some(Estimate {
        value,
        low: interval.low,
        high: interval.high,
        n,
    })
}
