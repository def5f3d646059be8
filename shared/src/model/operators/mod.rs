//! Operators of tract's that are replaced by faster ones that compute the same.

mod depthwise;

use tract_onnx::prelude::{Tensor, TractResult, TypedModel, TypedOp};
use tract_onnx::tract_core::internal::TypedModelPatch;

/// Replaces what there is something faster for, in a model that is decluttered and not optimised yet.
pub(super) fn replace(model: &mut TypedModel) -> TractResult<()> {
    let found: Vec<(usize, Box<dyn TypedOp>)> = model
        .nodes()
        .iter()
        .filter_map(|node| {
            let operator = depthwise::fitting(model, node)?;
            Some((node.id, Box::new(operator) as _))
        })
        .collect();
    for (id, operator) in found {
        let node = model.node(id);
        TypedModelPatch::replace_single_op(model, node, &node.inputs, operator)?.apply(model)?;
    }
    Ok(())
}

/// The values of a tensor of single precision.
fn values(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice::<f32>()
}
