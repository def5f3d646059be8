//! Bilinear sampling along an affine map; beyond the border the border's pixels repeat.

use crate::augment::Draw;

/// From column and row of a target pixel to the place in the source that it shows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Affine {
    /// Column of the source: this times the target's column, this times its row, and this.
    x: [f64; 3],
    /// Row of the source, likewise.
    y: [f64; 3],
}

impl Affine {
    /// The map of a draw between a source and a target of these sizes (columns, rows), centre on centre plus offset.
    pub(super) fn new(draw: &Draw, source: [usize; 2], target: [usize; 2]) -> Self {
        let (sine, cosine) = f64::from(draw.angle).sin_cos();
        let scale = |mirrored: bool| f64::from(if mirrored { -1.0 } else { 1.0 } / draw.zoom);
        let (by_column, by_row) = (scale(draw.mirror_columns), scale(draw.mirror_rows));
        let centre = |pixels: usize| (pixels as f64 - 1.0) / 2.0;
        let about_the_centre = |axis: usize, [a, b]: [f64; 2]| {
            let start = centre(source[axis]) + f64::from(draw.offset[axis]);
            [a, b, start - a * centre(target[0]) - b * centre(target[1])]
        };
        Self {
            x: about_the_centre(0, [cosine * by_column, -sine * by_row]),
            y: about_the_centre(1, [sine * by_column, cosine * by_row]),
        }
    }
}

/// Samples sources of one size, a row of the target at a time.
#[derive(Debug)]
pub(super) struct Sampler {
    width: usize,
    height: usize,
    taps: Vec<Tap>,
}

/// What a target pixel is mixed from: four neighbours in a square.
#[derive(Clone, Copy, Debug, Default)]
struct Tap {
    /// Position of the upper left neighbour in the plane.
    at: usize,
    /// Share of the right neighbours.
    right: f32,
    /// Share of the lower neighbours.
    below: f32,
}

impl Sampler {
    /// For sources of this size (columns, rows) and targets of so many columns.
    ///
    /// # Panics
    /// When the source has fewer than 2x2 pixels.
    pub(super) fn new([width, height]: [usize; 2], columns: usize) -> Self {
        assert!(width >= 2 && height >= 2, "neighbours to mix");
        Self {
            width,
            height,
            taps: vec![Tap::default(); columns],
        }
    }

    /// Samples every plane of the source into its target.
    pub(super) fn sample<'a>(
        &mut self,
        affine: &Affine,
        source: &[f32],
        targets: impl Iterator<Item = &'a mut [f32]>,
    ) {
        let columns = self.taps.len();
        let planes = source.chunks_exact(self.width * self.height);
        let mut targets: Vec<_> = targets
            .zip(planes)
            .map(|(target, plane)| (target.chunks_exact_mut(columns), plane))
            .collect();
        // Where a row lies in the source is the same for all planes.
        for row in 0u32.. {
            self.locate(affine, row);
            for (rows, plane) in &mut targets {
                let Some(to) = rows.next() else { return };
                self.mix(plane, to);
            }
        }
    }

    fn locate(&mut self, affine: &Affine, row: u32) {
        let row = f64::from(row);
        let start = |[_, by_row, start]: [f64; 3]| by_row * row + start;
        let (start_x, start_y) = (start(affine.x), start(affine.y));
        let (last_x, last_y) = (self.width - 1, self.height - 1);
        for (column, tap) in (0i32..).zip(&mut self.taps) {
            let column = f64::from(column);
            // In double precision: a place is off by far less than the hundred-thousandth of a pixel that f32 leaves.
            let x = (affine.x[0] * column + start_x).max(0.0).min(last_x as f64);
            let y = (affine.y[0] * column + start_y).max(0.0).min(last_y as f64);
            // The last pixel is the right neighbour of the last but one, with a share of one.
            let (left, above) = ((x as usize).min(last_x - 1), (y as usize).min(last_y - 1));
            *tap = Tap {
                at: above * self.width + left,
                right: (x - left as f64) as f32,
                below: (y - above as f64) as f32,
            };
        }
    }

    fn mix(&self, plane: &[f32], to: &mut [f32]) {
        for (to, tap) in to.iter_mut().zip(&self.taps) {
            let upper = &plane[tap.at..tap.at + 2];
            let lower = &plane[tap.at + self.width..tap.at + self.width + 2];
            let above = upper[0] + (upper[1] - upper[0]) * tap.right;
            let below = lower[0] + (lower[1] - lower[0]) * tap.right;
            *to = above + (below - above) * tap.below;
        }
    }
}
