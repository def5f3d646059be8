//! A [`Graph`] with weights, written as the graph of an ONNX file.

use glioseg_shared::model::{INPUT, OUTPUT};
use half::f16;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto;
use tract_onnx::pb::{
    AttributeProto, GraphProto, NodeProto, TensorProto, TensorShapeProto, TypeProto, ValueInfoProto,
};

use super::fold::{Folded, fold, foldable};
use super::{ExportError, Precision, values};
use crate::kernels::{EPSILON, upconvolution_padding};
use crate::networks::graph::{Convolution, Operation, Parameter, Value};
use crate::networks::{Graph, Weights, WeightsError};

const NAME: &str = "glioseg";
/// Scales of a [`Operation::Repeat`]: batch, channels, rows, columns.
const REPEAT: &str = "repeat.scales";
/// Starts, ends, axes and steps of an [`Operation::Mirror`]: from the last column down to the first, before which no
/// index ends.
const MIRROR: [(&str, i64); 4] = [
    ("mirror.starts", -1),
    ("mirror.ends", i64::MIN),
    ("mirror.axes", 3),
    ("mirror.steps", -1),
];

/// The network for images of `width` by `height` pixels; nodes and initialisers in the graph's order.
pub(super) fn encode(
    graph: &Graph,
    weights: &Weights,
    precision: Precision,
    width: usize,
    height: usize,
) -> Result<GraphProto, ExportError> {
    let divisor = graph.divisor();
    if width == 0
        || height == 0
        || !width.is_multiple_of(divisor)
        || !height.is_multiple_of(divisor)
    {
        return Err(ExportError::Size {
            width,
            height,
            divisor,
        });
    }
    let (first, last) = match graph.nodes.as_slice() {
        [first, .., last] => (first, last),
        _ => {
            return Err(ExportError::Interface {
                input: 0,
                output: 0,
                reduction: 1,
            });
        }
    };
    if (first.channels, last.channels, last.reduction) != (3, 1, 1) {
        return Err(ExportError::Interface {
            input: first.channels,
            output: last.channels,
            reduction: last.reduction,
        });
    }

    let mut encoder = Encoder::new(graph, weights, precision);
    for index in 0..graph.nodes.len() {
        encoder.node(index)?;
    }
    Ok(GraphProto {
        name: NAME.to_owned(),
        node: encoder.nodes,
        initializer: encoder.initializers,
        input: vec![interface(INPUT, first.channels, width, height)],
        output: vec![interface(OUTPUT, last.channels, width, height)],
        ..GraphProto::default()
    })
}

struct Encoder<'a> {
    graph: &'a Graph,
    weights: &'a Weights,
    precision: Precision,
    /// For every node the batch normalisation that folds into it.
    folded: Vec<Option<Folded>>,
    /// The node whose result is the network's: the last one that does something at inference.
    output: Value,
    /// The ONNX name of every value so far; nodes that do nothing pass on that of their operand.
    names: Vec<String>,
    nodes: Vec<NodeProto>,
    initializers: Vec<TensorProto>,
}

impl<'a> Encoder<'a> {
    fn new(graph: &'a Graph, weights: &'a Weights, precision: Precision) -> Self {
        let mut encoder = Self {
            graph,
            weights,
            precision,
            folded: foldable(graph),
            output: graph.nodes.len() - 1,
            names: Vec::with_capacity(graph.nodes.len()),
            nodes: Vec::new(),
            initializers: Vec::new(),
        };
        while encoder.vanishes(encoder.output) {
            encoder.output = graph.nodes[encoder.output].inputs[0];
        }
        encoder
    }

    /// Whether a node does nothing at inference, or its work is done by the convolution before it.
    fn vanishes(&self, index: Value) -> bool {
        let node = &self.graph.nodes[index];
        match node.operation {
            Operation::Dropout(_) => true,
            Operation::BatchNorm { .. } => self.folded[node.inputs[0]].is_some(),
            _ => false,
        }
    }

    fn node(&mut self, index: Value) -> Result<(), WeightsError> {
        let graph = self.graph;
        let node = &graph.nodes[index];
        let operands: Vec<String> = node.inputs.iter().map(|&i| self.names[i].clone()).collect();
        if self.vanishes(index) {
            self.names.extend(operands);
            return Ok(());
        }
        let (operator, parameters, attribute) = match &node.operation {
            // Dropout has vanished above.
            Operation::Input | Operation::Dropout(_) => {
                self.names.push(INPUT.to_owned());
                return Ok(());
            }
            Operation::Convolution(c) => {
                let parameters = self.convolution(index, c, false)?;
                ("Conv", parameters, convolution_attributes(c, c.kernel / 2))
            }
            Operation::Depthwise(c) => {
                let parameters = self.convolution(index, c, false)?;
                let mut attributes = convolution_attributes(c, c.kernel / 2);
                attributes.push(integer("group", c.output as i64));
                ("Conv", parameters, attributes)
            }
            Operation::Upconvolution(c) => {
                let parameters = self.convolution(index, c, true)?;
                let (padding, extra) = upconvolution_padding(c.kernel);
                let mut attributes = convolution_attributes(c, padding);
                attributes.push(integers("output_padding", &[extra; 2]));
                ("ConvTranspose", parameters, attributes)
            }
            Operation::BatchNorm {
                scale,
                mean,
                epsilon,
            } => {
                let parameters = [
                    self.vector(&graph.vectors[*scale])?,
                    self.vector(&graph.vectors[*scale + 1])?,
                    self.vector(&graph.statistics[*mean])?,
                    self.vector(&graph.statistics[*mean + 1])?,
                ];
                (
                    "BatchNormalization",
                    parameters.to_vec(),
                    vec![epsilon_of(*epsilon)],
                )
            }
            Operation::InstanceNorm => {
                let channels = node.channels;
                let scale = self.initializer(&format!("ones.{channels}"), vec![1.0; channels]);
                let shift = self.initializer(&format!("zeros.{channels}"), vec![0.0; channels]);
                (
                    "InstanceNormalization",
                    vec![scale, shift],
                    vec![epsilon_of(EPSILON)],
                )
            }
            Operation::PRelu(slope) => {
                let parameter = &graph.vectors[*slope];
                let slope = values(self.weights, parameter)?.to_vec();
                // ONNX aligns the slope with the last axes: [1, 1, 1] is one slope for all channels.
                let slope = self.shaped_initializer(&parameter.name, &[1, 1, 1], slope);
                ("PRelu", vec![slope], Vec::new())
            }
            Operation::Relu => ("Relu", Vec::new(), Vec::new()),
            Operation::Sigmoid => ("Sigmoid", Vec::new(), Vec::new()),
            Operation::Repeat => {
                let scales = self.initializer(REPEAT, vec![1.0, 1.0, 2.0, 2.0]);
                let attributes = vec![
                    text("coordinate_transformation_mode", "asymmetric"),
                    text("mode", "nearest"),
                    text("nearest_mode", "floor"),
                ];
                // The empty name stands for the region of interest, which only another mode uses.
                ("Resize", vec![String::new(), scales], attributes)
            }
            Operation::Add => ("Add", Vec::new(), Vec::new()),
            Operation::Multiply => ("Mul", Vec::new(), Vec::new()),
            Operation::Concatenate => ("Concat", Vec::new(), vec![integer("axis", 1)]),
            Operation::Mirror => {
                let parameters = MIRROR.map(|(name, value)| self.index(name, value));
                ("Slice", parameters.to_vec(), Vec::new())
            }
            Operation::Scale(factor) => {
                let factor =
                    self.shaped_initializer(&format!("factor.{index}"), &[1], vec![*factor]);
                ("Mul", vec![factor], Vec::new())
            }
        };
        let name = format!("{operator}_{index}");
        let output = if index == self.output {
            OUTPUT.to_owned()
        } else {
            name.clone()
        };
        self.nodes.push(NodeProto {
            name,
            op_type: operator.to_owned(),
            input: operands.into_iter().chain(parameters).collect(),
            output: vec![output.clone()],
            attribute,
            ..NodeProto::default()
        });
        self.names.push(output);
        Ok(())
    }

    /// Adds kernel and bias, with the batch normalisation that follows folded in; gives their names.
    fn convolution(
        &mut self,
        index: Value,
        convolution: &Convolution,
        transposed: bool,
    ) -> Result<Vec<String>, WeightsError> {
        let kernel = &self.graph.kernels[convolution.weight];
        let bias = &self.graph.vectors[convolution.bias];
        let (kernel_values, bias_values) = match self.folded[index] {
            Some(folded) => fold(self.graph, self.weights, convolution, transposed, folded)?,
            None => (
                values(self.weights, kernel)?.to_vec(),
                values(self.weights, bias)?.to_vec(),
            ),
        };
        let kernel = match self.precision {
            Precision::Single => {
                self.shaped_initializer(&kernel.name, &kernel.shape, kernel_values)
            }
            Precision::Half => self.half(&kernel.name, &kernel.shape, &kernel_values),
        };
        Ok(vec![kernel, self.initializer(&bias.name, bias_values)])
    }

    fn vector(&mut self, parameter: &Parameter<1>) -> Result<String, WeightsError> {
        let values = values(self.weights, parameter)?.to_vec();
        Ok(self.initializer(&parameter.name, values))
    }

    fn initializer(&mut self, name: &str, values: Vec<f32>) -> String {
        self.shaped_initializer(name, &[values.len()], values)
    }

    /// Adds a constant tensor, unless one of this name is there already; gives its name.
    fn shaped_initializer(&mut self, name: &str, shape: &[usize], values: Vec<f32>) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes());
        self.constant(name, DataType::Float, shape, bytes.collect());
        name.to_owned()
    }

    /// Adds a list of one whole number; gives its name.
    fn index(&mut self, name: &str, value: i64) -> String {
        self.constant(name, DataType::Int64, &[1], value.to_le_bytes().to_vec());
        name.to_owned()
    }

    /// Adds a constant tensor of half precision and its cast to f32; gives the name of the latter.
    fn half(&mut self, name: &str, shape: &[usize], values: &[f32]) -> String {
        let stored = format!("{name}.half");
        let bytes = values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes());
        if self.constant(&stored, DataType::Float16, shape, bytes.collect()) {
            self.nodes.push(NodeProto {
                name: format!("Cast_{name}"),
                op_type: "Cast".to_owned(),
                input: vec![stored],
                output: vec![name.to_owned()],
                attribute: vec![integer("to", DataType::Float as i64)],
                ..NodeProto::default()
            });
        }
        name.to_owned()
    }

    /// Adds a constant tensor of little-endian values, unless one of this name is there already.
    fn constant(&mut self, name: &str, kind: DataType, shape: &[usize], bytes: Vec<u8>) -> bool {
        let new = !self.initializers.iter().any(|tensor| tensor.name == name);
        if new {
            self.initializers.push(TensorProto {
                dims: shape.iter().map(|&side| side as i64).collect(),
                data_type: kind as i32,
                name: name.to_owned(),
                raw_data: bytes,
                ..TensorProto::default()
            });
        }
        new
    }
}

fn interface(name: &str, channels: usize, width: usize, height: usize) -> ValueInfoProto {
    let dim = [1, channels, height, width].map(|side| Dimension {
        value: Some(dimension::Value::DimValue(side as i64)),
        ..Dimension::default()
    });
    let tensor = type_proto::Tensor {
        elem_type: DataType::Float as i32,
        shape: Some(TensorShapeProto { dim: dim.to_vec() }),
    };
    ValueInfoProto {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(tensor)),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

fn convolution_attributes(convolution: &Convolution, padding: usize) -> Vec<AttributeProto> {
    vec![
        integers("kernel_shape", &[convolution.kernel; 2]),
        integers("strides", &[convolution.stride; 2]),
        integers("pads", &[padding; 4]),
    ]
}

fn epsilon_of(epsilon: f64) -> AttributeProto {
    AttributeProto {
        f: epsilon as f32,
        ..attribute("epsilon", AttributeType::Float)
    }
}

fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto {
        i: value,
        ..attribute(name, AttributeType::Int)
    }
}

fn integers(name: &str, values: &[usize]) -> AttributeProto {
    AttributeProto {
        ints: values.iter().map(|&value| value as i64).collect(),
        ..attribute(name, AttributeType::Ints)
    }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        s: value.as_bytes().to_vec(),
        ..attribute(name, AttributeType::String)
    }
}

fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
    AttributeProto {
        name: name.to_owned(),
        r#type: kind as i32,
        ..AttributeProto::default()
    }
}
