//! The models that are shipped, `fast` (built in) and `best`: what they say of themselves, and whether that is so.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use glioseg_shared::imaging::phantom::{Phantom, PhantomConfig};
use glioseg_shared::imaging::{CHANNELS, Limits, Mask, Slice};
use glioseg_shared::model::contract::{NOTICE, Unit};
use glioseg_shared::model::{Contract, Network, Segmenter, preprocess};
use glioseg_shared::scoring::{Counts, Estimate, PROTOCOL, Summary};
use glioseg_training::cross_validation::CROSS_VALIDATION;
use glioseg_training::data::cache::CachedPatient;
use glioseg_training::data::{Dataset, Split};
use glioseg_training::evaluate::evaluate;
use glioseg_training::evaluate::studies::{PHANTOM_SEEDS, Part, decoded};
use glioseg_training::export;

/// The models and the largest size of their files, bytes.
const MODELS: [(&str, usize); 2] = [("fast", 6_000_000), ("best", 30_000_000)];

/// Largest deviation from ONNX Runtime, in logits.
const TOLERANCE: f32 = 1e-4;

/// Largest deviation of a figure: another processor may round a pixel across the threshold.
const ROUNDING: f64 = 1e-4;

fn path(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("models/{model}.onnx"))
}

fn file(model: &str) -> Vec<u8> {
    fs::read(path(model)).unwrap()
}

fn contract(model: &str) -> Contract {
    Contract::of_onnx(&file(model)).unwrap()
}

fn summary_of(model: &str, part: &str) -> Summary {
    let scores = contract(model).scores;
    let score = scores.into_iter().find(|s| s.split == part);
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
fn each_is_small_and_says_where_it_comes_from() {
    for (model, max_bytes) in MODELS {
        let onnx = file(model);
        assert!(onnx.len() <= max_bytes, "{model}: {} bytes", onnx.len());
        let contract = contract(model);
        contract.validate().unwrap();
        assert_eq!(contract.unit, Unit::Slice);
        assert_eq!(contract.licence, "CC-BY-NC-SA-4.0");
        assert_eq!(contract.notice, NOTICE);
        // The version is that of these very weights.
        let version = export::model_version(model, &onnx).unwrap();
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
        // Nobody is left to validate `fast`; the members of `best` validate each other.
        let parts: &[&str] = match model {
            "fast" => &["test"],
            _ => &[CROSS_VALIDATION, "test"],
        };
        for part in parts {
            let summary = summary_of(model, part);
            assert_eq!(summary.protocol, PROTOCOL);
            assert!(summary.patients > 1 && summary.slices > summary.patients);
            for (name, estimate) in figures(&summary) {
                let inside = (estimate.low..=estimate.high).contains(&estimate.value);
                assert!(
                    inside && estimate.n > 0,
                    "{model}, {part}: {name} {estimate:?}"
                );
            }
        }
    }
}

#[test]
fn each_finds_tumours_of_test_patients_and_rarely_more() {
    for (model, _) in MODELS {
        let summary = summary_of(model, "test");
        let [
            (_, volumes),
            _,
            (_, tumour_slices),
            (_, all_slices),
            (_, false_positives),
        ] = figures(&summary);
        assert!(volumes.value >= 0.78, "{model}: {volumes:?}");
        assert!(tumour_slices.value >= 0.78, "{model}: {tumour_slices:?}");
        assert!(all_slices.value >= 0.88, "{model}: {all_slices:?}");
        assert!(
            false_positives.value <= 0.05,
            "{model}: {false_positives:?}"
        );
    }
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
    assert_eq!(figures["model"]["version"], contract("fast").model_version);
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
fn they_were_trained_on_everybody_but_those_who_test() {
    let Some((dataset, split)) = data() else {
        return;
    };
    let trained_by = split.all_folds();
    for (model, _) in MODELS {
        let provenance = contract(model).provenance;
        assert_eq!(provenance.split_digest, trained_by.digest(), "{model}");
        let training = dataset.select(&trained_by.train).unwrap();
        assert_eq!(
            provenance.data_digest,
            training.digest().unwrap(),
            "{model}"
        );
    }
}

#[test]
fn each_scores_as_it_says() {
    let Some((dataset, split)) = data() else {
        return;
    };
    let limits = Limits::default();
    let part = Part::Test;
    for (model, _) in MODELS {
        let segmenter = Segmenter::from_onnx(&file(model)).unwrap();
        let patients = dataset.select(part.of(&split)).unwrap();
        let studies = decoded(&patients, &limits);
        let found = evaluate(&segmenter, studies, |_| ()).unwrap().summary;
        let said = summary_of(model, &part.to_string());
        let counts = |s: &Summary| (s.patients, s.slices, s.tumour_slices, s.empty_slices);
        assert_eq!(counts(&found), counts(&said), "{model}, {part}");
        for ((name, found), (_, said)) in figures(&found).into_iter().zip(figures(&said)) {
            assert_eq!(found.n, said.n, "{model}, {part}: {name}");
            let ends = [
                (found.value, said.value),
                (found.low, said.low),
                (found.high, said.high),
            ];
            let close = ends.iter().all(|(a, b)| (a - b).abs() <= ROUNDING);
            assert!(
                close,
                "{model}, {part}: {name}: {found:?} instead of {said:?}"
            );
        }
    }
}

/// The volume Dice of a model on these slices.
fn volume_dice(segmenter: &Segmenter, slices: &[Slice], truth: &[Mask]) -> f64 {
    let found = segmenter.segment_study(slices).unwrap();
    let counts = found.iter().zip(truth);
    let counts: Counts = counts
        .map(|(found, truth)| Counts::of(&found.mask, truth).unwrap())
        .sum();
    counts.dice()
}

#[test]
fn a_head_in_twice_the_matrix_has_the_same_tumour() {
    let segmenter = Segmenter::from_onnx(&file("fast")).unwrap();
    let mut pairs = Vec::new();
    for seed in PHANTOM_SEEDS.take(4) {
        let [once, twice] = [256, 512].map(|size| {
            let config = PhantomConfig {
                size,
                ..PhantomConfig::default()
            };
            let phantom = Phantom::generate(&config, seed).unwrap();
            volume_dice(&segmenter, &phantom.slices, &phantom.masks)
        });
        pairs.push((format!("phantom {seed}"), once, twice));
    }
    if let Some((dataset, split)) = data() {
        let test = dataset.select(&split.test).unwrap();
        for patient in test.patients().iter().step_by(3) {
            let patient = CachedPatient::decode(patient, &Limits::default()).unwrap();
            let once = volume_dice(&segmenter, &patient.slices, &patient.masks);
            let slices: Vec<_> = patient.slices.iter().map(doubled).collect();
            let masks: Vec<_> = patient.masks.iter().map(doubled_mask).collect();
            pairs.push((patient.id, once, volume_dice(&segmenter, &slices, &masks)));
        }
    }
    let mean =
        |of: fn(&(String, f64, f64)) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
    let (once, twice) = (mean(|pair| pair.1), mean(|pair| pair.2));
    assert!((once - twice).abs() < 0.02, "{once} and {twice}: {pairs:?}");
}

/// Each of the pixels of an image four times, row by row.
fn twice<T: Copy>(pixels: &[T], width: usize) -> Vec<T> {
    let rows = pixels.chunks_exact(width).flat_map(|row| [row, row]);
    rows.flatten().flat_map(|&pixel| [pixel, pixel]).collect()
}

fn doubled(slice: &Slice) -> Slice {
    let pixels = slice.pixels().as_chunks::<CHANNELS>().0;
    let pixels = twice(pixels, slice.width()).concat();
    Slice::new(
        2 * slice.width(),
        2 * slice.height(),
        pixels,
        slice.intensity(),
    )
    .unwrap()
}

fn doubled_mask(mask: &Mask) -> Mask {
    let pixels = twice(mask.pixels(), mask.width());
    Mask::new(2 * mask.width(), 2 * mask.height(), pixels).unwrap()
}

#[test]
fn each_gives_the_logits_of_onnx_runtime_on_real_slices() {
    let Some((dataset, split)) = data() else {
        return;
    };
    let Some(python) = glioseg_test_support::python(&["numpy", "onnxruntime"]) else {
        return;
    };
    let validation = dataset.select(&split.validation).unwrap();
    for (model, _) in MODELS {
        let worst = deviation_from_onnx_runtime(&python, model, &validation);
        assert!(worst <= TOLERANCE, "{model}: off by {worst}");
    }
}

/// Largest difference of a logit on some slices of these patients.
fn deviation_from_onnx_runtime(python: &Path, model: &str, patients: &Dataset) -> f32 {
    let (network, contract) = (Network::from_onnx(&file(model)).unwrap(), contract(model));
    let (mut inputs, mut ours) = (Vec::new(), Vec::new());
    for patient in patients.patients().iter().step_by(4) {
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
    let status = Command::new(python)
        .arg(script)
        .args([&path(model), &input, &output])
        .status()
        .unwrap();
    assert!(status.success());
    let theirs = fs::read(&output).unwrap();
    let (theirs, rest) = theirs.as_chunks::<4>();
    assert_eq!((theirs.len(), rest.len()), (ours.len(), 0));
    ours.iter()
        .zip(theirs)
        .map(|(ours, theirs)| (ours - f32::from_le_bytes(*theirs)).abs())
        .fold(0.0, f32::max)
}
