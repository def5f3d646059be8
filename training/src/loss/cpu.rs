//! The losses and their gradients on the CPU: two passes over the pixels, planes over the cores.
//!
//! Sums run in an order that does not depend on the number of threads: equal input gives equal bits.

use burn::backend::Flex;
use burn::tensor::TensorData;
use burn::tensor::ops::FloatTensor;
use rayon::prelude::*;

use super::{Loss, Losses, SMOOTHING};
use crate::kernels::elementary::{exp, ln};

type Flat = FloatTensor<Flex>;

impl Losses for Flex {
    fn loss(loss: Loss, logits: Flat, target: Flat) -> Flat {
        let (logits, target) = (logits.to_contiguous(), target.to_contiguous());
        let sums = sums(loss, &logits, &target);
        scalar(value(&sums, pixels(&logits)))
    }

    fn loss_and_gradient(loss: Loss, logits: Flat, target: Flat) -> Option<(Flat, Flat)> {
        let (logits, target) = (logits.to_contiguous(), target.to_contiguous());
        let sums = sums(loss, &logits, &target);
        let (count, area) = (pixels(&logits), area(&logits));
        let groups = sums.len() as f64;
        let slopes: Vec<_> = sums.iter().map(|s| s.dice_by_probability(groups)).collect();
        let share = 1.0 / count as f32;
        let mut gradient = vec![0.0; count];
        gradient
            .par_chunks_exact_mut(area)
            .zip(logits.storage::<f32>().par_chunks_exact(area))
            .zip(target.storage::<f32>().par_chunks_exact(area))
            .enumerate()
            .for_each(|(plane, ((to, logits), target))| {
                // With Dice over the batch all planes have the same slope.
                let [constant, by_target] = slopes[plane.min(slopes.len() - 1)];
                let pixels = to.iter_mut().zip(logits).zip(target);
                if loss == Loss::DiceFocal {
                    pixels.for_each(|((to, &x), &t)| {
                        let p = Probability::of(x);
                        *to = p.slope() * (constant + by_target * t) + p.focal(x, t).1 * share;
                    });
                } else {
                    pixels.for_each(|((to, &x), &t)| {
                        let p = Probability::of(x);
                        *to = p.slope() * (constant + by_target * t) + (p.value - t) * share;
                    });
                }
            });
        let shape: [usize; 4] = logits.layout().shape().dims();
        Some((
            scalar(value(&sums, count)),
            Flat::from_data(TensorData::new(gradient, shape)),
        ))
    }
}

fn scalar(value: f64) -> Flat {
    Flat::from_data(TensorData::new(vec![value as f32], [1]))
}

/// Pixels of a plane.
fn area(logits: &Flat) -> usize {
    let [_, _, height, width]: [usize; 4] = logits.layout().shape().dims();
    height * width
}

/// Pixels of the batch.
fn pixels(logits: &Flat) -> usize {
    logits.storage::<f32>().len()
}

/// sigmoid(x), and what else comes from exp(-|x|).
#[derive(Clone, Copy)]
struct Probability {
    /// sigmoid(x).
    value: f32,
    /// sigmoid(-x), which is 1 - sigmoid(x) without its rounding.
    opposite: f32,
    /// log(1 + exp(-|x|)).
    softplus: f32,
}

impl Probability {
    #[inline]
    fn of(x: f32) -> Self {
        let e = exp(-x.abs());
        let (large, small) = (1.0 / (1.0 + e), e / (1.0 + e));
        Self {
            value: if x >= 0.0 { large } else { small },
            opposite: if x >= 0.0 { small } else { large },
            softplus: ln(1.0 + e),
        }
    }

    /// Derivative of sigmoid(x) by x.
    #[inline]
    fn slope(self) -> f32 {
        self.value * self.opposite
    }

    /// x - x t - logsigmoid(x).
    #[inline]
    fn entropy(self, x: f32, t: f32) -> f32 {
        x.max(0.0) - x * t + self.softplus
    }

    /// Focal loss of a pixel, and its derivative by x.
    #[inline]
    fn focal(self, x: f32, t: f32) -> (f32, f32) {
        // The share of what is wrong, sigmoid(-x (2t - 1)), squared.
        let sign = 2.0 * t - 1.0;
        let wrong = Self::of(-x * sign);
        let modulation = wrong.value * wrong.value;
        let entropy = self.entropy(x, t);
        let by_modulation = -2.0 * modulation * wrong.opposite * sign;
        let slope = modulation * (self.value - t) + by_modulation * entropy;
        (modulation * entropy, slope)
    }
}

/// Sums over the pixels that share a Dice.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    /// Of probability times target.
    shared: f64,
    /// Of probabilities and targets.
    total: f64,
    /// Of cross-entropy or focal loss.
    by_pixel: f64,
}

impl Sums {
    fn plus(self, other: &Self) -> Self {
        Self {
            shared: self.shared + other.shared,
            total: self.total + other.total,
            by_pixel: self.by_pixel + other.by_pixel,
        }
    }

    fn dice(&self) -> f64 {
        1.0 - (2.0 * self.shared + SMOOTHING) / (self.total + SMOOTHING)
    }

    /// Derivative of this Dice, one of `groups` in a mean, by the probability of a pixel: the first number plus its
    /// target times the second.
    fn dice_by_probability(&self, groups: f64) -> [f32; 2] {
        let total = self.total + SMOOTHING;
        let constant = (2.0 * self.shared + SMOOTHING) / (total * total);
        [constant, -2.0 / total].map(|v| (v / groups) as f32)
    }
}

fn value(sums: &[Sums], pixels: usize) -> f64 {
    let dice = sums.iter().map(Sums::dice).sum::<f64>() / sums.len() as f64;
    dice + sums.iter().map(|s| s.by_pixel).sum::<f64>() / pixels as f64
}

/// Sums of each sample's plane, or of all planes together.
fn sums(loss: Loss, logits: &Flat, target: &Flat) -> Vec<Sums> {
    let area = area(logits);
    let planes: Vec<_> = logits
        .storage::<f32>()
        .par_chunks_exact(area)
        .zip(target.storage::<f32>().par_chunks_exact(area))
        .map(|(logits, target)| match loss {
            Loss::DiceFocal => sums_of_plane(logits, target, |p, x, t| p.focal(x, t).0),
            Loss::DiceCe | Loss::BatchDiceCe => sums_of_plane(logits, target, Probability::entropy),
        })
        .collect();
    if loss.is_over_the_batch() {
        vec![planes.iter().fold(Sums::default(), Sums::plus)]
    } else {
        planes
    }
}

/// Lanes that a sum is spread over, so that the compiler can add them side by side.
const LANES: usize = 16;
/// Pixels that are added up in single precision before they join the total.
const RUN: usize = 1024;

fn sums_of_plane(
    logits: &[f32],
    target: &[f32],
    by_pixel: impl Fn(Probability, f32, f32) -> f32,
) -> Sums {
    let mut sums = Sums::default();
    for (logits, target) in logits.chunks(RUN).zip(target.chunks(RUN)) {
        let mut lanes = [[0.0f32; LANES]; 3];
        let [shared, total, pixel] = &mut lanes;
        for (logits, target) in logits.chunks(LANES).zip(target.chunks(LANES)) {
            for (i, (&x, &t)) in logits.iter().zip(target).enumerate() {
                let p = Probability::of(x);
                shared[i] += p.value * t;
                total[i] += p.value + t;
                pixel[i] += by_pixel(p, x, t);
            }
        }
        let [shared, total, by_pixel] = lanes.map(|l| f64::from(l.iter().sum::<f32>()));
        sums = sums.plus(&Sums {
            shared,
            total,
            by_pixel,
        });
    }
    sums
}
