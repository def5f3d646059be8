//! The optimiser against burn's: the same steps, and records that either can go on from.

#![allow(clippy::unwrap_used)]

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{AdamWConfig, GradientsParams, Optimizer, SimpleOptimizer};
use burn::record::{BinBytesRecorder, FullPrecisionSettings, Recorder};
use burn::tensor::{Tensor, TensorData};
use glioseg_training::networks::{Network, Weights, fresh_weights, unet};
use glioseg_training::optimise::AdamW;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::ThreadPoolBuilder;

type Cpu = Autodiff<Flex>;

const WEIGHT_DECAY: f32 = 1e-2;

/// Kernels of up to 37,000 values: more than one thread works on.
fn network() -> Network<Cpu> {
    let graph = unet(4, 0.0);
    let weights = fresh_weights(&graph, &mut ChaCha8Rng::seed_from_u64(41));
    Network::new(graph, weights, &Default::default()).unwrap()
}

fn burns() -> OptimizerAdaptor<burn::optim::AdamW, Network<Cpu>, Cpu> {
    AdamWConfig::new()
        .with_epsilon(1e-8)
        .with_weight_decay(WEIGHT_DECAY)
        .init()
}

fn ours() -> OptimizerAdaptor<AdamW, Network<Cpu>, Cpu> {
    AdamW::new(WEIGHT_DECAY).init()
}

/// Three steps along gradients that depend on the seed alone.
fn steps<O: SimpleOptimizer<Flex>>(
    optimiser: &mut OptimizerAdaptor<O, Network<Cpu>, Cpu>,
    mut network: Network<Cpu>,
    seed: u64,
) -> Network<Cpu> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for rate in [1e-3, 2e-3, 5e-4] {
        let values: Vec<f32> = (0..3 * 32 * 32).map(|_| rng.random()).collect();
        let data = TensorData::new(values, [1, 3, 32, 32]);
        let image = Tensor::<Cpu, 4>::from_data(data, &Default::default());
        let gradients = network.forward(image).square().mean().backward();
        let gradients = GradientsParams::from_grads(gradients, &network);
        network = optimiser.step(rate, network, gradients);
    }
    network
}

fn bits(network: &Network<Cpu>) -> Vec<(String, Vec<u32>)> {
    let weights: Weights = network.valid().weights();
    let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect();
    weights.into_iter().map(|(n, v)| (n, bits(v))).collect()
}

#[test]
fn steps_are_burns() {
    let after = steps(&mut ours(), network(), 42);
    assert!(bits(&after) != bits(&network()), "the network moved");
    assert!(bits(&after) == bits(&steps(&mut burns(), network(), 42)));
}

#[test]
fn records_of_burns_optimiser_go_on() {
    let mut theirs = burns();
    let network = steps(&mut theirs, network(), 43);
    let recorder = BinBytesRecorder::<FullPrecisionSettings>::default();
    let record = Recorder::<Cpu>::record(&recorder, theirs.to_record(), ()).unwrap();
    let device = Default::default();
    let mut ours = ours().load_record(recorder.load(record.clone(), &device).unwrap());
    let again = Recorder::<Cpu>::record(&recorder, ours.to_record(), ()).unwrap();
    assert_eq!(again.len(), record.len());
    let expected = steps(&mut theirs, network.clone(), 44);
    assert!(bits(&steps(&mut ours, network, 44)) == bits(&expected));
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let with = |threads| {
        let pool = ThreadPoolBuilder::new().num_threads(threads).build();
        pool.unwrap()
            .install(|| bits(&steps(&mut ours(), network(), 45)))
    };
    let alone = with(1);
    for threads in [2, 5] {
        assert!(with(threads) == alone, "{threads} threads");
    }
}
