//! One file a command of `glioseg-train`.

pub(crate) mod cross_validate;
mod decided;
pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod fit;
pub(crate) mod postprocess;
pub(crate) mod publish;
pub(crate) mod rollback;
pub(crate) mod split;
pub(crate) mod submit;
pub(crate) mod train;

use std::path::Path;
use std::process::ExitCode;

use glioseg_shared::imaging::Limits;
use glioseg_shared::model::{Contract, MAX_FILE_BYTES};
use glioseg_training::data::cache::Cache;
use glioseg_training::data::dataset::Dataset;
use glioseg_training::write_atomically;
use indicatif::{ProgressBar, ProgressStyle};

/// Anything that ends a command: shown to the user as it is.
pub(crate) type CommandError = Box<dyn std::error::Error + Send + Sync>;

/// What a command returns.
pub(crate) type Outcome = Result<ExitCode, CommandError>;

/// A bar for work that is counted in `unit`s.
pub(crate) fn progress_bar(length: usize, doing: &str, unit: &str) -> ProgressBar {
    let template = format!("{doing} [{{bar:30}}] {{pos}}/{{len}} {unit}  {{eta}} left  {{msg}}");
    let style =
        ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length as u64).with_style(style)
}

/// Decodes a data set, or opens what an earlier run decoded, under a progress bar.
pub(crate) fn decode(dataset: &Dataset, folder: Option<&Path>) -> Result<Cache, CommandError> {
    let bar = progress_bar(dataset.files(), "decoding", "files");
    let cache = Cache::load_or_build(dataset, folder, &Limits::default(), &|done, _| {
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    Ok(cache)
}

/// Reads a model file of at most [`MAX_FILE_BYTES`] that says what it is.
pub(crate) fn read_model(path: &Path) -> Result<Vec<u8>, CommandError> {
    let unreadable = |error| format!("{}: cannot be read: {error}", path.display());
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_FILE_BYTES as u64 {
        return Err(format!(
            "{}: {size} bytes are too many for a model, at most {MAX_FILE_BYTES} are allowed",
            path.display()
        )
        .into());
    }
    let bytes = std::fs::read(path).map_err(unreadable)?;
    Contract::of_onnx(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes)
}

/// Writes a whole file or nothing.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    write_atomically(path, |file| std::io::Write::write_all(file, bytes))
        .map_err(|error| format!("{}: cannot be written: {error}", path.display()).into())
}
