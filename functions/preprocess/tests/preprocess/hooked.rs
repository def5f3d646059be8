//! A store that does something else at a chosen call: fails, or lets others in between.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use glioseg_shared::cloud::{
    Condition, ETag, FolderStorage, Head, Metadata, Object, ObjectKey, Page, Presign,
    SignedRequest, Storage, StorageError, UploadTerms,
};

type Action = Pin<Box<dyn Future<Output = Result<(), StorageError>> + Send>>;

/// What happens, and before which call of all stores that share it.
pub(crate) struct Hook {
    calls: AtomicUsize,
    changes: AtomicUsize,
    at: usize,
    action: Mutex<Option<Action>>,
}

impl Hook {
    /// Runs `action` before call number `at`, from 0; where it fails, so does the call.
    pub(crate) fn before(
        at: usize,
        action: impl Future<Output = Result<(), StorageError>> + Send + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            calls: AtomicUsize::new(0),
            changes: AtomicUsize::new(0),
            at,
            action: Mutex::new(Some(Box::pin(action))),
        })
    }

    /// Only counts.
    pub(crate) fn none() -> Arc<Self> {
        Self::before(usize::MAX, async { Ok(()) })
    }

    /// Number of objects written and deleted.
    pub(crate) fn changes(&self) -> usize {
        self.changes.load(Ordering::SeqCst)
    }

    /// Whether there were calls enough for the action to run.
    pub(crate) fn ran(&self) -> bool {
        self.action.lock().unwrap().is_none()
    }

    async fn call(&self) -> Result<(), StorageError> {
        if self.calls.fetch_add(1, Ordering::SeqCst) != self.at {
            return Ok(());
        }
        let action = self.action.lock().unwrap().take();
        match action {
            Some(action) => action.await,
            None => Ok(()),
        }
    }
}

/// What S3 says with status 503.
pub(crate) fn unavailable() -> StorageError {
    StorageError::Unavailable {
        operation: "use",
        key: "anything".to_owned(),
        reason: "slow down".to_owned(),
    }
}

/// What S3 says with status 403.
pub(crate) fn denied() -> StorageError {
    StorageError::Denied {
        operation: "use",
        key: "anything".to_owned(),
        reason: "no".to_owned(),
    }
}

#[derive(Clone)]
pub(crate) struct Hooked {
    pub(crate) storage: FolderStorage,
    pub(crate) hook: Arc<Hook>,
}

impl Storage for Hooked {
    async fn get(&self, key: &ObjectKey, max_bytes: u64) -> Result<Object, StorageError> {
        self.hook.call().await?;
        self.storage.get(key, max_bytes).await
    }

    async fn get_if_changed(
        &self,
        key: &ObjectKey,
        known: &ETag,
        max_bytes: u64,
    ) -> Result<Option<Object>, StorageError> {
        self.hook.call().await?;
        self.storage.get_if_changed(key, known, max_bytes).await
    }

    async fn put(
        &self,
        key: &ObjectKey,
        bytes: Vec<u8>,
        condition: Condition,
        metadata: &Metadata,
    ) -> Result<ETag, StorageError> {
        self.hook.call().await?;
        self.hook.changes.fetch_add(1, Ordering::SeqCst);
        self.storage.put(key, bytes, condition, metadata).await
    }

    async fn head(&self, key: &ObjectKey) -> Result<Head, StorageError> {
        self.hook.call().await?;
        self.storage.head(key).await
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<&ObjectKey>,
        limit: usize,
    ) -> Result<Page, StorageError> {
        self.hook.call().await?;
        self.storage.list(prefix, after, limit).await
    }

    async fn delete(&self, key: &ObjectKey) -> Result<(), StorageError> {
        self.hook.call().await?;
        self.hook.changes.fetch_add(1, Ordering::SeqCst);
        self.storage.delete(key).await
    }
}

impl Presign for Hooked {
    async fn presign_get(
        &self,
        key: &ObjectKey,
        expires_in: Duration,
    ) -> Result<SignedRequest, StorageError> {
        self.hook.call().await?;
        self.storage.presign_get(key, expires_in).await
    }

    async fn presign_put(
        &self,
        key: &ObjectKey,
        expires_in: Duration,
        terms: &UploadTerms,
    ) -> Result<SignedRequest, StorageError> {
        self.hook.call().await?;
        self.storage.presign_put(key, expires_in, terms).await
    }
}
