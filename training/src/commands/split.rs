//! `glioseg-train split`: who is trained on, who chooses, who is left for the end.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use glioseg_training::data::dataset::Dataset;
use glioseg_training::data::split::Split;
use glioseg_training::run::data_name;

use super::{Outcome, decode};

/// Split the patients of a data set into training, validation and test, and into folds.
///
/// Whole patients only: neighbouring slices of a patient are near copies. Stratified by institution (the part of names
/// such as TCGA_XX_… after the first underscore) and by the share of slices with tumour. 80 % of the patients train,
/// 10 % validate, 10 % test; the folds are over the first two.
#[derive(Args, Debug)]
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
    /// Folder for the decoded slices [default: the data folder].
    #[arg(long)]
    cache: Option<PathBuf>,
}

/// Runs the command.
pub(crate) fn run(args: &SplitArgs) -> Outcome {
    let dataset = Dataset::open(&args.data)?;
    let cache = decode(&dataset, args.cache.as_deref())?;
    let mut split = Split::make(&cache.summaries(), args.folds, args.seed)?;
    split.data_set = data_name(&args.data, None);
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
