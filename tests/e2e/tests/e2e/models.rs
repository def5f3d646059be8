//! Models, and how they come to be served.

use std::path::{Path, PathBuf};

use glioseg_shared::cloud::keys::{self, Channel, ModelVersion};
use glioseg_shared::cloud::{Condition, Metadata, Storage};
use glioseg_shared::model::Segmenter;
use glioseg_shared::registry::{ModelFile, Pointer, read_pointer, swap_pointer};

/// The channel that the template serves by default.
pub(crate) const CHANNEL: &str = "fast";

/// The shipped model.
pub(crate) fn shipped() -> PathBuf {
    workspace().join("training/models/fast.onnx")
}

/// A small model of the same contract, with random weights.
pub(crate) fn other() -> PathBuf {
    workspace().join("shared/tests/goldens/inference/lean.onnx")
}

/// Stores a model and points the channel to it; returns its version.
pub(crate) async fn publish(models: &impl Storage, onnx: &Path) -> String {
    let onnx = std::fs::read(onnx).unwrap();
    let segmenter = Segmenter::from_onnx(&onnx).unwrap();
    let contract = segmenter.contract();
    let version = ModelVersion::parse(&contract.model_version).unwrap();
    let channel = Channel::parse(CHANNEL).unwrap();
    let file = ModelFile::of(&version, &onnx);
    let before = read_pointer(models, &channel).await.unwrap();
    models
        .put(
            &keys::model_onnx(&version),
            onnx,
            Condition::Always,
            &Metadata::new(),
        )
        .await
        .unwrap();
    let (previous, state) = before
        .map(|serving| (serving.pointer.model, serving.etag))
        .unzip();
    let pointer = Pointer::new(&channel, file, contract, previous);
    swap_pointer(models, &channel, &pointer, state)
        .await
        .unwrap();
    version.to_string()
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
}
