//! The UNet in MONAI's form: strided residual units, instance normalisation, parametric rectifiers.
//!
//! Kerfoot et al., "Left-Ventricle Quantification Using Residual U-Net" (STACOM 2018), as `monai.networks.nets.UNet`
//! with `channels = (f, 2f, 4f, 8f, 16f)`, `strides = (2, 2, 2, 2)` and `num_res_units = 2`.

use super::graph::{Graph, Init, Value};

const LEVELS: usize = 5;

/// The UNet with `filters` channels in its first block.
#[must_use]
pub fn unet(filters: usize, dropout: f64) -> Graph {
    let mut graph = Graph::new(3);
    let input = graph.input();
    level(&mut graph, "model", input, 0, filters, dropout);
    graph
}

/// One level: encode with stride 2, everything below, decode back to the size of `input`.
fn level(
    graph: &mut Graph,
    name: &str,
    input: Value,
    depth: usize,
    filters: usize,
    dropout: f64,
) -> Value {
    let channels = filters << depth;
    let encoded = residual_unit(graph, &format!("{name}.0"), input, channels, 2, dropout);
    let below = format!("{name}.1.submodule");
    let inner = if depth + 2 == LEVELS {
        residual_unit(graph, &below, encoded, channels * 2, 1, dropout)
    } else {
        level(graph, &below, encoded, depth + 1, filters, dropout)
    };
    let joined = graph.concatenate(encoded, inner);

    let top = depth == 0;
    let output = if top { 1 } else { channels / 2 };
    let up = format!("{name}.2.0");
    let x = graph.upconvolution(&format!("{up}.conv"), joined, output, 3, Init::Torch);
    let x = normalised(graph, &up, x, dropout);
    let unit = format!("{name}.2.1.conv.unit0");
    let y = graph.convolution(&format!("{unit}.conv"), x, output, 3, 1, Init::Torch);
    let y = if top {
        y
    } else {
        normalised(graph, &unit, y, dropout)
    };
    graph.add(y, x)
}

/// Two convolutions beside a convolution that brings the input to the same shape.
fn residual_unit(
    graph: &mut Graph,
    name: &str,
    input: Value,
    output: usize,
    stride: usize,
    dropout: f64,
) -> Value {
    let kernel = if stride == 1 { 1 } else { 3 };
    let residual = format!("{name}.residual");
    let mut x = input;
    for (unit, stride) in [("unit0", stride), ("unit1", 1)] {
        let unit = format!("{name}.conv.{unit}");
        x = graph.convolution(&format!("{unit}.conv"), x, output, 3, stride, Init::Torch);
        x = normalised(graph, &unit, x, dropout);
    }
    let skip = graph.convolution(&residual, input, output, kernel, stride, Init::Torch);
    graph.add(x, skip)
}

/// MONAI's order "NDA": normalisation, dropout, activation.
fn normalised(graph: &mut Graph, name: &str, input: Value, dropout: f64) -> Value {
    let x = graph.instance_norm(input);
    let x = graph.dropout(dropout, x);
    graph.prelu(&format!("{name}.adn.A"), x)
}
