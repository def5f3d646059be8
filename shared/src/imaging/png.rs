//! PNG: one page in; masks and pictures out.

use std::io::Cursor;

use image::codecs::png::{PngDecoder, PngEncoder};
use image::{ColorType, ExtendedColorType, ImageDecoder, ImageEncoder, ImageError};

use super::colour_map::unit_interval;
use super::limits::Budget;
use super::page::{Layout, Page, Samples};
use super::{ImagingError, Limits, Mask, ProbabilityMap};

/// The start of a PNG file.
pub(super) const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// What the decoder may always allocate, for its window and the chunks that are not pixels.
const MIN_ALLOC: u64 = 64 << 20;

/// What the first chunk says of the picture, checked.
pub(super) struct Header {
    width: u32,
    height: u32,
    layout: Layout,
    sixteen_bit: bool,
    max_alloc: u64,
}

impl Header {
    /// Reads the first chunk and checks it against the limits; decodes nothing.
    pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Self, ImagingError> {
        let chunk = bytes
            .get(SIGNATURE.len()..)
            .and_then(|rest| rest.first_chunk::<18>())
            .filter(|chunk| chunk[..8] == *b"\0\0\0\x0dIHDR")
            .ok_or_else(|| damaged("truncated: it has no header"))?;
        let number = |at: usize| {
            u32::from_be_bytes([chunk[at], chunk[at + 1], chunk[at + 2], chunk[at + 3]])
        };
        let (width, height) = (number(8), number(12));
        if width == 0 || height == 0 {
            return Err(damaged(format!("a size of {width}x{height} pixels")));
        }
        let (layout, sixteen_bit) = match (chunk[17], chunk[16]) {
            (0, depth @ (8 | 16)) => (Layout::Gray, depth == 16),
            (2, depth @ (8 | 16)) => (Layout::Rgb, depth == 16),
            (colour, depth) => {
                let name = match colour {
                    0 => "grey",
                    2 => "RGB",
                    3 => "palette",
                    4 => "grey and alpha",
                    6 => "RGB and alpha",
                    _ => return Err(damaged(format!("unknown colour type {colour}"))),
                };
                return Err(unsupported(format!(
                    "{depth}-bit {name}, only 8- and 16-bit grey and RGB without alpha are read"
                )));
            }
        };
        let mut budget = Budget::new(limits);
        budget.admit_page()?;
        let sample_bytes = if sixteen_bit { 2 } else { 1 };
        budget.admit_pixels(width, height, layout.channels() as u64 * sample_bytes)?;
        Ok(Self {
            width,
            height,
            layout,
            sixteen_bit,
            max_alloc: limits.max_decoded_bytes.max(MIN_ALLOC),
        })
    }

    /// Decodes the picture that the header stands at the front of.
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<Page, ImagingError> {
        let mut limits = image::Limits::default();
        limits.max_alloc = Some(self.max_alloc);
        let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(refusal)?;
        let colour = match (self.layout, self.sixteen_bit) {
            (Layout::Gray, false) => ColorType::L8,
            (Layout::Gray, true) => ColorType::L16,
            (Layout::Rgb, false) => ColorType::Rgb8,
            (Layout::Rgb, true) => ColorType::Rgb16,
        };
        if decoder.color_type().has_alpha() {
            return Err(unsupported(
                "a transparent colour, only pictures without alpha are read",
            ));
        }
        let inconsistent = || damaged("its header can be read in two ways");
        if decoder.color_type() != colour || decoder.dimensions() != (self.width, self.height) {
            return Err(inconsistent());
        }
        let length = usize::try_from(decoder.total_bytes()).map_err(|_| inconsistent())?;
        let mut samples = vec![0; length];
        decoder.read_image(&mut samples).map_err(refusal)?;
        let samples = if self.sixteen_bit {
            let (pairs, _) = samples.as_chunks();
            Samples::U16(pairs.iter().copied().map(u16::from_ne_bytes).collect())
        } else {
            Samples::U8(samples)
        };
        Page::new(self.width, self.height, self.layout, samples).ok_or_else(inconsistent)
    }
}

fn damaged(reason: impl Into<String>) -> ImagingError {
    ImagingError::Damaged {
        format: "PNG",
        reason: reason.into(),
    }
}

fn unsupported(reason: impl Into<String>) -> ImagingError {
    ImagingError::Unsupported {
        format: "PNG",
        reason: reason.into(),
    }
}

fn refusal(error: ImageError) -> ImagingError {
    match error {
        ImageError::Unsupported(error) => unsupported(error.to_string()),
        error => damaged(error.to_string()),
    }
}

/// Encodes a mask as 8-bit grey: 0 and 255.
///
/// # Panics
/// When a side exceeds the 2<sup>31</sup> - 1 pixels that the format can hold.
#[must_use]
pub fn encode_mask_png(mask: &Mask) -> Vec<u8> {
    let pixels: Vec<u8> = mask
        .pixels()
        .iter()
        .map(|&set| if set { 255 } else { 0 })
        .collect();
    encode(mask.width(), mask.height(), &pixels, ExtendedColorType::L8)
}

/// Encodes probabilities as 8-bit grey: each becomes 255 times itself, rounded half up.
///
/// Values beyond 0..=1 are clamped; NaN becomes 0.
///
/// # Panics
/// When a side exceeds the 2<sup>31</sup> - 1 pixels that the format can hold.
#[must_use]
pub fn encode_probability_png(map: &ProbabilityMap) -> Vec<u8> {
    let pixels: Vec<u8> = map
        .values()
        .iter()
        .map(|&value| (255.0 * unit_interval(value) + 0.5) as u8)
        .collect();
    encode(map.width(), map.height(), &pixels, ExtendedColorType::L8)
}

/// Encodes `height * width * 3` interleaved values as 8-bit RGB.
///
/// # Panics
/// When `pixels` has another length, or a side is zero or exceeds the 2<sup>31</sup> - 1 pixels that the format can
/// hold.
#[must_use]
pub fn encode_rgb_png(width: usize, height: usize, pixels: &[u8]) -> Vec<u8> {
    encode(width, height, pixels, ExtendedColorType::Rgb8)
}

#[expect(
    clippy::expect_used,
    reason = "sides are bounded where images come in, and memory takes every write"
)]
fn encode(width: usize, height: usize, pixels: &[u8], colour: ExtendedColorType) -> Vec<u8> {
    let side = |side| u32::try_from(side).expect("a side that PNG can hold");
    let mut file = Vec::new();
    PngEncoder::new(&mut file)
        .write_image(pixels, side(width), side(height), colour)
        .expect("writing a picture of the right length to memory does not fail");
    file
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_probability_becomes_the_nearest_of_256_greys() {
        let values = vec![0.0, 0.001, 0.002, 0.5, 1.0, 2.0, -1.0, f32::NAN];
        let map = ProbabilityMap::new(4, 2, values).unwrap();
        let file = encode_probability_png(&map);
        let page = Header::read(&file, &Limits::default())
            .unwrap()
            .decode(&file)
            .unwrap();
        let Samples::U8(samples) = page.samples else {
            panic!("8 bits were written");
        };
        assert_eq!((page.width, page.height), (4, 2));
        assert_eq!(samples, [0, 0, 1, 128, 255, 255, 0, 0]);
    }
}
