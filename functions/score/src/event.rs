//! What a new object of the results bucket leads to.

use std::time::Instant;

use glioseg_shared::cloud::events::ObjectCreated;
use glioseg_shared::cloud::keys::{self, ResultKey, ResultKind};
use glioseg_shared::cloud::telemetry::{KeyLog, Metrics, scrub};
use glioseg_shared::cloud::{ObjectKey, Presign, Storage};

use crate::bus::Bus;
use crate::collect::{Collected, Collector};
use crate::derive::{self, Outcome};
use crate::{FUNCTION, Score, ScoreError};

impl<S: Storage + Presign, B: Bus> Score<S, B> {
    /// Takes note of an object of the results bucket: a mask or a truth is scored as soon as both are there, a study that
    /// is done by it is announced, and the slice is collected for training, where that is wished.
    ///
    /// # Errors
    ///
    /// [`ScoreError`]; nothing is lost by trying again.
    pub async fn on_object(&self, object: ObjectCreated) -> Result<(), ScoreError> {
        if object.bucket != self.config.results_bucket {
            return Err(ScoreError::OtherBucket {
                bucket: object.bucket,
                expected: self.config.results_bucket.clone(),
            });
        }
        let result = ObjectKey::parse(object.key.as_str())
            .ok()
            .and_then(|key| keys::parse_result(&key).map(|result| (key, result)));
        let Some((key, result)) = result else {
            tracing::debug!(key = %KeyLog(&object.key), "no result of a study");
            return Ok(());
        };
        match result.kind {
            ResultKind::Mask | ResultKind::Report | ResultKind::Truth => {
                let outcome = self.on_pair(&key, &result).await?;
                // What keeps the one from being done is not to keep the other from it.
                let announced = self.announce_if_complete(&result.study).await;
                let collected = self.collect(&key, &result, &outcome).await;
                if let (Err(_), Err(error)) = (&announced, &collected) {
                    // Only one of them can be returned.
                    let text = scrub(&error.to_string(), key.as_str());
                    let key = KeyLog(key.as_str());
                    tracing::error!(%key, error = %text, "not collected for training either");
                }
                announced.and(collected)
            }
            ResultKind::Rejected | ResultKind::Manifest => {
                self.announce_if_complete(&result.study).await
            }
            ResultKind::Prepared
            | ResultKind::Overlay
            | ResultKind::Probability
            | ResultKind::Score
            | ResultKind::Completed => Ok(()),
        }
    }

    async fn on_pair(&self, key: &ObjectKey, result: &ResultKey) -> Result<Outcome, ScoreError> {
        let start = Instant::now();
        let (study, slice) = (&result.study, &result.name);
        let outcome = derive::derive(&self.results, &self.config.limits, study, slice).await?;
        let metrics = Metrics::new(FUNCTION).millis("ScoreMilliseconds", start.elapsed());
        if !is_shown(&outcome, result.kind) && self.is_listed(key).await? {
            return Err(ScoreError::NotShown { key: key.clone() });
        }
        let key = KeyLog(key.as_str());
        match &outcome {
            Outcome::Waiting { .. } => {
                tracing::info!(%key, "mask and truth are not both there");
                metrics
            }
            Outcome::Scored(score) => {
                tracing::info!(%key, model_version = score.model_version, "scored");
                metrics
                    .count("Slices", 1)
                    .property("ModelVersion", score.model_version.clone())
            }
            // The reason names sizes and formats, never a patient.
            Outcome::Incomparable(rejection) => {
                tracing::warn!(%key, reason = rejection.reason, "mask and truth cannot be compared");
                metrics.count("Rejected", 1)
            }
        }
        .emit();
        Ok(outcome)
    }

    /// Keeps a slice for training, where that is wished.
    async fn collect(
        &self,
        key: &ObjectKey,
        result: &ResultKey,
        outcome: &Outcome,
    ) -> Result<(), ScoreError> {
        if !self.config.collect_labelled {
            return Ok(());
        }
        // What is not shown has been looked for in the listing by now.
        let is_deleted = !is_shown(outcome, result.kind);
        let collector = Collector {
            results: &self.results,
            limits: &self.config.limits,
            memory: &self.memory,
        };
        let collected = collector
            .collect(&result.study, &result.name, outcome, is_deleted)
            .await?;
        tracing::debug!(key = %KeyLog(key.as_str()), ?collected, "looked at for training");
        if collected == Collected::Kept {
            Metrics::new(FUNCTION).count("Collected", 1).emit();
        }
        Ok(())
    }

    /// Whether a store that shows no object has it all the same: it may show late what its event told before.
    async fn is_listed(&self, key: &ObjectKey) -> Result<bool, ScoreError> {
        // Of all keys that begin with this one, it comes first.
        let page = self.results.list(key.as_str(), None, 1).await?;
        Ok(page.entries.first().is_some_and(|entry| entry.key == *key))
    }
}

/// Whether the store has shown the mask, or the truth, whose event led to this outcome.
fn is_shown(outcome: &Outcome, kind: ResultKind) -> bool {
    match (outcome, kind) {
        (Outcome::Waiting { mask, .. }, ResultKind::Mask) => *mask,
        (Outcome::Waiting { truth, .. }, ResultKind::Truth) => *truth,
        _ => true,
    }
}
