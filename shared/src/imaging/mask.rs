//! Binary masks and the probabilities that they are cut from.

use super::ImagingError;

/// The smallest rectangle that holds a mask: columns `x..x + width`, rows `y..y + height`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BoundingBox {
    /// First column.
    pub x: usize,
    /// First row.
    pub y: usize,
    /// Number of columns.
    pub width: usize,
    /// Number of rows.
    pub height: usize,
}

/// A binary mask, row by row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    width: usize,
    height: usize,
    pixels: Vec<bool>,
}

impl Mask {
    /// Wraps `height * width` values.
    ///
    /// # Errors
    /// [`ImagingError::Shape`] when a side is zero or `pixels` has another length.
    pub fn new(width: usize, height: usize, pixels: Vec<bool>) -> Result<Self, ImagingError> {
        if width == 0 || height == 0 || width.checked_mul(height) != Some(pixels.len()) {
            return Err(ImagingError::Shape {
                width,
                height,
                channels: 1,
                values: pixels.len(),
            });
        }
        Ok(Self {
            width,
            height,
            pixels,
        })
    }

    /// A mask without a single pixel set.
    ///
    /// # Panics
    /// When a side is zero.
    #[must_use]
    pub fn empty(width: usize, height: usize) -> Self {
        assert!(width > 0 && height > 0, "a mask has at least one pixel");
        Self {
            width,
            height,
            pixels: vec![false; width * height],
        }
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

    /// All values, row by row.
    #[must_use]
    pub fn pixels(&self) -> &[bool] {
        &self.pixels
    }

    /// All values, row by row, to be changed.
    #[must_use]
    pub fn pixels_mut(&mut self) -> &mut [bool] {
        &mut self.pixels
    }

    /// Number of pixels set.
    #[must_use]
    pub fn area(&self) -> u64 {
        self.pixels.iter().map(|&set| u64::from(set)).sum()
    }

    /// Whether no pixel is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        !self.pixels.contains(&true)
    }

    /// The smallest rectangle that holds every pixel set; `None` for an empty mask.
    #[must_use]
    pub fn bounding_box(&self) -> Option<BoundingBox> {
        let mut bounds: Option<(usize, usize, usize, usize)> = None;
        for (y, row) in self.pixels.chunks_exact(self.width).enumerate() {
            let Some(first) = row.iter().position(|&set| set) else {
                continue;
            };
            let last = row.iter().rposition(|&set| set).unwrap_or(first);
            bounds = Some(match bounds {
                None => (first, last, y, y),
                Some((left, right, top, _)) => (left.min(first), right.max(last), top, y),
            });
        }
        bounds.map(|(left, right, top, bottom)| BoundingBox {
            x: left,
            y: top,
            width: right - left + 1,
            height: bottom - top + 1,
        })
    }
}

/// A tumour probability (0..=1) for every pixel, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbabilityMap {
    width: usize,
    height: usize,
    values: Vec<f32>,
}

impl ProbabilityMap {
    /// Wraps `height * width` values.
    ///
    /// # Errors
    /// [`ImagingError::Shape`] when a side is zero or `values` has another length.
    pub fn new(width: usize, height: usize, values: Vec<f32>) -> Result<Self, ImagingError> {
        if width == 0 || height == 0 || width.checked_mul(height) != Some(values.len()) {
            return Err(ImagingError::Shape {
                width,
                height,
                channels: 1,
                values: values.len(),
            });
        }
        Ok(Self {
            width,
            height,
            values,
        })
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

    /// All values, row by row.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The pixels whose probability is at least `threshold`.
    #[must_use]
    pub fn threshold(&self, threshold: f32) -> Mask {
        Mask {
            width: self.width,
            height: self.height,
            pixels: self.values.iter().map(|&p| p >= threshold).collect(),
        }
    }
}
