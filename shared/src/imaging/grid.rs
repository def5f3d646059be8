//! From an image's own size to a fixed grid, and back.
//!
//! Two ways, both by definition the same in each direction:
//!
//! - [`Fit::CropPad`]: the image is centred on the grid; what sticks out is cut off, what is
//!   missing is filled. Per axis, the offset is half the difference of the sizes, rounded down.
//! - [`Fit::Resample`]: bilinear interpolation with half-pixel centres, no anti-aliasing: output
//!   pixel `i` of `n` samples the `m` input pixels at `(i + 0.5) * m / n - 0.5`, clamped to
//!   `0..=m - 1` (ONNX Resize `linear` with `half_pixel`, PyTorch `interpolate` with
//!   `align_corners=False`).

use super::{CHANNELS, ImagingError, Mask, ProbabilityMap, Slice};

/// Columns and rows of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Grid {
    /// Number of cells.
    fn area(self) -> usize {
        self.width * self.height
    }
}

/// How an image comes to the size of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// Centred, cut off and filled.
    CropPad,
    /// Bilinear, the aspect ratio follows the grid.
    Resample,
}

/// Value of each of the 256 intensities, by channel.
pub type Levels = [[f32; 256]; CHANNELS];

/// Where an image lies on a grid: what [`place`] did and [`restore`] takes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Size of the image.
    pub image: Grid,
    /// Size of the grid.
    pub grid: Grid,
    /// How the one becomes the other.
    pub fit: Fit,
}

/// Lays a slice on a grid: channel by channel, row by row (`3 * height * width` values).
///
/// `levels` gives the value of every intensity. Cells that the slice does not reach get the value
/// of intensity 0, the background of the scan.
///
/// # Panics
/// When a side of the grid is zero.
#[must_use]
pub fn place(slice: &Slice, grid: Grid, fit: Fit, levels: &Levels) -> (Vec<f32>, Placement) {
    assert!(grid.width > 0 && grid.height > 0, "a grid has cells");
    let placement = Placement {
        image: Grid {
            width: slice.width(),
            height: slice.height(),
        },
        grid,
        fit,
    };
    let values = match fit {
        Fit::CropPad => crop_pad_slice(slice, grid, levels),
        Fit::Resample => {
            let planes = crop_pad_slice(slice, placement.image, levels);
            if placement.image == grid {
                planes
            } else {
                planes
                    .chunks_exact(placement.image.area())
                    .flat_map(|plane| resample(plane, placement.image, grid))
                    .collect()
            }
        }
    };
    (values, placement)
}

/// Lays a mask on a grid as [`place`] does its slice; a resampled pixel is set where its
/// interpolated value is at least one half.
///
/// # Panics
/// When a side of the grid is zero.
#[must_use]
pub fn place_mask(mask: &Mask, grid: Grid, fit: Fit) -> Mask {
    let image = Grid {
        width: mask.width(),
        height: mask.height(),
    };
    let mut placed = Mask::empty(grid.width, grid.height);
    match fit {
        Fit::CropPad => copy_centred(mask.pixels(), image, placed.pixels_mut(), grid),
        Fit::Resample => {
            let plane: Vec<f32> = mask.pixels().iter().map(|&set| f32::from(set)).collect();
            for (pixel, value) in placed
                .pixels_mut()
                .iter_mut()
                .zip(resample(&plane, image, grid))
            {
                *pixel = value >= 0.5;
            }
        }
    }
    placed
}

/// Brings probabilities on the grid (row by row) back to the image that lies on it; pixels that
/// the grid did not reach get 0.
///
/// # Errors
/// [`ImagingError::Shape`] when `probabilities` has not one value for each cell of the grid.
pub fn restore(
    probabilities: &[f32],
    placement: &Placement,
) -> Result<ProbabilityMap, ImagingError> {
    let Placement { image, grid, fit } = *placement;
    if grid.width.checked_mul(grid.height) != Some(probabilities.len()) {
        return Err(ImagingError::Shape {
            width: grid.width,
            height: grid.height,
            channels: 1,
            values: probabilities.len(),
        });
    }
    let values = match fit {
        Fit::CropPad => {
            let mut values = vec![0.0; image.area()];
            copy_centred(probabilities, grid, &mut values, image);
            values
        }
        Fit::Resample => resample(probabilities, grid, image),
    };
    ProbabilityMap::new(image.width, image.height, values)
}

/// First position in the source, first in the target, and the length of what they share when both
/// are centred.
///
/// The larger one is always the one that is cut, so that going there and back meets the same
/// pixels.
fn overlap(source: usize, target: usize) -> (usize, usize, usize) {
    if source >= target {
        ((source - target) / 2, 0, target)
    } else {
        (0, (target - source) / 2, source)
    }
}

fn copy_centred<T: Copy>(source: &[T], from: Grid, target: &mut [T], to: Grid) {
    let (x_from, x_to, columns) = overlap(from.width, to.width);
    let (y_from, y_to, rows) = overlap(from.height, to.height);
    for row in 0..rows {
        let read = (y_from + row) * from.width + x_from;
        let write = (y_to + row) * to.width + x_to;
        target[write..write + columns].copy_from_slice(&source[read..read + columns]);
    }
}

fn crop_pad_slice(slice: &Slice, grid: Grid, levels: &Levels) -> Vec<f32> {
    let (x_from, x_to, columns) = overlap(slice.width(), grid.width);
    let (y_from, y_to, rows) = overlap(slice.height(), grid.height);
    let mut planes = Vec::with_capacity(CHANNELS * grid.area());
    for (channel, table) in levels.iter().enumerate() {
        let background = table[0];
        planes.resize(planes.len() + y_to * grid.width, background);
        for row in 0..rows {
            let read = ((y_from + row) * slice.width() + x_from) * CHANNELS;
            let pixels = &slice.pixels()[read..read + columns * CHANNELS];
            planes.resize(planes.len() + x_to, background);
            planes.extend(
                pixels
                    .chunks_exact(CHANNELS)
                    .map(|pixel| table[usize::from(pixel[channel])]),
            );
            planes.resize(planes.len() + grid.width - x_to - columns, background);
        }
        planes.resize((channel + 1) * grid.area(), background);
    }
    planes
}

/// The two source positions of an output position, and the weight of the second.
fn taps(source: usize, target: usize) -> Vec<(usize, usize, f32)> {
    let scale = source as f64 / target as f64;
    let last = source - 1;
    (0..target)
        .map(|i| {
            let position = ((i as f64 + 0.5) * scale - 0.5).clamp(0.0, last as f64);
            let first = position as usize;
            (
                first,
                (first + 1).min(last),
                (position - first as f64) as f32,
            )
        })
        .collect()
}

fn resample(plane: &[f32], from: Grid, to: Grid) -> Vec<f32> {
    let columns = taps(from.width, to.width);
    let mut resampled = Vec::with_capacity(to.area());
    for (top, bottom, down) in taps(from.height, to.height) {
        let top = &plane[top * from.width..][..from.width];
        let bottom = &plane[bottom * from.width..][..from.width];
        resampled.extend(columns.iter().map(|&(left, right, across)| {
            let above = top[left] + (top[right] - top[left]) * across;
            let below = bottom[left] + (bottom[right] - bottom[left]) * across;
            above + (below - above) * down
        }));
    }
    resampled
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::imaging::Intensity;
    use proptest::prelude::*;

    /// Made by `tests/goldens/grid/make_grid_goldens.py` with PyTorch.
    const GOLDENS: &str = include_str!("../../tests/goldens/grid/resample.json");

    #[derive(serde::Deserialize)]
    struct Golden {
        from: [usize; 2],
        to: [usize; 2],
        input: Vec<f32>,
        output: Vec<f32>,
    }

    fn grid(width: usize, height: usize) -> Grid {
        Grid { width, height }
    }

    /// Every intensity stands for itself.
    fn identity() -> Levels {
        [std::array::from_fn(|i| i as f32); CHANNELS]
    }

    fn slice(width: usize, height: usize) -> Slice {
        let pixels = (0..width * height * CHANNELS)
            .map(|i| (i % 251 + 1) as u8)
            .collect();
        Slice::new(width, height, pixels, Intensity::EightBit).unwrap()
    }

    #[test]
    fn resampling_is_pytorchs_bilinear() {
        let goldens: Vec<Golden> = serde_json::from_str(GOLDENS).unwrap();
        assert!(goldens.len() >= 8);
        for golden in goldens {
            let [width, height] = golden.from;
            let ours = resample(
                &golden.input,
                grid(width, height),
                grid(golden.to[0], golden.to[1]),
            );
            assert_eq!(ours.len(), golden.output.len());
            for (ours, theirs) in ours.iter().zip(&golden.output) {
                assert!(
                    (ours - theirs).abs() < 1e-4,
                    "{:?} to {:?}: {ours} against {theirs}",
                    golden.from,
                    golden.to
                );
            }
        }
    }

    #[test]
    fn odd_differences_put_the_spare_pixel_last() {
        let image = Slice::new(2, 1, vec![10, 0, 0, 20, 0, 0], Intensity::EightBit).unwrap();
        let (padded, _) = place(&image, grid(5, 2), Fit::CropPad, &identity());
        assert_eq!(
            &padded[..10],
            &[0.0, 10.0, 20.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        );

        let row: Vec<u8> = (1..=5).flat_map(|v| [v, 0, 0]).collect();
        let image = Slice::new(5, 1, row, Intensity::EightBit).unwrap();
        let (cropped, _) = place(&image, grid(2, 1), Fit::CropPad, &identity());
        assert_eq!(&cropped[..2], &[2.0, 3.0]);
    }

    #[test]
    fn what_the_image_does_not_reach_is_background() {
        let mut levels = identity();
        levels[1][0] = -3.0;
        let (values, _) = place(&slice(1, 1), grid(4, 4), Fit::CropPad, &levels);
        let flair = &values[16..32];
        assert_eq!(flair.iter().filter(|&&v| v == -3.0).count(), 15);
        assert_eq!(flair[5], 2.0);
    }

    #[test]
    fn cropped_pixels_come_back_as_zero() {
        let placement = Placement {
            image: grid(4, 4),
            grid: grid(2, 2),
            fit: Fit::CropPad,
        };
        let restored = restore(&[0.5; 4], &placement).unwrap();
        assert_eq!(restored.values().iter().filter(|&&p| p == 0.5).count(), 4);
        assert_eq!(restored.values()[5], 0.5);
        assert_eq!(restored.values()[0], 0.0);
    }

    #[test]
    fn a_wrong_number_of_probabilities_is_refused() {
        let placement = Placement {
            image: grid(4, 4),
            grid: grid(2, 2),
            fit: Fit::Resample,
        };
        assert!(matches!(
            restore(&[0.0; 5], &placement),
            Err(ImagingError::Shape { values: 5, .. })
        ));
    }

    #[test]
    fn a_constant_stays_constant_under_resampling() {
        let constant = Slice::new(7, 3, vec![9; 63], Intensity::EightBit).unwrap();
        let (values, _) = place(&constant, grid(16, 16), Fit::Resample, &identity());
        assert_eq!(values, vec![9.0; 3 * 256]);
    }

    #[test]
    fn a_mask_is_placed_where_its_slice_is() {
        let mut mask = Mask::empty(3, 3);
        mask.pixels_mut()[4] = true;
        for fit in [Fit::CropPad, Fit::Resample] {
            let placed = place_mask(&mask, grid(9, 9), fit);
            assert!(placed.pixels()[4 * 9 + 4], "{fit:?}");
            assert!(!placed.pixels()[0], "{fit:?}");
        }
    }

    proptest! {
        #[test]
        fn crop_pad_there_and_back_is_exact_on_a_larger_grid(
            width in 1usize..40, height in 1usize..40, right in 0usize..9, below in 0usize..9,
        ) {
            let image = slice(width, height);
            let larger = grid(width + right, height + below);
            let (values, placement) = place(&image, larger, Fit::CropPad, &identity());
            for (channel, plane) in values.chunks_exact(larger.area()).enumerate() {
                let restored = restore(plane, &placement).unwrap();
                let expected: Vec<f32> = image
                    .pixels()
                    .chunks_exact(CHANNELS)
                    .map(|pixel| f32::from(pixel[channel]))
                    .collect();
                prop_assert_eq!(restored.values(), &expected[..]);
            }
        }

        #[test]
        fn what_comes_back_has_the_size_of_the_image(
            width in 1usize..70, height in 1usize..70,
            columns in 1usize..70, rows in 1usize..70, resampled: bool,
        ) {
            let fit = if resampled { Fit::Resample } else { Fit::CropPad };
            let image = slice(width, height);
            let (values, placement) = place(&image, grid(columns, rows), fit, &identity());
            prop_assert_eq!(values.len(), CHANNELS * columns * rows);
            prop_assert!(values.iter().all(|&v| (0.0..=255.0).contains(&v)));
            let restored = restore(&values[..columns * rows], &placement).unwrap();
            prop_assert_eq!((restored.width(), restored.height()), (width, height));
        }
    }
}
