//! What an ONNX file must be before the inference engine sees it.
//!
//! tract translates whatever it is given, and parts of it index or allocate by what the file says.
//! Here the file is decoded once, and everything beyond feed-forward convolutional networks, such
//! as unresolved names, data outside the file, subgraphs, or operators that compute shapes, is
//! refused by name first.

use std::collections::HashSet;

use tract_onnx::pb::tensor_proto::{DataLocation, DataType};
use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dimension;
use tract_onnx::pb::type_proto::Value as Type;
use tract_onnx::pb::{ModelProto, NodeProto, TensorProto, ValueInfoProto};
use tract_onnx::prelude::Framework;

use super::contract::{Contract, METADATA_KEY};
use super::error::{ContractError, ModelError};

/// Largest model file that is read: 64 MiB, twice the largest network of this project.
pub const MAX_FILE_BYTES: usize = 64 << 20;
/// Name of the one input of every model: f32 `[1, 3, height, width]`.
pub const INPUT: &str = "image";
/// Name of the one output of every model: f32 `[1, 1, height, width]`.
pub const OUTPUT: &str = "logits";

/// Operator sets that tract is tested against.
const OPSETS: std::ops::RangeInclusive<i64> = 9..=18;
const MAX_NODES: usize = 10_000;
/// Most tensors that a file holds: tract compares each with all before it.
const MAX_TENSORS: usize = 10_000;
/// Most values that a node reads, or writes.
const MAX_OPERANDS: usize = 1_000;
/// Most rows or columns of an image.
pub(super) const MAX_SIDE: i64 = 1024;
/// Largest product of a tensor's dimensions: 1 GiB as f32.
pub(super) const MAX_ELEMENTS: usize = 1 << 28;

/// The operators of convolutional networks. None takes its output's size from data, except by
/// constants.
const OPERATORS: &[&str] = &[
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Cast",
    "Clip",
    "Concat",
    "Constant",
    "Conv",
    "ConvTranspose",
    "DepthToSpace",
    "Div",
    "Elu",
    "Erf",
    "Exp",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LayerNormalization",
    "LeakyRelu",
    "MatMul",
    "Max",
    "MaxPool",
    "Min",
    "Mul",
    "Neg",
    "PRelu",
    "Pad",
    "Pow",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Resize",
    "Sigmoid",
    "Slice",
    "Softmax",
    "Softplus",
    "SpaceToDepth",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Transpose",
    "Unsqueeze",
];

/// The operators that may do without the image.
///
/// tract computes what depends on constants alone while it translates, before any size is known: a single padding could
/// ask for all the memory there is.
const CONSTANT_OPERATORS: &[&str] = &["Cast", "Constant", "Identity"];

/// Decodes the file; nothing of the graph is looked at yet.
pub(super) fn decode(bytes: &[u8]) -> Result<ModelProto, ModelError> {
    if bytes.len() > MAX_FILE_BYTES {
        return Err(ModelError::TooLarge {
            bytes: bytes.len(),
            limit: MAX_FILE_BYTES,
        });
    }
    let mut reader = bytes;
    let model = tract_onnx::onnx()
        .proto_model_for_read(&mut reader)
        .map_err(|e| ModelError::NotOnnx {
            reason: format!("{e:#}"),
        })?;
    if model.graph.is_none() {
        // Protocol buffers have no magic number: an empty file decodes to an empty model.
        return Err(ModelError::NotOnnx {
            reason: "it has no graph".to_owned(),
        });
    }
    Ok(model)
}

/// The contract among the file's metadata.
pub(super) fn contract(model: &ModelProto) -> Result<Contract, ContractError> {
    let mut entries = model
        .metadata_props
        .iter()
        .filter(|entry| entry.key == METADATA_KEY);
    let json = &entries.next().ok_or(ContractError::Absent)?.value;
    match entries.count() {
        0 => Contract::from_json(json),
        others => Err(ContractError::Ambiguous { count: others + 1 }),
    }
}

/// Checks that the graph is one that can be run here; gives its input's columns and rows.
pub(super) fn check(model: &ModelProto) -> Result<(usize, usize), ModelError> {
    let graph = model.graph.as_ref().ok_or_else(|| ModelError::NotOnnx {
        reason: "it has no graph".to_owned(),
    })?;
    for import in &model.opset_import {
        if !is_default_domain(&import.domain) || !OPSETS.contains(&import.version) {
            return Err(unsupported(format!(
                "it imports operator set {} of domain `{}`, only 9 to 18 of the default domain are run",
                import.version, import.domain
            )));
        }
    }
    if model.opset_import.is_empty() {
        return Err(unsupported("it imports no operator set".to_owned()));
    }
    if !model.functions.is_empty() || !graph.sparse_initializer.is_empty() {
        return Err(unsupported(
            "it holds functions or sparse tensors".to_owned(),
        ));
    }
    if graph.node.len() > MAX_NODES {
        return Err(unsupported(format!(
            "it has {} nodes, at most {MAX_NODES} are run",
            graph.node.len()
        )));
    }

    if graph.initializer.len() > MAX_TENSORS {
        return Err(unsupported(format!(
            "it holds {} tensors, at most {MAX_TENSORS} are read",
            graph.initializer.len()
        )));
    }

    let mut names = Names::default();
    for tensor in &graph.initializer {
        names.define(&tensor.name)?;
    }
    let mut inputs = Vec::new();
    for input in &graph.input {
        if !names.known.contains(input.name.as_str()) {
            names.define(&input.name)?;
            names.varying.insert(&input.name);
            inputs.push(input);
        }
    }
    let (width, height) = check_interface("input", &inputs, INPUT, 3)?;
    let outputs: Vec<_> = graph.output.iter().collect();
    let output = check_interface("output", &outputs, OUTPUT, 1)?;
    if output != (width, height) {
        return Err(ModelError::Interface {
            what: "output size",
            found: format!("{}x{}", output.0, output.1),
            expected: format!("{width}x{height}, that of the input"),
        });
    }
    for tensor in &graph.initializer {
        check_tensor(tensor)?;
    }
    for node in &graph.node {
        check_node(node, &mut names)?;
    }
    if !names.known.contains(OUTPUT) {
        return Err(unsupported(format!("no node computes `{OUTPUT}`")));
    }
    Ok((width, height))
}

/// Takes out what a file says of its values beside the nodes that compute them, once it is checked.
///
/// tract would take a size from there over the one that it works out, and reads formulas there by recursion, whose depth
/// nothing bounds.
pub(super) fn strip(model: &mut ModelProto) {
    if let Some(graph) = &mut model.graph {
        graph.value_info.clear();
        graph.input.retain(|input| input.name == INPUT);
    }
}

fn is_default_domain(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

fn unsupported(reason: String) -> ModelError {
    ModelError::Unsupported { reason }
}

/// The names of a graph's values.
#[derive(Default)]
struct Names<'a> {
    known: HashSet<&'a str>,
    /// Those of values that depend on an input.
    varying: HashSet<&'a str>,
}

impl<'a> Names<'a> {
    fn define(&mut self, name: &'a str) -> Result<(), ModelError> {
        // No name says of an operand that it is absent.
        if name.is_empty() {
            return Err(unsupported("a tensor or an input has no name".to_owned()));
        }
        if self.known.insert(name) {
            return Ok(());
        }
        Err(unsupported(format!("`{name}` is defined twice")))
    }
}

fn check_node<'a>(node: &'a NodeProto, names: &mut Names<'a>) -> Result<(), ModelError> {
    let named = || format!("node `{}` ({})", node.name, node.op_type);
    if !is_default_domain(&node.domain) || !OPERATORS.contains(&node.op_type.as_str()) {
        return Err(unsupported(format!(
            "{} is no operator that is run here",
            named()
        )));
    }
    if node.input.len().max(node.output.len()) > MAX_OPERANDS {
        return Err(unsupported(format!(
            "{} has more than {MAX_OPERANDS} operands or results",
            named()
        )));
    }
    for name in node.input.iter().filter(|name| !name.is_empty()) {
        if !names.known.contains(name.as_str()) {
            return Err(unsupported(format!(
                "{} reads `{name}` before anything defines it",
                named()
            )));
        }
    }
    for attribute in &node.attribute {
        if attribute.g.is_some()
            || !attribute.graphs.is_empty()
            || attribute.sparse_tensor.is_some()
            || !attribute.sparse_tensors.is_empty()
            || !attribute.ref_attr_name.is_empty()
        {
            return Err(unsupported(format!(
                "{} has a subgraph, sparse tensor or reference as attribute `{}`",
                named(),
                attribute.name
            )));
        }
        for tensor in attribute.t.iter().chain(&attribute.tensors) {
            check_tensor(tensor)?;
        }
    }
    // Stored weights become f32; whatever else a cast could do, no network of this project needs.
    let to_f32 = |node: &NodeProto| {
        let to = node.attribute.iter().find(|a| a.name == "to");
        to.is_some_and(|to| to.i == DataType::Float as i64)
    };
    if node.op_type == "Cast" && !to_f32(node) {
        return Err(unsupported(format!(
            "{} casts to something other than f32",
            named()
        )));
    }
    let varies = (node.input.iter()).any(|name| names.varying.contains(name.as_str()));
    if !varies && !CONSTANT_OPERATORS.contains(&node.op_type.as_str()) {
        return Err(unsupported(format!(
            "{} computes a constant; let the file hold its result",
            named()
        )));
    }
    for name in node.output.iter().filter(|name| !name.is_empty()) {
        names.define(name)?;
        if varies {
            names.varying.insert(name);
        }
    }
    Ok(())
}

/// A tensor of the file holds exactly the values that its dimensions ask for.
fn check_tensor(tensor: &TensorProto) -> Result<(), ModelError> {
    let refused = |reason: String| Err(unsupported(format!("tensor `{}` {reason}", tensor.name)));
    if tensor.data_location == Some(DataLocation::External as i32) {
        return refused("has its data outside the file".to_owned());
    }
    let (typed, size) = match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => (tensor.float_data.len(), size_of::<f32>()),
        // Half precision is for stored weights; its other form, one value in each 32-bit integer, is not written by
        // anything here.
        Ok(DataType::Float16) => (0, size_of::<u16>()),
        Ok(DataType::Int64) => (tensor.int64_data.len(), size_of::<i64>()),
        _ => {
            return refused(format!(
                "has data type {}, only f16, f32 and i64 are read",
                tensor.data_type
            ));
        }
    };
    let elements = tensor.dims.iter().try_fold(1usize, |product, &dim| {
        product
            .checked_mul(usize::try_from(dim).ok()?)
            .filter(|&product| product <= MAX_ELEMENTS)
    });
    let held = match tensor.raw_data.len() {
        0 => Some(typed),
        bytes if bytes.is_multiple_of(size) => Some(bytes / size),
        _ => None,
    };
    if elements.is_none() || elements != held {
        return refused(format!(
            "holds {typed} values and {} bytes for the dimensions {:?}",
            tensor.raw_data.len(),
            tensor.dims
        ));
    }
    Ok(())
}

fn check_interface(
    what: &'static str,
    values: &[&ValueInfoProto],
    name: &str,
    channels: i64,
) -> Result<(usize, usize), ModelError> {
    let shape = match values {
        [value] if value.name == name => float_shape(value),
        _ => None,
    };
    if let Some([1, c, height, width]) = shape.as_deref()
        && *c == channels
        && (1..=MAX_SIDE).contains(height)
        && (1..=MAX_SIDE).contains(width)
    {
        return Ok((*width as usize, *height as usize));
    }
    Err(ModelError::Interface {
        what,
        found: values
            .iter()
            .map(|value| match float_shape(value) {
                Some(shape) => format!("`{}` f32 {shape:?}", value.name),
                None => format!("`{}` of another type or without a fixed shape", value.name),
            })
            .collect::<Vec<_>>()
            .join(", "),
        expected: format!(
            "`{name}` f32 [1, {channels}, height, width] of at most {MAX_SIDE} a side"
        ),
    })
}

/// The dimensions of an f32 tensor whose shape is fixed.
fn float_shape(value: &ValueInfoProto) -> Option<Vec<i64>> {
    let Type::TensorType(tensor) = value.r#type.as_ref()?.value.as_ref()?;
    if tensor.elem_type != DataType::Float as i32 {
        return None;
    }
    let dims = &tensor.shape.as_ref()?.dim;
    dims.iter()
        .map(|dim| match dim.value {
            Some(Dimension::DimValue(size)) => Some(size),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn changed(change: impl FnOnce(&mut tract_onnx::pb::GraphProto)) -> Result<(), ModelError> {
        let file = include_bytes!("../../tests/goldens/inference/lean.onnx");
        let mut model = decode(file).unwrap();
        change(model.graph.as_mut().unwrap());
        check(&model).map(drop)
    }

    fn tensor(name: &str) -> TensorProto {
        TensorProto {
            name: name.to_owned(),
            data_type: DataType::Float as i32,
            float_data: vec![0.0],
            ..TensorProto::default()
        }
    }

    fn assert_refused(refused: Result<(), ModelError>, reason: &str) {
        let error = refused.unwrap_err();
        assert!(matches!(error, ModelError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{reason}: {error}");
    }

    #[test]
    fn what_only_constants_decide_must_be_in_the_file() {
        let padding = |input: &str| NodeProto {
            name: "pad".to_owned(),
            op_type: "Pad".to_owned(),
            input: vec![input.to_owned()],
            output: vec!["padded".to_owned()],
            ..NodeProto::default()
        };
        changed(|graph| graph.node.push(padding(INPUT))).unwrap();
        let of_constant = changed(|graph| {
            graph.initializer.push(tensor("constant"));
            graph.node.push(padding("constant"));
        });
        assert_refused(of_constant, "`pad` (Pad) computes a constant");
    }

    #[test]
    fn numbers_of_tensors_and_operands_are_bounded() {
        let tensors = changed(|graph| {
            let more = (0..MAX_TENSORS).map(|index| tensor(&format!("more{index}")));
            graph.initializer.extend(more);
        });
        assert_refused(tensors, "tensors, at most 10000 are read");
        let operands = changed(|graph| {
            graph.node[0].input = vec![INPUT.to_owned(); MAX_OPERANDS + 1];
        });
        assert_refused(operands, "more than 1000 operands");
        let results = changed(|graph| {
            graph.node[0].output = vec![String::new(); MAX_OPERANDS + 1];
        });
        assert_refused(results, "more than 1000 operands");
    }

    #[test]
    fn a_tensor_without_a_name_is_refused() {
        let nameless = changed(|graph| graph.initializer.push(tensor("")));
        assert_refused(nameless, "has no name");
    }
}
