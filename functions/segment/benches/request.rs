//! What a warm request costs beside the network's own work, stage by stage, and what it takes to make a model ready.
//!
//! `bare network` is what no request can do without; everything else in `whole request` is this project's.

#![allow(missing_docs)]

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use criterion::{Criterion, criterion_group, criterion_main};
use glioseg_segment::config::Config;
use glioseg_segment::slice::Segmented;
use glioseg_segment::{Buckets, Segment};
use glioseg_shared::cloud::keys::{self, Channel, ModelVersion};
use glioseg_shared::cloud::{
    Condition, FolderStorage, HttpRequest, HttpResponse, Metadata, Storage,
};
use glioseg_shared::imaging::phantom::{Phantom, PhantomConfig};
use glioseg_shared::imaging::{Limits, Slice, decode_slices, encode_slice_tiff};
use glioseg_shared::model::{Contract, Network, Segmenter, preprocess};
use glioseg_shared::registry::{self, ModelFile, Pointer};
use glioseg_shared::study::{Document, Prepared, Source, unnamed};
use tokio::runtime::{Builder, Runtime};

/// A slice of 256x256 pixels with a lesion.
fn slice() -> Slice {
    let config = PhantomConfig {
        slices: 3,
        lesions: 2,
        ..PhantomConfig::default()
    };
    let mut phantom = Phantom::generate(&config, 3).expect("a phantom in its ranges");
    phantom.slices.remove(1)
}

fn prepared(slice: Slice) -> Prepared {
    Prepared {
        study: unnamed::study(),
        name: unnamed::slice(),
        slice,
        spacing_mm: None,
        volume: None,
        source: Source {
            file: "image".to_owned(),
            sha256: "0".repeat(64),
            page: 1,
        },
    }
}

fn channel() -> Channel {
    Channel::parse("fast").expect("a plain name")
}

fn onnx() -> Vec<u8> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../training/models");
    std::fs::read(models.join("fast.onnx")).expect("the shipped model")
}

/// The function over folders, the shipped model published.
async fn function(folder: &Path, onnx: &[u8]) -> Segment<FolderStorage> {
    let bucket = |name| FolderStorage::open(folder.join(name)).expect("a folder");
    let models = bucket("models");
    let contract = Contract::of_onnx(onnx).expect("a sound model");
    let version = ModelVersion::parse(&contract.model_version).expect("a sound version");
    let pointer = Pointer::new(&channel(), ModelFile::of(&version, onnx), &contract, None);
    let metadata = Metadata::new();
    models
        .put(
            &keys::model_onnx(&version),
            onnx.to_vec(),
            Condition::Always,
            &metadata,
        )
        .await
        .expect("a folder that can be written");
    registry::swap_pointer(&models, &channel(), &pointer, None)
        .await
        .expect("a folder that can be written");
    let config = Config::from_variables(|variable| match variable {
        "UPLOADS_BUCKET" | "RESULTS_BUCKET" | "MODELS_BUCKET" => Some("bucket".to_owned()),
        // No look at the pointer while requests are timed.
        "MODEL_REFRESH_SECONDS" => Some("86400".to_owned()),
        _ => None,
    })
    .expect("a sound environment");
    let buckets = Buckets {
        uploads: bucket("uploads"),
        results: bucket("results"),
        models,
    };
    let segment = Segment::new(buckets, config, Arc::new(SystemTime::now));
    segment.warm_up().await;
    segment
}

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime")
}

fn stages(criterion: &mut Criterion) {
    let (onnx, slice) = (onnx(), slice());
    let segmenter = Segmenter::from_onnx(&onnx).expect("a sound model");
    let network = Network::from_onnx(&onnx).expect("a sound model");
    let contract = segmenter.contract().clone();
    let (tiff, prepared, channel) = (encode_slice_tiff(&slice), prepared(slice), channel());
    let png = prepared.encode();
    let slice = &prepared.slice;
    let segmented =
        Segmented::new(&prepared, &segmenter, &channel).expect("a slice that can be segmented");
    let input = || {
        let levels = preprocess::levels([slice], contract.preprocessing.normalization);
        preprocess::prepare(slice, &contract.input, &levels)
    };

    let mut group = criterion.benchmark_group("stage");
    let limits = Limits::default();
    group.bench_function("decode tiff", |b| {
        b.iter(|| decode_slices(black_box(&tiff), &limits));
    });
    group.bench_function("decode prepared", |b| {
        b.iter(|| Prepared::decode(black_box(&png), &limits));
    });
    group.bench_function("preprocess", |b| b.iter(input));
    let values = input().values;
    group.bench_function("bare network", |b| {
        b.iter(|| network.logits(black_box(&values)));
    });
    group.bench_function("all steps to the mask", |b| {
        b.iter(|| segmenter.segment(black_box(slice)));
    });
    group.bench_function("report json", |b| b.iter(|| segmented.report().to_json()));
    group.bench_function("mask tiff", |b| b.iter(|| segmented.mask_tiff()));
    group.bench_function("mask png", |b| b.iter(|| segmented.mask_png()));
    group.bench_function("overlay png", |b| b.iter(|| segmented.overlay_png()));
    group.bench_function("probability png", |b| {
        b.iter(|| segmented.probability_png());
    });
    group.finish();

    criterion.bench_function("make the model ready", |b| {
        b.iter(|| Segmenter::from_onnx(black_box(&onnx)));
    });
}

fn requests(criterion: &mut Criterion) {
    let runtime = runtime();
    let folder = tempfile::tempdir().expect("a folder");
    let function = runtime.block_on(function(folder.path(), &onnx()));
    let tiff = encode_slice_tiff(&slice());
    let mut group = criterion.benchmark_group("whole request");
    for accept in [
        "application/json",
        "image/tiff",
        "image/png",
        "image/png;view=overlay",
        "image/png;view=probability",
    ] {
        let request = HttpRequest::new("POST", "/segment")
            .with_body("image/tiff", tiff.clone())
            .with_header("accept", accept);
        group.bench_function(accept, |b| {
            b.iter(|| {
                let response = runtime.block_on(function.on_http(request.clone()));
                HttpResponse::into_api_gateway(response)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, stages, requests);
criterion_main!(benches);
