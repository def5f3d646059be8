//! The residual block of the lean networks and of decoders (He et al. 2016).

use super::graph::{Graph, Init, Value};

/// Two 3x3 convolutions beside the identity, rectified after the first and after the sum.
pub(super) fn residual_block(
    graph: &mut Graph,
    name: &str,
    input: Value,
    batch_norm: bool,
) -> Value {
    let width = graph.nodes[input].channels;
    let x = convolution(
        graph,
        &format!("{name}.0"),
        input,
        width,
        1,
        Init::He,
        batch_norm,
    );
    let x = graph.relu(x);
    // Without normalisation the branch must start at zero, or activations grow with depth (Zhang et al. 2019, "Fixup").
    let last = if batch_norm { Init::He } else { Init::Zero };
    let x = convolution(graph, &format!("{name}.1"), x, width, 1, last, batch_norm);
    let x = graph.add(x, input);
    graph.relu(x)
}

/// A 3x3 convolution, with `batch_norm` followed by a batch normalisation.
pub(super) fn convolution(
    graph: &mut Graph,
    name: &str,
    input: Value,
    output: usize,
    stride: usize,
    init: Init,
    batch_norm: bool,
) -> Value {
    let x = graph.convolution(name, input, output, 3, stride, init);
    if batch_norm {
        graph.batch_norm(&format!("{name}.norm"), x)
    } else {
        x
    }
}
