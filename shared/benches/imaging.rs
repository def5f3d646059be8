//! Time to decode, prepare and label the slices of a phantom study. An iteration is the whole study of 24 slices of
//! 256x256 pixels, in the layout of the data set; one thread.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use glioseg_shared::imaging::components::{Connectivity, label_2d, label_3d};
use glioseg_shared::imaging::grid::Fit;
use glioseg_shared::imaging::phantom::{self, Phantom};
use glioseg_shared::imaging::{
    Channel, Limits, Mask, Slice, decode_masks, decode_slices, encode_mask_tiff, encode_slice_tiff,
};
use glioseg_shared::model::contract::{Input, Normalization};
use glioseg_shared::model::preprocess;

/// The study that `benches/compare.py` gives to the peers.
const SEED: u64 = 0;
/// FLAIR intensity from which a pixel belongs to the masks that are labelled: most of the brain, torn by noise.
const BRIGHT: u8 = 96;

fn decode(criterion: &mut Criterion) {
    let Phantom { slices, masks, .. } = phantom::study(SEED);
    let slices: Vec<_> = slices.iter().map(encode_slice_tiff).collect();
    let masks: Vec<_> = masks.iter().map(encode_mask_tiff).collect();
    let limits = Limits::default();
    criterion.bench_function("decode/slices", |bencher| {
        bencher.iter(|| {
            for file in &slices {
                black_box(decode_slices(black_box(file), &limits).expect("own files are sound"));
            }
        });
    });
    criterion.bench_function("decode/masks", |bencher| {
        bencher.iter(|| {
            for file in &masks {
                black_box(decode_masks(black_box(file), &limits).expect("own files are sound"));
            }
        });
    });
}

fn prepare(criterion: &mut Criterion) {
    let slices = phantom::study(SEED).slices;
    let input = Input {
        channels: Input::CHANNELS.to_vec(),
        width: 256,
        height: 256,
        fit: Fit::ShrinkPad,
    };
    let z_score = Normalization::PercentileZScore {
        low: 10.0,
        high: 99.0,
    };
    for (name, normalization) in [
        ("preprocess/unit", Normalization::Unit),
        ("preprocess/percentile_z_score", z_score),
    ] {
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                for slice in &slices {
                    let levels = preprocess::levels([black_box(slice)], normalization);
                    black_box(preprocess::prepare(slice, &input, &levels));
                }
            });
        });
    }
}

fn components(criterion: &mut Criterion) {
    let masks: Vec<_> = phantom::study(SEED).slices.iter().map(bright).collect();
    criterion.bench_function("components/slices", |bencher| {
        bencher.iter(|| {
            for mask in &masks {
                black_box(label_2d(black_box(mask), Connectivity::Corners).labels());
            }
        });
    });
    criterion.bench_function("components/volume", |bencher| {
        bencher.iter(|| {
            let components = label_3d(black_box(&masks), Connectivity::Corners);
            components
                .expect("slices of one study are of one size")
                .labels()
        });
    });
}

fn bright(slice: &Slice) -> Mask {
    let (width, height) = (slice.width(), slice.height());
    let pixels = (0..width * height)
        .map(|i| slice.at(i % width, i / width, Channel::Flair) >= BRIGHT)
        .collect();
    Mask::new(width, height, pixels).expect("one value was made for each pixel")
}

criterion_group!(benches, decode, prepare, components);
criterion_main!(benches);
