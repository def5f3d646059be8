//! From trained weights to a model file: export, choice of post-processing, scores, proof.

use glioseg_shared::imaging::grid::Fit;
use glioseg_shared::model::contract::{
    CONTRACT_VERSION, Contract, Input, LABEL, NON_8_BIT_PERCENTILES, NOTICE, Normalization,
    Postprocessing, Preprocessing, Provenance, Score, Unit,
};
use glioseg_shared::model::preprocess;
use glioseg_shared::model::{ContractError, ModelError, Segmenter};
use glioseg_shared::scoring::SizeMismatch;

use crate::calibrate::{Calibration, Decided, Observations};
use crate::data::cache::CachedPatient;
use crate::evaluate::{EvaluateError, evaluate};
use crate::export::{self, ExportError, Precision};
use crate::kernels::Kernels;
use crate::networks::{self, Graph, Network, Weights, WeightsError, mirrored};
use crate::recipe::{Architecture, Recipe};

/// Slices of every patient whom a file is proven on: on these it must reproduce the network.
const PROOF_SLICES: usize = 2;
/// Training patients whom it is proven on where nobody validates.
const PROOF_PATIENTS: usize = 10;

/// Licence of models trained on the LGG data, after the data's own.
pub const LICENCE: &str = "CC-BY-NC-SA-4.0";

/// What a contract adds to the network's name where it sees every slice and its mirror image.
const MIRRORED: &str = ", mirrored";

/// Models fill the holes of their masks: annotators draw outlines. By cross-validation over 82 patients it is worth 0.0014
/// of volume Dice (`benches/postprocessing.py`), in 48 of them, and costs 13 of them 0.003 at most.
pub(crate) const FILL_HOLES: bool = true;

/// Side of the models' grid, pixels: that of the data.
pub const GRID: u32 = 256;

/// Why no model file could be made.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The network could not be written, or the file does not reproduce it.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// The file could not be scored.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The model failed on a slice.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Nobody validates, and not everything is decided.
    #[error(
        "nobody is left to choose temperature, threshold and smallest component on: give all three, as cross-validation \
         has chosen them"
    )]
    Undecided,
    /// The weights do not fit the network.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A mask is not as large as its slice.
    #[error(transparent)]
    Size(#[from] SizeMismatch),
}

/// What slices become before they enter a network, in training and in the contract of its model alike.
#[must_use]
pub fn input(fit: Fit) -> (Input, Preprocessing) {
    let input = Input {
        channels: Input::CHANNELS.to_vec(),
        width: GRID,
        height: GRID,
        fit,
    };
    let preprocessing = Preprocessing {
        non_8_bit_percentiles: NON_8_BIT_PERCENTILES,
        normalization: Normalization::Unit,
    };
    (input, preprocessing)
}

/// A trained network as it is to serve, and what contracts call it: nothing drops any more, and where it is asked for it
/// sees each slice's mirror image too.
#[must_use]
pub fn serving(network: &Architecture, mirror: bool) -> (Graph, String) {
    let graph = network.graph(0.0);
    let graph = if mirror { mirrored(&graph) } else { graph };
    (graph, serving_name(&network.to_string(), mirror))
}

/// What contracts call [`serving`] networks.
#[must_use]
pub fn serving_name(networks: &str, mirror: bool) -> String {
    format!("{networks}{}", if mirror { MIRRORED } else { "" })
}

/// The contract of a model that is yet to be trained: complete but for version, post-processing, scores, and what of the
/// network is to serve.
///
/// # Errors
/// What a contract cannot hold, such as an empty name: better known before training than after.
pub fn draft(
    recipe: &Recipe,
    prefix: &str,
    provenance: Provenance,
) -> Result<Contract, ContractError> {
    let (input, preprocessing) = input(recipe.fit);
    let contract = Contract {
        contract_version: CONTRACT_VERSION,
        model_version: format!("{prefix}-draft"),
        network: recipe.network.to_string(),
        label: LABEL.to_owned(),
        unit: Unit::Slice,
        input,
        preprocessing,
        postprocessing: Postprocessing {
            threshold: 0.5,
            fill_holes: FILL_HOLES,
            seed_probability: None,
            minimum_component_pixels: 1,
            keep_largest: false,
        },
        provenance,
        scores: Vec::new(),
        licence: LICENCE.to_owned(),
        notice: NOTICE.to_owned(),
    };
    contract.validate()?;
    Ok(contract)
}

/// A model file and its calibration, of which the file shows only the post-processing.
#[derive(Clone, Debug, PartialEq)]
pub struct Packaged {
    /// The file.
    pub onnx: Vec<u8>,
    /// What its logits are divided by, and what becomes of its probabilities.
    pub calibration: Calibration,
}

/// The model file of a trained network: ONNX with its contract, made from a [`draft`].
///
/// Kernels are rounded to half precision first, and everything after is of the network with these. Temperature and what
/// is not decided of the post-processing are chosen on `validation`, whose scores the contract names; the inference
/// engine must reproduce the network on real slices of every one of these patients, or there is no file. Where nobody
/// validates everything has to be decided, the contract names no scores, and the slices are of patients of `training`.
///
/// # Errors
/// See [`PackageError`].
pub fn package<B: Kernels>(
    (graph, weights): (&Graph, &Weights),
    prefix: &str,
    contract: Contract,
    decided: Decided,
    training: &[&CachedPatient],
    validation: &[&CachedPatient],
    device: &B::Device,
) -> Result<Packaged, PackageError> {
    let weights = export::rounded(graph, weights)?;
    let network = (graph, &weights);
    if validation.is_empty() {
        let calibration = decided.complete().ok_or(PackageError::Undecided)?;
        let some = &training[..training.len().min(PROOF_PATIENTS)];
        let onnx = calibrated::<B>(network, prefix, contract, calibration, some, device)?;
        return Ok(Packaged { onnx, calibration });
    }
    let calibration = match decided.complete() {
        Some(calibration) => calibration,
        None => {
            let segmenter = uncalibrated(network, contract.clone())?;
            let observations = Observations::of(&segmenter, validation)?;
            observations.calibration(decided)
        }
    };
    let onnx = calibrated::<B>(network, prefix, contract, calibration, validation, device)?;
    let onnx = score(&onnx, prefix, "validation", validation)?;
    Ok(Packaged { onnx, calibration })
}

/// A network as it leaves training, for a look at what it says.
///
/// # Errors
/// See [`PackageError`].
pub(crate) fn uncalibrated(
    (graph, weights): (&Graph, &Weights),
    contract: Contract,
) -> Result<Segmenter, PackageError> {
    let onnx = export::onnx(graph, weights, Precision::Half, "uncalibrated", contract)?;
    Ok(Segmenter::from_onnx(&onnx)?)
}

/// The file of a network whose kernels are [`rounded`](export::rounded), with its logits at the right temperature,
/// proven on slices of `studies`.
///
/// # Errors
/// See [`PackageError`].
pub(crate) fn calibrated<B: Kernels>(
    (graph, weights): (&Graph, &Weights),
    prefix: &str,
    mut contract: Contract,
    calibration: Calibration,
    studies: &[&CachedPatient],
    device: &B::Device,
) -> Result<Vec<u8>, PackageError> {
    contract.postprocessing = calibration.postprocessing;
    let graph = networks::scaled(graph.clone(), 1.0 / calibration.temperature);
    let onnx = export::onnx(&graph, weights, Precision::Half, prefix, contract.clone())?;
    let network = Network::new(graph, weights.clone(), device)?;
    prove::<B>(&onnx, network, &contract, studies, device)?;
    Ok(onnx)
}

/// The same file with the scores of one more part of the split in its contract.
///
/// # Errors
/// See [`PackageError`].
pub fn score(
    onnx: &[u8],
    prefix: &str,
    part: &str,
    studies: &[&CachedPatient],
) -> Result<Vec<u8>, PackageError> {
    let segmenter = Segmenter::from_onnx(onnx)?;
    let evaluation = evaluate(&segmenter, studies.iter().copied().map(Ok), |_| ())?;
    let mut contract = segmenter.contract().clone();
    contract.scores.retain(|score| score.split != part);
    contract.scores.push(Score {
        split: part.to_owned(),
        summary: evaluation.summary,
    });
    Ok(export::with_contract(onnx, prefix, contract)?)
}

fn prove<B: Kernels>(
    onnx: &[u8],
    network: Network<B>,
    contract: &Contract,
    studies: &[&CachedPatient],
    device: &B::Device,
) -> Result<(), ExportError> {
    let inputs: Vec<Vec<f32>> = studies
        .iter()
        .flat_map(|study| {
            let step = (study.slices.len() / PROOF_SLICES).max(1);
            study
                .slices
                .iter()
                .skip(step / 2)
                .step_by(step)
                .take(PROOF_SLICES)
        })
        .map(|slice| {
            let levels = preprocess::levels([slice], contract.preprocessing.normalization);
            preprocess::prepare(slice, &contract.input, &levels).values
        })
        .collect();
    export::verify(onnx, &network, device, inputs.iter().map(Vec::as_slice)).map(|_| ())
}
