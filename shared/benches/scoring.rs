//! Time to score 4,000 pairs of masks of 256x256 pixels; one thread.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use glioseg_shared::imaging::{Mask, phantom};
use glioseg_shared::scoring::Counts;

const SLICES: usize = 4000;
/// By how many pixels, of all slices in a row, the prediction lies beside the truth.
const SHIFT: usize = 3;

fn dice(criterion: &mut Criterion) {
    let truths = phantom::study(0).masks;
    // Each pair has memory of its own, as in an evaluation: the time includes fetching it.
    let pairs: Vec<(Mask, Mask)> = truths
        .iter()
        .cycle()
        .take(SLICES)
        .map(|truth| {
            let mut prediction = truth.clone();
            prediction.pixels_mut().rotate_right(SHIFT);
            (prediction, truth.clone())
        })
        .collect();
    criterion.bench_function("dice/4000_slices", |bencher| {
        bencher.iter(|| {
            let dice = pairs.iter().map(|(prediction, truth)| {
                let counts = Counts::of(black_box(prediction), truth);
                counts.expect("both are of one size").dice()
            });
            dice.sum::<f64>()
        });
    });
}

criterion_group!(benches, dice);
criterion_main!(benches);
