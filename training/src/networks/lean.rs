//! A U-Net made for one CPU core: few full-resolution channels, residual blocks, sums in place of concatenations.
//!
//! The first convolution strides, so that nothing but the last layer works on all pixels; skips are added after a 1x1
//! convolution, which runs before the enlargement; every normalisation is a batch normalisation and folds away.

use super::graph::{Graph, Init, Value};
use super::residual::{convolution, residual_block};

/// What a lean network is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Lean {
    /// Channels by level: the first at half the resolution of the image, every further one at half of that.
    pub widths: Vec<usize>,
    /// Residual blocks by level of the encoder.
    pub encoder_blocks: Vec<usize>,
    /// Residual blocks by level of the decoder, from the top; one fewer than levels.
    pub decoder_blocks: Vec<usize>,
    /// Whether convolutions are followed by batch normalisation.
    pub batch_norm: bool,
    /// Dropout at the lowest level.
    pub dropout: f64,
}

impl Lean {
    /// The network as a graph.
    #[must_use]
    pub fn graph(&self) -> Graph {
        let mut graph = Graph::new(3);
        let image = graph.input();
        let mut skips = Vec::with_capacity(self.widths.len());
        let mut x = image;
        for (level, (&width, &blocks)) in self.widths.iter().zip(&self.encoder_blocks).enumerate() {
            x = convolution(
                &mut graph,
                &format!("down{level}"),
                x,
                width,
                2,
                Init::He,
                self.batch_norm,
            );
            x = graph.relu(x);
            for block in 0..blocks {
                x = residual_block(
                    &mut graph,
                    &format!("encoder{level}.{block}"),
                    x,
                    self.batch_norm,
                );
            }
            skips.push(x);
        }
        x = graph.dropout(self.dropout, x);
        for level in (0..self.widths.len() - 1).rev() {
            let name = format!("up{level}");
            x = self.convolution_1x1(&mut graph, &name, x, self.widths[level]);
            x = graph.repeat(x);
            x = graph.add(x, skips[level]);
            for block in 0..self.decoder_blocks[level] {
                x = residual_block(
                    &mut graph,
                    &format!("decoder{level}.{block}"),
                    x,
                    self.batch_norm,
                );
            }
        }
        graph.upconvolution("head", x, 1, 4, Init::Torch);
        graph
    }

    fn convolution_1x1(&self, graph: &mut Graph, name: &str, input: Value, output: usize) -> Value {
        graph.convolution(name, input, output, 1, 1, Init::Torch)
    }
}
