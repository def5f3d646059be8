//! `glioseg demo`: a study through the whole stack.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use glioseg_local::demo::{
    DemoUpload, Progress, StudyResult, Tracker, fetch, from_folder, phantom, send,
};
use glioseg_local::files::write_whole;
use glioseg_local::folder::Fault;
use glioseg_local::report::{page, table};
use glioseg_local::stack::{Stack, StackConfig};
use glioseg_shared::cloud::keys::{self, StudyId};
use glioseg_shared::imaging::natural_order;
use glioseg_shared::imaging::phantom::PhantomConfig;
use glioseg_shared::model::contract::NOTICE;

use super::{CommandError, Outcome, progress_bar, runtime, tell_faults};

/// Name of the page.
const HTML_FILE: &str = "report.html";

const EXAMPLES: &str = "Examples:
  glioseg demo
  glioseg demo --seed 7 --out seven
  glioseg demo --data kaggle_3m/TCGA_CS_4941_19960909";

/// Send a study through the whole stack, and show what came of it.
///
/// Starts an S3 server and the functions in this process, uploads a drawn study (or --data) as `aws s3 cp` would, lets
/// events do the rest, prints the scores, and writes a report as one page. The stack's own files are removed at the
/// end; nothing leaves this machine.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct DemoArgs {
    /// Folder of real slices X.tif, with truths X_mask.tif where they are known [default: a drawn study].
    #[arg(long)]
    data: Option<PathBuf>,
    /// Folder for report.html.
    #[arg(long, default_value = "demo")]
    out: PathBuf,
    /// Seed of the drawn study.
    #[arg(long, default_value_t = 155, conflicts_with = "data")]
    seed: u64,
    /// Slices of the drawn study.
    #[arg(long, default_value_t = PhantomConfig::default().slices, conflicts_with = "data")]
    slices: usize,
}

/// Runs the command.
pub(crate) fn run(args: &DemoArgs) -> Outcome {
    let start = Instant::now();
    let (uploads, mut faults) = uploads(args)?;
    let studies = studies(&uploads);
    let folder = tempfile::tempdir()?;
    let (results, version) = runtime()?.block_on(through_stack(
        folder.path().into(),
        uploads,
        &studies,
        &mut faults,
    ))?;

    let report = args.out.join(HTML_FILE);
    write_whole(&report, page(&results, &version).as_bytes())
        .map_err(|error| format!("{}: {error}", report.display()))?;
    print!("{}", table(&results));
    println!(
        "report: {}",
        report.canonicalize().unwrap_or(report).display()
    );
    println!(
        "{:.1} s; model {version}; {NOTICE}",
        start.elapsed().as_secs_f64()
    );
    Ok(tell_faults(&faults))
}

fn uploads(args: &DemoArgs) -> Result<(Vec<DemoUpload>, Vec<Fault>), CommandError> {
    match &args.data {
        Some(folder) => Ok(from_folder(folder)?),
        None => {
            let config = PhantomConfig {
                slices: args.slices,
                ..PhantomConfig::default()
            };
            Ok((phantom(&config, args.seed)?, Vec::new()))
        }
    }
}

/// The studies that have slices, in natural order.
fn studies(uploads: &[DemoUpload]) -> Vec<StudyId> {
    let of_slices = uploads.iter().filter(|upload| upload.is_slice);
    let studies: BTreeSet<_> = of_slices
        .filter_map(|upload| Some(keys::classify(&upload.key).ok()?.study))
        .collect();
    let mut studies: Vec<_> = studies.into_iter().collect();
    studies.sort_by(|a, b| natural_order(a.as_str(), b.as_str()));
    studies
}

async fn through_stack(
    folder: PathBuf,
    uploads: Vec<DemoUpload>,
    studies: &[StudyId],
    faults: &mut Vec<Fault>,
) -> Result<(Vec<StudyResult>, String), CommandError> {
    let slices = uploads.iter().filter(|upload| upload.is_slice).count();
    let bar = progress_bar(slices, "segmenting", "slices");
    let shown = bar.clone();
    let observer = Tracker::new(move |progress: Progress| {
        // A file of several pages is several slices: only now is it known of how many.
        shown.set_length(slices.max(progress.prepared) as u64);
        shown.set_position(progress.segmented as u64);
        shown.set_message(format!(
            "{} read, {} scored",
            progress.prepared, progress.scored
        ));
    });
    let stack = Stack::start(StackConfig {
        observer: Arc::new(observer),
        ..StackConfig::new(folder)
    })
    .await?;
    let sent = send(&stack.client(), uploads).await;
    if sent.is_ok() {
        stack.idle().await;
    }
    bar.finish_and_clear();
    let version = stack.model_version().to_owned();
    for (function, letter) in stack.dead_letters() {
        let object = &letter.message.object;
        let path = PathBuf::from(format!("{}/{}", object.bucket, object.key));
        faults.push(Fault {
            path,
            reason: format!("{function} could not deal with it: {}", letter.reason),
        });
    }
    let mut results = Vec::with_capacity(studies.len());
    let mut fetched = Ok(());
    for study in studies {
        match fetch(&stack, study).await {
            Ok(result) => results.push(result),
            Err(error) => {
                fetched = Err(error);
                break;
            }
        }
    }
    stack.stop().await;
    sent?;
    fetched?;
    Ok((results, version))
}
