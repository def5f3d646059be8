//! Locks by key: one writer commits at a time, and no reader looks in between.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// Keys share locks: a commit takes less than a millisecond, so that two keys on one lock hardly wait.
const STRIPES: usize = 64;

/// The locks of a server.
pub(super) struct Locks {
    stripes: Vec<Arc<RwLock<()>>>,
}

impl Locks {
    pub(super) fn new() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Arc::default()).collect(),
        }
    }

    pub(super) async fn read(&self, bucket: &str, key: &str) -> OwnedRwLockReadGuard<()> {
        self.of(bucket, key).read_owned().await
    }

    pub(super) async fn write(&self, bucket: &str, key: &str) -> OwnedRwLockWriteGuard<()> {
        self.of(bucket, key).write_owned().await
    }

    /// Returns once all writes have ended that were under way.
    pub(super) async fn settled(&self) {
        for stripe in &self.stripes {
            drop(stripe.read().await);
        }
    }

    fn of(&self, bucket: &str, key: &str) -> Arc<RwLock<()>> {
        let hash = BuildHasherDefault::<DefaultHasher>::new().hash_one((bucket, key));
        let stripe = usize::try_from(hash % STRIPES as u64).unwrap_or(0);
        Arc::clone(&self.stripes[stripe])
    }
}
