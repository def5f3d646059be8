//! Deleting what lies in some areas of both buckets while others may still write there.

use futures_util::{StreamExt, stream};
use glioseg_shared::cloud::{ObjectKey, Storage, StorageError};
use serde::Serialize;

use crate::listing::Walk;

/// Most objects that one request deletes: an HTTP API waits 30 seconds at most.
const MAX_DELETIONS: usize = 5000;

/// How often the buckets are looked through before the rest is left to another request.
const MAX_PASSES: usize = 4;

/// How many objects are deleted at a time.
const CONCURRENCY: usize = 32;

/// Most objects that are named among those that could not be deleted.
const MAX_NAMED: usize = 100;

/// An object that could not be deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NotDeleted {
    /// `uploads` or `results`.
    pub bucket: String,
    /// Its key, or what the keys of several begin with.
    pub key: String,
    /// What the store said, or why it was not asked.
    pub reason: String,
}

/// Some objects below a prefix of one of the buckets.
pub(crate) struct Area<'a> {
    bucket: Bucket,
    prefix: String,
    is_in: Box<dyn Fn(&ObjectKey) -> bool + Send + Sync + 'a>,
    is_whole: bool,
}

#[derive(Clone, Copy)]
enum Bucket {
    Uploads,
    Results,
}

impl Bucket {
    fn name(self) -> &'static str {
        match self {
            Self::Uploads => "uploads",
            Self::Results => "results",
        }
    }
}

impl<'a> Area<'a> {
    /// The uploads below a prefix of which `is_in` is true.
    pub(crate) fn uploads(
        prefix: String,
        is_in: impl Fn(&ObjectKey) -> bool + Send + Sync + 'a,
    ) -> Self {
        Self {
            bucket: Bucket::Uploads,
            prefix,
            is_in: Box::new(is_in),
            is_whole: false,
        }
    }

    /// The results below a prefix of which `is_in` is true.
    pub(crate) fn results(
        prefix: String,
        is_in: impl Fn(&ObjectKey) -> bool + Send + Sync + 'a,
    ) -> Self {
        Self {
            bucket: Bucket::Results,
            prefix,
            is_in: Box::new(is_in),
            is_whole: false,
        }
    }

    /// All uploads below a prefix, those included whose keys nothing here can name.
    pub(crate) fn all_uploads(prefix: String) -> Self {
        Self {
            is_whole: true,
            ..Self::uploads(prefix, |_| true)
        }
    }

    /// All results below a prefix, those included whose keys nothing here can name.
    pub(crate) fn all_results(prefix: String) -> Self {
        Self {
            is_whole: true,
            ..Self::results(prefix, |_| true)
        }
    }

    /// What to do about objects of a whole area that cannot be named.
    fn unnamed(&self, count: usize) -> NotDeleted {
        NotDeleted {
            bucket: self.bucket.name().to_owned(),
            key: self.prefix.clone(),
            reason: format!(
                "{count} objects below it have keys that are not taken here (an empty segment, `.` or `..`, a `/` at \
                 the end, a control character or backslash): delete them with `aws s3 rm --recursive`"
            ),
        }
    }
}

/// What was deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Swept {
    /// Whether nothing was left at the end; if not, the same request goes on.
    pub complete: bool,
    /// Number of uploads deleted.
    pub deleted_uploads: usize,
    /// Number of results deleted, slices collected for training among them.
    pub deleted_results: usize,
    /// What could not be deleted, the first 100 of it.
    pub not_deleted: Vec<NotDeleted>,
}

impl Swept {
    fn deleted(&mut self, bucket: Bucket) -> &mut usize {
        match bucket {
            Bucket::Uploads => &mut self.deleted_uploads,
            Bucket::Results => &mut self.deleted_results,
        }
    }

    fn budget(&self) -> usize {
        MAX_DELETIONS.saturating_sub(self.deleted_uploads + self.deleted_results)
    }
}

/// Deletes what lies in the areas, the one after the other, until nothing is left or it takes too long.
///
/// Areas go in the order in which their objects are derived from each other. What is derived meanwhile is thus derived
/// from something that is gone already, and its maker can tell.
///
/// # Errors
///
/// What the stores meet when they are listed.
pub(crate) async fn sweep<S: Storage>(
    uploads: &S,
    results: &S,
    areas: &[Area<'_>],
) -> Result<Swept, StorageError> {
    let mut swept = Swept::default();
    // Events under way may still write results of uploads that they have read: only a pass that finds nothing says that
    // nothing is left.
    for _ in 0..MAX_PASSES {
        swept.not_deleted.clear();
        let mut pass = Pass {
            found: 0,
            unnamed: Vec::new(),
            budget: swept.budget(),
            swept: &mut swept,
        };
        for area in areas {
            let storage = match area.bucket {
                Bucket::Uploads => uploads,
                Bucket::Results => results,
            };
            pass.clear(storage, area).await?;
        }
        let (found, exhausted) = (pass.found, pass.budget == 0);
        let unnamed = pass.unnamed;
        swept.complete = found == 0 && unnamed.is_empty();
        let is_last = found == 0 || exhausted || found == swept.not_deleted.len();
        // First, so that they are among those that are named.
        swept.not_deleted.splice(0..0, unnamed);
        if is_last {
            break;
        }
    }
    swept.not_deleted.truncate(MAX_NAMED);
    Ok(swept)
}

/// One pass through all areas.
struct Pass<'a> {
    found: usize,
    unnamed: Vec<NotDeleted>,
    budget: usize,
    swept: &'a mut Swept,
}

impl Pass<'_> {
    async fn clear<S: Storage>(
        &mut self,
        storage: &S,
        area: &Area<'_>,
    ) -> Result<(), StorageError> {
        let mut walk = Walk::new(storage, area.prefix.clone(), |key: &ObjectKey| {
            (area.is_in)(key).then(|| key.clone())
        });
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
                    Ok(()) => *self.swept.deleted(area.bucket) += 1,
                    Err(error) => self.swept.not_deleted.push(NotDeleted {
                        bucket: area.bucket.name().to_owned(),
                        key: key.to_string(),
                        reason: error.to_string(),
                    }),
                }
            }
        }
        if area.is_whole && walk.passed_over() > 0 {
            let unnamed = area.unnamed(walk.passed_over());
            // Two kinds of results share a prefix.
            if !self.unnamed.contains(&unnamed) {
                self.unnamed.push(unnamed);
            }
        }
        Ok(())
    }
}
