//! One MRI slice as everything downstream sees it.

use super::ImagingError;

/// Number of channels of every [`Slice`].
pub const CHANNELS: usize = 3;

/// The MRI sequences of a slice, in the order of its channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channel {
    /// T1-weighted before the contrast agent.
    PreContrast = 0,
    /// Fluid-attenuated inversion recovery: the sequence that the tumour is drawn on.
    Flair = 1,
    /// T1-weighted after the contrast agent.
    PostContrast = 2,
}

/// How the stored intensities became 0..=255.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Intensity {
    /// The file held 8-bit values; they are unchanged.
    EightBit,
    /// The file held 16-bit or floating-point values; each channel was mapped linearly from
    /// `low..=high` (its own 0th and 99.9th percentile) to 0..=255 and rounded.
    Rescaled {
        /// 0th percentile by channel.
        low: [f32; CHANNELS],
        /// 99.9th percentile by channel.
        high: [f32; CHANNELS],
    },
}

/// A slice of three 8-bit channels (pre-contrast, FLAIR, post-contrast), row by row, channels interleaved.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
    intensity: Intensity,
}

impl Slice {
    /// Wraps `height * width * 3` interleaved values.
    ///
    /// # Errors
    /// [`ImagingError::Shape`] when a side is zero or `pixels` has another length.
    pub fn new(
        width: usize,
        height: usize,
        pixels: Vec<u8>,
        intensity: Intensity,
    ) -> Result<Self, ImagingError> {
        let expected = width
            .checked_mul(height)
            .and_then(|n| n.checked_mul(CHANNELS));
        if width == 0 || height == 0 || expected != Some(pixels.len()) {
            return Err(ImagingError::Shape {
                width,
                height,
                channels: CHANNELS,
                values: pixels.len(),
            });
        }
        Ok(Self {
            width,
            height,
            pixels,
            intensity,
        })
    }

    /// The slice of a file whose channels stand in another order: `found` says what each of them is, one after the
    /// other, and each goes to its own place with its range. A channel that `found` leaves out keeps what it had.
    #[must_use]
    pub fn arranged(mut self, found: [Channel; CHANNELS]) -> Self {
        let (pixels, _) = self.pixels.as_chunks_mut::<CHANNELS>();
        for pixel in pixels {
            *pixel = placed(*pixel, found);
        }
        if let Intensity::Rescaled { low, high } = &mut self.intensity {
            *low = placed(*low, found);
            *high = placed(*high, found);
        }
        self
    }

    /// Columns.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// All values: `height * width * 3`, row by row, channels interleaved.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// How the stored intensities became 0..=255.
    #[must_use]
    pub fn intensity(&self) -> Intensity {
        self.intensity
    }

    /// The value of one channel at column `x`, row `y`.
    ///
    /// # Panics
    /// When the position lies outside the slice.
    #[must_use]
    pub fn at(&self, x: usize, y: usize, channel: Channel) -> u8 {
        assert!(x < self.width && y < self.height, "({x}, {y}) is outside");
        self.pixels[(y * self.width + x) * CHANNELS + channel as usize]
    }
}

/// The values by channel that stand in the order of `found`.
fn placed<T: Copy>(values: [T; CHANNELS], found: [Channel; CHANNELS]) -> [T; CHANNELS] {
    let mut placed = values;
    for (channel, value) in found.into_iter().zip(values) {
        placed[channel as usize] = value;
    }
    placed
}
