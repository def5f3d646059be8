//! A training run from decoded patients to a model file: what `fit` and a job have in common.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use burn::tensor::backend::AutodiffBackend;
use glioseg_shared::model::Contract;
use glioseg_shared::model::contract::Provenance;

use crate::augment::Transforms;
use crate::batches::Batches;
use crate::calibrate::Decided;
use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::data::{CachedPatient, DataError, Dataset, Folds, Split};
use crate::device::OnDevice;
use crate::fit::{FitError, Fitted, Origin, Session, fit};
use crate::kernels::Kernels;
use crate::loss::Losses;
use crate::networks::Weights;
use crate::package::{GRID, PackageError, Packaged, input, package, serving};
use crate::recipe::Recipe;

/// A run that is ready to go; [`OnDevice`] lets it go.
pub struct Run<'a> {
    /// What it computes.
    pub recipe: &'a Recipe,
    /// Whether the model sees the mirror image of each slice too.
    pub mirror: bool,
    /// Name that the model's version begins with.
    pub name: &'a str,
    /// The model's contract as [`draft`](crate::package::draft) made it.
    pub contract: Contract,
    /// Patients to learn from.
    pub training: Vec<&'a CachedPatient>,
    /// Patients that choose the epoch and the post-processing; where there are none, the weights are those of the last
    /// epoch, and `decided` has to be complete.
    pub validation: Vec<&'a CachedPatient>,
    /// What is not left to the validation patients.
    pub decided: Decided,
    /// What it stands on.
    pub origin: Origin<'a>,
    /// All slices stay on the device when they take at most this many bytes there.
    pub resident_bytes: u64,
    /// Where it leaves its state.
    pub session: Session<'a>,
}

/// What a run ends with.
#[derive(Clone, Debug)]
pub struct Trained {
    /// The weights and the epochs.
    pub fitted: Fitted,
    /// The model file.
    pub packaged: Packaged,
}

/// Why a run ended without a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Training ended.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// No model file could be made.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A run cannot begin with these weights.
    #[error("{}: {reason}", path.display())]
    Start {
        /// The checkpoint.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// The checkpoint to begin with could not be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl OnDevice for Run<'_> {
    type Output = Result<Trained, RunError>;

    fn run<B>(self, device: &B::Device) -> Self::Output
    where
        B: AutodiffBackend<InnerBackend: Kernels + Transforms> + Kernels + Losses,
    {
        let recipe = self.recipe;
        let (input, preprocessing) = input(recipe.fit);
        let batches = |patients: &[_], room: u64| {
            Batches::<B::InnerBackend>::new(
                patients,
                &input,
                preprocessing.normalization,
                room,
                device,
            )
        };
        let training = batches(&self.training, self.resident_bytes);
        let left = self.resident_bytes.saturating_sub(training.device_bytes());
        let validation = (!self.validation.is_empty()).then(|| batches(&self.validation, left));
        let graph = recipe.network.graph(recipe.dropout);
        writeln!(
            self.session.log,
            "{}: {} parameters, {:.0} million multiply-accumulates for a {GRID}x{GRID} slice; {} training and {} \
             validation slices",
            recipe.network,
            graph.parameters(),
            graph.multiply_accumulates(GRID as usize, GRID as usize) as f64 / 1e6,
            training.len(),
            validation.as_ref().map_or(0, Batches::len),
        )
        .map_err(FitError::Log)?;
        let fitted = fit::<B>(
            recipe,
            &training,
            validation.as_ref(),
            self.origin,
            self.session,
            device,
        )?;
        let (graph, network) = serving(&recipe.network, self.mirror);
        let contract = Contract {
            network,
            ..self.contract
        };
        let packaged = package::<B::InnerBackend>(
            (&graph, &fitted.best),
            self.name,
            contract,
            self.decided,
            &self.training,
            &self.validation,
            device,
        )?;
        Ok(Trained { fitted, packaged })
    }
}

/// The patients that a run trains and validates on, and the digest of them and of the split that its checkpoint holds.
///
/// # Errors
/// [`DataError`]: a patient of the split that is not there, or a file that cannot be read.
pub fn run_data(dataset: &Dataset, split: &Split) -> Result<(Dataset, String), DataError> {
    let patients = [split.train.as_slice(), &split.validation].concat();
    let used = dataset.select(&patients)?;
    let digest = format!("{} {}", used.digest()?, split.digest());
    Ok((used, digest))
}

/// Where a model comes from, as its contract says it.
///
/// # Errors
/// [`DataError`]: a training patient that is not there, or a file that cannot be read.
pub fn provenance(
    dataset: &Dataset,
    split: &Split,
    (data, split_name): (String, String),
    recipe: &Recipe,
    commit: &str,
) -> Result<Provenance, DataError> {
    Ok(Provenance {
        data,
        data_digest: dataset.select(&split.train)?.digest()?,
        split: split_name,
        split_digest: split.digest(),
        seed: recipe.seed,
        commit: commit.to_owned(),
    })
}

/// What the data are called: by their split, else by their folder.
#[must_use]
pub fn data_name(folder: &Path, split: Option<&Split>) -> String {
    let named = split.map(|split| split.data_set.clone());
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| {
        let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let name = whole.file_name().unwrap_or(whole.as_os_str());
        name.to_string_lossy().into_owned()
    })
}

/// The split's file name, and which folds were trained on.
#[must_use]
pub fn split_name(path: &Path, folds: Option<Folds>) -> String {
    let name = path
        .file_name()
        .map_or_else(|| path.to_string_lossy(), OsStr::to_string_lossy);
    match folds {
        None => name.to_string(),
        Some(Folds::AllBut(fold)) => format!("{name}, fold {fold}"),
        Some(Folds::All) => format!("{name}, all folds"),
    }
}

/// Which weights of another run a run begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartWeights {
    /// Those of its best epoch, by its validation patients.
    BestEpoch,
    /// Those of its last epoch, which no patient has chosen.
    LastEpoch,
}

/// Weights of another run, to begin with.
///
/// Only of one with the same network on the same data and split: weights that have seen the validation patients would
/// choose themselves.
///
/// # Errors
/// [`RunError::Start`] for another network or other data, [`RunError::Checkpoint`] for a file that is no checkpoint.
pub fn weights_of(
    path: &Path,
    which: StartWeights,
    recipe: &Recipe,
    data: &str,
) -> Result<Weights, RunError> {
    let refused = |reason: String| RunError::Start {
        path: path.to_owned(),
        reason,
    };
    let checkpoint =
        Checkpoint::read(path)?.ok_or_else(|| refused("there is no such file".to_owned()))?;
    if checkpoint.recipe.network != recipe.network {
        return Err(refused(format!(
            "its network is {}; use --network {} here",
            checkpoint.recipe.network, checkpoint.recipe.network
        )));
    }
    if checkpoint.data != data {
        return Err(refused(
            "it was trained on other data or another split: its validation patients may be among yours".to_owned(),
        ));
    }
    Ok(match which {
        StartWeights::BestEpoch => checkpoint.best,
        StartWeights::LastEpoch => checkpoint.average,
    })
}
