//! The kernels on a differentiating backend: one node of the graph each.

use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::ops::FloatTensor;

use super::{Group, Kernels, Normalised, tensor};

impl<B: Kernels, C: CheckpointStrategy> Kernels for Autodiff<B, C> {
    fn convolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        let (px, pw) = (x.primitive.clone(), weight.primitive.clone());
        let output = B::convolution(px.clone(), pw.clone(), bias.primitive.clone(), stride);
        tracked::<B, C, _, _>(
            ConvolutionBackward,
            [&x, &weight, &bias],
            (px, pw, stride),
            output,
        )
    }

    fn depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        let (px, pw) = (x.primitive.clone(), weight.primitive.clone());
        let output = B::depthwise(px.clone(), pw.clone(), bias.primitive.clone(), stride);
        tracked::<B, C, _, _>(
            DepthwiseBackward,
            [&x, &weight, &bias],
            (px, pw, stride),
            output,
        )
    }

    fn upconvolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (px, pw) = (x.primitive.clone(), weight.primitive.clone());
        let output = B::upconvolution(px.clone(), pw.clone(), bias.primitive.clone());
        tracked::<B, C, _, _>(
            UpconvolutionBackward,
            [&x, &weight, &bias],
            (px, pw),
            output,
        )
    }

    fn normalise(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        group: Group,
        epsilon: f64,
    ) -> Normalised<FloatTensor<Self>> {
        let (px, pscale) = (x.primitive.clone(), scale.primitive.clone());
        let result = B::normalise(
            px.clone(),
            pscale.clone(),
            shift.primitive.clone(),
            group,
            epsilon,
        );
        let (mean, variance) = (result.mean, result.variance);
        let state = (px, pscale, mean.clone(), variance.clone(), group, epsilon);
        let operands = [&x, &scale, &shift];
        let output = tracked::<B, C, _, _>(NormaliseBackward, operands, state, result.output);
        // Statistics leave the graph: the backward pass above already accounts for them.
        Normalised {
            output,
            mean: <Self as AutodiffBackend>::from_inner(mean),
            variance: <Self as AutodiffBackend>::from_inner(variance),
        }
    }

    fn rectify(x: FloatTensor<Self>, slope: FloatTensor<Self>) -> FloatTensor<Self> {
        let (px, pslope) = (x.primitive.clone(), slope.primitive.clone());
        let output = B::rectify(px.clone(), pslope.clone());
        tracked::<B, C, _, _>(RectifyBackward, [&x, &slope], (px, pslope), output)
    }

    fn concatenate(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let channels = tensor::<B, 4>(a.primitive.clone()).dims()[1];
        let output = B::concatenate(a.primitive.clone(), b.primitive.clone());
        tracked::<B, C, _, _>(ConcatenateBackward, [&a, &b], channels, output)
    }

    fn enlarge(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = B::enlarge(x.primitive.clone());
        tracked::<B, C, _, _>(EnlargeBackward, [&x], (), output)
    }
}

/// The output as a node of the graph below its operands, where one of these is tracked.
fn tracked<B: Kernels, C: CheckpointStrategy, S: Backward<B, N>, const N: usize>(
    step: S,
    operands: [&FloatTensor<Autodiff<B, C>>; N],
    state: S::State,
    output: FloatTensor<B>,
) -> FloatTensor<Autodiff<B, C>> {
    match step
        .prepare::<C>(operands.map(|operand| operand.node.clone()))
        .compute_bound()
        .stateful()
    {
        OpsKind::Tracked(prep) => prep.finish(state, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

/// Hands the gradients on to the parents that are tracked.
fn register<B: Backend, const N: usize>(
    gradients: &mut Gradients,
    parents: [Option<NodeId>; N],
    values: [Option<FloatTensor<B>>; N],
) {
    for (node, value) in parents.into_iter().zip(values) {
        if let (Some(node), Some(value)) = (node, value) {
            gradients.register::<B>(node, value);
        }
    }
}

#[derive(Debug)]
struct ConvolutionBackward;

impl<B: Kernels> Backward<B, 3> for ConvolutionBackward {
    type State = (FloatTensor<B>, FloatTensor<B>, usize);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, weight, stride) = ops.state;
        let parents = ops.parents.map(|node| node.map(|node| node.id));
        let (by_x, by_weight, by_bias) =
            B::convolution_backward(x, weight, gradient, stride, parents[0].is_some());
        register::<B, _>(gradients, parents, [by_x, Some(by_weight), Some(by_bias)]);
    }
}

#[derive(Debug)]
struct DepthwiseBackward;

impl<B: Kernels> Backward<B, 3> for DepthwiseBackward {
    type State = (FloatTensor<B>, FloatTensor<B>, usize);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, weight, stride) = ops.state;
        let (by_x, by_weight, by_bias) = B::depthwise_backward(x, weight, gradient, stride);
        let parents = ops.parents.map(|node| node.map(|node| node.id));
        register::<B, _>(gradients, parents, [by_x, by_weight, by_bias].map(Some));
    }
}

#[derive(Debug)]
struct UpconvolutionBackward;

impl<B: Kernels> Backward<B, 3> for UpconvolutionBackward {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, weight) = ops.state;
        let (by_x, by_weight, by_bias) = B::upconvolution_backward(x, weight, gradient);
        let parents = ops.parents.map(|node| node.map(|node| node.id));
        register::<B, _>(gradients, parents, [by_x, by_weight, by_bias].map(Some));
    }
}

#[derive(Debug)]
struct NormaliseBackward;

impl<B: Kernels> Backward<B, 3> for NormaliseBackward {
    type State = (
        FloatTensor<B>,
        FloatTensor<B>,
        FloatTensor<B>,
        FloatTensor<B>,
        Group,
        f64,
    );

    fn backward(self, ops: Ops<Self::State, 3>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, scale, mean, variance, group, epsilon) = ops.state;
        let (by_x, by_scale, by_shift) =
            B::normalise_backward(x, scale, mean, variance, gradient, group, epsilon);
        let parents = ops.parents.map(|node| node.map(|node| node.id));
        register::<B, _>(gradients, parents, [by_x, by_scale, by_shift].map(Some));
    }
}

#[derive(Debug)]
struct RectifyBackward;

impl<B: Kernels> Backward<B, 2> for RectifyBackward {
    type State = (FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (x, slope) = ops.state;
        let (by_x, by_slope) = B::rectify_backward(x, slope, gradient);
        let parents = ops.parents.map(|node| node.map(|node| node.id));
        register::<B, _>(gradients, parents, [by_x, by_slope].map(Some));
    }
}

#[derive(Debug)]
struct ConcatenateBackward;

impl<B: Kernels> Backward<B, 2> for ConcatenateBackward {
    /// Channels of the first operand.
    type State = usize;

    fn backward(self, ops: Ops<Self::State, 2>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let (by_a, by_b) = B::concatenate_backward(gradient, ops.state);
        let parents = ops.parents.map(|node| node.map(|node| node.id));
        register::<B, _>(gradients, parents, [by_a, by_b].map(Some));
    }
}

#[derive(Debug)]
struct EnlargeBackward;

impl<B: Kernels> Backward<B, 1> for EnlargeBackward {
    type State = ();

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let parents = ops.parents.map(|node| node.map(|node| node.id));
        register::<B, _>(gradients, parents, [Some(B::enlarge_backward(gradient))]);
    }
}
