//! AdamW (Loshchilov and Hutter 2019): the arithmetic and the record of burn's, a step as one operation of the backend.

use burn::module::AutodiffModule;
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{AdamWState, AdaptiveMomentumState, LearningRate, SimpleOptimizer};
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;

use crate::kernels::{AdamStep, Kernels, primitive, tensor};

/// Decay of the running mean of gradients and of their squares: PyTorch's defaults.
const BETAS: [f32; 2] = [0.9, 0.999];
/// Added to the root of the mean square: PyTorch's default.
const EPSILON: f32 = 1e-8;

/// AdamW with PyTorch's defaults.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    weight_decay: f32,
}

impl AdamW {
    /// With this decoupled weight decay, of which the learning rate is still a factor.
    #[must_use]
    pub fn new(weight_decay: f32) -> Self {
        Self { weight_decay }
    }

    /// An optimiser of a module.
    #[must_use]
    pub fn init<B, M>(self) -> OptimizerAdaptor<Self, M, B>
    where
        B: AutodiffBackend<InnerBackend: Kernels>,
        M: AutodiffModule<B>,
    {
        self.into()
    }
}

impl<B: Kernels> SimpleOptimizer<B> for AdamW {
    type State<const D: usize> = AdamWState<B, D>;

    fn step<const D: usize>(
        &self,
        rate: LearningRate,
        weights: Tensor<B, D>,
        gradient: Tensor<B, D>,
        state: Option<Self::State<D>>,
    ) -> (Tensor<B, D>, Option<Self::State<D>>) {
        let (time, moments) = match state {
            Some(AdamWState { momentum: m }) => (m.time + 1, [m.moment_1, m.moment_2]),
            None => (1, [(); 2].map(|()| gradient.zeros_like())),
        };
        let step = AdamStep {
            betas: BETAS,
            rests: BETAS.map(|beta| 1.0 - beta),
            corrections: BETAS.map(|beta| 1.0 - beta.powi(time as i32)),
            epsilon: EPSILON,
            decay: (1.0 - rate * f64::from(self.weight_decay)) as f32,
            rate: rate as f32,
        };
        let (weights, gradient) = (primitive(weights), primitive(gradient));
        let [weights, moment_1, moment_2] =
            B::adamw::<D>(weights, gradient, moments.map(primitive), step);
        let momentum = AdaptiveMomentumState {
            time,
            moment_1: tensor(moment_1),
            moment_2: tensor(moment_2),
            max_moment_2: None,
        };
        (tensor(weights), Some(AdamWState { momentum }))
    }

    fn to_device<const D: usize>(mut state: Self::State<D>, device: &B::Device) -> Self::State<D> {
        state.momentum = state.momentum.to_device(device);
        state
    }
}
