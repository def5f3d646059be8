//! Rectifiers, concatenation, and what a normalisation does to a plane, on the CPU.
//!
//! Where a whole batch is given, pieces of it go over the cores. They have a fixed size, so that the order of a sum does
//! not depend on the number of threads.

use multiversion::multiversion;
use rayon::prelude::*;

use super::sums::sum_of_pairs;

/// Values of a piece: an eighth of a megabyte.
const PIECE: usize = 1 << 15;

/// x where it is positive, otherwise `slope` times x.
pub(super) fn rectify(x: &[f32], slope: f32) -> Vec<f32> {
    let mut y = vec![0.0; x.len()];
    y.par_chunks_mut(PIECE)
        .zip(x.par_chunks(PIECE))
        .for_each(|(y, x)| rectify_piece(x, slope, y));
    y
}

#[multiversion(targets("x86_64+avx2"))]
fn rectify_piece(x: &[f32], slope: f32, y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = factor(x, slope) * x;
    }
}

/// What [`rectify`] multiplies x by.
fn factor(x: f32, slope: f32) -> f32 {
    if x > 0.0 { 1.0 } else { slope }
}

/// Turns the gradient of [`rectify`]'s result into that of its x, and gives that of the slope; the gradient of a zero is
/// as of a negative value, as in PyTorch.
pub(super) fn rectify_backward(x: &[f32], slope: f32, gradient: &mut [f32]) -> f32 {
    let by_slope: Vec<f64> = gradient
        .par_chunks_mut(PIECE)
        .zip(x.par_chunks(PIECE))
        .map(|(gradient, x)| {
            let by_slope = sum_of_pairs(x, gradient, |x, g| x.min(0.0) * g);
            rectify_piece_backward(x, slope, gradient);
            by_slope
        })
        .collect();
    by_slope.iter().sum::<f64>() as f32
}

#[multiversion(targets("x86_64+avx2"))]
fn rectify_piece_backward(x: &[f32], slope: f32, gradient: &mut [f32]) {
    for (g, &x) in gradient.iter_mut().zip(x) {
        *g *= factor(x, slope);
    }
}

/// The values of each sample of `a`, then those of the same sample of `b`; a sample has `each` values in either.
pub(super) fn concatenate(a: &[f32], b: &[f32], each: [usize; 2]) -> Vec<f32> {
    let mut both = vec![0.0; a.len() + b.len()];
    both.par_chunks_exact_mut(each[0] + each[1])
        .zip(a.par_chunks_exact(each[0]))
        .zip(b.par_chunks_exact(each[1]))
        .for_each(|((both, a), b)| {
            let (first, second) = both.split_at_mut(a.len());
            first.copy_from_slice(a);
            second.copy_from_slice(b);
        });
    both
}

/// Takes apart what [`concatenate`] put together.
pub(super) fn separate(both: &[f32], each: [usize; 2]) -> [Vec<f32>; 2] {
    let samples = both.len() / (each[0] + each[1]);
    let mut parts = each.map(|length| vec![0.0; samples * length]);
    let [a, b] = &mut parts;
    a.par_chunks_exact_mut(each[0])
        .zip(b.par_chunks_exact_mut(each[1]))
        .zip(both.par_chunks_exact(each[0] + each[1]))
        .for_each(|((a, b), both)| {
            let (first, second) = both.split_at(a.len());
            a.copy_from_slice(first);
            b.copy_from_slice(second);
        });
    parts
}

/// What a plane becomes: `(from - centre) * factor + shift`.
#[multiversion(targets("x86_64+avx2"))]
pub(super) fn normalise(from: &[f32], centre: f32, factor: f32, shift: f32, to: &mut [f32]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = (from - centre) * factor + shift;
    }
}

/// The gradient of [`normalise`] by the plane `x` whose group has these means, of the gradient and of the gradient times
/// what x becomes.
#[multiversion(targets("x86_64+avx2"))]
pub(super) fn normalise_backward(
    [x, gradient]: [&[f32]; 2],
    centre: f32,
    factor: f32,
    [plain, along]: [f32; 2],
    to: &mut [f32],
) {
    for ((to, &x), &g) in to.iter_mut().zip(x).zip(gradient) {
        *to = factor * (g - plain - (x - centre) * along);
    }
}
