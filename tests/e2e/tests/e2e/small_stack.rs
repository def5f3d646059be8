//! A local stack with bounds that tests need not spend gigabytes to go beyond.

use glioseg_local::stack::{Stack, StackConfig};
use tempfile::TempDir;

/// Most bytes of an upload.
pub(crate) const MAX_UPLOAD_BYTES: usize = 2_000_000;
/// Most bytes that an upload may come to.
pub(crate) const MAX_DECODED_BYTES: usize = 4_000_000;

/// A stack with these bounds, and the folder that it needs.
pub(crate) async fn small_stack() -> (Stack, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let environment = [
        ("MAX_UPLOAD_BYTES", MAX_UPLOAD_BYTES.to_string()),
        ("MAX_DECODED_BYTES", MAX_DECODED_BYTES.to_string()),
        ("MODEL_REFRESH_SECONDS", "0".to_owned()),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value));
    let config = StackConfig {
        environment: environment.into(),
        ..StackConfig::new(folder.path())
    };
    (Stack::start(config).await.unwrap(), folder)
}
