//! A U-Net whose encoder is EfficientNet-Lite0, trained on ImageNet.
//!
//! EfficientNet-Lite (Tan and Le 2019, in the form without squeeze-and-excitation that Google published for small
//! processors) is made of inverted residual blocks: a 1x1 convolution to six times the channels, a convolution of every
//! channel by itself, a 1x1 convolution back (Sandler et al. 2018). Its first six stages are taken, down to a 32nd of
//! the resolution, with rectifiers that have no upper bound. The decoder is that of a lean network: a 1x1 convolution
//! before each enlargement, sums in place of concatenations, residual blocks.

use half::f16;
use safetensors::{Dtype, SafeTensors};

use super::Weights;
use super::graph::{Graph, Init, Value};
use super::residual::residual_block;

/// The encoder's first weights by the names of [`efficient_lite0`]'s parameters; `training/encoders` says how they were
/// made of the published ones.
static ENCODER: &[u8] = include_bytes!("../../encoders/efficientnet-lite0.safetensors");

/// What the published network adds to variances.
const EPSILON: f64 = 1e-3;

/// Channels after the first convolution.
const STEM: usize = 32;

/// Blocks of the same channels.
struct Stage {
    blocks: usize,
    kernel: usize,
    /// Of the first block.
    stride: usize,
    /// Factor of the channels between the two 1x1 convolutions; a factor of 1 leaves the first of these out.
    expansion: usize,
    channels: usize,
}

const STAGES: [Stage; 6] = [
    stage(1, 3, 1, 1, 16),
    stage(2, 3, 2, 6, 24),
    stage(2, 5, 2, 6, 40),
    stage(3, 3, 2, 6, 80),
    stage(3, 5, 1, 6, 112),
    stage(4, 5, 2, 6, 192),
];

/// Channels of the decoder, from half the resolution down.
const DECODER: [usize; 4] = [16, 24, 48, 96];

const fn stage(
    blocks: usize,
    kernel: usize,
    stride: usize,
    expansion: usize,
    channels: usize,
) -> Stage {
    Stage {
        blocks,
        kernel,
        stride,
        expansion,
        channels,
    }
}

/// The network; the encoder's parameters have the names of the published ones.
#[must_use]
pub fn efficient_lite0(dropout: f64) -> Graph {
    let mut graph = Graph::new(3);
    let image = graph.input();
    let mut x = graph.convolution("_conv_stem", image, STEM, 3, 2, Init::He);
    x = normalised(&mut graph, "_bn0", x);
    x = graph.relu(x);
    let mut skips = Vec::new();
    let mut block = 0;
    for stage in STAGES {
        if stage.stride == 2 {
            skips.push(x);
        }
        for position in 0..stage.blocks {
            let stride = if position == 0 { stage.stride } else { 1 };
            x = inverted_residual(&mut graph, block, x, &stage, stride);
            block += 1;
        }
    }
    x = graph.dropout(dropout, x);
    for (level, skip) in skips.into_iter().enumerate().rev() {
        let channels = DECODER[level];
        x = graph.convolution(&format!("up{level}"), x, channels, 1, 1, Init::Torch);
        x = graph.repeat(x);
        let lateral = format!("lateral{level}");
        let skip = graph.convolution(&lateral, skip, channels, 1, 1, Init::Torch);
        x = graph.add(x, skip);
        if level > 0 {
            x = residual_block(&mut graph, &format!("decoder{level}"), x, true);
        }
    }
    graph.upconvolution("head", x, 1, 4, Init::Torch);
    graph
}

fn inverted_residual(
    graph: &mut Graph,
    block: usize,
    input: Value,
    stage: &Stage,
    stride: usize,
) -> Value {
    let name = |layer: &str| format!("_blocks.{block}.{layer}");
    let channels = graph.nodes[input].channels;
    let mut x = input;
    if stage.expansion > 1 {
        let wide = channels * stage.expansion;
        x = graph.convolution(&name("_expand_conv"), x, wide, 1, 1, Init::He);
        x = normalised(graph, &name("_bn0"), x);
        x = graph.relu(x);
    }
    x = graph.depthwise(&name("_depthwise_conv"), x, stage.kernel, stride, Init::He);
    x = normalised(graph, &name("_bn1"), x);
    x = graph.relu(x);
    x = graph.convolution(&name("_project_conv"), x, stage.channels, 1, 1, Init::He);
    x = normalised(graph, &name("_bn2"), x);
    if stride == 1 && channels == stage.channels {
        x = graph.add(x, input);
    }
    x
}

fn normalised(graph: &mut Graph, name: &str, input: Value) -> Value {
    graph.batch_norm_with(name, input, EPSILON)
}

/// The encoder's weights from ImageNet. Biases before normalisations, which the published network lacks, are not among
/// them.
///
/// # Panics
/// Never: the file is part of the program, and a test reads it.
#[must_use]
pub fn efficient_lite0_encoder() -> Weights {
    let file = SafeTensors::deserialize(ENCODER).expect("the embedded file is whole");
    let tensors = file.iter().map(|(name, tensor)| {
        let bytes = tensor.data();
        let values = match tensor.dtype() {
            Dtype::F16 => {
                let (values, _) = bytes.as_chunks::<2>();
                values
                    .iter()
                    .map(|&v| f16::from_le_bytes(v).to_f32())
                    .collect()
            }
            _ => {
                let (values, _) = bytes.as_chunks::<4>();
                values.iter().map(|&v| f32::from_le_bytes(v)).collect()
            }
        };
        (name.to_owned(), values)
    });
    tensors.collect()
}
