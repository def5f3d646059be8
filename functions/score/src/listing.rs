//! Listings of one study: its own objects, without those of the studies below it.

use futures_util::future::try_join_all;
use glioseg_shared::cloud::keys::{self, ResultKind, StudyId, Upload};
use glioseg_shared::cloud::{ObjectKey, Storage, StorageError};
use glioseg_shared::study::Inventory;

use crate::error::ScoreError;

/// Most entries that one page of a listing is asked for: S3's own bound.
const PAGE: usize = 1000;

/// Most objects of one kind that are taken in of a study: the most slices that one can be closed at.
const MAX_OBJECTS: usize = 10_000;

/// A walk through the keys under a prefix, page by page; only what `pick` takes of them is kept.
pub(crate) struct Walk<'a, S, F> {
    storage: &'a S,
    prefix: String,
    pick: F,
    passed_over: usize,
    after: Option<ObjectKey>,
    ended: bool,
}

impl<'a, S: Storage, T, F: Fn(&ObjectKey) -> Option<T>> Walk<'a, S, F> {
    pub(crate) fn new(storage: &'a S, prefix: String, pick: F) -> Self {
        Self {
            storage,
            prefix,
            pick,
            passed_over: 0,
            after: None,
            ended: false,
        }
    }

    /// What is taken of the next page; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<Vec<T>>, StorageError> {
        if self.ended {
            return Ok(None);
        }
        let page = self
            .storage
            .list(&self.prefix, self.after.as_ref(), PAGE)
            .await?;
        self.ended = page.next.is_none();
        self.after = page.next;
        self.passed_over += page.passed_over;
        let keys = page.entries.iter().map(|entry| &entry.key);
        Ok(Some(keys.filter_map(&self.pick).collect()))
    }

    /// How many objects so far have keys that nothing here can name.
    pub(crate) fn passed_over(&self) -> usize {
        self.passed_over
    }

    async fn all(mut self, study: &StudyId) -> Result<Vec<T>, ScoreError> {
        let mut all = Vec::new();
        while let Some(page) = self.next().await? {
            all.extend(page);
            if all.len() > MAX_OBJECTS {
                return Err(ScoreError::TooManyObjects {
                    study: study.clone(),
                    prefix: self.prefix,
                    allowed: MAX_OBJECTS,
                });
            }
        }
        Ok(all)
    }
}

/// Whether a key is that of a result of this kind and this very study.
pub(crate) fn is_own_result(kind: ResultKind, study: &StudyId, key: &ObjectKey) -> bool {
    keys::parse_result(key).is_some_and(|result| result.kind == kind && result.study == *study)
}

/// Which objects of these kinds a study has.
pub(crate) async fn inventory<S: Storage>(
    results: &S,
    study: &StudyId,
    kinds: &[ResultKind],
) -> Result<Inventory, ScoreError> {
    let listings = kinds.iter().map(|&kind| {
        let prefix = keys::results_prefix(kind, study);
        Walk::new(results, prefix, move |key: &ObjectKey| {
            is_own_result(kind, study, key).then(|| key.clone())
        })
        .all(study)
    });
    let mut inventory = Inventory::new(study.clone());
    for key in try_join_all(listings).await?.iter().flatten() {
        inventory.add(key);
        // Prepared slices expire before what was made of them.
        if let Some(result) = keys::parse_result(key).filter(|r| r.kind == ResultKind::Mask) {
            inventory.add(&keys::prepared(study, &result.name));
        }
    }
    Ok(inventory)
}

/// A study's uploads that are directly below its name; its zip, of which no slice is known by name, is left out.
pub(crate) async fn uploads<S: Storage>(
    uploads: &S,
    study: &StudyId,
) -> Result<Vec<Upload>, ScoreError> {
    Walk::new(uploads, keys::uploads_prefix(study), |key: &ObjectKey| {
        let upload = keys::classify(key).ok()?;
        (upload.study == *study).then_some(upload)
    })
    .all(study)
    .await
}
