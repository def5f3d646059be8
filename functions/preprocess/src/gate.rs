//! How much is held in memory at once.

use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::{JoinError, spawn_blocking};

/// Places for uploads that are held in memory: a small one takes one, a large one all of them. Decoding is bounded by
/// the number of cores besides, since what a small file decodes to may be large.
pub(crate) struct Gate {
    places: Semaphore,
    all: u32,
    cores: Arc<Semaphore>,
}

/// Most bytes of an upload that counts as small.
pub(crate) const SMALL_BYTES: u64 = 8 << 20;

/// The right to hold an upload.
pub(crate) type Place<'a> = SemaphorePermit<'a>;

const OPEN: &str = "nobody closes a semaphore here";

impl Gate {
    /// A gate with some places, at least one.
    pub(crate) fn new(places: usize) -> Self {
        let places = u32::try_from(places).unwrap_or(u32::MAX).max(1);
        let cores = available_parallelism().map_or(1, NonZero::get);
        Self {
            places: Semaphore::new(places as usize),
            all: places,
            cores: Arc::new(Semaphore::new(cores)),
        }
    }

    /// Waits until an upload of at most [`SMALL_BYTES`] may be held.
    pub(crate) async fn small(&self) -> Place<'_> {
        self.places.acquire().await.expect(OPEN)
    }

    /// Waits until an upload of any size may be held; nothing else is then.
    pub(crate) async fn large(&self) -> Place<'_> {
        self.places.acquire_many(self.all).await.expect(OPEN)
    }

    /// Runs work of a processor where it holds up no reading and writing.
    ///
    /// # Errors
    /// [`JoinError`] where the work panicked.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, JoinError> {
        let core = Arc::clone(&self.cores).acquire_owned().await.expect(OPEN);
        spawn_blocking(move || {
            // Held to the end of the work, even where nobody waits for it any longer.
            let _core = core;
            work()
        })
        .await
    }
}
