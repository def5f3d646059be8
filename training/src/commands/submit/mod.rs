//! `glioseg-train submit`: a job of SageMaker, from here.

mod request;
mod screen;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use aws_types::SdkConfig;
use clap::Args;
use glioseg_shared::cloud::aws_environment;
use glioseg_shared::model::Contract;
use glioseg_shared::model::contract::NOTICE;
use glioseg_training::submit::jobs::{Job, Kind, SageMaker};
use glioseg_training::submit::logs::LogTail;
use glioseg_training::submit::state::{State, Status};
use glioseg_training::submit::{follow, outputs};

use super::{CommandError, Outcome, read_model};
use request::RequestArgs;
use screen::Screen;

/// Exit code where the job was stopped.
const STOPPED: u8 = 3;
/// Exit code where the watching was interrupted, as shells have it for SIGINT.
const INTERRUPTED: u8 = 130;

/// Run a training or tuning job on SageMaker, watch it, and fetch its model.
///
/// Makes the request from a template (infra/sagemaker/training-job.json, or tuning-job.json with --tune), creates the job,
/// shows its log and its progress, and unpacks model.tar.gz in the end: of a tuning job, that of its best training job.
/// Credentials, region and endpoints come from the standard AWS environment and files.
///
/// Interrupted with Ctrl-C, the job runs on; --attach NAME watches it again, --stop NAME stops it. The exit code is 0
/// where the job completed, 1 where it failed or cannot be had, 3 where it was stopped, 130 where you interrupted.
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct SubmitArgs {
    /// A tuning job: trains with many hyper-parameters and looks for the best.
    #[arg(long)]
    tune: bool,
    /// Name of the job [default: glioseg- and the time].
    #[arg(long, conflicts_with_all = ["attach", "stop"])]
    name: Option<String>,
    #[command(flatten)]
    request: RequestArgs,
    /// Print the request, and ask nobody.
    #[arg(long, conflicts_with_all = ["attach", "stop", "detach"])]
    dry_run: bool,
    /// Create the job, and do not wait for it.
    #[arg(long, conflicts_with_all = ["attach", "stop"])]
    detach: bool,
    /// Watch a job that is there already.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["stop", "RequestArgs"])]
    attach: Option<String>,
    /// Stop a job. It has 120 seconds to save a checkpoint.
    #[arg(long, value_name = "NAME", conflicts_with = "RequestArgs")]
    stop: Option<String>,
    /// Folder for the model and its report; must not be there yet [default: the job's name].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Seconds between two looks at the job.
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    interval: u64,
}

const EXAMPLES: &str = "\
Examples:
  See what would be asked for:
    glioseg-train submit --role arn:aws:iam::123456789012:role/glioseg-training \\
      --image 123456789012.dkr.ecr.eu-central-1.amazonaws.com/glioseg-training:1 \\
      --data s3://my-results/labelled --output s3://my-training --set epochs=20 --dry-run
  Twenty trainings with different hyper-parameters: the same with --tune.
  Watch a job again, then publish its model if it is better than the one that serves:
    glioseg-train submit --attach glioseg-20261123T193210Z --out run
    glioseg-train publish run/model.onnx s3://my-models --data kaggle_3m --split split.json

Models are for research use only; they are no medical device.";

/// Runs the command.
pub(crate) fn run(args: &SubmitArgs) -> Outcome {
    let kind = if args.tune {
        Kind::Tuning
    } else {
        Kind::Training
    };
    let named = args.attach.as_ref().or(args.stop.as_ref());
    let job = match named.or(args.name.as_ref()) {
        Some(name) => Job::named(kind, name)?,
        None => Job::named_at(kind, "glioseg", SystemTime::now())?,
    };
    let request = match named {
        Some(_) => None,
        None => Some(args.request.request(&job)?),
    };
    if let (true, Some(request)) = (args.dry_run, &request) {
        println!("{request:#}");
        return Ok(ExitCode::SUCCESS);
    }
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(&job.name));
    let stays = !args.detach && args.stop.is_none();
    if stays {
        // Sooner than hours later.
        outputs::check_free(&out)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let aws = aws_environment().await;
        let sagemaker = SageMaker::new(&aws)?;
        if args.stop.is_some() {
            sagemaker.stop(&job).await?;
            println!("{job}: is asked to stop");
            return Ok(ExitCode::SUCCESS);
        }
        if let Some(request) = &request {
            let created = sagemaker.create(kind, request).await;
            created.map_err(|error| format!("{job}: {error}"))?;
            println!("{job}: created");
        }
        if !stays {
            println!("{}", what_now(&job));
            return Ok(ExitCode::SUCCESS);
        }
        let interval = Duration::from_secs(args.interval);
        tokio::select! {
            outcome = watch(&aws, &sagemaker, &job, &out, interval) => outcome,
            interrupted = tokio::signal::ctrl_c() => {
                interrupted?;
                eprintln!("{job}: runs on\n{}", what_now(&job));
                Ok(ExitCode::from(INTERRUPTED))
            }
        }
    })
}

/// How the job is watched and stopped from now on.
fn what_now(job: &Job) -> String {
    let tune = match job.kind {
        Kind::Training => "",
        Kind::Tuning => " --tune",
    };
    format!(
        "watch it: glioseg-train submit --attach {0}{tune}\nstop it: glioseg-train submit --stop {0}{tune}",
        job.name
    )
}

/// Follows the job to its end and fetches what it leaves.
async fn watch(
    aws: &SdkConfig,
    sagemaker: &SageMaker,
    job: &Job,
    out: &Path,
    interval: Duration,
) -> Outcome {
    let log = match job.kind {
        Kind::Training => Some(LogTail::new(aws, &job.name)?),
        Kind::Tuning => None,
    };
    let mut screen = Screen::new(job);
    let state = follow(
        sagemaker,
        job,
        log,
        interval,
        tokio::time::sleep,
        &mut screen,
    )
    .await;
    screen.clear();
    let state = state.map_err(|error| format!("{job}: {error}\n{}", what_now(job)))?;
    match state.status {
        Status::Completed => {}
        Status::Stopped => {
            println!("{job}: stopped");
            return Ok(ExitCode::from(STOPPED));
        }
        Status::Failed | Status::Running => {
            let reason = state.failure.as_deref().unwrap_or("without a reason");
            return Err(format!("{job}: failed: {reason}").into());
        }
    }
    println!("{job}: completed");
    if let Some([trained, billed]) = state.seconds {
        println!("trained for {trained} s, {billed} s of it are charged for");
    }
    for metric in &state.metrics {
        println!("{}: {}", metric.metric_name, metric.value);
    }
    let model = model_of(sagemaker, job, state).await?;
    outputs::fetch(aws, &model, out).await.map_err(|error| {
        format!(
            "{error}\nfetch it again: glioseg-train submit --attach {}",
            job.name
        )
    })?;
    let file = out.join("model.onnx");
    let contract = Contract::of_onnx(&read_model(&file)?)?;
    println!(
        "{}: model {}, {NOTICE}",
        file.display(),
        contract.model_version
    );
    Ok(ExitCode::SUCCESS)
}

/// Address of the `model.tar.gz` of a job that completed.
async fn model_of(sagemaker: &SageMaker, job: &Job, state: State) -> Result<String, CommandError> {
    let model = match (job.kind, state.best) {
        (Kind::Training, _) => state.model,
        (Kind::Tuning, Some(best)) => {
            println!("best training job: {best}");
            let best = Job::named(Kind::Training, &best)?;
            sagemaker.describe(&best).await?.model
        }
        (Kind::Tuning, None) => None,
    };
    model.ok_or_else(|| format!("{job}: completed, but names no model").into())
}
