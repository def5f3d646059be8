//! Removing a study with all that was derived from it.

use futures_util::{StreamExt, stream};
use glioseg_shared::cloud::keys::{self, ResultKind, StudyId};
use glioseg_shared::cloud::{ObjectKey, Storage, StorageError};
use glioseg_shared::model::contract::NOTICE;
use serde::{Deserialize, Serialize};

use crate::listing::{Walk, is_own_result};

/// Most objects that one request deletes: an HTTP API waits 30 seconds at most.
const MAX_DELETIONS: usize = 5000;

/// How often the buckets are looked through before the rest is left to another request.
const MAX_PASSES: usize = 4;

/// How many objects are deleted at a time.
const CONCURRENCY: usize = 32;

/// Most objects that are named among those that could not be deleted.
const MAX_NAMED: usize = 100;

/// The results in the order in which they are derived from each other. What is derived while a study is deleted is
/// thus derived from something that is gone already, and its maker can tell.
const KINDS: [ResultKind; 10] = [
    ResultKind::Manifest,
    ResultKind::Prepared,
    ResultKind::Truth,
    ResultKind::Mask,
    ResultKind::Overlay,
    ResultKind::Probability,
    ResultKind::Report,
    ResultKind::Score,
    ResultKind::Rejected,
    ResultKind::Completed,
];

/// The answer to `DELETE /studies/{study}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deletion {
    schema: Schema,
    /// The study.
    pub study: StudyId,
    /// Whether nothing of it was left at the end; if not, the same request goes on.
    pub complete: bool,
    /// Number of uploads deleted.
    pub deleted_uploads: usize,
    /// Number of results deleted.
    pub deleted_results: usize,
    /// What could not be deleted, the first 100 of it.
    pub not_deleted: Vec<NotDeleted>,
    /// Limits of use.
    pub notice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Schema {
    #[serde(rename = "glioseg-deletion-1")]
    V1,
}

/// An object that could not be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NotDeleted {
    /// `uploads` or `results`.
    pub bucket: String,
    /// Its key.
    pub key: String,
    /// What the store said.
    pub reason: String,
}

/// Deletes a study's uploads, then its results; those of the studies below it stay.
///
/// # Errors
///
/// What the stores meet when they are listed. A study that there is nothing of is no error.
pub(crate) async fn delete<S: Storage>(
    uploads: &S,
    results: &S,
    study: &StudyId,
) -> Result<Deletion, StorageError> {
    let mut deletion = Deletion {
        schema: Schema::V1,
        study: study.clone(),
        complete: false,
        deleted_uploads: 0,
        deleted_results: 0,
        not_deleted: Vec::new(),
        notice: NOTICE.to_owned(),
    };
    // Events under way may still write results of uploads that they have read: only a pass that finds nothing says that
    // nothing is left.
    for _ in 0..MAX_PASSES {
        deletion.not_deleted.clear();
        let mut sweep = Sweep {
            found: 0,
            budget: MAX_DELETIONS
                .saturating_sub(deletion.deleted_uploads + deletion.deleted_results),
            not_deleted: &mut deletion.not_deleted,
        };
        for prefix in [keys::uploads_prefix(study), format!("{study}.")] {
            deletion.deleted_uploads += sweep
                .run(uploads, "uploads", prefix, |key| is_own_upload(study, key))
                .await?;
        }
        for kind in KINDS {
            let prefix = keys::results_prefix(kind, study);
            let own = |key: &ObjectKey| is_own_result(kind, study, key);
            deletion.deleted_results += sweep.run(results, "results", prefix, own).await?;
        }
        let (found, exhausted) = (sweep.found, sweep.budget == 0);
        deletion.complete = found == 0;
        if found == 0 || exhausted || found == deletion.not_deleted.len() {
            break;
        }
    }
    deletion.not_deleted.truncate(MAX_NAMED);
    Ok(deletion)
}

/// One pass through both buckets.
struct Sweep<'a> {
    found: usize,
    budget: usize,
    not_deleted: &'a mut Vec<NotDeleted>,
}

impl Sweep<'_> {
    /// Deletes what is the study's under a prefix, and returns how much.
    async fn run<S: Storage>(
        &mut self,
        storage: &S,
        bucket: &str,
        prefix: String,
        own: impl Fn(&ObjectKey) -> bool,
    ) -> Result<usize, StorageError> {
        let mut walk = Walk::new(storage, prefix, |key: &ObjectKey| {
            own(key).then(|| key.clone())
        });
        let mut deleted = 0;
        while self.budget > 0
            && let Some(mut keys) = walk.next().await?
        {
            self.found += keys.len();
            keys.truncate(self.budget);
            self.budget -= keys.len();
            let mut deletions = stream::iter(keys)
                .map(|key| async move { (storage.delete(&key).await, key) })
                .buffer_unordered(CONCURRENCY);
            while let Some((result, key)) = deletions.next().await {
                match result {
                    Ok(()) => deleted += 1,
                    Err(error) => self.not_deleted.push(NotDeleted {
                        bucket: bucket.to_owned(),
                        key: key.to_string(),
                        reason: error.to_string(),
                    }),
                }
            }
        }
        Ok(deleted)
    }
}

/// Whether an upload is of this very study; what cannot be classified is, if it lies directly below its name.
fn is_own_upload(study: &StudyId, key: &ObjectKey) -> bool {
    match keys::classify(key) {
        Ok(upload) => upload.study == *study,
        Err(_) => key
            .as_str()
            .strip_prefix(&keys::uploads_prefix(study))
            .is_some_and(|file| !file.contains('/')),
    }
}
