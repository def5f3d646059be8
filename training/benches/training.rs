//! Time of a training step and of its parts, of its random transforms, and of all together as in an epoch; and time to
//! decode, prepare and cache a data set. The network is the MONAI UNet in batches of 16 crops of 224x224 pixels.
//!
//! `GLIOSEG_BENCH_DEVICE` names the device as `glioseg-train fit --device` does (`cpu`), `GLIOSEG_BENCH_FILTERS` the
//! filters of the network's first block (16), `RAYON_NUM_THREADS` the threads of the CPU.

use std::fs;
use std::hint::black_box;

use burn::backend::Flex;
use burn::module::AutodiffModule;
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{GradientsParams, Optimizer};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Distribution, ElementConversion, Tensor};
use clap::ValueEnum;
use criterion::{BatchSize, Criterion, SamplingMode, criterion_group, criterion_main};
use glioseg_shared::imaging::grid::Fit;
use glioseg_shared::imaging::{Limits, encode_mask_tiff, encode_slice_tiff, phantom};
use glioseg_shared::model::contract::{Input, Normalization};
use glioseg_training::augment::{Preset, Transforms, apply};
use glioseg_training::batches::Batches;
use glioseg_training::data::cache::{Cache, CachedPatient};
use glioseg_training::data::dataset::Dataset;
use glioseg_training::device::{Device, OnDevice};
use glioseg_training::kernels::Kernels;
use glioseg_training::loss::{Loss, Losses};
use glioseg_training::networks::{Network, fresh_weights, unet};
use glioseg_training::optimise::{AdamW, clip_global_norm};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const BATCH: usize = 16;
const CROP: usize = 224;
const SIDE: usize = 256;
/// Studies of 24 slices in the folder that is decoded.
const STUDIES: u64 = 4;

struct Trainer<B: AutodiffBackend<InnerBackend: Kernels>> {
    network: Network<B>,
    optimiser: OptimizerAdaptor<AdamW, Network<B>, B>,
}

impl<B: AutodiffBackend<InnerBackend: Kernels + Transforms> + Kernels + Losses> Trainer<B> {
    fn new(filters: usize, device: &B::Device) -> Self {
        let graph = unet(filters, 0.0);
        let weights = fresh_weights(&graph, &mut ChaCha8Rng::seed_from_u64(0));
        Self {
            network: Network::new(graph, weights, device).expect("the weights were made for it"),
            optimiser: AdamW::new(1e-5).init(),
        }
    }

    fn loss(&self, (images, masks): Batch<B>) -> Tensor<B, 1> {
        let logits = self.network.forward(Tensor::from_inner(images));
        Loss::DiceFocal.forward(logits, Tensor::from_inner(masks))
    }

    /// Forward, loss, backward, clipping, AdamW; returns the loss, as a training run reads it too.
    fn step(&mut self, batch: Batch<B>) -> f32 {
        let loss = self.loss(batch);
        let gradients = GradientsParams::from_grads(loss.backward(), &self.network);
        let (gradients, _) = clip_global_norm(&self.network, gradients, 0.5);
        self.network = self.optimiser.step(1e-3, self.network.clone(), gradients);
        loss.into_scalar().elem()
    }
}

/// Images and masks.
type Batch<B> = (
    Tensor<<B as AutodiffBackend>::InnerBackend, 4>,
    Tensor<<B as AutodiffBackend>::InnerBackend, 4>,
);

/// A setting from the environment.
fn setting<T>(name: &str, default: T, parse: impl FnOnce(&str) -> Option<T>) -> T {
    std::env::var(name).map_or(default, |text| {
        parse(&text).unwrap_or_else(|| panic!("{name} cannot be `{text}`"))
    })
}

/// The benchmarks of one device.
struct Training<'a> {
    criterion: &'a mut Criterion,
    filters: usize,
}

impl OnDevice for Training<'_> {
    type Output = ();

    fn run<B>(self, device: &B::Device)
    where
        B: AutodiffBackend<InnerBackend: Kernels + Transforms> + Kernels + Losses,
    {
        B::seed(device, 0);
        let mut trainer = Trainer::<B>::new(self.filters, device);
        // What a GPU was given is done before the clock is read.
        let wait = || B::sync(device).expect("the device does what it was given");
        let mut group = self.criterion.benchmark_group("training");
        group.sampling_mode(SamplingMode::Flat);

        let size = |channels| [BATCH, channels, CROP, CROP];
        let images = Tensor::random(size(3), Distribution::Uniform(0.0, 1.0), device);
        let masks = Tensor::random(size(1), Distribution::Bernoulli(0.03), device);
        let batch = || black_box((images.clone(), masks.clone()));
        group.bench_function("forward", |bencher| {
            bencher.iter(|| {
                let loss = trainer.loss(batch());
                wait();
                loss
            });
        });
        group.bench_function("forward_backward", |bencher| {
            bencher.iter(|| {
                let gradients = trainer.loss(batch()).backward();
                wait();
                gradients
            });
        });
        group.bench_function("step", |bencher| bencher.iter(|| trainer.step(batch())));

        let patient = patient();
        let batches = Batches::<B::InnerBackend>::new(
            &[&patient],
            &input(),
            Normalization::Unit,
            u64::MAX,
            device,
        );
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut next = |preset: Preset| {
            let chosen: Vec<_> = (0..BATCH)
                .map(|_| rng.random_range(0..batches.len()))
                .collect();
            let augmentation = preset.augmentation();
            let draws: Vec<_> = chosen
                .iter()
                .map(|_| augmentation.draw([SIDE - CROP; 2], &mut rng))
                .collect();
            apply(batches.gather(&chosen), &draws, [CROP; 2])
        };
        for (name, preset) in [
            ("augmentation_original", Preset::Original),
            ("augmentation_strong", Preset::Strong),
        ] {
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    let batch = next(preset);
                    wait();
                    batch
                });
            });
        }
        group.bench_function("epoch_batch", |bencher| {
            bencher.iter(|| trainer.step(next(Preset::Original)));
        });
        group.finish();
        black_box(trainer.network.valid());
    }
}

fn training(criterion: &mut Criterion) {
    let device = setting("GLIOSEG_BENCH_DEVICE", Device::Cpu, |name| {
        Device::from_str(name, true).ok()
    });
    let filters = setting("GLIOSEG_BENCH_FILTERS", 16, |number| number.parse().ok());
    let device = device.choose().expect("the device is there");
    device.run(Training { criterion, filters });
}

fn patient() -> CachedPatient {
    let study = phantom::study(0);
    CachedPatient {
        id: "phantom".to_owned(),
        names: (1..=study.slices.len())
            .map(|n| format!("phantom_{n}"))
            .collect(),
        slices: study.slices,
        masks: study.masks,
    }
}

fn cache(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    for seed in 0..STUDIES {
        let patient = folder.path().join(format!("phantom_{seed}"));
        fs::create_dir(&patient).expect("a folder can be made");
        let study = phantom::study(seed);
        for (number, (slice, mask)) in (1..).zip(study.slices.iter().zip(&study.masks)) {
            let write = |end: &str, bytes: Vec<u8>| {
                let file = patient.join(format!("phantom_{seed}_{number}{end}.tif"));
                fs::write(file, bytes).expect("a file can be written");
            };
            write("", encode_slice_tiff(slice));
            write("_mask", encode_mask_tiff(mask));
        }
    }
    let device = Default::default();
    let mut group = criterion.benchmark_group("data");
    group.sampling_mode(SamplingMode::Flat);
    group.bench_function("decode_prepare_cache_96_slices", |bencher| {
        let fresh = || tempfile::tempdir().expect("a temporary folder can be made");
        let build = |cache_folder: &mut tempfile::TempDir| {
            let dataset = Dataset::open(folder.path()).expect("the phantoms are a data set");
            let limits = Limits::default();
            let cache =
                Cache::load_or_build(&dataset, Some(cache_folder.path()), &limits, &|_, _| ())
                    .expect("the phantoms can be decoded");
            let patients: Vec<_> = cache.patients().iter().collect();
            Batches::<Flex>::new(&patients, &input(), Normalization::Unit, u64::MAX, &device).len()
        };
        bencher.iter_batched_ref(fresh, build, BatchSize::PerIteration);
    });
    group.finish();
}

fn input() -> Input {
    Input {
        channels: Input::CHANNELS.to_vec(),
        width: SIDE as u32,
        height: SIDE as u32,
        fit: Fit::ShrinkPad,
    }
}

criterion_group!(benches, training, cache);
criterion_main!(benches);
