//! The losses on a differentiating backend: one node of the graph where the backend beneath has a kernel.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;

use super::{Loss, Losses, compose};
use crate::kernels::{primitive, tensor};

impl<B: Losses, C: CheckpointStrategy> Losses for Autodiff<B, C> {
    fn loss(loss: Loss, logits: FloatTensor<Self>, target: FloatTensor<Self>) -> FloatTensor<Self> {
        let (plain, constant) = (logits.primitive.clone(), target.primitive.clone());
        let Some((output, gradient)) = B::loss_and_gradient(loss, plain, constant) else {
            return primitive(compose::<Self>(loss, tensor(logits), tensor(target)));
        };
        match LossBackward
            .prepare::<C>([logits.node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(gradient, output),
            OpsKind::UnTracked(prep) => prep.finish(output),
        }
    }
}

/// Scales the gradient of the loss, which is its state, by that of what follows.
#[derive(Debug)]
struct LossBackward;

impl<B: Backend> Backward<B, 1> for LossBackward {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<Self::State, 1>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let outer = tensor::<B, 1>(gradients.consume::<B>(&ops.node)).reshape([1; 4]);
        let [node] = ops.parents;
        if let Some(node) = node {
            let gradient = tensor::<B, 4>(ops.state).mul(outer);
            gradients.register::<B>(node.id, primitive(gradient));
        }
    }
}
