//! Training, evaluation and publishing of glioseg's models. Research use only; not a medical device.

pub mod augment;
pub mod batches;
pub mod calibrate;
pub mod checkpoint;
pub mod cross_validation;
pub mod data;
pub mod device;
pub mod evaluate;
pub mod export;
mod files;
pub mod fit;
pub mod job;
pub mod kernels;
pub mod loss;
pub mod memory;
pub mod networks;
pub mod optimise;
pub mod package;
pub mod publish;
pub mod recipe;
pub mod report;
pub mod run;
pub mod settings;
pub mod submit;

pub use files::write_atomically;
