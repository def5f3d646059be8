//! What must hold of the decoder of prepared slices for any bytes.

use glioseg_shared::imaging::Limits;
use glioseg_shared::study::Prepared;

/// Decodes the bytes as a prepared slice.
///
/// # Panics
/// When the decoder does, when what it returns exceeds its limits, or when it is another thing after encoding.
pub(crate) fn decode(bytes: &[u8]) {
    let limits = Limits {
        max_side: 512,
        max_pages: 1,
        max_decoded_bytes: 1 << 20,
    };
    let Ok(prepared) = Prepared::decode(bytes, &limits) else {
        return;
    };
    let slice = &prepared.slice;
    assert!(slice.width().max(slice.height()) <= limits.max_side as usize);
    assert!(slice.pixels().len() as u64 <= limits.max_decoded_bytes);
    let file = prepared.encode();
    let again = Prepared::decode(&file, &limits).expect("own files are sound");
    assert_eq!(again, prepared);
    assert_eq!(again.encode(), file);
}
