//! `glioseg-train export`: a checkpoint as a model file.

use std::path::PathBuf;
use std::process::ExitCode;

use burn::backend::Flex;
use clap::Args;
use glioseg_shared::model::Contract;
use glioseg_training::checkpoint::Checkpoint;
use glioseg_training::data::cache::CachedPatient;
use glioseg_training::data::dataset::Dataset;
use glioseg_training::data::split::{Folds, Split};
use glioseg_training::evaluate::studies::Part;
use glioseg_training::package::{self, Packaged};
use glioseg_training::run::{data_name, provenance, run_data, split_name};
use glioseg_training::settings::Views;

use super::decided::{CalibrationArgs, flags};
use super::fit::UNDECIDED;
use super::{Outcome, decode, write_file};

/// Write the best weights of a checkpoint (without validation patients the last) as an ONNX model with its contract.
///
/// Temperature, threshold and smallest component are chosen on the validation patients unless they are given, and the
/// inference engine must reproduce the network on real slices to 1e-4. `fit` does the same at its end; this command is
/// for runs that were stopped, to calibrate otherwise, and to add the scores of the test patients to the contract.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// Checkpoint of a run.
    checkpoint: PathBuf,
    /// Folder of the data.
    data: PathBuf,
    /// Split that the run used.
    #[arg(long)]
    split: PathBuf,
    /// Fold that the run validated on, or `all`, as it was given to `fit`.
    #[arg(long, value_name = "FOLD|all")]
    fold: Option<Folds>,
    /// File to write.
    #[arg(long, default_value = "model.onnx")]
    out: PathBuf,
    /// Also score the model on the test patients, once its post-processing is fixed.
    #[arg(long)]
    score_test: bool,
    #[command(flatten)]
    views: Views,
    #[command(flatten)]
    calibration: CalibrationArgs,
    /// Folder for the decoded slices [default: the data folder].
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Name that the model's version begins with.
    #[arg(long, default_value = "fast")]
    name: String,
    /// Commit of the code, for the model's contract.
    #[arg(long, env = "GLIOSEG_COMMIT", default_value = "unrecorded")]
    commit: String,
}

/// Runs the command.
pub(crate) fn run(args: &ExportArgs) -> Outcome {
    let decided = args.calibration.decided();
    if args.fold == Some(Folds::All) && decided.complete().is_none() {
        return Err(UNDECIDED.into());
    }
    let checkpoint = Checkpoint::read(&args.checkpoint)?
        .ok_or_else(|| format!("{}: no such checkpoint", args.checkpoint.display()))?;
    let dataset = Dataset::open(&args.data)?;
    let mut split = Split::read(&args.split)?;
    split.check_against(&dataset)?;
    split = split.of_folds(args.fold)?;
    let (_, data) = run_data(&dataset, &split)?;
    if checkpoint.data != data {
        let path = args.checkpoint.display();
        return Err(format!("{path}: trained on other data or another split").into());
    }
    let studies = |part: Part| -> Result<Vec<CachedPatient>, super::CommandError> {
        let cache = decode(&dataset.select(part.of(&split))?, args.cache.as_deref())?;
        let ids = part.of(&split).iter();
        Ok(ids.filter_map(|id| cache.patient(id).cloned()).collect())
    };
    let names = (
        data_name(&args.data, Some(&split)),
        split_name(&args.split, args.fold),
    );
    let provenance = provenance(&dataset, &split, names, &checkpoint.recipe, &args.commit)?;
    let validation = studies(Part::Validation)?;
    // They have no say; the file is proven on their slices where nobody validates.
    let training = if validation.is_empty() {
        studies(Part::Train)?
    } else {
        Vec::new()
    };
    let (graph, network) = package::serving(&checkpoint.recipe.network, args.views.mirror);
    let contract = Contract {
        network,
        ..package::draft(&checkpoint.recipe, &args.name, provenance)?
    };
    let Packaged {
        mut onnx,
        calibration,
    } = package::package::<Flex>(
        (&graph, &checkpoint.best),
        &args.name,
        contract,
        decided,
        &training.iter().collect::<Vec<_>>(),
        &validation.iter().collect::<Vec<_>>(),
        &Default::default(),
    )?;
    if args.score_test {
        let test = studies(Part::Test)?;
        onnx = package::score(&onnx, &args.name, "test", &test.iter().collect::<Vec<_>>())?;
    }
    write_file(&args.out, &onnx)?;
    println!("calibration: {}", flags(&calibration));
    println!("{}: {} bytes", args.out.display(), onnx.len());
    Ok(ExitCode::SUCCESS)
}
