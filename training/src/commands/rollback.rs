//! `glioseg-train rollback`: the model before serves again.

use std::process::ExitCode;

use clap::Args;
use glioseg_shared::cloud::keys::{Channel, ModelVersion};
use glioseg_shared::cloud::{FolderStorage, Location, S3Storage};
use glioseg_shared::model::contract::NOTICE;
use glioseg_training::publish::roll_back;

use super::{CommandError, Outcome};

const EXAMPLES: &str = "\
Examples:
  glioseg-train rollback s3://bucket                           the model before the one that serves
  glioseg-train rollback s3://bucket --to fast-0123456789ab    any model that was published

The running functions follow within MODEL_REFRESH_SECONDS. A second roll-back takes back the first. Training that goes
on is compared with the model that serves now: turn its schedule off until the cause is found.";

/// Make a channel serve the model again that it served before.
///
/// Moves models/CHANNEL/current.json, and nothing else: no model is removed. The model's file is read and compared with
/// the digest that was written when it was published; if it is gone, was changed or cannot be served, nothing moves.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RollbackArgs {
    /// Where the models are: s3://BUCKET[/PREFIX], or a folder.
    models: Location,
    /// Channel that is to go back.
    #[arg(long, default_value = "fast")]
    channel: Channel,
    /// Version to go to [default: the one that the pointer names as the one before].
    #[arg(long, value_name = "VERSION", value_parser = version)]
    to: Option<ModelVersion>,
}

fn version(text: &str) -> Result<ModelVersion, String> {
    ModelVersion::parse(text).map_err(|error| error.to_string())
}

/// Runs the command.
pub(crate) fn run(args: &RollbackArgs) -> Outcome {
    let (channel, to) = (&args.channel, args.to.as_ref());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = runtime.block_on(async {
        Ok::<_, CommandError>(match &args.models {
            Location::Folder(path) => roll_back(&FolderStorage::open(path)?, channel, to).await?,
            Location::S3 { bucket, prefix } => {
                let storage = S3Storage::connect(bucket.clone(), prefix.clone()).await;
                roll_back(&storage, channel, to).await?
            }
        })
    })?;
    println!("{done}");
    println!("model {}: {NOTICE}", done.pointer.model.version);
    Ok(ExitCode::SUCCESS)
}
