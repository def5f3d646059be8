//! `glioseg-train evaluate`: what a model is worth.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use glioseg_shared::imaging::Limits;
use glioseg_shared::scoring::PatientScore;
use glioseg_training::data::dataset::Dataset;
use glioseg_training::data::split::Split;
use glioseg_training::evaluate::studies::{PHANTOM_SEEDS, Part, decoded, phantoms};
use glioseg_training::report::{Report, SplitPart, Subject};
use glioseg_training::run::data_name;

use super::{Outcome, progress_bar, read_model};
use crate::DEFAULT_MODEL;

/// Segment labelled slices through the inference code of the Lambdas, and score the masks.
///
/// Without arguments the built-in model is scored on drawn phantom studies, which need no data. Prints the four figures
/// with their 95 % intervals over patients, and writes a JSON, a CSV with one row a slice, and a page to look at.
#[derive(Args, Debug)]
pub(crate) struct EvaluateArgs {
    /// Model to score [default: the built-in one].
    model: Option<PathBuf>,
    /// Folder of the data, one folder a patient [default: phantoms].
    data: Option<PathBuf>,
    /// Split: a JSON file with the lists train, validation and test [default: all patients].
    #[arg(long, requires = "data")]
    split: Option<PathBuf>,
    /// Which patients of the split.
    #[arg(long, value_enum, default_value_t = Part::Test)]
    part: Part,
    /// Folder for evaluation.json, slices.csv and report.html.
    #[arg(long, default_value = "evaluation")]
    out: PathBuf,
}

/// Runs the command.
pub(crate) fn run(args: &EvaluateArgs) -> Outcome {
    let model = match &args.model {
        Some(path) => read_model(path)?,
        None => DEFAULT_MODEL.to_vec(),
    };
    let Some(data) = &args.data else {
        let bar = progress_bar(PHANTOM_SEEDS.count(), "segmenting", "phantoms");
        let studies = phantoms(PHANTOM_SEEDS);
        let report = Report::make(&model, Subject::Phantoms, studies, |patient| {
            advance(&bar, patient);
        });
        bar.finish_and_clear();
        return finish(args, &report?);
    };
    let mut dataset = Dataset::open(data)?;
    let mut name = data_name(data, None);
    let part = match &args.split {
        None => None,
        Some(path) => {
            let split = Split::read(path)?;
            dataset = dataset.select(args.part.of(&split))?;
            name = data_name(data, Some(&split));
            let file = path.file_name().unwrap_or_default().to_string_lossy();
            Some(SplitPart::new(file, &split, args.part))
        }
    };
    let bar = progress_bar(dataset.patients().len(), "segmenting", "patients");
    let limits = Limits::default();
    let studies = decoded(&dataset, &limits);
    let report = Report::make(
        &model,
        Subject::Data { name, split: part },
        studies,
        |patient| {
            advance(&bar, patient);
        },
    );
    bar.finish_and_clear();
    finish(args, &report?)
}

fn advance(bar: &indicatif::ProgressBar, patient: &PatientScore) {
    bar.set_message(format!("{}: {:.3}", patient.patient, patient.volume_dice()));
    bar.inc(1);
}

fn finish(args: &EvaluateArgs, report: &Report) -> Outcome {
    let files = report.write(&args.out)?;
    println!("{report}");
    println!("page: {}", files.html.display());
    println!(
        "figures: {} and {}",
        files.json.display(),
        files.csv.display()
    );
    Ok(ExitCode::SUCCESS)
}
