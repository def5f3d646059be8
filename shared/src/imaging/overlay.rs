//! Slices as pictures, with what was found drawn over them.

use super::colour_map::{inferno, unit_interval};
use super::edge::edge;
use super::{CHANNELS, Channel, Mask, ProbabilityMap, Slice};

/// Red, green and blue.
pub type Colour = [u8; 3];

/// Outline of the truth: sky blue, told from [`PREDICTION`] by the colour-blind too (M. Okabe, K. Ito).
pub const TRUTH: Colour = [86, 180, 233];

/// Outline of the prediction: orange.
pub const PREDICTION: Colour = [230, 159, 0];

/// Where the outlines of truth and prediction are the same pixels: white.
pub const BOTH: Colour = [255, 255, 255];

/// How much of a certain pixel (probability 1) the heat map covers.
const HEAT_OPACITY: f32 = 0.8;

/// What is drawn is not as large as the slice under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}x{} pixels cannot be drawn over {}x{}", drawn.0, drawn.1, slice.0, slice.1)]
pub struct SizeDiffers {
    /// Columns and rows of what should be drawn.
    pub drawn: (usize, usize),
    /// Columns and rows of the slice.
    pub slice: (usize, usize),
}

/// An RGB picture, row by row, channels interleaved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Picture {
    /// One channel of a slice in grey.
    #[must_use]
    pub fn grey(slice: &Slice, channel: Channel) -> Self {
        let values = slice.pixels().chunks_exact(CHANNELS);
        Self {
            width: slice.width(),
            height: slice.height(),
            pixels: values
                .flat_map(|pixel| [pixel[channel as usize]; 3])
                .collect(),
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

    /// All values: `height * width * 3`, row by row, channels interleaved.
    #[must_use]
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// Colours the pixels of a mask.
    ///
    /// # Errors
    /// [`SizeDiffers`] when the mask has another size; nothing is drawn then.
    pub fn fill(&mut self, mask: &Mask, colour: Colour) -> Result<(), SizeDiffers> {
        self.fits((mask.width(), mask.height()))?;
        for (pixel, &set) in self.pixels.chunks_exact_mut(3).zip(mask.pixels()) {
            if set {
                pixel.copy_from_slice(&colour);
            }
        }
        Ok(())
    }

    fn fits(&self, drawn: (usize, usize)) -> Result<(), SizeDiffers> {
        let slice = (self.width, self.height);
        if drawn == slice {
            Ok(())
        } else {
            Err(SizeDiffers { drawn, slice })
        }
    }
}

/// Draws the outline of a mask: its pixels that touch its outside by a side.
///
/// # Errors
/// [`SizeDiffers`] when the mask has another size; nothing is drawn then.
pub fn draw_outline(picture: &mut Picture, mask: &Mask, colour: Colour) -> Result<(), SizeDiffers> {
    picture.fill(&edge(mask), colour)
}

/// FLAIR in grey under the outlines of the truth ([`TRUTH`]) and the prediction ([`PREDICTION`]);
/// pixels of both are [`BOTH`].
///
/// # Errors
/// [`SizeDiffers`] when a mask is not as large as the slice.
pub fn outlines(slice: &Slice, truth: &Mask, prediction: &Mask) -> Result<Picture, SizeDiffers> {
    let mut picture = Picture::grey(slice, Channel::Flair);
    let (truth, mut prediction) = (edge(truth), edge(prediction));
    picture.fill(&truth, TRUTH)?;
    picture.fill(&prediction, PREDICTION)?;
    for (predicted, &actual) in prediction.pixels_mut().iter_mut().zip(truth.pixels()) {
        *predicted &= actual;
    }
    picture.fill(&prediction, BOTH)?;
    Ok(picture)
}

/// FLAIR in grey under the tumour probabilities in inferno's colours, more opaque the likelier.
///
/// # Errors
/// [`SizeDiffers`] when the map is not as large as the slice.
pub fn heatmap(slice: &Slice, probability: &ProbabilityMap) -> Result<Picture, SizeDiffers> {
    let mut picture = Picture::grey(slice, Channel::Flair);
    picture.fits((probability.width(), probability.height()))?;
    let pixels = picture.pixels.chunks_exact_mut(3);
    for (pixel, &probability) in pixels.zip(probability.values()) {
        let opacity = HEAT_OPACITY * unit_interval(probability);
        for (value, heat) in pixel.iter_mut().zip(inferno(probability)) {
            let blended = f32::from(*value) * (1.0 - opacity) + heat * opacity;
            *value = blended.round() as u8;
        }
    }
    Ok(picture)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::imaging::Intensity;

    fn slice() -> Slice {
        let pixels = (0..25).flat_map(|i| [0, 10 * i, 255]).collect();
        Slice::new(5, 5, pixels, Intensity::EightBit).unwrap()
    }

    fn square(left: usize) -> Mask {
        let inside = |i: usize| (left..left + 3).contains(&(i % 5)) && (1..4).contains(&(i / 5));
        Mask::new(5, 5, (0..25).map(inside).collect()).unwrap()
    }

    fn at(picture: &Picture, x: usize, y: usize) -> Colour {
        picture.pixels()[(y * 5 + x) * 3..][..3].try_into().unwrap()
    }

    #[test]
    fn outlines_lie_over_flair() {
        let picture = outlines(&slice(), &square(0), &square(1)).unwrap();
        assert_eq!(at(&picture, 0, 0), [0; 3]);
        assert_eq!(at(&picture, 4, 4), [240; 3]);
        assert_eq!(at(&picture, 0, 1), TRUTH);
        assert_eq!(at(&picture, 3, 2), PREDICTION);
        assert_eq!(at(&picture, 1, 1), BOTH);
        assert_eq!(
            at(&picture, 1, 2),
            PREDICTION,
            "inside the truth, on the prediction's edge"
        );
        let nested = outlines(&slice(), &square(1), &square(1)).unwrap();
        assert_eq!(at(&nested, 2, 2), [120; 3], "inside both");
    }

    #[test]
    fn the_heat_map_leaves_unlikely_pixels_alone() {
        let mut values = vec![0.0; 25];
        (values[1], values[2], values[3]) = (1.0, f32::NAN, 0.5);
        let map = ProbabilityMap::new(5, 5, values).unwrap();
        let picture = heatmap(&slice(), &map).unwrap();
        assert_eq!(at(&picture, 4, 4), [240; 3]);
        // 0.2 * 10 + 0.8 * [252, 255, 164]
        assert_eq!(at(&picture, 1, 0), [204, 206, 133]);
        assert_eq!(at(&picture, 2, 0), [20; 3], "no number, no heat");
        let [red, green, blue] = at(&picture, 3, 0);
        assert!(red > blue && blue > green, "inferno is red half-way");
    }

    #[test]
    fn refuses_another_size() {
        let differs = SizeDiffers {
            drawn: (4, 5),
            slice: (5, 5),
        };
        let small = Mask::empty(4, 5);
        assert_eq!(outlines(&slice(), &small, &square(1)), Err(differs));
        assert_eq!(outlines(&slice(), &square(1), &small), Err(differs));
        let map = ProbabilityMap::new(4, 5, vec![0.5; 20]).unwrap();
        assert_eq!(heatmap(&slice(), &map), Err(differs));
        let mut picture = Picture::grey(&slice(), Channel::Flair);
        assert_eq!(draw_outline(&mut picture, &small, TRUTH), Err(differs));
    }
}
