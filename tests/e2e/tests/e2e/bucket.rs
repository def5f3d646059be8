//! What a bucket holds, as a whole.

use std::collections::BTreeMap;

use glioseg_shared::cloud::{Metadata, Storage};

/// More bytes than any object of a test has.
const MAX_BYTES: u64 = 1 << 28;

/// Every object of a bucket: its metadata and its bytes, by key.
pub(crate) type Contents = BTreeMap<String, (Metadata, Vec<u8>)>;

/// Reads a whole bucket.
pub(crate) async fn contents(storage: &impl Storage) -> Contents {
    let mut contents = Contents::new();
    let mut after = None;
    loop {
        let page = storage.list("", after.as_ref(), 1000).await.unwrap();
        for entry in page.entries {
            let object = storage.get(&entry.key, MAX_BYTES).await.unwrap();
            contents.insert(entry.key.to_string(), (object.metadata, object.bytes));
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return contents,
        }
    }
}

/// Panics with the first object that is in one of two buckets only, or differs.
pub(crate) fn assert_equal(found: &Contents, expected: &Contents, what: &str) {
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
