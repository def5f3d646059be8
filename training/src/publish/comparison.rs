//! Two models on the same validation patients.

use std::collections::HashMap;
use std::fmt;

use glioseg_shared::cloud::Storage;
use glioseg_shared::registry::{self, ModelFile};
use glioseg_shared::scoring::{Interval, bootstrap};

use super::PublishError;

/// What a [`Judge`] could not do.
pub type JudgeError = Box<dyn std::error::Error + Send + Sync>;

/// Scores models, all of them on the same validation patients.
///
/// Any `Fn(&[u8]) -> Result<Vec<f64>, JudgeError>` is one. It may take long, and blocks the thread that
/// polls [`publish`](super::publish()).
pub trait Judge: Sync {
    /// The volume Dice of an ONNX file on each validation patient, in 0..=1; the patients in the same
    /// order for every file.
    ///
    /// # Errors
    /// Whatever keeps the model from being scored.
    fn volume_dice(&self, onnx: &[u8]) -> Result<Vec<f64>, JudgeError>;
}

impl<F: Fn(&[u8]) -> Result<Vec<f64>, JudgeError> + Sync> Judge for F {
    fn volume_dice(&self, onnx: &[u8]) -> Result<Vec<f64>, JudgeError> {
        self(onnx)
    }
}

/// Two models on the same validation patients, by volume Dice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scores {
    /// Mean of the model to be published, in 0..=1.
    pub candidate: f64,
    /// Mean of the model that served, in 0..=1.
    pub serving: f64,
    /// Number of patients.
    pub patients: usize,
    /// 95 % interval of the mean difference, candidate minus serving: the paired bootstrap over patients.
    pub difference: Interval,
    /// By how much the candidate had to be better.
    pub margin: f64,
}

impl Scores {
    /// Compares two models patient by patient; `None` unless both have a score for each of the same number of patients,
    /// at least one.
    ///
    /// A patient who is hard for one model is hard for the other: the interval is that of the differences, each
    /// resample drawing both scores of a patient together ([`bootstrap`] over the differences).
    #[must_use]
    pub fn compare(candidate: &[f64], serving: &[f64], margin: f64) -> Option<Self> {
        if candidate.len() != serving.len() {
            return None;
        }
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let differences: Vec<f64> = candidate.iter().zip(serving).map(|(c, s)| c - s).collect();
        let difference = bootstrap(&differences, |drawn| {
            Some(drawn.iter().copied().sum::<f64>() / drawn.len() as f64)
        })?;
        Some(Self {
            candidate: mean(candidate),
            serving: mean(serving),
            patients: candidate.len(),
            difference,
            margin,
        })
    }

    /// Whether the candidate is good enough to serve; of equal models, at a margin of 0, the newer is.
    #[must_use]
    pub fn promote(&self) -> bool {
        self.candidate >= self.serving + self.margin
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Interval { low, high } = self.difference;
        write!(
            f,
            "validation volume Dice {:.4}, the serving model {:.4}; difference {:+.4}, 95 % interval {low:+.4} to {high:+.4} \
             by paired bootstrap over patients, n {}; margin {}",
            self.candidate,
            self.serving,
            self.candidate - self.serving,
            self.patients,
            self.margin
        )
    }
}

/// Scores by the SHA-256 of the model file: a lost race scores nothing twice.
#[derive(Default)]
pub(super) struct Scoring {
    by_sha256: HashMap<String, Vec<f64>>,
}

impl Scoring {
    pub(super) fn score(
        &mut self,
        judge: &dyn Judge,
        model: &ModelFile,
        onnx: &[u8],
    ) -> Result<Vec<f64>, PublishError> {
        if let Some(scores) = self.by_sha256.get(&model.onnx_sha256) {
            return Ok(scores.clone());
        }
        let failed = |source| PublishError::Judge {
            version: model.version.clone(),
            source,
        };
        let scores = judge.volume_dice(onnx).map_err(failed)?;
        if let Some(absurd) = scores.iter().find(|score| !(0.0..=1.0).contains(*score)) {
            return Err(failed(format!("{absurd} is no Dice coefficient").into()));
        }
        self.by_sha256
            .insert(model.onnx_sha256.clone(), scores.clone());
        Ok(scores)
    }

    pub(super) async fn score_stored(
        &mut self,
        judge: &dyn Judge,
        model: &ModelFile,
        storage: &impl Storage,
    ) -> Result<Vec<f64>, PublishError> {
        if let Some(scores) = self.by_sha256.get(&model.onnx_sha256) {
            return Ok(scores.clone());
        }
        let onnx = registry::fetch_model(storage, model).await?;
        self.score(judge, model, &onnx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_interval_is_that_of_paired_differences() {
        // Each patient gains 0.1: however patients differ among themselves, the difference is certain.
        let serving = [0.1, 0.5, 0.9];
        let candidate = serving.map(|dice| dice + 0.1);
        let scores = Scores::compare(&candidate, &serving, 0.0).unwrap();
        assert!((scores.difference.low - 0.1).abs() < 1e-9, "{scores}");
        assert!((scores.difference.high - 0.1).abs() < 1e-9, "{scores}");

        // One gains 0.6, one loses 0.2: all resamples of two draw means among 0.6, 0.2 and -0.2.
        let scores = Scores::compare(&[0.8, 0.3], &[0.2, 0.5], 0.0).unwrap();
        assert!((scores.difference.low + 0.2).abs() < 1e-9, "{scores}");
        assert!((scores.difference.high - 0.6).abs() < 1e-9, "{scores}");
        assert_eq!(scores.patients, 2);
    }

    #[test]
    fn the_margin_decides_and_ties_go_to_the_newer() {
        let promoted = |candidate: f64, serving: f64, margin: f64| {
            let scores = Scores::compare(&[candidate], &[serving], margin);
            scores.unwrap().promote()
        };
        assert!(promoted(0.5, 0.5, 0.0));
        assert!(promoted(0.75, 0.5, 0.25));
        assert!(!promoted(0.5, 0.75, 0.0));
        assert!(!promoted(0.625, 0.5, 0.25));
    }

    #[test]
    fn scores_of_other_patients_are_not_compared() {
        assert_eq!(Scores::compare(&[0.5], &[0.5, 0.6], 0.0), None);
        assert_eq!(Scores::compare(&[], &[], 0.0), None);
    }
}
