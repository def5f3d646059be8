//! What a model file promises, and keeping the promise.
//!
//! [`contract`] is what the file says of itself; [`preprocess`], [`network`] and [`postprocess`]
//! are the three steps from pixels to a mask, and [`segmenter`] is the three in a row; [`confidence`]
//! says how good the mask is likely to be.

pub mod confidence;
pub mod contract;
mod error;
mod mirror;
pub mod network;
mod onnx;
mod operators;
pub mod postprocess;
pub mod preprocess;
pub mod segmenter;

pub use confidence::{MaskSizeMismatch, soft_dice_confidence};
pub use contract::Contract;
pub use error::{ContractError, ModelError};
pub use network::Network;
pub use onnx::{INPUT, MAX_FILE_BYTES, OUTPUT};
pub use segmenter::{Segmentation, Segmenter, StepTimes};
