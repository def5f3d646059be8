//! One page of a file, decompressed but not yet interpreted.

/// Samples as stored, row by row, channels interleaved.
pub(super) enum Samples {
    U8(Vec<u8>),
    U16(Vec<u16>),
    F32(Vec<f32>),
}

impl Samples {
    fn len(&self) -> usize {
        match self {
            Self::U8(samples) => samples.len(),
            Self::U16(samples) => samples.len(),
            Self::F32(samples) => samples.len(),
        }
    }
}

/// The number of channels of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    Gray,
    Rgb,
}

impl Layout {
    pub(super) fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
        }
    }
}

/// A page: `width * height * layout.channels()` samples.
pub(super) struct Page {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) layout: Layout,
    pub(super) samples: Samples,
}

impl Page {
    /// Wraps samples; `None` when their number does not fit the dimensions.
    pub(super) fn new(width: u32, height: u32, layout: Layout, samples: Samples) -> Option<Self> {
        let (width, height) = (width as usize, height as usize);
        let expected = width.checked_mul(height)?.checked_mul(layout.channels())?;
        (expected == samples.len()).then_some(Self {
            width,
            height,
            layout,
            samples,
        })
    }
}
