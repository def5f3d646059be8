//! The losses as tensor operations, for every backend without kernels for them.

use burn::tensor::Tensor;
use burn::tensor::activation::{log_sigmoid, relu, sigmoid};
use burn::tensor::backend::Backend;

use super::{Loss, SMOOTHING};

/// Exponent of the focal loss.
const GAMMA: f64 = 2.0;

/// What [`Loss::forward`] gives, one tensor operation after the other.
pub fn compose<B: Backend>(loss: Loss, logits: Tensor<B, 4>, target: Tensor<B, 4>) -> Tensor<B, 1> {
    let entropy = cross_entropy_by_pixel(logits.clone(), target.clone());
    let by_pixel = match loss {
        Loss::DiceFocal => {
            let sign = target.clone().mul_scalar(2.0).sub_scalar(1.0);
            let modulation = log_sigmoid(logits.clone().neg().mul(sign));
            modulation.mul_scalar(GAMMA).exp().mul(entropy)
        }
        Loss::DiceCe | Loss::BatchDiceCe | Loss::TumourDiceCe => entropy,
    };
    let shares = loss.shares();
    let mut total = by_pixel.mean();
    if shares.batch > 0.0 {
        let all = [1, 1, 1, logits.shape().num_elements()];
        let pooled = dice(logits.clone().reshape(all), target.clone().reshape(all));
        total = total.add(pooled.mul_scalar(shares.batch));
    }
    if shares.samples > 0.0 {
        let by_sample = dice(logits.clone(), target.clone());
        total = total.add(by_sample.mul_scalar(shares.samples));
    }
    if shares.with_tumour > 0.0 {
        let tumour = samples(target.clone()).sum_dim(1).greater_elem(0.0).float();
        let of_tumours = dice_by_sample(logits, target).mul(tumour.clone()).sum();
        let mean = of_tumours.div(tumour.sum().clamp_min(1.0));
        total = total.add(mean.mul_scalar(shares.with_tumour));
    }
    total
}

/// One minus the soft Dice of every sample, averaged: 0..=1.
pub fn dice<B: Backend>(logits: Tensor<B, 4>, target: Tensor<B, 4>) -> Tensor<B, 1> {
    dice_by_sample(logits, target).mean()
}

/// One minus the soft Dice: `[samples, 1]`.
fn dice_by_sample<B: Backend>(logits: Tensor<B, 4>, target: Tensor<B, 4>) -> Tensor<B, 2> {
    let probability = samples(sigmoid(logits));
    let target = samples(target);
    let shared = probability.clone().mul(target.clone()).sum_dim(1);
    let total = probability.sum_dim(1).add(target.sum_dim(1));
    let dice = shared
        .mul_scalar(2.0)
        .add_scalar(SMOOTHING)
        .div(total.add_scalar(SMOOTHING));
    dice.neg().add_scalar(1.0)
}

/// A row of pixels for every sample.
fn samples<B: Backend>(values: Tensor<B, 4>) -> Tensor<B, 2> {
    let [batch, channels, height, width] = values.dims();
    values.reshape([batch * channels, height * width])
}

/// x - x t - logsigmoid(x), pixel by pixel, as max(x, 0) - x t + log(1 + exp(-|x|)).
fn cross_entropy_by_pixel<B: Backend>(logits: Tensor<B, 4>, target: Tensor<B, 4>) -> Tensor<B, 4> {
    let softplus = logits.clone().abs().neg().exp().log1p();
    relu(logits.clone()).sub(logits.mul(target)).add(softplus)
}
