//! PNG files of one RGB picture and one text.

use std::io::Cursor;

use png::text_metadata::ITXtChunk;
use png::{BitDepth, ColorType, Compression, Decoder, DecodingError, Encoder, EncodingError};

use super::{PreparedError, not_prepared};
use crate::imaging::{CHANNELS, ImagingError, Limit, Limits, Slice};

/// Keyword of the chunk that holds the text.
const KEYWORD: &str = "glioseg";

/// Longest text that is read; a real one has less than 4 KiB.
const MAX_TEXT_BYTES: usize = 64 << 10;

/// What the decoder may allocate for chunks that are no pixels: the chunk as it grows, and the text in it.
const MAX_CHUNK_ALLOC: usize = 4 * MAX_TEXT_BYTES;

/// What a file holds.
pub(super) struct Contents {
    pub(super) width: usize,
    pub(super) height: usize,
    /// `height * width * 3` values.
    pub(super) pixels: Vec<u8>,
    pub(super) text: String,
}

/// Writes a file.
///
/// # Panics
/// When a side exceeds the 2<sup>31</sup> - 1 pixels that the format can hold.
#[expect(
    clippy::expect_used,
    reason = "sides are bounded where images come in, and memory takes every write"
)]
pub(super) fn write(slice: &Slice, text: &str) -> Vec<u8> {
    let side = |side| u32::try_from(side).expect("a side that PNG can hold");
    let mut file = Vec::new();
    encode(
        &mut file,
        (side(slice.width()), side(slice.height())),
        slice.pixels(),
        text,
    )
    .expect("writing a picture of the right length to memory does not fail");
    file
}

fn encode(
    file: &mut Vec<u8>,
    (width, height): (u32, u32),
    pixels: &[u8],
    text: &str,
) -> Result<(), EncodingError> {
    let mut encoder = Encoder::new(file, width, height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    // Prepared slices are written and read once or twice and then expire: time counts for more than size.
    encoder.set_compression(Compression::Fastest);
    let mut writer = encoder.write_header()?;
    writer.write_text_chunk(&ITXtChunk::new(KEYWORD, text))?;
    writer.write_image_data(pixels)?;
    writer.finish()
}

/// Columns and rows of the picture of a file, of which nothing but the header is read.
pub(super) fn size(bytes: &[u8]) -> Result<(u32, u32), PreparedError> {
    let mut decoder = decoder(bytes);
    let header = decoder.read_header_info();
    header.map(png::Info::size).map_err(|error| damaged(&error))
}

/// Reads a file that [`write`] wrote.
pub(super) fn read(bytes: &[u8], limits: &Limits) -> Result<Contents, PreparedError> {
    let mut decoder = decoder(bytes);
    let header = decoder
        .read_header_info()
        .map_err(|error| damaged(&error))?;
    let (width, height) = header.size();
    if (header.color_type, header.bit_depth, header.interlaced)
        != (ColorType::Rgb, BitDepth::Eight, false)
    {
        return Err(not_prepared(
            "its pixels are not 8-bit RGB without interlacing",
        ));
    }
    let length = admit(width, height, limits)?;
    // One row, and what undoing its filter takes.
    decoder.set_limits(png::Limits {
        bytes: MAX_CHUNK_ALLOC + 4 * (1 + CHANNELS * width as usize),
    });
    let mut reader = decoder.read_info().map_err(|error| damaged(&error))?;
    if reader.info().animation_control.is_some() {
        return Err(not_prepared("it is an animation"));
    }
    // The text comes before the pixels, so that a picture without one is refused before it is decoded.
    let text = match &reader.info().utf8_text[..] {
        [text] if text.keyword == KEYWORD && !text.compressed => text,
        _ => {
            return Err(not_prepared(
                "it does not hold one text of keyword `glioseg`",
            ));
        }
    };
    let text = text.get_text().map_err(|error| damaged(&error))?;
    if text.len() > MAX_TEXT_BYTES {
        return Err(not_prepared("its text has more than 64 KiB"));
    }
    let mut pixels = vec![0; length];
    reader
        .next_frame(&mut pixels)
        .and_then(|_| reader.finish())
        .map_err(|error| damaged(&error))?;
    Ok(Contents {
        width: width as usize,
        height: height as usize,
        pixels,
        text,
    })
}

fn decoder(bytes: &[u8]) -> Decoder<Cursor<&[u8]>> {
    let limits = png::Limits {
        bytes: MAX_CHUNK_ALLOC,
    };
    Decoder::new_with_limits(Cursor::new(bytes), limits)
}

/// The number of values of a picture, if the limits allow it.
fn admit(width: u32, height: u32, limits: &Limits) -> Result<usize, PreparedError> {
    let too_large = |limit, actual, allowed| {
        PreparedError::TooLarge(ImagingError::TooLarge {
            limit,
            actual,
            allowed,
        })
    };
    let side = width.max(height);
    if side > limits.side() {
        return Err(too_large(Limit::Side, side.into(), limits.side().into()));
    }
    let bytes = (u64::from(width) * u64::from(height)).saturating_mul(CHANNELS as u64);
    if bytes > limits.max_decoded_bytes {
        return Err(too_large(
            Limit::DecodedBytes,
            bytes,
            limits.max_decoded_bytes,
        ));
    }
    usize::try_from(bytes).map_err(|_| too_large(Limit::DecodedBytes, bytes, usize::MAX as u64))
}

fn damaged(error: &DecodingError) -> PreparedError {
    PreparedError::Damaged {
        reason: error.to_string(),
    }
}
