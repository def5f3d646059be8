//! The shipped model, and a stack that has none given it.

use glioseg_shared::cloud::keys::{self, Channel, InvalidName, ModelVersion};
use glioseg_shared::cloud::{Condition, Metadata, ObjectKey, Storage, StorageError};
use glioseg_shared::model::{Contract, ModelError};
use glioseg_shared::registry::{self, ModelCard, ModelFile, Pointer, RegistryError};

/// The model that is built in.
pub const SHIPPED: &[u8] = include_bytes!("../../../training/models/fast.onnx");

/// Why a model could not be given to a stack.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// It is no model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its version cannot be part of a key.
    #[error(transparent)]
    Version(#[from] InvalidName),
    /// The bucket's pointer cannot be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The bucket did not do as told.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Publishes a model to a channel that has none, laid out as `glioseg-train publish` does; returns the version that the
/// channel serves. A channel that has a model keeps it: which is better is for `publish` to judge.
///
/// # Errors
///
/// [`PublishError`]; nothing serves then that did not before.
pub async fn publish_first(
    onnx: &[u8],
    models: &impl Storage,
    channel: &Channel,
) -> Result<String, PublishError> {
    if let Some(serving) = registry::read_pointer(models, channel).await? {
        return Ok(serving.pointer.model.version);
    }
    let contract = Contract::of_onnx(onnx)?;
    let version = ModelVersion::parse(&contract.model_version)?;
    let model = ModelFile::of(&version, onnx);
    let card = ModelCard {
        model: model.clone(),
        licence: contract.licence.clone(),
        notice: contract.notice.clone(),
        contract: contract.clone(),
    };
    write_once(models, &keys::model_onnx(&version), onnx.to_vec()).await?;
    let card_key = keys::model_card(&version);
    write_once(models, &card_key, registry::to_json(&card, &card_key)?).await?;
    let pointer = Pointer::new(channel, model, &contract, None);
    registry::swap_pointer(models, channel, &pointer, None).await?;
    Ok(version.to_string())
}

/// A version's files never change, so one that is there is the same.
async fn write_once(
    models: &impl Storage,
    key: &ObjectKey,
    bytes: Vec<u8>,
) -> Result<(), StorageError> {
    match models
        .put(key, bytes, Condition::IfAbsent, &Metadata::new())
        .await
    {
        Err(error) if !error.is_precondition_failed() => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}
