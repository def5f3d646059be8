//! `glioseg retrain`: labelled slices to a new model that serves, and back.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::RangedU64ValueParser;
use glioseg_local::demo::{DemoUpload, Progress, Tracker, from_folder, send};
use glioseg_local::folder::Fault;
use glioseg_local::retrain::{
    Destination, Step, Trained, Trainer, Tree, Wanted, download, draw, follow, served, table, write,
};
use glioseg_local::stack::{Stack, StackConfig};
use glioseg_local::wiring::Bucket;
use glioseg_shared::imaging::phantom::PhantomConfig;
use glioseg_shared::model::contract::NOTICE;
use indicatif::ProgressBar;

use super::{CommandError, Outcome, progress_bar, runtime, tell_faults};

/// The channel that the stack serves where nothing else is said.
const CHANNEL: &str = "fast";

/// Drawn slices of a patient, at the size of real ones.
const PHANTOM: PhantomConfig = PhantomConfig {
    slices: 6,
    size: 256,
    lesions: 1,
};

/// Whom to learn from. A patient is drawn in a moment and trained on in seconds.
const DRAWN: Wanted = Wanted {
    train: 5,
    validation: 2,
    test: 1,
};

/// Whom the first model has seen, none of those above: what its job needs, and no more.
const DRAWN_FIRST: Wanted = Wanted {
    train: 1,
    validation: 1,
    test: 0,
};
const FIRST_SEED: u64 = 1000;

const EXAMPLES: &str = "Examples:
  glioseg retrain
  glioseg retrain --dir loop              keeps buckets, trees of the jobs and their logs in loop/
  glioseg retrain --data kaggle_3m        all patients of a folder; takes as long as they are many

What is done, with the programs and functions that run in the cloud:
  1. a job of no epoch makes the first model, of random weights, which the stack serves. The built-in model is left out:
     no network is trained to its level in a minute, and which model serves is decided by scores, not for show
  2. slices with their truth are uploaded; the functions collect them under labelled/, by patient and purpose
  3. a job trains a tiny network on them, and publishes it; being better it serves, without anything being restarted
  4. a job of no epoch publishes another model of random weights; being worse it is kept, and does not serve
  5. the roll-back: the first model serves again

Exit status: 0 when the segment function answered each time with the model that should serve, else 1.";

/// Close the loop on this machine: labelled slices, a training job, a new model that serves, a worse one, a roll-back.
///
/// Starts a stack in this process, and runs glioseg-train as SageMaker runs its container. After each step the segment
/// function is asked which model it serves. Nothing leaves this machine.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RetrainArgs {
    /// Folder of real patients, one folder each with slices X.tif and truths X_mask.tif [default: drawn patients].
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder that keeps everything, empty or not there yet [default: a temporary one].
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The program glioseg-train [default: the one beside this program].
    #[arg(long)]
    trainer: Option<PathBuf>,
    /// Epochs of the training job.
    #[arg(long, default_value_t = 16, value_parser = RangedU64ValueParser::<usize>::new().range(1..=10_000))]
    epochs: usize,
    /// How old the function's last look at its channel may be, in seconds; 0 looks at every request.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=60))]
    refresh: u64,
}

/// Runs the command.
pub(crate) fn run(args: &RetrainArgs) -> Outcome {
    let start = Instant::now();
    let trainer = Trainer::find(args.trainer.as_deref())?;
    let (uploads, mut faults) = match &args.data {
        Some(folder) => from_folder(folder)?,
        None => (draw(&PHANTOM, DRAWN, 1)?, Vec::new()),
    };
    let temporary = tempfile::tempdir()?;
    let folder = match &args.dir {
        Some(folder) => {
            make_empty(folder)?;
            folder.canonicalize()?
        }
        None => temporary.path().to_owned(),
    };
    let way = Way {
        trainer,
        jobs: folder.join("jobs"),
        epochs: args.epochs,
        refresh: Duration::from_secs(args.refresh),
    };
    let steps = runtime()?.block_on(way.go(&folder.join("stack"), uploads, &mut faults))?;
    print!("\n{}", table(&steps));
    println!(
        "{:.1} s; models of channel {CHANNEL} as above; {NOTICE}",
        start.elapsed().as_secs_f64()
    );
    if args.dir.is_some() {
        println!("kept: {}", folder.display());
    }
    Ok(tell_faults(&faults))
}

/// What an earlier run left would take part in this one.
fn make_empty(folder: &Path) -> Result<(), CommandError> {
    let failed = |error: io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(failed)?;
    if fs::read_dir(folder).map_err(failed)?.next().is_some() {
        return Err(format!("{} is not empty: name another folder", folder.display()).into());
    }
    Ok(())
}

/// How to go from step to step.
struct Way {
    trainer: Trainer,
    /// Folder of the jobs' trees.
    jobs: PathBuf,
    epochs: usize,
    refresh: Duration,
}

impl Way {
    async fn go(
        &self,
        folder: &Path,
        uploads: Vec<DemoUpload>,
        faults: &mut Vec<Fault>,
    ) -> Result<Vec<Step>, CommandError> {
        let first = self.tree("first", 0, 1)?;
        write(&draw(&PHANTOM, DRAWN_FIRST, FIRST_SEED)?, &first.training())?;
        let nowhere = Destination::Folder(self.jobs.join("models-of-first"));
        let of_first = self.train(&first, &nowhere, 0).await?;
        println!(
            "{}: random weights, for a channel that serves nothing yet",
            of_first.version
        );
        let environment = [
            ("COLLECT_LABELLED", "true".to_owned()),
            ("MODEL_REFRESH_SECONDS", self.refresh.as_secs().to_string()),
        ];
        let model = first.model();
        let model = fs::read(&model).map_err(|error| format!("{}: {error}", model.display()))?;
        let tree = self.tree("trained", self.epochs, 1)?;
        let slices = uploads.iter().filter(|upload| upload.is_slice).count();
        let bar = progress_bar(slices, "collecting", "slices");
        let shown = bar.clone();
        let observer = Tracker::new(move |progress: Progress| {
            // A file of several pages is several slices: only now is it known of how many.
            shown.set_length(slices.max(progress.prepared) as u64);
            shown.set_position(progress.scored as u64);
        });
        let stack = Stack::start(StackConfig {
            environment: environment
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            model,
            observer: Arc::new(observer),
            ..StackConfig::new(folder)
        })
        .await?;
        let collected = collected(&stack, uploads, &tree, faults).await;
        bar.finish_and_clear();
        let steps = match collected {
            Ok(slice) => self.through(&stack, &tree, &slice, &of_first.version).await,
            Err(error) => Err(error),
        };
        stack.stop().await;
        steps
    }

    async fn through(
        &self,
        stack: &Stack,
        tree: &Tree,
        slice: &[u8],
        first: &str,
    ) -> Result<Vec<Step>, CommandError> {
        let gateway = stack.gateway();
        let mut steps = Vec::new();
        let mut step = |what: &str, version: &str, volume_dice, serving: String| {
            steps.push(Step {
                what: what.to_owned(),
                version: version.to_owned(),
                volume_dice,
                serving,
            });
        };
        let serving = served(gateway, slice).await?;
        step("random weights", first, None, serving.version);

        let models = Destination::Stack(stack.s3_endpoint());
        let trained = self.train(tree, &models, self.epochs).await?;
        println!("{}: {}", trained.version, trained.decision);
        if !trained.is_promoted {
            return Err(format!(
                "{} was trained for {} epochs and is not better than random weights: use more --epochs",
                trained.version, self.epochs
            )
            .into());
        }
        let serving = follow(gateway, slice, &trained.version, self.refresh).await?;
        let what = format!("trained, {} epochs", self.epochs);
        step(
            &what,
            &trained.version,
            Some(trained.volume_dice),
            serving.version,
        );

        let tree = self.tree("untrained", 0, 2)?;
        download(&stack.bucket(Bucket::Results), &tree.training()).await?;
        let untrained = self.train(&tree, &models, 0).await?;
        println!("{}: {}", untrained.version, untrained.decision);
        if untrained.is_promoted {
            return Err(format!(
                "{} is untrained and serves: the trained model is no better",
                untrained.version
            )
            .into());
        }
        // Later than a look at the channel that the job could have moved.
        tokio::time::sleep(self.refresh).await;
        let serving = follow(gateway, slice, &trained.version, self.refresh).await?;
        let dice = Some(untrained.volume_dice);
        step(
            "random weights, kept",
            &untrained.version,
            dice,
            serving.version,
        );

        let trainer = self.trainer.clone();
        let said =
            tokio::task::spawn_blocking(move || trainer.roll_back(&models, CHANNEL)).await??;
        println!("roll-back: {}", said.replace('\n', "; "));
        let serving = follow(gateway, slice, first, self.refresh).await?;
        step("roll-back", first, None, serving.version);
        Ok(steps)
    }

    /// The tree of a job whose channel is still to be filled.
    fn tree(&self, name: &str, epochs: usize, seed: u64) -> Result<Tree, CommandError> {
        let hyper: BTreeMap<String, String> = [
            ("network", "lean-tiny-norm".to_owned()),
            ("epochs", epochs.to_string()),
            ("seed", seed.to_string()),
            ("channel", CHANNEL.to_owned()),
            // For a network and a data set as small as these.
            ("batch", "4".to_owned()),
            ("learning-rate", "0.01".to_owned()),
            ("augment", "original".to_owned()),
            ("average", "0.9".to_owned()),
            ("device", "cpu".to_owned()),
            ("score-test", "true".to_owned()),
        ]
        .map(|(name, text)| (name.to_owned(), text))
        .into();
        Ok(Tree::make(&self.jobs.join(name), &hyper)?)
    }

    async fn train(
        &self,
        tree: &Tree,
        to: &Destination,
        epochs: usize,
    ) -> Result<Trained, CommandError> {
        let (trainer, tree, to) = (self.trainer.clone(), tree.clone(), to.clone());
        let bar = progress_bar(epochs, "training", "epochs");
        let shown = bar.clone();
        let trained = tokio::task::spawn_blocking(move || {
            trainer.train(&tree, &to, &|line| show(&shown, line))
        })
        .await?;
        bar.finish_and_clear();
        Ok(trained?)
    }
}

/// Takes from a line of a job's log what its user wants to see while it trains.
fn show(bar: &ProgressBar, line: &str) {
    if let Some((_, dice)) = line.split_once("Val_dice=") {
        bar.inc(1);
        let dice = dice.split(';').next().unwrap_or_default();
        bar.set_message(format!("validation Dice {dice}"));
    } else if line.starts_with("warning") || line.starts_with("skipped") {
        bar.println(line);
    }
}

/// Uploads slices with truth, waits until the functions have dealt with them, and fills a job's channel with what they
/// collected. Returns a slice of a validation patient.
async fn collected(
    stack: &Stack,
    uploads: Vec<DemoUpload>,
    tree: &Tree,
    faults: &mut Vec<Fault>,
) -> Result<Vec<u8>, CommandError> {
    let slices = uploads.iter().filter(|upload| upload.is_slice).count();
    send(&stack.client(), uploads).await?;
    stack.idle().await;
    for (function, letter) in stack.dead_letters() {
        let object = &letter.message.object;
        let path = PathBuf::from(format!("{}/{}", object.bucket, object.key));
        let reason = format!("{function} could not deal with it: {}", letter.reason);
        faults.push(Fault { path, reason });
    }
    let channel = tree.training();
    let split = download(&stack.bucket(Bucket::Results), &channel).await?;
    println!(
        "{slices} slices uploaded; labelled/: {} patients train, {} validate, {} test",
        split.train.len(),
        split.validation.len(),
        split.test.len()
    );
    let patient = split
        .validation
        .first()
        .map(|patient| channel.join(patient));
    let patient = patient.ok_or("no patient validates")?;
    middle_slice(&patient).map_err(|error| format!("{}: {error}", patient.display()).into())
}

/// The slice in the middle of a patient's head, where a tumour is most likely.
fn middle_slice(patient: &Path) -> io::Result<Vec<u8>> {
    let entries = fs::read_dir(patient)?.collect::<io::Result<Vec<_>>>()?;
    let mut slices: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    slices.retain(|path| !path.to_string_lossy().ends_with("_mask.tif"));
    slices.sort();
    let middle = slices.get(slices.len() / 2);
    fs::read(middle.ok_or(io::ErrorKind::NotFound)?)
}
