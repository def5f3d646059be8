//! `glioseg-train fit`: slices in, weights out.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use glioseg_training::checkpoint::{Checkpoints, weights_digest};
use glioseg_training::data::cache::CachedPatient;
use glioseg_training::data::dataset::Dataset;
use glioseg_training::data::split::{Folds, Split};
use glioseg_training::device::Device;
use glioseg_training::fit::{Origin, OtherData, Session};
use glioseg_training::package::{Packaged, draft};
use glioseg_training::run::{
    Run, StartWeights, data_name, provenance, run_data, split_name, weights_of,
};
use glioseg_training::settings::{Settings, above_zero};

use super::decided::{CalibrationArgs, flags};
use super::{Outcome, decode, write_file};

const EXAMPLES: &str = "\
Examples:
  glioseg-train fit data --split split.json --out run
  glioseg-train fit data --split split.json --fold all --temperature 2 --threshold 0.5 --minimum-component 64 --out last

The second leaves nobody to choose a calibration on: give that of a cross-validation.";

/// What a run on all folds lacks.
pub(super) const UNDECIDED: &str = "\
--fold all leaves nobody to choose on: give --temperature, --threshold and --minimum-component, as cross-validation has \
chosen them";

/// Train a network on labelled slices.
///
/// DATA is a folder with one folder a patient, each with slices X.tif and masks X_mask.tif. Training patients are
/// learned from, validation patients choose the epoch and the calibration, test patients are never opened. The run
/// continues from OUT/checkpoint.bin when it is there, with the same result as if it had never stopped.
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct FitArgs {
    #[command(flatten)]
    pub(super) run: RunArgs,
    /// Cross-validation: validate on this fold (from 0) of the split and train on the others. `all`: train on the
    /// validation patients too, by a recipe that cross-validation has judged; the weights are those of the last epoch, and
    /// `publish` with data takes such a model only by --force, having nobody to compare it on.
    #[arg(long, value_name = "FOLD|all")]
    pub(super) fold: Option<Folds>,
    /// Begin with the best weights of this checkpoint, of a run with the same network on the same data and split
    /// [default: the network's first weights].
    #[arg(long)]
    pub(super) from: Option<PathBuf>,
    /// Name that the model's version begins with.
    #[arg(long, default_value = "fast")]
    pub(super) name: String,
    #[command(flatten)]
    pub(super) calibration: CalibrationArgs,
}

/// What every run needs to know, of one network or of one for each fold.
#[derive(Args, Clone, Debug)]
pub(crate) struct RunArgs {
    /// Folder of the data.
    pub(super) data: PathBuf,
    /// Split: a JSON file with the lists train, validation and test.
    #[arg(long)]
    pub(super) split: PathBuf,
    /// Folder for checkpoint, metrics and model.
    #[arg(long)]
    pub(super) out: PathBuf,
    /// Folder for the decoded slices, kept between runs [default: the data folder].
    #[arg(long)]
    pub(super) cache: Option<PathBuf>,
    /// Device to train on.
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    pub(super) device: Device,
    /// Keep all slices on the device when they take at most this many GiB there.
    #[arg(long, default_value_t = 4.0, value_parser = above_zero)]
    pub(super) resident_gib: f64,
    #[command(flatten)]
    pub(super) settings: Settings,
    /// Commit of the code, for the model's contract.
    #[arg(long, env = "GLIOSEG_COMMIT", default_value = "unrecorded")]
    pub(super) commit: String,
}

/// Runs the command.
pub(crate) fn run(args: &FitArgs) -> Outcome {
    train(args, StartWeights::BestEpoch)
}

/// Runs the command, beginning with these weights of the checkpoint that it begins with.
pub(super) fn train(args: &FitArgs, which: StartWeights) -> Outcome {
    let FitArgs {
        run: args,
        fold,
        from,
        name,
        calibration,
    } = args;
    let decided = calibration.decided();
    if *fold == Some(Folds::All) && decided.complete().is_none() {
        return Err(UNDECIDED.into());
    }
    let device = args.device.choose()?;
    let mut recipe = args.settings.recipe();
    let dataset = Dataset::open(&args.data)?;
    let mut split = Split::read(&args.split)?;
    split.check_against(&dataset)?;
    split = split.of_folds(*fold)?;
    let (used, data) = run_data(&dataset, &split)?;
    let start = match from {
        Some(path) => Some(weights_of(path, which, &recipe, &data)?),
        None => None,
    };
    recipe.start = start.as_ref().map(weights_digest);
    let names = (
        data_name(&args.data, Some(&split)),
        split_name(&args.split, *fold),
    );
    let provenance = provenance(&dataset, &split, names, &recipe, &args.commit)?;
    let contract = draft(&recipe, name, provenance)?;
    std::fs::create_dir_all(&args.out)
        .map_err(|e| format!("{}: cannot be made: {e}", args.out.display()))?;
    let cache = decode(&used, args.cache.as_deref())?;
    let patients = |ids: &[String]| -> Vec<&CachedPatient> {
        ids.iter().filter_map(|id| cache.patient(id)).collect()
    };
    let trained = device.run(Run {
        recipe: &recipe,
        mirror: args.settings.views.mirror,
        name,
        contract,
        training: patients(&split.train),
        validation: patients(&split.validation),
        decided,
        origin: Origin { data: &data, start },
        resident_bytes: (args.resident_gib * f64::from(1u32 << 30)) as u64,
        session: Session {
            checkpoints: Checkpoints::one(args.out.join("checkpoint.bin")),
            other_data: OtherData::Refuse,
            metrics: &args.out.join("metrics.csv"),
            log: &mut std::io::stdout(),
            stop: &|| false,
        },
    })?;
    let best = trained.fitted.best_epoch();
    match best.and_then(|best| Some((best, best.validation?))) {
        Some((best, validation)) => println!(
            "best epoch {}: validation volume Dice {:.4}, false-positive rate {:.4} (threshold 0.5, no post-processing)",
            best.epoch, validation.dice, validation.false_positive_rate
        ),
        None if trained.fitted.history.is_empty() => {
            println!("no epoch was run: the model has the weights that the run began with");
        }
        None => println!("nobody validated: the model has the weights of the last epoch"),
    }
    let path = args.out.join("model.onnx");
    let Packaged { onnx, calibration } = trained.packaged;
    write_file(&path, &onnx)?;
    println!("calibration: {}", flags(&calibration));
    println!("{}: {} bytes", path.display(), onnx.len());
    Ok(ExitCode::SUCCESS)
}
