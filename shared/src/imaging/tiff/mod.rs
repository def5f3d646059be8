//! TIFF: pages in, masks and slices out.

mod directory;
mod encode;

use std::io::Cursor;

use tiff::TiffError;
use tiff::decoder::{Decoder, DecodingResult};

use super::limits::Budget;
use super::page::{Layout, Page, Samples};
use super::{ImagingError, Limits};
use directory::{PageHeader, SampleType};

pub use encode::{encode_mask_tiff, encode_slice_tiff};

/// The starts of a TIFF file: byte order, then 42, or 43 for BigTIFF.
pub(super) const SIGNATURES: [&[u8]; 4] = [b"II\x2a\0", b"MM\0\x2a", b"II\x2b\0", b"MM\0\x2b"];

fn damaged(reason: impl Into<String>) -> ImagingError {
    ImagingError::Damaged {
        format: "TIFF",
        reason: reason.into(),
    }
}

fn unsupported(reason: impl Into<String>) -> ImagingError {
    ImagingError::Unsupported {
        format: "TIFF",
        reason: reason.into(),
    }
}

/// The pages of a file, decoded one by one.
pub(super) struct Pages<'a> {
    decoder: Decoder<Cursor<&'a [u8]>>,
    headers: std::iter::Enumerate<std::vec::IntoIter<PageHeader>>,
}

impl<'a> Pages<'a> {
    /// Checks the headers of all pages; decodes none.
    pub(super) fn open(bytes: &'a [u8], limits: &Limits) -> Result<Self, ImagingError> {
        let headers = directory::read_headers(bytes, &mut Budget::new(limits))?;
        // Everything was measured above, so the crate's own limits are only ever raised.
        let mut crate_limits = tiff::decoder::Limits::default();
        crate_limits.decoding_buffer_size = usize::try_from(limits.max_decoded_bytes)
            .unwrap_or(usize::MAX)
            .max(crate_limits.decoding_buffer_size);
        crate_limits.intermediate_buffer_size = usize::MAX;
        let decoder = Decoder::new(Cursor::new(bytes))
            .map_err(|error| refusal(0, error))?
            .with_limits(crate_limits);
        Ok(Self {
            decoder,
            headers: headers.into_iter().enumerate(),
        })
    }

    fn decode(&mut self, page: usize, header: &PageHeader) -> Result<Page, ImagingError> {
        let refused = |error| refusal(page, error);
        if page > 0 {
            self.decoder.next_image().map_err(refused)?;
        }
        let inconsistent = || {
            damaged(format!(
                "page {page}: its directory can be read in two ways"
            ))
        };
        if self.decoder.dimensions().map_err(refused)? != (header.width, header.height) {
            return Err(inconsistent());
        }
        let samples = match header.sample {
            SampleType::U8 => self
                .read(page, header, |samples| match samples {
                    DecodingResult::U8(samples) => Some(samples),
                    _ => None,
                })?
                .map(Samples::U8),
            SampleType::U16 => self
                .read(page, header, |samples| match samples {
                    DecodingResult::U16(samples) => Some(samples),
                    _ => None,
                })?
                .map(Samples::U16),
            SampleType::F32 => self
                .read(page, header, |samples| match samples {
                    DecodingResult::F32(samples) => Some(samples),
                    _ => None,
                })?
                .map(Samples::F32),
        };
        samples
            .and_then(|samples| Page::new(header.width, header.height, header.layout, samples))
            .ok_or_else(inconsistent)
    }

    /// Reads the samples of the page that the decoder stands at; `None` if they are not of the type expected.
    fn read<T: Copy + Default>(
        &mut self,
        page: usize,
        header: &PageHeader,
        of_type: fn(DecodingResult) -> Option<Vec<T>>,
    ) -> Result<Option<Vec<T>>, ImagingError> {
        let refused = |error| refusal(page, error);
        if header.tiled {
            return self.read_tiles(header, of_type).map_err(refused);
        }
        let mut samples = DecodingResult::U8(Vec::new());
        self.decoder
            .read_image_to_buffer(&mut samples)
            .map_err(refused)?;
        Ok(of_type(samples).map(|samples| interleave(samples, header)))
    }

    /// Reads tiles whole, and puts them together.
    ///
    /// The crate can do that too, but wrongly where tiles reach over the edge of the page: it panics for planes, and
    /// as it reads them row by row there, it takes sound LZW data for truncated (its LZW decoder reports no progress
    /// when a row comes out of bits that it already holds).
    fn read_tiles<T: Copy + Default>(
        &mut self,
        header: &PageHeader,
        of_type: fn(DecodingResult) -> Option<Vec<T>>,
    ) -> Result<Option<Vec<T>>, TiffError> {
        let (width, height) = (header.width as usize, header.height as usize);
        let channels = header.layout.channels();
        let planes = if header.planar { channels } else { 1 };
        let interleaved = channels / planes;
        let (tile_width, tile_height) = self.decoder.chunk_dimensions();
        let (tile_width, tile_height) = (tile_width as usize, tile_height as usize);
        let tile_row = tile_width * interleaved;
        let (across, down) = (width.div_ceil(tile_width), height.div_ceil(tile_height));
        let mut samples = vec![T::default(); width * height * channels];
        for (index, tile) in (0..planes * down * across).zip(0..) {
            let plane = index / (down * across);
            let (top, left) = (
                index / across % down * tile_height,
                index % across * tile_width,
            );
            let columns = tile_width.min(width - left);
            let mut values = DecodingResult::U8(Vec::new());
            self.decoder
                .read_chunk_to_buffer(&mut values, tile, tile_row * size_of::<T>())?;
            let Some(values) = of_type(values) else {
                return Ok(None);
            };
            for (y, values) in (top..height).zip(values.chunks_exact(tile_row)) {
                let start = (y * width + left) * channels;
                let pixels = samples[start..][..columns * channels].chunks_exact_mut(channels);
                for (pixel, values) in pixels.zip(values.chunks_exact(interleaved)) {
                    pixel[plane..][..interleaved].copy_from_slice(values);
                }
            }
        }
        Ok(Some(samples))
    }
}

impl Iterator for Pages<'_> {
    type Item = Result<Page, ImagingError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (page, header) = self.headers.next()?;
        Some(self.decode(page, &header))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.headers.size_hint()
    }
}

/// Brings planes that lie one after the other to interleaved channels.
fn interleave<T: Copy>(samples: Vec<T>, header: &PageHeader) -> Vec<T> {
    if !header.planar || header.layout == Layout::Gray {
        return samples;
    }
    let (red, rest) = samples.split_at(samples.len() / 3);
    let (green, blue) = rest.split_at(rest.len() / 2);
    red.iter()
        .zip(green)
        .zip(blue)
        .flat_map(|((&red, &green), &blue)| [red, green, blue])
        .collect()
}

fn refusal(page: usize, error: TiffError) -> ImagingError {
    match error {
        TiffError::UnsupportedError(error) => unsupported(format!("page {page}: {error}")),
        error => damaged(format!("page {page}: {error}")),
    }
}
