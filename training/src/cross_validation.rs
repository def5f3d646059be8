//! Cross-validation: every patient is scored by the one network that has not seen it, and all of them become one model.
//!
//! What comes after a network (temperature, threshold, smallest component) is chosen for each fold on the patients of
//! the other folds, by the networks that have not seen those. Neither is an epoch to be chosen by the patients of a fold:
//! whoever calls gives the weights of the last one.

use glioseg_shared::model::contract::Score;
use glioseg_shared::model::{Contract, Segmenter};
use glioseg_shared::scoring::PatientScore;

use crate::calibrate::{Calibration, Decided, Observations};
use crate::data::CachedPatient;
use crate::evaluate::{Evaluation, Evaluator};
use crate::export;
use crate::kernels::Kernels;
use crate::networks::{Graph, Weights, ensemble};
use crate::package::{PackageError, calibrated, uncalibrated};

/// What the contract of an ensemble calls the scores of its members on the patients that each has not seen.
pub const CROSS_VALIDATION: &str = "cross-validation";

/// Patients of every fold on whose slices the engine must reproduce a model.
const PROOF_PATIENTS: usize = 2;

/// A network with the patients that it was not trained on.
#[derive(Clone, Debug)]
pub struct Fold<'a> {
    /// Operations.
    pub graph: Graph,
    /// Their weights.
    pub weights: Weights,
    /// The patients.
    pub patients: Vec<&'a CachedPatient>,
}

/// What cross-validation ends with.
#[derive(Clone, Debug)]
pub struct CrossValidated {
    /// Every patient, segmented by the network that has not seen it.
    pub evaluation: Evaluation,
    /// The ONNX file of all networks together: the mean of their logits. Its scores are those of the evaluation, which
    /// are of single members, not of the ensemble; so is its calibration, for want of patients that no member has seen.
    /// Where members disagree their mean is less sure than each of them.
    pub onnx: Vec<u8>,
    /// By the patients of all folds, each as the network sees it that has not learned from it: what a network of all
    /// folds is calibrated by, for want of patients.
    pub calibration: Calibration,
}

/// Scores the networks on their patients and makes one model of them and of those that join; `contract` is a draft for
/// that model.
///
/// Networks in `joining` have seen patients of several folds: they have a part in the model, and none in the scores.
/// `progress` is called once for every patient while the networks are calibrated (with `None`), and once when it is
/// scored.
///
/// # Errors
/// [`PackageError`]; without folds or patients, that there are no patients.
pub fn cross_validate<B: Kernels>(
    folds: &[Fold<'_>],
    joining: &[(Graph, Weights)],
    prefix: &str,
    contract: &Contract,
    device: &B::Device,
    mut progress: impl FnMut(Option<&PatientScore>),
) -> Result<CrossValidated, PackageError> {
    let mut members = Vec::with_capacity(folds.len());
    let mut observed = Vec::with_capacity(folds.len());
    for fold in folds {
        let weights = export::rounded(&fold.graph, &fold.weights)?;
        let segmenter = uncalibrated((&fold.graph, &weights), contract.clone())?;
        let mut observations = Observations::default();
        for &patient in &fold.patients {
            observations.merge(&Observations::of(&segmenter, &[patient])?);
            progress(None);
        }
        observed.push(observations);
        members.push((fold.graph.clone(), weights));
    }
    let others =
        |left_out| Observations::of_others(&observed, left_out).calibration(Decided::default());

    let mut evaluator = Evaluator::default();
    for (index, (fold, (graph, weights))) in folds.iter().zip(&members).enumerate() {
        let onnx = calibrated::<B>(
            (graph, weights),
            prefix,
            contract.clone(),
            others(Some(index)),
            proof(fold),
            device,
        )?;
        let segmenter = Segmenter::from_onnx(&onnx)?;
        let studies = fold.patients.iter().copied().map(Ok);
        evaluator.add(&segmenter, studies, |score| progress(Some(score)))?;
    }
    let evaluation = evaluator.finish()?;

    let mut contract = contract.clone();
    contract.scores = vec![Score {
        split: CROSS_VALIDATION.to_owned(),
        summary: evaluation.summary.clone(),
    }];
    for (graph, weights) in joining {
        members.push((graph.clone(), export::rounded(graph, weights)?));
    }
    let (graph, weights) = ensemble(&members);
    let calibration = others(None);
    let onnx = calibrated::<B>(
        (&graph, &weights),
        prefix,
        contract,
        calibration,
        &folds.iter().flat_map(proof).copied().collect::<Vec<_>>(),
        device,
    )?;
    Ok(CrossValidated {
        evaluation,
        onnx,
        calibration,
    })
}

fn proof<'a, 'b>(fold: &'b Fold<'a>) -> &'b [&'a CachedPatient] {
    &fold.patients[..fold.patients.len().min(PROOF_PATIENTS)]
}
