//! What a model file promises, and keeping the promise.
//!
//! [`contract`] is what the file says of itself; [`preprocess`], [`network`] and [`postprocess`]
//! are the three steps from pixels to a mask, and [`segmenter`] is the three in a row.

pub mod contract;
mod error;
pub mod network;
mod onnx;
pub mod postprocess;
pub mod preprocess;
pub mod segmenter;

pub use contract::Contract;
pub use error::{ContractError, ModelError};
pub use network::Network;
pub use onnx::{INPUT, MAX_FILE_BYTES, OUTPUT};
pub use segmenter::{Segmentation, Segmenter, StepTimes};
