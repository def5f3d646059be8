//! The optimiser, gradient clipping by global norm, and learning rates over time.

mod adamw;

use burn::module::{AutodiffModule, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use serde::{Deserialize, Serialize};

pub use adamw::AdamW;

/// Added to the norm before it divides, as in PyTorch's `clip_grad_norm_`.
const EPSILON: f64 = 1e-6;

/// Scales all gradients together so that their global L2 norm is at most `max_norm`; returns the norm before, `[1]`.
///
/// burn's own clipping treats every parameter by itself, which changes the direction of a step.
pub fn clip_global_norm<B: AutodiffBackend, M: AutodiffModule<B>>(
    module: &M,
    mut gradients: GradientsParams,
    max_norm: f64,
) -> (GradientsParams, Tensor<B::InnerBackend, 1>) {
    let mut squares = SumOfSquares::<B> {
        gradients: &gradients,
        sum: None,
    };
    module.visit(&mut squares);
    let device = module.devices().into_iter().next().unwrap_or_default();
    let norm = squares
        .sum
        .map_or_else(|| Tensor::zeros([1], &device), Tensor::sqrt);
    // The factor stays on the device: reading it back would wait for the whole backward pass.
    let factor = norm
        .clone()
        .add_scalar(EPSILON)
        .recip()
        .mul_scalar(max_norm)
        .clamp_max(1.0);
    let mut scale = Scale::<B> {
        gradients: &mut gradients,
        factor,
    };
    module.visit(&mut scale);
    (gradients, norm)
}

struct SumOfSquares<'a, B: AutodiffBackend> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<B::InnerBackend, 1>>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for SumOfSquares<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = self.gradients.get::<B::InnerBackend, D>(param.id) {
            let square = gradient.square().sum();
            self.sum = Some(match self.sum.take() {
                None => square,
                Some(sum) => sum.add(square),
            });
        }
    }
}

struct Scale<'a, B: AutodiffBackend> {
    gradients: &'a mut GradientsParams,
    factor: Tensor<B::InnerBackend, 1>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Scale<'_, B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        if let Some(gradient) = self.gradients.remove::<B::InnerBackend, D>(param.id) {
            let factor = self.factor.clone().reshape([1; D]);
            self.gradients
                .register::<B::InnerBackend, D>(param.id, gradient.mul(factor));
        }
    }
}

/// How the learning rate changes over a training run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Schedule {
    /// The same rate throughout, after the warm-up.
    Constant,
    /// Half a cosine from the full rate down to a hundredth of it, after the warm-up (Loshchilov and Hutter 2017).
    Cosine,
}

impl Schedule {
    /// The rate of a step, from 0, of `total` steps; the first `warm_up` steps rise linearly to `peak`.
    #[must_use]
    pub fn rate(self, peak: f64, step: usize, total: usize, warm_up: usize) -> f64 {
        if step < warm_up {
            return peak * (step + 1) as f64 / warm_up as f64;
        }
        match self {
            Self::Constant => peak,
            Self::Cosine => {
                let span = total.saturating_sub(warm_up).max(1) as f64;
                let progress = ((step - warm_up) as f64 / span).min(1.0);
                let floor = peak / 100.0;
                floor + (peak - floor) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_then_fall() {
        let rate = |step| Schedule::Cosine.rate(1.0, step, 110, 10);
        assert_eq!(rate(0), 0.1);
        assert_eq!(rate(9), 1.0);
        assert_eq!(rate(10), 1.0);
        assert!((rate(60) - 0.505).abs() < 1e-12);
        assert!((rate(110) - 0.01).abs() < 1e-12);
        assert_eq!(Schedule::Constant.rate(0.5, 99, 100, 0), 0.5);
    }
}
