//! A step of AdamW on the CPU, in one pass over weights, gradient and moments.

use rayon::prelude::*;

use super::AdamStep;

/// Values of a piece that one thread works on: an eighth of a megabyte.
const PIECE: usize = 1 << 15;

/// Weights and both moments after the step.
pub(super) fn adamw(
    weights: &[f32],
    gradient: &[f32],
    moments: [&[f32]; 2],
    step: &AdamStep,
) -> [Vec<f32>; 3] {
    let mut after = [weights, moments[0], moments[1]].map(<[f32]>::to_vec);
    let [weights, first, second] = &mut after;
    if gradient.len() <= PIECE {
        // Most parameters are a few values: not worth waking another thread for.
        update(weights, first, second, gradient, step);
        return after;
    }
    weights
        .par_chunks_mut(PIECE)
        .zip(first.par_chunks_mut(PIECE))
        .zip(second.par_chunks_mut(PIECE))
        .zip(gradient.par_chunks(PIECE))
        .for_each(|(((weights, first), second), gradient)| {
            update(weights, first, second, gradient, step);
        });
    after
}

fn update(
    weights: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    step: &AdamStep,
) {
    let AdamStep {
        betas,
        rests,
        corrections,
        epsilon,
        decay,
        rate,
    } = *step;
    let moments = first.iter_mut().zip(second);
    for ((w, (m, v)), &g) in weights.iter_mut().zip(moments).zip(gradient) {
        *m = *m * betas[0] + g * rests[0];
        *v = *v * betas[1] + g * g * rests[1];
        let delta = *m / corrections[0] / ((*v / corrections[1]).sqrt() + epsilon);
        *w = *w * decay - delta * rate;
    }
}
