//! The kernels on a differentiating backend: one node of the graph each.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::backend::AutodiffBackend;
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
        let output = B::convolution(px.clone(), pw.clone(), bias.primitive, stride);
        match ConvolutionBackward
            .prepare::<C>([x.node, weight.node, bias.node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((px, pw, stride), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn depthwise(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        stride: usize,
    ) -> FloatTensor<Self> {
        let (px, pw) = (x.primitive.clone(), weight.primitive.clone());
        let output = B::depthwise(px.clone(), pw.clone(), bias.primitive, stride);
        match DepthwiseBackward
            .prepare::<C>([x.node, weight.node, bias.node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((px, pw, stride), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn upconvolution(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (px, pw) = (x.primitive.clone(), weight.primitive.clone());
        let output = B::upconvolution(px.clone(), pw.clone(), bias.primitive);
        match UpconvolutionBackward
            .prepare::<C>([x.node, weight.node, bias.node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((px, pw), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn normalise(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        group: Group,
        epsilon: f64,
    ) -> Normalised<FloatTensor<Self>> {
        let (px, pscale) = (x.primitive.clone(), scale.primitive.clone());
        let result = B::normalise(px.clone(), pscale.clone(), shift.primitive, group, epsilon);
        let (mean, variance) = (result.mean, result.variance);
        let output = match NormaliseBackward
            .prepare::<C>([x.node, scale.node, shift.node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(
                (px, pscale, mean.clone(), variance.clone(), group, epsilon),
                result.output,
            ),
            OpsKind::UnTracked(prep) => prep.finish(result.output),
        };
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
        match RectifyBackward
            .prepare::<C>([x.node, slope.node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((px, pslope), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn concatenate(a: FloatTensor<Self>, b: FloatTensor<Self>) -> FloatTensor<Self> {
        let channels = tensor::<B, 4>(a.primitive.clone()).dims()[1];
        let output = B::concatenate(a.primitive, b.primitive);
        match ConcatenateBackward
            .prepare::<C>([a.node, b.node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(channels, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }

    fn enlarge(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let output = B::enlarge(x.primitive);
        match EnlargeBackward
            .prepare::<C>([x.node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish((), output),
            OpsKind::UnTracked(prep) => prep.finish(output),
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
        let [node_x, node_weight, node_bias] = ops.parents;
        let (by_x, by_weight, by_bias) =
            B::convolution_backward(x, weight, gradient, stride, node_x.is_some());
        let all = [
            (node_x, by_x),
            (node_weight, Some(by_weight)),
            (node_bias, Some(by_bias)),
        ];
        for (node, gradient) in all {
            if let (Some(node), Some(gradient)) = (node, gradient) {
                gradients.register::<B>(node.id, gradient);
            }
        }
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
        for (node, gradient) in ops.parents.into_iter().zip([by_x, by_weight, by_bias]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
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
        for (node, gradient) in ops.parents.into_iter().zip([by_x, by_weight, by_bias]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
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
        for (node, gradient) in ops.parents.into_iter().zip([by_x, by_scale, by_shift]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
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
        for (node, gradient) in ops.parents.into_iter().zip([by_x, by_slope]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
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
        for (node, gradient) in ops.parents.into_iter().zip([by_a, by_b]) {
            if let Some(node) = node {
                gradients.register::<B>(node.id, gradient);
            }
        }
    }
}

#[derive(Debug)]
struct EnlargeBackward;

impl<B: Kernels> Backward<B, 1> for EnlargeBackward {
    type State = ();

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<B>(&ops.node);
        let [node] = ops.parents;
        if let Some(node) = node {
            gradients.register::<B>(node.id, B::enlarge_backward(gradient));
        }
    }
}
