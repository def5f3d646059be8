//! All that a bucket or a folder holds.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use glioseg_shared::cloud::{Metadata, Storage};

/// More bytes than any object of a test has.
const MAX_BYTES: u64 = 1 << 28;

/// Every object of a bucket, its metadata and its bytes, by key.
pub type Contents = BTreeMap<String, (Metadata, Vec<u8>)>;

/// Reads a whole bucket.
///
/// # Panics
/// When it cannot be read.
pub async fn of_bucket(storage: &impl Storage) -> Contents {
    let mut contents = Contents::new();
    let mut after = None;
    loop {
        let page = storage.list("", after.as_ref(), 1000).await;
        let page = page.unwrap_or_else(|error| panic!("{error}"));
        for entry in page.entries {
            let object = storage.get(&entry.key, MAX_BYTES).await;
            let object = object.unwrap_or_else(|error| panic!("{error}"));
            contents.insert(entry.key.to_string(), (object.metadata, object.bytes));
        }
        after = page.next;
        if after.is_none() {
            return contents;
        }
    }
}

/// Checks that two buckets hold the same.
///
/// # Panics
/// With the first object that is in one of them only, or differs.
#[track_caller]
pub fn assert_equal(found: &Contents, expected: &Contents, what: &str) {
    for key in expected.keys() {
        assert!(found.contains_key(key), "{what}: {key} is missing");
    }
    for (key, (metadata, bytes)) in found {
        let Some((expected_metadata, expected_bytes)) = expected.get(key) else {
            panic!("{what}: {key} is there and should not be");
        };
        assert_eq!(
            metadata, expected_metadata,
            "{what}: the metadata of {key} differs"
        );
        assert!(
            bytes == expected_bytes,
            "{what}: {key} differs: {:?} instead of {:?}",
            start(bytes),
            start(expected_bytes)
        );
    }
}

fn start(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned()
}

/// Reads all files below a folder, by their paths from there on, with slashes.
///
/// # Panics
/// When one cannot be read.
#[must_use]
pub fn of_folder(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    collect(root, "", &mut files).unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    files
}

fn collect(folder: &Path, below: &str, files: &mut BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let key = format!("{below}{name}");
        if path.is_dir() {
            collect(&path, &format!("{key}/"), files)?;
        } else {
            files.insert(key, fs::read(&path)?);
        }
    }
    Ok(())
}
