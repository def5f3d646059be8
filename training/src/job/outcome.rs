//! How a job ends: its exit code, and the file that tells the reason of a failure.

use std::io::{self, Write};
use std::path::Path;

use crate::checkpoint::CheckpointError;
use crate::data::{DataError, SplitError};
use crate::device::NoSuchDevice;
use crate::evaluate::EvaluateError;
use crate::files::write_atomically;
use crate::fit::FitError;
use crate::publish::PublishError;
use crate::report::ReportError;
use crate::run::RunError;
use glioseg_shared::cloud::InvalidLocation;
use glioseg_shared::cloud::keys::InvalidName;
use glioseg_shared::model::{ContractError, ModelError};
use glioseg_shared::registry::RegistryError;
use glioseg_shared::study::DocumentError;

use super::container::ContainerError;
use super::hyperparameters::HyperParameterError;

/// Exit code of a job that failed: the same job would fail again.
pub const FAILED: u8 = 1;
/// Exit code of a job that failed for now (sysexits' `EX_TEMPFAIL`): the same job may succeed later.
pub const FAILED_FOR_NOW: u8 = 75;
/// Exit code of a job that was told to stop (128 + SIGTERM): the same job goes on from its checkpoint.
pub const STOPPED: u8 = 143;

/// Most characters of the failure file that SageMaker shows.
const MAX_FAILURE_CHARACTERS: usize = 1024;

/// Why a job ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// It was told to stop.
    #[error(
        "stopped as told; the checkpoint of the last whole epoch is kept, and the same job goes on from there"
    )]
    Stopped,
    /// The container's tree or its configuration cannot be used.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// Hyper-parameters cannot be meant.
    #[error(transparent)]
    HyperParameters(#[from] HyperParameterError),
    /// The device is not there.
    #[error(transparent)]
    Device(#[from] NoSuchDevice),
    /// The data were refused.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The split was refused.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// The manifest of the labelled data set was refused.
    #[error("{path}: {source}")]
    Manifest {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// Nothing says which patients train and which validate.
    #[error(
        "no split: add a channel `split` with split.json, or put split.json or manifest.json into the channel `training`"
    )]
    NoSplit,
    /// The model cannot be described.
    #[error(transparent)]
    Contract(#[from] ContractError),
    /// Training ended without a model.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The model could not be evaluated.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The model's file was refused.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The model's version cannot be part of a key.
    #[error(transparent)]
    Version(#[from] InvalidName),
    /// The evaluation could not be written.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// A file could not be written; nothing is left under its name.
    #[error("{path}: cannot be written: {source}")]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// What `MODELS_URI` says is no place for models.
    #[error("MODELS_URI: {0}")]
    Location(#[from] InvalidLocation),
    /// Where models are published to cannot be used.
    #[error("{location}: {source}")]
    Store {
        /// What `MODELS_URI` says.
        location: String,
        /// What is wrong.
        source: RegistryError,
    },
    /// The model could not be published; it lies in the container's model folder.
    #[error("{location}: the model was not published: {source}")]
    Publish {
        /// What `MODELS_URI` says.
        location: String,
        /// What is wrong.
        source: PublishError,
    },
    /// The log or the system's means could not be used.
    #[error("the log or the runtime failed: {0}")]
    System(#[from] io::Error),
    /// The program itself broke off.
    #[error("internal error: {0}")]
    Panicked(String),
}

impl From<FitError> for JobError {
    fn from(error: FitError) -> Self {
        RunError::from(error).into()
    }
}

impl JobError {
    /// Whether the very same job may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Stopped => true,
            Self::Store { source, .. } => source.is_retryable(),
            Self::Publish { source, .. } => source.is_retryable(),
            _ => false,
        }
    }

    /// The exit code that tells of it.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            error if error.is_stop() => STOPPED,
            error if error.is_retryable() => FAILED_FOR_NOW,
            _ => FAILED,
        }
    }

    /// Whether it was told to stop, which is no failure.
    #[must_use]
    pub fn is_stop(&self) -> bool {
        matches!(
            self,
            Self::Stopped | Self::Run(RunError::Fit(FitError::Stopped { .. }))
        )
    }

    /// Whether a disk had no room left: to be told with what to do about it.
    fn is_full_disk(&self) -> bool {
        let source = match self {
            Self::Write { source, .. }
            | Self::Container(ContainerError::Make { source, .. })
            | Self::Split(SplitError::Write { source, .. })
            | Self::Report(ReportError::Write { source, .. })
            | Self::Run(RunError::Fit(
                FitError::Metrics { source, .. }
                | FitError::Checkpoint(CheckpointError::Write { source, .. }),
            )) => source,
            _ => return false,
        };
        matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::FileTooLarge | io::ErrorKind::QuotaExceeded
        )
    }
}

/// Writes the reason of a failure where SageMaker looks for it, at most 1024 characters.
///
/// # Errors
/// What the system said.
pub(super) fn write_failure(path: &Path, error: &JobError) -> io::Result<()> {
    let mut reason = error.to_string();
    if error.is_full_disk() {
        reason.push_str(" (a larger VolumeSizeInGB gives it room)");
    }
    let reason = shortened(&reason);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    write_atomically(path, |file| file.write_all(reason.as_bytes()))
}

/// The text, or as much of it as SageMaker shows, with its end cut off.
fn shortened(text: &str) -> String {
    if text.chars().count() <= MAX_FAILURE_CHARACTERS {
        return text.to_owned();
    }
    let kept = text.chars().take(MAX_FAILURE_CHARACTERS - 1);
    kept.chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use glioseg_shared::cloud::StorageError;

    use super::*;

    fn publish(source: StorageError) -> JobError {
        JobError::Publish {
            location: "s3://models".to_owned(),
            source: source.into(),
        }
    }

    #[test]
    fn codes_say_whether_the_same_job_may_succeed() {
        let key = || "models/v1/model.onnx".to_owned();
        let denied = publish(StorageError::Denied {
            operation: "write",
            key: key(),
            reason: "AccessDenied".to_owned(),
        });
        let unavailable = publish(StorageError::Unavailable {
            operation: "write",
            key: key(),
            reason: "SlowDown".to_owned(),
        });
        assert_eq!(denied.exit_code(), FAILED);
        assert_eq!(unavailable.exit_code(), FAILED_FOR_NOW);
        assert_eq!(JobError::NoSplit.exit_code(), FAILED);
        assert_eq!(JobError::Stopped.exit_code(), STOPPED);
        let stopped = JobError::from(FitError::Stopped { epochs: 3 });
        assert_eq!(stopped.exit_code(), STOPPED);
    }

    #[test]
    fn a_failure_file_has_what_sagemaker_shows_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("output/failure");
        write_failure(&path, &JobError::Panicked("ü".repeat(5000))).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.chars().count(), 1024);
        assert!(text.starts_with("internal error: ü") && text.ends_with('…'));

        let full = JobError::Write {
            path: "model.onnx".to_owned(),
            source: io::ErrorKind::StorageFull.into(),
        };
        write_failure(&path, &full).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains("VolumeSizeInGB"), "{text}");
    }
}
