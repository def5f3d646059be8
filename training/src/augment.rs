//! Random transforms of a batch, on the device that trains.
//!
//! A transform has two halves: what is drawn for a sample (on the host, seeded, a few numbers) and what is done to the
//! whole batch (tensor operations). Images are `[batch, channels, height, width]` with values of 0..=1; the mask travels as one more channel through every geometric transform, so that the two
//! cannot come apart.

use burn::tensor::backend::Backend;
use burn::tensor::module::avg_pool2d;
use burn::tensor::ops::{GridSampleOptions, GridSamplePaddingMode, InterpolateMode};
use burn::tensor::{Distribution, Tensor, TensorData};
use glioseg_shared::imaging::{CHANNELS, Channel};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// How often and how far samples are transformed. Ranges are symmetric unless they say otherwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Augmentation {
    /// Probability of a left-right mirror image.
    pub mirror_columns: f64,
    /// Probability of an upside-down mirror image.
    pub mirror_rows: f64,
    /// Probability of a rotation.
    pub rotation: f64,
    /// Largest angle of a rotation, radians.
    pub angle: f32,
    /// Probability of an affine scale.
    pub zoom: f64,
    /// Largest relative change of size.
    pub zoom_by: f32,
    /// Probability of a gamma curve.
    pub gamma: f64,
    /// Exponents are drawn log-uniformly from 1 / this to this.
    pub gamma_to: f32,
    /// Probability of a blur.
    pub blur: f64,
    /// Probability of a change of contrast: all values times 1 ± [`Self::factor_by`].
    pub factor: f64,
    /// Largest relative change of intensity.
    pub factor_by: f32,
    /// Probability of a change of brightness: all values plus or minus up to [`Self::shift_by`].
    pub shift: f64,
    /// Largest shift.
    pub shift_by: f32,
    /// Probability that each sequence changes its contrast by itself.
    pub sequence: f64,
    /// Largest relative change of a sequence's intensity.
    pub sequence_by: f32,
    /// Probability that the pre-contrast sequence is missing, and the same for the post-contrast one.
    pub missing: f64,
    /// Probability of Gaussian noise.
    pub noise: f64,
    /// Largest standard deviation of the noise.
    pub noise_to: f32,
}

/// A named set of transforms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Preset {
    /// Nothing but the crop.
    None,
    /// The transforms of the original system with its parameters.
    Original,
    /// Those, with mirrored rows, wider angles, scale, gamma, blur, and sequences that change by themselves or are missing.
    Strong,
}

impl Preset {
    /// The parameters of this set.
    #[must_use]
    pub fn augmentation(self) -> Augmentation {
        let none = Augmentation {
            mirror_columns: 0.0,
            mirror_rows: 0.0,
            rotation: 0.0,
            angle: 0.0,
            zoom: 0.0,
            zoom_by: 0.0,
            gamma: 0.0,
            gamma_to: 1.0,
            blur: 0.0,
            factor: 0.0,
            factor_by: 0.0,
            shift: 0.0,
            shift_by: 0.0,
            sequence: 0.0,
            sequence_by: 0.0,
            missing: 0.0,
            noise: 0.0,
            noise_to: 0.0,
        };
        let original = Augmentation {
            mirror_columns: 0.5,
            rotation: 0.5,
            angle: 0.26,
            factor: 0.5,
            factor_by: 0.1,
            shift: 0.5,
            shift_by: 0.1,
            noise: 0.5,
            noise_to: 0.1,
            ..none.clone()
        };
        match self {
            Self::None => none,
            Self::Original => original,
            Self::Strong => Augmentation {
                mirror_rows: 0.1,
                rotation: 0.7,
                angle: 0.4,
                zoom: 0.7,
                zoom_by: 0.2,
                gamma: 0.5,
                gamma_to: 1.5,
                blur: 0.2,
                factor_by: 0.2,
                sequence: 0.5,
                sequence_by: 0.25,
                missing: 0.15,
                noise: 0.3,
                noise_to: 0.06,
                ..original
            },
        }
    }
}

/// What happens to one sample.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Left-right mirror image.
    pub mirror_columns: bool,
    /// Upside-down mirror image.
    pub mirror_rows: bool,
    /// Rotation, radians.
    pub angle: f32,
    /// Size of what is seen, relative to the original.
    pub zoom: f32,
    /// Centre of the crop relative to the centre of the image, in pixels: columns, rows.
    pub offset: [f32; 2],
    /// Exponent of the gamma curve.
    pub gamma: f32,
    /// Share of the 3x3 mean in the result.
    pub blur: f32,
    /// Factor of all values.
    pub factor: f32,
    /// Added to all values.
    pub shift: f32,
    /// Factor of each sequence, in the order of the channels.
    pub sequences: [f32; 3],
    /// Whether the pre-contrast and the post-contrast sequence are missing.
    pub missing: [bool; 2],
    /// Standard deviation of the noise.
    pub noise: f32,
}

impl Augmentation {
    /// Draws what happens to one sample whose crop leaves `slack` pixels (columns, rows) of the image out.
    pub fn draw(&self, slack: [usize; 2], rng: &mut ChaCha8Rng) -> Draw {
        // Every number is drawn whether it is used or not: a change of one probability leaves the other draws alone.
        let mut symmetric = |probability: f64, range: f32| {
            let chosen = happens(probability, rng);
            let value = range * rng.random_range(-1.0..=1.0);
            if chosen { value } else { 0.0 }
        };
        let angle = symmetric(self.rotation, self.angle);
        let zoom = 1.0 + symmetric(self.zoom, self.zoom_by);
        let gamma = symmetric(self.gamma, self.gamma_to.ln()).exp();
        let blur = symmetric(self.blur, 1.0).abs();
        let factor = 1.0 + symmetric(self.factor, self.factor_by);
        let shift = symmetric(self.shift, self.shift_by);
        let noise = symmetric(self.noise, self.noise_to).abs();
        let sequences = [(); 3].map(|()| 1.0 + symmetric(self.sequence, self.sequence_by));
        let offset =
            slack.map(|left_out| rng.random_range(0..=left_out) as f32 - left_out as f32 / 2.0);
        Draw {
            mirror_columns: happens(self.mirror_columns, rng),
            mirror_rows: happens(self.mirror_rows, rng),
            angle,
            zoom,
            offset,
            gamma,
            blur,
            factor,
            shift,
            sequences,
            missing: [(); 2].map(|()| happens(self.missing, rng)),
            noise,
        }
    }
}

/// True with this probability. Unlike `random_bool`, it draws a number for a probability of 1, too.
fn happens(probability: f64, rng: &mut ChaCha8Rng) -> bool {
    rng.random::<f64>() < probability
}

/// Applies the draws: images `[batch, channels, h, w]` and masks `[batch, 1, h, w]` of `size` (columns, rows).
///
/// The stack holds the image channels and, last, the mask: `[batch, channels + 1, height, width]`.
pub fn apply<B: Backend>(
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
    if draws
        .iter()
        .all(|d| d.sequences == [1.0; 3] && d.missing == [false; 2])
    {
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
