//! What can be wrong with a model file, its contract, or a run of it.

use super::confidence::MaskSizeMismatch;
use crate::imaging::ImagingError;

/// Why the contract of a model was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContractError {
    /// The model file says nothing of itself.
    #[error("the model has no contract: its metadata lacks `{key}`", key = super::contract::METADATA_KEY)]
    Absent,
    /// The model file holds several contracts; readers would differ on which one counts.
    #[error("the model has {count} entries `{key}` in its metadata", key = super::contract::METADATA_KEY)]
    Ambiguous {
        /// Entries found.
        count: usize,
    },
    /// The text is larger than any contract.
    #[error("the contract has {bytes} bytes, at most {limit} are read")]
    TooLong {
        /// Length of the text.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The contract does not say which version it is written in.
    #[error("the contract lacks `contract_version`")]
    NoVersion,
    /// The contract is written in a version that this code does not know.
    #[error("contract version {found} is unknown: this code reads version {known}")]
    UnknownVersion {
        /// Version in the file.
        found: u64,
        /// Version that is read here.
        known: u32,
    },
    /// A field is missing, unknown, or of the wrong type; or the text is no JSON.
    #[error("the contract is malformed: {reason}")]
    Malformed {
        /// Which field, and where.
        reason: String,
    },
    /// A field holds a value outside its range.
    #[error("the contract's `{field}` is {value}, expected {expected}")]
    OutOfRange {
        /// Path of the field.
        field: &'static str,
        /// Value found.
        value: String,
        /// Values allowed.
        expected: String,
    },
}

/// Why a model was refused, or a run of it failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file is larger than any model; nothing of it was read.
    #[error("the model file has {bytes} bytes, at most {limit} are read")]
    TooLarge {
        /// Length of the file.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The bytes are no ONNX file, or one that was cut off.
    #[error("not an ONNX file, or a damaged one: {reason}")]
    NotOnnx {
        /// What the decoder said.
        reason: String,
    },
    /// The file is ONNX, but holds something that is not run here.
    #[error("the model cannot be run: {reason}")]
    Unsupported {
        /// What was found, and where.
        reason: String,
    },
    /// An input or output has another name, type or shape than every model of this project has.
    #[error("the model's {what} is {found}, expected {expected}")]
    Interface {
        /// Which part of the interface.
        what: &'static str,
        /// What the file declares.
        found: String,
        /// What is required.
        expected: String,
    },
    /// The contract was refused.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// A model of whole volumes was given a single slice.
    #[error("model {model_version} works on whole volumes and is refused for a single slice")]
    NeedsVolume {
        /// The model's version.
        model_version: String,
    },
    /// The input of a run has another length than the network's input.
    #[error("{actual} input values were given, the network takes {expected}")]
    InputLength {
        /// Values given.
        actual: usize,
        /// Values of `[1, 3, height, width]`.
        expected: usize,
    },
    /// The slices of a study together have more pixels than are segmented in one call.
    #[error("the study has {pixels} pixels, at most {limit} are segmented at once")]
    StudyTooLarge {
        /// Pixels of all slices.
        pixels: u64,
        /// What is allowed.
        limit: u64,
    },
    /// A volume whose slices differ in size.
    #[error("slice {index} has {actual:?} pixels (columns, rows), but the first one {first:?}")]
    UnequalSlices {
        /// Position in the study, from 0.
        index: usize,
        /// Columns and rows of the slice.
        actual: (usize, usize),
        /// Columns and rows of the first slice.
        first: (usize, usize),
    },
    /// The network gave NaN or infinity for an input of finite values.
    #[error("the network's output holds {count} values that are not finite")]
    NotFinite {
        /// Number of such values.
        count: usize,
    },
    /// The run itself failed.
    #[error("the network failed: {reason}")]
    Run {
        /// What the runtime said.
        reason: String,
    },
    /// The result does not make an image.
    #[error(transparent)]
    Imaging(#[from] ImagingError),
    /// A mask is not as large as the probabilities behind it.
    #[error(transparent)]
    MaskSize(#[from] MaskSizeMismatch),
}

impl ModelError {
    /// Whether the same call could succeed later: never, since a model and its input decide the
    /// outcome alone.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}
