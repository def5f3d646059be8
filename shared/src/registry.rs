//! Which model serves: a channel's pointer, its check, and its swap. The one place where model
//! meets cloud.

use serde::de::Error as _;
use serde::{Deserialize, Serialize};

use crate::cloud::keys::{self, Channel, ModelVersion};
use crate::cloud::{Condition, ETag, Metadata, ObjectKey, Storage, StorageError};
use crate::digest::sha256_hex;
use crate::model::{Contract, MAX_FILE_BYTES};

/// More than any pointer takes: it holds a dozen short texts.
const MAX_POINTER_BYTES: u64 = 64 * 1024;

/// A model file in the store, named so that its bytes can be checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFile {
    /// The version that the file's contract names.
    pub version: String,
    /// Where it lies: `models/<version>/model.onnx`.
    pub onnx_key: String,
    /// SHA-256 of its bytes, in lower-case hexadecimal digits.
    pub onnx_sha256: String,
    /// Its length in bytes.
    pub size: u64,
}

impl ModelFile {
    /// Names these bytes as the file of a version.
    #[must_use]
    pub fn of(version: &ModelVersion, onnx: &[u8]) -> Self {
        Self {
            version: version.to_string(),
            onnx_key: keys::model_onnx(version).to_string(),
            onnx_sha256: sha256_hex(onnx),
            size: onnx.len() as u64,
        }
    }

    /// The key, if every field is one that [`ModelFile::of`] could have written.
    fn checked_key(&self) -> Result<ObjectKey, String> {
        let version = ModelVersion::parse(&self.version).map_err(|error| error.to_string())?;
        let key = keys::model_onnx(&version);
        if self.onnx_key != key.as_str() {
            return Err(format!("onnx_key is {:?} instead of {key}", self.onnx_key));
        }
        if self.size > MAX_FILE_BYTES as u64 {
            return Err(format!(
                "size is {}, at most {MAX_FILE_BYTES} bytes are read",
                self.size
            ));
        }
        Ok(key)
    }
}

/// The document `models/<channel>/current.json`: what a channel serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pointer {
    /// The channel's name.
    pub channel: String,
    /// The model that it serves.
    #[serde(flatten)]
    pub model: ModelFile,
    /// The model that it served before, to go back to.
    pub previous: Option<ModelFile>,
    /// Licence of the weights, as an SPDX expression.
    pub licence: String,
    /// Limits of use: research only.
    pub notice: String,
}

impl Pointer {
    /// Makes a channel's pointer to a model whose contract is given.
    #[must_use]
    pub fn new(
        channel: &Channel,
        model: ModelFile,
        contract: &Contract,
        previous: Option<ModelFile>,
    ) -> Self {
        Self {
            channel: channel.to_string(),
            model,
            previous,
            licence: contract.licence.clone(),
            notice: contract.notice.clone(),
        }
    }

    fn from_json(json: &[u8], channel: &Channel) -> Result<Self, serde_json::Error> {
        let pointer: Self = serde_json::from_slice(json)?;
        if pointer.channel != channel.as_str() {
            return Err(serde_json::Error::custom(format!(
                "it is of channel {:?}",
                pointer.channel
            )));
        }
        for model in std::iter::once(&pointer.model).chain(&pointer.previous) {
            model.checked_key().map_err(serde_json::Error::custom)?;
        }
        Ok(pointer)
    }
}

/// The document `models/<version>/model.json`: a copy, for people, of what the model file says.
/// Nothing is decided by it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// The model file beside it.
    #[serde(flatten)]
    pub model: ModelFile,
    /// Licence of the weights, as an SPDX expression.
    pub licence: String,
    /// Limits of use: research only.
    pub notice: String,
    /// The contract inside the model file.
    pub contract: Contract,
}

/// A channel's pointer and the state of the store that it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// What the channel serves.
    pub pointer: Pointer,
    /// The state, for [`swap_pointer`].
    pub etag: ETag,
}

/// Why the registry cannot say, or change, what serves.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The store did not do as told.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The pointer is there, but nothing can be served by it.
    #[error("{key} is no pointer to a model: {reason}")]
    BadPointer {
        /// The pointer's key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The model file is not the one that was named.
    #[error("{key} is not the model that was published: {reason}")]
    BadModel {
        /// The file's key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl RegistryError {
    /// Whether the very same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Storage(error) if error.is_retryable())
    }
}

/// Reads what a channel serves; `None` where nothing was published to it.
///
/// # Errors
/// [`RegistryError::BadPointer`] for a document that is damaged or of another channel, and what
/// the store meets.
pub async fn read_pointer(
    storage: &impl Storage,
    channel: &Channel,
) -> Result<Option<Serving>, RegistryError> {
    match read_pointer_if_changed(storage, channel, None).await? {
        PointerState::Found { etag, pointer } => Ok(Some(Serving {
            pointer: (*pointer)?,
            etag,
        })),
        PointerState::Absent | PointerState::Unchanged => Ok(None),
    }
}

/// What a look at a channel's pointer found.
#[derive(Debug)]
pub enum PointerState {
    /// Nothing was published to the channel.
    Absent,
    /// The pointer is still in the state that was known.
    Unchanged,
    /// There is a pointer in another state than the one known.
    Found {
        /// The state.
        etag: ETag,
        /// What the channel serves; [`RegistryError::BadPointer`] for a document that is damaged
        /// or of another channel, so that a reader can remember which state was bad.
        pointer: Box<Result<Pointer, RegistryError>>,
    },
}

/// Reads a channel's pointer unless it is still in the state `known`; no content is transferred
/// then.
///
/// # Errors
/// What the store meets; a pointer that is larger than any is a [`RegistryError::BadPointer`]
/// without a state.
pub async fn read_pointer_if_changed(
    storage: &impl Storage,
    channel: &Channel,
    known: Option<&ETag>,
) -> Result<PointerState, RegistryError> {
    let key = keys::channel_pointer(channel);
    let read = match known {
        None => storage.get(&key, MAX_POINTER_BYTES).await.map(Some),
        Some(known) => storage.get_if_changed(&key, known, MAX_POINTER_BYTES).await,
    };
    let bad = |reason: String| RegistryError::BadPointer {
        key: key.to_string(),
        reason,
    };
    match read {
        Ok(None) => Ok(PointerState::Unchanged),
        Ok(Some(object)) => Ok(PointerState::Found {
            pointer: Box::new(
                Pointer::from_json(&object.bytes, channel).map_err(|error| bad(error.to_string())),
            ),
            etag: object.etag,
        }),
        Err(error) if error.is_not_found() => Ok(PointerState::Absent),
        Err(error @ StorageError::TooLarge { .. }) => Err(bad(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

/// Makes a channel serve what the pointer says, if the pointer there is still in the state
/// `expected`; with `None`, if there is none.
///
/// # Errors
/// [`StorageError::PreconditionFailed`] where somebody else swapped it before, and what the store
/// meets.
pub async fn swap_pointer(
    storage: &impl Storage,
    channel: &Channel,
    pointer: &Pointer,
    expected: Option<ETag>,
) -> Result<ETag, StorageError> {
    let key = keys::channel_pointer(channel);
    let condition = expected.map_or(Condition::IfAbsent, Condition::IfMatch);
    let json = to_json(pointer, &key)?;
    storage.put(&key, json, condition, &Metadata::new()).await
}

/// Reads a model file and checks that it is the one that was named.
///
/// # Errors
/// [`RegistryError::BadModel`] where it is another, and what the store meets.
pub async fn fetch_model(
    storage: &impl Storage,
    model: &ModelFile,
) -> Result<Vec<u8>, RegistryError> {
    match fetch_model_if_changed(storage, model, None).await? {
        Some(found) => found.onnx,
        None => Err(StorageError::NotFound {
            key: model.onnx_key.clone(),
        }
        .into()),
    }
}

/// A model file in one state of it.
#[derive(Debug)]
pub struct FoundModel {
    /// The state.
    pub etag: ETag,
    /// The file's bytes; [`RegistryError::BadModel`] where they are not those that were named, so
    /// that a reader can remember which state was bad.
    pub onnx: Result<Vec<u8>, RegistryError>,
}

/// Reads a model file as [`fetch_model`] does, unless it is still in the state `known`: `None`
/// then, and no content is transferred.
///
/// # Errors
/// What the store meets.
pub async fn fetch_model_if_changed(
    storage: &impl Storage,
    model: &ModelFile,
    known: Option<&ETag>,
) -> Result<Option<FoundModel>, RegistryError> {
    let bad = |reason| RegistryError::BadModel {
        key: model.onnx_key.clone(),
        reason,
    };
    let key = model.checked_key().map_err(bad)?;
    let read = match known {
        None => storage.get(&key, model.size).await.map(Some),
        Some(known) => storage.get_if_changed(&key, known, model.size).await,
    };
    let object = match read {
        Ok(Some(object)) => object,
        Ok(None) => return Ok(None),
        Err(error @ StorageError::TooLarge { .. }) => {
            return Ok(Some(FoundModel {
                etag: storage.head(&key).await?.etag,
                onnx: Err(bad(error.to_string())),
            }));
        }
        Err(error) => return Err(error.into()),
    };
    let sha256 = sha256_hex(&object.bytes);
    let onnx = if sha256 == model.onnx_sha256 {
        Ok(object.bytes)
    } else {
        Err(bad(format!(
            "its SHA-256 is {sha256}, not {}",
            model.onnx_sha256
        )))
    };
    Ok(Some(FoundModel {
        etag: object.etag,
        onnx,
    }))
}

/// A document of the registry as it is stored: indented JSON that ends with a line break.
///
/// # Errors
/// [`StorageError::Failed`] where it cannot be written as JSON.
pub fn to_json(document: &impl Serialize, key: &ObjectKey) -> Result<Vec<u8>, StorageError> {
    let mut json = serde_json::to_vec_pretty(document).map_err(|error| StorageError::Failed {
        operation: "write",
        key: key.to_string(),
        reason: error.to_string(),
    })?;
    json.push(b'\n');
    Ok(json)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn pointer() -> Pointer {
        let file = |version| ModelFile::of(&ModelVersion::parse(version).unwrap(), b"onnx");
        Pointer {
            channel: "fast".to_owned(),
            model: file("v2"),
            previous: Some(file("v1")),
            licence: "CC-BY-NC-SA-4.0".to_owned(),
            notice: "research use only".to_owned(),
        }
    }

    #[test]
    fn a_pointer_is_a_flat_document_that_reads_back() {
        let channel = Channel::parse("fast").unwrap();
        let json = to_json(&pointer(), &keys::channel_pointer(&channel)).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(value["version"], "v2");
        assert_eq!(value["onnx_key"], "models/v2/model.onnx");
        assert_eq!(value["onnx_sha256"], sha256_hex(b"onnx"));
        assert_eq!(value["size"], 4);
        assert_eq!(value["previous"]["version"], "v1");
        assert_eq!(Pointer::from_json(&json, &channel).unwrap(), pointer());
    }

    #[test]
    fn a_pointer_out_of_the_layout_is_refused() {
        let channel = Channel::parse("fast").unwrap();
        let refused = |change: &dyn Fn(&mut Pointer), part: &str| {
            let mut pointer = pointer();
            change(&mut pointer);
            let json = serde_json::to_vec(&pointer).unwrap();
            let error = Pointer::from_json(&json, &channel).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        };
        refused(&|p| p.channel = "slow".to_owned(), "slow");
        refused(&|p| p.model.version = "../v".to_owned(), "../v");
        refused(&|p| p.model.onnx_key = "uploads/x".to_owned(), "uploads/x");
        refused(&|p| p.model.size = u64::MAX, "18446744073709551615");
        refused(
            &|p| p.previous.as_mut().unwrap().onnx_key.clear(),
            "models/v1/model.onnx",
        );
        assert!(Pointer::from_json(b"{\"channel\": \"fast\"}", &channel).is_err());
        assert!(Pointer::from_json(b"", &channel).is_err());
    }
}
