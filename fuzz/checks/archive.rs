//! What must hold of zips with a study in them for any bytes.

use glioseg_preprocess::decode::{self, Contents, Given};
use glioseg_shared::cloud::{ObjectKey, keys};
use glioseg_shared::study::ServingLimits;

fn limits() -> ServingLimits {
    ServingLimits {
        max_side: 512,
        max_pages: 8,
        max_decoded_bytes: 1 << 20,
        max_zip_entries: 8,
        ..ServingLimits::default()
    }
}

/// What the bytes hold as an uploaded zip; `None` where they are refused.
pub(crate) fn contents(bytes: &[u8]) -> Option<Contents> {
    let key = ObjectKey::parse("study.zip").expect("a plain name");
    let upload = keys::classify(&key).expect("zips are uploads");
    let given = Given {
        sha256: "",
        manifest: None,
        spacing_mm: None,
    };
    decode::upload(&upload, bytes, &given, &limits()).ok()
}

/// Reads the bytes as an uploaded zip.
///
/// # Panics
/// When reading does, when what it returns exceeds its limits, or when it is another thing the second time.
pub(crate) fn read(bytes: &[u8]) {
    let (Some(contents), limits) = (self::contents(bytes), limits()) else {
        return;
    };
    let slices = contents.slices.iter().map(|prepared| &prepared.slice);
    let slices = slices.map(|slice| (slice.width(), slice.height()));
    let truths = contents.truths.iter();
    let truths = truths.map(|(_, mask)| (mask.width(), mask.height()));
    let sizes: Vec<(usize, usize)> = slices.chain(truths).collect();
    assert!(sizes.len() <= limits.max_zip_entries);
    let pixels: usize = sizes.iter().map(|(width, height)| width * height).sum();
    assert!(3 * pixels as u64 <= limits.max_decoded_bytes);
    assert_eq!(self::contents(bytes), Some(contents));
}
