//! How much is held in memory at once.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::task::{JoinError, spawn_blocking};

/// Places for uploads that are held in memory: a small one takes one, a large one all of them. Decoding is bounded by
/// the number of cores besides, since what a small file decodes to may be large.
///
/// Both are locks that so many may share; unlike semaphores they cannot be closed under those who wait.
pub(crate) struct Gate {
    places: RwLock<()>,
    cores: Arc<RwLock<()>>,
}

/// Most bytes of an upload that counts as small.
pub(crate) const SMALL_BYTES: u64 = 8 << 20;

/// The right to hold an upload.
pub(crate) enum Place<'a> {
    /// One of at most [`SMALL_BYTES`].
    Small { _shared: RwLockReadGuard<'a, ()> },
    /// One of any size.
    Large { _alone: RwLockWriteGuard<'a, ()> },
}

impl Gate {
    /// A gate with some places, at least one.
    pub(crate) fn new(places: usize) -> Self {
        let cores = available_parallelism().map_or(1, NonZero::get);
        Self {
            places: shared_by(places),
            cores: Arc::new(shared_by(cores)),
        }
    }

    /// Waits until an upload of at most [`SMALL_BYTES`] may be held.
    pub(crate) async fn small(&self) -> Place<'_> {
        Place::Small {
            _shared: self.places.read().await,
        }
    }

    /// Waits until an upload of any size may be held; nothing else is then.
    pub(crate) async fn large(&self) -> Place<'_> {
        Place::Large {
            _alone: self.places.write().await,
        }
    }

    /// Runs work of a processor where it holds up no reading and writing.
    ///
    /// # Errors
    /// [`JoinError`] where the work panicked.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let core = Arc::clone(&self.cores).read_owned().await;
        spawn_blocking(move || {
            // Held to the end of the work, even where nobody waits for it any longer.
            let _core = core;
            work()
        })
        .await
    }
}

/// A lock that so many may share, from 1 to 65,535.
fn shared_by(holders: usize) -> RwLock<()> {
    let holders = u16::try_from(holders).unwrap_or(u16::MAX).max(1);
    RwLock::with_max_readers((), holders.into())
}
