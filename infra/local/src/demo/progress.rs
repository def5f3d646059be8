//! How far the slices have come, by the objects that a stack writes.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use glioseg_shared::cloud::ObjectKey;
use glioseg_shared::cloud::keys::{ResultKind, parse_result};

use crate::observer::{Observer, StackEvent};
use crate::wiring::Bucket;

/// How many slices have come how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Were read.
    pub prepared: usize,
    /// Have a mask, which is the last that is written of a slice's segmentation.
    pub segmented: usize,
    /// Have a score.
    pub scored: usize,
}

/// Counts objects, each once however often it is written, and tells of every step.
pub struct Tracker<F> {
    seen: Mutex<(HashSet<String>, Progress)>,
    tell: F,
}

impl<F: Fn(Progress) + Send + Sync + 'static> Tracker<F> {
    /// A tracker that has seen nothing.
    pub fn new(tell: F) -> Self {
        Self {
            seen: Mutex::default(),
            tell,
        }
    }
}

impl<F: Fn(Progress) + Send + Sync + 'static> Observer for Tracker<F> {
    fn see(&self, event: StackEvent<'_>) {
        let StackEvent::Written(object) = event else {
            return;
        };
        if object.bucket != Bucket::Results.name() {
            return;
        }
        let Ok(key) = ObjectKey::parse(object.key.clone()) else {
            return;
        };
        let kind = parse_result(&key).map(|result| result.kind);
        let progress = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let (keys, progress) = &mut *seen;
            let count = match kind {
                Some(ResultKind::Prepared) => &mut progress.prepared,
                Some(ResultKind::Mask) => &mut progress.segmented,
                Some(ResultKind::Score) => &mut progress.scored,
                _ => return,
            };
            if !keys.insert(object.key.clone()) {
                return;
            }
            *count += 1;
            *progress
        };
        (self.tell)(progress);
    }
}
