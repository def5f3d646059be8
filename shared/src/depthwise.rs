//! Convolutions of every channel by itself ("depthwise"), on the CPU: what a network is trained with is what serves.
//!
//! A plane is laid out with its zeros around it, its rows and columns dealt out by their remainder by the stride. Every
//! tap of the kernel then meets all positions at one offset: a sum over long rows, whatever stride and plane.

use multiversion::multiversion;

/// Positions that are worked on at a time, so that their sums stay in registers.
pub const BLOCK: usize = 32;

/// How a square kernel of an odd side walks over a plane of one channel; zero padding of half the kernel, rounded down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steps {
    height: usize,
    width: usize,
    kernel: usize,
    stride: usize,
    rows: usize,
    columns: usize,
    offsets: Vec<usize>,
}

impl Steps {
    /// Over planes of `height` by `width` pixels, none of the four zero.
    #[must_use]
    pub fn new(height: usize, width: usize, kernel: usize, stride: usize) -> Self {
        let mut steps = Self {
            height,
            width,
            kernel,
            stride,
            rows: (height - 1) / stride + 1,
            columns: (width - 1) / stride + 1,
            offsets: Vec::new(),
        };
        let place = |tap| {
            let (plane, offset) = steps.place(tap);
            plane * steps.dealt() + offset
        };
        steps.offsets = (0..kernel * kernel).map(place).collect();
        steps
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

    /// Planes that a plane is dealt out to.
    #[must_use]
    pub fn phases(&self) -> usize {
        self.stride * self.stride
    }

    /// How many steps the kernel reaches beyond a position.
    #[must_use]
    pub fn reach(&self) -> usize {
        (self.kernel - 1) / self.stride
    }

    /// Positions of a row, and those beside it that the kernel reaches: these are no results.
    #[must_use]
    pub fn pitch(&self) -> usize {
        self.columns + self.reach()
    }

    /// Positions in rows of [`Self::pitch`], without those beyond the last result.
    #[must_use]
    pub fn span(&self) -> usize {
        (self.rows - 1) * self.pitch() + self.columns
    }

    /// Values of one of the planes that a padded plane is dealt out to.
    #[must_use]
    pub fn dealt(&self) -> usize {
        (self.rows + self.reach()) * self.pitch()
    }

    /// The plane that a tap looks at among those dealt out, and where in it it looks from the first position.
    #[must_use]
    pub fn place(&self, tap: usize) -> (usize, usize) {
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

    /// Deals a plane out; the planes that it is dealt out to, one after the other, and at most [`BLOCK`] zeros more.
    pub fn deal<'r>(&self, plane: &[f32], room: &'r mut Room) -> &'r [f32] {
        // The zeros around the pixels stay from plane to plane; what comes after is room that a block may look at.
        let length = self.phases() * self.dealt() + BLOCK;
        if room.dealt_by.as_ref() != Some(self) {
            room.dealt.clear();
            room.dealt.resize(length, 0.0);
            room.dealt_by = Some(self.clone());
        }
        self.lines(|y, first, to| {
            let row = &plane[y * self.width..(y + 1) * self.width];
            let dealt = &mut room.dealt[to..];
            match self.stride {
                1 => dealt[..self.width].copy_from_slice(row),
                _ if first < self.width => every(self.stride, &row[first..], dealt),
                _ => {}
            }
        });
        &room.dealt
    }

    /// Collects a plane that was dealt out: the inverse of [`Self::deal`].
    pub fn collect(&self, dealt: &[f32], plane: &mut [f32]) {
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
    pub fn convolve(
        &self,
        plane: &[f32],
        kernel: &[f32],
        bias: f32,
        room: &mut Room,
        result: &mut [f32],
    ) {
        self.deal(plane, room);
        let spread = self.span().next_multiple_of(BLOCK);
        room.spread.resize(spread, 0.0);
        let taps = self.offsets.iter().copied().zip(kernel.iter().copied());
        room.taps.clear();
        room.taps.extend(taps);
        correlate(&room.dealt, &room.taps, bias, &mut room.spread);
        let rows = result.chunks_exact_mut(self.columns);
        for (row, sums) in rows.zip(room.spread.chunks(self.pitch())) {
            row.copy_from_slice(&sums[..self.columns]);
        }
    }
}

/// Every `stride`-th value, from the first.
#[multiversion(targets("x86_64+avx2"))]
fn every(stride: usize, values: &[f32], to: &mut [f32]) {
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
pub fn correlate(values: &[f32], taps: &[(usize, f32)], start: f32, sums: &mut [f32]) {
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
pub struct Room {
    dealt_by: Option<Steps>,
    dealt: Vec<f32>,
    spread: Vec<f32>,
    taps: Vec<(usize, f32)>,
}
