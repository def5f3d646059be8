//! Why an event, or a request, was not handled.

use glioseg_shared::cloud::events::{EventError, Failed, Retryable};
use glioseg_shared::cloud::keys::StudyId;
use glioseg_shared::cloud::{ObjectKey, StorageError};
use glioseg_shared::study::labelled::NotEnrolled;
use glioseg_shared::study::{DocumentError, PreparedError};

use crate::bus::BusError;

/// Why an event, or a request, was not handled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScoreError {
    /// The payload is of no form that is known here.
    #[error(transparent)]
    Event(#[from] EventError),
    /// Some objects of an event were not handled.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// A bucket did not do as told.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The event bus did not take an event.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// An event is about a bucket that this function has nothing to do with.
    #[error("events of the bucket {bucket:?} do not belong here: RESULTS_BUCKET is {expected:?}")]
    OtherBucket {
        /// The bucket.
        bucket: String,
        /// The one whose events are expected.
        expected: String,
    },
    /// A stored document cannot be read.
    #[error("{key}: {source}")]
    Document {
        /// The document's key.
        key: ObjectKey,
        /// What is wrong with it.
        source: DocumentError,
    },
    /// A prepared slice cannot be read.
    #[error("{key}: {source}")]
    Prepared {
        /// Its key.
        key: ObjectKey,
        /// What is wrong with it.
        source: PreparedError,
    },
    /// A patient's slices cannot be collected for training.
    #[error(transparent)]
    NotEnrolled(#[from] NotEnrolled),
    /// The manifest of the labelled data set would be too long to be read again, and was left as it is.
    #[error(
        "the manifest of the labelled data set has room for nobody else: it would have {bytes} bytes, at most \
         {allowed} are read; start another data set with a stack of its own"
    )]
    ManifestFull {
        /// The size that it would have.
        bytes: u64,
        /// The largest that is read.
        allowed: u64,
    },
    /// The store lists an object, and does not show it.
    #[error("{key} cannot be read yet, though it is listed")]
    NotShown {
        /// The object.
        key: ObjectKey,
    },
    /// A mask was written and its report, which tells the spacing, was not yet.
    #[error("{report} is not yet as new as the mask")]
    NoReportYet {
        /// The key of the report.
        report: ObjectKey,
    },
    /// An object was written again and again while something was derived from it.
    #[error("{key} was written by others {turns} times meanwhile")]
    Restless {
        /// The object that could not be written.
        key: ObjectKey,
        /// How often it was tried.
        turns: usize,
    },
    /// A study has more objects than are looked at.
    #[error("the study {study} has more than {allowed} objects under {prefix}")]
    TooManyObjects {
        /// The study.
        study: StudyId,
        /// Where they are.
        prefix: String,
        /// The bound.
        allowed: usize,
    },
}

impl ScoreError {
    /// Whether the very same work may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Event(error) => error.is_retryable(),
            Self::Failed(failed) => failed.is_retryable(),
            Self::Storage(error) => error.is_retryable(),
            Self::Bus(error) => error.is_retryable(),
            Self::NotShown { .. } | Self::NoReportYet { .. } | Self::Restless { .. } => true,
            Self::OtherBucket { .. }
            | Self::Document { .. }
            | Self::Prepared { .. }
            | Self::NotEnrolled(_)
            | Self::ManifestFull { .. }
            | Self::TooManyObjects { .. } => false,
        }
    }
}

impl Retryable for ScoreError {
    fn is_retryable(&self) -> bool {
        self.is_retryable()
    }
}
