//! Networks made of trained networks: several as one, one that sees its image twice, one with other odds.

use super::graph::{Convolution, Graph, Node, Operation, Parameter, Value};
use super::network::Weights;

/// Where the parameters of a copied graph begin in the lists of the graph that takes it in.
#[derive(Clone, Copy, Default)]
struct Offsets {
    kernels: usize,
    vectors: usize,
    statistics: usize,
}

/// The networks as one, whose logits are the mean of theirs.
///
/// The mean of logits is the logarithmic opinion pool of the members (Heskes 1998). Parameters are named after their
/// member: `member0.` before the names of the first, and so on. Without members, a graph that computes nothing.
#[must_use]
pub fn ensemble(members: &[(Graph, Weights)]) -> (Graph, Weights) {
    let mut graph = Graph::new(3);
    let mut weights = Weights::new();
    let mut sum = None;
    for (index, (member, values)) in members.iter().enumerate() {
        let prefix = format!("member{index}.");
        let offsets = Offsets {
            kernels: graph.kernels.len(),
            vectors: graph.vectors.len(),
            statistics: graph.statistics.len(),
        };
        graph.kernels.extend(renamed(&member.kernels, &prefix));
        graph.vectors.extend(renamed(&member.vectors, &prefix));
        graph
            .statistics
            .extend(renamed(&member.statistics, &prefix));
        let named = values.iter().map(|(n, v)| (format!("{prefix}{n}"), v));
        weights.extend(named.map(|(name, values)| (name, values.clone())));
        let logits = replay(&mut graph, member, 0, offsets);
        sum = Some(match sum {
            None => logits,
            Some(sum) => graph.add(sum, logits),
        });
    }
    if let Some(sum) = sum {
        graph.scale(1.0 / members.len() as f32, sum);
    }
    (graph, weights)
}

/// The network run on the image and on its mirror image (columns reversed); the logits are the mean of both, on the
/// image's own columns.
///
/// The weights are those of `graph`, and are there once.
#[must_use]
pub fn mirrored(graph: &Graph) -> Graph {
    let mut result = graph.clone();
    let logits = result.nodes.len() - 1;
    let image = result.mirror(0);
    let other = replay(&mut result, graph, image, Offsets::default());
    let other = result.mirror(other);
    let sum = result.add(logits, other);
    result.scale(0.5, sum);
    result
}

/// The network with all logits times `factor`.
#[must_use]
pub fn scaled(mut graph: Graph, factor: f32) -> Graph {
    let logits = graph.nodes.len() - 1;
    graph.scale(factor, logits);
    graph
}

fn renamed<const D: usize>(
    parameters: &[Parameter<D>],
    prefix: &str,
) -> impl Iterator<Item = Parameter<D>> {
    parameters.iter().map(move |parameter| Parameter {
        name: format!("{prefix}{}", parameter.name),
        ..parameter.clone()
    })
}

/// Repeats the operations of `from` in `into`, on `image`; gives the logits.
fn replay(into: &mut Graph, from: &Graph, image: Value, offsets: Offsets) -> Value {
    let mut values = Vec::with_capacity(from.nodes.len());
    for node in &from.nodes {
        if node.operation == Operation::Input {
            values.push(image);
            continue;
        }
        into.nodes.push(Node {
            operation: moved(&node.operation, offsets),
            inputs: node.inputs.iter().map(|&input| values[input]).collect(),
            ..node.clone()
        });
        values.push(into.nodes.len() - 1);
    }
    values.last().copied().unwrap_or(image)
}

/// The operation with its parameters at their new places.
fn moved(operation: &Operation, offsets: Offsets) -> Operation {
    let convolution = |c: &Convolution| Convolution {
        weight: c.weight + offsets.kernels,
        bias: c.bias + offsets.vectors,
        ..c.clone()
    };
    match operation {
        Operation::Convolution(c) => Operation::Convolution(convolution(c)),
        Operation::Depthwise(c) => Operation::Depthwise(convolution(c)),
        Operation::Upconvolution(c) => Operation::Upconvolution(convolution(c)),
        Operation::BatchNorm {
            scale,
            mean,
            epsilon,
        } => Operation::BatchNorm {
            scale: scale + offsets.vectors,
            mean: mean + offsets.statistics,
            epsilon: *epsilon,
        },
        Operation::PRelu(slope) => Operation::PRelu(slope + offsets.vectors),
        Operation::Input
        | Operation::InstanceNorm
        | Operation::Relu
        | Operation::Sigmoid
        | Operation::Dropout(_)
        | Operation::Repeat
        | Operation::Add
        | Operation::Multiply
        | Operation::Concatenate
        | Operation::Mirror
        | Operation::Scale(_) => operation.clone(),
    }
}
