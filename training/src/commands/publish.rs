//! `glioseg-train publish`: a model where the Lambdas find it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use glioseg_shared::cloud::keys::Channel;
use glioseg_shared::cloud::{FolderStorage, Location, S3Storage};
use glioseg_shared::imaging::Limits;
use glioseg_shared::model::Contract;
use glioseg_training::data::dataset::{Dataset, MANIFEST_FILE};
use glioseg_training::data::split::Split;
use glioseg_training::data::{CachedPatient, DataError};
use glioseg_training::evaluate;
use glioseg_training::job::CorruptSlices;
use glioseg_training::publish::{Judge, JudgeError, PublishOptions, publish};
use glioseg_training::settings::fraction;

use super::{CommandError, Outcome, read_model};

/// Publish a model, and let it serve if it is no worse than the one that serves.
///
/// Writes models/VERSION/model.onnx and model.json, then moves models/CHANNEL/current.json. Both models are scored anew
/// on the validation patients of the split, by mean volume Dice; what their cards claim decides nothing. The difference
/// is printed with its 95 % interval (paired bootstrap over patients); what decides is the difference and --margin.
#[derive(Args, Debug)]
pub(crate) struct PublishArgs {
    /// Model file.
    model: PathBuf,
    /// s3://BUCKET[/PREFIX], or a folder.
    to: Location,
    /// Channel that is to serve the model.
    #[arg(long, default_value = "fast")]
    channel: Channel,
    /// Let it serve however it scores.
    #[arg(long)]
    force: bool,
    /// Folder of the data that both models are scored on.
    #[arg(long, requires = "split")]
    data: Option<PathBuf>,
    /// Mean volume Dice by which the model must at least be better to serve; at 0 it must be no worse.
    #[arg(long, default_value_t = 0.0, value_parser = fraction)]
    margin: f64,
    /// Split with the validation patients.
    #[arg(long, requires = "data")]
    split: Option<PathBuf>,
    /// What becomes of slices of the data that cannot be read. Left out, they are so for both models.
    #[arg(long, value_enum, default_value_t = CorruptSlices::Stop)]
    corrupt_slices: CorruptSlices,
}

/// Runs the command.
pub(crate) fn run(args: &PublishArgs) -> Outcome {
    let model = read_model(&args.model)?;
    let stated = Contract::of_onnx(&model)?.provenance.split_digest;
    let validation = match (&args.data, &args.split) {
        (Some(data), Some(path)) => {
            let split = Split::read(path)?;
            if stated != split.digest() && !args.force {
                return Err(format!(
                    "{}: trained by another split than {}: it may have learned from its validation patients",
                    args.model.display(),
                    path.display()
                )
                .into());
            }
            Some(validation_patients(data, &split, args.corrupt_slices)?)
        }
        _ => None,
    };
    let score = |onnx: &[u8]| -> Result<Vec<f64>, JudgeError> {
        let patients = validation
            .as_ref()
            .ok_or("no validation patients are given")?;
        Ok(evaluate::volume_dice(onnx, patients.iter().map(Ok))?)
    };
    let judge: Option<&dyn Judge> = validation.is_some().then_some(&score);
    let options = PublishOptions {
        channel: &args.channel,
        force: args.force,
        judge,
        margin: args.margin,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        Ok::<_, CommandError>(match &args.to {
            Location::Folder(path) => publish(&model, &FolderStorage::open(path)?, options).await?,
            Location::S3 { bucket, prefix } => {
                let storage = S3Storage::connect(bucket.clone(), prefix.clone()).await;
                publish(&model, &storage, options).await?
            }
        })
    })?;
    println!("{outcome}");
    Ok(ExitCode::SUCCESS)
}

/// The decoded validation patients, each of whom has to be there; slices that are left out are named on stderr. In a
/// folder that the functions collect slices in, halves of slices are left out in any case.
fn validation_patients(
    data: &Path,
    split: &Split,
    corrupt_slices: CorruptSlices,
) -> Result<Vec<CachedPatient>, CommandError> {
    let limits = Limits::default();
    let name = |fault: &DataError| eprintln!("skipped: {fault}");
    if corrupt_slices == CorruptSlices::Stop {
        let dataset = if data.join(MANIFEST_FILE).is_file() {
            let (dataset, left_out) = Dataset::open_collected(data)?;
            left_out.iter().for_each(name);
            dataset
        } else {
            Dataset::open(data)?
        };
        split.check_against(&dataset)?;
        let patients = dataset.select(&split.validation)?;
        let decoded = patients
            .patients()
            .iter()
            .map(|patient| CachedPatient::decode(patient, &limits))
            .collect::<Result<_, _>>()?;
        return Ok(decoded);
    }
    let (dataset, left_out) = Dataset::open_skipping(data)?;
    left_out.iter().for_each(name);
    split.check_against(&dataset)?;
    let mut decoded = Vec::new();
    for patient in dataset.select(&split.validation)?.patients() {
        let (patient, left_out) = CachedPatient::decode_skipping(patient, &limits);
        left_out.iter().for_each(|(_, fault)| name(fault));
        if !patient.slices.is_empty() {
            decoded.push(patient);
        }
    }
    Ok(decoded)
}
