//! A network as a list of operations: written once, run by burn, exported to ONNX and counted from the same list.

use crate::kernels::EPSILON;

/// Index of a value: the output of the node at that position.
pub type Value = usize;

/// How freshly made weights are drawn.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Init {
    /// U(-1/sqrt(fan in), 1/sqrt(fan in)): PyTorch's default for convolutions, weights and biases alike.
    Torch,
    /// N(0, 2/fan in) with zero biases (He et al. 2015), for layers followed by a rectifier.
    He,
    /// Zero weights and biases: the last convolution of a residual branch, which then starts as the identity.
    Zero,
}

/// A 2-D convolution, square kernel, zero padding of `kernel / 2`.
#[derive(Clone, Debug, PartialEq)]
pub struct Convolution {
    /// Channels that an output channel sees: all channels in, or one where every channel is convolved by itself.
    pub input: usize,
    /// Channels out.
    pub output: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Step in both directions.
    pub stride: usize,
    /// Position of the kernel among [`Graph::kernels`].
    pub weight: usize,
    /// Position of the bias among [`Graph::vectors`].
    pub bias: usize,
}

/// One operation on feature maps `[batch, channels, height, width]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// The image: `[batch, channels, height, width]`.
    Input,
    /// A convolution.
    Convolution(Convolution),
    /// A convolution of every channel by itself; kernels are `[channels, 1, k, k]`.
    Depthwise(Convolution),
    /// The transposed convolution that doubles height and width: stride 2; kernel 2 (padding 0), 3 (padding 1,
    /// output padding 1) or 4 (padding 1).
    Upconvolution(Convolution),
    /// Batch normalisation with learned scale and shift.
    BatchNorm {
        /// Position of the scale among [`Graph::vectors`]; the shift follows it.
        scale: usize,
        /// Position of the running mean among [`Graph::statistics`]; the running variance follows it.
        mean: usize,
        /// Added to variances before the square root.
        epsilon: f64,
    },
    /// Instance normalisation without learned parameters.
    InstanceNorm,
    /// Parametric rectifier with one slope for all channels, at this position among [`Graph::vectors`].
    PRelu(usize),
    /// max(0, x).
    Relu,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// In training, zeroes values with this probability and scales the others up; otherwise nothing.
    Dropout(f64),
    /// Repeats every pixel twice in both directions.
    Repeat,
    /// Sum of two values of equal shape.
    Add,
    /// Product; the second value has one channel, which is repeated.
    Multiply,
    /// Channels of the first value, then those of the second.
    Concatenate,
    /// Columns in reverse order.
    Mirror,
    /// The value times a constant.
    Scale(f32),
}

/// An operation with its operands.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// What is done.
    pub operation: Operation,
    /// To which values.
    pub inputs: Vec<Value>,
    /// Channels of the result.
    pub channels: usize,
    /// By how much height and width of the result are smaller than those of the image.
    pub reduction: usize,
}

/// A learned tensor, or a statistic: its name (the one MONAI gives it), shape and first values.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter<const D: usize> {
    /// Name as in MONAI's `state_dict`.
    pub name: String,
    /// Shape.
    pub shape: [usize; D],
    /// How its first values are made.
    pub fill: Fill,
}

/// First values of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    /// The same value everywhere.
    Constant(f32),
    /// Drawn from U(-limit, limit).
    Uniform(f32),
    /// Drawn from a normal distribution with mean 0 and this standard deviation.
    Normal(f32),
}

/// A network: operations in the order in which they run; the last one gives the logits `[batch, 1, height, width]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Operations; every input of a node stands before it.
    pub nodes: Vec<Node>,
    /// Convolution kernels: `[out, in, k, k]` (`in` is 1 for convolutions of every channel by itself), or
    /// `[in, out, k, k]` for transposed convolutions.
    pub kernels: Vec<Parameter<4>>,
    /// Biases, scales, shifts, slopes.
    pub vectors: Vec<Parameter<1>>,
    /// Running means and variances of batch normalisations: not learned.
    pub statistics: Vec<Parameter<1>>,
}

impl Graph {
    /// A graph that holds only its input of `channels` channels.
    #[must_use]
    pub fn new(channels: usize) -> Self {
        Self {
            nodes: vec![Node {
                operation: Operation::Input,
                inputs: Vec::new(),
                channels,
                reduction: 1,
            }],
            ..Self::default()
        }
    }

    /// The value that enters the network.
    #[must_use]
    pub fn input(&self) -> Value {
        0
    }

    /// Number of learned values.
    #[must_use]
    pub fn parameters(&self) -> usize {
        let kernels = self
            .kernels
            .iter()
            .map(|k| k.shape.iter().product::<usize>());
        let vectors = self.vectors.iter().map(|v| v.shape[0]);
        kernels.chain(vectors).sum()
    }

    /// By how much height and width of an image must be divisible.
    #[must_use]
    pub fn divisor(&self) -> usize {
        self.nodes.iter().map(|n| n.reduction).max().unwrap_or(1)
    }

    /// Multiply-accumulate operations of all convolutions for one image of `width` by `height` pixels.
    #[must_use]
    pub fn multiply_accumulates(&self, width: usize, height: usize) -> u64 {
        self.nodes
            .iter()
            .map(|node| {
                let pixels = (width / node.reduction) * (height / node.reduction);
                match &node.operation {
                    Operation::Convolution(c) | Operation::Depthwise(c) => {
                        c.input * c.output * c.kernel.pow(2) * pixels
                    }
                    // Every pixel of the input, a quarter of those of the output, meets every tap.
                    Operation::Upconvolution(c) => {
                        c.input * c.output * c.kernel.pow(2) * pixels / 4
                    }
                    _ => 0,
                }
            })
            .sum::<usize>() as u64
    }

    fn push(
        &mut self,
        operation: Operation,
        inputs: Vec<Value>,
        channels: usize,
        reduction: usize,
    ) -> Value {
        self.nodes.push(Node {
            operation,
            inputs,
            channels,
            reduction,
        });
        self.nodes.len() - 1
    }

    fn same(&mut self, operation: Operation, input: Value) -> Value {
        let (channels, reduction) = (self.nodes[input].channels, self.nodes[input].reduction);
        self.push(operation, vec![input], channels, reduction)
    }

    fn vector(&mut self, name: String, length: usize, fill: Fill) -> usize {
        self.vectors.push(Parameter {
            name,
            shape: [length],
            fill,
        });
        self.vectors.len() - 1
    }

    fn fills(init: Init, fan_in: usize) -> (Fill, Fill) {
        let fan_in = fan_in as f32;
        match init {
            Init::Torch => {
                let limit = 1.0 / fan_in.sqrt();
                (Fill::Uniform(limit), Fill::Uniform(limit))
            }
            Init::He => (Fill::Normal((2.0 / fan_in).sqrt()), Fill::Constant(0.0)),
            Init::Zero => (Fill::Constant(0.0), Fill::Constant(0.0)),
        }
    }

    /// A convolution with bias; `name` is that of the layer.
    pub fn convolution(
        &mut self,
        name: &str,
        input: Value,
        output: usize,
        kernel: usize,
        stride: usize,
        init: Init,
    ) -> Value {
        let channels = self.nodes[input].channels;
        let convolution = self.filters(name, channels, output, kernel, stride, init);
        let reduction = self.nodes[input].reduction * stride;
        let operation = Operation::Convolution(convolution);
        self.push(operation, vec![input], output, reduction)
    }

    /// Kernels `[output, input, kernel, kernel]` and biases of a convolution.
    fn filters(
        &mut self,
        name: &str,
        input: usize,
        output: usize,
        kernel: usize,
        stride: usize,
        init: Init,
    ) -> Convolution {
        let (weight, bias) = Self::fills(init, input * kernel * kernel);
        self.kernels.push(Parameter {
            name: format!("{name}.weight"),
            shape: [output, input, kernel, kernel],
            fill: weight,
        });
        Convolution {
            input,
            output,
            kernel,
            stride,
            weight: self.kernels.len() - 1,
            bias: self.vector(format!("{name}.bias"), output, bias),
        }
    }

    /// A convolution of every channel by itself, with bias; `name` is that of the layer.
    pub fn depthwise(
        &mut self,
        name: &str,
        input: Value,
        kernel: usize,
        stride: usize,
        init: Init,
    ) -> Value {
        let channels = self.nodes[input].channels;
        let convolution = self.filters(name, 1, channels, kernel, stride, init);
        let reduction = self.nodes[input].reduction * stride;
        let operation = Operation::Depthwise(convolution);
        self.push(operation, vec![input], channels, reduction)
    }

    /// A transposed convolution with bias that doubles height and width.
    pub fn upconvolution(
        &mut self,
        name: &str,
        input: Value,
        output: usize,
        kernel: usize,
        init: Init,
    ) -> Value {
        let channels = self.nodes[input].channels;
        // PyTorch counts the fan-in of a transposed convolution along the second axis of its kernel: the outputs.
        let (weight, bias) = Self::fills(init, output * kernel * kernel);
        self.kernels.push(Parameter {
            name: format!("{name}.weight"),
            shape: [channels, output, kernel, kernel],
            fill: weight,
        });
        let bias = self.vector(format!("{name}.bias"), output, bias);
        let operation = Operation::Upconvolution(Convolution {
            input: channels,
            output,
            kernel,
            stride: 2,
            weight: self.kernels.len() - 1,
            bias,
        });
        let reduction = self.nodes[input].reduction / 2;
        self.push(operation, vec![input], output, reduction)
    }

    /// Batch normalisation; `name` is that of the layer.
    pub fn batch_norm(&mut self, name: &str, input: Value) -> Value {
        self.batch_norm_with(name, input, EPSILON)
    }

    /// Batch normalisation with `epsilon` added to variances; `name` is that of the layer.
    pub fn batch_norm_with(&mut self, name: &str, input: Value, epsilon: f64) -> Value {
        let channels = self.nodes[input].channels;
        let scale = self.vector(format!("{name}.weight"), channels, Fill::Constant(1.0));
        self.vector(format!("{name}.bias"), channels, Fill::Constant(0.0));
        for (statistic, fill) in [("running_mean", 0.0), ("running_var", 1.0)] {
            self.statistics.push(Parameter {
                name: format!("{name}.{statistic}"),
                shape: [channels],
                fill: Fill::Constant(fill),
            });
        }
        let mean = self.statistics.len() - 2;
        let operation = Operation::BatchNorm {
            scale,
            mean,
            epsilon,
        };
        self.same(operation, input)
    }

    /// Instance normalisation.
    pub fn instance_norm(&mut self, input: Value) -> Value {
        self.same(Operation::InstanceNorm, input)
    }

    /// Parametric rectifier, slope 0.25 at first; `name` is that of the layer.
    pub fn prelu(&mut self, name: &str, input: Value) -> Value {
        let slope = self.vector(format!("{name}.weight"), 1, Fill::Constant(0.25));
        self.same(Operation::PRelu(slope), input)
    }

    /// Rectifier.
    pub fn relu(&mut self, input: Value) -> Value {
        self.same(Operation::Relu, input)
    }

    /// Logistic function.
    pub fn sigmoid(&mut self, input: Value) -> Value {
        self.same(Operation::Sigmoid, input)
    }

    /// Dropout; a rate of zero adds nothing to the graph.
    pub fn dropout(&mut self, rate: f64, input: Value) -> Value {
        if rate == 0.0 {
            input
        } else {
            self.same(Operation::Dropout(rate), input)
        }
    }

    /// Every pixel twice in both directions.
    pub fn repeat(&mut self, input: Value) -> Value {
        let (channels, reduction) = (self.nodes[input].channels, self.nodes[input].reduction);
        self.push(Operation::Repeat, vec![input], channels, reduction / 2)
    }

    /// Sum.
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        let (channels, reduction) = (self.nodes[a].channels, self.nodes[a].reduction);
        self.push(Operation::Add, vec![a, b], channels, reduction)
    }

    /// Product of a value with a single-channel one.
    pub fn multiply(&mut self, value: Value, gate: Value) -> Value {
        let (channels, reduction) = (self.nodes[value].channels, self.nodes[value].reduction);
        self.push(Operation::Multiply, vec![value, gate], channels, reduction)
    }

    /// Columns in reverse order.
    pub fn mirror(&mut self, input: Value) -> Value {
        self.same(Operation::Mirror, input)
    }

    /// The value times `factor`; a factor of one adds nothing to the graph.
    pub fn scale(&mut self, factor: f32, input: Value) -> Value {
        if factor == 1.0 {
            input
        } else {
            self.same(Operation::Scale(factor), input)
        }
    }

    /// Channels of `a`, then those of `b`.
    pub fn concatenate(&mut self, a: Value, b: Value) -> Value {
        let channels = self.nodes[a].channels + self.nodes[b].channels;
        let reduction = self.nodes[a].reduction;
        self.push(Operation::Concatenate, vec![a, b], channels, reduction)
    }
}
