//! Decoding and encoding, against files and expectations made by tifffile, Pillow and NumPy
//! (`goldens/imaging/make_imaging_goldens.py`).

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use glioseg_shared::imaging::{
    CHANNELS, ImagingError, Intensity, Limit, Limits, Mask, Slice, SliceReader, decode_masks,
    decode_slices, encode_mask_png, encode_mask_tiff, encode_rgb_png, encode_slice_tiff,
};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Goldens {
    pictures: BTreeMap<String, Picture>,
    slices: BTreeMap<String, String>,
    masks: BTreeMap<String, String>,
    not_masks: BTreeMap<String, String>,
    refused: BTreeMap<String, Refusal>,
}

#[derive(Deserialize)]
struct Picture {
    pages: usize,
    width: usize,
    height: usize,
    percentiles: Option<Percentiles>,
}

/// By page, then channel.
#[derive(Deserialize)]
struct Percentiles {
    low: Vec<[f64; CHANNELS]>,
    high: Vec<[f64; CHANNELS]>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
    message: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/imaging")
}

fn read(path: &str) -> Vec<u8> {
    std::fs::read(folder().join(path)).unwrap()
}

fn goldens() -> Goldens {
    serde_json::from_slice(&read("goldens.json")).unwrap()
}

fn decode(bytes: &[u8]) -> Result<Vec<Slice>, ImagingError> {
    decode_slices(bytes, &Limits::default())
}

/// The variant of an error, as the goldens name it.
fn variant(error: &ImagingError) -> String {
    let debug = format!("{error:?}");
    debug
        .split(|c: char| !c.is_alphanumeric())
        .next()
        .unwrap()
        .to_owned()
}

fn close(a: f32, b: f64) -> bool {
    (f64::from(a) - b).abs() <= 1e-6 * b.abs()
}

#[test]
fn every_encoding_decodes_to_the_picture_it_was_made_from() {
    let goldens = goldens();
    for (file, source) in &goldens.slices {
        let picture = &goldens.pictures[source];
        let expected = read(&format!("{source}.raw"));
        let slices =
            decode(&read(&format!("slices/{file}"))).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert_eq!(slices.len(), picture.pages, "{file}");
        let page_bytes = picture.width * picture.height * CHANNELS;
        for (page, (slice, expected)) in slices.iter().zip(expected.chunks(page_bytes)).enumerate()
        {
            assert_eq!(
                (slice.width(), slice.height()),
                (picture.width, picture.height),
                "{file}"
            );
            assert_eq!(slice.pixels(), expected, "{file}, page {page}");
            match (slice.intensity(), &picture.percentiles) {
                (Intensity::EightBit, None) => {}
                (Intensity::Rescaled { low, high }, Some(percentiles)) => {
                    for channel in 0..CHANNELS {
                        assert!(
                            close(low[channel], percentiles.low[page][channel]),
                            "{file}"
                        );
                        assert!(
                            close(high[channel], percentiles.high[page][channel]),
                            "{file}"
                        );
                    }
                }
                (intensity, _) => panic!("{file}: {intensity:?}"),
            }
        }
    }
}

#[test]
fn every_mask_decodes_to_the_pixels_it_was_made_from() {
    for (file, raw) in &goldens().masks {
        let masks = decode_masks(&read(&format!("masks/{file}")), &Limits::default())
            .unwrap_or_else(|e| panic!("{file}: {e}"));
        let pixels: Vec<u8> = masks
            .iter()
            .flat_map(|mask| mask.pixels().iter().map(|&set| u8::from(set)))
            .collect();
        assert_eq!(pixels, read(raw), "{file}");
        assert!(
            masks
                .iter()
                .all(|mask| (mask.width(), mask.height()) == (20, 17)),
            "{file}"
        );
    }
}

#[test]
fn pixels_that_are_no_mask_are_refused() {
    for (file, message) in &goldens().not_masks {
        let bytes = read(&format!("masks/{file}"));
        let error = decode_masks(&bytes, &Limits::default()).unwrap_err();
        assert!(
            matches!(error, ImagingError::NotAMask { .. }),
            "{file}: {error}"
        );
        assert!(error.to_string().contains(message), "{file}: {error}");
        assert!(decode(&bytes).is_ok(), "{file} is a sound picture");
    }
}

#[test]
fn what_is_damaged_unsupported_or_too_large_is_refused_by_name() {
    for (file, refusal) in &goldens().refused {
        let bytes = read(&format!("refused/{file}"));
        let error = decode(&bytes).expect_err(file);
        assert_eq!(variant(&error), refusal.error, "{file}: {error}");
        assert!(
            error.to_string().contains(&refusal.message),
            "{file}: {error}"
        );
        assert!(decode_masks(&bytes, &Limits::default()).is_err(), "{file}");
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    for file in [
        "slices/grey8_lzw.tif",
        "slices/volume8_bigtiff_big_endian_lzw.tif",
        "slices/grey16.png",
    ] {
        let bytes = read(file);
        for length in 0..bytes.len() - 16 {
            assert!(
                decode(&bytes[..length]).is_err(),
                "{file} cut to {length} bytes"
            );
        }
    }
}

fn too_large(error: &ImagingError) -> Option<Limit> {
    match error {
        ImagingError::TooLarge { limit, .. } => Some(*limit),
        _ => None,
    }
}

#[test]
fn limits_are_settable_and_exact() {
    let limits = Limits {
        max_side: 20,
        max_pages: 3,
        max_decoded_bytes: 3 * 20 * 17 * 3,
    };
    let volume = read("slices/volume8.tif");
    assert_eq!(decode_slices(&volume, &limits).unwrap().len(), 3);
    for (changed, limit) in [
        (
            Limits {
                max_side: 19,
                ..limits
            },
            Limit::Side,
        ),
        (
            Limits {
                max_pages: 2,
                ..limits
            },
            Limit::Pages,
        ),
        (
            Limits {
                max_decoded_bytes: 3 * 20 * 17 * 3 - 1,
                ..limits
            },
            Limit::DecodedBytes,
        ),
    ] {
        let error = decode_slices(&volume, &changed).unwrap_err();
        assert_eq!(too_large(&error), Some(limit), "{error}");
        let error = decode_masks(&volume, &changed).unwrap_err();
        assert_eq!(too_large(&error), Some(limit), "{error}");
    }
    let picture = read("slices/rgb16.png");
    for (changed, limit) in [
        (
            Limits {
                max_side: 19,
                ..limits
            },
            Limit::Side,
        ),
        (
            Limits {
                max_pages: 0,
                ..limits
            },
            Limit::Pages,
        ),
        (
            Limits {
                max_decoded_bytes: 6 * 20 * 17 - 1,
                ..limits
            },
            Limit::DecodedBytes,
        ),
    ] {
        let error = decode_slices(&picture, &changed).unwrap_err();
        assert_eq!(too_large(&error), Some(limit), "{error}");
    }
    let stored = Limits {
        max_decoded_bytes: 6 * 20 * 17,
        ..limits
    };
    assert!(decode_slices(&picture, &stored).is_ok());
}

/// A little-endian TIFF file of directories that follow one another, then zeros.
fn directories(pages: &[&[(u16, u32)]], zeros: usize) -> Vec<u8> {
    let mut file = b"II\x2a\0\x08\0\0\0".to_vec();
    for (page, fields) in pages.iter().enumerate() {
        file.extend((fields.len() as u16).to_le_bytes());
        for (tag, value) in *fields {
            file.extend(tag.to_le_bytes());
            file.extend(4u16.to_le_bytes());
            file.extend(1u32.to_le_bytes());
            file.extend(value.to_le_bytes());
        }
        let last = page + 1 == pages.len();
        let next = if last { 0 } else { file.len() as u32 + 4 };
        file.extend(next.to_le_bytes());
    }
    file.resize(file.len() + zeros, 0);
    file
}

/// Grey pages of `side` x `side` pixels that share all their pixels, which lie in the end of the file.
fn page_bomb(pages: usize, side: u32) -> Vec<u8> {
    let pixels = 8 + pages * (2 + 9 * 12 + 4);
    let page = [
        (256, side),
        (257, side),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, pixels as u32),
        (277, 1),
        (278, side),
        (279, side * side),
    ];
    directories(&vec![&page[..]; pages], (side * side) as usize)
}

#[test]
fn no_limit_lets_a_side_through_that_could_not_be_encoded() {
    let limits = Limits {
        max_side: u32::MAX,
        max_decoded_bytes: u64::MAX,
        ..Limits::default()
    };
    for (width, height) in [(32_768, 1), (1, 32_768)] {
        let page = [
            (256, width),
            (257, height),
            (258, 8),
            (259, 8),
            (262, 1),
            (277, 1),
        ];
        let error = decode_slices(&directories(&[&page], 0), &limits).unwrap_err();
        assert_eq!(too_large(&error), Some(Limit::Side), "{error}");
    }
}

#[test]
fn a_tile_counts_though_its_page_is_small() {
    let tile = [
        (256, 1),
        (257, 1),
        (258, 8),
        (259, 8),
        (262, 1),
        (277, 1),
        (322, 4096),
        (323, 4096),
        (324, 8),
        (325, 1),
    ];
    let limits = Limits {
        max_decoded_bytes: (4096 * 4096) - 1,
        ..Limits::default()
    };
    let error = decode_slices(&directories(&[&tile], 0), &limits).unwrap_err();
    assert_eq!(too_large(&error), Some(Limit::DecodedBytes), "{error}");
}

#[test]
fn tiles_wider_than_their_pages_count_for_each_page() {
    let page = [
        (256, 1),
        (257, 4096),
        (258, 8),
        (259, 8),
        (262, 1),
        (277, 1),
        (322, 4096),
        (323, 4096),
        (324, 8),
        (325, 1),
    ];
    // 16 MiB of tile a page, and two bytes more for each of its pixels, which become three.
    let open = |pages| {
        SliceReader::new(&directories(&vec![&page[..]; pages], 0), &Limits::default()).err()
    };
    assert!(open(15).is_none());
    let error = open(16).unwrap();
    assert_eq!(too_large(&error), Some(Limit::DecodedBytes), "{error}");
}

#[test]
fn compressed_data_far_longer_than_its_pixels_is_refused() {
    // LZW, Deflate, PackBits: in all of them, codes that stand for nothing could fill the data.
    for compression in [5, 8, 32773] {
        let page = |bytes| {
            [
                (256, 1),
                (257, 1),
                (258, 8),
                (259, compression),
                (262, 1),
                (273, 8),
                (277, 1),
                (279, bytes),
            ]
        };
        let refusal = |bytes| {
            decode_slices(&directories(&[&page(bytes)], 512), &Limits::default())
                .err()
                .map_or_else(String::new, |error| error.to_string())
        };
        let said = "strip or tile 0 of 259 bytes, its pixels take 1";
        assert!(refusal(259).contains(said), "{}", refusal(259));
        assert!(!refusal(258).contains("strip or tile"), "{}", refusal(258));
    }
}

#[test]
fn pages_that_share_their_pixels_count_each_for_itself() {
    assert_eq!(decode(&page_bomb(512, 1)).unwrap().len(), 512);
    let error = decode(&page_bomb(513, 1)).unwrap_err();
    assert_eq!(too_large(&error), Some(Limit::Pages), "{error}");
    // 6 pages of 4096 x 4096 pixels and 3 bytes each are more than 256 MiB; 16 MiB of the file hold them.
    let error = SliceReader::new(&page_bomb(6, 4096), &Limits::default())
        .err()
        .unwrap();
    assert_eq!(too_large(&error), Some(Limit::DecodedBytes), "{error}");
    assert!(SliceReader::new(&page_bomb(5, 4096), &Limits::default()).is_ok());
}

#[test]
fn pages_stream_until_the_first_error() {
    let bytes = read("refused/infinite.tif");
    let mut reader = SliceReader::new(&bytes, &Limits::default()).unwrap();
    assert_eq!(reader.size_hint(), (2, Some(2)));
    assert!(reader.next().unwrap().is_ok());
    assert!(matches!(
        reader.next(),
        Some(Err(ImagingError::NotFinite { page: 1 }))
    ));
    assert!(reader.next().is_none());
}

fn any_mask() -> impl Strategy<Value = Mask> {
    (1..90usize, 1..90usize).prop_flat_map(|(width, height)| {
        proptest::collection::vec(any::<bool>(), width * height)
            .prop_map(move |pixels| Mask::new(width, height, pixels).unwrap())
    })
}

fn any_slice() -> impl Strategy<Value = Slice> {
    (1..70usize, 1..70usize).prop_flat_map(|(width, height)| {
        proptest::collection::vec(any::<u8>(), width * height * CHANNELS)
            .prop_map(move |pixels| Slice::new(width, height, pixels, Intensity::EightBit).unwrap())
    })
}

/// All sound files of the goldens.
fn sound_files() -> Vec<Vec<u8>> {
    let goldens = goldens();
    let slices = goldens.slices.keys().map(|file| format!("slices/{file}"));
    let masks = goldens.masks.keys().map(|file| format!("masks/{file}"));
    slices.chain(masks).map(|path| read(&path)).collect()
}

/// Decodes in every way; what comes out must keep to the limits.
fn decode_in_bounds(bytes: &[u8]) {
    let limits = Limits {
        max_side: 512,
        max_pages: 16,
        max_decoded_bytes: 1 << 20,
    };
    if let Ok(slices) = decode_slices(bytes, &limits) {
        let total: usize = slices.iter().map(|slice| slice.pixels().len()).sum();
        assert!(!slices.is_empty() && slices.len() <= 16 && total <= 1 << 20);
    }
    if let Ok(masks) = decode_masks(bytes, &limits) {
        assert!(!masks.is_empty());
    }
}

proptest! {
    #[test]
    fn masks_survive_encoding(mask in any_mask()) {
        for bytes in [encode_mask_tiff(&mask), encode_mask_png(&mask)] {
            let decoded = decode_masks(&bytes, &Limits::default()).unwrap();
            prop_assert_eq!(decoded, std::slice::from_ref(&mask));
        }
    }

    #[test]
    fn slices_survive_encoding(slice in any_slice()) {
        let png = encode_rgb_png(slice.width(), slice.height(), slice.pixels());
        for bytes in [encode_slice_tiff(&slice), png] {
            prop_assert_eq!(decode(&bytes).unwrap(), std::slice::from_ref(&slice));
        }
    }

    #[test]
    fn no_bytes_make_the_decoders_panic(
        start in proptest::sample::select(vec![&b""[..], b"II\x2a\0\x08\0\0\0", b"MM\0\x2a\0\0\0\x08", b"II\x2b\0\x08\0\0\0", b"\x89PNG\r\n\x1a\n"]),
        rest in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        decode_in_bounds(&[start, &rest].concat());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]
    #[test]
    fn no_damage_to_a_file_makes_the_decoders_panic(
        file in proptest::sample::select(sound_files()),
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        cut in proptest::option::weighted(0.2, any::<proptest::sample::Index>()),
    ) {
        let mut bytes = file;
        for (position, value) in changes {
            let position = position.index(bytes.len());
            bytes[position] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        decode_in_bounds(&bytes);
    }
}

#[test]
fn files_of_the_data_set_are_encoded_with_their_own_bytes() {
    let Some(lgg) = glioseg_test_support::lgg() else {
        return;
    };
    let mut files = 0;
    let patient = lgg.folder.join("TCGA_CS_4941_19960909");
    for entry in std::fs::read_dir(&patient).unwrap() {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let encoded = if path.to_str().unwrap().ends_with("_mask.tif") {
            encode_mask_tiff(&decode_masks(&bytes, &Limits::default()).unwrap()[0])
        } else {
            encode_slice_tiff(&decode(&bytes).unwrap()[0])
        };
        assert!(encoded == bytes, "{}", path.display());
        files += 1;
    }
    assert_eq!(files, 46);
}
