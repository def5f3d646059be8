//! `glioseg-train export`: a checkpoint as a model file.

use std::path::PathBuf;
use std::process::ExitCode;

use burn::backend::Flex;
use clap::{Args, value_parser};
use glioseg_shared::model::Contract;
use glioseg_training::calibrate::Decided;
use glioseg_training::checkpoint::Checkpoint;
use glioseg_training::data::cache::CachedPatient;
use glioseg_training::data::dataset::Dataset;
use glioseg_training::data::split::Split;
use glioseg_training::evaluate::studies::Part;
use glioseg_training::package::{self, GRID};
use glioseg_training::run::{data_name, provenance, run_data, split_name};
use glioseg_training::settings::Views;

use super::{Outcome, decode, write_file};

/// Pixels of the grid: a component of more cannot be.
const MOST_PIXELS: u64 = GRID as u64 * GRID as u64;

/// Write the best weights of a checkpoint as an ONNX model with its contract.
///
/// Temperature, threshold and smallest component are chosen on the validation patients unless they are given, and the
/// inference engine must reproduce the network on their slices to 1e-4. `fit` does the same at its end; this command is for runs that were stopped, and to
/// add the scores of the test patients to the contract.
#[derive(Args, Debug)]
pub(crate) struct ExportArgs {
    /// Checkpoint of a run.
    checkpoint: PathBuf,
    /// Folder of the data.
    data: PathBuf,
    /// Split that the run used.
    #[arg(long)]
    split: PathBuf,
    /// Fold that the run validated on.
    #[arg(long)]
    fold: Option<usize>,
    /// File to write.
    #[arg(long, default_value = "model.onnx")]
    out: PathBuf,
    /// Also score the model on the test patients, once its post-processing is fixed.
    #[arg(long)]
    score_test: bool,
    #[command(flatten)]
    views: Views,
    /// Probability from which a pixel is tumour [default: what is plainest and good on the validation patients].
    #[arg(long, value_parser = probability)]
    threshold: Option<f32>,
    /// Pixels of the smallest component that stays, such as cross-validation has chosen by more patients [default: what
    /// is plainest and good on the validation patients].
    #[arg(long, value_name = "PIXELS", value_parser = value_parser!(u64).range(1..=MOST_PIXELS))]
    minimum_component: Option<u64>,
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
    let checkpoint = Checkpoint::read(&args.checkpoint)?
        .ok_or_else(|| format!("{}: no such checkpoint", args.checkpoint.display()))?;
    let dataset = Dataset::open(&args.data)?;
    let mut split = Split::read(&args.split)?;
    split.check_against(&dataset)?;
    if let Some(fold) = args.fold {
        split = split.fold(fold)?;
    }
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
    let (graph, network) = package::serving(&checkpoint.recipe.network, args.views.mirror);
    let contract = Contract {
        network,
        ..package::draft(&checkpoint.recipe, &args.name, provenance)?
    };
    let mut onnx = package::package::<Flex>(
        (&graph, &checkpoint.best),
        &args.name,
        contract,
        Decided {
            threshold: args.threshold,
            minimum_component_pixels: args.minimum_component,
        },
        &validation.iter().collect::<Vec<_>>(),
        &Default::default(),
    )?;
    if args.score_test {
        let test = studies(Part::Test)?;
        onnx = package::score(&onnx, &args.name, "test", &test.iter().collect::<Vec<_>>())?;
    }
    write_file(&args.out, &onnx)?;
    println!("{}: {} bytes", args.out.display(), onnx.len());
    Ok(ExitCode::SUCCESS)
}

fn probability(text: &str) -> Result<f32, String> {
    text.parse()
        .ok()
        .filter(|&value| value > 0.0 && value < 1.0)
        .ok_or_else(|| "use a number above 0 and below 1".to_owned())
}
