//! The exported file, as the inference engine runs it, against the trained network.

use burn::tensor::{Tensor, TensorData};

use super::ExportError;
use crate::kernels::Kernels;
use crate::networks;

/// Largest difference of a logit of the file from that of the network, in proportion beyond 10; it moves a probability
/// by at most 2.5e-5.
pub const TOLERANCE: f32 = 1e-4;

/// Beyond this size a logit's difference counts in proportion.
///
/// The probability is within 4.6e-5 of 0 or 1 there, whatever the logit. Single precision holds seven digits: two ways of
/// taking the same sums cannot agree to 1e-4 on a logit of -180, which networks without calibration do give.
const SATURATED: f32 = 10.0;

/// How far `ours` is from `theirs`: the absolute difference of two logits, a tenth of the size of `theirs` taken as the
/// unit where that is more than 1. NaN where either is.
fn deviation(ours: f32, theirs: f32) -> f32 {
    (ours - theirs).abs() / (theirs.abs() / SATURATED).max(1.0)
}

/// Runs the file with the inference engine and the network with burn on the same inputs; gives the largest difference
/// of two logits, in proportion where they are larger than 10.
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
            .map(|(&ours, theirs)| deviation(ours, theirs))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_probability_moves_further_than_it_may() {
        let sigmoid = |x: f32| 1.0 / (1.0 + (-f64::from(x)).exp());
        for theirs in [0.0f32, 0.5, -3.0, 9.9, -10.1, 12.0, -20.0, 180.0] {
            let most = TOLERANCE * (theirs.abs() / SATURATED).max(1.0);
            let ours = theirs + 0.99 * most;
            assert!(deviation(ours, theirs) <= TOLERANCE, "{theirs}");
            assert!(
                deviation(theirs + 1.1 * most, theirs) > TOLERANCE,
                "{theirs}"
            );
            assert!(
                (sigmoid(ours) - sigmoid(theirs)).abs() <= 2.5e-5,
                "{theirs}"
            );
        }
        assert!(deviation(f32::NAN, 0.0).is_nan());
        assert!(deviation(0.0, f32::NAN).is_nan());
        assert!(deviation(0.0, f32::INFINITY).is_nan());
    }
}
