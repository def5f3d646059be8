//! Convolutions of every channel by itself: tract's, replaced by [`Steps`].
//!
//! tract walks over such a convolution pixel by pixel where its stride is not 1 and tap by tap elsewhere. In networks
//! that are made of these layers, as EfficientNet's encoders are, that was more than half of the time of a run.

use tract_onnx::prelude::{
    Datum, TValue, TVec, Tensor, TractResult, TypedFact, TypedModel, TypedNode, tvec,
};
use tract_onnx::tract_core::internal::{
    DatumExt, EvalContext, EvalOp, Op, StaticName, TypedOp, as_op, bail, ensure, op_as_typed_op,
    op_out_of_plan,
};
use tract_onnx::tract_core::ops::cnn::KernelFormat;
use tract_onnx::tract_core::ops::cnn::conv::Conv;

use super::super::onnx::MAX_ELEMENTS;
use super::values;
use crate::depthwise::{Scratch, Steps};

/// Largest side of a kernel that is laid out; larger ones are none of a network's.
const MAX_KERNEL: usize = 31;

/// The operation that does what the node does, when it is one of a square kernel of an odd side, zero padding of half of
/// it all around, one stride no longer than the kernel, and as many filters as channels, on one image of single precision.
pub(super) fn fitting(model: &TypedModel, node: &TypedNode) -> Option<Depthwise> {
    let convolution = node.op_as::<Conv>()?;
    let pool = &convolution.pool_spec;
    let facts = model.node_input_facts(node.id).ok()?;
    let [image, kernel, bias] = facts[..] else {
        return None;
    };
    let single = facts
        .iter()
        .all(|fact| fact.datum_type == f32::datum_type());
    if !single || convolution.q_params.is_some() || convolution.kernel_fmt != KernelFormat::OIHW {
        return None;
    }
    let layout = pool.data_format.shape(image.shape.as_concrete()?).ok()?;
    let channels = *layout.c();
    let (&[height, width], &[side, other_side]) = (layout.hw_dims(), &pool.kernel_shape[..]) else {
        return None;
    };
    let (strides, padding) = (pool.strides(), pool.computed_padding(&[height, width]));
    let (&[stride, other_stride], [rows, columns]) = (&*strides, &padding[..]) else {
        return None;
    };
    // A convolution without biases has a zero for them.
    let biases = bias.shape.as_concrete()?;
    let by_channel = !pool.data_format.c_is_last()
        && layout.n().is_none_or(|&n| n == 1)
        && convolution.group == channels
        && pool.output_channels == channels
        && kernel.shape.as_concrete()? == [channels, 1, side, side]
        && (biases.is_empty() || biases == [channels]);
    let square = side == other_side
        && side % 2 == 1
        && side <= MAX_KERNEL
        && stride == other_stride
        && (1..=side).contains(&stride)
        && pool.dilations().iter().all(|&dilation| dilation == 1);
    if !by_channel || !square || height == 0 || width == 0 {
        return None;
    }
    let steps = Steps::new(height, width, side, stride);
    let same = [rows, columns]
        .iter()
        .all(|axis| axis.pad_before == side / 2)
        && [rows.convoluted, columns.convoluted] == [steps.rows(), steps.columns()];
    let small = steps
        .laid_out()
        .is_some_and(|values| values <= MAX_ELEMENTS);
    let batch = layout.n().map(|_| 1);
    let output = [channels, steps.rows(), steps.columns()];
    (same && small).then_some(Depthwise {
        steps,
        channels,
        output: batch.into_iter().chain(output).collect(),
    })
}

/// A convolution of every channel by itself: of an image `[channels, height, width]` or a batch of one, with kernels
/// `[channels, 1, k, k]` and biases `[channels]`, or one for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Depthwise {
    steps: Steps,
    channels: usize,
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
        let (image, kernel, bias) = (values(image)?, values(kernel)?, values(bias)?);
        let Self {
            steps, channels, ..
        } = self;
        ensure!(
            image.len() == channels * steps.area()
                && kernel.len() == channels * steps.taps()
                && [1, *channels].contains(&bias.len()),
            "{steps:?} over {channels} channels cannot take {}, {} and {} values",
            image.len(),
            kernel.len(),
            bias.len()
        );
        let mut output = Tensor::zero::<f32>(&self.output)?;
        let mut results = output.try_as_plain_ram_mut()?;
        let results = results.as_slice_mut::<f32>()?;
        let results = results.chunks_exact_mut(steps.positions());
        let planes = image.chunks_exact(steps.area());
        let filters = kernel.chunks_exact(steps.taps()).zip(bias.iter().cycle());
        let mut scratch = Scratch::default();
        for ((result, plane), (kernel, &bias)) in results.zip(planes).zip(filters) {
            steps.convolve(plane, kernel, bias, &mut scratch, result);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tract_onnx::prelude::{Framework, InferenceModelExt};

    use super::super::replace;
    use super::*;

    /// Kernel side, stride, height and width of what is taken, and how many convolutions by channel are left.
    fn taken(file: &[u8]) -> (Vec<[usize; 4]>, usize) {
        let model = tract_onnx::onnx()
            .model_for_read(&mut &file[..])
            .and_then(InferenceModelExt::into_typed)
            .and_then(TypedModel::into_decluttered);
        let mut model = model.unwrap();
        replace(&mut model).unwrap();
        let mut taken: Vec<_> = (model.nodes().iter())
            .filter_map(|node| node.op_as::<Depthwise>())
            .map(|d| d.steps.dimensions())
            .collect();
        taken.sort_unstable();
        let left = (model.nodes().iter())
            .filter_map(|node| node.op_as::<Conv>())
            .filter(|c| c.group > 1 && c.group == c.pool_spec.output_channels);
        (taken, left.count())
    }

    /// That they compute the same is for the goldens to say; here, that they are taken and no others.
    #[test]
    fn square_kernels_of_an_odd_side_are_taken_and_no_others() {
        let (taken, left) = taken(include_bytes!(
            "../../../tests/goldens/inference/separable.onnx"
        ));
        let [height, width] = [32, 48];
        // tract has made one of the kernels of side 5 the one that pads the image by a row: it is among those left.
        let expected = [
            [1, 1, height, width],
            [3, 1, height, width],
            [3, 1, height, width],
            [3, 1, height, width],
            [3, 2, height, width],
            [5, 1, height / 2, width / 2],
            [5, 2, height, width],
            [5, 3, 33, width],
            [7, 1, height, width],
        ];
        assert_eq!(taken, expected);
        assert_eq!(left, 5);
    }
}
