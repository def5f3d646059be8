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
        Loss::DiceCe | Loss::BatchDiceCe => entropy,
    };
    let overlap = if loss.is_over_the_batch() {
        let all = [1, 1, 1, logits.shape().num_elements()];
        dice(logits.reshape(all), target.reshape(all))
    } else {
        dice(logits, target)
    };
    overlap.add(by_pixel.mean())
}

/// One minus the soft Dice of every sample, averaged: 0..=1.
pub fn dice<B: Backend>(logits: Tensor<B, 4>, target: Tensor<B, 4>) -> Tensor<B, 1> {
    let [batch, channels, height, width] = logits.dims();
    let flat = [batch * channels, height * width];
    let probability = sigmoid(logits).reshape(flat);
    let target = target.reshape(flat);
    let shared = probability.clone().mul(target.clone()).sum_dim(1);
    let total = probability.sum_dim(1).add(target.sum_dim(1));
    let dice = shared
        .mul_scalar(2.0)
        .add_scalar(SMOOTHING)
        .div(total.add_scalar(SMOOTHING));
    dice.mean().neg().add_scalar(1.0)
}

/// x - x t - logsigmoid(x), pixel by pixel, as max(x, 0) - x t + log(1 + exp(-|x|)).
fn cross_entropy_by_pixel<B: Backend>(logits: Tensor<B, 4>, target: Tensor<B, 4>) -> Tensor<B, 4> {
    let softplus = logits.clone().abs().neg().exp().log1p();
    relu(logits.clone()).sub(logits.mul(target)).add(softplus)
}
