//! Why training ends without a model.

use std::path::PathBuf;

use crate::checkpoint::CheckpointError;
use crate::networks::WeightsError;

/// Why training ended without a model.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// A checkpoint could not be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The metrics could not be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Metrics {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The log could not be written.
    #[error("the log cannot be written: {0}")]
    Log(std::io::Error),
    /// The folder holds a run of another recipe or on other data.
    #[error(
        "{}: a checkpoint of another run ({difference} differs); choose another place for this run's checkpoints (--out, \
         or a job's CheckpointConfig), or remove it",
        path.display()
    )]
    OtherRun {
        /// The checkpoint.
        path: PathBuf,
        /// `recipe` or `data`.
        difference: &'static str,
    },
    /// The checkpoint's weights do not fit the network.
    #[error("the checkpoint does not fit: {0}")]
    Weights(#[from] WeightsError),
    /// The optimiser's state could not be read or written.
    #[error("the optimiser's state: {0}")]
    Optimiser(#[from] burn::record::RecorderError),
    /// The loss or its gradients are no longer numbers.
    #[error("epoch {epoch}: training diverged at a loss of {loss}; lower --learning-rate")]
    Diverged {
        /// From 1.
        epoch: usize,
        /// The loss.
        loss: f64,
    },
    /// Nothing to train or to validate on.
    #[error("no slices in the {0} part of the split")]
    NoSlices(&'static str),
    /// The crop does not suit the network.
    #[error(
        "--crop {crop} must be a multiple of {divisor} and at most {most} for this network and grid"
    )]
    Crop {
        /// What was asked for.
        crop: usize,
        /// What the network divides by.
        divisor: usize,
        /// Side of the grid.
        most: usize,
    },
    /// It was asked to stop; what it did since the last whole epoch will be done again.
    #[error("stopped after {epochs} whole epochs")]
    Stopped {
        /// Epochs that the checkpoint holds.
        epochs: usize,
    },
}
