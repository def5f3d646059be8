//! Prepared slices: exactly back, and nothing else taken for one.

use std::io::Cursor;
use std::sync::LazyLock;

use glioseg_shared::cloud::keys::{SliceName, StudyId};
use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::{
    Intensity, Limits, Slice, decode_slices, encode_mask_png, encode_rgb_png,
};
use glioseg_shared::study::{Prepared, PreparedError, Source, Spacing, VolumePlace};
use proptest::prelude::*;

use super::samples;

/// One as it was stored, and one that was rescaled.
static SLICES: LazyLock<[Prepared; 2]> = LazyLock::new(|| {
    let phantom = samples::phantom();
    let rescaled = Intensity::Rescaled {
        low: [-0.0, f32::MIN, 0.1],
        high: [f32::MIN_POSITIVE, f32::MAX, 1.0 / 3.0],
    };
    let float = &phantom.slices[4];
    let float = Slice::new(96, 96, float.pixels().to_vec(), rescaled).unwrap();
    [
        samples::prepared(0, phantom.slices[5].clone(), None),
        samples::prepared(7, float, Some(samples::spacing())),
    ]
});

/// A file with its chunks as `edit` leaves them.
fn edited(file: &[u8], edit: impl Fn(&mut Vec<([u8; 4], Vec<u8>)>)) -> Vec<u8> {
    let mut chunks = Vec::new();
    let mut rest = &file[8..];
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (kind, after) = after.split_first_chunk::<4>().unwrap();
        let length = u32::from_be_bytes(*length) as usize;
        chunks.push((*kind, after[..length].to_vec()));
        rest = &after[length + 4..];
    }
    edit(&mut chunks);
    let mut file = file[..8].to_vec();
    for (kind, content) in chunks {
        file.extend((content.len() as u32).to_be_bytes());
        let start = file.len();
        file.extend(kind);
        file.extend(content);
        file.extend(crc32(&file[start..]).to_be_bytes());
    }
    file
}

/// CRC-32 as PNG specifies it (annex D).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    })
}

fn with_text(file: &[u8], change: impl Fn(String) -> String) -> Vec<u8> {
    edited(file, |chunks| {
        let text = &mut chunks
            .iter_mut()
            .find(|(kind, _)| kind == b"iTXt")
            .unwrap()
            .1;
        let start = b"glioseg\0\0\0\0\0".len();
        let changed = change(String::from_utf8(text[start..].to_vec()).unwrap());
        text.truncate(start);
        text.extend(changed.bytes());
    })
}

fn refusal(file: &[u8]) -> String {
    Prepared::decode(file, &Limits::default())
        .unwrap_err()
        .to_string()
}

#[test]
fn a_slice_comes_back_with_everything() {
    for prepared in &*SLICES {
        let file = prepared.encode();
        assert_eq!(file, prepared.encode());
        let decoded = Prepared::decode(&file, &Limits::default()).unwrap();
        assert_eq!(&decoded, prepared);
        assert_eq!(decoded.encode(), file);
        if let (Intensity::Rescaled { low, .. }, Intensity::Rescaled { low: before, .. }) =
            (decoded.slice.intensity(), prepared.slice.intensity())
        {
            assert_eq!(low.map(f32::to_bits), before.map(f32::to_bits));
        }
    }
}

#[test]
fn its_size_is_told_by_the_header_alone() {
    for prepared in &*SLICES {
        let file = prepared.encode();
        let size = (prepared.slice.width(), prepared.slice.height());
        for file in [&file[..], &file[..33]] {
            assert_eq!(Prepared::size(file).unwrap(), size);
        }
        for file in [&b""[..], b"no PNG", &file[..32]] {
            let error = Prepared::size(file).unwrap_err();
            assert!(matches!(error, PreparedError::Damaged { .. }), "{error}");
        }
    }
}

#[test]
fn any_viewer_shows_it() {
    for prepared in &*SLICES {
        let file = prepared.encode();
        let shown = decode_slices(&file, &Limits::default()).unwrap();
        assert_eq!(shown[0].pixels(), prepared.slice.pixels());
        let mut reader = png::Decoder::new(Cursor::new(&file)).read_info().unwrap();
        reader.finish().unwrap();
        let text = &reader.info().utf8_text[0];
        assert_eq!(text.keyword, "glioseg");
        let text: serde_json::Value = serde_json::from_str(&text.get_text().unwrap()).unwrap();
        assert_eq!(text["schema"], "glioseg-prepared-1");
        assert_eq!(text["notice"], "research use only; not a medical device");
    }
}

#[test]
fn files_written_from_the_description_alone_are_told_apart() {
    // `fuzz/make_seeds.py` wrote them with nothing but zlib.
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/prepared");
    let mut accepted = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        match Prepared::decode(&std::fs::read(&path).unwrap(), &Limits::default()) {
            Ok(prepared) => accepted.push((name, prepared)),
            Err(error) => assert!(name.starts_with("refused_"), "{name}: {error}"),
        }
    }
    accepted.sort_by(|(a, _), (b, _)| a.cmp(b));
    let names: Vec<&str> = accepted.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["bare", "rescaled", "sound"]);
    let sound = &accepted[2].1;
    assert_eq!((sound.slice.width(), sound.slice.height()), (12, 9));
    let values = (0..9).flat_map(|y| (0..12 * 3).map(move |x| (x * y % 251) as u8));
    assert!(sound.slice.pixels().iter().copied().eq(values));
    assert_eq!(sound.study.as_str(), "clinic/7");
    assert_eq!(sound.spacing_mm.unwrap().to_string(), "0.5,0.5,3");
    let Intensity::Rescaled { low, high } = accepted[1].1.slice.intensity() else {
        panic!("{:?}", accepted[1].1.slice.intensity());
    };
    assert_eq!(
        (low, high),
        ([0.0, -1.5, 0.1], [1.0, f32::MAX, f32::from_bits(1)])
    );
}

#[test]
fn another_png_is_no_prepared_slice() {
    let phantom = samples::phantom();
    let slice = &phantom.slices[5];
    let rgb = encode_rgb_png(slice.width(), slice.height(), slice.pixels());
    assert!(refusal(&rgb).contains("one text of keyword `glioseg`"));
    assert!(refusal(&encode_mask_png(&phantom.masks[5])).contains("8-bit RGB"));
    let file = SLICES[0].encode();
    let twice = edited(&file, |chunks| chunks.insert(1, chunks[1].clone()));
    assert!(refusal(&twice).contains("one text"));
    let late = edited(&file, |chunks| {
        let text = chunks.remove(1);
        chunks.insert(chunks.len() - 1, text);
    });
    assert!(refusal(&late).contains("one text"));
    let compressed = edited(&file, |chunks| chunks[1].1[8] = 1);
    assert!(refusal(&compressed).contains("one text"));
    let other = edited(&file, |chunks| chunks[1].1[0] = b'G');
    assert!(refusal(&other).contains("one text"));
}

#[test]
fn a_description_that_contradicts_itself_is_refused() {
    let file = SLICES[1].encode();
    for (from, to, named) in [
        ("glioseg-prepared-1", "glioseg-prepared-2", "prepared-2"),
        ("clinic/phantom 1", "clinic/../secret", "no name of a study"),
        (
            "\"slice\":\"head_7\"",
            "\"slice\":\"a/b\"",
            "no name of a slice",
        ),
        (
            "[\"pre-contrast\",\"FLAIR\"",
            "[\"FLAIR\",\"pre-contrast\"",
            "channels",
        ),
        ("\"rescaled\":true", "\"rescaled\":false", "rescaled"),
        ("[0.5,0.25,3.0]", "[0.5,0.25,0.0]", "spacing"),
        ("\"index\":7", "\"index\":8", "number 8"),
        ("\"page\":8", "\"page\":0", "pages"),
        ("\"file\":\"head.zip\"", "\"file\":\"\"", "1 to 1024 bytes"),
        ("\"sha256\":\"", "\"sha256\":\"X", "SHA-256"),
        ("\"schema\"", "\"colour\":1,\"schema\"", "colour"),
        ("{", "", "line 1"),
    ] {
        let changed = with_text(&file, |text| {
            assert!(text.contains(from), "{from}");
            text.replacen(from, to, 1)
        });
        let error = refusal(&changed);
        assert!(error.contains(named), "{to}: {error}");
        assert!(error.starts_with("not a prepared slice: "), "{error}");
    }
    let long = with_text(&file, |text| text + &" ".repeat(64 << 10));
    assert!(refusal(&long).contains("64 KiB"));
}

#[test]
fn size_is_checked_before_memory_is_spent() {
    let file = SLICES[0].encode();
    let limits = |max_side, max_decoded_bytes| Limits {
        max_side,
        max_decoded_bytes,
        ..Limits::default()
    };
    assert!(Prepared::decode(&file, &limits(96, 96 * 96 * 3)).is_ok());
    for limits in [limits(95, 1 << 20), limits(96, 96 * 96 * 3 - 1)] {
        assert!(matches!(
            Prepared::decode(&file, &limits),
            Err(PreparedError::TooLarge(_))
        ));
    }
    // 12 EB of pixels, and a text of 2 GiB that is not there.
    let giant = edited(&file, |chunks| {
        chunks[0].1[..8].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    });
    assert!(matches!(
        Prepared::decode(&giant, &Limits::default()),
        Err(PreparedError::TooLarge(_))
    ));
    let mut announced = file.clone();
    announced[33..37].copy_from_slice(&0x7fff_ffff_u32.to_be_bytes());
    assert!(matches!(
        Prepared::decode(&announced, &Limits::default()),
        Err(PreparedError::Damaged { .. })
    ));
}

#[test]
fn every_truncation_and_every_flipped_byte_is_noticed() {
    let slice = samples::phantom().slices[5].pixels()[..12 * 9 * 3].to_vec();
    let slice = Slice::new(12, 9, slice, Intensity::EightBit).unwrap();
    let file = samples::prepared(3, slice, None).encode();
    for length in 0..file.len() {
        assert!(
            Prepared::decode(&file[..length], &Limits::default()).is_err(),
            "{length}"
        );
    }
    for at in 0..file.len() {
        let mut changed = file.clone();
        changed[at] ^= 0x10;
        assert!(
            Prepared::decode(&changed, &Limits::default()).is_err(),
            "{at}"
        );
    }
}

fn any_prepared() -> impl Strategy<Value = Prepared> {
    let finite = || any::<f32>().prop_filter("finite", |value| value.is_finite());
    let slice = (
        1usize..40,
        1usize..40,
        any::<bool>(),
        [finite(), finite(), finite()],
    );
    let slice = slice.prop_flat_map(|(width, height, rescaled, range)| {
        let pixels = proptest::collection::vec(any::<u8>(), width * height * 3);
        pixels.prop_map(move |pixels| {
            let intensity = if rescaled {
                Intensity::Rescaled {
                    low: range,
                    high: [range[2], range[0], range[1]],
                }
            } else {
                Intensity::EightBit
            };
            Slice::new(width, height, pixels, intensity).unwrap()
        })
    });
    let spacing =
        proptest::option::of((0.01..100.0, 0.01..100.0, proptest::option::of(0.01..100.0)));
    let names = (
        "[a-z]{1,8}(/[ü\"+ ]{1,4}){0,2}",
        "[a-z\"ü%.]{1,8}x",
        ".{1,20}",
    );
    (
        slice,
        spacing,
        names,
        0usize..600,
        proptest::option::of(0usize..600),
    )
        .prop_map(
            |(slice, spacing, (study, name, file), page, index)| Prepared {
                study: StudyId::parse(&study).unwrap(),
                name: SliceName::parse(&name).unwrap(),
                slice,
                spacing_mm: spacing.map(|(x, y, z)| Spacing::new(x, y, z).unwrap()),
                volume: index.map(|index| VolumePlace {
                    file: file.clone(),
                    index,
                    of: index + 1,
                }),
                source: Source {
                    sha256: sha256_hex(file.as_bytes()),
                    file,
                    page: page + 1,
                },
            },
        )
}

proptest! {
    #[test]
    fn any_slice_comes_back(prepared in any_prepared()) {
        let decoded = Prepared::decode(&prepared.encode(), &Limits::default()).unwrap();
        prop_assert_eq!(decoded, prepared);
    }

    #[test]
    fn any_bytes_are_answered(
        bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..400, at in 0usize..400,
    ) {
        let _ = Prepared::decode(&bytes, &Limits::default());
        let mut file = SLICES[0].encode();
        let at = at.min(file.len());
        file.splice(at..(at + cut).min(file.len()), bytes);
        let _ = Prepared::decode(&file, &Limits::default());
    }
}
