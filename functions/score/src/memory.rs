//! How much memory slices take at once.

use std::sync::Arc;

use tokio::sync::{Semaphore, SemaphorePermit};

/// Memory is counted in units of so many bytes.
const UNIT: u64 = 1024;

/// What there is unless somebody says otherwise: one slice of 4096x4096 pixels at a time, and of 512x512 as many as
/// there are.
const DEFAULT_BYTES: u64 = 256 << 20;

/// Memory that slices share which are worked on at once. Clones share it too.
///
/// Whoever finds too little waits, and comes in the order of asking, so that large slices are not passed by for ever.
#[derive(Clone, Debug)]
pub struct Memory {
    free: Arc<Semaphore>,
    units: u32,
}

impl Memory {
    /// So many bytes in whole KiB, 1 KiB at least.
    #[must_use]
    pub fn of(bytes: u64) -> Self {
        let units = u32::try_from(bytes / UNIT).unwrap_or(u32::MAX).max(1);
        Self {
            free: Arc::new(Semaphore::new(units as usize)),
            units,
        }
    }

    /// Waits until so many bytes are free; they are taken until what is returned is dropped. For more than there is,
    /// all of it is taken: that slice is alone.
    #[expect(
        clippy::expect_used,
        reason = "the semaphore is made here and never closed"
    )]
    pub(crate) async fn take(&self, bytes: u64) -> SemaphorePermit<'_> {
        let wanted = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        let taken = self.free.acquire_many(wanted.min(self.units)).await;
        taken.expect("nobody closes the semaphore")
    }
}

impl Default for Memory {
    /// 256 MiB.
    fn default() -> Self {
        Self::of(DEFAULT_BYTES)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn who_finds_too_little_waits_until_it_is_given_back() {
        let memory = Memory::of(10 * UNIT);
        let six = memory.take(6 * UNIT).now_or_never().unwrap();
        assert!(memory.take(4 * UNIT + 1).now_or_never().is_none());
        let four = memory.take(4 * UNIT).now_or_never().unwrap();
        assert!(memory.clone().take(1).now_or_never().is_none());
        drop(six);
        assert!(memory.take(6 * UNIT).now_or_never().is_some());
        drop(four);
        assert!(memory.take(10 * UNIT).now_or_never().is_some());
    }

    #[test]
    fn who_wants_more_than_there_is_comes_alone() {
        let memory = Memory::of(2 * UNIT);
        let small = memory.take(1).now_or_never().unwrap();
        assert!(memory.take(u64::MAX).now_or_never().is_none());
        drop(small);
        let all = memory.take(u64::MAX).now_or_never().unwrap();
        assert!(memory.take(1).now_or_never().is_none());
        drop(all);
        assert!(memory.take(1).now_or_never().is_some());
    }

    #[test]
    fn the_first_to_ask_is_not_passed_by() {
        let memory = Memory::of(2 * UNIT);
        let one = memory.take(1).now_or_never().unwrap();
        let mut large = Box::pin(memory.take(2 * UNIT));
        assert!(large.as_mut().now_or_never().is_none());
        assert!(
            memory.take(1).now_or_never().is_none(),
            "there is room, but another was first"
        );
        drop(one);
        assert!(large.as_mut().now_or_never().is_some());
    }
}
