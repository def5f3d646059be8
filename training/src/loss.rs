//! Losses on logits, in MONAI's form.
//!
//! With x the logits, p = sigmoid(x) and t the target, both `[batch, 1, height, width]`:
//!
//! - Dice: 1 - (2 sum(p t) + 1e-5) / (sum(p) + sum(t) + 1e-5) for every sample, then the mean (Milletari et al. 2016).
//! - Focal: mean of exp(2 logsigmoid(-x (2t - 1))) * (x - x t - logsigmoid(x)) (Lin et al. 2017, gamma 2, no alpha).
//! - Cross-entropy: mean of x - x t - logsigmoid(x).
//!
//! Over a whole batch, Dice is that of all its pixels together (MONAI's `batch=True`).
//!
//! Everything is finite, with finite gradients, for logits up to 1e4 in size.

use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, activation::log_sigmoid};
use serde::{Deserialize, Serialize};

const SMOOTHING: f64 = 1e-5;
const GAMMA: f64 = 2.0;

/// Which loss is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Loss {
    /// Dice plus focal.
    DiceFocal,
    /// Dice plus cross-entropy.
    DiceCe,
    /// Dice of the whole batch plus cross-entropy.
    ///
    /// The Dice of a sample without tumour hardly changes with its false pixels until the last of them is gone; counted
    /// with the rest of the batch, each of them costs.
    BatchDiceCe,
}

impl Loss {
    /// The loss of logits against targets in 0..=1, both `[batch, 1, height, width]`.
    pub fn forward<B: Backend>(self, logits: Tensor<B, 4>, target: Tensor<B, 4>) -> Tensor<B, 1> {
        let entropy = cross_entropy_by_pixel(logits.clone(), target.clone());
        let by_pixel = match self {
            Self::DiceFocal => {
                let sign = target.clone().mul_scalar(2.0).sub_scalar(1.0);
                let modulation = log_sigmoid(logits.clone().neg().mul(sign));
                modulation.mul_scalar(GAMMA).exp().mul(entropy)
            }
            Self::DiceCe | Self::BatchDiceCe => entropy,
        };
        let overlap = match self {
            Self::DiceFocal | Self::DiceCe => dice(logits, target),
            Self::BatchDiceCe => {
                let all = [1, 1, 1, logits.shape().num_elements()];
                dice(logits.reshape(all), target.reshape(all))
            }
        };
        overlap.add(by_pixel.mean())
    }
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
