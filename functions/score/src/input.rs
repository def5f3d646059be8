//! Objects that something is derived from: as they were read, and whether they still are.

use glioseg_shared::cloud::{Head, Object, ObjectKey, Storage, StorageError};

/// An object as it was read.
pub(crate) struct Input {
    /// Its key.
    pub(crate) key: ObjectKey,
    /// The object; `None` where there was none, or nobody asked.
    pub(crate) object: Option<Object>,
}

impl Input {
    /// Reads an object of at most `max_bytes` bytes.
    pub(crate) async fn read<S: Storage>(
        storage: &S,
        key: ObjectKey,
        max_bytes: u64,
    ) -> Result<Self, StorageError> {
        let object = match storage.get(&key, max_bytes).await {
            Ok(object) => Some(object),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        Ok(Self { key, object })
    }

    /// Whether the object still is as it was read; one that was not there, still not.
    pub(crate) async fn is_current<S: Storage>(&self, storage: &S) -> Result<bool, StorageError> {
        let now = head(storage, &self.key).await?;
        Ok(match (&now, &self.object) {
            (None, None) => true,
            // Equal tags are equal bytes, but not equal stamps.
            (Some(now), Some(read)) => now.etag == read.etag && now.metadata == read.metadata,
            _ => false,
        })
    }
}

/// Size, state and metadata of an object; `None` where there is none.
pub(crate) async fn head<S: Storage>(
    storage: &S,
    key: &ObjectKey,
) -> Result<Option<Head>, StorageError> {
    match storage.head(key).await {
        Ok(head) => Ok(Some(head)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
