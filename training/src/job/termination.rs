//! The order to stop: SIGTERM, which SageMaker sends 120 seconds before it kills.

use std::io;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::outcome::STOPPED;

/// How long a job may take to come to an end by itself: well within the 120 seconds of SageMaker, and within those of a
/// container that is stopped with less.
const GRACE: Duration = Duration::from_secs(80);

/// Whether this process was told to stop.
#[derive(Clone, Debug)]
pub struct Termination {
    told: Arc<AtomicBool>,
}

impl Termination {
    /// Listens for SIGTERM and SIGINT from now on.
    ///
    /// The job looks when it can: before every step of training and between its parts. Where it finds no time to look,
    /// as in the middle of decoding, the process ends after 80 seconds: whatever is worth keeping is on the disk
    /// already, and no file has its final name before it is whole.
    ///
    /// # Errors
    /// Where the system does not let it listen.
    pub fn listen() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let told = Arc::new(AtomicBool::new(false));
        let termination = Self {
            told: Arc::clone(&told),
        };
        let signals = runtime.block_on(async {
            Ok::<_, io::Error>((
                signal(SignalKind::terminate())?,
                signal(SignalKind::interrupt())?,
            ))
        })?;
        thread::Builder::new()
            .name("termination".to_owned())
            .spawn(move || runtime.block_on(stop_in_time(signals, &told)))?;
        Ok(termination)
    }

    /// Whether the process was told to stop.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }
}

async fn stop_in_time((mut terminate, mut interrupt): (Signal, Signal), told: &AtomicBool) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    told.store(true, Ordering::Relaxed);
    eprintln!("told to stop: stopping at the next step");
    tokio::time::sleep(GRACE).await;
    process::exit(i32::from(STOPPED));
}
