//! The transforms as tensor operations, each a pass over the batch: for every backend without kernels for them.

use burn::tensor::backend::Backend;
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::{GridSampleOptions, GridSamplePaddingMode, InterpolateMode};
use burn::tensor::{Distribution, Tensor, TensorData};
use glioseg_shared::imaging::{CHANNELS, Channel};

use super::Draw;

/// What [`apply`](super::apply) gives, one tensor operation after the other.
pub fn compose<B: Backend>(
    stack: Tensor<B, 4>,
    draws: &[Draw],
    size: [usize; 2],
) -> (Tensor<B, 4>, Tensor<B, 4>) {
    let channels = stack.dims()[1] - 1;
    let warped = warp(stack, draws, size);
    let masks = warped.clone().narrow(1, channels, 1);
    // A pixel belongs to the warped mask when at least half of it does.
    let masks = masks.greater_equal_elem(0.5).float();
    let images = warped.narrow(1, 0, channels);
    let images = sequences(images, draws);
    let images = gamma(images, draws);
    let images = blur(images, draws);
    let images = factor_and_shift(images, draws);
    (noise(images, draws), masks)
}

/// Mirrors, rotates, scales and crops in one bilinear sampling; beyond the border the border's pixels repeat.
pub fn warp<B: Backend>(stack: Tensor<B, 4>, draws: &[Draw], size: [usize; 2]) -> Tensor<B, 4> {
    let [batch, _, height, width] = stack.dims();
    let device = stack.device();
    let [columns, rows] = size;
    // Pixel centres of the output relative to its centre, in pixels.
    let axis = |count: usize| -> Vec<f32> {
        (0..count)
            .map(|i| i as f32 - (count as f32 - 1.0) / 2.0)
            .collect()
    };
    let x = Tensor::<B, 1>::from_data(TensorData::new(axis(columns), [columns]), &device)
        .reshape([1, 1, columns]);
    let y = Tensor::<B, 1>::from_data(TensorData::new(axis(rows), [rows]), &device)
        .reshape([1, rows, 1]);
    // Where in the input an output pixel comes from, in the units of `grid_sample` with aligned corners: -1..=1 from
    // the centre of the first pixel to the centre of the last one.
    let half = [(width as f32 - 1.0) / 2.0, (height as f32 - 1.0) / 2.0];
    let row = |axis: usize| {
        let coefficients = draws.iter().map(|d| {
            let (sine, cosine) = d.angle.sin_cos();
            let sign = |mirrored: bool| if mirrored { -1.0 } else { 1.0 };
            let (sx, sy) = (
                sign(d.mirror_columns) / d.zoom,
                sign(d.mirror_rows) / d.zoom,
            );
            let (from_x, from_y) = match axis {
                0 => (cosine * sx, -sine * sy),
                _ => (sine * sx, cosine * sy),
            };
            [from_x, from_y, d.offset[axis]].map(|c| c / half[axis])
        });
        let coefficients: Vec<[f32; 3]> = coefficients.collect();
        let column = |i: usize| {
            let values = coefficients.iter().map(|c| c[i]).collect::<Vec<_>>();
            Tensor::<B, 1>::from_data(TensorData::new(values, [batch]), &device)
                .reshape([batch, 1, 1])
        };
        (x.clone() * column(0)) + (y.clone() * column(1)) + column(2)
    };
    let grid = Tensor::stack::<4>(vec![row(0), row(1)], 3);
    let options = GridSampleOptions::new(InterpolateMode::Bilinear)
        .with_padding_mode(GridSamplePaddingMode::Border)
        .with_align_corners(true);
    stack.grid_sample_2d(grid, options)
}

/// Replaces missing sequences by FLAIR, as the data set and serving do, then multiplies each sequence by its factor.
///
/// # Panics
/// When a draw changes a sequence of images that have not three channels.
pub fn sequences<B: Backend>(images: Tensor<B, 4>, draws: &[Draw]) -> Tensor<B, 4> {
    if draws.iter().all(|d| !d.changes_sequences()) {
        return images;
    }
    assert_eq!(images.dims()[1], CHANNELS, "one channel a sequence");
    let device = images.device();
    let flair = images.clone().narrow(1, Channel::Flair as usize, 1);
    let sequence = |channel: Channel, missing: fn(&Draw) -> bool| {
        let own = images.clone().narrow(1, channel as usize, 1);
        let missing = by_sample(draws, |d| f32::from(missing(d)), &device);
        let difference = flair.clone().sub(own.clone());
        let factor = by_sample(draws, |d| d.sequences[channel as usize], &device);
        own.add(difference.mul(missing)).mul(factor)
    };
    let sequences = vec![
        sequence(Channel::PreContrast, |d| d.missing[0]),
        sequence(Channel::Flair, |_| false),
        sequence(Channel::PostContrast, |d| d.missing[1]),
    ];
    Tensor::cat(sequences, 1)
}

/// Raises values to each sample's exponent; values below 1e-6 count as 1e-6. Meant for intensities of 0..=1.
pub fn gamma<B: Backend>(images: Tensor<B, 4>, draws: &[Draw]) -> Tensor<B, 4> {
    if draws.iter().all(|d| d.gamma == 1.0) {
        return images;
    }
    let exponent = by_sample(draws, |d| d.gamma, &images.device());
    // x^g as exp(g ln x); the floor keeps the logarithm finite and is far below one grey level.
    images.clamp_min(1e-6).log().mul(exponent).exp()
}

/// Mixes every image with its 3x3 mean, by each sample's share.
pub fn blur<B: Backend>(images: Tensor<B, 4>, draws: &[Draw]) -> Tensor<B, 4> {
    if draws.iter().all(|d| d.blur == 0.0) {
        return images;
    }
    let share = by_sample(draws, |d| d.blur, &images.device());
    let mean = avg_pool2d(images.clone(), [3, 3], [1, 1], [1, 1], false, false);
    images.clone().add(mean.sub(images).mul(share))
}

/// Changes contrast and brightness: x * factor + shift.
pub fn factor_and_shift<B: Backend>(images: Tensor<B, 4>, draws: &[Draw]) -> Tensor<B, 4> {
    let device = images.device();
    let factor = by_sample(draws, |d| d.factor, &device);
    let shift = by_sample(draws, |d| d.shift, &device);
    images.mul(factor).add(shift)
}

/// Adds Gaussian noise of each sample's standard deviation.
pub fn noise<B: Backend>(images: Tensor<B, 4>, draws: &[Draw]) -> Tensor<B, 4> {
    if draws.iter().all(|d| d.noise == 0.0) {
        return images;
    }
    let deviation = by_sample(draws, |d| d.noise, &images.device());
    let noise = images.random_like(Distribution::Normal(0.0, 1.0));
    images.add(noise.mul(deviation))
}

/// One number a sample, shaped to meet `[batch, channels, height, width]`.
fn by_sample<B: Backend>(
    draws: &[Draw],
    value: impl Fn(&Draw) -> f32,
    device: &B::Device,
) -> Tensor<B, 4> {
    let values: Vec<f32> = draws.iter().map(value).collect();
    let count = values.len();
    Tensor::<B, 1>::from_data(TensorData::new(values, [count]), device).reshape([count, 1, 1, 1])
}
