//! From the bytes of a file to slices and masks.

use super::page::{Layout, Page, Samples};
use super::rescale::{Rescaled, rescale};
use super::{CHANNELS, ImagingError, Intensity, Limits, Mask, Slice, png, tiff};

/// Decodes all slices of a TIFF or PNG file: every page is one, in the order of the file.
///
/// Read are 8- and 16-bit unsigned and 32-bit floating-point samples (PNG: 8 and 16 bits), grey or RGB. RGB is
/// pre-contrast, FLAIR and post-contrast; grey is FLAIR, and fills all three channels. Samples that are not 8-bit
/// are mapped linearly, each channel of each slice from its own 0th to 99.9th percentile (NumPy's `linear` one) to
/// 0..=255 and rounded, larger ones becoming 255; [`Slice::intensity`] tells so.
///
/// TIFF may be of either byte order or BigTIFF, in strips or tiles, interleaved or planar, uncompressed or by LZW,
/// Deflate or PackBits, with horizontal or floating-point prediction. Everything else (alpha, palettes, signed
/// samples, other orientations...) is refused.
///
/// # Errors
/// Any [`ImagingError`]; [`ImagingError::TooLarge`] before memory is allocated.
pub fn decode_slices(bytes: &[u8], limits: &Limits) -> Result<Vec<Slice>, ImagingError> {
    SliceReader::new(bytes, limits)?.collect()
}

/// Decodes the slices of a file one by one, so that only one page is held at a time.
///
/// What [`decode_slices`] says of the files holds here too. After an error the iterator ends.
pub struct SliceReader<'a> {
    pages: Pages<'a>,
}

impl<'a> SliceReader<'a> {
    /// Checks the headers of all pages against the limits; decodes none.
    ///
    /// # Errors
    /// Any [`ImagingError`] that the headers give rise to.
    pub fn new(bytes: &'a [u8], limits: &Limits) -> Result<Self, ImagingError> {
        Ok(Self {
            pages: Pages::open(bytes, limits)?,
        })
    }
}

impl Iterator for SliceReader<'_> {
    type Item = Result<Slice, ImagingError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (number, page) = self.pages.next()?;
        let slice = page.and_then(|page| slice(number, page));
        if slice.is_err() {
            self.pages.end();
        }
        Some(slice)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.pages.size_hint()
    }
}

/// Decodes all masks of a TIFF or PNG file: every page is one, in the order of the file.
///
/// A mask has 8- or 16-bit samples, one channel or three equal ones, and at most two values, of which one is 0 if
/// there are two. Pixels that are not 0 are set; a page of one value that is not 0 is a full mask.
///
/// # Errors
/// [`ImagingError::NotAMask`] for other pixels, and any other [`ImagingError`] as for [`decode_slices`].
pub fn decode_masks(bytes: &[u8], limits: &Limits) -> Result<Vec<Mask>, ImagingError> {
    Pages::open(bytes, limits)?
        .map(|(number, page)| mask(number, &page?))
        .collect()
}

/// The pages of a file of either format, counted from 0.
struct Pages<'a> {
    source: Source<'a>,
    number: usize,
}

enum Source<'a> {
    Tiff(Box<tiff::Pages<'a>>),
    Png(&'a [u8], png::Header),
    Ended,
}

impl<'a> Pages<'a> {
    fn open(bytes: &'a [u8], limits: &Limits) -> Result<Self, ImagingError> {
        let is_tiff = || {
            tiff::SIGNATURES
                .iter()
                .any(|start| bytes.starts_with(start))
        };
        let source = if bytes.is_empty() {
            return Err(ImagingError::Empty);
        } else if is_tiff() {
            Source::Tiff(Box::new(tiff::Pages::open(bytes, limits)?))
        } else if bytes.starts_with(png::SIGNATURE) {
            Source::Png(bytes, png::Header::read(bytes, limits)?)
        } else {
            return Err(ImagingError::UnknownFormat {
                start: bytes.iter().copied().take(8).collect(),
            });
        };
        Ok(Self { source, number: 0 })
    }

    fn end(&mut self) {
        self.source = Source::Ended;
    }
}

impl Iterator for Pages<'_> {
    type Item = (usize, Result<Page, ImagingError>);

    fn next(&mut self) -> Option<Self::Item> {
        let page = match &mut self.source {
            Source::Tiff(pages) => pages.next()?,
            Source::Png(bytes, header) => {
                let page = header.decode(bytes);
                self.source = Source::Ended;
                page
            }
            Source::Ended => return None,
        };
        let number = self.number;
        self.number += 1;
        Some((number, page))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.source {
            Source::Tiff(pages) => pages.size_hint(),
            Source::Png(..) => (1, Some(1)),
            Source::Ended => (0, Some(0)),
        }
    }
}

fn slice(number: usize, page: Page) -> Result<Slice, ImagingError> {
    let Page {
        width,
        height,
        layout,
        samples,
    } = page;
    let rescaled = match samples {
        Samples::U8(samples) => {
            let pixels = match layout {
                Layout::Rgb => samples,
                Layout::Gray => samples
                    .iter()
                    .flat_map(|&value| [value; CHANNELS])
                    .collect(),
            };
            return Slice::new(width, height, pixels, Intensity::EightBit);
        }
        Samples::U16(samples) => rescale(&samples, layout),
        Samples::F32(samples) if samples.iter().all(|value| value.is_finite()) => {
            rescale(&samples, layout)
        }
        Samples::F32(_) => return Err(ImagingError::NotFinite { page: number }),
    };
    let Rescaled { pixels, low, high } = rescaled;
    Slice::new(width, height, pixels, Intensity::Rescaled { low, high })
}

fn mask(number: usize, page: &Page) -> Result<Mask, ImagingError> {
    let set = match &page.samples {
        Samples::U8(samples) => binary(samples, page.layout),
        Samples::U16(samples) => binary(samples, page.layout),
        Samples::F32(_) => Err("its samples are floating-point numbers".to_owned()),
    };
    let set = set.map_err(|reason| ImagingError::NotAMask {
        page: number,
        reason,
    })?;
    Mask::new(page.width, page.height, set)
}

/// Which pixels are not 0, or why they are not those of a mask.
fn binary<T>(samples: &[T], layout: Layout) -> Result<Vec<bool>, String>
where
    T: Copy + Default + PartialEq + std::fmt::Display,
{
    let zero = T::default();
    // Passes without an early end are what the compiler turns into wide comparisons; what is no mask is rare enough to
    // be looked at twice.
    let value = samples
        .iter()
        .copied()
        .find(|&sample| sample != zero)
        .unwrap_or(zero);
    let channels = layout.channels();
    if channels > 1
        && samples
            .chunks_exact(channels)
            .any(|p| p.iter().any(|s| *s != p[0]))
    {
        return Err("its channels differ".to_owned());
    }
    let sound = samples
        .iter()
        .fold(true, |all, &s| all & ((s == zero) | (s == value)));
    if !sound {
        let other = samples
            .iter()
            .find(|&&s| s != zero && s != value)
            .unwrap_or(&zero);
        return Err(format!(
            "it holds {value} and {other}, a mask holds 0 and one other value"
        ));
    }
    Ok(samples
        .iter()
        .step_by(channels)
        .map(|&s| s != zero)
        .collect())
}
