//! Objects that arrive in the uploads bucket.

use std::time::Instant;

use glioseg_shared::cloud::events::{ObjectCreated, Retryable};
use glioseg_shared::cloud::keys::{self, Upload, UploadKind};
use glioseg_shared::cloud::telemetry::{KeyLog, Metrics};
use glioseg_shared::cloud::{ObjectKey, Stamp, Storage, StorageError};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::study::DocumentError;
use tokio::task::JoinError;

use crate::Preprocess;
use crate::refusal::Refusal;
use crate::reject::Aside;
use crate::settle::Task;

/// What became of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It could be read, and what was made from it is in the results bucket.
    Prepared {
        /// Slices in it.
        slices: usize,
        /// Truths in it.
        truths: usize,
        /// Whether it says something of the whole study.
        manifest: bool,
    },
    /// It can never be read, and that is said in the results bucket.
    Rejected,
    /// It was deleted before it was looked at.
    Gone,
    /// There is nothing to be made of it: it is the mark of an empty folder.
    Ignored,
}

/// Why an upload was not dealt with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// A store refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The event is for another function.
    #[error("the event is about bucket {bucket}, uploads lie in {expected}: check the trigger")]
    OtherBucket {
        /// The bucket of the event.
        bucket: String,
        /// The bucket of uploads.
        expected: String,
    },
    /// The store lists the upload, and does not show it.
    #[error("{key} cannot be read yet, though it is listed")]
    NotShown {
        /// The upload.
        key: String,
    },
    /// Upload or manifest changed faster than they could be dealt with.
    #[error(
        "the upload, or what is known of its study, changed {turns} times while it was dealt with"
    )]
    Unsettled {
        /// How often it was tried.
        turns: usize,
    },
    /// The checked copy of a manifest in the results bucket is none.
    #[error(
        "the checked copy of the study's manifest cannot be read: upload study.json again; {0}"
    )]
    CheckedCopy(#[from] DocumentError),
    /// Decoding ended without a result.
    #[error("decoding broke off: {0}")]
    BrokeOff(#[from] JoinError),
}

impl Retryable for ObjectError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_retryable(),
            Self::NotShown { .. } | Self::Unsettled { .. } => true,
            Self::OtherBucket { .. } | Self::CheckedCopy(_) | Self::BrokeOff(_) => false,
        }
    }
}

impl<S: Storage> Preprocess<S> {
    /// Deals with one object of the uploads bucket: prepares it, or sets it aside.
    ///
    /// An error means that nothing is decided: the event has to come again.
    ///
    /// # Errors
    /// [`ObjectError`], which says whether the same event may succeed later.
    pub async fn on_object(&self, object: &ObjectCreated) -> Result<Outcome, ObjectError> {
        if object.bucket != self.config.uploads_bucket {
            return Err(ObjectError::OtherBucket {
                bucket: object.bucket.clone(),
                expected: self.config.uploads_bucket.clone(),
            });
        }
        let started = Instant::now();
        let outcome = self.deal_with(object).await?;
        let metrics = Metrics::new(crate::FUNCTION).millis("UploadMilliseconds", started.elapsed());
        let key = KeyLog(&object.key);
        match outcome {
            Outcome::Prepared {
                slices,
                truths,
                manifest,
            } => {
                tracing::info!(%key, slices, truths, manifest, "prepared");
                metrics
                    .count("Slices", slices as u64)
                    .count("Truths", truths as u64)
                    .emit();
            }
            Outcome::Rejected => {
                tracing::warn!(%key, "set aside: it cannot be read");
                metrics.count("Rejected", 1).emit();
            }
            Outcome::Gone => {
                tracing::warn!(%key, "deleted before it was read");
                metrics.count("Gone", 1).emit();
            }
            Outcome::Ignored => tracing::debug!(%key, "the mark of a folder"),
        }
        Ok(outcome)
    }

    async fn deal_with(&self, object: &ObjectCreated) -> Result<Outcome, ObjectError> {
        // Consoles make such objects to show empty folders.
        if object.key.ends_with('/') {
            return Ok(Outcome::Ignored);
        }
        let (key, upload) = match identify(&object.key) {
            Ok(identified) => identified,
            Err(refused) => return self.set_aside(object, &refused.0, &refused.1).await,
        };
        let study = upload.study.clone();
        let may_tell_of_study = matches!(upload.kind, UploadKind::Study | UploadKind::Zip);
        let task = Task {
            key: key.clone(),
            upload,
            sequencer: object.sequencer.clone(),
            only_anew: false,
        };
        let outcome = self.settle(task).await?;
        // Whatever the upload is now: an attempt before this one may have stored a manifest and got no further.
        if may_tell_of_study && self.copy_state(&study).await?.is_some() {
            let anew = self.apply_manifest(&study, &key).await?;
            tracing::info!(key = %KeyLog(&object.key), anew, "applied to the study's uploads");
        }
        Ok(outcome)
    }

    /// Sets an upload aside for its key alone: it is not read, and no later one of this key will be.
    async fn set_aside(
        &self,
        object: &ObjectCreated,
        aside: &Aside,
        refusal: &Refusal,
    ) -> Result<Outcome, ObjectError> {
        let stamp = Stamp {
            input_sha256: sha256_hex(object.key.as_bytes()),
            sequencer: object.sequencer.clone(),
            ..Stamp::default()
        };
        aside.say(&self.results, refusal, None, &stamp).await?;
        Ok(Outcome::Rejected)
    }
}

/// What an upload is by its key, or why nothing can be made of it.
fn identify(text: &str) -> Result<(ObjectKey, Upload), Box<(Aside, Refusal)>> {
    let key = ObjectKey::parse(text).map_err(|error| {
        let refusal = Refusal::new(
            error.to_string(),
            "upload the file under a key without control characters, backslashes, and segments that are empty, `.` or \
             `..`",
        );
        Box::new((Aside::without_study(text), refusal))
    })?;
    match keys::classify(&key) {
        Ok(upload) if upload.kind == UploadKind::Unknown => Err(Box::new((
            Aside::of(&key, &upload.study, &upload.file),
            Refusal::of_name(&upload.file),
        ))),
        Ok(upload) => Ok((key, upload)),
        Err(error) => Err(Box::new((Aside::without_study(text), error.into()))),
    }
}
