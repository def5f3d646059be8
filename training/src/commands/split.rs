//! `glioseg-train split`: who is trained on, who chooses, who is left for the end.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use glioseg_training::data::dataset::Dataset;
use glioseg_training::data::split::{Split, SplitError};
use glioseg_training::run::data_name;

use super::{Outcome, decode};

const EXAMPLES: &str = "\
Examples:
  glioseg-train split data --out split.json
  glioseg-train split data --join-test split.json --out everybody.json
  glioseg-train cross-validate data --split everybody.json --out last";

/// Split the patients of a data set into training, validation and test, and into folds.
///
/// Whole patients only: neighbouring slices of a patient are near copies. Stratified by institution (the part of names
/// such as TCGA_XX_… after the first underscore) and by the share of slices with tumour. 80 % of the patients train,
/// 10 % validate, 10 % test; the folds are over the first two.
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct SplitArgs {
    /// Folder of the data.
    data: PathBuf,
    /// File to write.
    #[arg(long, default_value = "split.json")]
    out: PathBuf,
    /// Number of folds for cross-validation.
    #[arg(long, default_value_t = 5)]
    folds: usize,
    /// Seed of the draw.
    #[arg(long, default_value_t = 155)]
    seed: u64,
    /// Draw nothing: write this split with its test patients in its folds, for a last cross-validation over everybody
    /// once nothing is chosen any more.
    #[arg(long, value_name = "SPLIT", conflicts_with_all = ["folds", "seed"])]
    join_test: Option<PathBuf>,
    /// Folder for the decoded slices [default: the data folder].
    #[arg(long)]
    cache: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &SplitArgs) -> Outcome {
    let dataset = Dataset::open(&args.data)?;
    let cache = decode(&dataset, args.cache.as_deref())?;
    let split = match &args.join_test {
        Some(path) => {
            let split = Split::read(path)?;
            split
                .with_test_in_folds(&cache.summaries())
                .map_err(|source| SplitError::File {
                    path: path.clone(),
                    source: Box::new(source),
                })?
        }
        None => Split {
            data_set: data_name(&args.data, None),
            ..Split::make(&cache.summaries(), args.folds, args.seed)?
        },
    };
    split.write(&args.out)?;
    println!(
        "{}: {} training, {} validation and {} test patients, {} folds",
        args.out.display(),
        split.train.len(),
        split.validation.len(),
        split.test.len(),
        split.folds.len()
    );
    Ok(ExitCode::SUCCESS)
}
