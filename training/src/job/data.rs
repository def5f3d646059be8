//! The data of a job: who trains, validates and tests, and their slices.

use std::collections::HashSet;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use glioseg_shared::imaging::Limits;
use glioseg_shared::study::Document;
use glioseg_shared::study::labelled::Manifest;

use super::container::{Container, ContainerError};
use super::hyperparameters::{CorruptSlices, HyperParameters};
use super::outcome::JobError;
use crate::data::dataset::MANIFEST_FILE;
use crate::data::{CachedPatient, DataError, Dataset, Folds, SliceFiles, Split};
use crate::files::{ReadError, read_bounded};
use crate::run::{data_name, split_name};

const TRAINING: &str = "training";
const TRAINING_HOLDS: &str =
    "one folder a patient, in it slices X.tif beside their masks X_mask.tif";
const SPLIT: &str = "split";
const SPLIT_HOLDS: &str = "split.json with the lists train, validation and test";

const SPLIT_FILE: &str = "split.json";

/// What a job learns from.
pub(super) struct Material {
    /// All patients of the channel, less what is left out.
    pub(super) dataset: Dataset,
    /// Who of them is for what.
    pub(super) split: Split,
    /// What the data and the split are called.
    pub(super) names: (String, String),
    /// The decoded patients for training and validation.
    patients: Vec<CachedPatient>,
    /// The decoded test patients, where they are to be scored.
    pub(super) test: Vec<CachedPatient>,
}

impl Material {
    /// Reads the channels. With corrupt slices to be skipped, each is named in the log and left out, and so is a
    /// patient without any other. In a folder with a manifest, which the functions write, a slice is left out like that in
    /// any case while one of its files is not there.
    pub(super) fn read(
        container: &Container,
        hyper: &HyperParameters,
        log: &mut dyn Write,
        stop: &dyn Fn() -> bool,
    ) -> Result<Self, JobError> {
        let root = container.channel(TRAINING, TRAINING_HOLDS)?;
        let skip = hyper.corrupt_slices == CorruptSlices::Skip;
        let is_collected = root.join(MANIFEST_FILE).is_file();
        let (mut dataset, left_out) = match (skip, is_collected) {
            (true, _) => Dataset::open_skipping(&root)?,
            (false, true) => Dataset::open_collected(&root)?,
            (false, false) => (Dataset::open(&root)?, Vec::new()),
        };
        tell(log, &left_out)?;
        let (mut split, path) = find_split(container, &root, &dataset, log)?;
        if skip {
            split = restrict(split, &dataset, log)?;
        } else {
            split.check_against(&dataset)?;
        }
        let names = (
            data_name(&root, Some(&split)),
            split_name(&path, hyper.fold.map(Folds::AllBut)),
        );
        if let Some(fold) = hyper.fold {
            split = split.fold(fold)?;
        }
        let used = dataset.select(&[split.train.as_slice(), &split.validation].concat())?;
        writeln!(
            log,
            "decoding {} files of {} patients",
            used.files(),
            used.patients().len()
        )?;
        let (patients, left_out) = decode(&used, skip, log, stop)?;
        if skip {
            dataset = dataset.without(&left_out);
            split = restrict(split, &dataset, log)?;
        }
        // Before training, though they are scored after it: a slice that cannot be read is to end no job that has
        // trained for hours.
        let test = if hyper.score_test {
            decode(&dataset.select(&split.test)?, skip, log, stop)?.0
        } else {
            Vec::new()
        };
        Ok(Self {
            dataset,
            split,
            names,
            patients,
            test,
        })
    }

    /// The decoded patients of a list for training or validation.
    pub(super) fn patients(&self, ids: &[String]) -> Vec<&CachedPatient> {
        let patient = |id: &String| self.patients.iter().find(|patient| patient.id == *id);
        ids.iter().filter_map(patient).collect()
    }
}

/// Decodes patients; with `skip`, returns the slices that were left out as well.
fn decode(
    dataset: &Dataset,
    skip: bool,
    log: &mut dyn Write,
    stop: &dyn Fn() -> bool,
) -> Result<(Vec<CachedPatient>, Vec<SliceFiles>), JobError> {
    let limits = Limits::default();
    let mut patients = Vec::with_capacity(dataset.patients().len());
    let mut left_out = Vec::new();
    for patient in dataset.patients() {
        if stop() {
            return Err(JobError::Stopped);
        }
        if skip {
            let (decoded, faults) = CachedPatient::decode_skipping(patient, &limits);
            let (slices, faults): (Vec<_>, Vec<_>) = faults.into_iter().unzip();
            tell(log, &faults)?;
            left_out.extend(slices);
            patients.push(decoded);
        } else {
            patients.push(CachedPatient::decode(patient, &limits)?);
        }
    }
    patients.retain(|patient| !patient.slices.is_empty());
    Ok((patients, left_out))
}

fn tell(log: &mut dyn Write, left_out: &[DataError]) -> io::Result<()> {
    left_out
        .iter()
        .try_for_each(|fault| writeln!(log, "skipped: {fault}"))
}

fn restrict(split: Split, dataset: &Dataset, log: &mut dyn Write) -> Result<Split, JobError> {
    let (split, left_out) = split.restrict(dataset)?;
    for patient in left_out {
        writeln!(log, "skipped: patient {patient} has no slices")?;
    }
    Ok(split)
}

/// The split and where it was found: in a channel of its own, else beside the patients, else in their manifest.
fn find_split(
    container: &Container,
    root: &Path,
    dataset: &Dataset,
    log: &mut dyn Write,
) -> Result<(Split, PathBuf), JobError> {
    if container.optional_channel(SPLIT)?.is_some() {
        let path = file_of_channel(&container.channel(SPLIT, SPLIT_HOLDS)?)?;
        return Ok((Split::read(&path)?, path));
    }
    let path = root.join(SPLIT_FILE);
    if path.is_file() {
        return Ok((Split::read(&path)?, path));
    }
    let path = root.join(MANIFEST_FILE);
    if path.is_file() {
        return Ok((split_of_manifest(&path, dataset, log)?, path));
    }
    Err(JobError::NoSplit)
}

/// `split.json`, or the only other JSON file: a channel is often one object, whatever its name.
fn file_of_channel(folder: &Path) -> Result<PathBuf, JobError> {
    let path = folder.join(SPLIT_FILE);
    if path.is_file() {
        return Ok(path);
    }
    let unreadable = |source| ContainerError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            found.push(path);
        }
    }
    match <[PathBuf; 1]>::try_from(found) {
        Ok([path]) => Ok(path),
        Err(_) => Err(ContainerError::EmptyChannel {
            channel: SPLIT,
            path: folder.to_owned(),
            what: SPLIT_HOLDS,
        }
        .into()),
    }
}

/// The split of a labelled data set. Of its patients those count who have slices here: one stays in the manifest when
/// all slices are deleted, and may be in it before the first slice is. Patients that it does not name are for nothing, and
/// are named in the log.
fn split_of_manifest(
    path: &Path,
    dataset: &Dataset,
    log: &mut dyn Write,
) -> Result<Split, JobError> {
    let bytes = read_bounded(path, Manifest::MAX_BYTES).map_err(|error| match error {
        ReadError::Io(source) => DataError::Read {
            path: path.to_owned(),
            source,
        },
        ReadError::TooLarge(bytes) => DataError::FileTooLarge {
            path: path.to_owned(),
            bytes,
            allowed: Manifest::MAX_BYTES,
        },
    })?;
    let manifest = Manifest::from_json(&bytes).map_err(|source| JobError::Manifest {
        path: path.display().to_string(),
        source,
    })?;
    let lists = manifest.split(|patient| dataset.patient(patient).is_some());
    let split = Split {
        data_set: "labelled slices".to_owned(),
        note: String::new(),
        train: lists.train,
        validation: lists.validation,
        test: lists.test,
        folds: Vec::new(),
    };
    let lists = [&split.train, &split.validation, &split.test];
    let named: HashSet<&String> = lists.into_iter().flatten().collect();
    for patient in dataset.patients() {
        if !named.contains(&patient.id) {
            let id = &patient.id;
            writeln!(log, "skipped: patient {id} is not in {MANIFEST_FILE}")?;
        }
    }
    split.check()?;
    Ok(split)
}
