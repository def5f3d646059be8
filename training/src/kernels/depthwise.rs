//! Convolutions of every channel by itself, on the CPU.
//!
//! A plane is laid out with its zeros around it, its rows and columns dealt out by their remainder by the stride. Every
//! tap of the kernel then meets all positions at one offset: a sum over long rows, whatever stride and plane.

use multiversion::multiversion;

use super::sums::sum_of_pairs;

/// Positions that are worked on at a time, so that their sums stay in registers.
const BLOCK: usize = 32;

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

    /// The plane that a tap looks at among those dealt out, and where in it it looks from the first position.
    fn place(&self, tap: usize) -> (usize, usize) {
        let (y, x) = (tap / self.kernel, tap % self.kernel);
        let plane = y % self.stride * self.stride + x % self.stride;
        (plane, y / self.stride * self.pitch() + x / self.stride)
    }

    /// Calls with every row of pixels, by the remainder of their columns: the row, the first of these columns, and where
    /// it is dealt to.
    fn lines(&self, mut call: impl FnMut(usize, usize, usize)) {
        let padding = self.kernel / 2;
        for y in 0..self.height {
            let row = y + padding;
            for phase in 0..self.stride {
                let first = (phase + self.stride - padding % self.stride) % self.stride;
                let plane = row % self.stride * self.stride + phase;
                let column = (first + padding) / self.stride;
                let to = plane * self.dealt() + row / self.stride * self.pitch() + column;
                call(y, first, to);
            }
        }
    }

    /// Deals a plane out; what comes after is room that a block may look at.
    fn deal(&self, plane: &[f32], dealt: &mut Vec<f32>) {
        dealt.clear();
        dealt.resize(self.stride * self.stride * self.dealt() + BLOCK, 0.0);
        self.lines(|y, first, to| {
            let row = &plane[y * self.width..(y + 1) * self.width];
            if self.stride == 1 {
                dealt[to..to + self.width].copy_from_slice(row);
            } else if first < self.width {
                let pixels = row[first..].chunks(self.stride);
                for (to, from) in dealt[to..].iter_mut().zip(pixels) {
                    *to = from[0];
                }
            }
        });
    }

    /// Collects a plane that was dealt out: the inverse of [`Self::deal`].
    fn collect(&self, dealt: &[f32], plane: &mut [f32]) {
        self.lines(|y, first, from| {
            let row = &mut plane[y * self.width..(y + 1) * self.width];
            if self.stride == 1 {
                row.copy_from_slice(&dealt[from..from + self.width]);
            } else if first < self.width {
                let pixels = row[first..].chunks_mut(self.stride);
                for (to, from) in pixels.zip(&dealt[from..]) {
                    to[0] = *from;
                }
            }
        });
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
        room.taps.clear();
        room.taps.extend(kernel.iter().enumerate().map(|(tap, &w)| {
            let (plane, offset) = self.place(tap);
            (plane * self.dealt() + offset, w)
        }));
        room.spread.resize(self.span().next_multiple_of(BLOCK), 0.0);
        correlate(&room.dealt, &room.taps, bias, &mut room.spread);
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
        // The gradient of what is no result is zero: between the rows, after them, and before them as far as a tap looks.
        let before = self.reach() * (self.pitch() + 1);
        let dealt = self.dealt().next_multiple_of(BLOCK);
        room.spread.clear();
        room.spread.resize(before + dealt, 0.0);
        let rows = room.spread[before..].chunks_mut(self.pitch());
        for (to, from) in rows.zip(gradient.chunks_exact(self.columns)) {
            to[..self.columns].copy_from_slice(from);
        }
        let results = &room.spread[before..][..self.span()];
        for (tap, by_weight) in by_kernel.iter_mut().enumerate() {
            let (plane, offset) = self.place(tap);
            let values = &room.dealt[plane * self.dealt() + offset..][..results.len()];
            *by_weight = sum_of_pairs(values, results, |value, g| value * g) as f32;
        }
        room.collected.clear();
        for plane in 0..self.stride * self.stride {
            room.taps.clear();
            let taps = kernel.iter().enumerate();
            room.taps.extend(taps.filter_map(|(tap, &w)| {
                let (looked_at, offset) = self.place(tap);
                (looked_at == plane).then_some((before - offset, w))
            }));
            room.by_dealt.resize(dealt, 0.0);
            correlate(&room.spread, &room.taps, 0.0, &mut room.by_dealt);
            let by_dealt = &room.by_dealt[..self.dealt()];
            room.collected.extend_from_slice(by_dealt);
        }
        self.collect(&room.collected, by_plane);
    }
}

/// Every sum becomes `start` and the values at the offsets from its place, weighed by the taps.
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

/// Memory that is used again for every plane.
#[derive(Debug, Default)]
pub(super) struct Room {
    dealt: Vec<f32>,
    spread: Vec<f32>,
    by_dealt: Vec<f32>,
    collected: Vec<f32>,
    taps: Vec<(usize, f32)>,
}
