//! Sums of many values in single precision whose error stays small and whose order does not depend on threads.

use multiversion::multiversion;

/// Lanes that a sum is spread over, so that the compiler can add them side by side.
const LANES: usize = 16;
/// Values that are added up in single precision before they join the total.
const RUN: usize = 1024;

/// Sum of a term of every value.
pub(super) fn sum(values: &[f32], term: impl Fn(f32) -> f32) -> f64 {
    sum_of_pairs(values, values, |value, _| term(value))
}

/// Sum of a term of every value and its partner.
#[multiversion(targets("x86_64+avx2"))]
pub(super) fn sum_of_pairs(x: &[f32], y: &[f32], term: impl Fn(f32, f32) -> f32) -> f64 {
    let mut total = 0.0;
    for (x, y) in x.chunks(RUN).zip(y.chunks(RUN)) {
        let mut lanes = [0.0f32; LANES];
        let ((xs, x_rest), (ys, y_rest)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>());
        for (x, y) in xs.iter().zip(ys) {
            for ((lane, &x), &y) in lanes.iter_mut().zip(x).zip(y) {
                *lane += term(x, y);
            }
        }
        total += f64::from(lanes.iter().sum::<f32>());
        let rest = x_rest.iter().zip(y_rest);
        total += rest.map(|(&x, &y)| f64::from(term(x, y))).sum::<f64>();
    }
    total
}
