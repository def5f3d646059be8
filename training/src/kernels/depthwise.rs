//! Convolutions of every channel by itself, on the CPU.
//!
//! A plane is laid out with its zeros around it, its rows and columns dealt out by their remainder by the stride. Every
//! tap of the kernel then meets all positions at one offset: a sum over long rows, whatever stride and plane.

use super::sums::sum_of_pairs;

/// Positions that are worked on at a time, so that their sums stay in the innermost cache.
const BLOCK: usize = 512;

/// How a kernel walks over a plane of one channel; zero padding of `kernel / 2`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    height: usize,
    width: usize,
    kernel: usize,
    stride: usize,
    /// Rows of positions.
    pub rows: usize,
    /// Columns of positions.
    pub columns: usize,
}

impl Steps {
    /// Over planes of `height` by `width` pixels.
    pub(super) fn new(height: usize, width: usize, kernel: usize, stride: usize) -> Self {
        Self {
            height,
            width,
            kernel,
            stride,
            rows: (height - 1) / stride + 1,
            columns: (width - 1) / stride + 1,
        }
    }

    /// Pixels of a plane.
    pub(super) fn area(&self) -> usize {
        self.height * self.width
    }

    /// Number of positions.
    pub(super) fn positions(&self) -> usize {
        self.rows * self.columns
    }

    /// Taps of the kernel.
    pub(super) fn taps(&self) -> usize {
        self.kernel * self.kernel
    }

    /// How many steps the kernel reaches beyond a position.
    fn reach(&self) -> usize {
        (self.kernel - 1) / self.stride
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
    fn dealt(&self) -> usize {
        (self.rows + self.reach()) * self.pitch()
    }

    /// Where in the dealt-out planes the first position's value for this tap is.
    fn offset(&self, tap: usize) -> usize {
        let (y, x) = (tap / self.kernel, tap % self.kernel);
        let phase = y % self.stride * self.stride + x % self.stride;
        phase * self.dealt() + y / self.stride * self.pitch() + x / self.stride
    }

    /// For every row of pixels, by the remainder of their columns: the first of these columns, and where it is dealt to.
    fn lines(&self) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
        let (steps, padding) = (*self, self.kernel / 2);
        (0..steps.height).flat_map(move |y| {
            let row = y + padding;
            (0..steps.stride).map(move |phase| {
                let first = (phase + steps.stride - padding % steps.stride) % steps.stride;
                let plane = row % steps.stride * steps.stride + phase;
                let column = (first + padding) / steps.stride;
                let to = plane * steps.dealt() + row / steps.stride * steps.pitch() + column;
                (y, first, to)
            })
        })
    }

    /// Deals a plane out.
    fn deal(&self, plane: &[f32], dealt: &mut Vec<f32>) {
        dealt.clear();
        dealt.resize(self.stride * self.stride * self.dealt(), 0.0);
        for (y, first, to) in self.lines() {
            let row = &plane[y * self.width..(y + 1) * self.width];
            let pixels = row.iter().skip(first).step_by(self.stride);
            for (to, from) in dealt[to..].iter_mut().zip(pixels) {
                *to = *from;
            }
        }
    }

    /// Collects a plane that was dealt out: the inverse of [`Self::deal`].
    fn collect(&self, dealt: &[f32], plane: &mut [f32]) {
        for (y, first, from) in self.lines() {
            let row = &mut plane[y * self.width..(y + 1) * self.width];
            let pixels = row.iter_mut().skip(first).step_by(self.stride);
            for (to, from) in pixels.zip(&dealt[from..]) {
                *to = *from;
            }
        }
    }

    /// `result` at every position: `bias` and the pixels below the kernel, weighed by its taps.
    pub(super) fn convolve(
        &self,
        plane: &[f32],
        kernel: &[f32],
        bias: f32,
        room: &mut Room,
        result: &mut [f32],
    ) {
        self.deal(plane, &mut room.dealt);
        room.spread.clear();
        room.spread.resize(self.span(), bias);
        for (block, sums) in room.spread.chunks_mut(BLOCK).enumerate() {
            for (tap, &weight) in kernel.iter().enumerate() {
                let start = self.offset(tap) + block * BLOCK;
                let values = &room.dealt[start..start + sums.len()];
                for (sum, &value) in sums.iter_mut().zip(values) {
                    *sum += weight * value;
                }
            }
        }
        let rows = result.chunks_exact_mut(self.columns);
        for (row, sums) in rows.zip(room.spread.chunks(self.pitch())) {
            row.copy_from_slice(&sums[..self.columns]);
        }
    }

    /// Gradients of [`Self::convolve`] by the plane and by the kernel.
    pub(super) fn convolve_backward(
        &self,
        [plane, kernel, gradient]: [&[f32]; 3],
        room: &mut Room,
        by_plane: &mut [f32],
        by_kernel: &mut [f32],
    ) {
        self.deal(plane, &mut room.dealt);
        // The gradient of what is no result is zero.
        room.spread.clear();
        room.spread.resize(self.span(), 0.0);
        let rows = room.spread.chunks_mut(self.pitch());
        for (to, from) in rows.zip(gradient.chunks_exact(self.columns)) {
            to[..self.columns].copy_from_slice(from);
        }
        for (tap, by_weight) in by_kernel.iter_mut().enumerate() {
            let values = &room.dealt[self.offset(tap)..][..self.span()];
            *by_weight = sum_of_pairs(values, &room.spread, |value, g| value * g) as f32;
        }
        room.dealt.fill(0.0);
        for (block, gradient) in room.spread.chunks(BLOCK).enumerate() {
            for (tap, &weight) in kernel.iter().enumerate() {
                let start = self.offset(tap) + block * BLOCK;
                let sums = &mut room.dealt[start..start + gradient.len()];
                for (sum, &g) in sums.iter_mut().zip(gradient) {
                    *sum += weight * g;
                }
            }
        }
        self.collect(&room.dealt, by_plane);
    }
}

/// Memory that is used again for every plane.
#[derive(Debug, Default)]
pub(super) struct Room {
    dealt: Vec<f32>,
    spread: Vec<f32>,
}
