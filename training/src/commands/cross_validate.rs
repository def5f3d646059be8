//! `glioseg-train cross-validate`: what a recipe is worth, and the model of all folds.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use burn::backend::Flex;
use clap::Args;
use glioseg_shared::imaging::grid::Fit;
use glioseg_shared::model::contract::Provenance;
use glioseg_training::checkpoint::Checkpoint;
use glioseg_training::cross_validation::{CrossValidated, Fold, cross_validate};
use glioseg_training::data::cache::CachedPatient;
use glioseg_training::data::dataset::Dataset;
use glioseg_training::data::split::{Folds, Split};
use glioseg_training::package;
use glioseg_training::recipe::Recipe;
use glioseg_training::report::{Report, Subject};
use glioseg_training::run::{StartWeights, data_name, run_data, split_name};
use glioseg_training::settings::{Settings, Views};

use super::decided::{CalibrationArgs, flags};
use super::fit::{self, FitArgs};
use super::{CommandError, Outcome, decode, progress_bar, write_file};

const EXAMPLES: &str = "\
Examples:
  glioseg-train cross-validate data --split split.json --out folds
  glioseg-train cross-validate data --split split.json --out second --from folds --epochs 10 --learning-rate 1e-3

Takes as long as one fit for every fold. Started again, it goes on where it was; folds that are trained are not trained
again.";

/// Train one network for each fold of the split, and score every patient by the one that has not seen it.
///
/// No patient has a say in its own score: a network is that of its last epoch, not of the best by the fold, and its
/// temperature, threshold and smallest component are chosen on the patients of the other folds. Test patients are never
/// opened, unless --score-test asks for them once all is chosen. Writes OUT/fold-0, OUT/fold-1 and so on as
/// `fit` does, the evaluation (a page, a JSON, a CSV with one row a slice), and OUT/model.onnx: all networks as one
/// model, whose logits are the mean of theirs. As its members have learned from everybody who could compare it with
/// another model, `publish` lets it serve by --force, or in a channel of its own.
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct CrossValidateArgs {
    #[command(flatten)]
    run: fit::RunArgs,
    /// Begin with the networks of an earlier cross-validation in this folder, fold by fold, each as it was after its last
    /// epoch [default: the network's first weights].
    #[arg(long)]
    from: Option<PathBuf>,
    /// Checkpoint of a network that was trained by the split itself, and that joins the model of all networks; may be
    /// given several times. It has no part in the scores of the cross-validation, having seen patients of every fold.
    #[arg(long, value_name = "CHECKPOINT")]
    join: Vec<PathBuf>,
    /// Also score the model of all networks on the test patients, once all is chosen.
    #[arg(long)]
    score_test: bool,
    /// Name that the model's version begins with.
    #[arg(long, default_value = "best")]
    name: String,
}

/// Runs the command.
pub(crate) fn run(args: CrossValidateArgs) -> Outcome {
    let split = Split::read(&args.run.split)?;
    if split.folds.len() < 2 {
        return Err(format!(
            "{}: has {} folds, and cross-validation takes at least 2",
            args.run.split.display(),
            split.folds.len()
        )
        .into());
    }
    if args.score_test && split.test.is_empty() {
        return Err(format!(
            "{}: has no test patients for --score-test",
            args.run.split.display()
        )
        .into());
    }
    // Whatever can be found amiss is found before hours of training.
    let dataset = Dataset::open(&args.run.data)?;
    split.check_against(&dataset)?;
    let joining = args
        .join
        .iter()
        .map(|path| joining(path, &dataset, &split, args.run.settings.recipe().fit))
        .collect::<Result<Vec<_>, _>>()?;
    let folder = |fold: usize| args.run.out.join(format!("fold-{fold}"));
    for fold in 0..split.folds.len() {
        println!("fold {fold} of {}", split.folds.len());
        let checkpoint = |from: &PathBuf| from.join(format!("fold-{fold}/checkpoint.bin"));
        let of_fold = FitArgs {
            run: fit::RunArgs {
                out: folder(fold),
                settings: Settings {
                    // Only the model of all networks serves.
                    views: Views { mirror: false },
                    ..args.run.settings.clone()
                },
                ..args.run.clone()
            },
            fold: Some(Folds::AllBut(fold)),
            from: args.from.as_ref().map(checkpoint),
            name: args.name.clone(),
            calibration: CalibrationArgs::default(),
        };
        // The best epoch of the earlier run was chosen by the patients of the fold.
        fit::train(&of_fold, StartWeights::LastEpoch)?;
    }

    let everybody = split.all_folds();
    let learned = dataset.select(&everybody.train)?;
    let cache = decode(&learned, args.run.cache.as_deref())?;
    let mirror = args.run.settings.views.mirror;
    let graph = |recipe: &Recipe| package::serving(&recipe.network, mirror).0;
    let mut folds = Vec::new();
    let mut recipes = Vec::new();
    for number in 0..split.folds.len() {
        let fold = split.fold(number)?;
        let path = folder(number).join("checkpoint.bin");
        let checkpoint = trained(&path, &dataset, &fold)?;
        let epochs = checkpoint.recipe.epochs;
        if checkpoint.history.len() < epochs {
            return Err(format!(
                "{}: the patients of the fold ended the training early, and would have a say in their own score; use \
                 --patience {epochs} and another --out",
                path.display()
            )
            .into());
        }
        let ids = fold.validation.iter();
        folds.push(Fold {
            graph: graph(&checkpoint.recipe),
            // Of the last epoch: the best one was chosen by the patients of the fold.
            weights: checkpoint.average,
            patients: ids.filter_map(|id| cache.patient(id)).collect(),
        });
        recipes.push(checkpoint.recipe);
    }
    let recipe = recipes.first().ok_or("the split has no folds")?;
    let names = (
        data_name(&args.run.data, Some(&split)),
        split_name(&args.run.split, None),
    );
    let mut contract = package::draft(
        recipe,
        &args.name,
        Provenance {
            data: names.0.clone(),
            data_digest: learned.digest()?,
            split: format!("{}, all {} folds", names.1, folds.len()),
            split_digest: everybody.digest(),
            seed: recipe.seed,
            commit: args.run.commit.clone(),
        },
    )?;
    let mut networks = format!("{} of {}", folds.len(), recipe.network);
    for checkpoint in &joining {
        let _ = write!(networks, ", {}", checkpoint.recipe.network);
    }
    contract.network = package::serving_name(&networks, mirror);

    let patients = folds.iter().map(|fold| fold.patients.len()).sum::<usize>();
    let bar = progress_bar(2 * patients, "calibrating, scoring", "patients");
    let CrossValidated {
        evaluation,
        mut onnx,
        calibration,
    } = cross_validate::<Flex>(
        &folds,
        &joining
            .into_iter()
            .map(|checkpoint| (graph(&checkpoint.recipe), checkpoint.best))
            .collect::<Vec<_>>(),
        &args.name,
        &contract,
        &Default::default(),
        |score| {
            if let Some(score) = score {
                bar.set_message(format!("{}: {:.3}", score.patient, score.volume_dice()));
            }
            bar.inc(1);
        },
    )?;
    bar.finish_and_clear();
    if args.score_test {
        let test = decode(&dataset.select(&split.test)?, args.run.cache.as_deref())?;
        let test: Vec<&CachedPatient> = split
            .test
            .iter()
            .filter_map(|id| test.patient(id))
            .collect();
        onnx = package::score(&onnx, &args.name, "test", &test)?;
    }
    let subject = Subject::CrossValidation {
        name: names.0,
        split: names.1,
        folds: folds.len(),
    };
    let report = Report::of(&onnx, subject, evaluation)?;
    let files = report.write(&args.run.out)?;
    println!("{report}");
    println!("page: {}", files.html.display());
    println!(
        "calibration, also for `fit --fold all`: {}",
        flags(&calibration)
    );
    let path = args.run.out.join("model.onnx");
    write_file(&path, &onnx)?;
    println!("{}: {} bytes", path.display(), onnx.len());
    Ok(ExitCode::SUCCESS)
}

/// A checkpoint whose network is to join those of the folds, which see slices of other sizes by `fit`.
fn joining(
    path: &Path,
    dataset: &Dataset,
    split: &Split,
    fit: Fit,
) -> Result<Checkpoint, CommandError> {
    let checkpoint = trained(path, dataset, split)?;
    if checkpoint.recipe.fit != fit {
        return Err(format!(
            "{}: was trained with another --fit than the folds, and would see slices as it never has",
            path.display()
        )
        .into());
    }
    Ok(checkpoint)
}

/// A checkpoint, which is to be of a training by this split.
fn trained(path: &Path, dataset: &Dataset, split: &Split) -> Result<Checkpoint, CommandError> {
    let checkpoint =
        Checkpoint::read(path)?.ok_or_else(|| format!("{}: no such checkpoint", path.display()))?;
    let (_, data) = run_data(dataset, split)?;
    if checkpoint.data != data {
        return Err(format!("{}: trained on other data or another split", path.display()).into());
    }
    Ok(checkpoint)
}
