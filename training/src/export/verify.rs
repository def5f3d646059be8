//! The exported file, as the inference engine runs it, against the trained network.

use burn::tensor::{Tensor, TensorData};

use super::ExportError;
use crate::kernels::Kernels;
use crate::networks;

/// Largest absolute difference between a logit of the file and one of the network; it moves a probability by at most
/// 2.5e-5.
pub const TOLERANCE: f32 = 1e-4;

/// Runs the file with the inference engine and the network with burn on the same inputs; gives the largest absolute
/// difference of two logits.
///
/// Every input is what [`prepare`](glioseg_shared::model::preprocess::prepare) makes of a real slice: `3 * height *
/// width` values of the file's size, channel by channel. `network` must be on a backend without autodiff, as
/// `network.valid()` is.
///
/// # Errors
/// [`ExportError::Deviates`] for a difference above [`TOLERANCE`] or a NaN, [`ExportError::NoInputs`],
/// [`ExportError::InputLength`], [`ExportError::Training`] and [`ExportError::Run`].
pub fn verify<'a, B: Kernels>(
    onnx: &[u8],
    network: &networks::Network<B>,
    device: &B::Device,
    inputs: impl IntoIterator<Item = &'a [f32]>,
) -> Result<f32, ExportError> {
    if B::ad_enabled(device) {
        return Err(ExportError::Training);
    }
    let exported = glioseg_shared::model::Network::from_onnx(onnx)?;
    let grid = exported.grid();
    let shape = [1, 3, grid.height, grid.width];
    let expected = shape.iter().product();
    let mut worst = None;
    for (index, input) in inputs.into_iter().enumerate() {
        if input.len() != expected {
            return Err(ExportError::InputLength {
                index,
                actual: input.len(),
                expected,
            });
        }
        let images = Tensor::from_data(TensorData::new(input.to_vec(), shape), device);
        let trained = network.forward(images).into_data().convert::<f32>();
        let deviation = exported
            .logits(input)?
            .iter()
            .zip(trained.iter::<f32>())
            .map(|(ours, theirs)| (ours - theirs).abs())
            // `f32::max` would pass over NaN.
            .fold(
                0.0,
                |most: f32, d| if d > most || d.is_nan() { d } else { most },
            );
        if deviation.is_nan() || deviation > TOLERANCE {
            return Err(ExportError::Deviates { index, deviation });
        }
        worst = Some(deviation.max(worst.unwrap_or(0.0)));
    }
    worst.ok_or(ExportError::NoInputs)
}
