//! Setting uploads aside that cannot be read, and taking that back.

use std::cmp::Ordering;

use glioseg_shared::cloud::keys::{self, StudyId};
use glioseg_shared::cloud::{ObjectKey, Replaced, Stamp, Storage, StorageError, replace_older};
use glioseg_shared::study::{Document, Rejection};

use crate::refusal::Refusal;

/// Longest reason or advice that is stored, in bytes: names inside it may be as long as a key.
const MAX_TEXT_BYTES: usize = 8 << 10;

/// Where it is said that an upload was set aside, and of which upload.
pub(crate) struct Aside {
    key: ObjectKey,
    upload: String,
    study: Option<StudyId>,
}

impl Aside {
    /// Of an upload of a study.
    pub(crate) fn of(upload: &ObjectKey, study: &StudyId, file: &str) -> Self {
        Self {
            key: keys::rejected(study, file),
            upload: upload.to_string(),
            study: Some(study.clone()),
        }
    }

    /// Of an upload whose key names no study, or is none.
    pub(crate) fn without_study(upload: &str) -> Self {
        Self {
            key: keys::rejected_without_study(upload),
            upload: upload.to_owned(),
            study: None,
        }
    }

    /// Says why the upload was set aside, unless that was said of a newer one. `input_sha256` is that of its bytes,
    /// where they were read.
    ///
    /// # Errors
    /// What the store meets.
    pub(crate) async fn say(
        &self,
        results: &impl Storage,
        refusal: &Refusal,
        input_sha256: Option<&str>,
        stamp: &Stamp,
    ) -> Result<Replaced, StorageError> {
        let advice = format!(
            "{}; results of an earlier upload under this key, where there are any, stay until one can be read",
            cut(&refusal.advice)
        );
        let mut rejection = Rejection::new(&self.upload, cut(&refusal.reason), advice);
        rejection.study.clone_from(&self.study);
        rejection.entry.clone_from(&refusal.entry);
        rejection.input_sha256 = input_sha256.map(str::to_owned);
        replace_older(results, &self.key, stamp, rejection.to_json()).await
    }

    /// What an upload was set aside by; `None` where it was not.
    ///
    /// # Errors
    /// What the store meets.
    pub(crate) async fn stamp(
        &self,
        results: &impl Storage,
    ) -> Result<Option<Stamp>, StorageError> {
        stamp_of(results, &self.key).await
    }

    /// Takes it back that the upload was set aside, unless a newer one was. Tells whether there was something to take
    /// back.
    ///
    /// Between looking and deleting, a newer upload may be set aside: so the caller looks at the upload again.
    ///
    /// # Errors
    /// What the store meets.
    pub(crate) async fn take_back(
        &self,
        results: &impl Storage,
        read: &Stamp,
    ) -> Result<bool, StorageError> {
        let Some(said) = self.stamp(results).await? else {
            return Ok(false);
        };
        let outdated = matches!(
            said.age_against(read),
            Some(Ordering::Less | Ordering::Equal)
        );
        if outdated {
            results.delete(&self.key).await?;
        }
        Ok(outdated)
    }
}

/// The stamp of an object; `None` where there is no object.
///
/// # Errors
/// What the store meets.
pub(crate) async fn stamp_of(
    results: &impl Storage,
    key: &ObjectKey,
) -> Result<Option<Stamp>, StorageError> {
    match results.head(key).await {
        Ok(head) => Ok(Some(Stamp::from_metadata(&head.metadata))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}
