//! Masks in, figures out: one definition of every score, for training, evaluation and serving.
//!
//! With P the predicted and G the true set of tumour pixels, Dice is 2|P∩G| / (|P|+|G|). Four
//! figures are always reported together ([`Summary`]):
//!
//! 1. volume Dice: P and G over all slices of a patient; mean and median over patients;
//! 2. tumour-slice Dice: mean over the slices with tumour;
//! 3. all-slice Dice: mean over all slices, where an empty G scores 1 if P is empty, else 0;
//! 4. false-positive rate: share of the slices with empty G where P is not empty.
//!
//! Each stands with its n and a 95 % bootstrap interval over patients.
//!
//! How far a model's own probabilities can be trusted is another matter: [`Reliability`] compares them
//! with what is there, and [`spearman`] says whether a confidence orders slices as their scores do.

mod bootstrap;
pub mod calibration;
pub mod counts;
mod quantile;
mod rank;
pub mod summary;
pub mod surface;

pub use bootstrap::{Interval, RESAMPLES, bootstrap};
pub use calibration::{RELIABILITY_BINS, Reliability, ReliabilityBin};
pub use counts::{Counts, SizeMismatch};
pub use rank::spearman;
pub use summary::{Estimate, PROTOCOL, PatientScore, SliceScore, Summary};
pub use surface::{SurfaceDistances, surface_distances};
