//! What a network is worth in the middle of training.

use glioseg_shared::scoring::Counts;

use crate::batches::Batches;
use crate::checkpoint::Validation;
use crate::kernels::Kernels;
use crate::networks::Network;

/// Slices of a validation batch: no gradients are kept, so it may be larger than one of training.
const VALIDATION_BATCH: usize = 32;

/// Mean volume Dice by patient and share of empty slices with a false tumour, at probability 0.5.
pub fn validate<B: Kernels>(network: &Network<B>, batches: &Batches<'_, B>) -> Validation {
    let mut volumes: Vec<Counts> = Vec::new();
    let (mut empty, mut false_positive) = (0u32, 0u32);
    let all: Vec<usize> = (0..batches.len()).collect();
    for chosen in all.chunks(VALIDATION_BATCH) {
        let stack = batches.gather(chosen);
        let channels = stack.dims()[1] - 1;
        let truth = stack.clone().narrow(1, channels, 1).into_data();
        let logits = network.forward(stack.narrow(1, 0, channels)).into_data();
        let truth: Vec<bool> = truth.iter::<f32>().map(|t| t >= 0.5).collect();
        let predicted: Vec<bool> = logits.iter::<f32>().map(|x| x >= 0.0).collect();
        let plane = truth.len() / chosen.len();
        let slices = predicted.chunks(plane).zip(truth.chunks(plane));
        for (&slice, (predicted, truth)) in chosen.iter().zip(slices) {
            let counts = counts(predicted, truth);
            let patient = batches.patient(slice);
            volumes.resize(volumes.len().max(patient + 1), Counts::default());
            volumes[patient] += counts;
            if counts.true_positive + counts.false_negative == 0 {
                empty += 1;
                false_positive += u32::from(counts.false_positive > 0);
            }
        }
    }
    Validation {
        dice: volumes.iter().map(Counts::dice).sum::<f64>() / volumes.len() as f64,
        false_positive_rate: f64::from(false_positive) / f64::from(empty.max(1)),
    }
}

fn counts(predicted: &[bool], truth: &[bool]) -> Counts {
    let mut counts = Counts::default();
    for (&predicted, &truth) in predicted.iter().zip(truth) {
        let cell = match (predicted, truth) {
            (true, true) => &mut counts.true_positive,
            (true, false) => &mut counts.false_positive,
            (false, true) => &mut counts.false_negative,
            (false, false) => &mut counts.true_negative,
        };
        *cell += 1;
    }
    counts
}
