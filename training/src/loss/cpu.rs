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
        scalar(value(loss, &sums, pixels(&logits)))
    }

    fn loss_and_gradient(loss: Loss, logits: Flat, target: Flat) -> Option<(Flat, Flat)> {
        let (logits, target) = (logits.to_contiguous(), target.to_contiguous());
        let sums = sums(loss, &logits, &target);
        let (count, area) = (pixels(&logits), area(&logits));
        let slopes = slopes(loss, &sums);
        let share = 1.0 / count as f32;
        let mut gradient = vec![0.0; count];
        gradient
            .par_chunks_exact_mut(area)
            .zip(logits.storage::<f32>().par_chunks_exact(area))
            .zip(target.storage::<f32>().par_chunks_exact(area))
            .zip(slopes)
            .for_each(|(((to, logits), target), [constant, by_target])| {
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
            scalar(value(loss, &sums, count)),
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

/// Sums over pixels: of a plane, or of all that share a Dice.
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

    /// Derivative of this Dice by the probability of a pixel: the first number plus its target times the second.
    fn dice_by_probability(&self) -> [f64; 2] {
        let total = self.total + SMOOTHING;
        let constant = (2.0 * self.shared + SMOOTHING) / (total * total);
        [constant, -2.0 / total]
    }
}

/// The sums of a plane of pixels.
#[derive(Clone, Copy, Debug)]
struct Plane {
    sums: Sums,
    tumour: bool,
}

/// A loss's Dice over all planes, and the share that it has in the loss; then the share that the Dice of each plane has.
fn terms(loss: Loss, planes: &[Plane]) -> ((Sums, f64), Vec<f64>) {
    let shares = loss.shares();
    let pooled = planes
        .iter()
        .fold(Sums::default(), |all, plane| all.plus(&plane.sums));
    let with_tumour = planes.iter().filter(|p| p.tumour).count().max(1);
    let by_plane = planes.iter().map(|plane| {
        let of_tumour = if plane.tumour {
            shares.with_tumour
        } else {
            0.0
        };
        shares.samples / planes.len() as f64 + of_tumour / with_tumour as f64
    });
    ((pooled, shares.batch), by_plane.collect())
}

fn value(loss: Loss, planes: &[Plane], pixels: usize) -> f64 {
    let ((pooled, share), shares) = terms(loss, planes);
    let by_plane = planes.iter().zip(shares);
    let dice: f64 = by_plane
        .map(|(plane, share)| share * plane.sums.dice())
        .sum();
    share * pooled.dice() + dice + pooled.by_pixel / pixels as f64
}

/// Derivative of all Dice of the loss by the probability of a pixel, plane by plane: the first number plus the pixel's
/// target times the second.
fn slopes(loss: Loss, planes: &[Plane]) -> Vec<[f32; 2]> {
    let ((pooled, share), shares) = terms(loss, planes);
    let of_all = pooled.dice_by_probability();
    let by_plane = planes.iter().zip(shares);
    by_plane
        .map(|(plane, of_plane)| {
            let own = plane.sums.dice_by_probability();
            [0, 1].map(|i| (share * of_all[i] + of_plane * own[i]) as f32)
        })
        .collect()
}

fn sums(loss: Loss, logits: &Flat, target: &Flat) -> Vec<Plane> {
    let area = area(logits);
    logits
        .storage::<f32>()
        .par_chunks_exact(area)
        .zip(target.storage::<f32>().par_chunks_exact(area))
        .map(|(logits, target)| Plane {
            sums: match loss {
                Loss::DiceFocal => sums_of_plane(logits, target, |p, x, t| p.focal(x, t).0),
                Loss::DiceCe | Loss::BatchDiceCe | Loss::TumourDiceCe => {
                    sums_of_plane(logits, target, Probability::entropy)
                }
            },
            tumour: target.iter().any(|&t| t > 0.0),
        })
        .collect()
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
