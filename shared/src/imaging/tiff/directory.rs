//! The directories of a TIFF file, read before any pixel is decoded.
//!
//! The `tiff` crate allocates for the fields of the first directory before limits can be set, and trusts products of
//! its dimensions. So every directory is walked here first, without allocating for anything the file claims: what is
//! not read here is refused by name, and what is passed on is known to be consistent and to lie inside the file.

use std::collections::{BTreeMap, HashSet};

use super::{damaged, unsupported};
use crate::imaging::ImagingError;
use crate::imaging::limits::Budget;
use crate::imaging::page::Layout;

/// More fields than any directory in use has; bounds the work on directories that overlap.
const MAX_FIELDS: u64 = 4096;

/// The most bytes that compressed data may be longer than twice its pixels; no encoder comes near either.
const MAX_COMPRESSED_EXCESS: u64 = 256;

/// TIFF 6.0, section 15: tile sides are multiples of 16. It also bounds the number of tiles.
const TILE_MULTIPLE: u64 = 16;

/// The fields that are read, by their number.
mod tag {
    pub(super) const NEW_SUBFILE_TYPE: u16 = 254;
    pub(super) const IMAGE_WIDTH: u16 = 256;
    pub(super) const IMAGE_LENGTH: u16 = 257;
    pub(super) const BITS_PER_SAMPLE: u16 = 258;
    pub(super) const COMPRESSION: u16 = 259;
    pub(super) const PHOTOMETRIC: u16 = 262;
    pub(super) const FILL_ORDER: u16 = 266;
    pub(super) const STRIP_OFFSETS: u16 = 273;
    pub(super) const ORIENTATION: u16 = 274;
    pub(super) const SAMPLES_PER_PIXEL: u16 = 277;
    pub(super) const ROWS_PER_STRIP: u16 = 278;
    pub(super) const STRIP_BYTE_COUNTS: u16 = 279;
    pub(super) const PLANAR_CONFIGURATION: u16 = 284;
    pub(super) const PREDICTOR: u16 = 317;
    pub(super) const TILE_WIDTH: u16 = 322;
    pub(super) const TILE_LENGTH: u16 = 323;
    pub(super) const TILE_OFFSETS: u16 = 324;
    pub(super) const TILE_BYTE_COUNTS: u16 = 325;
    pub(super) const EXTRA_SAMPLES: u16 = 338;
    pub(super) const SAMPLE_FORMAT: u16 = 339;
    pub(super) const YCBCR_SUBSAMPLING: u16 = 530;
}

/// How a sample is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleType {
    U8,
    U16,
    F32,
}

impl SampleType {
    fn bytes(self) -> u64 {
        match self {
            Self::U8 => 1,
            Self::U16 => 2,
            Self::F32 => 4,
        }
    }
}

/// What a directory says of its page, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageHeader {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) layout: Layout,
    pub(super) sample: SampleType,
    /// Whether the channels lie one after the other instead of interleaved.
    pub(super) planar: bool,
    /// Whether the samples lie in tiles instead of strips.
    pub(super) tiled: bool,
}

impl PageHeader {
    fn pixel_bytes(&self) -> u64 {
        self.layout.channels() as u64 * self.sample.bytes()
    }
}

/// Reads the headers of all pages, in order.
pub(super) fn read_headers(
    bytes: &[u8],
    budget: &mut Budget,
) -> Result<Vec<PageHeader>, ImagingError> {
    let file = File::open(bytes)?;
    let mut headers = Vec::new();
    let mut seen = HashSet::new();
    let mut next = file.first_directory()?;
    while next != 0 {
        if !seen.insert(next) {
            return Err(damaged("its directories form a loop"));
        }
        budget.admit_page()?;
        let (directory, following) = file.directory(next)?;
        let page = headers.len();
        headers.push(
            directory
                .header(budget)
                .map_err(|error| at_page(page, error))?,
        );
        next = following;
    }
    if headers.is_empty() {
        return Err(damaged("it holds no page"));
    }
    Ok(headers)
}

/// Puts the page before the reason.
fn at_page(page: usize, error: ImagingError) -> ImagingError {
    match error {
        ImagingError::Damaged { format, reason } => ImagingError::Damaged {
            format,
            reason: format!("page {page}: {reason}"),
        },
        ImagingError::Unsupported { format, reason } => ImagingError::Unsupported {
            format,
            reason: format!("page {page}: {reason}"),
        },
        other => other,
    }
}

/// The file, and how its numbers are stored.
#[derive(Clone, Copy)]
struct File<'a> {
    bytes: &'a [u8],
    little_endian: bool,
    big_tiff: bool,
}

impl<'a> File<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, ImagingError> {
        let little_endian = bytes.starts_with(b"II");
        let mut file = Self {
            bytes,
            little_endian,
            big_tiff: false,
        };
        file.big_tiff = file.number(2, 2)? == 43;
        if file.big_tiff && (file.number(4, 2)?, file.number(6, 2)?) != (8, 0) {
            return Err(damaged("its BigTIFF header is not of 8-byte offsets"));
        }
        Ok(file)
    }

    fn first_directory(&self) -> Result<u64, ImagingError> {
        if self.big_tiff {
            self.number(8, 8)
        } else {
            self.number(4, 4)
        }
    }

    /// `length` bytes from `offset`.
    fn slice(&self, offset: u64, length: u64) -> Result<&'a [u8], ImagingError> {
        let end = offset.checked_add(length);
        end.and_then(|end| Some(usize::try_from(offset).ok()?..usize::try_from(end).ok()?))
            .and_then(|range| self.bytes.get(range))
            .ok_or_else(|| {
                damaged(format!(
                    "truncated: {length} bytes are missing at offset {offset} of {}",
                    self.bytes.len()
                ))
            })
    }

    /// An unsigned number of `size` bytes at `offset`.
    fn number(&self, offset: u64, size: u64) -> Result<u64, ImagingError> {
        Ok(self.parse(self.slice(offset, size)?))
    }

    fn parse(&self, digits: &[u8]) -> u64 {
        let push = |number: u64, &digit: &u8| number << 8 | u64::from(digit);
        if self.little_endian {
            digits.iter().rev().fold(0, push)
        } else {
            digits.iter().fold(0, push)
        }
    }

    /// The directory at `offset`, and the offset of the next one (0 after the last).
    fn directory(&self, offset: u64) -> Result<(Directory<'a>, u64), ImagingError> {
        let (count_size, field_size, offset_size) = if self.big_tiff {
            (8, 20, 8)
        } else {
            (2, 12, 4)
        };
        let count = self.number(offset, count_size)?;
        if count > MAX_FIELDS {
            return Err(damaged(format!(
                "a directory of {count} fields, at most {MAX_FIELDS} are read"
            )));
        }
        // The count was read at `offset`, and is small: neither sum can overflow.
        let start = offset + count_size;
        let end = start + count * field_size;
        let mut fields = BTreeMap::new();
        for at in (start..end).step_by(field_size as usize) {
            let tag = self.number(at, 2)? as u16;
            let kind = self.number(at + 2, 2)?;
            let count = self.number(at + 4, offset_size)?;
            let value = at + 4 + offset_size;
            // The `tiff` crate loses its place at a type it does not know in BigTIFF.
            if self.big_tiff && !matches!(kind, 1..=13 | 16..=18) {
                return Err(unsupported(format!(
                    "field {tag} has the unknown type {kind}"
                )));
            }
            fields.insert(tag, Field { kind, count, value });
        }
        let next = self.number(end, offset_size)?;
        let file = *self;
        Ok((Directory { file, fields }, next))
    }
}

/// Where a field lies.
#[derive(Clone, Copy)]
struct Field {
    kind: u64,
    count: u64,
    /// Where its value stands, or the offset of it when it does not fit.
    value: u64,
}

struct Directory<'a> {
    file: File<'a>,
    fields: BTreeMap<u16, Field>,
}

impl<'a> Directory<'a> {
    /// The numbers of a field, none of them read yet; `None` when there is no such field.
    fn numbers(
        &self,
        tag: u16,
    ) -> Result<Option<impl ExactSizeIterator<Item = u64> + 'a>, ImagingError> {
        let Some(&Field { kind, count, value }) = self.fields.get(&tag) else {
            return Ok(None);
        };
        let size = match kind {
            1 => 1,
            3 => 2,
            4 => 4,
            16 if self.file.big_tiff => 8,
            _ => {
                return Err(damaged(format!(
                    "field {tag} is of type {kind}, which is no unsigned integer"
                )));
            }
        };
        let inline = if self.file.big_tiff { 8 } else { 4 };
        let length = size * count.min(u64::MAX / 8);
        let offset = if length <= inline {
            value
        } else {
            self.file.number(value, inline)?
        };
        let file = self.file;
        let bytes = file.slice(offset, length)?;
        Ok(Some(
            bytes
                .chunks_exact(size as usize)
                .map(move |digits| file.parse(digits)),
        ))
    }

    /// The number of a field that holds one; `None` when there is no such field.
    fn number(&self, tag: u16) -> Result<Option<u64>, ImagingError> {
        let Some(mut numbers) = self.numbers(tag)? else {
            return Ok(None);
        };
        match (numbers.len(), numbers.next()) {
            (1, Some(number)) => Ok(Some(number)),
            (count, _) => Err(damaged(format!(
                "field {tag} holds {count} values, not one"
            ))),
        }
    }

    fn required(&self, tag: u16) -> Result<u64, ImagingError> {
        self.number(tag)?
            .ok_or_else(|| damaged(format!("field {tag} is missing")))
    }

    /// The number that a field repeats for every sample, or holds once.
    fn same_for_all(&self, tag: u16, samples: u64) -> Result<Option<u64>, ImagingError> {
        let Some(mut numbers) = self.numbers(tag)? else {
            return Ok(None);
        };
        let count = numbers.len() as u64;
        let Some(first) = numbers.next().filter(|_| count == 1 || count == samples) else {
            return Err(damaged(format!(
                "field {tag} holds {count} values for {samples} samples a pixel"
            )));
        };
        if numbers.any(|number| number != first) {
            return Err(unsupported(format!("the samples differ in field {tag}")));
        }
        Ok(Some(first))
    }

    /// Checks everything that the decoder relies on.
    fn header(&self, budget: &mut Budget) -> Result<PageHeader, ImagingError> {
        let side = |tag| {
            let side = self.required(tag)?;
            match u32::try_from(side) {
                Ok(side) if side > 0 => Ok(side),
                _ => Err(damaged(format!("a side of {side} pixels"))),
            }
        };
        let (width, height) = (side(tag::IMAGE_WIDTH)?, side(tag::IMAGE_LENGTH)?);
        budget.admit_side(width.into())?;
        budget.admit_side(height.into())?;
        self.refuse_other_kinds()?;
        let layout = self.layout()?;
        let header = PageHeader {
            width,
            height,
            layout,
            sample: self.sample_type(layout)?,
            planar: match self.number(tag::PLANAR_CONFIGURATION)?.unwrap_or(1) {
                1 => false,
                2 => true,
                other => return Err(damaged(format!("planar configuration {other}"))),
            },
            tiled: self.is_tiled()?,
        };
        budget.admit_pixels(width, height, header.pixel_bytes())?;
        self.check_compression(&header)?;
        self.check_chunks(&header, budget)?;
        Ok(header)
    }

    /// Refuses what would decode to something else than the picture shown.
    fn refuse_other_kinds(&self) -> Result<(), ImagingError> {
        if let Some(kind @ 1..) = self.number(tag::NEW_SUBFILE_TYPE)?.map(|kind| kind & 0b101) {
            return Err(unsupported(if kind & 1 == 1 {
                "a reduced copy of another page"
            } else {
                "a transparency mask"
            }));
        }
        if let Some(order @ 2..) = self.number(tag::FILL_ORDER)? {
            return Err(unsupported(format!(
                "fill order {order} (bits reversed), only 1 is read"
            )));
        }
        if let Some(orientation @ 2..) = self.number(tag::ORIENTATION)? {
            return Err(unsupported(format!(
                "orientation {orientation}, only 1 (first row at the top, first column at the left) is read"
            )));
        }
        if self.fields.contains_key(&tag::EXTRA_SAMPLES) {
            return Err(unsupported(
                "extra samples (alpha or unspecified), only 1 or 3 channels are read",
            ));
        }
        if self
            .numbers(tag::YCBCR_SUBSAMPLING)?
            .is_some_and(|n| n.len() != 2)
        {
            return Err(damaged(format!(
                "field {} holds not two values",
                tag::YCBCR_SUBSAMPLING
            )));
        }
        Ok(())
    }

    fn layout(&self) -> Result<Layout, ImagingError> {
        let samples = self.number(tag::SAMPLES_PER_PIXEL)?.unwrap_or(1);
        let photometric = self.required(tag::PHOTOMETRIC)?;
        let layout = match photometric {
            0 | 1 => Layout::Gray,
            2 => Layout::Rgb,
            other => {
                let name = match other {
                    3 => "a palette",
                    4 => "a transparency mask",
                    5 => "CMYK",
                    6 => "YCbCr",
                    8..=10 => "Lab",
                    _ => "an unknown colour space",
                };
                return Err(unsupported(format!(
                    "{name} (photometric interpretation {other}), only grey and RGB are read"
                )));
            }
        };
        if samples != layout.channels() as u64 {
            return Err(unsupported(format!(
                "{samples} samples a pixel with photometric interpretation {photometric}, \
                 only 1 of grey and 3 of RGB are read"
            )));
        }
        if photometric == 0 && self.number(tag::SAMPLE_FORMAT)? == Some(3) {
            return Err(unsupported("floating-point samples of which zero is white"));
        }
        Ok(layout)
    }

    fn sample_type(&self, layout: Layout) -> Result<SampleType, ImagingError> {
        let samples = layout.channels() as u64;
        let bits = self
            .same_for_all(tag::BITS_PER_SAMPLE, samples)?
            .unwrap_or(1);
        let format = self.same_for_all(tag::SAMPLE_FORMAT, samples)?.unwrap_or(1);
        match (bits, format) {
            (8, 1) => Ok(SampleType::U8),
            (16, 1) => Ok(SampleType::U16),
            (32, 3) => Ok(SampleType::F32),
            _ => {
                let name = match format {
                    1 => "unsigned integers",
                    2 => "signed integers",
                    3 => "floating-point numbers",
                    _ => "samples of unknown format",
                };
                Err(unsupported(format!(
                    "{bits}-bit {name}, only 8- and 16-bit unsigned integers and 32-bit floating-point numbers are read"
                )))
            }
        }
    }

    fn check_compression(&self, header: &PageHeader) -> Result<(), ImagingError> {
        match self.compression()? {
            // none, LZW, Deflate, PackBits, Deflate by its old number
            1 | 5 | 8 | 32773 | 32946 => {}
            other => {
                let name = match other {
                    2..=4 => "fax",
                    6 | 7 => "JPEG",
                    34712 => "JPEG 2000",
                    50000 => "Zstandard",
                    50001 => "WebP",
                    _ => "unknown",
                };
                return Err(unsupported(format!(
                    "compression {other} ({name}), only none, LZW, Deflate and PackBits are read"
                )));
            }
        }
        match (self.number(tag::PREDICTOR)?.unwrap_or(1), header.sample) {
            (1 | 2, _) | (3, SampleType::F32) => Ok(()),
            (predictor, _) => Err(unsupported(format!(
                "predictor {predictor}, only none, horizontal, and that of floating-point samples are read"
            ))),
        }
    }

    fn is_tiled(&self) -> Result<bool, ImagingError> {
        let has = |tag| self.fields.contains_key(&tag);
        match (
            has(tag::STRIP_OFFSETS) || has(tag::STRIP_BYTE_COUNTS),
            has(tag::TILE_OFFSETS) || has(tag::TILE_BYTE_COUNTS),
        ) {
            (true, false) => Ok(false),
            (false, true) => Ok(true),
            (false, false) => Err(damaged("neither strips nor tiles")),
            (true, true) => Err(damaged("both strips and tiles")),
        }
    }

    fn compression(&self) -> Result<u64, ImagingError> {
        Ok(self.number(tag::COMPRESSION)?.unwrap_or(1))
    }

    /// Checks that the strips or tiles are as many as the page needs, and lie in the file.
    fn check_chunks(&self, header: &PageHeader, budget: &mut Budget) -> Result<(), ImagingError> {
        let (width, height) = (u64::from(header.width), u64::from(header.height));
        let planes = if header.planar {
            header.layout.channels() as u64
        } else {
            1
        };
        let (chunk_width, chunk_height, offsets, byte_counts) = if header.tiled {
            let tile_side = |tag| {
                let side = self.required(tag)?;
                if side == 0 || side % TILE_MULTIPLE != 0 {
                    return Err(damaged(format!(
                        "a tile side of {side} pixels is no multiple of {TILE_MULTIPLE}"
                    )));
                }
                budget.admit_side(side)?;
                Ok(side)
            };
            let (width, height) = (tile_side(tag::TILE_WIDTH)?, tile_side(tag::TILE_LENGTH)?);
            budget.admit_tile(width, height, header.pixel_bytes() / planes)?;
            (width, height, tag::TILE_OFFSETS, tag::TILE_BYTE_COUNTS)
        } else {
            let rows = self.number(tag::ROWS_PER_STRIP)?.unwrap_or(height);
            if rows == 0 {
                return Err(damaged("strips of no rows"));
            }
            (
                width,
                rows.min(height),
                tag::STRIP_OFFSETS,
                tag::STRIP_BYTE_COUNTS,
            )
        };
        let chunks_down = height.div_ceil(chunk_height);
        let chunks_across = width.div_ceil(chunk_width);
        let chunks = chunks_across * chunks_down * planes;
        budget.admit_padding(
            chunks_across * chunk_width - width,
            height,
            header.pixel_bytes(),
        )?;
        let (Some(offsets), Some(byte_counts)) =
            (self.numbers(offsets)?, self.numbers(byte_counts)?)
        else {
            return Err(damaged("strips or tiles without offsets or byte counts"));
        };
        if offsets.len() as u64 != chunks || byte_counts.len() as u64 != chunks {
            return Err(damaged(format!(
                "{} offsets and {} byte counts for {chunks} strips or tiles",
                offsets.len(),
                byte_counts.len()
            )));
        }
        let uncompressed = self.compression()? == 1;
        let row_bytes = chunk_width * header.pixel_bytes() / planes;
        for (chunk, (offset, byte_count)) in (0..).zip(offsets.zip(byte_counts)) {
            self.file.slice(offset, byte_count)?;
            // The last strip may end with the page; a tile is always whole.
            let rows = if header.tiled {
                chunk_height
            } else {
                chunk_height.min(height - chunk % chunks_down * chunk_height)
            };
            let pixel_bytes = rows * row_bytes;
            let mismatched = if uncompressed {
                byte_count < pixel_bytes
            } else {
                // LZW, Deflate and PackBits all know codes that stand for nothing. Chunks may share them, so that a
                // small file could keep the decoder busy for hours without a pixel coming out.
                byte_count > 2 * pixel_bytes + MAX_COMPRESSED_EXCESS
            };
            if mismatched {
                return Err(damaged(format!(
                    "strip or tile {chunk} of {byte_count} bytes, its pixels take {pixel_bytes}"
                )));
            }
        }
        Ok(())
    }
}
