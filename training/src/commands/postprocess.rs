//! `glioseg-train postprocess`: another way from a model's probabilities to its masks.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use glioseg_shared::model::Contract;
use glioseg_training::cross_validation::trained_on_all;
use glioseg_training::data::cache::CachedPatient;
use glioseg_training::data::dataset::Dataset;
use glioseg_training::data::split::Split;
use glioseg_training::evaluate::studies::Part;
use glioseg_training::report::Table;
use glioseg_training::{export, package};

use super::decided::DecidedArgs;
use super::{Outcome, decode, read_model, write_file};

const EXAMPLES: &str = "\
Example:
  glioseg-train postprocess model.onnx data --split split.json --seed-probability 0.95 --out stricter.onnx";

/// Write a model again with another post-processing, and score it anew.
///
/// The network stays as it is, and so does what of the post-processing is not named. Scores that the file has go: they
/// are of other masks. Validation patients are scored unless the model has learned from them, as one of all folds has;
/// test patients only with --score-test.
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct PostprocessArgs {
    /// The model.
    model: PathBuf,
    /// Folder of the data.
    data: PathBuf,
    /// Split that the model was trained by.
    #[arg(long)]
    split: PathBuf,
    #[command(flatten)]
    decided: DecidedArgs,
    /// File to write.
    #[arg(long)]
    out: PathBuf,
    /// Also score the model on the test patients.
    #[arg(long)]
    score_test: bool,
    /// Folder for the decoded slices [default: the data folder].
    #[arg(long)]
    cache: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &PostprocessArgs) -> Outcome {
    let onnx = read_model(&args.model)?;
    let mut contract = Contract::of_onnx(&onnx)?;
    let dataset = Dataset::open(&args.data)?;
    let split = Split::read(&args.split)?;
    split.check_against(&dataset)?;
    let digest = &contract.provenance.split_digest;
    let mut parts = Vec::new();
    if *digest == split.digest() {
        parts.push(("validation", Part::Validation));
    } else if *digest != trained_on_all(&split).digest() {
        let path = args.model.display();
        return Err(
            format!("{path}: was trained by another split, and may know any patient").into(),
        );
    }
    if args.score_test {
        parts.push(("test", Part::Test));
    }
    let version = contract.model_version.clone();
    let prefix = version
        .rsplit_once('-')
        .map_or(version.as_str(), |(name, _)| name);
    contract.postprocessing = args.decided.decided().or(contract.postprocessing);
    contract.scores.clear();
    let mut changed = export::with_contract(&onnx, prefix, contract)?;
    for (name, part) in parts {
        let cache = decode(&dataset.select(part.of(&split))?, args.cache.as_deref())?;
        let ids = part.of(&split).iter();
        let patients: Vec<&CachedPatient> = ids.filter_map(|id| cache.patient(id)).collect();
        changed = package::score(&changed, prefix, name, &patients)?;
    }
    write_file(&args.out, &changed)?;
    let contract = Contract::of_onnx(&changed)?;
    println!(
        "{version} is {} now, in {}",
        contract.model_version,
        args.out.display()
    );
    for score in &contract.scores {
        println!("{}:\n{}", score.split, Table(&score.summary));
    }
    Ok(ExitCode::SUCCESS)
}
