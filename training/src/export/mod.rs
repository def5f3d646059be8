//! Trained networks as ONNX files that name, describe and prove themselves.
//!
//! [`onnx`] writes a network with its contract; [`verify`] compares the file, as the inference engine runs it, with the
//! network that was trained. Equal weights give equal bytes, and the model version is a digest of them.

mod encode;
mod fold;
mod half;
mod verify;

use glioseg_shared::digest::sha256_hex;
use glioseg_shared::model::contract::{Contract, METADATA_KEY};
use glioseg_shared::model::{ContractError, ModelError};
use prost::Message;
use tract_onnx::pb::{ModelProto, OperatorSetIdProto, StringStringEntryProto};

pub use half::rounded;
pub use verify::{TOLERANCE, verify};

use crate::networks::graph::Parameter;
use crate::networks::{Graph, Weights, WeightsError};

/// Operator set of the default domain that the nodes are written in.
pub const OPSET: i64 = 17;
/// Version of the file format: the one that was current with [`OPSET`].
pub const IR_VERSION: i64 = 8;

/// Hexadecimal digits of the graph's digest in a model version.
const VERSION_DIGITS: usize = 12;

/// How the kernels of convolutions are stored; everything is computed in f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// As f32.
    Single,
    /// As the nearest numbers of half precision, which a `Cast` turns into f32 while the model is loaded; of weights
    /// that were [`rounded`] before, nothing is lost.
    Half,
}

/// Why a network cannot become an ONNX file, or why the file is not to be trusted.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The weights are not those of the graph.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A kernel cannot be stored at half precision.
    #[error("`{0}` has values beyond the range of half precision: the network has diverged")]
    Overflow(String),
    /// The network halves its input more often than the size allows.
    #[error("the network takes sizes that are multiples of {divisor}, not {width}x{height}")]
    Size {
        /// Columns asked for.
        width: usize,
        /// Rows asked for.
        height: usize,
        /// [`Graph::divisor`].
        divisor: usize,
    },
    /// The graph does not lead from an image to logits.
    #[error(
        "the network leads from {input} channels to {output} at 1/{reduction} of the image's size, \
         not from 3 channels to one of full size"
    )]
    Interface {
        /// Channels of the first value.
        input: usize,
        /// Channels of the last value.
        output: usize,
        /// [`reduction`](crate::networks::graph::Node::reduction) of the last value.
        reduction: usize,
    },
    /// The contract cannot be written.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// The bytes are no ONNX file.
    #[error("not an ONNX file: {0}")]
    NotOnnx(#[from] prost::DecodeError),
    /// The inference engine refuses the file or fails to run it.
    #[error("the exported network does not run: {0}")]
    Run(#[from] ModelError),
    /// There is nothing to compare on.
    #[error("an export is verified on at least one input, none was given")]
    NoInputs,
    /// The network would use and change batch statistics instead of the remembered ones.
    #[error("an export is verified against a network that does not train: pass `network.valid()`")]
    Training,
    /// An input does not fill the network's grid.
    #[error("input {index} has {actual} values, the exported network takes {expected}")]
    InputLength {
        /// Position of the input.
        index: usize,
        /// Number of values it has.
        actual: usize,
        /// 3 * height * width of the file's input.
        expected: usize,
    },
    /// The file computes something else than the network.
    #[error(
        "the exported network deviates from the trained one by {deviation} on input {index}, at most {TOLERANCE} is \
         allowed"
    )]
    Deviates {
        /// Position of the input.
        index: usize,
        /// Largest difference of two logits, in proportion beyond 10; NaN when the network gave NaN.
        deviation: f32,
    },
}

/// The network as an ONNX file for inputs of the contract's size, with the contract in its metadata.
///
/// The contract's `model_version` is set to [`model_version`] with the given prefix. Dropout disappears and
/// batch normalisations fold into the convolutions before them. The same arguments give the same bytes.
///
/// # Errors
/// [`ExportError::Weights`], [`ExportError::Size`], [`ExportError::Interface`] and [`ExportError::Contract`].
pub fn onnx(
    graph: &Graph,
    weights: &Weights,
    precision: Precision,
    prefix: &str,
    mut contract: Contract,
) -> Result<Vec<u8>, ExportError> {
    let grid = contract.input.grid();
    let mut model = model(graph, weights, precision, grid.width, grid.height)?;
    contract.model_version = version(prefix, &model, &contract);
    set_contract(&mut model, &contract)?;
    Ok(model.encode_to_vec())
}

/// The network as an ONNX file without a contract, for inputs of any size that fits: to time or to inspect it.
///
/// # Errors
/// [`ExportError::Weights`], [`ExportError::Size`] and [`ExportError::Interface`].
pub fn bare_onnx(
    graph: &Graph,
    weights: &Weights,
    width: usize,
    height: usize,
) -> Result<Vec<u8>, ExportError> {
    Ok(model(graph, weights, Precision::Single, width, height)?.encode_to_vec())
}

/// The same file with this contract instead of the one it may have, as once its post-processing or scores are known.
///
/// The version becomes [`model_version`] with the given prefix.
///
/// # Errors
/// [`ExportError::NotOnnx`] and [`ExportError::Contract`].
pub fn with_contract(
    onnx: &[u8],
    prefix: &str,
    mut contract: Contract,
) -> Result<Vec<u8>, ExportError> {
    let mut model = ModelProto::decode(onnx)?;
    contract.model_version = version(prefix, &model, &contract);
    set_contract(&mut model, &contract)?;
    Ok(model.encode_to_vec())
}

/// `prefix-` and the first twelve hexadecimal digits of the SHA-256 of all that decides what a model answers.
///
/// That is the file's graph (operators, weights, input size) and, of its contract, unit, input, preprocessing and
/// post-processing. Scores, provenance and descriptions do not count: they change no mask.
///
/// # Errors
/// [`ExportError::NotOnnx`], and [`ExportError::Run`] for a file without a sound contract.
pub fn model_version(prefix: &str, onnx: &[u8]) -> Result<String, ExportError> {
    let contract = Contract::of_onnx(onnx)?;
    Ok(version(prefix, &ModelProto::decode(onnx)?, &contract))
}

fn version(prefix: &str, model: &ModelProto, contract: &Contract) -> String {
    let graph = model.graph.as_ref().map(Message::encode_to_vec);
    let Contract {
        unit,
        input,
        preprocessing,
        postprocessing,
        ..
    } = contract;
    let behaviour = serde_json::json!([unit, input, preprocessing, postprocessing]).to_string();
    let mut contents = graph.unwrap_or_default();
    contents.extend(behaviour.into_bytes());
    format!("{prefix}-{}", &sha256_hex(&contents)[..VERSION_DIGITS])
}

fn model(
    graph: &Graph,
    weights: &Weights,
    precision: Precision,
    width: usize,
    height: usize,
) -> Result<ModelProto, ExportError> {
    Ok(ModelProto {
        ir_version: IR_VERSION,
        opset_import: vec![OperatorSetIdProto {
            domain: String::new(),
            version: OPSET,
        }],
        producer_name: env!("CARGO_PKG_NAME").to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(encode::encode(graph, weights, precision, width, height)?),
        ..ModelProto::default()
    })
}

fn set_contract(model: &mut ModelProto, contract: &Contract) -> Result<(), ContractError> {
    let value = contract.to_json()?;
    let entries = &mut model.metadata_props;
    entries.retain(|entry| entry.key != METADATA_KEY);
    entries.push(StringStringEntryProto {
        key: METADATA_KEY.to_owned(),
        value,
    });
    Ok(())
}

/// The values of a parameter, checked for their number.
fn values<'a, const D: usize>(
    weights: &'a Weights,
    parameter: &Parameter<D>,
) -> Result<&'a [f32], WeightsError> {
    let values = weights
        .get(&parameter.name)
        .ok_or_else(|| WeightsError::Missing(parameter.name.clone()))?;
    let expected = parameter.shape.iter().product();
    if values.len() != expected {
        return Err(WeightsError::Length {
            name: parameter.name.clone(),
            expected,
            actual: values.len(),
        });
    }
    Ok(values)
}
