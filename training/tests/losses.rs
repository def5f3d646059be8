//! Losses and their gradients against MONAI and PyTorch, and far outside the ordinary range; the kernels of the CPU
//! against tensor operations.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData};
use glioseg_training::loss::{Loss, compose, dice};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::ThreadPoolBuilder;
use serde::Deserialize;

type B = Autodiff<Flex>;

/// Largest difference from MONAI, relative to values above 1: the extreme cases have losses of thousands.
const TOLERANCE: f64 = 1e-5;

const LOSSES: [Loss; 4] = [
    Loss::DiceFocal,
    Loss::DiceCe,
    Loss::BatchDiceCe,
    Loss::TumourDiceCe,
];

#[derive(Deserialize)]
struct Case {
    shape: [usize; 4],
    logits: Vec<f32>,
    target: Vec<f32>,
    dice_focal: f64,
    dice: f64,
    focal: f64,
    dice_ce: f64,
    dice_focal_gradient: Vec<f64>,
}

impl Case {
    fn logits(&self) -> Tensor<B, 4> {
        tensor(&self.logits, self.shape)
    }

    fn target(&self) -> Tensor<B, 4> {
        tensor(&self.target, self.shape)
    }
}

fn cases() -> BTreeMap<String, Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/monai/losses.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn tensor(values: &[f32], shape: [usize; 4]) -> Tensor<B, 4> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &Default::default())
}

fn value(loss: Tensor<B, 1>) -> f64 {
    f64::from(loss.into_scalar())
}

fn gradient(loss: Loss, logits: Tensor<B, 4>, target: Tensor<B, 4>) -> Vec<f32> {
    let logits = logits.require_grad();
    let gradients = loss.forward(logits.clone(), target).backward();
    let gradient = logits.grad(&gradients).unwrap();
    gradient.into_data().to_vec().unwrap()
}

fn assert_close(ours: f64, theirs: f64, what: &str) {
    let tolerance = TOLERANCE * theirs.abs().max(1.0);
    assert!(
        (ours - theirs).abs() <= tolerance,
        "{what}: {ours}, not {theirs}"
    );
}

#[test]
fn losses_are_monais() {
    for (name, case) in cases() {
        let dice_focal = value(Loss::DiceFocal.forward(case.logits(), case.target()));
        let dice = value(dice(case.logits(), case.target()));
        let dice_ce = value(Loss::DiceCe.forward(case.logits(), case.target()));
        assert_close(
            dice_focal,
            case.dice_focal,
            &format!("{name}: dice and focal"),
        );
        assert_close(dice, case.dice, &format!("{name}: dice"));
        assert_close(dice_focal - dice, case.focal, &format!("{name}: focal"));
        assert_close(
            dice_ce,
            case.dice_ce,
            &format!("{name}: dice and cross-entropy"),
        );
    }
}

#[test]
fn gradients_are_pytorchs() {
    for (name, case) in cases() {
        let ours = gradient(Loss::DiceFocal, case.logits(), case.target());
        assert_eq!(ours.len(), case.dice_focal_gradient.len());
        for (i, (&ours, &theirs)) in ours.iter().zip(&case.dice_focal_gradient).enumerate() {
            assert_close(f64::from(ours), theirs, &format!("{name}: gradient {i}"));
        }
    }
}

/// Of cross-entropy PyTorch's gradients are not among the goldens: finite differences stand in.
#[test]
fn gradients_of_dice_and_cross_entropy_are_its_slopes() {
    const STEP: f32 = 1e-2;
    let case = &cases()["random"];
    let ours = gradient(Loss::DiceCe, case.logits(), case.target());
    for (i, &ours) in ours.iter().enumerate() {
        let at = |step: f32| {
            let mut logits = case.logits.clone();
            logits[i] += step;
            value(Loss::DiceCe.forward(tensor(&logits, case.shape), case.target()))
        };
        let slope = (at(STEP) - at(-STEP)) / f64::from(2.0 * STEP);
        assert!(
            (f64::from(ours) - slope).abs() < 1e-4,
            "gradient {i}: {ours}, not {slope}"
        );
    }
}

/// 1 - (2 sum(p t) + 1e-5) / (sum(p) + sum(t) + 1e-5) over all of these pixels, in double precision.
fn dice_of(logits: &[f32], target: &[f32]) -> f64 {
    let (mut shared, mut total) = (0.0, 0.0);
    for (&x, &t) in logits.iter().zip(target) {
        let (p, t) = (1.0 / (1.0 + (-f64::from(x)).exp()), f64::from(t));
        shared += p * t;
        total += p + t;
    }
    1.0 - (2.0 * shared + 1e-5) / (total + 1e-5)
}

/// Mean cross-entropy in double precision.
fn cross_entropy_of(logits: &[f32], target: &[f32]) -> f64 {
    let pixels = logits.iter().zip(target).map(|(&x, &t)| {
        let (p, t) = (1.0 / (1.0 + (-f64::from(x)).exp()), f64::from(t));
        -t * p.ln() - (1.0 - t) * (1.0 - p).ln()
    });
    pixels.sum::<f64>() / logits.len() as f64
}

#[test]
fn the_dice_of_a_batch_pools_its_samples() {
    let case = &cases()["random"];
    assert!(case.shape[0] > 1, "more than one sample");
    let expected =
        dice_of(&case.logits, &case.target) + cross_entropy_of(&case.logits, &case.target);
    let ours = value(Loss::BatchDiceCe.forward(case.logits(), case.target()));
    assert_close(ours, expected, "Dice of the batch and cross-entropy");
}

#[test]
fn the_dice_of_tumours_is_that_of_the_samples_that_have_one() {
    const AREA: usize = 8;
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let logits: Vec<f32> = (0..4 * AREA).map(|_| rng.random_range(-3.0..3.0)).collect();
    for with_tumour in [vec![0, 1, 3], vec![2], vec![]] {
        let mut target = vec![0.0; 4 * AREA];
        for sample in &with_tumour {
            target[sample * AREA..][..=*sample].fill(1.0);
        }
        let samples = with_tumour.iter().map(|sample| {
            let pixels = sample * AREA..(sample + 1) * AREA;
            dice_of(&logits[pixels.clone()], &target[pixels])
        });
        let mean = samples.sum::<f64>() / with_tumour.len().max(1) as f64;
        let expected =
            0.5 * dice_of(&logits, &target) + 0.5 * mean + cross_entropy_of(&logits, &target);
        let shape = [4, 1, 2, AREA / 2];
        let (logits, target) = (tensor(&logits, shape), tensor(&target, shape));
        let ours = value(Loss::TumourDiceCe.forward(logits, target));
        assert_close(
            ours,
            expected,
            &format!("tumour in samples {with_tumour:?}"),
        );
    }
}

#[test]
fn losses_and_gradients_are_finite_up_to_ten_thousand() {
    let sizes = [1e-30, 1e-8, 1.0, 15.0, 17.0, 80.0, 88.8, 104.0, 1e3, 1e4];
    let logits: Vec<f32> = sizes
        .iter()
        .flat_map(|&size| [size, -size])
        .chain([0.0, -0.0])
        .collect();
    let shape = [1, 1, 1, logits.len()];
    for target in [0.0, 0.3, 1.0] {
        let targets = vec![target; logits.len()];
        for loss in LOSSES {
            let what = format!("{loss:?} of {target}");
            let forward = value(loss.forward(tensor(&logits, shape), tensor(&targets, shape)));
            assert!(forward.is_finite(), "{what}: {forward}");
            let gradient = gradient(loss, tensor(&logits, shape), tensor(&targets, shape));
            assert!(
                gradient.iter().all(|g| g.is_finite()),
                "{what}: {gradient:?}"
            );
        }
    }
}

/// Logits of -12..12, and targets of which two thirds are 0 or 1 and the others between; none in the last of several
/// samples.
fn random(shape: [usize; 4]) -> (Tensor<B, 4>, Tensor<B, 4>) {
    let mut rng = ChaCha8Rng::seed_from_u64(31);
    let count: usize = shape.iter().product();
    let logits: Vec<f32> = (0..count).map(|_| rng.random_range(-12.0..12.0)).collect();
    let mut targets: Vec<f32> = (0..count)
        .map(|_| rng.random_range(-1.0f32..2.0).clamp(0.0, 1.0))
        .collect();
    if shape[0] > 1 {
        targets[count / shape[0] * (shape[0] - 1)..].fill(0.0);
    }
    (tensor(&logits, shape), tensor(&targets, shape))
}

/// Value and gradient by the logits of twice a loss.
fn doubled(
    logits: Tensor<B, 4>,
    target: Tensor<B, 4>,
    loss: impl Fn(Tensor<B, 4>, Tensor<B, 4>) -> Tensor<B, 1>,
) -> (f32, Vec<f32>) {
    let logits = logits.require_grad();
    // A view: its rows lie as columns in memory.
    let seen = logits.clone().swap_dims(2, 3);
    let value = loss(seen, target.swap_dims(2, 3)).mul_scalar(2.0);
    let gradient = logits.grad(&value.backward()).unwrap();
    (value.into_scalar(), gradient.into_data().to_vec().unwrap())
}

#[test]
fn kernels_and_operations_agree() {
    for shape in [[3, 1, 37, 41], [1, 1, 1, 5], [2, 2, 64, 48]] {
        let (logits, target) = random(shape);
        for loss in LOSSES {
            let what = format!("{loss:?} of {shape:?}");
            let ours = doubled(logits.clone(), target.clone(), |x, t| loss.forward(x, t));
            let theirs = doubled(logits.clone(), target.clone(), |x, t| compose(loss, x, t));
            assert_close(f64::from(ours.0), f64::from(theirs.0), &what);
            assert_eq!(ours.1.len(), theirs.1.len(), "{what}");
            let largest = theirs.1.iter().fold(0.0f32, |most, g| most.max(g.abs()));
            for (i, (ours, theirs)) in ours.1.iter().zip(&theirs.1).enumerate() {
                let difference = (ours - theirs).abs();
                assert!(difference <= 1e-5 * largest, "{what}: gradient {i}");
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let with = |threads| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap().install(|| {
            let (logits, target) = random([8, 1, 32, 48]);
            LOSSES.map(|loss| {
                let (value, gradient) =
                    doubled(logits.clone(), target.clone(), |x, t| loss.forward(x, t));
                let bits = gradient.into_iter().map(f32::to_bits);
                (value.to_bits(), bits.collect::<Vec<_>>())
            })
        })
    };
    let alone = with(1);
    for threads in [2, 5] {
        assert!(with(threads) == alone, "{threads} threads");
    }
}
