//! What is known of a whole study, and making its slices anew when that changes.

use futures_util::{StreamExt, TryStreamExt, stream};
use glioseg_shared::cloud::keys::{self, StudyId};
use glioseg_shared::cloud::{ETag, ObjectKey, Sequencer, Stamp, Storage, StorageError};
use glioseg_shared::study::{Document, StudyManifest};

use crate::event::{ObjectError, Outcome};
use crate::settle::Task;
use crate::{CONCURRENCY, Preprocess};

/// Uploads of a study that are listed at once.
const LISTED: usize = 1000;

/// The checked copy of a study's manifest in the results bucket.
#[derive(Clone, Debug)]
pub(crate) struct CheckedCopy {
    /// What it says.
    pub(crate) manifest: StudyManifest,
    /// Which one it is.
    pub(crate) state: CopyState,
}

/// What tells one checked copy from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopyState {
    /// Of the upload that it was made from.
    pub(crate) sequencer: Option<Sequencer>,
    etag: ETag,
}

impl CopyState {
    fn new(etag: ETag, stamp: Stamp) -> Self {
        Self {
            sequencer: stamp.sequencer,
            etag,
        }
    }
}

impl<S: Storage> Preprocess<S> {
    /// What is known of a study; `None` where nobody said anything.
    ///
    /// # Errors
    /// What the store meets, and [`ObjectError::CheckedCopy`] where somebody else wrote there.
    pub(crate) async fn checked_copy(
        &self,
        study: &StudyId,
    ) -> Result<Option<CheckedCopy>, ObjectError> {
        let key = keys::manifest(study);
        let object = match self.results.get(&key, StudyManifest::MAX_BYTES).await {
            Ok(object) => object,
            Err(error) if error.is_not_found() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let manifest = StudyManifest::from_json(&object.bytes)?;
        let stamp = Stamp::from_metadata(&object.metadata);
        Ok(Some(CheckedCopy {
            manifest,
            state: CopyState::new(object.etag, stamp),
        }))
    }

    /// Which checked copy of a study's manifest there is now.
    ///
    /// # Errors
    /// What the store meets.
    pub(crate) async fn copy_state(
        &self,
        study: &StudyId,
    ) -> Result<Option<CopyState>, StorageError> {
        match self.results.head(&keys::manifest(study)).await {
            Ok(head) => {
                let stamp = Stamp::from_metadata(&head.metadata);
                Ok(Some(CopyState::new(head.etag, stamp)))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes everything anew that was made from the uploads of a study before its manifest changed, but for the upload
    /// `said` that changed it.
    ///
    /// Uploads without results have an event of their own coming, and that will find the new manifest. One that is under
    /// way at this moment looks at the manifest again after it has written.
    ///
    /// Returns the number of uploads that something was made from.
    ///
    /// # Errors
    /// The first that an upload meets.
    pub(crate) async fn apply_manifest(
        &self,
        study: &StudyId,
        said: &ObjectKey,
    ) -> Result<usize, ObjectError> {
        let (mut anew, mut after) = (0, None);
        loop {
            let prefix = keys::uploads_prefix(study);
            let page = self.uploads.list(&prefix, after.as_ref(), LISTED).await?;
            let listed = page.entries.into_iter().map(|entry| entry.key);
            anew += self.make_anew(study, said, listed.collect()).await?;
            after = match page.next {
                Some(next) => Some(next),
                None => break,
            };
        }
        // A study's zip lies beside the study, its extension in any case.
        let zips = (0..8).filter_map(|cases| ObjectKey::parse(zip_name(study, cases)).ok());
        Ok(anew + self.make_anew(study, said, zips.collect()).await?)
    }

    async fn make_anew(
        &self,
        study: &StudyId,
        said: &ObjectKey,
        keys: Vec<ObjectKey>,
    ) -> Result<usize, ObjectError> {
        let tasks = keys.into_iter().filter_map(|key| {
            let upload = keys::classify(&key).ok()?;
            let task = Task {
                key,
                upload,
                sequencer: None,
                only_anew: true,
            };
            // Studies below this one have a manifest of their own.
            let concerned = task.upload.study == *study && task.takes_manifest();
            (concerned && task.key != *said).then_some(task)
        });
        stream::iter(tasks.collect::<Vec<_>>())
            .map(|task| self.settle(task))
            .buffer_unordered(CONCURRENCY)
            .try_fold(0, |anew, outcome| async move {
                let made = matches!(outcome, Outcome::Prepared { .. } | Outcome::Rejected);
                Ok(anew + usize::from(made))
            })
            .await
    }
}

/// Where the zip of a study may lie: the bits of `cases` say which letters of the extension are capital.
fn zip_name(study: &StudyId, cases: u8) -> String {
    let extension = [('z', 1), ('i', 2), ('p', 4)].map(|(letter, bit)| {
        if cases & bit == 0 {
            letter
        } else {
            letter.to_ascii_uppercase()
        }
    });
    format!("{study}.{}", String::from_iter(extension))
}
