//! Putting a model where it is served from, and keeping one that is better in its place.
//!
//! A model file and its card are written once, under the version that its contract names. The
//! channel's pointer is then moved by compare-and-swap: whoever loses a race looks at the new
//! pointer and decides anew. What decides is a [`Judge`], who scores both models on the same
//! validation patients; what a contract or a card says of scores decides nothing.

mod comparison;
mod rollback;

use std::fmt;

use glioseg_shared::cloud::keys::{self, Channel, InvalidName, ModelVersion};
use glioseg_shared::cloud::{Condition, ETag, Metadata, ObjectKey, Storage, StorageError};
use glioseg_shared::model::{Contract, MAX_FILE_BYTES, ModelError, Segmenter};
use glioseg_shared::registry::{self, ModelCard, ModelFile, Pointer, RegistryError, Serving};

use crate::export::model_version;
use comparison::Scoring;
pub use comparison::{Judge, JudgeError, Scores};
pub use rollback::{RollBackError, RolledBack, roll_back};

/// How often a lost race is run again before it is called trouble.
const ATTEMPTS: usize = 10;

/// How to publish.
#[derive(Clone, Copy)]
pub struct PublishOptions<'a> {
    /// The channel that is to serve the model.
    pub channel: &'a Channel,
    /// Whether the model replaces the serving one however they score; nothing is scored then.
    pub force: bool,
    /// Who scores the model and the serving one, where the data is at hand.
    pub judge: Option<&'a dyn Judge>,
    /// By how much the model's mean volume Dice must exceed that of the serving one, 0..=1.
    pub margin: f64,
}

/// What became of the model. In every case its file and its card are in the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The channel serves it now.
    Promoted {
        /// The new pointer.
        pointer: Pointer,
        /// The figures that decided; `None` for the first model of a channel and where forced.
        scores: Option<Scores>,
    },
    /// The channel served it before.
    AlreadyServing {
        /// The pointer, unchanged.
        pointer: Pointer,
    },
    /// The channel still serves another.
    KeptNotPromoted {
        /// The pointer, unchanged.
        serving: Pointer,
        /// Why.
        reason: Reason,
    },
}

/// Why a model was not promoted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reason {
    /// The model does not score the margin above the one that serves.
    NotBetter(Scores),
    /// There is no data to score them on.
    NotScored,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Promoted { pointer, scores } => {
                let (channel, version) = (&pointer.channel, &pointer.model.version);
                write!(f, "channel {channel} now serves {version}")?;
                scores.map_or(Ok(()), |scores| write!(f, " ({scores})"))
            }
            Self::AlreadyServing { pointer } => {
                let (channel, version) = (&pointer.channel, &pointer.model.version);
                write!(f, "channel {channel} serves {version} already")
            }
            Self::KeptNotPromoted { serving, reason } => {
                let (channel, version) = (&serving.channel, &serving.model.version);
                write!(f, "channel {channel} keeps serving {version}: ")?;
                match reason {
                    Reason::NotBetter(scores) => scores.fmt(f),
                    Reason::NotScored => f.write_str("without data neither model can be scored"),
                }
            }
        }
    }
}

/// Why a model could not be published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// It is no model that can be served.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its version cannot be part of a key.
    #[error(transparent)]
    Version(#[from] InvalidName),
    /// The pointer or the serving model cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Its version is taken by something else.
    #[error("{key} exists with other content: a version is published once")]
    VersionTaken {
        /// The object in the way.
        key: String,
    },
    /// A model could not be scored.
    #[error("model {version} cannot be scored: {source}")]
    Judge {
        /// Which.
        version: String,
        /// Why.
        source: JudgeError,
    },
    /// The two models were not scored on the same patients.
    #[error(
        "models {candidate} and {serving} were scored on {patients:?} patients: nothing can be compared"
    )]
    Unpaired {
        /// The model to be published.
        candidate: String,
        /// The model that serves.
        serving: String,
        /// Numbers of patients.
        patients: [usize; 2],
    },
    /// Others kept writing the same objects.
    #[error("{key} was changed by others {ATTEMPTS} times in a row")]
    Contended {
        /// The object.
        key: String,
    },
}

impl PublishError {
    /// Whether publishing again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Registry(error) => error.is_retryable(),
            Self::Contended { .. } => true,
            _ => false,
        }
    }
}

impl From<StorageError> for PublishError {
    fn from(error: StorageError) -> Self {
        Self::Registry(error.into())
    }
}

/// The card of a model file whose contract this is.
#[must_use]
pub fn card_of(version: &ModelVersion, onnx: &[u8], contract: &Contract) -> ModelCard {
    ModelCard {
        model: ModelFile::of(version, onnx),
        licence: contract.licence.clone(),
        notice: contract.notice.clone(),
        contract: contract.clone(),
    }
}

/// A model whose file and card are in the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The file.
    pub model: ModelFile,
    /// What it says of itself.
    pub contract: Contract,
}

/// Writes a model's file and its card into the store and leaves it at that: no channel serves it.
///
/// A model that comes out of another training with the same weights has the same version, and may have another commit,
/// split or score in its contract. The file that was there first stays and stands for both, as both give the same masks.
///
/// # Errors
/// [`PublishError`]. Nothing is written for a file that cannot be served.
pub async fn store(onnx: &[u8], storage: &impl Storage) -> Result<Stored, PublishError> {
    // Made ready only to see that it can be: a file that does not serve is not published.
    let contract = Segmenter::from_onnx(onnx)?.contract().clone();
    let version = ModelVersion::parse(&contract.model_version)?;
    let key = keys::model_onnx(&version);
    match write_once(storage, &key, onnx).await {
        Ok(()) => write_card(storage, &version, onnx, contract).await,
        Err(taken @ PublishError::VersionTaken { .. }) => {
            let there = match storage.get(&key, MAX_FILE_BYTES as u64).await {
                Ok(object) => object.bytes,
                Err(StorageError::TooLarge { .. }) => return Err(taken),
                Err(error) => return Err(error.into()),
            };
            if !(answers_by_its_version(&version, onnx) && answers_by_its_version(&version, &there))
            {
                return Err(taken);
            }
            let contract = Segmenter::from_onnx(&there)?.contract().clone();
            write_card(storage, &version, &there, contract).await
        }
        Err(error) => Err(error),
    }
}

async fn write_card(
    storage: &impl Storage,
    version: &ModelVersion,
    onnx: &[u8],
    contract: Contract,
) -> Result<Stored, PublishError> {
    let card = card_of(version, onnx, &contract);
    let key = keys::model_card(version);
    write_once(storage, &key, &registry::to_json(&card, &key)?).await?;
    Ok(Stored {
        model: card.model,
        contract,
    })
}

/// Whether a version is the one that a file's graph and behaviour give it: two such files of one version give the same
/// masks.
fn answers_by_its_version(version: &ModelVersion, onnx: &[u8]) -> bool {
    let Some((prefix, _)) = version.as_str().rsplit_once('-') else {
        return false;
    };
    model_version(prefix, onnx).is_ok_and(|name| name == version.as_str())
}

/// Publishes a model, and promotes it to its channel if it scores at least the margin above the serving one.
///
/// The first model of a channel is promoted as it is; a later one needs a judge or force. Of equal
/// scores, at a margin of 0, the newer model wins.
///
/// # Errors
/// [`PublishError`]. Nothing is written for a file that cannot be served, and the pointer is
/// untouched on any error.
pub async fn publish(
    onnx: &[u8],
    storage: &impl Storage,
    options: PublishOptions<'_>,
) -> Result<Outcome, PublishError> {
    let Stored { model, contract } = store(onnx, storage).await?;

    let mut scoring = Scoring::default();
    let mut attempted: Option<(Pointer, Option<Scores>)> = None;
    for _ in 0..ATTEMPTS {
        let (serving, state) = current(storage, &options).await?;
        if let Some(serving) = &serving {
            // A write whose answer was lost is refused when it is repeated, by its own doing.
            if let Some((pointer, scores)) = &attempted
                && pointer == serving
            {
                return Ok(Outcome::Promoted {
                    pointer: pointer.clone(),
                    scores: *scores,
                });
            }
            if serving.model == model {
                return Ok(Outcome::AlreadyServing {
                    pointer: serving.clone(),
                });
            }
        }
        let scores = match (&serving, options) {
            (None, _) | (_, PublishOptions { force: true, .. }) => None,
            (Some(serving), PublishOptions { judge: None, .. }) => {
                return Ok(Outcome::KeptNotPromoted {
                    serving: serving.clone(),
                    reason: Reason::NotScored,
                });
            }
            (
                Some(serving),
                PublishOptions {
                    judge: Some(judge), ..
                },
            ) => {
                let candidate = scoring.score(judge, &model, onnx)?;
                let stored = scoring.score_stored(judge, &serving.model, storage).await?;
                let scores =
                    Scores::compare(&candidate, &stored, options.margin).ok_or_else(|| {
                        PublishError::Unpaired {
                            candidate: model.version.clone(),
                            serving: serving.model.version.clone(),
                            patients: [candidate.len(), stored.len()],
                        }
                    })?;
                if !scores.promote() {
                    return Ok(Outcome::KeptNotPromoted {
                        serving: serving.clone(),
                        reason: Reason::NotBetter(scores),
                    });
                }
                Some(scores)
            }
        };
        let previous = serving.map(|serving| serving.model);
        let pointer = Pointer::new(options.channel, model.clone(), &contract, previous);
        match registry::swap_pointer(storage, options.channel, &pointer, state).await {
            Ok(_) => return Ok(Outcome::Promoted { pointer, scores }),
            Err(error) if is_lost_race(&error) => attempted = Some((pointer, scores)),
            Err(error) => return Err(error.into()),
        }
    }
    Err(PublishError::Contended {
        key: keys::channel_pointer(options.channel).to_string(),
    })
}

/// What the channel serves, and the pointer's state. A pointer that nothing can be served by
/// stands in the way unless it is to be replaced by force.
async fn current(
    storage: &impl Storage,
    options: &PublishOptions<'_>,
) -> Result<(Option<Pointer>, Option<ETag>), PublishError> {
    match registry::read_pointer(storage, options.channel).await {
        Ok(None) => Ok((None, None)),
        Ok(Some(Serving { pointer, etag })) => Ok((Some(pointer), Some(etag))),
        Err(RegistryError::BadPointer { .. }) if options.force => {
            let head = storage
                .head(&keys::channel_pointer(options.channel))
                .await?;
            Ok((None, Some(head.etag)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Writes an object that never changes; the same bytes again are fine.
async fn write_once(
    storage: &impl Storage,
    key: &ObjectKey,
    bytes: &[u8],
) -> Result<(), PublishError> {
    let taken = || PublishError::VersionTaken {
        key: key.to_string(),
    };
    for _ in 0..ATTEMPTS {
        let condition = Condition::IfAbsent;
        match storage
            .put(key, bytes.to_vec(), condition, &Metadata::new())
            .await
        {
            Ok(_) => return Ok(()),
            Err(error) if is_lost_race(&error) => {}
            Err(error) => return Err(error.into()),
        }
        match storage.get(key, bytes.len() as u64).await {
            Ok(object) if object.bytes == bytes => return Ok(()),
            Ok(_) | Err(StorageError::TooLarge { .. }) => return Err(taken()),
            // Deleted in between, or not written after all.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(PublishError::Contended {
        key: key.to_string(),
    })
}

fn is_lost_race(error: &StorageError) -> bool {
    error.is_precondition_failed() || matches!(error, StorageError::Conflict { .. })
}
