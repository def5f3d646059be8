//! `glioseg-train fit`: slices in, weights out.

use std::path::PathBuf;
use std::process::ExitCode;

use burn::backend::Autodiff;
#[cfg(feature = "tch")]
use burn::backend::{LibTorch, libtorch::LibTorchDevice};
use burn::tensor::backend::AutodiffBackend;
use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use glioseg_shared::imaging::grid::Fit;
use glioseg_shared::model::contract::Provenance;
use glioseg_training::augment::{Preset, Transforms};
use glioseg_training::batches::Batches;
use glioseg_training::checkpoint::{Checkpoint, weights_digest};
use glioseg_training::data::cache::{Cache, CachedPatient};
use glioseg_training::data::dataset::Dataset;
use glioseg_training::data::split::Split;
use glioseg_training::fit::{Origin, fit};
use glioseg_training::kernels::Kernels;
use glioseg_training::loss::{Loss, Losses};
use glioseg_training::networks::Weights;
use glioseg_training::optimise::Schedule;
use glioseg_training::package::{GRID, draft, input, package};
use glioseg_training::recipe::{Architecture, Recipe};

use super::{CommandError, Outcome, data_name, decode, run_data, split_name, write_file};

/// Where the network is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Device {
    /// CPU, all cores (burn-flex).
    Cpu,
    /// NVIDIA GPU through CubeCL.
    #[cfg(feature = "cuda")]
    Cuda,
    /// CPU through LibTorch.
    #[cfg(feature = "tch")]
    Tch,
    /// First NVIDIA GPU through LibTorch.
    #[cfg(feature = "tch")]
    TchCuda,
}

/// How a slice comes to the network's grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FitToGrid {
    /// Pixels keep their size; smaller slices get a border of zeros, larger ones are refused.
    CropPad,
    /// Slices are resampled to the grid, masks back to the slice.
    Resample,
}

/// Train a network on labelled slices.
///
/// DATA is a folder with one folder a patient, each with slices X.tif and masks X_mask.tif. Training patients are
/// learned from, validation patients choose the epoch, test patients are never opened. The run continues from
/// OUT/checkpoint.bin when it is there, with the same result as if it had never stopped.
#[derive(Args, Debug)]
pub(crate) struct FitArgs {
    /// Folder of the data.
    data: PathBuf,
    /// Split: a JSON file with the lists train, validation and test.
    #[arg(long)]
    split: PathBuf,
    /// Cross-validation: validate on this fold (from 0) of the split and train on the others.
    #[arg(long)]
    fold: Option<usize>,
    /// Folder for checkpoint, metrics and model.
    #[arg(long)]
    out: PathBuf,
    /// Begin with the best weights of this checkpoint, of a run with the same network on the same data and split
    /// [default: fresh weights].
    #[arg(long)]
    from: Option<PathBuf>,
    /// Folder for the decoded slices, kept between runs [default: the data folder].
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Device to train on.
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// Keep all slices on the device when they take at most this many GiB there.
    #[arg(long, default_value_t = 4.0, value_parser = above_zero)]
    resident_gib: f64,
    /// Network: lean-small, lean-medium, lean-fine (each also with -norm), lean-tiny-norm, unet-F or attention-unet-F.
    #[arg(long, default_value = "lean-medium-norm")]
    network: Architecture,
    /// Dropout rate.
    #[arg(long, default_value_t = 0.1, value_parser = fraction)]
    dropout: f64,
    /// Loss.
    #[arg(long, value_enum, default_value_t = Loss::BatchDiceCe)]
    loss: Loss,
    /// Epochs.
    #[arg(long, default_value_t = 60, value_parser = positive())]
    epochs: usize,
    /// Slices a step.
    #[arg(long, default_value_t = 16, value_parser = positive())]
    batch: usize,
    /// How slices of another size than 256x256 come to the network's grid.
    #[arg(long, value_enum, default_value_t = FitToGrid::CropPad)]
    fit: FitToGrid,
    /// Side of the random crop, pixels.
    #[arg(long, default_value_t = 192)]
    crop: usize,
    /// Highest learning rate.
    #[arg(long, default_value_t = 2e-3, value_parser = above_zero)]
    learning_rate: f64,
    /// Learning rate over time.
    #[arg(long, value_enum, default_value_t = Schedule::Cosine)]
    schedule: Schedule,
    /// Epochs over which the learning rate rises at first.
    #[arg(long, default_value_t = 1)]
    warm_up_epochs: usize,
    /// Weight decay.
    #[arg(long, default_value_t = 1e-4, value_parser = fraction)]
    weight_decay: f64,
    /// Largest global norm of the gradients.
    #[arg(long, default_value_t = 0.5, value_parser = above_zero)]
    clip: f64,
    /// Random transforms.
    #[arg(long, value_enum, default_value_t = Preset::Strong)]
    augment: Preset,
    /// Oversampling: how often an epoch shows each slice with tumour.
    #[arg(long, default_value_t = 1, value_parser = positive())]
    tumour_repeats: usize,
    /// Least share of slices with tumour in an epoch; others are left out at random to reach it (0: show all).
    #[arg(long, default_value_t = 0.4, value_parser = fraction)]
    tumour_share: f64,
    /// Decay of the moving average of the weights (0: none).
    #[arg(long, default_value_t = 0.998, value_parser = fraction)]
    average: f64,
    /// End after this many epochs without a better validation Dice.
    #[arg(long, default_value_t = 20, value_parser = positive())]
    patience: usize,
    /// Seed of everything random.
    #[arg(long, default_value_t = 155)]
    seed: u64,
    /// Name that the model's version begins with.
    #[arg(long, default_value = "fast")]
    name: String,
    /// Commit of the code, for the model's contract.
    #[arg(long, env = "GLIOSEG_COMMIT", default_value = "unrecorded")]
    commit: String,
}

/// A number from 0 to below 1.
fn fraction(text: &str) -> Result<f64, String> {
    number(
        text,
        |value| (0.0..1.0).contains(&value),
        "from 0 to below 1",
    )
}

/// A number above 0.
fn above_zero(text: &str) -> Result<f64, String> {
    number(text, |value| value > 0.0 && value.is_finite(), "above 0")
}

fn number(text: &str, allowed: impl Fn(f64) -> bool, range: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if allowed(value) => Ok(value),
        _ => Err(format!("use a number {range}")),
    }
}

fn positive() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

impl FitArgs {
    fn recipe(&self) -> Recipe {
        Recipe {
            network: self.network.clone(),
            dropout: self.dropout,
            loss: self.loss,
            epochs: self.epochs,
            batch: self.batch,
            fit: match self.fit {
                FitToGrid::CropPad => Fit::CropPad,
                FitToGrid::Resample => Fit::Resample,
            },
            crop: self.crop,
            learning_rate: self.learning_rate,
            schedule: self.schedule,
            warm_up_epochs: self.warm_up_epochs,
            weight_decay: self.weight_decay,
            clip: self.clip,
            augmentation: self.augment.augmentation(),
            tumour_share: self.tumour_share,
            tumour_repeats: self.tumour_repeats,
            average: self.average,
            patience: self.patience,
            seed: self.seed,
            start: None,
        }
    }

    /// The weights to begin with, where another run is named.
    ///
    /// Only one on the same data and split: weights that have seen the validation patients would choose themselves.
    fn start(&self, recipe: &Recipe, data: &str) -> Result<Option<Weights>, CommandError> {
        let Some(path) = &self.from else {
            return Ok(None);
        };
        let refused = |reason: &str| CommandError::from(format!("{}: {reason}", path.display()));
        let checkpoint = Checkpoint::read(path)?.ok_or_else(|| refused("there is no such file"))?;
        if checkpoint.recipe.network != recipe.network {
            return Err(refused(&format!(
                "its network is {}; use --network {} here",
                checkpoint.recipe.network, checkpoint.recipe.network
            )));
        }
        if checkpoint.data != data {
            return Err(refused(
                "it was trained on other data or another split: its validation patients may be among yours",
            ));
        }
        Ok(Some(checkpoint.best))
    }
}

/// Runs the command.
pub(crate) fn run(args: &FitArgs) -> Outcome {
    match args.device {
        Device::Cpu => train::<Autodiff<burn::backend::Flex>>(args, &Default::default()),
        #[cfg(feature = "cuda")]
        Device::Cuda => train::<Autodiff<burn::backend::Cuda>>(args, &Default::default()),
        #[cfg(feature = "tch")]
        Device::Tch => train::<Autodiff<LibTorch>>(args, &LibTorchDevice::Cpu),
        #[cfg(feature = "tch")]
        Device::TchCuda => train::<Autodiff<LibTorch>>(args, &LibTorchDevice::Cuda(0)),
    }
}

fn train<B>(args: &FitArgs, device: &B::Device) -> Outcome
where
    B: AutodiffBackend<InnerBackend: Kernels + Transforms> + Kernels + Losses,
{
    let mut recipe = args.recipe();
    let dataset = Dataset::open(&args.data)?;
    let mut split = Split::read(&args.split)?;
    split.check_against(&dataset)?;
    if let Some(fold) = args.fold {
        split = split.fold(fold)?;
    }
    let (used, data) = run_data(&dataset, &split)?;
    let start = args.start(&recipe, &data)?;
    recipe.start = start.as_ref().map(weights_digest);
    let provenance = Provenance {
        data: data_name(&args.data, Some(&split)),
        data_digest: dataset.select(&split.train)?.digest()?,
        split: split_name(&args.split, args.fold),
        split_digest: split.digest(),
        seed: recipe.seed,
        commit: args.commit.clone(),
    };
    let contract = draft(&recipe, &args.name, provenance)?;
    std::fs::create_dir_all(&args.out)
        .map_err(|e| format!("{}: cannot be made: {e}", args.out.display()))?;
    let cache = decode(&used, args.cache.as_deref())?;
    if recipe.fit == Fit::CropPad {
        refuse_larger(&cache)?;
    }
    let studies = |ids: &[String]| -> Vec<&CachedPatient> {
        ids.iter().filter_map(|id| cache.patient(id)).collect()
    };
    let (input, preprocessing) = input(recipe.fit);
    let resident = (args.resident_gib * f64::from(1u32 << 30)) as u64;
    let batches = |ids: &[String], room: u64| {
        Batches::<B::InnerBackend>::new(
            &studies(ids),
            &input,
            preprocessing.normalization,
            room,
            device,
        )
    };
    let training = batches(&split.train, resident);
    let validation = batches(
        &split.validation,
        resident.saturating_sub(training.device_bytes()),
    );
    let graph = recipe.network.graph(recipe.dropout);
    eprintln!(
        "{}: {} parameters, {:.0} million multiply-accumulates for a 256x256 slice; {} training and {} validation slices",
        recipe.network,
        graph.parameters(),
        graph.multiply_accumulates(256, 256) as f64 / 1e6,
        training.len(),
        validation.len(),
    );
    let fitted = fit::<B>(
        &recipe,
        &training,
        &validation,
        Origin { data: &data, start },
        &args.out,
        &mut std::io::stdout(),
        device,
    )?;
    let best = fitted
        .best_epoch()
        .ok_or_else(|| CommandError::from("no epoch was run"))?;
    println!(
        "best epoch {}: validation volume Dice {:.4}, false-positive rate {:.4} (threshold 0.5, no post-processing)",
        best.epoch, best.validation_dice, best.false_positive_rate
    );
    let validation = studies(&split.validation);
    let onnx = package::<B::InnerBackend>(
        &recipe,
        &fitted.best,
        &args.name,
        contract,
        &validation,
        device,
    )?;
    let path = args.out.join("model.onnx");
    write_file(&path, &onnx)?;
    println!("{}: {} bytes", path.display(), onnx.len());
    Ok(ExitCode::SUCCESS)
}

/// Cutting a slice down to the grid could cut a tumour away, so nobody does it unasked.
fn refuse_larger(cache: &Cache) -> Result<(), CommandError> {
    let side = GRID as usize;
    for patient in cache.patients() {
        for (name, slice) in patient.names.iter().zip(&patient.slices) {
            let (width, height) = (slice.width(), slice.height());
            if width > side || height > side {
                return Err(format!(
                    "{name} of {}: {width}x{height} pixels do not fit the network's {side}x{side}; use --fit resample",
                    patient.id
                )
                .into());
            }
        }
    }
    Ok(())
}
