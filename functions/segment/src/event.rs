//! What an event brings about: a prepared slice becomes a mask, pictures and a report in the results bucket.
//!
//! Events come at least once, late, and in any order, and a new model may arrive between any two steps. Each object is
//! therefore written only over what is older (see [`replace_older`]), the mask last, and the input is looked at again
//! afterwards: whatever the order, the same bytes stay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join3;
use glioseg_shared::cloud::events::{ObjectCreated, Retryable};
use glioseg_shared::cloud::keys::{self, ResultKey, ResultKind, SliceName, StudyId};
use glioseg_shared::cloud::telemetry::{KeyLog, Metrics};
use glioseg_shared::cloud::{
    Object, ObjectKey, Replaced, Stamp, Storage, StorageError, replace_model, replace_older,
};
use glioseg_shared::imaging::Limits;
use glioseg_shared::model::{ModelError, StepTimes};
use glioseg_shared::study::{Document, Prepared, PreparedError, Rejection};

use crate::Segment;
use crate::model::{NoModel, ServedModel};
use crate::slice::{Outputs, Segmented};
use crate::workers::BrokeOff;

/// How often the work on one object begins anew because its input or the model changed meanwhile.
const MAX_TURNS: usize = 8;

/// Why an event was not dealt with. What can never be dealt with is set aside instead, where there is a slice to set
/// aside.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// A bucket did not do as told.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// There is no model.
    #[error(transparent)]
    NoModel(#[from] NoModel),
    /// The event is of an object that this function is not there for.
    #[error(
        "{key} of bucket {bucket} is no prepared slice: its notification leads to the wrong function"
    )]
    NotForUs {
        /// The bucket.
        bucket: String,
        /// The object's key.
        key: String,
    },
    /// Others kept changing the same slice.
    #[error("{key}: its input or its outputs changed {MAX_TURNS} times meanwhile")]
    Contended {
        /// The object's key.
        key: String,
    },
    /// The computing ended without a result.
    #[error(transparent)]
    BrokeOff(#[from] BrokeOff),
}

impl Retryable for ObjectError {
    fn is_retryable(&self) -> bool {
        match self {
            Self::Storage(error) => error.is_retryable(),
            Self::NoModel(_) | Self::Contended { .. } | Self::BrokeOff(_) => true,
            Self::NotForUs { .. } => false,
        }
    }
}

/// Why a prepared slice can never be segmented.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error(transparent)]
    Prepared(#[from] PreparedError),
    #[error("it says that it is slice {name} of study {study}")]
    Elsewhere { study: StudyId, name: SliceName },
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrote {
    /// What was to be written is there.
    There,
    /// Something newer is there: whoever wrote it sees to the rest.
    Newer,
    /// The input or the model is no longer what the work was done with.
    Outdated,
}

/// How one turn ended.
enum Turn {
    Done,
    Again,
}

/// What became of a slice on a worker.
struct Worked {
    outputs: Outputs,
    input_sha256: String,
    decode: Duration,
    steps: StepTimes,
    encode: Duration,
}

impl<S: Storage> Segment<S> {
    /// Segments the prepared slice that an event announces, and stores what was found.
    ///
    /// # Errors
    /// [`ObjectError`] where the event is to be sent again, or nothing here is meant by it. A slice that can never be
    /// segmented is no error: it is set aside, with the reason.
    pub async fn on_object(&self, created: ObjectCreated) -> Result<(), ObjectError> {
        let not_for_us = || ObjectError::NotForUs {
            bucket: created.bucket.clone(),
            key: created.key.clone(),
        };
        if created.bucket != self.config.results_bucket {
            return Err(not_for_us());
        }
        let key = ObjectKey::parse(created.key.as_str())?;
        let result = keys::parse_result(&key)
            .filter(|result| result.kind == ResultKind::Prepared)
            .ok_or_else(not_for_us)?;
        for _ in 0..MAX_TURNS {
            if let Turn::Done = self.turn(&key, &result).await? {
                return Ok(());
            }
        }
        Err(ObjectError::Contended {
            key: key.to_string(),
        })
    }

    /// Reads, segments and writes once, then looks whether the input is still the same.
    async fn turn(&self, key: &ObjectKey, result: &ResultKey) -> Result<Turn, ObjectError> {
        let start = Instant::now();
        let model = self.model.current().await?;
        let object = match self.results.get(key, self.max_prepared_bytes()).await {
            Ok(object) => object,
            Err(error @ StorageError::TooLarge { .. }) => {
                let head = self.results.head(key).await?;
                let stamp = Stamp::from_metadata(&head.metadata);
                self.set_aside(key, result, stamp, &error.to_string(), &model)
                    .await?;
                return Ok(Turn::Done);
            }
            // One that is gone is tried again as well: a store that shows it late would lose it otherwise.
            Err(error) => return Err(error.into()),
        };
        let read = start.elapsed();
        let Object {
            bytes,
            etag,
            metadata,
        } = object;
        let stamp = Stamp {
            model_version: Some(model.version().to_owned()),
            ..Stamp::from_metadata(&metadata)
        };
        let work = {
            let (model, result) = (Arc::clone(&model), result.clone());
            let (channel, limits) = (self.model.channel().clone(), self.config.limits.imaging());
            move || {
                let decoding = Instant::now();
                let prepared = decode(&bytes, &limits, &result)?;
                let decode = decoding.elapsed();
                let segmented = Segmented::new(&prepared, &model.segmenter, &channel)?;
                let encoding = Instant::now();
                let outputs = segmented.outputs();
                Ok(Worked {
                    outputs,
                    decode,
                    steps: segmented.times(),
                    encode: encoding.elapsed(),
                    input_sha256: prepared.source.sha256,
                })
            }
        };
        let worked: Result<Worked, Unusable> = self.workers.run(work).await?;
        let writing = Instant::now();
        let wrote = match worked {
            Ok(worked) => {
                let stamp = Stamp {
                    input_sha256: worked.input_sha256.clone(),
                    ..stamp
                };
                let wrote = self
                    .store(result, &stamp, worked.outputs.clone(), &model)
                    .await?;
                report_times(key, &model, &worked, read, writing.elapsed());
                wrote
            }
            Err(unusable) => {
                self.set_aside(key, result, stamp, &unusable.to_string(), &model)
                    .await?
            }
        };
        if wrote == Wrote::Outdated {
            return Ok(Turn::Again);
        }
        match self.results.head(key).await {
            Ok(now) if now.etag == etag && now.metadata == metadata => Ok(Turn::Done),
            Ok(_) => Ok(Turn::Again),
            // Deleted meanwhile, and whoever did so deletes what was derived from it.
            Err(error) if error.is_not_found() => Ok(Turn::Done),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes everything that was found; the mask last, so that one tells that the rest is there: scoring begins with
    /// it, and reads the report.
    async fn store(
        &self,
        result: &ResultKey,
        stamp: &Stamp,
        outputs: Outputs,
        model: &ServedModel,
    ) -> Result<Wrote, ObjectError> {
        let ResultKey { study, name, .. } = result;
        let write = |key, bytes| self.write(key, stamp, bytes, model);
        let (overlay, probability, report) = try_join3(
            write(keys::overlay(study, name), outputs.overlay_png),
            write(keys::probability(study, name), outputs.probability_png),
            write(keys::report(study, name), outputs.report_json),
        )
        .await?;
        let wrote = [overlay, probability, report];
        if let Some(early) = [Wrote::Outdated, Wrote::Newer]
            .into_iter()
            .find(|early| wrote.contains(early))
        {
            return Ok(early);
        }
        write(keys::mask(study, name), outputs.mask_tiff).await
    }

    /// Writes one object over what is older, or over another model's work if this model is the one that the channel
    /// names at this moment.
    async fn write(
        &self,
        key: ObjectKey,
        stamp: &Stamp,
        bytes: Vec<u8>,
        model: &ServedModel,
    ) -> Result<Wrote, ObjectError> {
        let mut replaced = replace_older(&self.results, &key, stamp, bytes.clone()).await?;
        for _ in 0..MAX_TURNS {
            let other = match replaced {
                Replaced::Written | Replaced::Unchanged => return Ok(Wrote::There),
                Replaced::Newer => return Ok(Wrote::Newer),
                Replaced::Mixed => return Ok(Wrote::Outdated),
                Replaced::OtherModel(other) => other,
            };
            if self.model.named_now().await?.version() != model.version() {
                return Ok(Wrote::Outdated);
            }
            replaced = replace_model(&self.results, &key, stamp, bytes.clone(), &other).await?;
        }
        Ok(Wrote::Outdated)
    }

    /// Says in the results bucket why a prepared slice can never be segmented.
    async fn set_aside(
        &self,
        key: &ObjectKey,
        result: &ResultKey,
        stamp: Stamp,
        reason: &str,
        model: &ServedModel,
    ) -> Result<Wrote, ObjectError> {
        let mut rejection = Rejection::new(
            key.as_str(),
            reason,
            "upload the slice again; if it is set aside again, tell those who run this service",
        );
        rejection.study = Some(result.study.clone());
        rejection.input_sha256 =
            Some(stamp.input_sha256.clone()).filter(|digest| digest.len() == 64);
        let place = keys::unsegmentable(&result.study, &result.name);
        let stamp = Stamp {
            model_version: Some(model.version().to_owned()),
            ..stamp
        };
        let wrote = self
            .write(place, &stamp, rejection.to_json(), model)
            .await?;
        tracing::warn!(key = %KeyLog(key.as_str()), "a prepared slice was set aside");
        Metrics::new("segment").count("Rejected", 1).emit();
        Ok(wrote)
    }
}

/// Decodes a prepared slice and checks that it is the one that its key names.
fn decode(bytes: &[u8], limits: &Limits, result: &ResultKey) -> Result<Prepared, Unusable> {
    let prepared = Prepared::decode(bytes, limits)?;
    if (&prepared.study, &prepared.name) == (&result.study, &result.name) {
        Ok(prepared)
    } else {
        Err(Unusable::Elsewhere {
            study: prepared.study,
            name: prepared.name,
        })
    }
}

fn report_times(
    key: &ObjectKey,
    model: &ServedModel,
    worked: &Worked,
    read: Duration,
    write: Duration,
) {
    tracing::info!(key = %KeyLog(key.as_str()), model_version = model.version(), "a slice was segmented");
    Metrics::new("segment")
        .count("Slices", 1)
        .millis("ReadMilliseconds", read)
        .millis("DecodeMilliseconds", worked.decode)
        .millis("PreprocessMilliseconds", worked.steps.preprocessing)
        .millis("InferenceMilliseconds", worked.steps.inference)
        .millis("PostprocessMilliseconds", worked.steps.postprocessing)
        .millis("EncodeMilliseconds", worked.encode)
        .millis("WriteMilliseconds", write)
        .property("ModelVersion", model.version())
        .emit();
}
