//! What can be read as a slice, and yet is none.

use crate::imaging::{CHANNELS, Slice};

/// Fewest pixels a side: less shows no brain, and a mask of it would be invented.
pub const MIN_SIDE: usize = 16;

/// Why an image is no slice of a head, though it can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Implausible {
    /// A side has fewer than [`MIN_SIDE`] pixels.
    #[error("too small: {width}x{height} pixels, at least {MIN_SIDE}x{MIN_SIDE} are needed")]
    TooSmall {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
    },
    /// It holds 0 and one other value, the same in each channel.
    #[error(
        "this is a mask, not a slice: all its pixels are 0 or one other value, the same in each channel"
    )]
    Mask,
}

impl Implausible {
    /// What its sender can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::TooSmall { .. } => "upload the slice at the size at which it was taken",
            Self::Mask => "send the slice itself; truth is uploaded beside it as <slice>_mask.tif",
        }
    }
}

/// Checks that a side has at least [`MIN_SIDE`] pixels.
///
/// # Errors
/// [`Implausible::TooSmall`].
pub fn check_size(width: usize, height: usize) -> Result<(), Implausible> {
    if width.min(height) >= MIN_SIDE {
        Ok(())
    } else {
        Err(Implausible::TooSmall { width, height })
    }
}

/// Checks that an image may be a slice: a mask that was taken for one would be given a tumour of its own.
///
/// # Errors
/// The first [`Implausible`] that it is.
pub fn check_slice(slice: &Slice) -> Result<(), Implausible> {
    check_size(slice.width(), slice.height())?;
    if is_mask(slice.pixels()) {
        return Err(Implausible::Mask);
    }
    Ok(())
}

/// Whether interleaved pixels are 0 and one other value. Zeros alone may well be a slice, beyond the head.
fn is_mask(pixels: &[u8]) -> bool {
    let Some(&value) = pixels.iter().find(|&&sample| sample != 0) else {
        return false;
    };
    let mut zeros = false;
    pixels.chunks_exact(CHANNELS).all(|pixel| {
        zeros |= pixel[0] == 0;
        (pixel[0] == 0 || pixel[0] == value) && pixel.iter().all(|&sample| sample == pixel[0])
    }) && zeros
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_told_from_a_slice() {
        assert!(is_mask([[0; 3], [255; 3], [0; 3]].as_flattened()));
        assert!(is_mask([[1; 3], [0; 3]].as_flattened()));
        for pixels in [
            &[[0; 3], [0; 3]][..],
            &[[7; 3], [7; 3]],
            &[[0; 3], [255; 3], [254; 3]],
            &[[0, 0, 255], [0; 3]],
            &[[255; 3], [0, 255, 0]],
        ] {
            assert!(!is_mask(pixels.as_flattened()), "{pixels:?}");
        }
    }

    #[test]
    fn sixteen_pixels_a_side_are_enough() {
        assert_eq!(check_size(16, 16), Ok(()));
        let small = check_size(256, 15);
        assert_eq!(
            small,
            Err(Implausible::TooSmall {
                width: 256,
                height: 15
            })
        );
    }
}
