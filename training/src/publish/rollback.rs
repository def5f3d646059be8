//! Back to a model that was published before.

use std::fmt;

use glioseg_shared::cloud::keys::{self, Channel, ModelVersion};
use glioseg_shared::cloud::{ETag, Storage, StorageError};
use glioseg_shared::model::{ModelError, Segmenter};
use glioseg_shared::registry::{self, ModelCard, ModelFile, Pointer, RegistryError, Serving};

use super::{ATTEMPTS, is_lost_race};

/// More than any card takes: it holds what the contract in a model file says.
const MAX_CARD_BYTES: u64 = 1 << 20;

/// What a channel serves after a roll-back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RolledBack {
    /// The pointer. Its `previous` is the model that served until now, so that a second roll-back takes back the first.
    pub pointer: Pointer,
    /// Whether that model served already, and nothing was changed.
    pub already: bool,
}

impl fmt::Display for RolledBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (channel, version) = (&self.pointer.channel, &self.pointer.model.version);
        match &self.pointer.previous {
            _ if self.already => write!(f, "channel {channel} serves {version} already"),
            Some(before) => {
                let before = &before.version;
                write!(
                    f,
                    "channel {channel} serves {version} again, no longer {before}"
                )
            }
            None => write!(f, "channel {channel} serves {version} again"),
        }
    }
}

/// Why a channel could not be rolled back. It serves what it served before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RollBackError {
    /// Nothing was published to the channel.
    #[error("channel {channel} serves nothing: publish a model to it")]
    NothingServes {
        /// The channel.
        channel: String,
    },
    /// The channel has served one model only.
    #[error("channel {channel} served nothing before {version}: name a published version to go to")]
    NoPrevious {
        /// The channel.
        channel: String,
        /// What it serves.
        version: String,
    },
    /// No model of that version was published.
    #[error("{key} is not there: no model {version} was published")]
    NotPublished {
        /// The version.
        version: String,
        /// Where its card would lie.
        key: String,
    },
    /// The pointer or the model to go back to cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The file is the one that was published, and cannot be served.
    #[error("model {version} cannot be served: {source}")]
    Model {
        /// Its version.
        version: String,
        /// Why not.
        source: ModelError,
    },
    /// The channel was moved while the model was being checked.
    #[error(
        "channel {channel} was moved to {serving} by somebody else meanwhile: look whether to go back from that"
    )]
    Moved {
        /// The channel.
        channel: String,
        /// What it serves now.
        serving: String,
    },
    /// The store did not come to a decision.
    #[error("{key} could not be written {ATTEMPTS} times in a row")]
    Contended {
        /// The pointer.
        key: String,
    },
}

impl RollBackError {
    /// Whether the same roll-back may succeed later. A channel that somebody else moved is for people to look at.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Registry(error) => error.is_retryable(),
            Self::Contended { .. } => true,
            _ => false,
        }
    }
}

impl From<StorageError> for RollBackError {
    fn from(error: StorageError) -> Self {
        Self::Registry(error.into())
    }
}

/// Makes a channel serve the model before the one that it serves, or the published model `to`.
///
/// The file is read first, compared with the digest that was written when it was published, and made ready to serve.
/// The pointer is moved by compare-and-swap: where somebody else moves it meanwhile, theirs stays.
///
/// # Errors
/// [`RollBackError`]; the pointer is untouched then.
pub async fn roll_back(
    storage: &impl Storage,
    channel: &Channel,
    to: Option<&ModelVersion>,
) -> Result<RolledBack, RollBackError> {
    let (serving, state) = serving(storage, channel).await?;
    let model = match to {
        Some(version) => published(storage, version).await?,
        None => serving
            .previous
            .clone()
            .ok_or_else(|| RollBackError::NoPrevious {
                channel: channel.to_string(),
                version: serving.model.version.clone(),
            })?,
    };
    if model == serving.model {
        return Ok(RolledBack {
            pointer: serving,
            already: true,
        });
    }
    let onnx = registry::fetch_model(storage, &model).await?;
    let unservable = |source| RollBackError::Model {
        version: model.version.clone(),
        source,
    };
    // Made ready only to see that it can be.
    let segmenter = Segmenter::from_onnx(&onnx).map_err(unservable)?;
    let pointer = Pointer::new(channel, model, segmenter.contract(), Some(serving.model));
    swap(storage, channel, pointer, state).await
}

async fn serving(
    storage: &impl Storage,
    channel: &Channel,
) -> Result<(Pointer, ETag), RollBackError> {
    let Serving { pointer, etag } =
        registry::read_pointer(storage, channel)
            .await?
            .ok_or_else(|| RollBackError::NothingServes {
                channel: channel.to_string(),
            })?;
    Ok((pointer, etag))
}

/// The file of a version, as the card says that was written with it.
async fn published(
    storage: &impl Storage,
    version: &ModelVersion,
) -> Result<ModelFile, RollBackError> {
    let key = keys::model_card(version);
    let bad = |reason: String| RegistryError::BadModel {
        key: key.to_string(),
        reason,
    };
    let card = match storage.get(&key, MAX_CARD_BYTES).await {
        Ok(object) => object.bytes,
        Err(error) if error.is_not_found() => {
            return Err(RollBackError::NotPublished {
                version: version.to_string(),
                key: key.to_string(),
            });
        }
        Err(error) => return Err(error.into()),
    };
    let card: ModelCard = serde_json::from_slice(&card).map_err(|error| bad(error.to_string()))?;
    if card.model.version != version.as_str() {
        let reason = format!("it is the card of {}", card.model.version);
        return Err(bad(reason).into());
    }
    Ok(card.model)
}

/// Moves the pointer from the state that it was read in.
async fn swap(
    storage: &impl Storage,
    channel: &Channel,
    pointer: Pointer,
    state: ETag,
) -> Result<RolledBack, RollBackError> {
    for _ in 0..ATTEMPTS {
        match registry::swap_pointer(storage, channel, &pointer, Some(state.clone())).await {
            Ok(_) => {
                return Ok(RolledBack {
                    pointer,
                    already: false,
                });
            }
            Err(error) if is_lost_race(&error) => {}
            Err(error) => return Err(error.into()),
        }
        let (now, state_now) = serving(storage, channel).await?;
        // A write whose answer was lost is refused when it is repeated, by its own doing.
        if now == pointer {
            return Ok(RolledBack {
                pointer,
                already: false,
            });
        }
        if state_now != state {
            return Err(RollBackError::Moved {
                channel: channel.to_string(),
                serving: now.model.version,
            });
        }
    }
    Err(RollBackError::Contended {
        key: keys::channel_pointer(channel).to_string(),
    })
}
