//! Time of one 256x256 slice through every network that the choice of the served one was made from; one thread.
//!
//! The weights are fresh: what they are does not change the time.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use glioseg_shared::model::Network;
use glioseg_training::export::bare_onnx;
use glioseg_training::networks::fresh_weights;
use glioseg_training::recipe::Architecture;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

const SIDE: usize = 256;

const CANDIDATES: [&str; 10] = [
    "lean-small",
    "lean-small-norm",
    "lean-medium-norm",
    "lean-fine-norm",
    "lean-tiny-norm",
    "efficient-lite0",
    "unet-8",
    "unet-16",
    "unet-32",
    "attention-unet-8",
];

fn candidates(criterion: &mut Criterion) {
    let image: Vec<f32> = (0..3 * SIDE * SIDE)
        .map(|i| (i % 251) as f32 / 250.0)
        .collect();
    for name in CANDIDATES {
        let architecture: Architecture = name.parse().expect("a known network");
        let graph = architecture.graph(0.0);
        let weights = fresh_weights(&graph, &mut ChaCha8Rng::seed_from_u64(0));
        let onnx = bare_onnx(&graph, &weights, SIDE, SIDE).expect("the weights were made for it");
        let network = Network::from_onnx(&onnx).expect("an exported network loads");
        criterion.bench_function(&format!("candidate/{name}"), |bencher| {
            bencher.iter(|| {
                network
                    .logits(black_box(&image))
                    .expect("a loaded network runs")
            });
        });
    }
}

criterion_group!(benches, candidates);
criterion_main!(benches);
