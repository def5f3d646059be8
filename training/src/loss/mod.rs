//! Losses on logits, in MONAI's form.
//!
//! With x the logits, p = sigmoid(x) and t the target, both `[batch, 1, height, width]`:
//!
//! - Dice: 1 - (2 sum(p t) + 1e-5) / (sum(p) + sum(t) + 1e-5) for every sample, then the mean (Milletari et al. 2016).
//! - Focal: mean of exp(2 logsigmoid(-x (2t - 1))) * (x - x t - logsigmoid(x)) (Lin et al. 2017, gamma 2, no alpha).
//! - Cross-entropy: mean of x - x t - logsigmoid(x).
//!
//! Over a whole batch, Dice is that of all its pixels together (MONAI's `batch=True`): a large tumour outweighs a small
//! one by its area. The mean of the Dice of samples weighs them alike, but a sample without tumour says next to nothing
//! in it until its last false pixel is gone. Half of each, the mean over samples with tumour alone, has both.
//!
//! burn differentiates the composition of all this from tensor operations, each a pass over memory on one thread.
//! [`Losses`] gives every backend one entry for a loss, with that composition as the default and a kernel for the CPU.
//!
//! Everything is finite, with finite gradients, for logits up to 1e4 in size.

mod autodiff;
mod composed;
mod cpu;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use serde::{Deserialize, Serialize};

pub use composed::{compose, dice};

use crate::kernels::{primitive, tensor};

/// Added to both sides of the fraction in Dice.
const SMOOTHING: f64 = 1e-5;

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
    /// Half the Dice of the whole batch, half the mean Dice of its samples with tumour, plus cross-entropy.
    ///
    /// For tumours of few pixels, which the Dice of the batch hardly sees beside large ones. Where no sample has tumour
    /// the second half is 0.
    TumourDiceCe,
}

impl Loss {
    /// The loss of logits against targets in 0..=1, both `[batch, 1, height, width]`; targets are constants.
    pub fn forward<B: Losses>(self, logits: Tensor<B, 4>, target: Tensor<B, 4>) -> Tensor<B, 1> {
        tensor(B::loss(self, primitive(logits), primitive(target)))
    }

    /// The shares of the Dice of all pixels of a batch together, of the mean Dice of its samples, and of that of its
    /// samples with tumour.
    fn shares(self) -> Shares {
        let [batch, samples, with_tumour] = match self {
            Self::DiceFocal | Self::DiceCe => [0.0, 1.0, 0.0],
            Self::BatchDiceCe => [1.0, 0.0, 0.0],
            Self::TumourDiceCe => [0.5, 0.0, 0.5],
        };
        Shares {
            batch,
            samples,
            with_tumour,
        }
    }
}

/// See [`Loss::shares`].
#[derive(Clone, Copy, Debug)]
struct Shares {
    batch: f64,
    samples: f64,
    with_tumour: f64,
}

/// A backend with losses.
pub trait Losses: Backend {
    /// See [`Loss::forward`]: `[1]`.
    fn loss(loss: Loss, logits: FloatTensor<Self>, target: FloatTensor<Self>) -> FloatTensor<Self> {
        primitive(compose::<Self>(loss, tensor(logits), tensor(target)))
    }

    /// The loss and its gradient by the logits, where the backend has a kernel for both at once.
    fn loss_and_gradient(
        _loss: Loss,
        _logits: FloatTensor<Self>,
        _target: FloatTensor<Self>,
    ) -> Option<(FloatTensor<Self>, FloatTensor<Self>)> {
        None
    }
}

#[cfg(feature = "cuda")]
impl Losses for burn::backend::Cuda {}

#[cfg(feature = "tch")]
impl Losses for burn::backend::LibTorch {}
