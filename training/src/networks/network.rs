//! A [`Graph`] with weights, run by burn.

use std::collections::BTreeMap;

use burn::module::{Module, Param, ParamId, RunningState};
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Tensor, TensorData};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::kernels::{EPSILON, Group, Kernels, primitive, tensor};

use super::graph::{Convolution, Fill, Graph, Operation, Parameter, Value};

/// Share of a new batch statistic in the running one: PyTorch's default.
const MOMENTUM: f64 = 0.1;

/// A network: its graph and the tensors that the graph names.
#[derive(Module, Debug)]
pub struct Network<B: Backend> {
    kernels: Vec<Param<Tensor<B, 4>>>,
    vectors: Vec<Param<Tensor<B, 1>>>,
    statistics: Vec<RunningState<Tensor<B, 1>>>,
    #[module(skip)]
    graph: Graph,
}

/// Why weights do not fit a network.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A tensor that the network names is not there.
    #[error("the weights lack `{0}`")]
    Missing(String),
    /// A tensor has another number of values.
    #[error("`{name}` has {actual} values, the network needs {expected}")]
    Length {
        /// Name of the tensor.
        name: String,
        /// Number of values the network needs.
        expected: usize,
        /// Number of values given.
        actual: usize,
    },
    /// A tensor that the network does not know.
    #[error("the network has no `{0}`")]
    Unknown(String),
}

/// Plain values of every parameter and statistic, by name.
pub type Weights = BTreeMap<String, Vec<f32>>;

/// First values of all parameters of `graph`; the same for the same generator state, whatever the backend.
#[must_use]
pub fn fresh_weights(graph: &Graph, rng: &mut ChaCha8Rng) -> Weights {
    fn draw<const D: usize>(parameter: &Parameter<D>, rng: &mut ChaCha8Rng) -> Vec<f32> {
        let count = parameter.shape.iter().product();
        match parameter.fill {
            Fill::Constant(value) => vec![value; count],
            Fill::Uniform(limit) => (0..count)
                .map(|_| rng.random_range(-limit..limit))
                .collect(),
            Fill::Normal(deviation) => (0..count)
                .map(|_| {
                    // Box and Muller (1958); 1 - u keeps the logarithm finite.
                    let radius = (-2.0 * (1.0 - rng.random::<f32>()).ln()).sqrt();
                    let angle = std::f32::consts::TAU * rng.random::<f32>();
                    deviation * radius * angle.cos()
                })
                .collect(),
        }
    }
    let kernels = graph.kernels.iter().map(|p| (p.name.clone(), draw(p, rng)));
    let mut weights: Weights = kernels.collect();
    for parameter in graph.vectors.iter().chain(&graph.statistics) {
        weights.insert(parameter.name.clone(), draw(parameter, rng));
    }
    weights
}

impl<B: Backend> Network<B> {
    /// A network with the given weights.
    ///
    /// # Errors
    /// When a tensor is missing, has the wrong length, or is not known to the graph.
    pub fn new(
        graph: Graph,
        mut weights: Weights,
        device: &B::Device,
    ) -> Result<Self, WeightsError> {
        fn take<B: Backend, const D: usize>(
            weights: &mut Weights,
            parameter: &Parameter<D>,
            device: &B::Device,
        ) -> Result<Tensor<B, D>, WeightsError> {
            let values = weights
                .remove(&parameter.name)
                .ok_or_else(|| WeightsError::Missing(parameter.name.clone()))?;
            let expected = parameter.shape.iter().product();
            if values.len() != expected {
                return Err(WeightsError::Length {
                    name: parameter.name.clone(),
                    expected,
                    actual: values.len(),
                });
            }
            Ok(Tensor::from_data(
                TensorData::new(values, parameter.shape),
                device,
            ))
        }
        let kernels = graph.kernels.iter();
        // An optimiser's state names parameters by their ids: fixed ones let it be read back into a new process.
        let mut ids = (0u64..).map(ParamId::from);
        let mut parameter = || ids.next().unwrap_or_default();
        let kernels = kernels.map(|p| {
            let tensor = take(&mut weights, p, device)?;
            Ok(Param::initialized(parameter(), tensor.require_grad()))
        });
        let kernels = kernels.collect::<Result<_, WeightsError>>()?;
        let vectors = graph.vectors.iter();
        let vectors = vectors.map(|p| {
            let tensor = take(&mut weights, p, device)?;
            Ok(Param::initialized(parameter(), tensor.require_grad()))
        });
        let vectors = vectors.collect::<Result<_, WeightsError>>()?;
        let statistics = graph.statistics.iter();
        let statistics = statistics.map(|p| take(&mut weights, p, device).map(RunningState::new));
        let statistics = statistics.collect::<Result<_, _>>()?;
        if let Some(name) = weights.into_keys().next() {
            return Err(WeightsError::Unknown(name));
        }
        Ok(Self {
            kernels,
            vectors,
            statistics,
            graph,
        })
    }

    /// The operations of this network.
    #[must_use]
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The values of every parameter and statistic.
    #[must_use]
    pub fn weights(&self) -> Weights {
        fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
            tensor.into_data().iter::<f32>().collect()
        }
        let kernels = self.graph.kernels.iter().zip(&self.kernels);
        let kernels = kernels.map(|(p, k)| (p.name.clone(), values(k.val())));
        let vectors = self.graph.vectors.iter().zip(&self.vectors);
        let vectors = vectors.map(|(p, v)| (p.name.clone(), values(v.val())));
        let statistics = self.graph.statistics.iter().zip(&self.statistics);
        let statistics = statistics.map(|(p, s)| (p.name.clone(), values(s.value_sync())));
        kernels.chain(vectors).chain(statistics).collect()
    }

    /// Moves every parameter and statistic towards those of `other`: `keep * self + (1 - keep) * other`.
    ///
    /// # Panics
    /// When the two networks have different graphs.
    #[must_use]
    pub fn average(self, other: &Self, keep: f64) -> Self {
        assert_eq!(self.graph, other.graph, "networks of the same shape");
        fn mix<B: Backend, const D: usize>(
            a: Tensor<B, D>,
            b: Tensor<B, D>,
            keep: f64,
        ) -> Tensor<B, D> {
            a.mul_scalar(keep).add(b.mul_scalar(1.0 - keep))
        }
        let kernels = self.kernels.into_iter().zip(&other.kernels);
        let vectors = self.vectors.into_iter().zip(&other.vectors);
        let statistics = self.statistics.into_iter().zip(&other.statistics);
        Self {
            kernels: kernels
                .map(|(a, b)| a.map(|a| mix(a, b.val(), keep)))
                .collect(),
            vectors: vectors
                .map(|(a, b)| a.map(|a| mix(a, b.val(), keep)))
                .collect(),
            statistics: statistics
                .map(|(a, b)| RunningState::new(mix(a.value_sync(), b.value_sync(), keep)))
                .collect(),
            graph: self.graph,
        }
    }
}

impl<B: Kernels> Network<B> {
    /// Logits `[batch, 1, height, width]` of images `[batch, 3, height, width]`.
    ///
    /// On an autodiff backend the network trains: batch statistics are used and remembered, dropout drops.
    ///
    /// # Panics
    /// When height or width is not a multiple of [`Graph::divisor`].
    pub fn forward(&self, images: Tensor<B, 4>) -> Tensor<B, 4> {
        let training = B::ad_enabled(&images.device());
        let last_use = last_uses(&self.graph);
        let mut values: Vec<Option<Tensor<B, 4>>> = vec![None; self.graph.nodes.len()];
        let mut images = Some(images);
        for (index, node) in self.graph.nodes.iter().enumerate() {
            let mut operands = node.inputs.iter().map(|&input| {
                let value = if last_use[input] == index {
                    values[input].take()
                } else {
                    values[input].clone()
                };
                value.expect("every input of a node stands before it")
            });
            let mut operand = || operands.next().expect("a node has all its operands");
            let result = match &node.operation {
                Operation::Input => images.take().expect("a graph has one input"),
                Operation::Convolution(c) => self.convolution(c, operand()),
                Operation::Depthwise(c) => self.depthwise(c, operand()),
                Operation::Upconvolution(c) => self.upconvolution(c, operand()),
                Operation::BatchNorm {
                    scale,
                    mean,
                    epsilon,
                } => self.batch_norm(operand(), [*scale, *mean], *epsilon, training),
                Operation::InstanceNorm => instance_norm(operand()),
                Operation::PRelu(slope) => {
                    let slope = primitive(self.vectors[*slope].val());
                    tensor(B::rectify(primitive(operand()), slope))
                }
                Operation::Relu => relu(operand()),
                Operation::Sigmoid => sigmoid(operand()),
                Operation::Dropout(rate) => dropout(operand(), *rate, training),
                Operation::Repeat => tensor(B::enlarge(primitive(operand()))),
                Operation::Add => operand().add(operand()),
                Operation::Multiply => operand().mul(operand()),
                Operation::Concatenate => {
                    tensor(B::concatenate(primitive(operand()), primitive(operand())))
                }
                Operation::Mirror => operand().flip([3]),
                Operation::Scale(factor) => operand().mul_scalar(*factor),
            };
            drop(operands);
            values[index] = Some(result);
        }
        values
            .pop()
            .flatten()
            .expect("the last node gives the logits")
    }

    fn convolution(&self, c: &Convolution, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let (weight, bias) = (self.kernels[c.weight].val(), self.vectors[c.bias].val());
        let (x, weight, bias) = (primitive(x), primitive(weight), primitive(bias));
        tensor(B::convolution(x, weight, bias, c.stride))
    }

    fn depthwise(&self, c: &Convolution, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let (weight, bias) = (self.kernels[c.weight].val(), self.vectors[c.bias].val());
        let (x, weight, bias) = (primitive(x), primitive(weight), primitive(bias));
        tensor(B::depthwise(x, weight, bias, c.stride))
    }

    fn upconvolution(&self, c: &Convolution, x: Tensor<B, 4>) -> Tensor<B, 4> {
        let (weight, bias) = (self.kernels[c.weight].val(), self.vectors[c.bias].val());
        tensor(B::upconvolution(
            primitive(x),
            primitive(weight),
            primitive(bias),
        ))
    }

    fn batch_norm(
        &self,
        x: Tensor<B, 4>,
        [scale, mean]: [usize; 2],
        epsilon: f64,
        training: bool,
    ) -> Tensor<B, 4> {
        let [batch, channels, height, width] = x.dims();
        let (gamma, beta) = (self.vectors[scale].val(), self.vectors[scale + 1].val());
        let (running_mean, running_variance) = (&self.statistics[mean], &self.statistics[mean + 1]);
        if !training {
            let deviation = running_variance.value().add_scalar(epsilon).sqrt();
            let factor = gamma.div(deviation);
            let shift = beta.sub(running_mean.value().mul(factor.clone()));
            let (x, factor, shift) = (primitive(x), primitive(factor), primitive(shift));
            return tensor(B::scale_and_shift(x, factor, shift));
        }
        let result = B::normalise(
            primitive(x),
            primitive(gamma),
            primitive(beta),
            Group::Batch,
            epsilon,
        );
        let count = (batch * height * width) as f64;
        // PyTorch normalises by the biased variance and remembers the unbiased one.
        let unbiased = tensor::<B, 3>(result.variance).mul_scalar(count / (count - 1.0).max(1.0));
        for (state, value) in [
            (running_mean, tensor(result.mean)),
            (running_variance, unbiased),
        ] {
            let value = value.detach().reshape([channels]).mul_scalar(MOMENTUM);
            let kept = state.value_sync().mul_scalar(1.0 - MOMENTUM);
            state.update(kept.add(value).detach());
        }
        tensor(result.output)
    }
}

/// For every value the last node that needs it, so that feature maps are freed as early as can be.
fn last_uses(graph: &Graph) -> Vec<Value> {
    let mut last = vec![usize::MAX; graph.nodes.len()];
    for (index, node) in graph.nodes.iter().enumerate() {
        for &input in &node.inputs {
            last[input] = index;
        }
    }
    last
}

fn instance_norm<B: Kernels>(x: Tensor<B, 4>) -> Tensor<B, 4> {
    let (channels, device) = (x.dims()[1], x.device());
    let scale = Tensor::<B, 1>::ones([channels], &device);
    let shift = Tensor::<B, 1>::zeros([channels], &device);
    let result = B::normalise(
        primitive(x),
        primitive(scale),
        primitive(shift),
        Group::Instance,
        EPSILON,
    );
    tensor(result.output)
}

fn dropout<B: Backend>(x: Tensor<B, 4>, rate: f64, training: bool) -> Tensor<B, 4> {
    if !training {
        return x;
    }
    let kept = x.random_like(Distribution::Bernoulli(1.0 - rate));
    x.mul(kept).div_scalar(1.0 - rate)
}
