//! Scoring a model as it is served: every slice through the shared [`Segmenter`].
//!
//! Nothing here knows how a network is trained or run. What is scored is the ONNX file with the
//! preprocessing and post-processing of its contract, by the one definition of every figure in
//! [`glioseg_shared::scoring`].

pub mod certainty;
mod gallery;
pub mod studies;

use std::borrow::Borrow;

use glioseg_shared::imaging::Intensity;
use glioseg_shared::model::{
    MaskSizeMismatch, ModelError, Segmentation, Segmenter, soft_dice_confidence,
};
use glioseg_shared::scoring::{PatientScore, SizeMismatch, SliceScore, Summary};
use rayon::prelude::*;

use crate::data::{CachedPatient, DataError};

use certainty::{Certainty, SliceCertainty};

pub use gallery::{Exhibit, Gallery, MAX_FALSE_POSITIVES, MAX_PICTURE_SIDE, MAX_RANKED};

/// What a model is worth on a set of patients.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// The scores by patient and slice, in the order of the studies.
    pub patients: Vec<PatientScore>,
    /// The figures that are always reported together.
    pub summary: Summary,
    /// Number of slices that were not 8-bit and were mapped to 0..=255 from their own percentiles.
    pub rescaled_slices: usize,
    /// The slices worth looking at.
    pub gallery: Gallery,
    /// Whether the model knows what it does not know.
    pub certainty: Certainty,
}

/// Why a model could not be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EvaluateError {
    /// A patient could not be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The model file was refused.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model could not segment a patient's slices.
    #[error("patient {patient}: {source}")]
    Segment {
        /// Name of the patient.
        patient: String,
        /// What was wrong.
        source: ModelError,
    },
    /// A mask is not as large as its slice.
    #[error("patient {patient}, slice {slice}: {source}")]
    Size {
        /// Name of the patient.
        patient: String,
        /// Name of the slice.
        slice: String,
        /// The sizes.
        source: SizeMismatch,
    },
    /// The probabilities of a slice are not as many as the pixels of its predicted mask.
    #[error("patient {patient}, slice {slice}: {source}")]
    Probability {
        /// Name of the patient.
        patient: String,
        /// Name of the slice.
        slice: String,
        /// The sizes.
        source: MaskSizeMismatch,
    },
    /// A patient has not one name and one mask for each slice.
    #[error("patient {patient} has {names} names and {masks} masks for {slices} slices")]
    Uneven {
        /// Name of the patient.
        patient: String,
        /// Number of names.
        names: usize,
        /// Number of masks.
        masks: usize,
        /// Number of slices.
        slices: usize,
    },
    /// There is nobody to evaluate the model on.
    #[error("there are no patients to evaluate the model on")]
    NoPatients,
}

/// Segments and scores every slice of every study, over all cores.
///
/// One study at a time is held in memory. `progress` is called after each patient.
///
/// # Errors
/// [`EvaluateError`]: the first study that could not be read, segmented or scored, or that there
/// was none.
pub fn evaluate<P: Borrow<CachedPatient>>(
    segmenter: &Segmenter,
    studies: impl IntoIterator<Item = Result<P, DataError>>,
    progress: impl FnMut(&PatientScore),
) -> Result<Evaluation, EvaluateError> {
    let mut evaluator = Evaluator::default();
    evaluator.add(segmenter, studies, progress)?;
    evaluator.finish()
}

/// An evaluation under way: of one model, or of several that each take their own studies.
#[derive(Clone, Debug, Default)]
pub struct Evaluator {
    patients: Vec<PatientScore>,
    rescaled_slices: usize,
    gallery: Gallery,
    certainty: Certainty,
}

impl Evaluator {
    /// Segments and scores the studies with this model; see [`evaluate`].
    ///
    /// # Errors
    /// [`EvaluateError`]: the first study that could not be read, segmented or scored.
    pub fn add<P: Borrow<CachedPatient>>(
        &mut self,
        segmenter: &Segmenter,
        studies: impl IntoIterator<Item = Result<P, DataError>>,
        mut progress: impl FnMut(&PatientScore),
    ) -> Result<(), EvaluateError> {
        for study in studies {
            let study = study?;
            let score = self.score(segmenter, study.borrow())?;
            self.rescaled_slices += study
                .borrow()
                .slices
                .iter()
                .filter(|slice| slice.intensity() != Intensity::EightBit)
                .count();
            progress(&score);
            self.patients.push(score);
        }
        Ok(())
    }

    /// The figures of all studies together.
    ///
    /// # Errors
    /// [`EvaluateError::NoPatients`].
    pub fn finish(self) -> Result<Evaluation, EvaluateError> {
        if self.patients.is_empty() {
            return Err(EvaluateError::NoPatients);
        }
        Ok(Evaluation {
            summary: Summary::of(&self.patients),
            patients: self.patients,
            rescaled_slices: self.rescaled_slices,
            gallery: self.gallery,
            certainty: self.certainty,
        })
    }

    fn score(
        &mut self,
        segmenter: &Segmenter,
        study: &CachedPatient,
    ) -> Result<PatientScore, EvaluateError> {
        let segmentations = segmented(segmenter, study)?;
        let size = |slice: &str| {
            let (patient, slice) = (study.id.clone(), slice.to_owned());
            move |source| EvaluateError::Size {
                patient,
                slice,
                source,
            }
        };
        let slices = (&segmentations, &study.masks, &study.names)
            .into_par_iter()
            .map(|(segmentation, truth, name)| {
                SliceScore::of(name, &segmentation.mask, truth).map_err(size(name))
            })
            .collect::<Result<Vec<_>, _>>()?;
        for (index, score) in slices.iter().enumerate() {
            let (segmentation, truth) = (&segmentations[index], &study.masks[index]);
            self.gallery.offer(score, || {
                let slice = &study.slices[index];
                Exhibit::new(&study.id, score, slice, truth, segmentation)
            });
            let probability = &segmentation.probability;
            self.certainty
                .add_pixels(probability, truth)
                .map_err(size(&score.slice))?;
            self.certainty.slices.push(SliceCertainty {
                expected_dice: soft_dice_confidence(&segmentation.mask, probability).map_err(
                    |source| EvaluateError::Probability {
                        patient: study.id.clone(),
                        slice: score.slice.clone(),
                        source,
                    },
                )?,
                dice: score.counts.dice(),
                any_tumour: score.counts.true_area() + score.counts.predicted_area() > 0,
            });
        }
        Ok(PatientScore {
            patient: study.id.clone(),
            slices,
        })
    }
}

/// The volume Dice of an ONNX file on each study, 0..=1: what decides which of two models is the
/// better one on the same validation patients.
///
/// # Errors
/// As [`evaluate`], and [`EvaluateError::Model`] for a file that is refused.
pub fn volume_dice<P: Borrow<CachedPatient>>(
    onnx: &[u8],
    studies: impl IntoIterator<Item = Result<P, DataError>>,
) -> Result<Vec<f64>, EvaluateError> {
    let evaluation = evaluate(&Segmenter::from_onnx(onnx)?, studies, |_| ())?;
    Ok(evaluation.volume_dice().map(|(_, dice)| dice).collect())
}

impl Evaluation {
    /// The volume Dice of each patient, 0..=1.
    pub fn volume_dice(&self) -> impl Iterator<Item = (&str, f64)> {
        self.patients
            .iter()
            .map(|patient| (patient.patient.as_str(), patient.volume_dice()))
    }

    /// Every slice with the name of its patient.
    pub fn slices(&self) -> impl Iterator<Item = (&str, &SliceScore)> {
        self.patients.iter().flat_map(|patient| {
            let slices = patient.slices.iter();
            slices.map(|slice| (patient.patient.as_str(), slice))
        })
    }
}

/// The segmentations of all slices of a study.
fn segmented(
    segmenter: &Segmenter,
    study: &CachedPatient,
) -> Result<Vec<Segmentation>, EvaluateError> {
    let count = study.slices.len();
    if study.names.len() != count || study.masks.len() != count {
        return Err(EvaluateError::Uneven {
            patient: study.id.clone(),
            names: study.names.len(),
            masks: study.masks.len(),
            slices: count,
        });
    }
    segmenter
        .segment_study(&study.slices)
        .map_err(|source| EvaluateError::Segment {
            patient: study.id.clone(),
            source,
        })
}
