//! The model that serves: picked up from its channel, kept fresh, swapped between two requests.
//!
//! A request takes the model once, by [`ModelSlot::current`], and keeps it to its end; a swap
//! changes what the next one takes.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use glioseg_shared::cloud::keys::Channel;
use glioseg_shared::cloud::telemetry::Metrics;
use glioseg_shared::cloud::{ETag, Storage};
use glioseg_shared::model::contract::Unit;
use glioseg_shared::model::{ModelError, Segmenter};
use glioseg_shared::registry::{self, FoundModel, Pointer, PointerState, RegistryError};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

/// Longest look at the channel, download included: less than the ten seconds of a Lambda's init,
/// and less than a client waits while another model could answer.
const PATIENCE: Duration = Duration::from_secs(8);

/// Tells the time. It is the wall clock's: the monotonic one may stand still while Lambda keeps the
/// process frozen.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// A model that is ready, and the pointer that named it.
#[derive(Debug)]
pub struct ServedModel {
    /// The model.
    pub segmenter: Arc<Segmenter>,
    /// What the channel said of it.
    pub pointer: Pointer,
}

impl ServedModel {
    /// The model's version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.pointer.model.version
    }

    /// The channel it was picked up from.
    #[must_use]
    pub fn channel(&self) -> &str {
        &self.pointer.channel
    }
}

/// Why there is no model to answer with. All of these pass once a sound model is published, or the
/// bucket can be reached again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoModel {
    /// Nothing was published to the channel.
    #[error("no model is published to channel {channel}")]
    Absent {
        /// The channel's name.
        channel: String,
    },
    /// What the channel names cannot be served.
    #[error("the model of channel {channel} cannot be served: {reason}")]
    Broken {
        /// The channel's name.
        channel: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The bucket of models could not be read.
    #[error("the model of channel {channel} could not be read: {reason}")]
    Unreachable {
        /// The channel's name.
        channel: String,
        /// What the store said.
        reason: String,
    },
}

/// The place of the one model that serves.
pub struct ModelSlot<S> {
    models: S,
    channel: Channel,
    refresh_after: Duration,
    clock: Clock,
    served: RwLock<Served>,
    /// Held by the one that looks at the channel.
    known: Mutex<Known>,
}

/// What requests take.
#[derive(Default)]
struct Served {
    model: Option<Arc<ServedModel>>,
    looked_at: Option<SystemTime>,
}

/// The state of the pointer that was acted on last.
#[derive(Default)]
struct Known {
    etag: Option<ETag>,
    /// Why what it names is not what serves.
    fault: Option<Fault>,
}

/// What is wrong with what the channel names. It is not transferred again before it changes.
#[derive(Clone)]
struct Fault {
    reason: String,
    /// The pointer, and the state of the file that it names; `None` where it is the pointer that is wrong.
    file: Option<(Pointer, ETag)>,
}

/// What the model is that a channel names.
enum Loaded {
    Ready(Arc<ServedModel>),
    Bad(Box<Fault>),
}

impl<S: Storage> ModelSlot<S> {
    /// An empty slot; the first [`ModelSlot::current`] fills it.
    pub fn new(models: S, channel: Channel, refresh_after: Duration, clock: Clock) -> Self {
        Self {
            models,
            channel,
            refresh_after,
            clock,
            served: RwLock::default(),
            known: Mutex::default(),
        }
    }

    /// The channel that is served.
    pub fn channel(&self) -> &Channel {
        &self.channel
    }

    /// The model to answer with. Looks at the channel where the last look is older than the refresh
    /// time; when that fails, the model that served before goes on.
    ///
    /// # Errors
    /// [`NoModel`] where none has served yet.
    pub async fn current(&self) -> Result<Arc<ServedModel>, NoModel> {
        let (model, fresh) = self.served();
        let Some(model) = model else {
            let mut known = self.known.lock().await;
            // Whoever held the lock may have filled the slot.
            return match self.served().0 {
                Some(model) => Ok(model),
                None => self.look(&mut known).await,
            };
        };
        if !fresh && let Ok(mut known) = self.known.try_lock() {
            // What went wrong has been told by `look`; a model that serves is answer enough.
            return Ok(self.look(&mut known).await.unwrap_or(model));
        }
        Ok(model)
    }

    /// The model that the channel names now, however short ago the last look was.
    ///
    /// # Errors
    /// [`NoModel`] where that model cannot be served, even if another one is being served.
    pub async fn named_now(&self) -> Result<Arc<ServedModel>, NoModel> {
        let mut known = self.known.lock().await;
        self.look(&mut known).await
    }

    fn served(&self) -> (Option<Arc<ServedModel>>, bool) {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        let fresh = served.looked_at.is_some_and(|looked_at| {
            // A clock that was set back makes the look count as old.
            (self.clock)()
                .duration_since(looked_at)
                .is_ok_and(|age| age < self.refresh_after)
        });
        (served.model.clone(), fresh)
    }

    /// Looks at the channel, and makes what it names serve.
    async fn look(&self, known: &mut Known) -> Result<Arc<ServedModel>, NoModel> {
        let looked = tokio::time::timeout(PATIENCE, self.follow(known))
            .await
            .unwrap_or_else(|_| Err(self.unreachable("it took too long")));
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        served.looked_at = Some((self.clock)());
        match looked {
            Ok(model) => {
                served.model = Some(Arc::clone(&model));
                Ok(model)
            }
            Err(error) => {
                let serving = served.model.as_deref().map(ServedModel::version);
                tracing::error!(%error, serving, "the channel's model cannot be picked up");
                Metrics::new("segment")
                    .count("ModelPickUpFailures", 1)
                    .emit();
                Err(error)
            }
        }
    }

    async fn follow(&self, known: &mut Known) -> Result<Arc<ServedModel>, NoModel> {
        let state =
            registry::read_pointer_if_changed(&self.models, &self.channel, known.etag.as_ref())
                .await
                .map_err(|error| self.refused(&error))?;
        match state {
            PointerState::Absent => Err(NoModel::Absent {
                channel: self.channel.to_string(),
            }),
            PointerState::Found { etag, pointer } => {
                let loaded = match *pointer {
                    Ok(pointer) => self.load(pointer, None).await?,
                    Err(error) => Loaded::Bad(Box::new(Fault {
                        reason: error.to_string(),
                        file: None,
                    })),
                };
                known.etag = Some(etag);
                self.settle(known, loaded)
            }
            PointerState::Unchanged => match known.fault.clone() {
                None => self
                    .served()
                    .0
                    .ok_or_else(|| self.broken("it was not loaded")),
                Some(fault) => {
                    let loaded = match fault.file.clone() {
                        // The same version may have been published anew, and whole this time.
                        Some((pointer, _)) => self.load(pointer, Some(fault)).await?,
                        None => Loaded::Bad(Box::new(fault)),
                    };
                    self.settle(known, loaded)
                }
            },
        }
    }

    fn settle(&self, known: &mut Known, loaded: Loaded) -> Result<Arc<ServedModel>, NoModel> {
        match loaded {
            Loaded::Ready(model) => {
                known.fault = None;
                Ok(model)
            }
            Loaded::Bad(fault) => {
                let error = self.broken(&fault.reason);
                known.fault = Some(*fault);
                Err(error)
            }
        }
    }

    /// Makes the model that a pointer names ready; where its file is still as it was when `fault` was found, that is
    /// the answer again.
    ///
    /// # Errors
    /// What passes without a change of the file.
    async fn load(&self, pointer: Pointer, fault: Option<Fault>) -> Result<Loaded, NoModel> {
        if let Some(serving) = self.served().0
            && serving.pointer.model.onnx_sha256 == pointer.model.onnx_sha256
            && serving.version() == pointer.model.version
        {
            // Back from a model that never served, or only the pointer's other fields changed.
            let segmenter = Arc::clone(&serving.segmenter);
            return Ok(Loaded::Ready(Arc::new(ServedModel { segmenter, pointer })));
        }
        let seen = fault
            .as_ref()
            .and_then(|fault| Some(&fault.file.as_ref()?.1));
        let found = registry::fetch_model_if_changed(&self.models, &pointer.model, seen)
            .await
            .map_err(|error| self.refused(&error))?;
        let FoundModel { etag, onnx } = match (found, fault) {
            (Some(found), _) => found,
            (None, Some(fault)) => return Ok(Loaded::Bad(Box::new(fault))),
            (None, None) => return Err(self.unreachable("the bucket sent no file")),
        };
        let bad = |reason, pointer| {
            let file = Some((pointer, etag));
            Ok(Loaded::Bad(Box::new(Fault { reason, file })))
        };
        let onnx = match onnx {
            Ok(onnx) => onnx,
            Err(error) => return bad(error.to_string(), pointer),
        };
        let version = pointer.model.version.clone();
        // Optimising the network takes a tenth of a second of computing.
        let ready = spawn_blocking(move || ready(&onnx, &version))
            .await
            .map_err(|error| self.unreachable(&error.to_string()))?;
        let segmenter = match ready {
            Ok(segmenter) => Arc::new(segmenter),
            Err(reason) => return bad(reason, pointer),
        };
        let model_version = pointer.model.version.as_str();
        tracing::info!(model_version, channel = %self.channel, "model picked up");
        Ok(Loaded::Ready(Arc::new(ServedModel { segmenter, pointer })))
    }

    fn refused(&self, error: &RegistryError) -> NoModel {
        match error {
            RegistryError::BadPointer { .. } | RegistryError::BadModel { .. } => {
                self.broken(&error.to_string())
            }
            _ => self.unreachable(&error.to_string()),
        }
    }

    fn broken(&self, reason: &str) -> NoModel {
        NoModel::Broken {
            channel: self.channel.to_string(),
            reason: reason.to_owned(),
        }
    }

    fn unreachable(&self, reason: &str) -> NoModel {
        NoModel::Unreachable {
            channel: self.channel.to_string(),
            reason: reason.to_owned(),
        }
    }
}

/// Makes a model file ready, if it is what the pointer says and can be served slice by slice.
fn ready(onnx: &[u8], version: &str) -> Result<Segmenter, String> {
    let segmenter = Segmenter::from_onnx(onnx).map_err(|error| error.to_string())?;
    let contract = segmenter.contract();
    if contract.model_version != version {
        return Err(format!(
            "its contract is of version {}, the pointer names {version}",
            contract.model_version
        ));
    }
    if contract.unit != Unit::Slice {
        let needs_volume = ModelError::NeedsVolume {
            model_version: version.to_owned(),
        };
        return Err(needs_volume.to_string());
    }
    Ok(segmenter)
}
