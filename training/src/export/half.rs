//! Kernels rounded to half precision, which halves the file and moves no mask by more than a stray pixel.

use half::f16;

use super::fold::{factors, foldable, output_channel};
use super::{ExportError, values};
use crate::networks::graph::Operation;
use crate::networks::{Graph, Weights};

/// The weights whose kernels, with the batch normalisations after them folded in, are numbers of half precision (IEEE
/// 754 binary16).
///
/// A file that stores kernels at [`Precision::Half`](super::Precision::Half) computes what a network with these weights
/// computes, so that it can be proven and scored like any other.
///
/// # Errors
/// [`ExportError::Weights`], and [`ExportError::Overflow`] for a kernel with values beyond ±65,504.
pub fn rounded(graph: &Graph, weights: &Weights) -> Result<Weights, ExportError> {
    let mut rounded = weights.clone();
    for (node, folded) in graph.nodes.iter().zip(foldable(graph)) {
        let (convolution, transposed) = match &node.operation {
            Operation::Convolution(c) | Operation::Depthwise(c) => (c, false),
            Operation::Upconvolution(c) => (c, true),
            _ => continue,
        };
        let factors = folded
            .map(|folded| factors(graph, weights, folded))
            .transpose()?;
        let parameter = &graph.kernels[convolution.weight];
        let kernel = values(weights, parameter)?.iter().enumerate();
        let kernel = kernel.map(|(i, &value)| {
            let factor = factors
                .as_ref()
                .map_or(1.0, |f| f[output_channel(i, convolution, transposed)]);
            // By way of f32, as the file is written: whether `from_f64` goes that way depends on the processor.
            let stored = f16::from_f32((f64::from(value) * factor) as f32);
            if !stored.is_finite() {
                return Err(ExportError::Overflow(parameter.name.clone()));
            }
            // A channel that is multiplied by nothing is zero whatever its kernel.
            Ok(if factor == 0.0 {
                value
            } else {
                (stored.to_f64() / factor) as f32
            })
        });
        rounded.insert(parameter.name.clone(), kernel.collect::<Result<_, _>>()?);
    }
    Ok(rounded)
}
