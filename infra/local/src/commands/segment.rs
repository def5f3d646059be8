//! `glioseg segment`: files and folders of this machine, without a stack.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use clap::builder::RangedU64ValueParser;
use glioseg_local::files::write_whole;
use glioseg_local::folder::{Inputs, Job, Outcome as Work, Row, collect, csv};
use glioseg_local::model::SHIPPED;
use glioseg_local::report::look_first;
use glioseg_shared::cloud::keys::Channel;
use glioseg_shared::cloud::{Environment, environment};
use glioseg_shared::files::read_bounded;
use glioseg_shared::model::contract::{NOTICE, Unit};
use glioseg_shared::model::{MAX_FILE_BYTES, Segmenter};
use glioseg_shared::scoring::Counts;
use glioseg_shared::study::ServingLimits;

use super::{CommandError, Outcome, progress_bar, tell_faults};

/// Name of the table by slice.
const CSV_FILE: &str = "slices.csv";

const EXAMPLES: &str = "Examples:
  glioseg segment scan.tif --out results
  glioseg segment kaggle_3m --out results --truth      with scores by the masks X_mask.tif
  glioseg segment study.zip other/ --out results --model run/model.onnx

What is written below the folder of --out, as in the cloud's bucket of results:
  masks/STUDY/SLICE.tif            the mask: 255 where tumour is found, else 0
  overlays/STUDY/SLICE.png         FLAIR under the outline of the mask
  probabilities/STUDY/SLICE.png    255 times the probability of tumour
  reports/STUDY/SLICE.json         area, bounding box, contours, confidence, model
  scores/STUDY/SLICE.json          with --truth: Dice and others
  slices.csv                       a row for each slice; look first where expected_dice is low

The limits on inputs are those of the cloud; MAX_UPLOAD_BYTES, MAX_SIDE, MAX_PAGES, MAX_DECODED_BYTES and
MAX_ZIP_ENTRIES in the environment change them.

Exit status: 0 when every file was dealt with, 1 when one was not (each is named), 2 for wrong arguments.";

/// Segment slices on this machine: files, zips, and folders with files at any depth.
///
/// The folders below a path name the study, and a file study.json in one tells the spacing and the order of channels.
/// Results have the same names and the same bytes as those of the cloud. Files X_mask.tif are truths, and left alone
/// without --truth.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct SegmentArgs {
    /// Images (.tif, .tiff, .png), zips, or folders of them.
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Folder for the results; made where it is missing.
    #[arg(long)]
    out: PathBuf,
    /// Score the masks by the truths X_mask.tif beside the slices X.tif.
    #[arg(long)]
    truth: bool,
    /// Model file [default: the built-in one].
    #[arg(long)]
    model: Option<PathBuf>,
    /// Channel that reports name as the model's.
    #[arg(long, default_value = "fast")]
    channel: Channel,
    /// Files worked on at once [default: as many as there are cores].
    #[arg(long, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1024))]
    jobs: Option<usize>,
}

/// Runs the command.
pub(crate) fn run(args: &SegmentArgs) -> Outcome {
    let limits = ServingLimits::from_environment(&Environment::new(environment::of_process))?;
    let segmenter = segmenter(args)?;
    let inputs = collect(&args.paths, Some(&args.out));
    let job = Job {
        segmenter: &segmenter,
        channel: &args.channel,
        limits,
        out: &args.out,
        truth: args.truth,
    };
    let files = job.len(&inputs);
    if files == 0 && inputs.faults.is_empty() {
        let reason = "there are no slices here: slices are .tif, .tiff or .png files, a zip holds a whole study";
        return Err(reason.into());
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.jobs.unwrap_or(0))
        .build()?;
    let bar = progress_bar(files, "segmenting", "files");
    let start = Instant::now();
    let work = pool.install(|| {
        job.run(&inputs, &|slices| {
            bar.inc(1);
            let seconds = bar.elapsed().as_secs_f64().max(1e-3);
            if slices > 0 {
                bar.set_message(format!("{:.0} files/s", bar.position() as f64 / seconds));
            }
        })
    });
    bar.finish_and_clear();
    let seconds = start.elapsed().as_secs_f64();
    let table = args.out.join(CSV_FILE);
    write_whole(&table, csv(&work.rows).as_bytes())
        .map_err(|error| format!("{}: {error}", table.display()))?;
    tell(args, &inputs, &work, seconds);
    Ok(tell_faults(&work.faults))
}

fn segmenter(args: &SegmentArgs) -> Result<Segmenter, CommandError> {
    let segmenter = match &args.model {
        None => Segmenter::from_onnx(SHIPPED)?,
        Some(path) => {
            let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            let bytes = read_bounded(path, MAX_FILE_BYTES as u64).map_err(|error| named(&error))?;
            Segmenter::from_onnx(&bytes).map_err(|error| named(&error))?
        }
    };
    let contract = segmenter.contract();
    if contract.unit != Unit::Slice {
        let version = &contract.model_version;
        return Err(format!(
            "model {version} takes whole volumes: only models of single slices are served"
        )
        .into());
    }
    Ok(segmenter)
}

fn tell(args: &SegmentArgs, inputs: &Inputs, work: &Work, seconds: f64) {
    let rows = &work.rows;
    let found = rows
        .iter()
        .filter(|row| row.report.tumour_pixels > 0)
        .count();
    println!(
        "{} slices in {seconds:.1} s ({:.0} slices/s), {found} with tumour found",
        rows.len(),
        rows.len() as f64 / seconds.max(1e-3)
    );
    if let Some(figures) = figures(rows) {
        println!("{figures}");
    }
    let first = look_first(rows, expected_dice);
    if !first.is_empty() {
        let named: Vec<String> = first
            .iter()
            .map(|row| {
                let report = &row.report;
                format!(
                    "{}/{} {:.3}",
                    report.study,
                    report.slice,
                    expected_dice(row)
                )
            })
            .collect();
        println!("look first (expected Dice): {}", named.join(", "));
    }
    if work.truths_alone > 0 {
        println!("{} truths have no slice", work.truths_alone);
    }
    if inputs.ignored > 0 {
        println!("{} other files were left alone", inputs.ignored);
    }
    println!("results: {}", args.out.display());
    println!("table:   {}", args.out.join(CSV_FILE).display());
    println!("{NOTICE}");
}

fn expected_dice(row: &Row) -> f64 {
    row.report.confidence.expected_dice
}

/// The figures of all scored slices together; `None` where none was scored.
fn figures(rows: &[Row]) -> Option<String> {
    let counts: Vec<Counts> = rows
        .iter()
        .filter_map(|row| Some(row.score.as_ref()?.counts))
        .collect();
    let (tumour, empty): (Vec<&Counts>, Vec<&Counts>) =
        counts.iter().partition(|counts| counts.true_area() > 0);
    let mean = |of: &[&Counts]| {
        let sum: f64 = of.iter().map(|counts| counts.dice()).sum();
        match of.len() {
            0 => "–".to_owned(),
            n => format!("{:.3}", sum / n as f64),
        }
    };
    let wrong = empty
        .iter()
        .filter(|counts| counts.predicted_area() > 0)
        .count();
    (!counts.is_empty()).then(|| {
        format!(
            "tumour-slice Dice {} (n {})   all-slice Dice {} (n {})   false positives {wrong} of {} empty slices",
            mean(&tumour),
            tumour.len(),
            mean(&counts.iter().collect::<Vec<_>>()),
            counts.len(),
            empty.len(),
        )
    })
}
