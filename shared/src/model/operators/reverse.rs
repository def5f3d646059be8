//! The mirror image: tract's walk over an axis from its end, a value at a time, replaced by reversed rows.

use tract_onnx::prelude::{
    Datum, IntoTensor, TValue, TVec, TractResult, TypedFact, TypedModel, TypedNode, tvec,
};
use tract_onnx::tract_core::internal::{
    DatumExt, EvalContext, EvalOp, Op, StaticName, TypedOp, args_1, as_op, op_as_typed_op,
    op_out_of_plan,
};
use tract_onnx::tract_core::ops::Downsample;

/// The operation that does what the node does, when it is the reversal of the last axis, in single precision.
pub(super) fn fitting(model: &TypedModel, node: &TypedNode) -> Option<Reverse> {
    let walk = node.op_as::<Downsample>()?;
    let facts = model.node_input_facts(node.id).ok()?;
    let shape = facts.first()?.shape.as_concrete()?;
    let last = walk.axis + 1 == shape.len();
    let plain = facts[0].datum_type == f32::datum_type() && !shape.contains(&0);
    (last && walk.stride == -1 && walk.modulo == 0 && plain).then(|| Reverse {
        shape: shape.into(),
    })
}

/// Every row of the last axis from its end to its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reverse {
    shape: TVec<usize>,
}

impl Op for Reverse {
    fn name(&self) -> StaticName {
        "Reverse".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Reverse {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut output = args_1!(inputs).into_tensor();
        let mut values = output.try_as_plain_ram_mut()?;
        let width = self.shape.last().copied().unwrap_or(1);
        for row in values.as_slice_mut::<f32>()?.chunks_exact_mut(width) {
            row.reverse();
        }
        Ok(tvec!(output.into()))
    }
}

impl TypedOp for Reverse {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&self.shape)))
    }

    as_op!();
}
