//! The model that is built in: what it says of itself, and whether that is so.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use glioseg_shared::imaging::Limits;
use glioseg_shared::model::contract::{NOTICE, Unit};
use glioseg_shared::model::{Contract, Network, Segmenter, preprocess};
use glioseg_shared::scoring::{Estimate, PROTOCOL, Summary};
use glioseg_training::data::cache::CachedPatient;
use glioseg_training::data::{Dataset, Split};
use glioseg_training::evaluate::evaluate;
use glioseg_training::evaluate::studies::{PHANTOM_SEEDS, Part, decoded};
use glioseg_training::export;

/// Largest size of the file, bytes.
const MAX_BYTES: usize = 12_000_000;

/// Largest deviation from ONNX Runtime, in logits.
const TOLERANCE: f32 = 1e-4;

/// Largest deviation of a figure: another processor may round a pixel across the threshold.
const ROUNDING: f64 = 1e-4;

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/fast.onnx")
}

fn model() -> Vec<u8> {
    fs::read(path()).unwrap()
}

fn contract() -> Contract {
    Contract::of_onnx(&model()).unwrap()
}

fn summary_of(part: &str) -> Summary {
    let score = contract().scores.into_iter().find(|s| s.split == part);
    score.unwrap_or_else(|| panic!("no {part} scores")).summary
}

/// The five figures, each with its name.
fn figures(summary: &Summary) -> [(&'static str, Estimate); 5] {
    [
        ("volume Dice mean", summary.volume_dice_mean),
        ("volume Dice median", summary.volume_dice_median),
        ("tumour-slice Dice", summary.tumour_slice_dice),
        ("all-slice Dice", summary.all_slice_dice),
        ("false-positive rate", summary.false_positive_rate),
    ]
    .map(|(name, estimate)| (name, estimate.unwrap_or_else(|| panic!("no {name}"))))
}

#[test]
fn is_small_and_says_where_it_comes_from() {
    let onnx = model();
    assert!(onnx.len() <= MAX_BYTES, "{} bytes", onnx.len());
    let contract = contract();
    contract.validate().unwrap();
    assert_eq!(contract.unit, Unit::Slice);
    assert_eq!(contract.licence, "CC-BY-NC-SA-4.0");
    assert_eq!(contract.notice, NOTICE);
    // The version is that of these very weights.
    let version = export::model_version("fast", &onnx).unwrap();
    assert_eq!(contract.model_version, version);
    let provenance = &contract.provenance;
    for digest in [&provenance.data_digest, &provenance.split_digest] {
        assert_eq!(digest.len(), 64, "{digest}");
        assert!(digest.bytes().all(|b| b.is_ascii_hexdigit()), "{digest}");
    }
    for text in [&provenance.data, &provenance.split, &provenance.commit] {
        assert!(!text.is_empty());
    }
    assert_ne!(provenance.commit, "unrecorded");
    for part in ["validation", "test"] {
        let summary = summary_of(part);
        assert_eq!(summary.protocol, PROTOCOL);
        assert!(summary.patients > 1 && summary.slices > summary.patients);
        for (name, estimate) in figures(&summary) {
            let inside = (estimate.low..=estimate.high).contains(&estimate.value);
            assert!(inside && estimate.n > 0, "{part}: {name} {estimate:?}");
        }
    }
}

#[test]
fn finds_tumours_of_test_patients_and_rarely_more() {
    let summary = summary_of("test");
    let [(_, volumes), _, _, (_, all_slices), (_, false_positives)] = figures(&summary);
    assert!(volumes.value >= 0.78, "{volumes:?}");
    assert!(all_slices.value >= 0.75, "{all_slices:?}");
    assert!(false_positives.value <= 0.20, "{false_positives:?}");
}

#[test]
fn finds_the_lesions_of_phantoms_which_need_no_data() {
    let folder = tempfile::tempdir().unwrap();
    let mut evaluate = Command::new(env!("CARGO_BIN_EXE_glioseg-train"));
    let output = evaluate.arg("evaluate").arg("--out").arg(folder.path());
    let output = output.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let figures = fs::read(folder.path().join("evaluation.json")).unwrap();
    let figures: serde_json::Value = serde_json::from_slice(&figures).unwrap();
    assert_eq!(figures["model"]["version"], contract().model_version);
    let summary: Summary = serde_json::from_value(figures["summary"].clone()).unwrap();
    assert_eq!(summary.patients, PHANTOM_SEEDS.count());
    let dice = summary.volume_dice_mean.unwrap();
    assert!(dice.value >= 0.70, "volume Dice of phantoms: {dice:?}");
}

/// The data with the split that the model names, where they are at hand.
fn data() -> Option<(Dataset, Split)> {
    let lgg = glioseg_test_support::lgg()?;
    let split = Split::read(&lgg.split).unwrap();
    Some((Dataset::open(&lgg.folder).unwrap(), split))
}

#[test]
fn was_trained_on_the_training_patients_of_the_split() {
    let Some((dataset, split)) = data() else {
        return;
    };
    let provenance = contract().provenance;
    assert_eq!(provenance.split_digest, split.digest());
    let training = dataset.select(&split.train).unwrap();
    assert_eq!(provenance.data_digest, training.digest().unwrap());
}

#[test]
fn scores_as_it_says() {
    let Some((dataset, split)) = data() else {
        return;
    };
    let segmenter = Segmenter::from_onnx(&model()).unwrap();
    let limits = Limits::default();
    for part in [Part::Validation, Part::Test] {
        let patients = dataset.select(part.of(&split)).unwrap();
        let studies = decoded(&patients, &limits);
        let found = evaluate(&segmenter, studies, |_| ()).unwrap().summary;
        let said = summary_of(&part.to_string());
        let counts = |s: &Summary| (s.patients, s.slices, s.tumour_slices, s.empty_slices);
        assert_eq!(counts(&found), counts(&said), "{part}");
        for ((name, found), (_, said)) in figures(&found).into_iter().zip(figures(&said)) {
            assert_eq!(found.n, said.n, "{part}: {name}");
            let ends = [
                (found.value, said.value),
                (found.low, said.low),
                (found.high, said.high),
            ];
            let close = ends.iter().all(|(a, b)| (a - b).abs() <= ROUNDING);
            assert!(close, "{part}: {name}: {found:?} instead of {said:?}");
        }
    }
}

#[test]
fn gives_the_logits_of_onnx_runtime_on_real_slices() {
    let Some((dataset, split)) = data() else {
        return;
    };
    let Some(python) = glioseg_test_support::python(&["numpy", "onnxruntime"]) else {
        return;
    };
    let validation = dataset.select(&split.validation).unwrap();
    let (network, contract) = (Network::from_onnx(&model()).unwrap(), contract());
    let (mut inputs, mut ours) = (Vec::new(), Vec::new());
    for patient in validation.patients().iter().step_by(4) {
        let patient = CachedPatient::decode(patient, &Limits::default()).unwrap();
        for slice in patient.slices.iter().step_by(8) {
            let levels = preprocess::levels([slice], contract.preprocessing.normalization);
            let prepared = preprocess::prepare(slice, &contract.input, &levels);
            ours.extend(network.logits(&prepared.values).unwrap());
            inputs.extend(prepared.values.iter().flat_map(|v| v.to_le_bytes()));
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let (input, output) = (folder.path().join("in"), folder.path().join("out"));
    fs::write(&input, inputs).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../shared/tests/goldens/inference/ort_logits.py");
    let status = Command::new(&python)
        .arg(script)
        .args([&path(), &input, &output])
        .status()
        .unwrap();
    assert!(status.success());
    let theirs = fs::read(&output).unwrap();
    let (theirs, rest) = theirs.as_chunks::<4>();
    assert_eq!((theirs.len(), rest.len()), (ours.len(), 0));
    let worst = ours
        .iter()
        .zip(theirs)
        .map(|(ours, theirs)| (ours - f32::from_le_bytes(*theirs)).abs())
        .fold(0.0, f32::max);
    assert!(worst <= TOLERANCE, "off by {worst}");
}
