//! The labelled data set of a stack as a channel of a training job.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use glioseg_shared::cloud::keys::{labelled_manifest, parse_labelled};
use glioseg_shared::cloud::{ObjectKey, Storage, StorageError};
use glioseg_shared::study::labelled::{Manifest, Split};
use glioseg_shared::study::{Document as _, DocumentError};

/// What the keys of the data set begin with.
const PREFIX: &str = "labelled/";

/// Most bytes of a file of the data set.
const MAX_BYTES: u64 = 256 << 20;

/// Why there is no channel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The bucket did not give an object.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A file could not be written.
    #[error("{}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The manifest is none.
    #[error(transparent)]
    Manifest(#[from] DocumentError),
    /// Nothing can be trained with these patients.
    #[error(
        "{train} patients with truth train, {validation} validate and {test} test: training needs at least one of each \
         of the first two. A patient's name decides; of ten one validates: use more patients"
    )]
    TooFew {
        /// Patients to learn from.
        train: usize,
        /// Patients to choose among models by.
        validation: usize,
        /// Patients to be measured on.
        test: usize,
    },
}

/// Copies what lies under `labelled/` into a folder, as SageMaker does with a channel; tells who is for what.
///
/// # Errors
/// [`DownloadError`].
pub async fn download(results: &impl Storage, folder: &Path) -> Result<Split, DownloadError> {
    let mut patients = BTreeSet::new();
    let mut after = None;
    loop {
        let page = results.list(PREFIX, after.as_ref(), 1000).await?;
        for entry in page.entries {
            // Any other object is none of the data set, and its key perhaps no path.
            if let Some((slice, _)) = parse_labelled(&entry.key) {
                match copy(results, &entry.key, folder, MAX_BYTES).await {
                    Ok(_) => {
                        patients.insert(slice.patient().to_string());
                    }
                    // Deleted since it was listed.
                    Err(DownloadError::Storage(error)) if error.is_not_found() => {}
                    Err(error) => return Err(error),
                }
            }
        }
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let split = match copy(results, &labelled_manifest(), folder, Manifest::MAX_BYTES).await {
        Ok(manifest) => Manifest::from_json(&manifest)?.split(|patient| patients.contains(patient)),
        Err(DownloadError::Storage(error)) if error.is_not_found() => Split::default(),
        Err(error) => return Err(error),
    };
    if split.train.is_empty() || split.validation.is_empty() {
        return Err(DownloadError::TooFew {
            train: split.train.len(),
            validation: split.validation.len(),
            test: split.test.len(),
        });
    }
    Ok(split)
}

async fn copy(
    results: &impl Storage,
    key: &ObjectKey,
    folder: &Path,
    max_bytes: u64,
) -> Result<Vec<u8>, DownloadError> {
    let bytes = results.get(key, max_bytes).await?.bytes;
    let name = key.as_str().strip_prefix(PREFIX).unwrap_or(key.as_str());
    let path = folder.join(name);
    let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
    match parent.and_then(|()| fs::write(&path, &bytes)) {
        Ok(()) => Ok(bytes),
        Err(source) => Err(DownloadError::Write { path, source }),
    }
}
