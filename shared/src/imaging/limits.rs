//! How much a file may ask for.

use super::{ImagingError, Limit};

/// What is allowed of one file. It is checked against the file's headers, before memory is allocated for pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most columns, and most rows, of a page; beyond [`Limits::LONGEST_SIDE`] that counts instead.
    pub max_side: u32,
    /// Most pages of a file.
    pub max_pages: usize,
    /// Most bytes that all pages together may take once decoded. A page counts with the larger of its samples as
    /// stored and its slice of three bytes a pixel, and with what its tiles hold beyond its right edge.
    pub max_decoded_bytes: u64,
}

impl Limits {
    /// Longest side of anything that is decoded: three bytes of each pixel of such a square fit into a TIFF file, whose
    /// offsets have 32 bits, so that all that is decoded can be encoded.
    pub const LONGEST_SIDE: u32 = 32_767;

    /// The longest side that is allowed.
    #[must_use]
    pub fn side(&self) -> u32 {
        self.max_side.min(Self::LONGEST_SIDE)
    }
}

impl Default for Limits {
    /// 4096 pixels a side, 512 pages, 256 MiB decoded.
    fn default() -> Self {
        Self {
            max_side: 4096,
            max_pages: 512,
            max_decoded_bytes: 256 << 20,
        }
    }
}

/// What is left of the [`Limits`] while the headers of a file are read.
pub(super) struct Budget {
    limits: Limits,
    pages: usize,
    decoded_bytes: u64,
}

impl Budget {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            limits: *limits,
            pages: 0,
            decoded_bytes: 0,
        }
    }

    /// Refuses a side that is too long.
    pub(super) fn admit_side(&self, side: u64) -> Result<(), ImagingError> {
        Self::admit(Limit::Side, side, self.limits.side().into())
    }

    /// Refuses a tile that is too large; it is decoded whole, however small its page, but not kept.
    pub(super) fn admit_tile(
        &self,
        width: u64,
        height: u64,
        stored_bytes: u64,
    ) -> Result<(), ImagingError> {
        self.admit_side(width)?;
        self.admit_side(height)?;
        let decoded_bytes = (width * height).saturating_mul(stored_bytes);
        Self::admit(
            Limit::DecodedBytes,
            decoded_bytes,
            self.limits.max_decoded_bytes,
        )
    }

    /// Counts the pixels that tiles hold beyond the right edge of their page; they are decoded, but not kept.
    pub(super) fn admit_padding(
        &mut self,
        columns: u64,
        rows: u64,
        stored_bytes: u64,
    ) -> Result<(), ImagingError> {
        self.decoded_bytes = columns
            .saturating_mul(rows)
            .saturating_mul(stored_bytes)
            .saturating_add(self.decoded_bytes);
        Self::admit(
            Limit::DecodedBytes,
            self.decoded_bytes,
            self.limits.max_decoded_bytes,
        )
    }

    /// Counts one page more, before its header is read.
    pub(super) fn admit_page(&mut self) -> Result<(), ImagingError> {
        self.pages += 1;
        Self::admit(
            Limit::Pages,
            self.pages as u64,
            self.limits.max_pages as u64,
        )
    }

    /// Counts the pixels of a page, of which each takes `stored_bytes` in the file once decompressed.
    pub(super) fn admit_pixels(
        &mut self,
        width: u32,
        height: u32,
        stored_bytes: u64,
    ) -> Result<(), ImagingError> {
        self.admit_side(width.into())?;
        self.admit_side(height.into())?;
        let pixel_bytes = stored_bytes.max(super::CHANNELS as u64);
        self.decoded_bytes = (u64::from(width) * u64::from(height))
            .saturating_mul(pixel_bytes)
            .saturating_add(self.decoded_bytes);
        Self::admit(
            Limit::DecodedBytes,
            self.decoded_bytes,
            self.limits.max_decoded_bytes,
        )
    }

    fn admit(limit: Limit, actual: u64, allowed: u64) -> Result<(), ImagingError> {
        if actual > allowed {
            return Err(ImagingError::TooLarge {
                limit,
                actual,
                allowed,
            });
        }
        Ok(())
    }
}
