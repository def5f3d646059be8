//! A bucket in which others do something at the worst moment.

use std::sync::Mutex;
use std::time::Duration;

use glioseg_shared::cloud::{
    Condition, ETag, FolderStorage, Head, Metadata, Object, ObjectKey, Page, Presign,
    SignedRequest, Storage, StorageError, UploadTerms,
};

/// What somebody else does just before an object is written.
pub(crate) struct Meddling {
    /// The object.
    pub(crate) before_put: ObjectKey,
    /// What is written instead, or deleted for want of bytes.
    pub(crate) change: (ObjectKey, Option<Vec<u8>>),
}

/// A folder with somebody else at it.
pub(crate) struct Meddled {
    pub(crate) inner: FolderStorage,
    /// Happens once.
    pub(crate) meddling: Mutex<Option<Meddling>>,
    /// An object that may not be deleted.
    pub(crate) kept: Option<ObjectKey>,
}

impl Meddled {
    pub(crate) fn new(inner: FolderStorage) -> Self {
        Self {
            inner,
            meddling: Mutex::new(None),
            kept: None,
        }
    }

    fn due(&self, key: &ObjectKey) -> Option<Meddling> {
        let mut meddling = self.meddling.lock().unwrap();
        meddling.take_if(|meddling| meddling.before_put == *key)
    }
}

impl Storage for Meddled {
    async fn get(&self, key: &ObjectKey, max_bytes: u64) -> Result<Object, StorageError> {
        self.inner.get(key, max_bytes).await
    }

    async fn get_if_changed(
        &self,
        key: &ObjectKey,
        known: &ETag,
        max_bytes: u64,
    ) -> Result<Option<Object>, StorageError> {
        self.inner.get_if_changed(key, known, max_bytes).await
    }

    async fn put(
        &self,
        key: &ObjectKey,
        bytes: Vec<u8>,
        condition: Condition,
        metadata: &Metadata,
    ) -> Result<ETag, StorageError> {
        if let Some(Meddling { change, .. }) = self.due(key) {
            match change {
                (changed, Some(bytes)) => {
                    let all = Condition::Always;
                    self.inner
                        .put(&changed, bytes, all, &Metadata::new())
                        .await?;
                }
                (gone, None) => self.inner.delete(&gone).await?,
            }
        }
        self.inner.put(key, bytes, condition, metadata).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Head, StorageError> {
        self.inner.head(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Page, StorageError> {
        self.inner.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        if self.kept.as_ref() == Some(key) {
            return Err(StorageError::Denied {
                operation: "delete",
                key: key.to_string(),
                reason: "a lock lies on it".to_owned(),
            });
        }
        self.inner.delete(key).await
    }
}

impl Presign for Meddled {
    async fn presign_get(
        &self,
        key: &ObjectKey,
        expires_in: Duration,
    ) -> Result<SignedRequest, StorageError> {
        self.inner.presign_get(key, expires_in).await
    }

    async fn presign_put(
        &self,
        key: &ObjectKey,
        expires_in: Duration,
        terms: &UploadTerms,
    ) -> Result<SignedRequest, StorageError> {
        self.inner.presign_put(key, expires_in, terms).await
    }
}
