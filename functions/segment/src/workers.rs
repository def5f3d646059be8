//! Computing apart from the threads that wait for the network.

use std::sync::Arc;
use std::thread::available_parallelism;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Runs no more computing at once than there are cores: what is more would only hold memory.
#[derive(Clone, Debug)]
pub(crate) struct Workers {
    permits: Arc<Semaphore>,
}

/// The work ended without a result: it panicked, or the process is shutting down.
#[derive(Debug, thiserror::Error)]
#[error("the work broke off: {reason}")]
pub struct BrokeOff {
    reason: String,
}

impl Workers {
    /// One worker for each core.
    pub(crate) fn new() -> Self {
        let cores = available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            permits: Arc::new(Semaphore::new(cores)),
        }
    }

    /// Runs the work as soon as a core is free.
    ///
    /// # Errors
    /// [`BrokeOff`] where it panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, BrokeOff> {
        let broke_off = |reason: String| BrokeOff { reason };
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|error| broke_off(error.to_string()))?;
        spawn_blocking(move || {
            // Held to the end of the work, even where nobody waits for it any longer.
            let _permit = permit;
            work()
        })
        .await
        .map_err(|error| broke_off(error.to_string()))
    }
}
