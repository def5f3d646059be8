//! Random transforms of a batch, on the device that trains.
//!
//! A transform has two halves: what is drawn for a sample (on the host, seeded, a few numbers) and what is done to the
//! whole batch. Images are `[batch, channels, height, width]` with values of 0..=1; the mask travels as one more channel
//! through every geometric transform, so that the two cannot come apart.
//!
//! burn composes the second half from tensor operations, each a pass over memory, most of them on one thread.
//! [`Transforms`] gives every backend one entry for all of it, with those operations as the default and kernels for the
//! CPU.

mod cpu;
mod draw;
mod operations;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

pub use draw::{Augmentation, Draw, Preset};
pub use operations::{blur, compose, factor_and_shift, gamma, noise, sequences, warp};

/// A backend that transforms batches.
pub trait Transforms: Backend {
    /// See [`apply`].
    fn transform(
        stack: Tensor<Self, 4>,
        draws: &[Draw],
        size: [usize; 2],
    ) -> (Tensor<Self, 4>, Tensor<Self, 4>) {
        compose(stack, draws, size)
    }
}

#[cfg(feature = "cuda")]
impl Transforms for burn::backend::Cuda {}

#[cfg(feature = "tch")]
impl Transforms for burn::backend::LibTorch {}

/// Applies the draws: images `[batch, channels, h, w]` and masks `[batch, 1, h, w]` of `size` (columns, rows).
///
/// The stack holds the image channels and, last, the mask: `[batch, channels + 1, height, width]`, of at least 2x2
/// pixels.
///
/// # Panics
/// When there are not as many draws as samples, or a draw changes a sequence of images that have not three channels.
pub fn apply<B: Transforms>(
    stack: Tensor<B, 4>,
    draws: &[Draw],
    size: [usize; 2],
) -> (Tensor<B, 4>, Tensor<B, 4>) {
    B::transform(stack, draws, size)
}
