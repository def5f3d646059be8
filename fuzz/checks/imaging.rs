//! What must hold of the image decoders for any bytes.

use glioseg_shared::imaging::{
    Intensity, Limits, SliceReader, decode_masks, decode_slices, encode_mask_png, encode_mask_tiff,
    encode_rgb_png, encode_slice_tiff,
};

/// Decodes the bytes in every way.
///
/// # Panics
/// When a decoder does, when what it returns exceeds its limits, when the ways disagree, or when what was decoded is
/// another thing after encoding.
pub(crate) fn decode(bytes: &[u8]) {
    let limits = Limits {
        max_side: 512,
        max_pages: 8,
        max_decoded_bytes: 1 << 20,
    };
    let slices = decode_slices(bytes, &limits);
    match SliceReader::new(bytes, &limits) {
        Ok(reader) => {
            let streamed: Result<Vec<_>, _> = reader.collect();
            assert_eq!(slices.as_ref().ok(), streamed.as_ref().ok());
        }
        Err(_) => assert!(slices.is_err()),
    }
    let slices = slices.unwrap_or_default();
    let decoded: usize = slices.iter().map(|slice| slice.pixels().len()).sum();
    assert!(slices.len() <= limits.max_pages && decoded as u64 <= limits.max_decoded_bytes);
    for slice in &slices {
        assert!(slice.width().max(slice.height()) <= limits.max_side as usize);
    }
    if let Some(slice) = slices.first() {
        let png = encode_rgb_png(slice.width(), slice.height(), slice.pixels());
        for file in [encode_slice_tiff(slice), png] {
            let again = decode_slices(&file, &Limits::default()).expect("own files are sound");
            assert_eq!(again[0].pixels(), slice.pixels());
            assert_eq!(again[0].intensity(), Intensity::EightBit);
        }
    }

    let masks = decode_masks(bytes, &limits).unwrap_or_default();
    if let Some(mask) = masks.first() {
        assert_eq!(masks.len(), slices.len(), "what holds masks holds slices");
        for file in [encode_mask_tiff(mask), encode_mask_png(mask)] {
            let again = decode_masks(&file, &Limits::default()).expect("own files are sound");
            assert_eq!(&again[0], mask);
        }
    }
}
