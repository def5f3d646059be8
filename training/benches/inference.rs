//! Time of one 256x256 slice through each shipped model, or through the one that `GLIOSEG_BENCH_MODEL` names; one thread.

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};

use criterion::{Criterion, criterion_group, criterion_main};
use glioseg_shared::imaging::phantom;
use glioseg_shared::model::{Network, Segmenter, preprocess};

const SOUND: &str = "a model is measured that can be served";
const RUNS: &str = "a served model runs on its own input";

fn inference(criterion: &mut Criterion) {
    let slices = phantom::study(0).slices;
    let slice = &slices[slices.len() / 2];
    for path in models() {
        let bytes = fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        let segmenter = Segmenter::from_onnx(&bytes).expect(SOUND);
        let contract = segmenter.contract();
        let network = Network::from_onnx(&bytes).expect(SOUND);
        let levels = preprocess::levels([slice], contract.preprocessing.normalization);
        let prepared = preprocess::prepare(slice, &contract.input, &levels);
        criterion.bench_function(&format!("network/{name}"), |bencher| {
            bencher.iter(|| network.logits(black_box(&prepared.values)).expect(RUNS));
        });
        criterion.bench_function(&format!("segment/{name}"), |bencher| {
            let study = std::slice::from_ref(slice);
            bencher.iter(|| segmenter.segment_study(black_box(study)).expect(RUNS));
        });
    }
}

fn models() -> Vec<PathBuf> {
    if let Some(path) = std::env::var_os("GLIOSEG_BENCH_MODEL") {
        return vec![PathBuf::from(path)];
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models");
    let mut models: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        .collect();
    models.sort();
    models
}

criterion_group!(benches, inference);
criterion_main!(benches);
