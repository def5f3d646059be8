//! The network of a model file, made ready once and run many times.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::{
    Framework, InferenceModelExt, IntoRunnable, Tensor, TractError, TractResult, TypedModel,
    TypedRunnableModel, tvec,
};
use tract_onnx::tract_core::internal::{DatumExt, bail, ensure};
use tract_onnx::tract_core::knobs::KnobScope;

use super::error::ModelError;
use super::{mirror, onnx, operators};
use crate::imaging::CHANNELS;
use crate::imaging::grid::Grid;

/// Settings of tract that hold while a model is optimised.
///
/// Its direct convolution loses to the matrix product over a lazily gathered input on x86, by up
/// to a factor of two on full-resolution layers.
const KNOBS: [(&str, &str); 1] = [("TRACT_DISABLE_DIRECT_SPATIAL", "true")];

/// A network ready to run: one input f32 `[1, 3, height, width]`, one output f32
/// `[1, 1, height, width]`.
///
/// Runs share nothing but the weights, so that many threads can run one network at once; a single
/// run uses one thread.
#[derive(Debug)]
pub struct Network {
    plan: Arc<TypedRunnableModel>,
    grid: Grid,
    /// Whether the logits are the sum of what the plan makes of the image and, mirrored, of its mirror image.
    mirrored: bool,
}

impl Network {
    /// Decodes, checks and optimises the network of an ONNX file; its metadata is not looked at.
    ///
    /// # Errors
    /// [`ModelError::TooLarge`], [`ModelError::NotOnnx`], [`ModelError::Interface`] or
    /// [`ModelError::Unsupported`].
    pub fn from_onnx(bytes: &[u8]) -> Result<Self, ModelError> {
        Self::from_proto(onnx::decode(bytes)?)
    }

    pub(super) fn from_proto(mut proto: ModelProto) -> Result<Self, ModelError> {
        let (width, height) = onnx::check(&proto)?;
        let grid = Grid { width, height };
        onnx::strip(&mut proto);
        let mirrored = proto.graph.as_mut().is_some_and(mirror::halve);
        let typed = guarded(|| translate(&proto, grid)).map_err(|e| unsupported(&e))?;
        drop(proto);
        check_sizes(&typed)?;
        let plan = guarded(|| optimise(typed)).map_err(|e| unsupported(&e))?;
        Ok(Self {
            plan,
            grid,
            mirrored,
        })
    }

    /// Columns and rows of the input and of the output.
    #[must_use]
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// How many images a run looks at: two where the logits are those of the image and of its mirror image.
    #[must_use]
    pub fn views(&self) -> usize {
        if self.mirrored { 2 } else { 1 }
    }

    /// Runs the network, once for each of its views: from `3 * height * width` values, channel by channel and row by row,
    /// to `height * width` logits, row by row.
    ///
    /// # Errors
    /// [`ModelError::InputLength`] for another number of values, [`ModelError::NotFinite`] when the
    /// output holds NaN or infinity, [`ModelError::Run`] when the run itself fails.
    pub fn logits(&self, input: &[f32]) -> Result<Vec<f32>, ModelError> {
        let Grid { width, height } = self.grid;
        let expected = CHANNELS * height * width;
        if input.len() != expected {
            return Err(ModelError::InputLength {
                actual: input.len(),
                expected,
            });
        }
        let logits = guarded(|| self.run(input)).map_err(|e| ModelError::Run {
            reason: format!("{e:#}"),
        })?;
        match logits.iter().filter(|logit| !logit.is_finite()).count() {
            0 => Ok(logits),
            count => Err(ModelError::NotFinite { count }),
        }
    }

    fn run(&self, input: &[f32]) -> TractResult<Vec<f32>> {
        let mut logits = self.run_plan(input)?;
        if self.mirrored {
            let width = self.grid.width;
            let image_rows = input.chunks_exact(width);
            let reversed: Vec<f32> = image_rows
                .flat_map(|row| row.iter().rev().copied())
                .collect();
            let of_reversed = self.run_plan(&reversed)?;
            let rows = logits.chunks_exact_mut(width);
            for (row, reversed) in rows.zip(of_reversed.chunks_exact(width)) {
                for (logit, other) in row.iter_mut().zip(reversed.iter().rev()) {
                    *logit += other;
                }
            }
        }
        Ok(logits)
    }

    /// What the plan makes of one image.
    fn run_plan(&self, input: &[f32]) -> TractResult<Vec<f32>> {
        let shape = [1, CHANNELS, self.grid.height, self.grid.width];
        let outputs = self
            .plan
            .run(tvec!(Tensor::from_shape(&shape, input)?.into()))?;
        Ok(outputs[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
    }
}

/// Makes a panic of tract, or of an operator of ours in it, an error.
///
/// A last resort behind the checks of [`onnx`]: attributes that are each valid can contradict one
/// another (a kernel larger than its padded input, say), which tract meets with assertions. Nothing
/// is left half-changed: translation and optimisation own what they work on, and every run has a
/// state of its own. The panic message still goes to the panic hook.
fn guarded<T>(work: impl FnOnce() -> TractResult<T>) -> TractResult<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied());
        bail!(
            "the inference engine panicked: {}",
            message.unwrap_or("no message")
        )
    })
}

fn unsupported(error: &TractError) -> ModelError {
    ModelError::Unsupported {
        reason: format!("{error:#}"),
    }
}

fn translate(proto: &ModelProto, grid: Grid) -> TractResult<TypedModel> {
    let typed = tract_onnx::onnx()
        .model_for_proto_model(proto)?
        .into_typed()?;
    // What the file declares of its output was checked as text; this is what the graph computes.
    let fact = typed.output_fact(0)?;
    let expected = f32::fact([1, 1, grid.height, grid.width]);
    ensure!(
        fact.datum_type == expected.datum_type && fact.shape == expected.shape,
        "its graph computes {fact:?}, not {expected:?}"
    );
    Ok(typed)
}

/// No layer may ask for more memory than a network of this project could need.
fn check_sizes(model: &TypedModel) -> Result<(), ModelError> {
    for node in model.nodes() {
        for output in &node.outputs {
            let elements = output.fact.shape.as_concrete().and_then(|shape| {
                shape
                    .iter()
                    .try_fold(1usize, |product, &dim| product.checked_mul(dim))
            });
            if elements.is_none_or(|elements| elements > onnx::MAX_ELEMENTS) {
                return Err(ModelError::Unsupported {
                    reason: format!(
                        "layer `{}` has the size {:?}, at most {} values are computed",
                        node.name,
                        output.fact.shape,
                        onnx::MAX_ELEMENTS
                    ),
                });
            }
        }
    }
    Ok(())
}

fn optimise(typed: TypedModel) -> TractResult<Arc<TypedRunnableModel>> {
    KnobScope::new(KNOBS)?.enter(|| {
        let mut model = typed.into_decluttered()?;
        operators::replace(&mut model)?;
        model.optimize()?;
        model.into_runnable()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tract_onnx::pb::tensor_shape_proto::dimension::Value as Dimension;
    use tract_onnx::pb::type_proto::Value as Type;

    use super::*;

    fn golden(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/goldens/inference");
        std::fs::read(format!("{folder}/{name}.onnx")).unwrap()
    }

    fn count(network: &Network, operator: &str) -> usize {
        let nodes = network.plan.model().nodes().iter();
        nodes.filter(|node| node.op().name() == operator).count()
    }

    #[test]
    fn a_network_runs_by_the_operators_of_this_crate() {
        let network = Network::from_onnx(&golden("separable")).unwrap();
        assert_eq!(count(&network, "Depthwise"), 9);
    }

    #[test]
    fn what_a_file_says_of_its_values_beside_the_nodes_is_not_read() {
        let mut proto = onnx::decode(&golden("lean")).unwrap();
        let plain = Network::from_proto(proto.clone()).unwrap();
        let graph = proto.graph.as_mut().unwrap();
        let mut image = graph.input[0].clone();
        let mut endless = image.clone();
        for (value, side) in [
            (&mut image, Dimension::DimValue(96)),
            (&mut endless, Dimension::DimParam("-".repeat(1_000_000))),
        ] {
            let Some(Type::TensorType(tensor)) = &mut value.r#type.as_mut().unwrap().value else {
                panic!("a tensor");
            };
            tensor.shape.as_mut().unwrap().dim[3].value = Some(side);
        }
        endless.name.clone_from(&graph.initializer[0].name);
        graph.value_info = vec![image, endless.clone()];
        // A tensor that is an input as well keeps the value that it has.
        graph.input.push(endless);
        let described = Network::from_proto(proto).unwrap();
        let input = vec![0.5; CHANNELS * 32 * 48];
        assert_eq!(
            described.logits(&input).unwrap(),
            plain.logits(&input).unwrap()
        );
    }
}
