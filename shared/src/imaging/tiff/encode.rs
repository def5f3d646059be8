//! Writing TIFF in the layout of the LGG segmentation data set.

use crate::imaging::{CHANNELS, Mask, Slice};

/// The data set's strips are the fewest rows that make this many bytes.
const STRIP_BYTES: usize = 8192;

/// Where the pixels start: right after the header.
const PIXELS: usize = 8;

/// Encodes a mask as the data set stores its masks: 0 and 255, one byte a pixel, uncompressed, little-endian.
///
/// For 256x256 pixels the file has the data set's bytes; other sizes follow the same rules: pixels first, in strips
/// of the fewest rows that make 8 KiB, the last one filled up with zeros; then the directory and its lists.
///
/// # Panics
/// When the file would exceed 4 GiB, which the format cannot hold; that of no picture does whose sides are within
/// [`Limits::LONGEST_SIDE`](crate::imaging::Limits::LONGEST_SIDE), as those of all that was decoded are.
#[must_use]
pub fn encode_mask_tiff(mask: &Mask) -> Vec<u8> {
    let pixels = mask.pixels().iter().map(|&set| if set { 255 } else { 0 });
    encode(mask.width(), mask.height(), 1, pixels)
}

/// Encodes a slice as the data set stores its images: RGB, interleaved, one byte a sample, uncompressed,
/// little-endian, in the layout that [`encode_mask_tiff`] describes.
///
/// # Panics
/// As [`encode_mask_tiff`].
#[must_use]
pub fn encode_slice_tiff(slice: &Slice) -> Vec<u8> {
    let pixels = slice.pixels().iter().copied();
    encode(slice.width(), slice.height(), CHANNELS, pixels)
}

fn encode(
    width: usize,
    height: usize,
    channels: usize,
    samples: impl Iterator<Item = u8>,
) -> Vec<u8> {
    let row_bytes = width * channels;
    let rows_per_strip = STRIP_BYTES.div_ceil(row_bytes).min(height);
    let strip_bytes = rows_per_strip * row_bytes;
    let strips = height.div_ceil(rows_per_strip);
    let end_of_pixels = PIXELS + strips * strip_bytes;

    let mut file = Vec::with_capacity(end_of_pixels + 256 + 8 * strips);
    file.extend(b"II\x2a\0");
    // TIFF wants directories at even offsets.
    file.extend(long(end_of_pixels.next_multiple_of(2)));
    file.extend(samples);
    file.resize(end_of_pixels.next_multiple_of(2), 0);

    let mut directory = Directory::new(file.len());
    directory.number(256, width); // ImageWidth
    directory.number(257, height); // ImageLength
    directory.shorts(258, &vec![8; channels]); // BitsPerSample
    directory.number(259, 1); // Compression: none
    directory.number(262, if channels == 1 { 1 } else { 2 }); // PhotometricInterpretation: zero is black, or RGB
    // The data set stores the list of byte counts before the list of offsets.
    let byte_counts = directory.place_longs(&vec![strip_bytes; strips]);
    let offsets: Vec<usize> = (0..strips).map(|i| PIXELS + i * strip_bytes).collect();
    let offsets = directory.place_longs(&offsets);
    directory.entry(273, Kind::Long, strips, offsets); // StripOffsets
    directory.number(277, channels); // SamplesPerPixel
    directory.number(278, rows_per_strip); // RowsPerStrip
    directory.entry(279, Kind::Long, strips, byte_counts); // StripByteCounts
    directory.number(284, 1); // PlanarConfiguration: interleaved
    directory.shorts(339, &vec![1; channels]); // SampleFormat: unsigned integers
    directory.finish(&mut file);
    file
}

#[derive(Clone, Copy)]
enum Kind {
    Short = 3,
    Long = 4,
}

/// A directory of [`Directory::ENTRIES`] entries and, after it, the lists that do not fit into them.
struct Directory {
    entries: Vec<u8>,
    lists: Vec<u8>,
    lists_start: usize,
}

impl Directory {
    const ENTRIES: u16 = 11;

    /// An empty directory that will stand at `offset`.
    fn new(offset: usize) -> Self {
        Self {
            entries: Self::ENTRIES.to_le_bytes().to_vec(),
            lists: Vec::new(),
            lists_start: offset + 2 + 12 * usize::from(Self::ENTRIES) + 4,
        }
    }

    fn entry(&mut self, tag: u16, kind: Kind, count: usize, value: [u8; 4]) {
        self.entries.extend(tag.to_le_bytes());
        self.entries.extend((kind as u16).to_le_bytes());
        self.entries.extend(long(count));
        self.entries.extend(value);
    }

    /// One number, as SHORT where it fits.
    fn number(&mut self, tag: u16, number: usize) {
        let kind = if u16::try_from(number).is_ok() {
            Kind::Short
        } else {
            Kind::Long
        };
        self.entry(tag, kind, 1, long(number));
    }

    fn shorts(&mut self, tag: u16, numbers: &[u16]) {
        let bytes: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let value = self.place(&bytes);
        self.entry(tag, Kind::Short, numbers.len(), value);
    }

    fn place_longs(&mut self, numbers: &[usize]) -> [u8; 4] {
        let bytes: Vec<u8> = numbers.iter().flat_map(|&n| long(n)).collect();
        self.place(&bytes)
    }

    /// The value field for these bytes: themselves if they fit, otherwise the offset they are put at.
    fn place(&mut self, bytes: &[u8]) -> [u8; 4] {
        let mut value = [0; 4];
        if let Some(inline) = value.get_mut(..bytes.len()) {
            inline.copy_from_slice(bytes);
            return value;
        }
        let offset = self.lists_start + self.lists.len();
        self.lists.extend(bytes);
        long(offset)
    }

    fn finish(self, file: &mut Vec<u8>) {
        file.extend(self.entries);
        file.extend([0; 4]); // no further directory
        file.extend(self.lists);
    }
}

/// A number of four bytes. Counts, sizes and offsets all lie below the length of the file.
#[expect(
    clippy::expect_used,
    reason = "sizes are bounded where images come in, far below 4 GiB"
)]
fn long(number: usize) -> [u8; 4] {
    u32::try_from(number)
        .expect("a TIFF file of less than 4 GiB")
        .to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imaging::Intensity;
    use sha2::{Digest, Sha256};

    fn sha256(bytes: &[u8]) -> String {
        Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    #[test]
    fn an_empty_mask_has_the_bytes_of_the_data_set() {
        assert_eq!(
            sha256(&encode_mask_tiff(&Mask::empty(256, 256))),
            "ab7233e2b69e64b6862e0d38232a00875aa27e8e4c6188be9f29a6a8cef6aa60"
        );
    }

    #[test]
    fn a_black_slice_has_the_layout_of_the_data_set() {
        let black = vec![0; 256 * 256 * 3];
        let slice =
            Slice::new(256, 256, black, Intensity::EightBit).expect("the number of values fits");
        assert_eq!(
            sha256(&encode_slice_tiff(&slice)),
            "2393e14e7005e60cb20a318d5ba1e229ce7eb05005376d9744a79b70dd7fc7dd"
        );
    }

    #[test]
    fn a_small_file_keeps_its_lists_inside_the_entries() {
        let file = encode_mask_tiff(&Mask::empty(5, 3));
        assert_eq!(file.len(), 8 + 16 + 2 + 11 * 12 + 4);
        assert_eq!(file[4..8], 24u32.to_le_bytes());
    }
}
