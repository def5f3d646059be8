//! One file a command of `glioseg-train`.

pub(crate) mod evaluate;
pub(crate) mod export;
pub(crate) mod fit;
pub(crate) mod publish;
pub(crate) mod split;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use glioseg_shared::imaging::Limits;
use glioseg_shared::model::{Contract, MAX_FILE_BYTES};
use glioseg_training::data::cache::Cache;
use glioseg_training::data::dataset::Dataset;
use glioseg_training::data::split::Split;
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

/// The patients that a run trains and validates on, and the digest of them and of the split that its checkpoint holds.
pub(crate) fn run_data(
    dataset: &Dataset,
    split: &Split,
) -> Result<(Dataset, String), CommandError> {
    let patients = [split.train.as_slice(), &split.validation].concat();
    let used = dataset.select(&patients)?;
    let digest = format!("{} {}", used.digest()?, split.digest());
    Ok((used, digest))
}

/// What the data are called: by their split, else by their folder.
pub(crate) fn data_name(folder: &Path, split: Option<&Split>) -> String {
    let named = split.map(|split| split.data_set.clone());
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| {
        let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let name = whole.file_name().unwrap_or(whole.as_os_str());
        name.to_string_lossy().into_owned()
    })
}

/// The split's file name, with the fold where one was left out.
pub(crate) fn split_name(path: &Path, fold: Option<usize>) -> String {
    let name = path
        .file_name()
        .map_or_else(|| path.to_string_lossy(), OsStr::to_string_lossy);
    fold.map_or_else(|| name.to_string(), |fold| format!("{name}, fold {fold}"))
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
