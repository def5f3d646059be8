//! Files that cannot be read, or must not be.

use std::io::{Cursor, Write as _};

use glioseg_shared::imaging::{
    Intensity, Mask, Slice, encode_mask_tiff, encode_slice_tiff, phantom,
};
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

/// A slice with tumour.
pub(crate) fn slice() -> Vec<u8> {
    encode_slice_tiff(&drawn().0)
}

/// Its truth.
pub(crate) fn mask() -> Vec<u8> {
    encode_mask_tiff(&drawn().1)
}

fn drawn() -> (Slice, Mask) {
    let config = phantom::PhantomConfig {
        slices: 5,
        size: 96,
        lesions: 2,
    };
    let mut drawn = phantom::Phantom::generate(&config, 1).unwrap();
    (drawn.slices.swap_remove(2), drawn.masks.swap_remove(2))
}

/// A mask of other pixels than [`mask`] has.
pub(crate) fn small_mask() -> Vec<u8> {
    encode_mask_tiff(&Mask::new(2, 1, vec![true, false]).unwrap())
}

pub(crate) fn one_pixel() -> Vec<u8> {
    encode_slice_tiff(&Slice::new(1, 1, vec![7; 3], Intensity::EightBit).unwrap())
}

/// A file that says that it has more columns than anyone may have.
pub(crate) fn huge(file: Vec<u8>) -> Vec<u8> {
    let mut huge = file;
    // The directory's first entry is the width.
    let directory = u32::from_le_bytes(huge[4..8].try_into().unwrap()) as usize;
    huge[directory + 2 + 2] = 4;
    huge[directory + 2 + 8..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
    huge
}

/// Grey 32-bit samples that are all no number.
pub(crate) fn nan() -> Vec<u8> {
    let samples = [f32::NAN; 32 * 32];
    tiff(1, 32, 3, &samples.map(f32::to_le_bytes).concat())
}

/// Two samples a pixel: neither grey nor RGB.
pub(crate) fn two_channels() -> Vec<u8> {
    tiff(2, 8, 1, &[9; 2 * 32 * 32])
}

/// A TIFF of 32x32 pixels in one strip.
fn tiff(samples: u16, bits: u16, format: u16, pixels: &[u8]) -> Vec<u8> {
    const SHORT: u16 = 3;
    let directory = 8 + u32::try_from(pixels.len()).unwrap();
    let mut file = b"II\x2a\0".to_vec();
    file.extend(directory.to_le_bytes());
    file.extend(pixels);
    let repeated = |value: u16| {
        u32::from(value)
            | if samples > 1 {
                u32::from(value) << 16
            } else {
                0
            }
    };
    let entries = [
        (256u16, 1, 32),
        (257, 1, 32),
        (258, samples, repeated(bits)),
        (259, 1, 1),
        (262, 1, 1),
        (273, 1, 8),
        (277, 1, u32::from(samples)),
        (278, 1, 32),
        (279, 1, directory - 8),
        (339, samples, repeated(format)),
    ];
    file.extend(u16::try_from(entries.len()).unwrap().to_le_bytes());
    for (tag, count, value) in entries {
        file.extend(tag.to_le_bytes());
        file.extend(SHORT.to_le_bytes());
        file.extend(u32::from(count).to_le_bytes());
        file.extend(value.to_le_bytes());
    }
    file.extend([0; 4]);
    file
}

pub(crate) fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// A small zip of an entry of so many bytes.
pub(crate) fn bomb(bytes: usize) -> Vec<u8> {
    zipped(&[("1.tif", &vec![0; bytes])])
}

/// A zip whose entry lies two folders above the one that it is unpacked in.
pub(crate) fn traversing() -> Vec<u8> {
    let mut zip = zipped(&[("aaaaaa.tif", &slice())]);
    for at in 0..zip.len() - 10 {
        if zip[at..].starts_with(b"aaaaaa.tif") {
            zip[at..at + 6].copy_from_slice(b"../../");
        }
    }
    zip
}
