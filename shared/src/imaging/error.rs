//! What can be wrong with an image.

/// The bound that an image broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Columns or rows of a page.
    Side,
    /// Pages of a file.
    Pages,
    /// Bytes that all pages take once decoded.
    DecodedBytes,
}

impl std::fmt::Display for Limit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Side => "pixels a side",
            Self::Pages => "pages",
            Self::DecodedBytes => "decoded bytes",
        })
    }
}

/// Why an image or mask was refused. None of these can be cured by trying again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImagingError {
    /// The file is empty.
    #[error("the file is empty")]
    Empty,
    /// The first bytes belong to no format that is read here.
    #[error("neither TIFF nor PNG: the file starts with {start:02x?}")]
    UnknownFormat {
        /// The first bytes, at most eight.
        start: Vec<u8>,
    },
    /// The file breaks its format: truncated, or inconsistent.
    #[error("damaged {format} file: {reason}")]
    Damaged {
        /// `TIFF` or `PNG`.
        format: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// The file is sound, but of a kind that is not read here.
    #[error("unsupported {format} file: {reason}")]
    Unsupported {
        /// `TIFF` or `PNG`.
        format: &'static str,
        /// Which property, and what would be read.
        reason: String,
    },
    /// The file asks for more than the limits allow; nothing was allocated for it.
    #[error("too large: {actual} {limit}, at most {allowed} are allowed")]
    TooLarge {
        /// The bound that was broken.
        limit: Limit,
        /// What the file asks for.
        actual: u64,
        /// What is allowed.
        allowed: u64,
    },
    /// A pixel is NaN or infinite.
    #[error("page {page} has a pixel that is not a finite number")]
    NotFinite {
        /// Page, from 0.
        page: usize,
    },
    /// A mask holds more than two values, or two of which neither is 0.
    #[error("page {page} is no mask: {reason}")]
    NotAMask {
        /// Page, from 0.
        page: usize,
        /// The values found.
        reason: String,
    },
    /// The number of values does not fit the dimensions.
    #[error("{values} values do not make {width}x{height} pixels of {channels} channels")]
    Shape {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// Values a pixel.
        channels: usize,
        /// Values given.
        values: usize,
    },
}
