//! Batch normalisation folded into the convolution before it.
//!
//! At inference it is y = (x - mean) * scale / sqrt(variance + epsilon) + shift, one affine map a channel, which a
//! convolution can take over: its kernel times the factor, its bias mapped.

use crate::networks::graph::{Convolution, Graph, Operation};
use crate::networks::{Weights, WeightsError};

use super::values;

/// A batch normalisation that disappears into the convolution whose value it reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Folded {
    scale: usize,
    mean: usize,
    epsilon: f64,
}

/// For every node the batch normalisation that folds into it; only convolutions that feed nothing else have one.
pub(super) fn foldable(graph: &Graph) -> Vec<Option<Folded>> {
    let mut uses = vec![0_usize; graph.nodes.len()];
    for &input in graph.nodes.iter().flat_map(|node| &node.inputs) {
        uses[input] += 1;
    }
    let mut folded = vec![None; graph.nodes.len()];
    for node in &graph.nodes {
        let Operation::BatchNorm {
            scale,
            mean,
            epsilon,
        } = node.operation
        else {
            continue;
        };
        let input = node.inputs[0];
        let convolves = matches!(
            graph.nodes[input].operation,
            Operation::Convolution(_) | Operation::Depthwise(_) | Operation::Upconvolution(_)
        );
        if convolves && uses[input] == 1 {
            folded[input] = Some(Folded {
                scale,
                mean,
                epsilon,
            });
        }
    }
    folded
}

/// Kernel and bias of a convolution that does the work of the batch normalisation after it, too.
pub(super) fn fold(
    graph: &Graph,
    weights: &Weights,
    convolution: &Convolution,
    transposed: bool,
    folded: Folded,
) -> Result<(Vec<f32>, Vec<f32>), WeightsError> {
    let kernel = values(weights, &graph.kernels[convolution.weight])?;
    let bias = values(weights, &graph.vectors[convolution.bias])?;
    let shift = values(weights, &graph.vectors[folded.scale + 1])?;
    let mean = values(weights, &graph.statistics[folded.mean])?;
    let factors = factors(graph, weights, folded)?;
    let kernel = kernel
        .iter()
        .enumerate()
        .map(|(i, &value)| {
            let factor = factors[output_channel(i, convolution, transposed)];
            (f64::from(value) * factor) as f32
        })
        .collect();
    let bias = factors
        .iter()
        .enumerate()
        .map(|(i, factor)| {
            let centred = f64::from(bias[i]) - f64::from(mean[i]);
            (centred * factor + f64::from(shift[i])) as f32
        })
        .collect();
    Ok((kernel, bias))
}

/// What the convolution's outputs are multiplied by, by channel; in f64, since folding is to add no rounding of its own
/// beyond that of the result.
pub(super) fn factors(
    graph: &Graph,
    weights: &Weights,
    folded: Folded,
) -> Result<Vec<f64>, WeightsError> {
    let scale = values(weights, &graph.vectors[folded.scale])?;
    let variance = values(weights, &graph.statistics[folded.mean + 1])?;
    Ok(scale
        .iter()
        .zip(variance)
        .map(|(&scale, &variance)| f64::from(scale) / (f64::from(variance) + folded.epsilon).sqrt())
        .collect())
}

/// The output channel that a value of the kernel belongs to: kernels are `[out, in, k, k]`, or `[in, out, k, k]` where
/// the convolution is transposed.
pub(super) fn output_channel(index: usize, convolution: &Convolution, transposed: bool) -> usize {
    let taps = convolution.kernel * convolution.kernel;
    let values_by_output = if transposed {
        taps
    } else {
        convolution.input * taps
    };
    index / values_by_output % convolution.output
}
