//! The Attention U-Net (Oktay et al. 2018) in MONAI's form.
//!
//! As `monai.networks.nets.AttentionUnet` with `channels = (f, 2f, 4f, 8f, 16f)` and `strides = (2, 2, 2, 2)`.

use super::graph::{Graph, Init, Value};

const LEVELS: usize = 5;

/// The Attention U-Net with `filters` channels in its first block.
#[must_use]
pub fn attention_unet(filters: usize, dropout: f64) -> Graph {
    let mut graph = Graph::new(3);
    let input = graph.input();
    let head = double_convolution(&mut graph, "model.0", input, filters, 1, dropout);
    let decoded = attention_layer(&mut graph, "model.1", head, 0, filters, dropout);
    graph.convolution("model.2.conv", decoded, 1, 1, 1, Init::Torch);
    graph
}

/// Everything below `input`, brought back up, gated against `input` and merged with it.
fn attention_layer(
    graph: &mut Graph,
    name: &str,
    input: Value,
    depth: usize,
    filters: usize,
    dropout: f64,
) -> Value {
    let channels = filters << depth;
    let below = format!("{name}.submodule");
    let lower = if depth + 2 == LEVELS {
        double_convolution(graph, &below, input, channels * 2, 2, dropout)
    } else {
        let encoded = double_convolution(
            graph,
            &format!("{below}.0"),
            input,
            channels * 2,
            2,
            dropout,
        );
        attention_layer(
            graph,
            &format!("{below}.1"),
            encoded,
            depth + 1,
            filters,
            dropout,
        )
    };

    let up = format!("{name}.upconv.up");
    let x = graph.upconvolution(&format!("{up}.conv"), lower, channels, 3, Init::Torch);
    let from_lower = rectified(graph, &up, x, dropout);

    let attended = attention_gate(graph, &format!("{name}.attention"), from_lower, input);
    let joined = graph.concatenate(attended, from_lower);
    let merge = format!("{name}.merge");
    let x = graph.convolution(
        &format!("{merge}.conv"),
        joined,
        channels,
        3,
        1,
        Init::Torch,
    );
    let x = graph.instance_norm(x);
    let x = graph.dropout(dropout, x);
    graph.prelu(&format!("{merge}.adn.A"), x)
}

/// The additive attention gate: `skip` weighted by what `gate` and `skip` say together.
fn attention_gate(graph: &mut Graph, name: &str, gate: Value, skip: Value) -> Value {
    let inner = graph.nodes[skip].channels / 2;
    let mut project = |branch: &str, input: Value, output: usize| {
        let layer = format!("{name}.{branch}");
        let x = graph.convolution(&format!("{layer}.0.conv"), input, output, 1, 1, Init::Torch);
        graph.batch_norm(&format!("{layer}.1"), x)
    };
    let g = project("W_g", gate, inner);
    let x = project("W_x", skip, inner);
    let sum = graph.add(g, x);
    let sum = graph.relu(sum);
    let psi = graph.convolution(&format!("{name}.psi.0.conv"), sum, 1, 1, 1, Init::Torch);
    let psi = graph.batch_norm(&format!("{name}.psi.1"), psi);
    let psi = graph.sigmoid(psi);
    graph.multiply(skip, psi)
}

/// Two convolutions, each batch-normalised and rectified; the first one strides.
fn double_convolution(
    graph: &mut Graph,
    name: &str,
    input: Value,
    output: usize,
    stride: usize,
    dropout: f64,
) -> Value {
    let mut x = input;
    for (position, stride) in [(0, stride), (1, 1)] {
        let layer = format!("{name}.conv.{position}");
        x = graph.convolution(&format!("{layer}.conv"), x, output, 3, stride, Init::Torch);
        x = rectified(graph, &layer, x, dropout);
    }
    x
}

/// MONAI's order "NDA" with batch normalisation and a plain rectifier.
fn rectified(graph: &mut Graph, name: &str, input: Value, dropout: f64) -> Value {
    let x = graph.batch_norm(&format!("{name}.adn.N"), input);
    let x = graph.dropout(dropout, x);
    graph.relu(x)
}
