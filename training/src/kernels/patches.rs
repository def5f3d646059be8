//! Between images and the patches that a convolution's kernel sees (im2col and its adjoint).

use std::ops::Range;

/// How a kernel walks over an image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// Channels of the image.
    pub channels: usize,
    /// Rows of the image.
    pub height: usize,
    /// Columns of the image.
    pub width: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Step in both directions.
    pub stride: usize,
    /// Zeros around the image.
    pub padding: usize,
    /// Rows of positions.
    pub rows: usize,
    /// Columns of positions.
    pub columns: usize,
}

/// Patches that are worked on at a time take at most this many values: a quarter of a megabyte, to stay in cache.
const BLOCK: usize = 1 << 16;

impl Walk {
    /// Values of the image.
    pub(super) fn image(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Values of a patch.
    pub(super) fn depth(&self) -> usize {
        self.channels * self.kernel * self.kernel
    }

    /// Number of positions.
    pub(super) fn positions(&self) -> usize {
        self.rows * self.columns
    }

    /// Whether a patch is a pixel, and every pixel is one.
    pub(super) fn is_pointwise(&self) -> bool {
        self.kernel == 1 && self.stride == 1
    }

    /// Rows of positions, a block at a time.
    pub(super) fn blocks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (rows, step) = (self.rows, (BLOCK / (self.depth() * self.columns)).max(1));
        (0..rows)
            .step_by(step)
            .map(move |start| start..rows.min(start + step))
    }

    /// Patches at the positions of `rows`: `[depth, positions]`.
    pub(super) fn gather(&self, image: &[f32], rows: Range<usize>, patches: &mut Vec<f32>) {
        patches.clear();
        patches.resize(self.depth() * rows.len() * self.columns, 0.0);
        let mut lines = patches.chunks_exact_mut(self.columns);
        self.lines(rows, |source, inside| {
            let Some(line) = lines.next() else { return };
            let Some((start, inside)) = source.zip(inside) else {
                return;
            };
            let length = inside.len();
            let line = &mut line[inside];
            if self.stride == 1 {
                line.copy_from_slice(&image[start..start + length]);
            } else {
                let pixels = image[start..].iter().step_by(self.stride);
                line.iter_mut()
                    .zip(pixels)
                    .for_each(|(to, from)| *to = *from);
            }
        });
    }

    /// Adds patches `[depth, positions]` to the pixels that they cover: the adjoint of [`Walk::gather`].
    pub(super) fn scatter(&self, patches: &[f32], rows: Range<usize>, image: &mut [f32]) {
        let mut lines = patches.chunks_exact(self.columns);
        self.lines(rows, |source, inside| {
            let Some(line) = lines.next() else { return };
            let Some((start, inside)) = source.zip(inside) else {
                return;
            };
            let length = inside.len();
            let line = &line[inside];
            if self.stride == 1 {
                let pixels = &mut image[start..start + length];
                pixels
                    .iter_mut()
                    .zip(line)
                    .for_each(|(to, from)| *to += *from);
            } else {
                let pixels = image[start..].iter_mut().step_by(self.stride);
                pixels.zip(line).for_each(|(to, from)| *to += *from);
            }
        });
    }

    /// For every channel, kernel row, kernel column and row of positions: where its first pixel inside the image is,
    /// and which of the positions are inside.
    fn lines(
        &self,
        rows: Range<usize>,
        mut visit: impl FnMut(Option<usize>, Option<Range<usize>>),
    ) {
        for channel in 0..self.channels {
            for ky in 0..self.kernel {
                for kx in 0..self.kernel {
                    // Column of position i: i * stride + kx - padding, to lie in 0..width.
                    let first = self.padding.saturating_sub(kx).div_ceil(self.stride);
                    let end = (self.width + self.padding)
                        .saturating_sub(kx)
                        .div_ceil(self.stride)
                        .min(self.columns);
                    for row in rows.clone() {
                        let y = (row * self.stride + ky).checked_sub(self.padding);
                        let y = y.filter(|&y| y < self.height && first < end);
                        let source = y.map(|y| {
                            let x = first * self.stride + kx - self.padding;
                            (channel * self.height + y) * self.width + x
                        });
                        visit(source, Some(first..end));
                    }
                }
            }
        }
    }
}
