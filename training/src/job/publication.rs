//! What becomes of a trained model: written, evaluated, published, and made to serve if it is no worse.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use glioseg_shared::cloud::keys::{self, ModelVersion};
use glioseg_shared::cloud::{FolderStorage, Location, S3Storage, Storage};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::model::Contract;
use glioseg_shared::registry::{self, RegistryError};
use tokio::runtime::Runtime;

use super::hyperparameters::HyperParameters;
use super::outcome::JobError;
use crate::data::{CachedPatient, Split};
use crate::evaluate;
use crate::files::write_atomically;
use crate::publish::{
    Judge, JudgeError, Outcome, PublishError, PublishOptions, card_of, publish, store,
};

/// How often the store is tried before the job gives up, and how long it waits the first time, twice as long each
/// time after.
const ATTEMPTS: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// Writes `model.onnx`, its card `model.json` and `split.json`, the split that it was trained by, into the container's
/// model folder: all that publishing it from elsewhere takes.
pub(super) fn write_model(folder: &Path, onnx: &[u8], split: &Split) -> Result<(), JobError> {
    split.write(&folder.join("split.json"))?;
    let contract = Contract::of_onnx(onnx)?;
    let version = ModelVersion::parse(&contract.model_version)?;
    let card = registry::to_json(
        &card_of(&version, onnx, &contract),
        &keys::model_card(&version),
    )
    .map_err(PublishError::from)
    .map_err(|source| JobError::Publish {
        location: folder.display().to_string(),
        source,
    })?;
    for (name, bytes) in [("model.json", card.as_slice()), ("model.onnx", onnx)] {
        let path = folder.join(name);
        write_atomically(&path, |file| file.write_all(bytes)).map_err(|source| {
            JobError::Write {
                path: path.display().to_string(),
                source,
            }
        })?;
    }
    Ok(())
}

/// Where models are published.
pub(super) struct Store {
    location: Location,
    runtime: Runtime,
}

impl Store {
    /// The place that `MODELS_URI` names.
    pub(super) fn new(uri: &str) -> Result<Self, JobError> {
        Ok(Self {
            location: uri.parse()?,
            runtime: tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build()?,
        })
    }

    /// Looks whether the channel's pointer can be read: better known before training than after.
    ///
    /// A store that is not to be reached at the moment may be when the model is trained.
    pub(super) fn check(
        &self,
        hyper: &HyperParameters,
        log: &mut dyn Write,
    ) -> Result<(), JobError> {
        let read = self.runtime.block_on(async {
            match &self.location {
                Location::Folder(path) => {
                    let storage = FolderStorage::open(path)?;
                    registry::read_pointer(&storage, &hyper.channel).await
                }
                Location::S3 { bucket, prefix } => {
                    let storage = S3Storage::connect(bucket.clone(), prefix.clone()).await;
                    registry::read_pointer(&storage, &hyper.channel).await
                }
            }
        });
        match read {
            Ok(_) => Ok(()),
            Err(error) if error.is_retryable() => {
                writeln!(log, "warning: {}: {error}", self.location)?;
                Ok(())
            }
            Err(source) => Err(self.unusable(source)),
        }
    }

    /// Publishes the model as the hyper-parameters say; trouble that may pass is waited for.
    pub(super) fn publish(
        &self,
        onnx: &[u8],
        hyper: &HyperParameters,
        judge: &dyn Judge,
        log: &mut dyn Write,
    ) -> Result<(), JobError> {
        self.runtime.block_on(async {
            match &self.location {
                Location::Folder(path) => {
                    let storage = FolderStorage::open(path)
                        .map_err(|error| self.unusable(RegistryError::from(error)))?;
                    self.publish_to(&storage, onnx, hyper, judge, log).await
                }
                Location::S3 { bucket, prefix } => {
                    let storage = S3Storage::connect(bucket.clone(), prefix.clone()).await;
                    self.publish_to(&storage, onnx, hyper, judge, log).await
                }
            }
        })
    }

    async fn publish_to(
        &self,
        storage: &impl Storage,
        onnx: &[u8],
        hyper: &HyperParameters,
        judge: &dyn Judge,
        log: &mut dyn Write,
    ) -> Result<(), JobError> {
        let mut wait = FIRST_WAIT;
        let mut attempt = 1;
        loop {
            let error = match attempt_to_publish(storage, onnx, hyper, judge).await {
                Ok(said) => {
                    writeln!(log, "{}: {said}", self.location)?;
                    return Ok(());
                }
                Err(error) => error,
            };
            if attempt == ATTEMPTS || !error.is_retryable() {
                return Err(JobError::Publish {
                    location: self.location.to_string(),
                    source: error,
                });
            }
            writeln!(
                log,
                "warning: {}: {error}; trying again in {} s",
                self.location,
                wait.as_secs()
            )?;
            tokio::time::sleep(wait).await;
            wait *= 2;
            attempt += 1;
        }
    }

    fn unusable(&self, source: RegistryError) -> JobError {
        JobError::Store {
            location: self.location.to_string(),
            source,
        }
    }
}

/// Publishes once; what became of the model, in words and as a metric.
async fn attempt_to_publish(
    storage: &impl Storage,
    onnx: &[u8],
    hyper: &HyperParameters,
    judge: &dyn Judge,
) -> Result<String, PublishError> {
    if !hyper.promote {
        let version = store(onnx, storage).await?.model.version;
        return Ok(format!(
            "models/{version}/ is written; promote is false: no channel serves it by this job; Promoted=0;"
        ));
    }
    let options = PublishOptions {
        channel: &hyper.channel,
        force: false,
        judge: Some(judge),
        margin: hyper.margin,
    };
    let outcome = publish(onnx, storage, options).await?;
    let (kept, promoted) = match &outcome {
        Outcome::Promoted { .. } | Outcome::AlreadyServing { .. } => ("", 1),
        Outcome::KeptNotPromoted { .. } => ("the model is kept, not promoted: ", 0),
    };
    Ok(format!("{kept}{outcome}; Promoted={promoted};"))
}

/// Scores models through the code that serves, each once.
pub(super) struct ValidationJudge<'a> {
    validation: &'a [&'a CachedPatient],
    /// By the SHA-256 of the file.
    known: Mutex<HashMap<String, Vec<f64>>>,
}

impl<'a> ValidationJudge<'a> {
    /// A judge who has seen the candidate already: `dice` are its volume Dice on the validation patients.
    pub(super) fn new(validation: &'a [&'a CachedPatient], onnx: &[u8], dice: Vec<f64>) -> Self {
        Self {
            validation,
            known: Mutex::new(HashMap::from([(sha256_hex(onnx), dice)])),
        }
    }
}

impl Judge for ValidationJudge<'_> {
    fn volume_dice(&self, onnx: &[u8]) -> Result<Vec<f64>, JudgeError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = sha256_hex(onnx);
        if let Some(dice) = known.get(&digest) {
            return Ok(dice.clone());
        }
        let dice = evaluate::volume_dice(onnx, self.validation.iter().copied().map(Ok))?;
        known.insert(digest, dice.clone());
        Ok(dice)
    }
}
