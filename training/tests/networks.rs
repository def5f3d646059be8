//! Networks and training steps against MONAI and PyTorch: parameters, outputs, AdamW with clipping, running statistics.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::optim::{GradientsParams, Optimizer};
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use glioseg_training::loss::Loss;
use glioseg_training::networks::{
    Graph, Network, Weights, attention_unet, efficient_lite0, efficient_lite0_encoder,
    fresh_weights, unet,
};
use glioseg_training::optimise::{AdamW, clip_global_norm};
use glioseg_training::recipe::Architecture;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use safetensors::SafeTensors;
use serde::Deserialize;

/// Largest difference from MONAI's output.
const OUTPUT: f32 = 1e-4;
const LOSS: f64 = 1e-5;
const STATISTICS: f32 = 1e-5;
const CLIP: f64 = 0.5;

/// How many steps a golden took, and what came of them.
#[derive(Deserialize)]
struct Steps {
    losses: Vec<f64>,
    #[serde(rename = "global_gradient_norms_before_clip_0.5")]
    norms: Vec<f64>,
    lr: f64,
    weight_decay: f32,
    betas: [f32; 2],
    eps: f32,
}

/// A file of tensors by name.
struct Tensors(Vec<u8>);

impl Tensors {
    fn read(name: &str) -> Self {
        Self(fs::read(goldens().join(format!("{name}.safetensors"))).unwrap())
    }

    /// The float tensors below `prefix`; the batch counters, which nothing uses, are integers of rank 0.
    fn below(&self, prefix: &str) -> Weights {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let named = file.iter().filter_map(|(name, tensor)| {
            let name = name.strip_prefix(prefix)?;
            let counter = name.ends_with("num_batches_tracked");
            (!counter).then(|| (name.to_owned(), floats(tensor.data())))
        });
        named.collect()
    }

    fn tensor<B: Backend>(&self, name: &str) -> Tensor<B, 4> {
        let file = SafeTensors::deserialize(&self.0).unwrap();
        let tensor = file.tensor(name).unwrap();
        let shape: [usize; 4] = tensor.shape().try_into().unwrap();
        let data = TensorData::new(floats(tensor.data()), shape);
        Tensor::from_data(data, &B::Device::default())
    }
}

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/monai")
}

fn json(name: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(goldens().join(name)).unwrap()).unwrap()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (values, []) = bytes.as_chunks::<4>() else {
        panic!("{} bytes are no f32 values", bytes.len());
    };
    values.iter().map(|&v| f32::from_le_bytes(v)).collect()
}

fn plain<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().to_vec().unwrap()
}

fn worst(ours: &[f32], theirs: &[f32]) -> f32 {
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.iter().all(|value| value.is_finite()));
    let differences = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f32::max)
}

fn assert_monais_output(name: &str, graph: Graph) {
    let golden = Tensors::read(name);
    let device = Default::default();
    let network = Network::<Flex>::new(graph, golden.below("weights."), &device).unwrap();
    let ours = plain(network.forward(golden.tensor("input")));
    let theirs = plain(golden.tensor::<Flex>("output"));
    let worst = worst(&ours, &theirs);
    assert!(worst <= OUTPUT, "{name}: off by {worst}");
}

/// Takes the golden's steps, comparing every loss and gradient norm; gives the trained network.
fn train(name: &str, graph: Graph, norm_tolerance: f64) -> Network<Flex> {
    type B = Autodiff<Flex>;
    let steps: Steps = serde_json::from_value(json("training_steps.json")[name].clone()).unwrap();
    let golden = Tensors::read(&format!("{name}_f4_training"));
    let device = Default::default();
    let mut network = Network::<B>::new(graph, golden.below("weights."), &device).unwrap();
    assert_eq!((steps.betas, steps.eps), ([0.9, 0.999], 1e-8), "defaults");
    let mut optimiser = AdamW::new(steps.weight_decay).init::<B, Network<B>>();
    let images: Tensor<B, 4> = golden.tensor("input");
    let target: Tensor<B, 4> = golden.tensor("target");
    for (step, (&loss, &norm)) in steps.losses.iter().zip(&steps.norms).enumerate() {
        let ours = Loss::DiceFocal.forward(network.forward(images.clone()), target.clone());
        let gradients = GradientsParams::from_grads(ours.backward(), &network);
        let (gradients, our_norm) = clip_global_norm(&network, gradients, CLIP);
        network = optimiser.step(steps.lr, network, gradients);

        let ours = f64::from(ours.into_scalar());
        assert!(
            (ours - loss).abs() <= LOSS,
            "{name}, step {step}: loss {ours}, not {loss}"
        );
        let ours = f64::from(our_norm.into_scalar());
        assert!(
            (ours - norm).abs() <= norm_tolerance * norm,
            "{name}, step {step}: gradient norm {ours}, not {norm}"
        );
    }
    network.valid()
}

/// Every parameter of the decoder of the golden of `efficient-lite0`.
fn formula(values: &mut [f32]) {
    for (index, value) in values.iter_mut().enumerate() {
        *value = ((index + 1) as f64).sin() as f32 / 20.0;
    }
}

/// Made by `goldens/efficient/make_goldens.py` from the published weights with layers of PyTorch.
#[test]
fn the_encoder_gives_what_the_published_one_gives() {
    const HEIGHT: usize = 64;
    const WIDTH: usize = 96;
    let network = Architecture::EfficientLite0;
    let graph = network.graph(0.1);
    let mut weights = network.first_weights(&graph, 0);
    for (name, values) in &mut weights {
        let in_encoder = name.starts_with('_');
        let scale = name.ends_with(".norm.weight");
        if !(in_encoder || scale || name.contains(".running_")) {
            formula(values);
        }
    }
    let device = Default::default();
    let network = Network::<Flex>::new(graph, weights, &device).unwrap();
    let values: Vec<f32> = (1..=3 * HEIGHT * WIDTH)
        .map(|index| ((0.7 * index as f64).sin() as f32 + 1.0) / 2.0)
        .collect();
    let image = TensorData::new(values, [1, 3, HEIGHT, WIDTH]);
    let ours = plain(network.forward(Tensor::from_data(image, &device)));
    let golden = goldens().with_file_name("efficient");
    let golden = Tensors(fs::read(golden.join("output.safetensors")).unwrap());
    let theirs = plain(golden.tensor::<Flex>("output"));
    let worst = worst(&ours, &theirs);
    assert!(worst <= OUTPUT, "off by {worst}");
}

#[test]
fn an_encoder_trained_before_is_whole_and_fits() {
    let graph = efficient_lite0(0.0);
    let fresh = fresh_weights(&graph, &mut ChaCha8Rng::seed_from_u64(1));
    let encoder = efficient_lite0_encoder();
    for (name, values) in &fresh {
        let Some(trained) = encoder.get(name) else {
            // A bias before a normalisation does nothing.
            let bias = name.starts_with('_') && name.ends_with("_conv.bias");
            assert!(bias || !name.starts_with('_'), "{name} is missing");
            continue;
        };
        assert_eq!(trained.len(), values.len(), "{name}");
    }
    assert!(encoder.keys().all(|name| fresh.contains_key(name)));
}

#[test]
fn networks_have_as_many_parameters_as_monais() {
    let counts = json("parameter_counts.json");
    for filters in [4, 8, 16, 32] {
        let counted = |network: &str| counts[network][format!("f{filters}")].as_u64().unwrap();
        assert_eq!(unet(filters, 0.0).parameters() as u64, counted("unet"));
        assert_eq!(
            attention_unet(filters, 0.0).parameters() as u64,
            counted("attention_unet")
        );
    }
    assert_eq!(unet(32, 0.1).parameters(), 6_495_868);
    assert_eq!(attention_unet(32, 0.1).parameters(), 7_940_321);
}

#[test]
fn outputs_are_monais() {
    assert_monais_output("unet_f4", unet(4, 0.0));
    assert_monais_output("attention_unet_f4", attention_unet(4, 0.0));
}

#[test]
fn dropout_does_nothing_outside_training() {
    assert_monais_output("unet_f4", unet(4, 0.5));
    assert_monais_output("attention_unet_f4", attention_unet(4, 0.5));
}

#[test]
fn five_steps_of_the_unet_are_pytorchs() {
    let trained = train("unet", unet(4, 0.0), 1e-4);
    let golden = Tensors::read("unet_f4_training");
    let ours = plain(trained.forward(golden.tensor("input")));
    let theirs = plain(golden.tensor::<Flex>("output_after_steps_eval"));
    let largest = theirs.iter().fold(0.0, |most: f32, v| most.max(v.abs()));
    let worst = worst(&ours, &theirs);
    assert!(worst <= OUTPUT * largest, "off by {worst} of {largest}");
}

/// One step only: Adam divides the near-zero gradients of biases before batch normalisations by their own size, so
/// that later steps amplify rounding.
#[test]
fn a_step_of_the_attention_unet_is_pytorchs() {
    let trained = train("attention_unet", attention_unet(4, 0.0), 2e-3).weights();
    let after = Tensors::read("attention_unet_f4_training").below("after.");
    assert_eq!(
        after.len(),
        trained
            .keys()
            .filter(|name| name.contains("running_"))
            .count()
    );
    for (name, theirs) in after {
        let worst = worst(&trained[&name], &theirs);
        assert!(worst <= STATISTICS, "{name}: off by {worst}");
    }
}

/// The same gradients go through together: their direction stays, their global norm becomes the limit.
#[test]
fn clipping_scales_all_gradients_alike() {
    type B = Autodiff<Flex>;
    let golden = Tensors::read("unet_f4_training");
    let device = Default::default();
    let network = Network::<B>::new(unet(4, 0.0), golden.below("weights."), &device).unwrap();
    let gradients = || {
        let logits = network.forward(golden.tensor("input"));
        let loss = Loss::DiceFocal.forward(logits, golden.tensor("target"));
        GradientsParams::from_grads(loss.backward(), &network)
    };
    let (_, norm) = clip_global_norm(&network, gradients(), f64::INFINITY);
    let norm = f64::from(norm.into_scalar());
    for (limit, expected) in [(norm / 10.0, norm / 10.0), (norm * 10.0, norm)] {
        let (clipped, before) = clip_global_norm(&network, gradients(), limit);
        assert!((f64::from(before.into_scalar()) - norm).abs() <= 1e-5 * norm);
        let (_, after) = clip_global_norm(&network, clipped, f64::INFINITY);
        let after = f64::from(after.into_scalar());
        assert!(
            (after - expected).abs() <= 1e-4 * expected,
            "{after}, not {expected}"
        );
    }
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let weights = Tensors::read("unet_f4").below("weights.");
    let refusal = |weights: Weights| {
        let device = Default::default();
        Network::<Flex>::new(unet(4, 0.0), weights, &device)
            .unwrap_err()
            .to_string()
    };
    let name = "model.2.1.conv.unit0.conv.bias";
    let mut lacking = weights.clone();
    lacking.remove(name);
    assert_eq!(refusal(lacking), format!("the weights lack `{name}`"));
    let mut long = weights.clone();
    long.get_mut(name).unwrap().push(0.0);
    assert_eq!(
        refusal(long),
        format!("`{name}` has 2 values, the network needs 1")
    );
    let mut more = weights;
    more.insert("model.3.bias".to_owned(), vec![0.0]);
    assert_eq!(refusal(more), "the network has no `model.3.bias`");
}
