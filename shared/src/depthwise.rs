//! Convolutions of every channel by itself ("depthwise") and their gradients, on the CPU: for inference, and for
//! training there.
//!
//! A plane is laid out with its zeros around it, its rows and columns dealt out by their remainder by the stride. Every
//! tap of the kernel then meets all positions at one offset: a sum over long rows, whatever stride and plane.

use multiversion::multiversion;

/// Positions that are worked on at a time, so that their sums stay in registers.
const BLOCK: usize = 32;

/// How a square kernel of an odd side walks over a plane of one channel; zero padding of half the kernel, rounded down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Steps {
    height: usize,
    width: usize,
    kernel: usize,
    stride: usize,
    rows: usize,
    columns: usize,
}

impl Steps {
    /// Over planes of `height` by `width` pixels.
    ///
    /// # Panics
    /// When one of the four is zero.
    #[must_use]
    pub fn new(height: usize, width: usize, kernel: usize, stride: usize) -> Self {
        assert!(
            height > 0 && width > 0 && kernel > 0 && stride > 0,
            "a kernel {kernel} that walks by {stride} over {height}x{width} pixels"
        );
        Self {
            height,
            width,
            kernel,
            stride,
            rows: (height - 1) / stride + 1,
            columns: (width - 1) / stride + 1,
        }
    }

    /// Side and stride of the kernel, height and width of a plane.
    #[must_use]
    pub fn dimensions(&self) -> [usize; 4] {
        [self.kernel, self.stride, self.height, self.width]
    }

    /// Pixels of a plane.
    #[must_use]
    pub fn area(&self) -> usize {
        self.height * self.width
    }

    /// Rows of positions.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns of positions.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Number of positions.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.rows * self.columns
    }

    /// Taps of the kernel.
    #[must_use]
    pub fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// Values that a plane is laid out in, and that [`Scratch`] has room for; `None` when they cannot be counted.
    #[must_use]
    pub fn laid_out(&self) -> Option<usize> {
        let side = |steps: usize| steps.checked_add(self.reach());
        let plane = side(self.rows)?.checked_mul(side(self.columns)?)?;
        self.stride.checked_pow(2)?.checked_mul(plane)
    }

    /// Planes that a plane is dealt out to.
    fn phases(&self) -> usize {
        self.stride * self.stride
    }

    /// How many steps the padded plane reaches beyond the last position.
    fn reach(&self) -> usize {
        (self.kernel - 1).div_ceil(self.stride)
    }

    /// Positions of a row, and those beside it that the kernel reaches: these are no results.
    fn pitch(&self) -> usize {
        self.columns + self.reach()
    }

    /// Positions in rows of [`Self::pitch`], without those beyond the last result.
    fn span(&self) -> usize {
        (self.rows - 1) * self.pitch() + self.columns
    }

    /// Values of one of the planes that a padded plane is dealt out to.
    fn plane_length(&self) -> usize {
        (self.rows + self.reach()) * self.pitch()
    }

    /// The plane that a tap looks at among those dealt out, and where in it it looks from the first position.
    fn tap_offset(&self, tap: usize) -> (usize, usize) {
        let (y, x) = (tap / self.kernel, tap % self.kernel);
        let plane = y % self.stride * self.stride + x % self.stride;
        (plane, y / self.stride * self.pitch() + x / self.stride)
    }

    /// Calls with every row of pixels, by the remainder of their columns: the row, the first of these columns, and where
    /// it is dealt to.
    fn for_each_row(&self, mut call: impl FnMut(usize, usize, usize)) {
        let padding = self.kernel / 2;
        for y in 0..self.height {
            let row = y + padding;
            for phase in 0..self.stride {
                let first = (phase + self.stride - padding % self.stride) % self.stride;
                let plane = row % self.stride * self.stride + phase;
                let column = (first + padding) / self.stride;
                let to = plane * self.plane_length() + row / self.stride * self.pitch() + column;
                if first < self.width {
                    call(y, first, to);
                }
            }
        }
    }

    /// Deals a plane out.
    fn deal(&self, plane: &[f32], scratch: &mut Scratch) {
        scratch.prepare(*self);
        self.for_each_row(|y, first, to| {
            let row = &plane[y * self.width..(y + 1) * self.width];
            let dealt = &mut scratch.dealt[to..];
            if self.stride == 1 {
                dealt[..self.width].copy_from_slice(row);
            } else {
                take_every(self.stride, &row[first..], dealt);
            }
        });
    }

    /// Collects a plane that was dealt out: the inverse of [`Self::deal`].
    fn collect(&self, dealt: &[f32], plane: &mut [f32]) {
        self.for_each_row(|y, first, from| {
            let row = &mut plane[y * self.width..(y + 1) * self.width];
            if self.stride == 1 {
                row.copy_from_slice(&dealt[from..from + self.width]);
            } else {
                let pixels = row[first..].chunks_mut(self.stride);
                for (to, from) in pixels.zip(&dealt[from..]) {
                    to[0] = *from;
                }
            }
        });
    }

    /// `result` at every position: `bias` and the pixels below the kernel, weighed by its taps.
    pub fn convolve(
        &self,
        plane: &[f32],
        kernel: &[f32],
        bias: f32,
        scratch: &mut Scratch,
        result: &mut [f32],
    ) {
        self.deal(plane, scratch);
        scratch.taps.clear();
        let offsets = scratch.offsets.iter().copied();
        scratch.taps.extend(offsets.zip(kernel.iter().copied()));
        scratch
            .spread
            .resize(self.span().next_multiple_of(BLOCK), 0.0);
        correlate(&scratch.dealt, &scratch.taps, bias, &mut scratch.spread);
        let rows = result.chunks_exact_mut(self.columns);
        for (row, sums) in rows.zip(scratch.spread.chunks(self.pitch())) {
            row.copy_from_slice(&sums[..self.columns]);
        }
    }

    /// Gradients of [`Self::convolve`] by the plane and by the kernel; `dot` is the scalar product of two lists.
    pub fn convolve_backward(
        &self,
        [plane, kernel, gradient]: [&[f32]; 3],
        dot: impl Fn(&[f32], &[f32]) -> f32,
        scratch: &mut Scratch,
        by_plane: &mut [f32],
        by_kernel: &mut [f32],
    ) {
        self.deal(plane, scratch);
        // The gradient of what is no result is zero: between the rows, after them, and before them as far as a tap looks.
        let before = self.reach() * (self.pitch() + 1);
        let length = self.plane_length().next_multiple_of(BLOCK);
        scratch.spread.clear();
        scratch.spread.resize(before + length, 0.0);
        let rows = scratch.spread[before..].chunks_mut(self.pitch());
        for (to, from) in rows.zip(gradient.chunks_exact(self.columns)) {
            to[..self.columns].copy_from_slice(from);
        }
        let results = &scratch.spread[before..][..self.span()];
        for (by_weight, &offset) in by_kernel.iter_mut().zip(&scratch.offsets) {
            *by_weight = dot(&scratch.dealt[offset..][..results.len()], results);
        }
        scratch.collected.clear();
        for phase in 0..self.phases() {
            scratch.taps.clear();
            let taps = kernel.iter().enumerate();
            scratch.taps.extend(taps.filter_map(|(tap, &weight)| {
                let (looked_at, offset) = self.tap_offset(tap);
                (looked_at == phase).then_some((before - offset, weight))
            }));
            scratch.by_dealt.resize(length, 0.0);
            correlate(&scratch.spread, &scratch.taps, 0.0, &mut scratch.by_dealt);
            let by_dealt = &scratch.by_dealt[..self.plane_length()];
            scratch.collected.extend_from_slice(by_dealt);
        }
        self.collect(&scratch.collected, by_plane);
    }
}

/// Memory that is used again for every plane.
#[derive(Debug, Default)]
pub struct Scratch {
    steps: Option<Steps>,
    offsets: Vec<usize>,
    dealt: Vec<f32>,
    spread: Vec<f32>,
    by_dealt: Vec<f32>,
    collected: Vec<f32>,
    taps: Vec<(usize, f32)>,
}

impl Scratch {
    /// Makes room for planes that are walked over in these steps. The zeros around the pixels stay from plane to plane.
    fn prepare(&mut self, steps: Steps) {
        if self.steps == Some(steps) {
            return;
        }
        self.steps = Some(steps);
        self.offsets.clear();
        self.offsets.extend((0..steps.taps()).map(|tap| {
            let (plane, offset) = steps.tap_offset(tap);
            plane * steps.plane_length() + offset
        }));
        self.dealt.clear();
        // What comes after the planes is for the last block to look at.
        self.dealt
            .resize(steps.phases() * steps.plane_length() + BLOCK, 0.0);
    }
}

/// Every `stride`-th value, from the first.
#[multiversion(targets("x86_64+avx2"))]
fn take_every(stride: usize, values: &[f32], to: &mut [f32]) {
    if stride == 2 {
        // By far the most common, and known to the compiler: two loads and a shuffle for eight values.
        let (pairs, rest) = values.as_chunks::<2>();
        for (to, [value, _]) in to.iter_mut().zip(pairs) {
            *to = *value;
        }
        if let [value] = rest {
            to[pairs.len()] = *value;
        }
    } else {
        for (to, values) in to.iter_mut().zip(values.chunks(stride)) {
            *to = values[0];
        }
    }
}

/// Every sum becomes `start` and the values at the offsets from its place, weighed by the taps.
///
/// `sums` comes in whole blocks of [`BLOCK`]; `values` reach as far as the largest offset and all sums.
#[multiversion(targets("x86_64+avx2"))]
fn correlate(values: &[f32], taps: &[(usize, f32)], start: f32, sums: &mut [f32]) {
    let (blocks, _) = sums.as_chunks_mut::<BLOCK>();
    for (block, sums) in blocks.iter_mut().enumerate() {
        let mut lanes = [start; BLOCK];
        for &(offset, weight) in taps {
            let values = &values[offset + block * BLOCK..][..BLOCK];
            for (lane, &value) in lanes.iter_mut().zip(values) {
                *lane += weight * value;
            }
        }
        *sums = lanes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whole numbers from -4 to 4, whose products and sums are exact.
    fn digits(length: usize, step: usize) -> Vec<f32> {
        (0..length).map(|i| (i * step % 9) as f32 - 4.0).collect()
    }

    /// Calls with every position, and every tap that meets a pixel there.
    fn meetings(steps: &Steps, mut call: impl FnMut(usize, usize, usize)) {
        let padding = steps.kernel / 2;
        for position in 0..steps.positions() {
            let (row, column) = (position / steps.columns, position % steps.columns);
            for tap in 0..steps.taps() {
                let y = row * steps.stride + tap / steps.kernel;
                let x = column * steps.stride + tap % steps.kernel;
                let inside = |at: usize, side: usize| (padding..padding + side).contains(&at);
                if inside(y, steps.height) && inside(x, steps.width) {
                    call(position, tap, (y - padding) * steps.width + x - padding);
                }
            }
        }
    }

    #[test]
    fn every_kernel_stride_and_plane_gives_what_the_definition_says() {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum();
        let mut scratch = Scratch::default();
        for (kernel, stride) in [1, 3, 5, 7]
            .into_iter()
            .flat_map(|k| (1..=9).map(move |s| (k, s)))
        {
            for (height, width) in (1..=11).flat_map(|h| [1, 2, 5, 8, 9, 12].map(|w| (h, w))) {
                let steps = Steps::new(height, width, kernel, stride);
                let weights = digits(steps.taps(), 5);
                // The second plane must find nothing of the first.
                for seed in [2, 4] {
                    let plane = digits(steps.area(), seed);
                    let gradient = digits(steps.positions(), seed + 3);
                    let mut expected = vec![0.5; steps.positions()];
                    let mut expected_by_plane = vec![0.0; steps.area()];
                    let mut expected_by_kernel = vec![0.0; steps.taps()];
                    meetings(&steps, |position, tap, pixel| {
                        expected[position] += weights[tap] * plane[pixel];
                        expected_by_plane[pixel] += weights[tap] * gradient[position];
                        expected_by_kernel[tap] += plane[pixel] * gradient[position];
                    });
                    let mut result = vec![f32::NAN; steps.positions()];
                    steps.convolve(&plane, &weights, 0.5, &mut scratch, &mut result);
                    assert_eq!(result, expected, "{steps:?}");
                    let mut by_plane = vec![f32::NAN; steps.area()];
                    let mut by_kernel = vec![f32::NAN; steps.taps()];
                    let given = [plane.as_slice(), &weights, &gradient];
                    steps.convolve_backward(
                        given,
                        dot,
                        &mut scratch,
                        &mut by_plane,
                        &mut by_kernel,
                    );
                    assert_eq!(by_plane, expected_by_plane, "{steps:?}");
                    assert_eq!(by_kernel, expected_by_kernel, "{steps:?}");
                    assert!(Some(scratch.dealt.len() - BLOCK) == steps.laid_out());
                }
            }
        }
    }
}
