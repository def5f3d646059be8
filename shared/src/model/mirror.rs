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
/// As the sum is taken in another order, logits may differ in their last digits.
///
/// It takes sums, and products with numbers, of terms f(x) + mirrored f(mirrored x) whose two f are the same node by
/// node, over the same weights; that is how this project's ensembles and mirrored networks are written. Any other graph
/// stays as it is. Graphs are those that [`check`](super::onnx::check) lets through, where every value is defined once and
/// before it is read.
pub(super) fn halve(graph: &mut GraphProto) -> bool {
    let Some(sums) = Values::of(graph).mirrored_sums() else {
        return false;
    };
    for (position, own) in sums {
        let node = &mut graph.node[position];
        "Identity".clone_into(&mut node.op_type);
        node.input = vec![own];
    }
    let mut needed = HashSet::from([OUTPUT.to_owned()]);
    let mut nodes = std::mem::take(&mut graph.node);
    nodes.reverse();
    nodes.retain(|node| {
        let used = node.output.iter().any(|name| needed.contains(name));
        if used {
            needed.extend(node.input.iter().filter(|name| !name.is_empty()).cloned());
        }
        used
    });
    nodes.reverse();
    graph.node = nodes;
    true
}

/// What the names of a graph stand for.
struct Values<'a> {
    nodes: &'a [NodeProto],
    tensors: HashMap<&'a str, &'a TensorProto>,
    /// Position of the node whose first result a value is.
    computed: HashMap<&'a str, usize>,
    /// What depends on the image.
    varying: HashSet<&'a str>,
}

impl<'a> Values<'a> {
    fn of(graph: &'a GraphProto) -> Self {
        let tensors = graph.initializer.iter();
        let mut values = Self {
            nodes: &graph.node,
            tensors: tensors.map(|t| (t.name.as_str(), t)).collect(),
            computed: HashMap::new(),
            varying: HashSet::from([INPUT]),
        };
        for (position, node) in graph.node.iter().enumerate() {
            if let Some(first) = node.output.first() {
                values.computed.insert(first, position);
            }
            if (node.input.iter()).any(|name| values.varying.contains(name.as_str())) {
                let named = node.output.iter().filter(|name| !name.is_empty());
                values.varying.extend(named.map(String::as_str));
            }
        }
        values
    }

    /// The node that computes a value and nothing else.
    fn node_of(&self, value: &str) -> Option<&'a NodeProto> {
        let node = &self.nodes[*self.computed.get(value)?];
        (node.output.len() == 1).then_some(node)
    }

    /// Positions of the additions of a value and its mirrored twin, each with the name of the former, when the logits are
    /// nothing but sums of these and products with numbers.
    fn mirrored_sums(&self) -> Option<Vec<(usize, String)>> {
        let mut sums = Vec::new();
        let mut twins = HashMap::new();
        let mut outer = HashSet::new();
        let mut pending = vec![OUTPUT];
        while let Some(value) = pending.pop() {
            if !outer.insert(value) {
                continue;
            }
            let node = self.node_of(value)?;
            let [a, b] = &node.input[..] else {
                return None;
            };
            match node.op_type.as_str() {
                "Add" => match self.mirrored_term(a, b) {
                    Some((own, other)) => {
                        self.match_twins(own, other, &mut twins)?;
                        sums.push((self.computed[value], own.to_owned()));
                    }
                    None => pending.extend([a.as_str(), b.as_str()]),
                },
                "Mul" if self.is_number(b) => pending.push(a),
                "Mul" if self.is_number(a) => pending.push(b),
                _ => return None,
            }
        }
        // What is about to mean another value must not be read by what stays.
        let within = twins.keys().all(|own| !outer.contains(own));
        within.then_some(sums)
    }

    /// Of two summands the one that is not a mirror image, and what the other is the mirror image of.
    fn mirrored_term(&self, a: &'a str, b: &'a str) -> Option<(&'a str, &'a str)> {
        let of = |own, other| Some((own, self.unmirrored(other)?));
        of(a, b).or_else(|| of(b, a))
    }

    /// Notes that `other` is of the mirrored image what `own` is of the image itself, and the same of all that they are
    /// computed from; nothing where they are not.
    ///
    /// What is noted already is not looked at again: the work is bounded by the size of the graph.
    fn match_twins(
        &self,
        own: &'a str,
        other: &'a str,
        twins: &mut HashMap<&'a str, &'a str>,
    ) -> Option<()> {
        let mut pending = vec![(own, other)];
        while let Some((own, other)) = pending.pop() {
            if own == INPUT {
                (self.unmirrored(other)? == INPUT).then_some(())?;
                continue;
            }
            if !self.varying.contains(own) {
                (own == other).then_some(())?;
                continue;
            }
            if let Some(known) = twins.insert(own, other) {
                (known == other).then_some(())?;
                continue;
            }
            let (own, other) = (self.node_of(own)?, self.node_of(other)?);
            let same = own.op_type == other.op_type
                && own.attribute == other.attribute
                && own.input.len() == other.input.len();
            same.then_some(())?;
            let operands = own.input.iter().zip(&other.input);
            pending.extend(operands.map(|(own, other)| (own.as_str(), other.as_str())));
        }
        Some(())
    }

    /// What a value is the mirror image of: the operand of a slice of all columns, from the last to the first.
    fn unmirrored(&self, value: &str) -> Option<&'a str> {
        let node = self.node_of(value)?;
        let [image, starts, ends, axes, steps] = &node.input[..] else {
            return None;
        };
        let number = |name: &String| integer(self.tensors.get(name.as_str())?);
        // No axis is longer than that: no column lies before the end.
        let all = number(starts)? == -1 && number(steps)? == -1 && number(ends)? < -MAX_SIDE;
        // Images and logits are batches of channels of rows of columns, and neither a sum nor a product has fewer axes
        // than its operands.
        let columns = matches!(number(axes)?, 3 | -1);
        let plain = node.op_type == "Slice" && node.attribute.is_empty();
        (plain && all && columns).then_some(image)
    }

    /// Whether a value is a tensor of one value.
    fn is_number(&self, value: &str) -> bool {
        let tensor = self.tensors.get(value);
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

    /// The node of this operator at this place among its like.
    fn nth<'a>(graph: &'a mut GraphProto, operator: &str, place: usize) -> &'a mut NodeProto {
        let mut nodes = graph.node.iter_mut();
        let mut like = nodes.by_ref().filter(|node| node.op_type == operator);
        like.nth(place).unwrap()
    }

    /// Operand `place` of the last slice but one, which mirrors a second member's image, becomes a list of its own.
    fn slice_by(graph: &mut GraphProto, place: usize, value: i64) {
        graph.initializer.push(TensorProto {
            dims: vec![1],
            data_type: DataType::Int64 as i32,
            name: "own".to_owned(),
            int64_data: vec![value],
            ..TensorProto::default()
        });
        "own".clone_into(&mut nth(graph, "Slice", 2).input[place]);
    }

    fn node(operator: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
        NodeProto {
            op_type: operator.to_owned(),
            input: inputs.iter().map(|&name| name.to_owned()).collect(),
            output: outputs.iter().map(|&name| name.to_owned()).collect(),
            ..NodeProto::default()
        }
    }

    /// A graph of these nodes and the lists of whole numbers that mirroring takes: `start`, `end`, `axis`, `step`.
    fn of_nodes(nodes: Vec<NodeProto>) -> GraphProto {
        let numbers = [("start", -1), ("end", i64::MIN), ("axis", 3), ("step", -1)];
        let tensors = numbers.map(|(name, value)| TensorProto {
            dims: vec![1],
            data_type: DataType::Int64 as i32,
            name: name.to_owned(),
            int64_data: vec![value],
            ..TensorProto::default()
        });
        GraphProto {
            node: nodes,
            initializer: tensors.to_vec(),
            ..GraphProto::default()
        }
    }

    fn mirror(image: &str, result: &str) -> NodeProto {
        node("Slice", &[image, "start", "end", "axis", "step"], &[result])
    }

    /// What is done to a graph.
    type Change = fn(&mut GraphProto);

    fn assert_stays(mut graph: GraphProto, what: &str) {
        let before = graph.clone();
        assert!(!halve(&mut graph), "{what}");
        assert_eq!(graph, before, "{what}");
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
    fn it_may_be_written_in_other_ways() {
        let ways: [(&str, Change); 4] = [
            ("operands of a sum swapped", |graph| {
                nth(graph, "Add", 0).input.reverse();
            }),
            ("operands of a product swapped", |graph| {
                nth(graph, "Mul", 0).input.reverse();
            }),
            ("the axis from the end", |graph| slice_by(graph, 3, -1)),
            ("the end just before all columns", |graph| {
                slice_by(graph, 2, -MAX_SIDE - 1);
            }),
        ];
        for (what, change) in ways {
            let mut graph = mirrored();
            change(&mut graph);
            assert!(halve(&mut graph), "{what}");
            assert_eq!(count(&graph, "Conv"), 4, "{what}");
        }
    }

    #[test]
    fn other_graphs_stay_as_they_are() {
        assert_stays(
            graph(include_bytes!(
                "../../tests/goldens/inference/separable.onnx"
            )),
            "nothing is the sum of two views",
        );
    }

    /// Every one of these is a pair no more.
    #[test]
    fn twins_that_differ_are_none() {
        let changes: [(&str, Change); 13] = [
            ("a bias", |graph| {
                let other = nth(graph, "Conv", 4).input[2].clone();
                nth(graph, "Conv", 0).input[2] = other;
            }),
            ("an attribute", |graph| {
                nth(graph, "LeakyRelu", 1).attribute[0].f = 0.5;
            }),
            ("an operator", |graph| {
                "Relu".clone_into(&mut nth(graph, "LeakyRelu", 1).op_type);
            }),
            ("an operand more", |graph| {
                let weight = nth(graph, "Conv", 0).input[1].clone();
                nth(graph, "LeakyRelu", 1).input.push(weight);
            }),
            ("a result more", |graph| {
                nth(graph, "LeakyRelu", 1).output.push("more".to_owned());
            }),
            ("a difference instead of a sum", |graph| {
                "Sub".clone_into(&mut nth(graph, "Add", 0).op_type);
            }),
            ("a product with several numbers", |graph| {
                let name = nth(graph, "Mul", 0).input[1].clone();
                let mut tensors = graph.initializer.iter_mut();
                tensors.find(|t| t.name == name).unwrap().dims = vec![2];
            }),
            ("rows reversed instead of columns", |graph| {
                slice_by(graph, 3, 2);
            }),
            ("not from the last column", |graph| slice_by(graph, 1, -2)),
            ("not to the first column", |graph| {
                slice_by(graph, 2, -MAX_SIDE);
            }),
            ("every other column", |graph| slice_by(graph, 4, -2)),
            ("a slice with an attribute", |graph| {
                let attribute = nth(graph, "LeakyRelu", 0).attribute[0].clone();
                nth(graph, "Slice", 2).attribute.push(attribute);
            }),
            ("the image itself twice", |graph| {
                let slice = nth(graph, "Slice", 2);
                "Identity".clone_into(&mut slice.op_type);
                slice.input.truncate(1);
            }),
        ];
        for (what, change) in changes {
            let mut graph = mirrored();
            change(&mut graph);
            assert_stays(graph, what);
        }
    }

    /// The sum `s` of two views is itself one of two views, of the sum `t`: cut to one view, it would be no such sum.
    #[test]
    fn what_stays_must_not_read_what_changes() {
        let views = [
            mirror("image", "image1"),
            mirror("image1", "image2"),
            node("Relu", &["image"], &["a"]),
            node("Relu", &["image1"], &["b"]),
            node("Relu", &["image2"], &["c"]),
            mirror("b", "b1"),
            mirror("c", "c1"),
            node("Add", &["a", "b1"], &["s"]),
            node("Add", &["b", "c1"], &["t"]),
            mirror("t", "t1"),
        ];
        let sums = [
            node("Add", &["s", "t1"], &["u"]),
            node("Add", &["s", "u"], &[OUTPUT]),
        ];
        assert_stays(of_nodes([&views[..], &sums[..]].concat()), "sums");
        let rectified = [
            node("Relu", &["s"], &["p"]),
            node("Relu", &["t"], &["q"]),
            mirror("q", "q1"),
            node("Add", &["p", "q1"], &["u"]),
            node("Add", &["s", "u"], &[OUTPUT]),
        ];
        assert_stays(of_nodes([&views[..], &rectified[..]].concat()), "rectified");
    }

    /// A result without a name is none; an absent operand has no twin but an absent one.
    #[test]
    fn values_without_a_name_are_no_values() {
        let halves = |bound: &str, extra: &str| {
            of_nodes(vec![
                mirror("image", "image1"),
                node("LayerNormalization", &["image", "w"], &["a", ""]),
                node("LayerNormalization", &["image1", "w"], &["b", extra]),
                node("Clip", &["a", ""], &["a1"]),
                node("Clip", &["b", bound], &["b1"]),
                mirror("b1", "b2"),
                node("Add", &["a1", "b2"], &[OUTPUT]),
            ])
        };
        assert_stays(halves("m", "m"), "a bound and none");
        let mut absent = of_nodes(vec![
            mirror("image", "image1"),
            node("Clip", &["image", ""], &["a"]),
            node("Clip", &["image1", ""], &["b"]),
            mirror("b", "b1"),
            node("Add", &["a", "b1"], &[OUTPUT]),
        ]);
        assert!(halve(&mut absent));
        assert_eq!(absent.node.len(), 2);
    }
}
