//! Networks that see each image and its mirror image, taken apart so that tract has them once.
//!
//! A model file holds such a network as f(x) + mirrored f(mirrored x): the same nodes twice, over the same weights. tract
//! would translate, optimise and pack them twice. Here the second half is cut off and whoever runs the network runs it
//! twice, which halves the time until it is ready, and the memory of its weights.

use std::collections::{HashMap, HashSet};

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, NodeProto, TensorProto};

use super::onnx::{INPUT, MAX_SIDE, OUTPUT};

/// Cuts the half of a graph off that sees the mirror image, and says whether there was one: of a graph that computes
/// L(x), what is left computes a G(x) with L(x) = G(x) + mirrored G(mirrored x), where to mirror is to reverse columns.
///
/// It takes sums, and products with constants, of terms f(x) + mirrored f(mirrored x) whose two f are the same node by
/// node, over the same weights; that is how this project's ensembles and mirrored networks are written. Any other graph
/// stays as it is. Graphs are those that [`check`](super::onnx::check) lets through, where every value is defined once and
/// before it is read.
pub(super) fn halve(graph: &mut GraphProto) -> bool {
    let Some(sums) = Values::of(graph).mirrored_sums() else {
        return false;
    };
    for (node, own) in sums {
        let node = &mut graph.node[node];
        "Identity".clone_into(&mut node.op_type);
        node.input = vec![own];
    }
    let mut needed = HashSet::from([OUTPUT.to_owned()]);
    let mut kept: Vec<_> = std::mem::take(&mut graph.node).into_iter().rev().collect();
    kept.retain(|node| {
        let used = node.output.iter().any(|name| needed.contains(name));
        if used {
            needed.extend(node.input.iter().cloned());
        }
        used
    });
    kept.reverse();
    graph.node = kept;
    true
}

/// What the names of a graph stand for.
struct Values<'a> {
    nodes: &'a [NodeProto],
    constants: HashMap<&'a str, &'a TensorProto>,
    /// Position of the node that computes a value, and which of its outputs the value is.
    computed: HashMap<&'a str, (usize, usize)>,
    /// What depends on the image.
    varying: HashSet<&'a str>,
}

impl<'a> Values<'a> {
    fn of(graph: &'a GraphProto) -> Self {
        let tensors = graph.initializer.iter();
        let mut values = Self {
            nodes: &graph.node,
            constants: tensors.map(|t| (t.name.as_str(), t)).collect(),
            computed: HashMap::new(),
            varying: HashSet::from([INPUT]),
        };
        for (index, node) in graph.node.iter().enumerate() {
            let varies = (node.input.iter()).any(|name| values.varying.contains(name.as_str()));
            for (place, name) in node.output.iter().enumerate() {
                values.computed.insert(name, (index, place));
                if varies {
                    values.varying.insert(name);
                }
            }
        }
        values
    }

    /// The additions of a value and its mirrored twin, each with the name of the former, when the logits are nothing but
    /// sums of these and products with constants.
    fn mirrored_sums(&self) -> Option<Vec<(usize, String)>> {
        let mut sums = Vec::new();
        let mut seen = HashSet::new();
        let mut left = vec![OUTPUT];
        while let Some(value) = left.pop() {
            let &(index, _) = self.computed.get(value)?;
            if !seen.insert(index) {
                continue;
            }
            let node = &self.nodes[index];
            let [a, b] = &node.input[..] else {
                return None;
            };
            match node.op_type.as_str() {
                "Add" => match self.own_of(a, b) {
                    Some(own) => sums.push((index, own.to_owned())),
                    None => left.extend([a.as_str(), b.as_str()]),
                },
                "Mul" if self.is_number(b) => left.push(a),
                "Mul" if self.is_number(a) => left.push(b),
                _ => return None,
            }
        }
        Some(sums)
    }

    /// Which of two summands is f(x), when the other is mirrored f(mirrored x).
    fn own_of(&self, a: &'a str, b: &'a str) -> Option<&'a str> {
        [(a, b), (b, a)].into_iter().find_map(|(own, other)| {
            let other = self.unmirrored(other)?;
            self.are_twins(own, other).then_some(own)
        })
    }

    /// Whether `other` is of the mirrored image what `own` is of the image itself.
    fn are_twins(&self, own: &'a str, other: &'a str) -> bool {
        let mut twins = HashMap::new();
        let mut left = vec![(own, other)];
        while let Some((own, other)) = left.pop() {
            match twins.insert(own, other) {
                Some(before) if before == other => continue,
                Some(_) => return false,
                None => {}
            }
            if own == INPUT {
                if self.unmirrored(other) != Some(INPUT) {
                    return false;
                }
                continue;
            }
            if !self.varying.contains(own) {
                if own != other {
                    return false;
                }
                continue;
            }
            let places = (self.computed.get(own), self.computed.get(other));
            let (Some(&(own, place)), Some(&(other, other_place))) = places else {
                return false;
            };
            let (own, other) = (&self.nodes[own], &self.nodes[other]);
            let same = own.op_type == other.op_type
                && own.attribute == other.attribute
                && own.input.len() == other.input.len()
                && place == other_place;
            if !same {
                return false;
            }
            let inputs = own.input.iter().zip(&other.input);
            left.extend(inputs.map(|(own, other)| (own.as_str(), other.as_str())));
        }
        true
    }

    /// What a value is the mirror image of: the operand of a slice of all columns, from the last to the first.
    fn unmirrored(&self, value: &str) -> Option<&'a str> {
        let &(index, _) = self.computed.get(value)?;
        let node = &self.nodes[index];
        let [image, starts, ends, axes, steps] = &node.input[..] else {
            return None;
        };
        let number = |name: &String| integer(self.constants.get(name.as_str())?);
        let (end, axis) = (number(ends)?, number(axes)?);
        let reversed = number(starts)? == -1 && number(steps)? == -1 && end < -MAX_SIDE;
        // Images and feature maps are batches of channels of rows of columns.
        let whole = reversed && (axis == 3 || axis == -1);
        (node.op_type == "Slice" && whole).then_some(image)
    }

    /// Whether a value is a constant of one value.
    fn is_number(&self, value: &str) -> bool {
        let tensor = self.constants.get(value);
        tensor.is_some_and(|tensor| tensor.dims.iter().all(|&side| side == 1))
    }
}

/// The value of a list of one whole number.
fn integer(tensor: &TensorProto) -> Option<i64> {
    if tensor.data_type != DataType::Int64 as i32 || tensor.dims != [1] {
        return None;
    }
    match (&tensor.int64_data[..], &tensor.raw_data[..]) {
        (&[value], []) => Some(value),
        ([], bytes) => Some(i64::from_le_bytes(bytes.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::onnx;

    fn graph(file: &[u8]) -> GraphProto {
        onnx::decode(file).unwrap().graph.unwrap()
    }

    fn mirrored() -> GraphProto {
        graph(include_bytes!(
            "../../tests/goldens/inference/mirrored.onnx"
        ))
    }

    fn count(graph: &GraphProto, operator: &str) -> usize {
        let nodes = graph.node.iter();
        nodes.filter(|node| node.op_type == operator).count()
    }

    /// That it computes the same is for the golden to say.
    #[test]
    fn one_of_two_views_is_left_of_each_member() {
        let mut graph = mirrored();
        assert_eq!((count(&graph, "Conv"), count(&graph, "Slice")), (8, 4));
        assert!(halve(&mut graph));
        assert_eq!((count(&graph, "Conv"), count(&graph, "Slice")), (4, 0));
        assert!(!halve(&mut graph), "nothing is mirrored any more");
    }

    #[test]
    fn other_graphs_stay_as_they_are() {
        let mut plain = graph(include_bytes!(
            "../../tests/goldens/inference/separable.onnx"
        ));
        let before = plain.clone();
        assert!(!halve(&mut plain));
        assert_eq!(plain, before);
    }

    /// Every one of these is a pair no more.
    #[test]
    fn twins_that_differ_are_none() {
        fn last<'a>(graph: &'a mut GraphProto, operator: &str) -> &'a mut NodeProto {
            let mut nodes = graph.node.iter_mut().rev();
            nodes.find(|node| node.op_type == operator).unwrap()
        }
        fn constant<'a>(graph: &'a mut GraphProto, name: &str) -> &'a mut TensorProto {
            let mut tensors = graph.initializer.iter_mut();
            tensors.find(|tensor| tensor.name == name).unwrap()
        }
        let changes: [(&str, fn(&mut GraphProto)); 7] = [
            ("a bias", |graph| {
                let other = last(graph, "Conv").input[2].clone();
                let convolution = graph.node.iter_mut().find(|n| n.op_type == "Conv");
                convolution.unwrap().input[2] = other;
            }),
            ("an attribute", |graph| {
                last(graph, "LeakyRelu").attribute[0].f = 0.5;
            }),
            ("an operator", |graph| {
                "Relu".clone_into(&mut last(graph, "LeakyRelu").op_type);
            }),
            ("a difference instead of a sum", |graph| {
                "Sub".clone_into(&mut last(graph, "Add").op_type);
            }),
            ("rows reversed instead of columns", |graph| {
                let axis = last(graph, "Slice").input[3].clone();
                constant(graph, &axis).raw_data = 2i64.to_le_bytes().to_vec();
            }),
            ("some of the columns", |graph| {
                let end = last(graph, "Slice").input[2].clone();
                constant(graph, &end).raw_data = (-9i64).to_le_bytes().to_vec();
            }),
            ("the image itself twice", |graph| {
                let slices = graph.node.iter_mut();
                let slice = slices
                    .rev()
                    .find(|n| n.op_type == "Slice" && n.input[0] == INPUT);
                let slice = slice.unwrap();
                "Identity".clone_into(&mut slice.op_type);
                slice.input.truncate(1);
            }),
        ];
        for (what, change) in changes {
            let mut graph = mirrored();
            change(&mut graph);
            let before = graph.clone();
            assert!(!halve(&mut graph), "{what}");
            assert_eq!(graph, before, "{what}");
        }
    }
}
