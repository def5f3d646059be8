//! What the demonstration uploads: a phantom study, or files of this machine.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_sdk_s3::Client;
use aws_sdk_s3::error::DisplayErrorContext;
use aws_sdk_s3::primitives::ByteStream;
use futures_util::stream::{self, TryStreamExt as _};
use glioseg_shared::cloud::ObjectKey;
use glioseg_shared::cloud::keys::UploadKind;
use glioseg_shared::imaging::phantom::{Phantom, PhantomConfig, PhantomError};
use glioseg_shared::imaging::{encode_mask_tiff, encode_slice_tiff};
use serde_json::json;

use crate::folder::{Fault, Inputs, collect};
use crate::wiring::Bucket;

/// Uploads under way at once.
const CONCURRENCY: usize = 8;

/// How large a pixel of a phantom is said to be: its head then measures about 18 cm across.
const PHANTOM_SPACING_MM: [f64; 3] = [0.9, 0.9, 5.0];

/// An object to be uploaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoUpload {
    /// Its key in the uploads bucket.
    pub key: ObjectKey,
    /// What it is.
    pub content: Content,
    /// Whether a slice will come of it.
    pub is_slice: bool,
}

/// The bytes of an upload, or where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The bytes.
    Bytes(Vec<u8>),
    /// A file.
    File(PathBuf),
}

/// A folder without a slice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: no slices here: slices are .tif, .tiff or .png files, a zip holds a whole study", folder.display())]
pub struct NoUploads {
    folder: PathBuf,
}

/// Why an upload failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Its file cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The bucket did not take it.
    #[error("{key} was not taken: {reason}")]
    Refused {
        /// Its key.
        key: ObjectKey,
        /// What the server says.
        reason: String,
    },
}

/// The uploads of a phantom study `phantom-<seed>`: `study.json`, and each slice with its truth.
///
/// # Errors
///
/// [`PhantomError`] when the configuration is outside of its ranges.
pub fn phantom(config: &PhantomConfig, seed: u64) -> Result<Vec<DemoUpload>, PhantomError> {
    let drawn = Phantom::generate(config, seed)?;
    let study = format!("phantom-{seed}");
    let upload = |name: String, bytes, is_slice| DemoUpload {
        key: ObjectKey::parse(format!("{study}/{name}")).expect("a number and plain letters"),
        content: Content::Bytes(bytes),
        is_slice,
    };
    let manifest = json!({ "slices": drawn.slices.len(), "spacing_mm": PHANTOM_SPACING_MM });
    let mut uploads = vec![upload(
        "study.json".to_owned(),
        manifest.to_string().into_bytes(),
        false,
    )];
    for (number, (slice, mask)) in (1..).zip(drawn.slices.iter().zip(&drawn.masks)) {
        uploads.push(upload(
            format!("slice_{number}.tif"),
            encode_slice_tiff(slice),
            true,
        ));
        uploads.push(upload(
            format!("slice_{number}_mask.tif"),
            encode_mask_tiff(mask),
            false,
        ));
    }
    Ok(uploads)
}

/// The uploads that a folder holds, and what in it cannot be looked at.
///
/// # Errors
///
/// [`NoUploads`] for a folder without a slice.
pub fn from_folder(folder: &Path) -> Result<(Vec<DemoUpload>, Vec<Fault>), NoUploads> {
    let Inputs { files, faults, .. } = collect(&[folder.to_owned()], None);
    let uploads: Vec<_> = files
        .into_iter()
        .map(|input| DemoUpload {
            key: input.key,
            content: Content::File(input.path),
            is_slice: matches!(
                input.upload.kind,
                UploadKind::Slice { .. } | UploadKind::Zip
            ),
        })
        .collect();
    if uploads.iter().any(|upload| upload.is_slice) {
        Ok((uploads, faults))
    } else {
        Err(NoUploads {
            folder: folder.to_owned(),
        })
    }
}

/// Uploads everything, several objects at a time.
///
/// # Errors
///
/// The first [`SendError`].
pub async fn send(client: &Client, uploads: Vec<DemoUpload>) -> Result<(), SendError> {
    stream::iter(uploads.into_iter().map(Ok))
        .try_for_each_concurrent(CONCURRENCY, |upload| send_one(client, upload))
        .await
}

async fn send_one(client: &Client, upload: DemoUpload) -> Result<(), SendError> {
    let body = match upload.content {
        Content::Bytes(bytes) => bytes,
        // Files of a study are small, and reading blocks this thread no longer than a write to its server.
        Content::File(path) => {
            fs::read(&path).map_err(|source| SendError::File { path, source })?
        }
    };
    let sent = client
        .put_object()
        .bucket(Bucket::Uploads.name())
        .key(upload.key.as_str())
        .body(ByteStream::from(body))
        .send()
        .await;
    match sent {
        Ok(_) => Ok(()),
        Err(error) => Err(SendError::Refused {
            key: upload.key,
            reason: DisplayErrorContext(error).to_string(),
        }),
    }
}
