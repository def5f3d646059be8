//! From an image's own size to a fixed grid, and back.
//!
//! Two ways:
//!
//! - [`Fit::ShrinkPad`]: an image that fits keeps the size of its pixels, is centred on the grid, and what is missing is
//!   filled. Per axis, the offset is half the difference of the sizes, rounded down. A larger one is shrunk first until
//!   it just fits, with its aspect ratio: each pixel becomes the mean of those that it covers and of their neighbours,
//!   weighted by a triangle as wide as two of the new pixels (Pillow's `BILINEAR`, PyTorch `interpolate` with
//!   `antialias=True`). Probabilities come back by bilinear interpolation.
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
    /// Shrunk where it is larger, centred and filled: nothing is enlarged, distorted or cut off. Files of models once
    /// called it `crop_pad`; larger images were refused then.
    #[serde(alias = "crop_pad")]
    ShrinkPad,
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

impl Placement {
    /// Where [`place`] lays a slice.
    #[must_use]
    pub fn of(slice: &Slice, grid: Grid, fit: Fit) -> Self {
        Self {
            image: Grid {
                width: slice.width(),
                height: slice.height(),
            },
            grid,
            fit,
        }
    }

    /// Columns and rows that the image has on the grid.
    #[must_use]
    pub fn placed(&self) -> Grid {
        let Self { image, grid, fit } = *self;
        if fit == Fit::Resample {
            return grid;
        }
        if image.width <= grid.width && image.height <= grid.height {
            return image;
        }
        let scale =
            (grid.width as f64 / image.width as f64).min(grid.height as f64 / image.height as f64);
        let side =
            |image: usize, grid: usize| ((image as f64 * scale).round() as usize).clamp(1, grid);
        Grid {
            width: side(image.width, grid.width),
            height: side(image.height, grid.height),
        }
    }

    /// How many pixels of the image one of the placed image stands for: at least 1 for [`Fit::ShrinkPad`].
    #[must_use]
    pub fn pixels_per_placed(&self) -> f64 {
        self.image.area() as f64 / self.placed().area() as f64
    }
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
    let placement = Placement::of(slice, grid, fit);
    let placed = placement.placed();
    let values = match fit {
        Fit::ShrinkPad if placed == placement.image => pad_slice(slice, grid, levels),
        Fit::ShrinkPad => levels
            .iter()
            .enumerate()
            .flat_map(|(channel, table)| {
                let value =
                    |pixel: usize| table[usize::from(slice.pixels()[pixel * CHANNELS + channel])];
                let mut plane = vec![table[0]; grid.area()];
                copy_centred(
                    &shrink(value, placement.image, placed),
                    placed,
                    &mut plane,
                    grid,
                );
                plane
            })
            .collect(),
        Fit::Resample => {
            let planes = pad_slice(slice, placement.image, levels);
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
    let placed = Placement { image, grid, fit }.placed();
    let at_least_half =
        |plane: Vec<f32>| -> Vec<bool> { plane.into_iter().map(|value| value >= 0.5).collect() };
    let resampled;
    let pixels = match fit {
        Fit::ShrinkPad if placed == image => mask.pixels(),
        Fit::ShrinkPad => {
            let value = |pixel: usize| f32::from(mask.pixels()[pixel]);
            resampled = at_least_half(shrink(value, image, placed));
            &resampled
        }
        Fit::Resample => {
            let plane: Vec<f32> = mask.pixels().iter().map(|&set| f32::from(set)).collect();
            resampled = at_least_half(resample(&plane, image, grid));
            &resampled
        }
    };
    let mut on_grid = Mask::empty(grid.width, grid.height);
    copy_centred(pixels, placed, on_grid.pixels_mut(), grid);
    on_grid
}

/// Brings probabilities on the grid (row by row) back to the image that lies on it.
///
/// # Errors
/// [`ImagingError::Shape`] when `probabilities` has not one value for each cell of the grid.
pub fn restore(
    probabilities: &[f32],
    placement: &Placement,
) -> Result<ProbabilityMap, ImagingError> {
    let Placement { image, grid, .. } = *placement;
    if grid.width.checked_mul(grid.height) != Some(probabilities.len()) {
        return Err(ImagingError::Shape {
            width: grid.width,
            height: grid.height,
            channels: 1,
            values: probabilities.len(),
        });
    }
    let placed = placement.placed();
    let mut values = vec![0.0; placed.area()];
    copy_centred(probabilities, grid, &mut values, placed);
    if placed != image {
        values = resample(&values, placed, image);
    }
    ProbabilityMap::new(image.width, image.height, values)
}

/// First position in the source, first in the target, and the length of what they share when both
/// are centred: going there and back meets the same pixels.
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

/// The slice, which is no larger than the grid, with a border of background.
fn pad_slice(slice: &Slice, grid: Grid, levels: &Levels) -> Vec<f32> {
    let (columns, rows) = (slice.width(), slice.height());
    let (x_to, y_to) = ((grid.width - columns) / 2, (grid.height - rows) / 2);
    let mut planes = Vec::with_capacity(CHANNELS * grid.area());
    for (channel, table) in levels.iter().enumerate() {
        let background = table[0];
        planes.resize(planes.len() + y_to * grid.width, background);
        for row in 0..rows {
            let read = row * columns * CHANNELS;
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

/// First source position of an output position, and the weights from there on, which add up to 1.
fn triangles(source: usize, target: usize) -> Vec<(usize, Vec<f32>)> {
    let scale = source as f64 / target as f64;
    (0..target)
        .map(|i| {
            let centre = (i as f64 + 0.5) * scale;
            let first = (centre - scale + 0.5).max(0.0) as usize;
            let end = ((centre + scale + 0.5) as usize).min(source);
            let weights: Vec<f64> = (first..end)
                .map(|j| (1.0 - ((j as f64 + 0.5 - centre) / scale).abs()).max(0.0))
                .collect();
            let sum: f64 = weights.iter().sum();
            let weights = weights.iter().map(|weight| (weight / sum) as f32);
            (first, weights.collect())
        })
        .collect()
}

/// An image, given pixel by pixel, at a size that is no larger in either direction.
///
/// The rows are shrunk one by one, so that the image is never held in single precision as a whole.
fn shrink(value: impl Fn(usize) -> f32, from: Grid, to: Grid) -> Vec<f32> {
    let columns = triangles(from.width, to.width);
    let mut narrow = Vec::with_capacity(to.width * from.height);
    let mut row = vec![0.0; from.width];
    for start in (0..from.area()).step_by(from.width) {
        for (column, value_here) in row.iter_mut().enumerate() {
            *value_here = value(start + column);
        }
        narrow.extend(columns.iter().map(|(first, weights)| {
            let pixels = row[*first..].iter().zip(weights);
            pixels.map(|(value, weight)| value * weight).sum::<f32>()
        }));
    }
    let mut shrunk = Vec::with_capacity(to.area());
    for (first, weights) in triangles(from.height, to.height) {
        let start = shrunk.len();
        shrunk.resize(start + to.width, 0.0);
        for (row, weight) in narrow.chunks_exact(to.width).skip(first).zip(weights) {
            for (sum, value) in shrunk[start..].iter_mut().zip(row) {
                *sum += value * weight;
            }
        }
    }
    shrunk
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
    const RESAMPLED: &str = include_str!("../../tests/goldens/grid/resample.json");
    const SHRUNK: &str = include_str!("../../tests/goldens/grid/shrink.json");

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
    fn resampling_is_pytorchs_bilinear_and_shrinking_the_same_with_antialias() {
        let resampled: Vec<Golden> = serde_json::from_str(RESAMPLED).unwrap();
        let shrunk: Vec<Golden> = serde_json::from_str(SHRUNK).unwrap();
        assert!(resampled.len() >= 8 && shrunk.len() >= 8);
        let shrinks = resampled
            .iter()
            .map(|_| false)
            .chain(shrunk.iter().map(|_| true));
        for (golden, shrinks) in resampled.iter().chain(&shrunk).zip(shrinks) {
            let from = grid(golden.from[0], golden.from[1]);
            let to = grid(golden.to[0], golden.to[1]);
            let ours = if shrinks {
                shrink(|pixel| golden.input[pixel], from, to)
            } else {
                resample(&golden.input, from, to)
            };
            assert_eq!(ours.len(), golden.output.len());
            for (ours, theirs) in ours.iter().zip(&golden.output) {
                assert!(
                    (ours - theirs).abs() < 1e-4,
                    "{from:?} to {to:?}: {ours} against {theirs}"
                );
            }
        }
    }

    #[test]
    fn odd_differences_put_the_spare_pixel_last() {
        let image = Slice::new(2, 1, vec![10, 0, 0, 20, 0, 0], Intensity::EightBit).unwrap();
        let (padded, _) = place(&image, grid(5, 2), Fit::ShrinkPad, &identity());
        assert_eq!(
            &padded[..10],
            &[0.0, 10.0, 20.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
        );
    }

    #[test]
    fn a_larger_image_is_shrunk_with_its_aspect_ratio_until_it_just_fits() {
        let placed = |image: Grid, on: Grid| {
            let fit = Fit::ShrinkPad;
            let placement = Placement {
                image,
                grid: on,
                fit,
            };
            (placement.placed(), placement.pixels_per_placed())
        };
        let square = grid(256, 256);
        assert_eq!(placed(grid(512, 512), square), (square, 4.0));
        assert_eq!(placed(grid(256, 256), square), (square, 1.0));
        assert_eq!(placed(grid(200, 40), square), (grid(200, 40), 1.0));
        assert_eq!(placed(grid(320, 160), square), (grid(256, 128), 1.5625));
        assert_eq!(placed(grid(100, 640), square).0, grid(40, 256));
        // A line stays one.
        assert_eq!(placed(grid(4096, 1), grid(48, 32)).0, grid(48, 1));

        let background = 3.0;
        let mut levels = identity();
        levels[1][0] = background;
        let bright = Slice::new(8, 4, vec![200; 96], Intensity::EightBit).unwrap();
        let (values, placement) = place(&bright, grid(4, 4), Fit::ShrinkPad, &levels);
        let flair: Vec<&[f32]> = values[16..32].chunks_exact(4).collect();
        assert_eq!(
            flair,
            [[background; 4], [200.0; 4], [200.0; 4], [background; 4]]
        );
        let back = restore(
            &values[16..32].iter().map(|v| v / 200.0).collect::<Vec<_>>(),
            &placement,
        );
        assert_eq!(back.unwrap().values(), [1.0; 32]);
    }

    #[test]
    fn what_comes_back_is_interpolated_from_where_the_image_lay() {
        let placement = Placement {
            image: grid(10, 6),
            grid: grid(5, 6),
            fit: Fit::ShrinkPad,
        };
        let placed = placement.placed();
        assert_eq!(placed, grid(5, 3));
        // A row above it and two below are border.
        let inner: Vec<f32> = (0..15).map(|i| (i * i % 16) as f32 / 16.0).collect();
        let on_grid = [vec![1.0; 5], inner.clone(), vec![1.0; 10]].concat();
        let restored = restore(&on_grid, &placement).unwrap();
        assert_eq!(restored.values(), resample(&inner, placed, placement.image));
    }

    #[test]
    fn an_enlarged_image_comes_back_as_what_it_was() {
        // Every pixel twice in both directions: away from the triangle's neighbours the image itself.
        let small = grid(6, 6);
        let disc = |x: usize, y: usize| (x as f32 - 2.5).hypot(y as f32 - 2.5) < 2.0;
        let mut mask = Mask::empty(12, 12);
        for (i, pixel) in mask.pixels_mut().iter_mut().enumerate() {
            *pixel = disc(i % 12 / 2, i / 12 / 2);
        }
        let placed = place_mask(&mask, small, Fit::ShrinkPad);
        for (i, &pixel) in placed.pixels().iter().enumerate() {
            assert_eq!(pixel, disc(i % 6, i / 6), "{i}");
        }
    }

    #[test]
    fn what_the_image_does_not_reach_is_background() {
        let mut levels = identity();
        levels[1][0] = -3.0;
        let (values, _) = place(&slice(1, 1), grid(4, 4), Fit::ShrinkPad, &levels);
        let flair = &values[16..32];
        assert_eq!(flair.iter().filter(|&&v| v == -3.0).count(), 15);
        assert_eq!(flair[5], 2.0);
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
        for fit in [Fit::ShrinkPad, Fit::Resample] {
            let placed = place_mask(&mask, grid(9, 9), fit);
            assert!(placed.pixels()[4 * 9 + 4], "{fit:?}");
            assert!(!placed.pixels()[0], "{fit:?}");
        }
    }

    proptest! {
        #[test]
        fn padding_there_and_back_is_exact_on_a_larger_grid(
            width in 1usize..40, height in 1usize..40, right in 0usize..9, below in 0usize..9,
        ) {
            let image = slice(width, height);
            let larger = grid(width + right, height + below);
            let (values, placement) = place(&image, larger, Fit::ShrinkPad, &identity());
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
            let fit = if resampled { Fit::Resample } else { Fit::ShrinkPad };
            let image = slice(width, height);
            let (values, placement) = place(&image, grid(columns, rows), fit, &identity());
            prop_assert_eq!(values.len(), CHANNELS * columns * rows);
            // Weights that add up to 1 do so but for the rounding of their sum.
            let most = if resampled { 255.0 } else { 255.0 * (1.0 + 1e-6) };
            prop_assert!(values.iter().all(|&v| (0.0..=most).contains(&v)));
            let restored = restore(&values[..columns * rows], &placement).unwrap();
            prop_assert_eq!((restored.width(), restored.height()), (width, height));
        }
    }
}
