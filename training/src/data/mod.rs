//! The data set on disk, its split by patient, and its decoded cache.
//!
//! - [`dataset`]: which files belong to which patient.
//! - [`split`]: which patients train, validate and test.
//! - [`cache`]: every slice decoded once.

pub mod cache;
pub mod dataset;
mod error;
pub mod split;

pub use cache::{Cache, CachedPatient};
pub use dataset::{Dataset, Patient, SliceFiles};
pub use error::DataError;
pub use split::{Folds, PatientSummary, Split, SplitError};
