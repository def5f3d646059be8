//! Time of a training step, of its random transforms, and of both after each other as in an epoch; and time to decode,
//! prepare and cache a data set. The network is the MONAI UNet with 16 filters, in batches of 16 crops of 224x224 pixels;
//! `RAYON_NUM_THREADS` sets the threads.

use std::fs;
use std::hint::black_box;

use burn::backend::{Autodiff, Flex};
use burn::module::AutodiffModule;
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{GradientsParams, Optimizer};
use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Tensor};
use criterion::{BatchSize, Criterion, SamplingMode, criterion_group, criterion_main};
use glioseg_shared::imaging::grid::Fit;
use glioseg_shared::imaging::{Limits, encode_mask_tiff, encode_slice_tiff, phantom};
use glioseg_shared::model::contract::{Input, Normalization};
use glioseg_training::augment::{Preset, apply};
use glioseg_training::batches::Batches;
use glioseg_training::data::cache::{Cache, CachedPatient};
use glioseg_training::data::dataset::Dataset;
use glioseg_training::loss::Loss;
use glioseg_training::networks::{Network, fresh_weights, unet};
use glioseg_training::optimise::{AdamW, clip_global_norm};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

type Cpu = Autodiff<Flex>;
type Device = <Cpu as burn::tensor::backend::BackendTypes>::Device;

const FILTERS: usize = 16;
const BATCH: usize = 16;
const CROP: usize = 224;
const SIDE: usize = 256;
/// Studies of 24 slices in the folder that is decoded.
const STUDIES: u64 = 4;

struct Trainer {
    network: Network<Cpu>,
    optimiser: OptimizerAdaptor<AdamW, Network<Cpu>, Cpu>,
}

impl Trainer {
    fn new(device: &Device) -> Self {
        let graph = unet(FILTERS, 0.0);
        let weights = fresh_weights(&graph, &mut ChaCha8Rng::seed_from_u64(0));
        Self {
            network: Network::new(graph, weights, device).expect("the weights were made for it"),
            optimiser: AdamW::new(1e-5).init(),
        }
    }

    /// Forward, loss, backward, clipping, AdamW; returns the loss, as a training run reads it too.
    fn step(&mut self, images: Tensor<Flex, 4>, masks: Tensor<Flex, 4>) -> f32 {
        let logits = self.network.forward(Tensor::from_inner(images));
        let loss = Loss::DiceFocal.forward(logits, Tensor::from_inner(masks));
        let gradients = GradientsParams::from_grads(loss.backward(), &self.network);
        let (gradients, _) = clip_global_norm(&self.network, gradients, 0.5);
        self.network = self.optimiser.step(1e-3, self.network.clone(), gradients);
        loss.into_scalar()
    }
}

fn step(criterion: &mut Criterion) {
    let device = Device::default();
    Cpu::seed(&device, 0);
    let size = |channels| [BATCH, channels, CROP, CROP];
    let images = Tensor::<Flex, 4>::random(size(3), Distribution::Uniform(0.0, 1.0), &device);
    let masks = Tensor::<Flex, 4>::random(size(1), Distribution::Bernoulli(0.03), &device);
    let mut trainer = Trainer::new(&device);
    let mut group = criterion.benchmark_group("training");
    group.sampling_mode(SamplingMode::Flat);
    group.bench_function("step", |bencher| {
        bencher.iter(|| trainer.step(black_box(images.clone()), masks.clone()));
    });
    group.finish();
    black_box(trainer.network.valid());
}

fn augmented(criterion: &mut Criterion) {
    let device = Device::default();
    let study = phantom::study(0);
    let patient = CachedPatient {
        id: "phantom".to_owned(),
        names: (1..=study.slices.len())
            .map(|n| format!("phantom_{n}"))
            .collect(),
        slices: study.slices,
        masks: study.masks,
    };
    let batches = Batches::<Flex>::new(
        &[&patient],
        &input(),
        Normalization::Unit,
        u64::MAX,
        &device,
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
    let mut trainer = Trainer::new(&device);
    let mut group = criterion.benchmark_group("training");
    group.sampling_mode(SamplingMode::Flat);
    group.bench_function("augmentation_original", |bencher| {
        bencher.iter(|| next(Preset::Original));
    });
    group.bench_function("augmentation_strong", |bencher| {
        bencher.iter(|| next(Preset::Strong));
    });
    group.bench_function("epoch_batch", |bencher| {
        bencher.iter(|| {
            let (images, masks) = next(Preset::Original);
            trainer.step(images, masks)
        });
    });
    group.finish();
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
    let device = Device::default();
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
        fit: Fit::CropPad,
    }
}

criterion_group!(benches, step, augmented, cache);
criterion_main!(benches);
