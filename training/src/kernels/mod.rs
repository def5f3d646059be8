//! The operations that training time goes into, with backward passes of their own.
//!
//! burn composes them from smaller operations, each a pass over memory; on the CPU that costs more than the arithmetic.
//! [`Kernels`] gives every backend one entry for each, with burn's own operations as the default and kernels for the
//! CPU; differentiating backends register one node instead of a dozen.

mod adamw;
mod autodiff;
mod cpu;
pub(crate) mod elementary;
mod groups;
mod matrix;
mod patches;
mod pointwise;
mod sums;

use burn::tensor::activation::relu;
use burn::tensor::backend::Backend;
use burn::tensor::ops::{ConvOptions, ConvTransposeOptions, FloatTensor};
use burn::tensor::{Tensor, TensorPrimitive};

/// Added to variances before the square root where nothing else is said: PyTorch's default for batch and instance
/// normalisation.
pub const EPSILON: f64 = 1e-5;

/// Which values share a mean and a variance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// A channel over the whole batch: batch normalisation. Statistics are `[1, channels, 1]`.
    Batch,
    /// A channel of one sample: instance normalisation. Statistics are `[batch, channels, 1]`.
    Instance,
}

/// What a normalisation gives.
#[derive(Clone, Debug)]
pub struct Normalised<T> {
    /// `(x - mean) / sqrt(variance + epsilon) * scale + shift`, in the shape of x.
    pub output: T,
    /// Mean by group.
    pub mean: T,
    /// Biased variance by group.
    pub variance: T,
}

/// Numbers of one step of AdamW.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Decay of the first and of the second moment.
    pub betas: [f32; 2],
    /// One minus the decays.
    pub rests: [f32; 2],
    /// By what the moments are divided, as they begin at zero.
    pub corrections: [f32; 2],
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Factor of the weights.
    pub decay: f32,
    /// Learning rate.
    pub rate: f32,
}

/// A backend with the layers of a network for training, and the step that trains them.
///
/// Images are `[batch, channels, height, width]`.
pub trait Kernels: Backend {
    /// Convolution with an odd square kernel `[out, in, k, k]`, zero padding k / 2, and a bias.
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        let kernel = kernel_of::<Self>(&weight);
        Self::conv2d(x, weight, Some(bias), options(kernel, stride))
    }

    /// Gradients of [`Kernels::convolution`] by x (where it is wanted), weight and bias.
    fn convolution_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        stride: usize,
        wants_x: bool,
    ) -> (
        Option<FloatTensor<Self>>,
        FloatTensor<Self>,
        FloatTensor<Self>,
    ) {
        let options = || options(kernel_of::<Self>(&weight), stride);
        let by_x = wants_x.then(|| {
            Self::conv2d_x_backward(x.clone(), weight.clone(), gradient.clone(), options())
        });
        let by_weight =
            Self::conv2d_weight_backward(x, weight.clone(), gradient.clone(), options());
        (by_x, by_weight, bias_gradient::<Self>(gradient))
    }

    /// [`Kernels::convolution`] of every channel by itself, with a kernel `[channels, 1, k, k]`.
    fn depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        let options = depthwise_options::<Self>(&weight, stride);
        Self::conv2d(x, weight, Some(bias), options)
    }

    /// Gradients of [`Kernels::depthwise`] by x, weight and bias.
    fn depthwise_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        stride: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let options = || depthwise_options::<Self>(&weight, stride);
        let by_x = Self::conv2d_x_backward(x.clone(), weight.clone(), gradient.clone(), options());
        let by_weight =
            Self::conv2d_weight_backward(x, weight.clone(), gradient.clone(), options());
        (by_x, by_weight, bias_gradient::<Self>(gradient))
    }

    /// Transposed convolution of stride 2 with a kernel `[in, out, k, k]`, which doubles height and width.
    fn upconvolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let options = up_options(kernel_of::<Self>(&weight));
        Self::conv_transpose2d(x, weight, Some(bias), options)
    }

    /// Gradients of [`Kernels::upconvolution`] by x, weight and bias.
    fn upconvolution_backward(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let options = || up_options(kernel_of::<Self>(&weight));
        let by_x = Self::conv_transpose2d_x_backward(weight.clone(), gradient.clone(), options());
        let by_weight =
            Self::conv_transpose2d_weight_backward(x, weight.clone(), gradient.clone(), options());
        (by_x, by_weight, bias_gradient::<Self>(gradient))
    }

    /// Normalisation to mean 0 and variance 1 by group, then scale and shift by channel (`[channels]` both).
    fn normalise(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        group: Group,
        epsilon: f64,
    ) -> Normalised<FloatTensor<Self>> {
        let (x, shape) = planes::<Self>(x);
        let mean = group_mean(x.clone(), group);
        let centred = x.sub(mean.clone());
        let variance = group_mean(centred.clone().square(), group);
        let scale = by_channel::<Self>(scale);
        let factor = variance
            .clone()
            .add_scalar(epsilon)
            .sqrt()
            .recip()
            .mul(scale);
        let output = centred.mul(factor).add(by_channel::<Self>(shift));
        Normalised {
            output: primitive(output.reshape(shape)),
            mean: primitive(mean),
            variance: primitive(variance),
        }
    }

    /// Gradients of [`Kernels::normalise`] by x, scale and shift, from its statistics.
    fn normalise_backward(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        group: Group,
        epsilon: f64,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        let (x, shape) = planes::<Self>(x);
        let (gradient, _) = planes::<Self>(gradient);
        let inverse = tensor::<Self, 3>(variance)
            .add_scalar(epsilon)
            .sqrt()
            .recip();
        let normal = x.sub(tensor(mean)).mul(inverse.clone());
        let product = gradient.clone().mul(normal.clone());
        let channels = shape[1];
        let by_scale = product.clone().sum_dim(2).sum_dim(0).reshape([channels]);
        let by_shift = gradient.clone().sum_dim(2).sum_dim(0).reshape([channels]);
        let along = normal.mul(group_mean(product, group));
        let inner = gradient.clone().sub(group_mean(gradient, group)).sub(along);
        let by_x = inner.mul(inverse.mul(by_channel::<Self>(scale)));
        (
            primitive(by_x.reshape(shape)),
            primitive(by_scale),
            primitive(by_shift),
        )
    }

    /// x times a factor plus a shift by channel (`[channels]` both).
    fn scale_and_shift(
        x: FloatTensor<Self>,
        factor: FloatTensor<Self>,
        shift: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (x, shape) = planes::<Self>(x);
        let y = x.mul(by_channel::<Self>(factor));
        primitive(y.add(by_channel::<Self>(shift)).reshape(shape))
    }

    /// x where it is positive, otherwise `slope` (`[1]`) times x.
    fn rectify(x: FloatTensor<Self>, slope: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = tensor::<Self, 4>(x);
        let slope = tensor::<Self, 1>(slope).reshape([1; 4]);
        let negative = relu(x.clone().neg());
        primitive(relu(x).sub(negative.mul(slope)))
    }

    /// Gradients of [`Kernels::rectify`] by x and slope; that of a zero is as of a negative value, as in PyTorch.
    fn rectify_backward(
        x: FloatTensor<Self>,
        slope: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let (x, gradient) = (tensor::<Self, 4>(x), tensor::<Self, 4>(gradient));
        let slope = tensor::<Self, 1>(slope).reshape([1; 4]);
        let negative = x.clone().lower_equal_elem(0.0);
        let by_slope = x.clamp_max(0.0).mul(gradient.clone()).sum();
        let lowered = gradient.clone().mul(slope);
        (
            primitive(gradient.mask_where(negative, lowered)),
            primitive(by_slope),
        )
    }

    /// Channels of a, then those of b.
    fn concatenate(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        primitive(Tensor::cat(vec![tensor::<Self, 4>(a), tensor(b)], 1))
    }

    /// Gradients of [`Kernels::concatenate`] by a, which has this number of channels, and b.
    fn concatenate_backward(
        gradient: FloatTensor<Self>,
        channels: usize,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let gradient = tensor::<Self, 4>(gradient);
        let others = gradient.dims()[1] - channels;
        (
            primitive(gradient.clone().narrow(1, 0, channels)),
            primitive(gradient.narrow(1, channels, others)),
        )
    }

    /// Every pixel twice in both directions.
    fn enlarge(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let x = tensor::<Self, 4>(x);
        let [batch, channels, height, width] = x.dims();
        primitive(
            x.reshape([batch, channels, height, 1, width, 1])
                .expand([batch, channels, height, 2, width, 2])
                .reshape([batch, channels, height * 2, width * 2]),
        )
    }

    /// Gradient of [`Kernels::enlarge`]: the sum of every 2x2 block.
    fn enlarge_backward(gradient: FloatTensor<Self>) -> FloatTensor<Self> {
        let gradient = tensor::<Self, 4>(gradient);
        let [batch, channels, height, width] = gradient.dims();
        primitive(
            gradient
                .reshape([batch, channels, height / 2, 2, width / 2, 2])
                .sum_dim(5)
                .sum_dim(3)
                .reshape([batch, channels, height / 2, width / 2]),
        )
    }

    /// One step of AdamW on weights with `D` dimensions: weights, first and second moment afterwards.
    fn adamw<const D: usize>(
        weights: FloatTensor<Self>,
        gradient: FloatTensor<Self>,
        moments: [FloatTensor<Self>; 2],
        step: AdamStep,
    ) -> [FloatTensor<Self>; 3] {
        let gradient = tensor::<Self, D>(gradient);
        let [first, second] = moments.map(tensor::<Self, D>);
        let [beta_1, beta_2] = step.betas;
        let [rest_1, rest_2] = step.rests;
        let first = first.mul_scalar(beta_1) + gradient.clone().mul_scalar(rest_1);
        let second = second.mul_scalar(beta_2) + gradient.square().mul_scalar(rest_2);
        let [mean, square] = [(&first, 0), (&second, 1)]
            .map(|(moment, i)| moment.clone().div_scalar(step.corrections[i]));
        let delta = mean.div(square.sqrt().add_scalar(step.epsilon));
        let weights = tensor::<Self, D>(weights).mul_scalar(step.decay);
        let weights = weights.sub(delta.mul_scalar(step.rate));
        [weights, first, second].map(primitive)
    }
}

#[cfg(feature = "cuda")]
impl Kernels for burn::backend::Cuda {}

#[cfg(feature = "tch")]
impl Kernels for burn::backend::LibTorch {}

/// Padding and output padding with which a transposed convolution of this kernel and stride 2 doubles the size.
#[must_use]
pub fn upconvolution_padding(kernel: usize) -> (usize, usize) {
    match kernel {
        2 => (0, 0),
        3 => (1, 1),
        _ => (kernel / 2 - 1, 0),
    }
}

fn options(kernel: usize, stride: usize) -> ConvOptions<2> {
    ConvOptions::new([stride; 2], [kernel / 2; 2], [1; 2], 1)
}

fn depthwise_options<B: Backend>(weight: &FloatTensor<B>, stride: usize) -> ConvOptions<2> {
    let [channels, _, kernel, _] = tensor::<B, 4>(weight.clone()).dims();
    ConvOptions::new([stride; 2], [kernel / 2; 2], [1; 2], channels)
}

fn up_options(kernel: usize) -> ConvTransposeOptions<2> {
    let (padding, extra) = upconvolution_padding(kernel);
    ConvTransposeOptions::new([2; 2], [padding; 2], [extra; 2], [1; 2], 1)
}

fn kernel_of<B: Backend>(weight: &FloatTensor<B>) -> usize {
    tensor::<B, 4>(weight.clone()).dims()[3]
}

fn bias_gradient<B: Backend>(gradient: FloatTensor<B>) -> FloatTensor<B> {
    let (gradient, shape) = planes::<B>(gradient);
    primitive(gradient.sum_dim(2).sum_dim(0).reshape([shape[1]]))
}

/// A tensor of which only the primitive is at hand.
pub(crate) fn tensor<B: Backend, const D: usize>(x: FloatTensor<B>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x))
}

/// The primitive of a floating-point tensor.
pub(crate) fn primitive<B: Backend, const D: usize>(x: Tensor<B, D>) -> FloatTensor<B> {
    x.into_primitive().tensor()
}

/// `[batch, channels, height * width]`, and the shape before.
fn planes<B: Backend>(x: FloatTensor<B>) -> (Tensor<B, 3>, [usize; 4]) {
    let x = tensor::<B, 4>(x);
    let shape = x.dims();
    let [batch, channels, height, width] = shape;
    (x.reshape([batch, channels, height * width]), shape)
}

fn by_channel<B: Backend>(x: FloatTensor<B>) -> Tensor<B, 3> {
    let x = tensor::<B, 1>(x);
    let channels = x.dims()[0];
    x.reshape([1, channels, 1])
}

fn group_mean<B: Backend>(x: Tensor<B, 3>, group: Group) -> Tensor<B, 3> {
    let mean = x.mean_dim(2);
    match group {
        Group::Batch => mean.mean_dim(0),
        Group::Instance => mean,
    }
}
