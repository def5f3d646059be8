//! `glioseg-train postprocess`: another way from a model's probabilities to its masks.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use glioseg_shared::model::Contract;
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
/// The network stays as it is, and so does what of the post-processing is not named. Where it changes, scores that the
/// file has go, since they are of other masks, and validation patients are scored unless the model has learned from them,
/// as one of all folds has. Test patients are scored only with --score-test. Where nothing changes, an older file is
/// written as new ones are, with its scores.
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
    let rule = args.decided.decided().or(contract.postprocessing);
    let changes = rule != contract.postprocessing;
    let digest = &contract.provenance.split_digest;
    let mut parts = Vec::new();
    if *digest == split.digest() {
        if changes {
            parts.push(("validation", Part::Validation));
        }
    } else if *digest != split.all_folds().digest() {
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
    contract.postprocessing = rule;
    if changes {
        contract.scores.clear();
    }
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
