//! Exported files against the networks they come from, by tract and by ONNX Runtime, and what is refused.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::Command;

use burn::backend::{Autodiff, Flex};
use burn::tensor::{Tensor, TensorData};
use glioseg_shared::imaging::grid::Fit;
use glioseg_shared::imaging::phantom::{Phantom, PhantomConfig};
use glioseg_shared::model::contract::{
    CONTRACT_VERSION, Contract, Input, LABEL, NON_8_BIT_PERCENTILES, NOTICE, Normalization,
    Postprocessing, Preprocessing, Provenance, Unit,
};
use glioseg_shared::model::{Segmenter, preprocess};
use glioseg_training::export::{
    ExportError, Precision, TOLERANCE, bare_onnx, model_version, onnx, rounded, verify,
    with_contract,
};
use glioseg_training::networks::graph::Init;
use glioseg_training::networks::{
    Graph, Lean, Network, Weights, attention_unet, ensemble, fresh_weights, mirrored, scaled, unet,
};
use half::f16;
use prost::Message;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tract_onnx::pb::{ModelProto, TensorProto};

const WIDTH: usize = 96;
const HEIGHT: usize = 64;

/// Every kind of network, by name.
fn networks() -> Vec<(&'static str, Graph)> {
    vec![
        ("unet", unet(4, 0.1)),
        ("attention_unet", attention_unet(4, 0.1)),
        ("lean", lean(false)),
        ("lean_norm", lean(true)),
        ("norms", norms()),
        ("separable", separable()),
        ("mirrored", scaled(mirrored(&lean(true)), 0.7)),
        ("ensemble", ensemble(&members()).0),
    ]
}

/// Three networks of different kinds with their weights.
fn members() -> Vec<(Graph, Weights)> {
    [lean(false), attention_unet(4, 0.0), mirrored(&lean(true))]
        .into_iter()
        .enumerate()
        .map(|(seed, graph)| {
            let weights = shaken(&graph, 20 + seed as u64);
            (graph, weights)
        })
        .collect()
}

fn lean(batch_norm: bool) -> Graph {
    let lean = Lean {
        widths: vec![4, 6, 8],
        encoder_blocks: vec![1, 1, 2],
        decoder_blocks: vec![1, 0],
        batch_norm,
        dropout: 0.1,
    };
    lean.graph()
}

/// Batch normalisations that fold into transposed convolutions of all kernels, and one that must not fold because
/// something else reads the convolution, too; the last operations vanish.
fn norms() -> Graph {
    let mut graph = Graph::new(3);
    let mut x = graph.input();
    for level in 0..3 {
        x = graph.convolution(&format!("down.{level}"), x, 4, 3, 2, Init::Torch);
    }
    let kept = graph.batch_norm("kept", x);
    x = graph.add(x, kept);
    for (kernel, channels) in [(2, 5), (3, 3), (4, 2)] {
        x = graph.upconvolution(&format!("up.{kernel}"), x, channels, kernel, Init::Torch);
        x = graph.batch_norm(&format!("up.{kernel}.norm"), x);
        x = graph.relu(x);
    }
    x = graph.convolution("head", x, 1, 1, 1, Init::Torch);
    x = graph.batch_norm("head.norm", x);
    graph.dropout(0.5, x);
    graph
}

/// Convolutions of every channel by itself, of both kernels and strides that networks use, one of them not followed by
/// a normalisation.
fn separable() -> Graph {
    let mut graph = Graph::new(3);
    let mut x = graph.input();
    for (level, (kernel, stride)) in [(3, 1), (5, 1), (5, 2), (3, 2)].into_iter().enumerate() {
        let name = |layer: &str| format!("{level}.{layer}");
        x = graph.convolution(&name("wide"), x, 6, 1, 1, Init::Torch);
        x = graph.depthwise(&name("depthwise"), x, kernel, stride, Init::Torch);
        if level > 0 {
            x = graph.batch_norm_with(&name("norm"), x, 1e-3);
        }
        x = graph.relu(x);
    }
    x = graph.upconvolution("up", x, 4, 4, Init::Torch);
    graph.upconvolution("head", x, 1, 4, Init::Torch);
    graph
}

/// Weights that a wrong export would notice: nothing is zero, one, or alike in all channels.
fn shaken(graph: &Graph, seed: u64) -> Weights {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut weights = fresh_weights(graph, &mut rng);
    for (name, values) in &mut weights {
        for value in values {
            *value = if name.ends_with("running_var") {
                rng.random_range(0.5..1.5)
            } else {
                *value + rng.random_range(-0.1..0.1)
            };
        }
    }
    weights
}

fn network(graph: &Graph, weights: &Weights) -> Network<Flex> {
    Network::new(graph.clone(), weights.clone(), &Default::default()).unwrap()
}

fn contract() -> Contract {
    Contract {
        contract_version: CONTRACT_VERSION,
        model_version: "unnamed".to_owned(),
        network: "test network".to_owned(),
        label: LABEL.to_owned(),
        unit: Unit::Slice,
        input: Input {
            channels: Input::CHANNELS.to_vec(),
            width: WIDTH as u32,
            height: HEIGHT as u32,
            fit: Fit::ShrinkPad,
        },
        preprocessing: Preprocessing {
            non_8_bit_percentiles: NON_8_BIT_PERCENTILES,
            normalization: Normalization::PercentileZScore {
                low: 10.0,
                high: 99.0,
            },
        },
        postprocessing: Postprocessing {
            threshold: 0.5,
            fill_holes: false,
            seed_probability: None,
            minimum_component_pixels: 0,
            keep_largest: false,
        },
        provenance: Provenance {
            data: "phantoms".to_owned(),
            data_digest: "0".repeat(64),
            split: "none".to_owned(),
            split_digest: "0".repeat(64),
            seed: 0,
            commit: "none".to_owned(),
        },
        scores: Vec::new(),
        licence: "CC0-1.0".to_owned(),
        notice: NOTICE.to_owned(),
    }
}

/// Phantom slices as the contract prepares them, and noise.
fn inputs() -> Vec<Vec<f32>> {
    let config = PhantomConfig {
        slices: 4,
        size: 80,
        lesions: 2,
    };
    let contract = contract();
    let phantom = Phantom::generate(&config, 1).unwrap();
    let mut inputs: Vec<_> = phantom
        .slices
        .iter()
        .map(|slice| {
            let levels = preprocess::levels([slice], contract.preprocessing.normalization);
            preprocess::prepare(slice, &contract.input, &levels).values
        })
        .collect();
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let noise = (0..3 * WIDTH * HEIGHT).map(|_| rng.random_range(-2.0..2.0));
    inputs.push(noise.collect());
    inputs
}

fn check(onnx: &[u8], network: &Network<Flex>, inputs: &[Vec<f32>]) -> Result<f32, ExportError> {
    let device = Default::default();
    verify(onnx, network, &device, inputs.iter().map(Vec::as_slice))
}

fn decode(onnx: &[u8]) -> tract_onnx::pb::GraphProto {
    ModelProto::decode(onnx).unwrap().graph.unwrap()
}

fn count(onnx: &[u8], operator: &str) -> usize {
    let nodes = decode(onnx).node;
    nodes.iter().filter(|node| node.op_type == operator).count()
}

#[test]
fn tract_reproduces_every_network() {
    let inputs = inputs();
    for (seed, (name, graph)) in networks().into_iter().enumerate() {
        let weights = shaken(&graph, seed as u64);
        let onnx = onnx(&graph, &weights, Precision::Single, "test", contract()).unwrap();
        let worst = check(&onnx, &network(&graph, &weights), &inputs);
        let worst = worst.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(worst <= TOLERANCE, "{name}: {worst}");
    }
}

#[test]
fn onnx_runtime_reproduces_every_network() {
    let Some(python) = glioseg_test_support::python(&["onnx", "onnxruntime", "numpy"]) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let inputs = inputs();
    for (seed, (name, graph)) in networks().into_iter().enumerate() {
        let weights = shaken(&graph, seed as u64);
        let file = folder.path().join(format!("{name}.onnx"));
        fs::write(
            &file,
            onnx(&graph, &weights, Precision::Single, "test", contract()).unwrap(),
        )
        .unwrap();
        let network = network(&graph, &weights);
        let shape = [inputs.len(), 3, HEIGHT, WIDTH];
        let images = TensorData::new(inputs.concat(), shape);
        let logits = network.forward(Tensor::from_data(images, &Default::default()));
        let logits: Vec<f32> = logits.into_data().to_vec().unwrap();
        for (kind, values) in [("image", &inputs.concat()), ("logits", &logits)] {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            fs::write(file.with_extension(format!("{kind}.f32")), bytes).unwrap();
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/check_onnx.py");
    let output = Command::new(python)
        .arg(script)
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complaint}");
    assert_eq!(said.lines().count(), networks().len(), "{said}");
}

/// The logits of the network of the first input and, in its place, of its mirror image.
fn logits(graph: &Graph, weights: &Weights, mirror: bool) -> Vec<f32> {
    let data = TensorData::new(inputs()[0].clone(), [1, 3, HEIGHT, WIDTH]);
    let images = Tensor::<Flex, 4>::from_data(data, &Default::default());
    let flip = |x: Tensor<Flex, 4>| if mirror { x.flip([3]) } else { x };
    let logits = flip(network(graph, weights).forward(flip(images)));
    logits.into_data().to_vec().unwrap()
}

fn assert_close(ours: &[f32], expected: &[f32]) {
    assert_eq!(ours.len(), expected.len());
    for (ours, expected) in ours.iter().zip(expected) {
        assert!((ours - expected).abs() < 1e-5, "{ours} is not {expected}");
    }
}

#[test]
fn a_mirrored_network_is_the_mean_of_both_views_and_has_no_weights_of_its_own() {
    let graph = lean(true);
    let weights = shaken(&graph, 9);
    let views = [false, true].map(|mirror| logits(&graph, &weights, mirror));
    let mean: Vec<f32> = views[0]
        .iter()
        .zip(&views[1])
        .map(|(a, b)| (a + b) / 2.0)
        .collect();
    assert_close(&logits(&mirrored(&graph), &weights, false), &mean);
    let size = |graph: &Graph| decode(&bare_onnx(graph, &weights, WIDTH, HEIGHT).unwrap());
    let kernels = |graph: &Graph| {
        let kernels = size(graph).initializer.into_iter();
        kernels.filter(|t| t.name.ends_with("weight")).count()
    };
    assert_eq!(kernels(&mirrored(&graph)), kernels(&graph));
}

#[test]
fn an_ensemble_is_the_mean_of_its_members() {
    let members = members();
    let (graph, weights) = ensemble(&members);
    let mut mean = vec![0.0; WIDTH * HEIGHT];
    for (member, weights) in &members {
        for (sum, logit) in mean.iter_mut().zip(logits(member, weights, false)) {
            *sum += logit / members.len() as f32;
        }
    }
    assert_close(&logits(&graph, &weights, false), &mean);
    let half: Vec<f32> = mean.iter().map(|logit| logit / 2.0).collect();
    assert_close(&logits(&scaled(graph, 0.5), &weights, false), &half);
}

#[test]
fn half_precision_halves_the_file_and_keeps_what_was_rounded_for_it() {
    let inputs = inputs();
    for (seed, (name, graph)) in networks().into_iter().enumerate() {
        let trained = shaken(&graph, 30 + seed as u64);
        let weights = rounded(&graph, &trained).unwrap();
        let file = |precision| onnx(&graph, &weights, precision, "test", contract()).unwrap();
        let half = file(Precision::Half);
        let worst = check(&half, &network(&graph, &weights), &inputs);
        let worst = worst.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(worst <= TOLERANCE, "{name}: {worst}");

        // Every value is the nearest one to what training left, with the normalisation after it folded in.
        let single =
            decode(&onnx(&graph, &trained, Precision::Single, "test", contract()).unwrap());
        let half = decode(&half);
        let mut kernels = 0;
        for tensor in half
            .initializer
            .iter()
            .filter(|t| t.name.ends_with(".half"))
        {
            let whole = tensor.name.trim_end_matches(".half");
            let whole = single.initializer.iter().find(|t| t.name == whole).unwrap();
            let (values, []) = whole.raw_data.as_chunks::<4>() else {
                panic!("{name}: {} is not f32", whole.name);
            };
            let nearest = values
                .iter()
                .flat_map(|&v| f16::from_f32(f32::from_le_bytes(v)).to_le_bytes());
            assert_eq!(
                tensor.raw_data,
                nearest.collect::<Vec<_>>(),
                "{name}: {}",
                whole.name
            );
            kernels += 1;
        }
        assert_eq!(kernels, graph.kernels.len(), "{name}");
    }
    let graph = unet(8, 0.0);
    let weights = rounded(&graph, &shaken(&graph, 40)).unwrap();
    let size = |precision| {
        let file = onnx(&graph, &weights, precision, "test", contract()).unwrap();
        file.len() as f64
    };
    let ratio = size(Precision::Half) / size(Precision::Single);
    assert!((0.5..0.52).contains(&ratio), "{ratio}");
}

#[test]
fn stored_halves_are_taken_as_they_are_written_and_no_other_way() {
    let graph = lean(true);
    let weights = rounded(&graph, &shaken(&graph, 11)).unwrap();
    let file = onnx(&graph, &weights, Precision::Half, "test", contract()).unwrap();
    assert!(Segmenter::from_onnx(&file).is_ok());
    let refused = |change: fn(&mut TensorProto)| {
        let mut model = ModelProto::decode(file.as_slice()).unwrap();
        let tensors = &mut model.graph.as_mut().unwrap().initializer;
        let half = tensors.iter_mut().find(|t| t.name.ends_with(".half"));
        change(half.unwrap());
        let outcome = Segmenter::from_onnx(&model.encode_to_vec());
        outcome.expect_err("a changed file").to_string()
    };

    let said = refused(|tensor| tensor.raw_data.truncate(2));
    assert!(said.contains("holds 0 values and 2 bytes"), "{said}");
    let said = refused(|tensor| {
        tensor.raw_data.pop();
    });
    assert!(said.contains(".half` holds"), "{said}");
    // The other form of half precision, one value in each integer.
    let said = refused(|tensor| {
        tensor.int32_data = vec![0; tensor.raw_data.len() / 2];
        tensor.raw_data.clear();
    });
    assert!(said.contains("0 bytes"), "{said}");
    for to in [None, Some(7), Some(10)] {
        let mut model = ModelProto::decode(file.as_slice()).unwrap();
        let nodes = &mut model.graph.as_mut().unwrap().node;
        let cast = nodes.iter_mut().find(|n| n.op_type == "Cast").unwrap();
        match to {
            None => cast.attribute.clear(),
            Some(to) => cast.attribute[0].i = to,
        }
        let outcome = Segmenter::from_onnx(&model.encode_to_vec());
        let said = outcome.expect_err("another cast").to_string();
        assert!(said.contains("something other than f32"), "{said}");
    }
}

#[test]
fn a_network_that_half_precision_cannot_hold_is_refused() {
    let graph = lean(true);
    let mut weights = shaken(&graph, 10);
    weights.get_mut("head.weight").unwrap()[0] = 1e6;
    let error = rounded(&graph, &weights).unwrap_err().to_string();
    assert!(
        error.contains("`head.weight`") && error.contains("diverged"),
        "{error}"
    );
}

#[test]
fn dropout_vanishes_and_normalisations_fold() {
    let file = |graph: Graph| bare_onnx(&graph, &shaken(&graph, 0), WIDTH, HEIGHT).unwrap();
    for (name, graph) in networks() {
        let file = file(graph);
        assert_eq!(count(&file, "Dropout"), 0, "{name}");
        let kept = usize::from(name == "norms");
        assert_eq!(count(&file, "BatchNormalization"), kept, "{name}");
    }
    let lean_nodes = |norm| decode(&file(lean(norm))).node.len();
    assert_eq!(lean_nodes(true), lean_nodes(false));
}

#[test]
fn initialisers_keep_monais_names() {
    let graph = unet(4, 0.0);
    let weights = shaken(&graph, 3);
    let file = decode(&bare_onnx(&graph, &weights, WIDTH, HEIGHT).unwrap());
    for (name, values) in &weights {
        let tensor = file.initializer.iter().find(|tensor| tensor.name == *name);
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        assert_eq!(tensor.unwrap().raw_data, bytes, "{name}");
    }
}

#[test]
fn the_version_is_a_digest_of_all_that_decides_a_mask() {
    let graph = lean(true);
    let weights = shaken(&graph, 4);
    let first = onnx(&graph, &weights, Precision::Single, "fast", contract()).unwrap();
    assert_eq!(
        first,
        onnx(&graph, &weights, Precision::Single, "fast", contract()).unwrap()
    );

    let segmenter = Segmenter::from_onnx(&first).unwrap();
    let version = segmenter.contract().model_version.clone();
    let (prefix, digits) = version.split_once('-').unwrap();
    assert_eq!((prefix, digits.len()), ("fast", 12));
    assert!(
        digits
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    );
    assert_eq!(model_version("fast", &first).unwrap(), version);

    let mut described = segmenter.contract().clone();
    described.network = "another description".to_owned();
    let second = with_contract(&first, "fast", described.clone()).unwrap();
    assert_eq!(model_version("fast", &second).unwrap(), version);
    assert_eq!(Contract::of_onnx(&second).unwrap(), described);

    described.postprocessing.threshold = 0.25;
    let stricter = with_contract(&first, "fast", described).unwrap();
    let stricter = Contract::of_onnx(&stricter).unwrap().model_version;
    assert_ne!(stricter, version);

    let mut other = weights;
    other.get_mut("head.bias").unwrap()[0] += 1e-3;
    let other = onnx(&graph, &other, Precision::Single, "fast", contract()).unwrap();
    assert_ne!(model_version("fast", &other).unwrap(), version);
}

#[test]
fn what_deviates_is_refused() {
    let graph = lean(true);
    let weights = shaken(&graph, 5);
    let trained = network(&graph, &weights);
    let mut other = weights.clone();
    other.get_mut("head.bias").unwrap()[0] += 2.0 * TOLERANCE;
    let other = onnx(&graph, &other, Precision::Single, "test", contract()).unwrap();
    match check(&other, &trained, &inputs()) {
        Err(ExportError::Deviates {
            index: 0,
            deviation,
        }) => {
            assert!(
                (deviation - 2.0 * TOLERANCE).abs() < TOLERANCE,
                "{deviation}"
            );
        }
        outcome => panic!("{outcome:?}"),
    }

    let faithful = onnx(&graph, &weights, Precision::Single, "test", contract()).unwrap();
    let mut broken = weights;
    broken.get_mut("head.bias").unwrap()[0] = f32::NAN;
    let outcome = check(&faithful, &network(&graph, &broken), &inputs());
    assert!(matches!(outcome, Err(ExportError::Deviates { deviation, .. }) if deviation.is_nan()));
    let outcome = onnx(&graph, &broken, Precision::Single, "test", contract());
    let outcome = check(&outcome.unwrap(), &trained, &inputs());
    assert!(matches!(outcome, Err(ExportError::Run(_))));
}

#[test]
fn what_proves_nothing_is_refused() {
    let graph = lean(true);
    let weights = shaken(&graph, 6);
    let file = onnx(&graph, &weights, Precision::Single, "test", contract()).unwrap();
    let trained = network(&graph, &weights);
    assert!(matches!(
        check(&file, &trained, &[]),
        Err(ExportError::NoInputs)
    ));
    let short = vec![vec![0.0; 3 * WIDTH * HEIGHT - 1]];
    let outcome = check(&file, &trained, &short);
    assert!(matches!(
        outcome,
        Err(ExportError::InputLength { index: 0, .. })
    ));

    let device = Default::default();
    let trains = Network::<Autodiff<Flex>>::new(graph, weights, &device).unwrap();
    let inputs = inputs();
    let outcome = verify(&file, &trains, &device, inputs.iter().map(Vec::as_slice));
    assert!(matches!(outcome, Err(ExportError::Training)));
}

#[test]
fn what_cannot_be_exported_is_refused() {
    let graph = unet(4, 0.0);
    let weights = shaken(&graph, 7);
    let refusal = |graph: &Graph, weights: &Weights, width| {
        bare_onnx(graph, weights, width, HEIGHT)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        refusal(&graph, &weights, 72),
        "the network takes sizes that are multiples of 16, not 72x64"
    );
    let mut lacking = weights.clone();
    lacking.remove("model.2.0.conv.weight");
    assert_eq!(
        refusal(&graph, &lacking, WIDTH),
        "the weights lack `model.2.0.conv.weight`"
    );
    let mut headless = Graph::new(3);
    headless.convolution("layer", 0, 2, 3, 2, Init::Torch);
    let refusal = refusal(&headless, &shaken(&headless, 8), WIDTH);
    assert!(refusal.contains("from 3 channels to 2 at 1/2"), "{refusal}");

    let mut invalid = contract();
    invalid.postprocessing.threshold = 2.0;
    let outcome = onnx(&graph, &weights, Precision::Single, "test", invalid);
    assert!(matches!(outcome, Err(ExportError::Contract(_))));
    let outcome = with_contract(b"no file", "fast", contract());
    assert!(matches!(outcome, Err(ExportError::NotOnnx(_))));
}
