//! From trained weights to a model file: export, choice of post-processing, scores, proof.

use glioseg_shared::imaging::grid::Fit;
use glioseg_shared::model::contract::{
    CONTRACT_VERSION, Contract, Input, LABEL, NON_8_BIT_PERCENTILES, NOTICE, Normalization,
    Postprocessing, Preprocessing, Provenance, Score, Unit,
};
use glioseg_shared::model::preprocess;
use glioseg_shared::model::{ContractError, ModelError, Segmenter};
use glioseg_shared::scoring::SizeMismatch;

use crate::calibrate::choose_postprocessing;
use crate::data::cache::CachedPatient;
use crate::evaluate::{EvaluateError, evaluate};
use crate::export::{self, ExportError};
use crate::kernels::Kernels;
use crate::networks::{Network, Weights, WeightsError};
use crate::recipe::Recipe;

/// Slices of every validation patient on which the file must reproduce the network.
const PROOF_SLICES: usize = 2;

/// Licence of models trained on the LGG data, after the data's own.
pub const LICENCE: &str = "CC-BY-NC-SA-4.0";

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

/// The contract of a model that is yet to be trained: complete but for version, post-processing and scores.
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

/// The model file of trained weights: ONNX with its contract, made from a [`draft`].
///
/// The post-processing is chosen on `validation`, whose scores the contract names; the inference engine must reproduce
/// the network on real slices of every one of these patients, or there is no file.
///
/// # Errors
/// See [`PackageError`].
pub fn package<B: Kernels>(
    recipe: &Recipe,
    weights: &Weights,
    prefix: &str,
    mut contract: Contract,
    validation: &[&CachedPatient],
    device: &B::Device,
) -> Result<Vec<u8>, PackageError> {
    // Dropout is nothing once a network is trained.
    let graph = recipe.network.graph(0.0);
    let plain = export::onnx(&graph, weights, prefix, contract.clone())?;
    prove::<B>(
        &plain,
        Network::new(graph, weights.clone(), device)?,
        &contract,
        validation,
        device,
    )?;

    let segmenter = Segmenter::from_onnx(&plain)?;
    contract.postprocessing = choose_postprocessing(&segmenter, validation)?;
    let chosen = export::with_contract(&plain, prefix, contract)?;
    score(&chosen, prefix, "validation", validation)
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
