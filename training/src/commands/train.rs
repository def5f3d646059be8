//! `glioseg-train train`: a training job in a container.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use glioseg_training::job::{Container, HyperParameters, Surroundings, conclude};

use super::Outcome;

/// Run a training job by SageMaker's container contract, in a container or on a host of one's own.
///
/// Reads hyper-parameters, channels and hosts below ROOT/input, trains (going on from ROOT/checkpoints), writes the
/// model, its card and its evaluation into ROOT/model, publishes it to MODELS_URI, and lets it serve if it is no worse
/// than the model that serves on the same validation patients. Started again after it was stopped or killed, it goes on
/// to the same model.
#[derive(Args, Debug)]
#[command(after_long_help = after_help())]
pub(crate) struct TrainArgs {
    /// Root of the container's tree.
    #[arg(long, env = "GLIOSEG_ML_ROOT", default_value = "/opt/ml")]
    root: PathBuf,
    /// Where models are published: s3://BUCKET[/PREFIX] or a folder [default: nowhere but ROOT/model].
    #[arg(long, env = "MODELS_URI")]
    models: Option<String>,
    /// Commit of the code, for the model's contract.
    #[arg(long, env = "GLIOSEG_COMMIT", default_value = "unrecorded")]
    commit: String,
    /// Name of the job, for the log.
    #[arg(long, env = "TRAINING_JOB_NAME")]
    job: Option<String>,
}

fn after_help() -> String {
    format!(
        "{CHANNELS}\n\nHyper-parameters (ROOT/input/config/hyperparameters.json, all of them texts):\n{}\n{EXIT_CODES}",
        HyperParameters::help()
    )
}

const CHANNELS: &str = "\
Channels (ROOT/input/data/CHANNEL):
  training: one folder a patient, each with slices X.tif and masks X_mask.tif
  split: split.json; without this channel training/split.json, else training/manifest.json, says who validates";

const EXIT_CODES: &str = "\
Exit codes:
    0  the model is in ROOT/model, and published if that was asked for; whether it serves now, the log says
    1  failed: the same job would fail again; the reason is in ROOT/output/failure
    2  the command line was wrong
   75  failed for now: the same job may succeed later; the reason is in ROOT/output/failure
  143  stopped by SIGTERM: the same job goes on from the last whole epoch in ROOT/checkpoints";

/// Runs the command.
pub(crate) fn run(args: &TrainArgs) -> Outcome {
    let surroundings = Surroundings {
        models: args.models.clone().filter(|uri| !uri.is_empty()),
        commit: args.commit.clone(),
        job: args.job.clone().filter(|job| !job.is_empty()),
    };
    let container = Container::new(&args.root);
    let code = conclude(&container, &surroundings, &mut std::io::stdout());
    Ok(ExitCode::from(code))
}
