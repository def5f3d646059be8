//! Inference against ONNX Runtime, and what is refused.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use glioseg_shared::imaging::grid::Placement;
use glioseg_shared::imaging::{CHANNELS, Intensity, Limits, Slice, decode_slices};
use glioseg_shared::model::contract::{Contract, Unit};
use glioseg_shared::model::{
    ContractError, MAX_FILE_BYTES, ModelError, Network, Segmenter, postprocess, preprocess,
};
use proptest::prelude::*;

/// Largest deviation from ONNX Runtime, in logits.
const TOLERANCE: f32 = 1e-4;
const WIDTH: usize = 48;
const HEIGHT: usize = 32;

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/inference")
}

fn read(name: &str) -> Vec<u8> {
    fs::read(goldens().join(name)).unwrap()
}

fn image(name: &str) -> Slice {
    let pixels = read(&format!("{name}.u8"));
    Slice::new(WIDTH, HEIGHT, pixels, Intensity::EightBit).unwrap()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    let (values, []) = bytes.as_chunks::<4>() else {
        panic!("{} bytes are no f32 values", bytes.len());
    };
    values.iter().map(|&v| f32::from_le_bytes(v)).collect()
}

/// The file with one text replaced by another of the same length, which no length field notices.
fn patched(name: &str, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let file = read(name);
    let mut patched = file.clone();
    for start in 0..=file.len() - from.len() {
        if file[start..].starts_with(from.as_bytes()) {
            patched[start..start + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    assert_ne!(patched, file, "{name} does not contain {from}");
    patched
}

fn assert_close(ours: &[f32], theirs: &[f32], what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let worst = ours
        .iter()
        .zip(theirs)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max);
    assert!(worst <= TOLERANCE, "{what}: off by {worst}");
}

fn refusal(bytes: &[u8]) -> ModelError {
    Segmenter::from_onnx(bytes).unwrap_err()
}

#[test]
fn logits_are_onnx_runtimes() {
    for model in [
        "classic",
        "residual",
        "lean",
        "separable",
        "mirrored",
        "volume",
    ] {
        let file = read(&format!("{model}.onnx"));
        let network = Network::from_onnx(&file).unwrap();
        let views = if model == "mirrored" { 2 } else { 1 };
        assert_eq!(network.views(), views, "{model}");
        let contract = Contract::of_onnx(&file).unwrap();
        for name in ["phantom", "noise"] {
            let slice = image(name);
            let levels = preprocess::levels([&slice], contract.preprocessing.normalization);
            let prepared = preprocess::prepare(&slice, &contract.input, &levels);
            let logits = network.logits(&prepared.values).unwrap();
            let theirs = floats(&read(&format!("{model}_{name}.f32")));
            assert!(theirs.iter().any(|l| l.abs() > 0.1), "a golden of nothing");
            assert_close(&logits, &theirs, &format!("{model} on {name}"));
        }
    }
}

#[test]
fn logits_on_real_slices_are_onnx_runtimes() {
    let Some(lgg) = glioseg_test_support::lgg() else {
        return;
    };
    let Some(python) = glioseg_test_support::python(&["numpy", "onnxruntime"]) else {
        return;
    };
    let mut slices: Vec<Slice> = Vec::new();
    let split: serde_json::Value = serde_json::from_slice(&fs::read(&lgg.split).unwrap()).unwrap();
    let patients = split["train"].as_array().unwrap().iter().step_by(30);
    for id in patients.map(|id| id.as_str().unwrap()) {
        for number in [5, 9, 13] {
            let file = lgg.folder.join(id).join(format!("{id}_{number}.tif"));
            let bytes = fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            slices.extend(decode_slices(&bytes, &Limits::default()).unwrap());
        }
    }
    for model in ["classic", "residual", "lean", "separable", "mirrored"] {
        let path = goldens().join(format!("{model}.onnx"));
        let file = fs::read(&path).unwrap();
        let network = Network::from_onnx(&file).unwrap();
        let contract = Contract::of_onnx(&file).unwrap();
        let mut inputs = Vec::new();
        let mut ours = Vec::new();
        for slice in &slices {
            let levels = preprocess::levels([slice], contract.preprocessing.normalization);
            let prepared = preprocess::prepare(slice, &contract.input, &levels);
            ours.extend(network.logits(&prepared.values).unwrap());
            inputs.extend(prepared.values.iter().flat_map(|v| v.to_le_bytes()));
        }
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in"), folder.path().join("out"));
        fs::write(&input, inputs).unwrap();
        let status = Command::new(&python)
            .arg(goldens().join("ort_logits.py"))
            .args([&path, &input, &output])
            .status()
            .unwrap();
        assert!(status.success());
        let theirs = floats(&fs::read(&output).unwrap());
        assert_close(&ours, &theirs, &format!("{model} on real slices"));
    }
}

#[test]
fn a_segmentation_has_the_size_of_its_input_and_names_its_model() {
    for model in ["classic", "residual", "lean", "separable", "mirrored"] {
        let segmenter = Segmenter::from_onnx(&read(&format!("{model}.onnx"))).unwrap();
        for (width, height) in [(1, 1), (48, 32), (33, 7), (33, 71), (256, 1)] {
            let pixels = (0..width * height * CHANNELS).map(|i| i as u8).collect();
            let slice = Slice::new(width, height, pixels, Intensity::EightBit).unwrap();
            let segmentation = segmenter.segment(&slice).unwrap();
            assert_eq!(segmentation.model_version, format!("{model}-golden"));
            let mask = &segmentation.mask;
            assert_eq!((mask.width(), mask.height()), (width, height));
            let probability = &segmentation.probability;
            assert_eq!((probability.width(), probability.height()), (width, height));
            assert!(probability.values().iter().all(|p| (0.0..=1.0).contains(p)));
        }
    }
}

#[test]
fn the_mask_is_where_onnx_runtimes_logits_pass_the_threshold() {
    let segmenter = Segmenter::from_onnx(&read("classic.onnx")).unwrap();
    let mask = segmenter.segment(&image("phantom")).unwrap().mask;
    let theirs = floats(&read("classic_phantom.f32"));
    assert!(!mask.is_empty() && mask.area() < (WIDTH * HEIGHT) as u64);
    for (&ours, &logit) in mask.pixels().iter().zip(&theirs) {
        // Probability 0.5 is logit 0; within the tolerance either side is right.
        assert!(ours == (logit >= 0.0) || logit.abs() <= TOLERANCE);
    }
}

#[test]
fn a_study_of_slices_is_segmented_as_each_slice_by_itself() {
    for model in ["classic", "residual"] {
        let segmenter = Segmenter::from_onnx(&read(&format!("{model}.onnx"))).unwrap();
        let small = Slice::new(5, 7, vec![90; 105], Intensity::EightBit).unwrap();
        let study = [image("phantom"), small, image("noise"), image("phantom")];
        let together = segmenter.segment_study(&study).unwrap();
        assert_eq!(together.len(), study.len());
        for (slice, segmentation) in study.iter().zip(&together) {
            assert_eq!(&segmenter.segment(slice).unwrap(), segmentation);
        }
        assert!(segmenter.segment_study(&[]).unwrap().is_empty());
    }
}

#[test]
fn a_volume_model_takes_studies_only_and_looks_at_all_slices() {
    let file = read("volume.onnx");
    let segmenter = Segmenter::from_onnx(&file).unwrap();
    let contract = segmenter.contract();
    assert_eq!(contract.unit, Unit::Volume);
    let error = segmenter.segment(&image("phantom")).unwrap_err();
    assert!(matches!(error, ModelError::NeedsVolume { .. }), "{error}");
    assert!(error.to_string().contains("volume-golden"), "{error}");

    let study = [image("phantom"), image("noise")];
    let segmentations = segmenter.segment_study(&study).unwrap();
    let levels = preprocess::levels(&study, contract.preprocessing.normalization);
    let network = Network::from_onnx(&file).unwrap();
    let mut probabilities = Vec::new();
    for slice in &study {
        let prepared = preprocess::prepare(slice, &contract.input, &levels);
        let logits = network.logits(&prepared.values).unwrap();
        probabilities.push(postprocess::probabilities(&logits, &prepared.placement).unwrap());
    }
    let placement = Placement::of(&study[0], contract.input.grid(), contract.input.fit);
    let masks =
        postprocess::volume_masks(&probabilities, &placement, &contract.postprocessing).unwrap();
    assert!(masks.iter().any(|mask| !mask.is_empty()));
    for ((segmentation, probability), mask) in segmentations.iter().zip(&probabilities).zip(&masks)
    {
        assert_eq!(&segmentation.probability, probability);
        assert_eq!(&segmentation.mask, mask);
    }
    let alone = segmenter.segment_study(&study[..1]).unwrap();
    assert_ne!(alone[0].probability, segmentations[0].probability);

    let small = Slice::new(2, 2, vec![0; 12], Intensity::EightBit).unwrap();
    let error = segmenter
        .segment_study(&[image("phantom"), small])
        .unwrap_err();
    assert!(
        matches!(error, ModelError::UnequalSlices { index: 1, .. }),
        "{error}"
    );
}

#[test]
fn a_contract_that_is_absent_unknown_or_incomplete_is_refused() {
    let absent = patched("classic.onnx", "glioseg.contract", "glioseg.contraST");
    assert!(matches!(
        refusal(&absent),
        ModelError::Contract(ContractError::Absent)
    ));
    assert!(refusal(&absent).to_string().contains("glioseg.contract"));

    let unknown = patched(
        "classic.onnx",
        "\"contract_version\":1",
        "\"contract_version\":7",
    );
    assert!(matches!(
        refusal(&unknown),
        ModelError::Contract(ContractError::UnknownVersion { found: 7, known: 1 })
    ));

    // JSON allows the spaces that keep the length.
    let incomplete = patched("classic.onnx", "\"seed\":20260117,", "                ");
    let error = refusal(&incomplete);
    assert!(
        error.to_string().contains("missing field `seed`"),
        "{error}"
    );
    assert!(!error.is_retryable());
    assert!(Contract::of_onnx(&incomplete).is_err());
}

#[test]
fn a_network_of_another_size_than_its_contract_is_refused() {
    let error = refusal(&patched("classic.onnx", "\"width\":48", "\"width\":64"));
    assert!(
        error.to_string().contains("48x32") && error.to_string().contains("64x32"),
        "{error}"
    );
}

#[test]
fn another_interface_is_refused_with_what_was_found() {
    for (file, named) in [
        (patched("classic.onnx", "image", "imago"), "imago"),
        (patched("classic.onnx", "logits", "output"), "output"),
        (read("refused/four_channels.onnx"), "[1, 4, 32, 48]"),
        (read("refused/dynamic_height.onnx"), "without a fixed shape"),
        (read("refused/float64.onnx"), "of another type"),
        (read("refused/two_inputs.onnx"), "`other` f32"),
        (read("refused/half_size_output.onnx"), "24x16"),
    ] {
        let error = refusal(&file);
        assert!(
            matches!(
                error,
                ModelError::Interface { .. } | ModelError::Unsupported { .. }
            ),
            "{error}"
        );
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
}

#[test]
fn operators_beyond_convolutional_networks_are_refused_by_name() {
    for (file, named) in [
        (patched("classic.onnx", "Relu", "Celu"), "Celu"),
        (read("refused/sizes_from_data.onnx"), "Shape"),
    ] {
        let error = refusal(&file);
        assert!(matches!(error, ModelError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn files_that_are_no_onnx_are_refused() {
    for file in [
        Vec::new(),
        b"II*\0\x08\0\0\0".to_vec(),
        b"{\"contract_version\":1}".to_vec(),
        vec![0xff; 100],
    ] {
        let error = refusal(&file);
        assert!(matches!(error, ModelError::NotOnnx { .. }), "{error}");
    }
    let error = refusal(&vec![0; MAX_FILE_BYTES + 1]);
    assert!(matches!(error, ModelError::TooLarge { .. }), "{error}");
}

#[test]
fn every_truncation_is_refused() {
    let file = read("lean.onnx");
    for length in (0..file.len()).step_by(7) {
        let error = refusal(&file[..length]);
        assert!(
            matches!(
                error,
                ModelError::NotOnnx { .. }
                    | ModelError::Contract(ContractError::Absent)
                    | ModelError::Unsupported { .. }
            ),
            "{length}: {error}"
        );
    }
}

#[test]
fn an_input_of_another_length_is_refused() {
    let network = Network::from_onnx(&read("lean.onnx")).unwrap();
    let expected = CHANNELS * WIDTH * HEIGHT;
    for length in [0, 1, expected - 1, expected + 1] {
        assert!(matches!(
            network.logits(&vec![0.0; length]),
            Err(ModelError::InputLength { actual, .. }) if actual == length
        ));
    }
}

#[test]
fn an_output_that_is_not_finite_is_an_error() {
    let network = Network::from_onnx(&read("residual.onnx")).unwrap();
    let input = vec![f32::NAN; CHANNELS * WIDTH * HEIGHT];
    assert!(matches!(
        network.logits(&input),
        Err(ModelError::NotFinite { .. })
    ));
}

#[test]
fn one_network_runs_on_many_threads_at_once() {
    fn shared<T: Send + Sync>(_: &T) {}
    let segmenter = Segmenter::from_onnx(&read("lean.onnx")).unwrap();
    shared(&segmenter);
    let expected = segmenter.segment(&image("noise")).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(segmenter.segment(&image("noise")).unwrap(), expected));
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        prop_assert!(Segmenter::from_onnx(&bytes).is_err());
    }

    #[test]
    fn a_damaged_model_is_refused_or_runs(
        model in prop::sample::select(vec!["lean.onnx", "mirrored.onnx"]),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut file = read(model);
        for (index, value) in damage {
            let position = index.index(file.len());
            file[position] = value;
        }
        if let Ok(segmenter) = Segmenter::from_onnx(&file) {
            // Damage to the weights alone shows in the figures only.
            drop(segmenter.segment(&image("phantom")));
        }
    }
}
