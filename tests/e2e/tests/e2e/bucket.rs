//! What a bucket holds, as a whole.

pub(crate) use glioseg_test_support::contents::{Contents, assert_equal, of_bucket as contents};

/// What the keys begin with of all that comes of a slice with its truth.
pub(crate) const OF_A_SLICE: [&str; 7] = [
    "prepared/",
    "truth/",
    "masks/",
    "overlays/",
    "probabilities/",
    "reports/",
    "scores/",
];

/// Number of objects whose key begins so.
pub(crate) fn count(contents: &Contents, prefix: &str) -> usize {
    let keys = contents.keys();
    keys.filter(|key| key.starts_with(prefix)).count()
}
