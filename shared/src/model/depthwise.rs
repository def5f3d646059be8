//! tract's convolutions of every channel by itself, replaced by [`Steps`].
//!
//! tract walks over such a convolution pixel by pixel where its stride is not 1 and tap by tap elsewhere. In networks
//! that are made of these layers, as EfficientNet's encoders are, that was more than half of the time of a run.

use tract_onnx::prelude::{
    Datum, TValue, TVec, Tensor, TractResult, TypedFact, TypedModel, TypedNode, tvec,
};
use tract_onnx::tract_core::internal::{
    DatumExt, EvalContext, EvalOp, Op, StaticName, TypedModelPatch, TypedOp, as_op, bail,
    op_as_typed_op, op_out_of_plan,
};
use tract_onnx::tract_core::ops::cnn::KernelFormat;
use tract_onnx::tract_core::ops::cnn::conv::Conv;

use crate::depthwise::{Room, Steps};

/// Replaces what [`Steps`] can do; other convolutions are left to tract.
pub(super) fn replace(model: &mut TypedModel) -> TractResult<()> {
    let found: Vec<_> = model
        .nodes()
        .iter()
        .filter_map(|node| Some((node.id, fitting(model, node)?)))
        .collect();
    for (id, depthwise) in found {
        let node = model.node(id);
        TypedModelPatch::replace_single_op(model, node, &node.inputs, depthwise)?.apply(model)?;
    }
    Ok(())
}

/// The operation that does what the node does, when it is one of a square kernel of an odd side, zero padding of half of
/// it all around, one stride, and as many filters as channels, on one image of single precision.
fn fitting(model: &TypedModel, node: &TypedNode) -> Option<Depthwise> {
    let convolution = node.op_as::<Conv>()?;
    let pool = &convolution.pool_spec;
    let facts = model.node_input_facts(node.id).ok()?;
    let [image, kernel, bias] = facts[..] else {
        return None;
    };
    let plain = facts
        .iter()
        .all(|fact| fact.datum_type == f32::datum_type());
    if !plain || convolution.q_params.is_some() || convolution.kernel_fmt != KernelFormat::OIHW {
        return None;
    }
    let shape = image.shape.as_concrete()?;
    let layout = pool.data_format.shape(shape).ok()?;
    let (&channels, &[height, width]) = (layout.c(), layout.hw_dims()) else {
        return None;
    };
    let (&[side, other], strides) = (&pool.kernel_shape[..], pool.strides()) else {
        return None;
    };
    let by_channel = convolution.group == channels
        && pool.output_channels == channels
        && !pool.data_format.c_is_last()
        && layout.n().is_none_or(|&n| n == 1)
        && kernel.shape.as_concrete()? == [channels, 1, side, side]
        && bias.shape.as_concrete()? == [channels];
    let square = side == other
        && side % 2 == 1
        && strides[0] > 0
        && strides[0] == strides[1]
        && pool.dilations().iter().all(|&d| d == 1);
    if !by_channel || !square || height == 0 || width == 0 {
        return None;
    }
    let steps = Steps::new(height, width, side, strides[0]);
    let padding = pool.computed_padding(&[height, width]);
    let same = padding.iter().all(|axis| axis.pad_before == side / 2)
        && padding[0].convoluted == steps.rows()
        && padding[1].convoluted == steps.columns();
    let batch = layout.n().map(|_| 1);
    let output = [channels, steps.rows(), steps.columns()];
    same.then_some(Depthwise {
        output: batch.into_iter().chain(output).collect(),
        steps,
    })
}

/// A convolution of every channel by itself: of an image `[channels, height, width]` or a batch of one, with kernels
/// `[channels, 1, k, k]` and biases `[channels]`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Depthwise {
    steps: Steps,
    /// Shape of the result, with a batch where the image has one.
    output: TVec<usize>,
}

impl Op for Depthwise {
    fn name(&self) -> StaticName {
        "Depthwise".into()
    }

    op_as_typed_op!();
}

impl EvalOp for Depthwise {
    op_out_of_plan!();

    fn eval(&self, _: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let [image, kernel, bias] = &inputs[..] else {
            bail!("three inputs are needed, not {}", inputs.len());
        };
        let mut output = Tensor::zero::<f32>(&self.output)?;
        let planes = plain(image)?.chunks_exact(self.steps.area());
        let kernels = plain(kernel)?.chunks_exact(self.steps.taps());
        let mut room = Room::default();
        let mut results = output.try_as_plain_ram_mut()?;
        let results = results.as_slice_mut::<f32>()?;
        let results = results.chunks_exact_mut(self.steps.positions());
        let filters = kernels.zip(plain(bias)?);
        for ((result, plane), (kernel, &bias)) in results.zip(planes).zip(filters) {
            self.steps.convolve(plane, kernel, bias, &mut room, result);
        }
        Ok(tvec!(output.into()))
    }
}

impl TypedOp for Depthwise {
    fn output_facts(&self, _: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(&self.output)))
    }

    as_op!();
}

fn plain(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice::<f32>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tract_onnx::prelude::{Framework, InferenceModelExt};

    use super::*;

    /// That they compute the same is for the goldens to say; here, that they are taken and no other.
    #[test]
    fn square_kernels_of_an_odd_side_are_taken_and_no_others() {
        let file = include_bytes!("../../tests/goldens/inference/separable.onnx");
        let model = tract_onnx::onnx()
            .model_for_read(&mut &file[..])
            .and_then(InferenceModelExt::into_typed)
            .and_then(TypedModel::into_decluttered);
        let mut model = model.unwrap();
        replace(&mut model).unwrap();
        let mut sides: Vec<_> = model
            .nodes()
            .iter()
            .filter_map(|node| node.op_as())
            .collect();
        sides.sort_by_key(|d: &&Depthwise| d.steps.taps());
        let sides: Vec<_> = sides.iter().map(|d| d.steps.taps().isqrt()).collect();
        // tract has made one of the kernels of side 5 the one that pads the image by a row.
        assert_eq!(sides, [1, 3, 3, 5, 5, 5, 7]);
        let mut left: Vec<_> = model
            .nodes()
            .iter()
            .filter_map(|node| node.op_as())
            .collect();
        left.retain(|c: &&Conv| c.group == 8 && c.pool_spec.output_channels == 8);
        assert_eq!(left.len(), 4);
    }
}
