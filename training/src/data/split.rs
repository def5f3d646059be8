//! Which patients train, validate and test.
//!
//! A split is by patient, never by slice: neighbouring slices of one patient are near copies, so a split by slice
//! would test on what was trained on.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use glioseg_shared::digest::sha256_hex;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::dataset::Dataset;
use crate::files::{ReadError, read_bounded, write_atomically};

/// The largest split file that is read: 16 MiB.
pub const MAX_SPLIT_BYTES: u64 = 16 << 20;

/// One patient in so many is for validation, and one for testing.
const PERIOD: usize = 10;

/// Patients of similar tumour share that may change places before they are dealt out.
const WINDOW: usize = 5;

/// What a split is stratified by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatientSummary {
    /// Name of the patient.
    pub id: String,
    /// Number of slices.
    pub slices: usize,
    /// Number of slices whose mask is not empty.
    pub tumour_slices: usize,
}

impl PatientSummary {
    /// Share of the slices that show tumour, 0 for a patient without slices.
    #[must_use]
    pub fn tumour_share(&self) -> f64 {
        if self.slices == 0 {
            0.0
        } else {
            self.tumour_slices as f64 / self.slices as f64
        }
    }
}

/// The patients for training, validation and testing, and folds over the first two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// What data set the names are from.
    #[serde(default)]
    pub data_set: String,
    /// How the split came to be.
    #[serde(default)]
    pub note: String,
    /// Patients to train on.
    pub train: Vec<String>,
    /// Patients that choose among models.
    pub validation: Vec<String>,
    /// Patients that are seen once, at the end.
    pub test: Vec<String>,
    /// A partition of training and validation patients for cross-validation; may be empty.
    #[serde(default)]
    pub folds: Vec<Vec<String>>,
}

/// Whom a run trains on, where not on the training patients of its split alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Folds {
    /// Everybody but the patients of this fold (from 0), who validate.
    AllBut(usize),
    /// Everybody who is not for testing: nobody validates.
    All,
}

impl FromStr for Folds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "all" {
            return Ok(Self::All);
        }
        let fold = text.parse().map(Self::AllBut);
        fold.map_err(|_| "use the number of a fold, from 0, or `all`".to_owned())
    }
}

/// Why a split was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// The file could not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The split file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written; nothing is left under its name.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The split file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is larger than any split; it was not read.
    #[error("{}: {bytes} bytes, a split has at most {MAX_SPLIT_BYTES}", path.display())]
    FileTooLarge {
        /// The split file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// A file is no valid split.
    #[error("{}: {source}", path.display())]
    File {
        /// The split file.
        path: PathBuf,
        /// What is wrong with its contents.
        source: Box<SplitError>,
    },
    /// The text is no split in JSON.
    #[error("not a split in JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A patient is named twice.
    #[error("patient {patient} is named twice: in {first} and in {second}")]
    NamedTwice {
        /// The patient.
        patient: String,
        /// The list that names the patient first.
        first: String,
        /// The list that names the patient again.
        second: String,
    },
    /// A fold names a patient who is not for training or validation.
    #[error("patient {patient} is in {fold}, but neither in train nor in validation")]
    OutsideFolds {
        /// The patient.
        patient: String,
        /// The fold.
        fold: String,
    },
    /// A training or validation patient is in no fold.
    #[error("patient {patient} is in no fold: the folds together are train and validation")]
    InNoFold {
        /// The patient.
        patient: String,
    },
    /// A list names nobody.
    #[error("{list} names no patient")]
    EmptyList {
        /// The list.
        list: String,
    },
    /// The data set lacks patients of the split.
    #[error(
        "{}: {missing} of the split's patients are not in the data, {patient} ({list}) the first of them",
        path.display()
    )]
    NotInData {
        /// The data folder.
        path: PathBuf,
        /// How many are missing.
        missing: usize,
        /// The first missing patient.
        patient: String,
        /// The list that names the patient.
        list: String,
    },
    /// There are too few patients to deal out.
    #[error("{patients} patients are too few: {needed} are needed")]
    TooFewPatients {
        /// Patients given.
        patients: usize,
        /// The smallest number that would do.
        needed: usize,
    },
    /// Cross-validation needs at least two folds.
    #[error("1 fold leaves nothing to train on: ask for 0 (none) or at least 2")]
    OneFold,
    /// Patients are to join folds, and there are none.
    #[error("the split has no folds")]
    NoFolds,
    /// A patient of whom nothing is known.
    #[error("test patient {patient} is not in the data")]
    NoSummary {
        /// The patient.
        patient: String,
    },
    /// There is no such fold.
    #[error("there is no fold {fold}: the split has {folds}, counted from 0")]
    NoSuchFold {
        /// The fold asked for, from 0.
        fold: usize,
        /// Number of folds.
        folds: usize,
    },
}

impl Split {
    /// Reads and checks a split file.
    ///
    /// # Errors
    /// [`SplitError`] naming the file; see [`Split::check`] for what is refused.
    pub fn read(path: &Path) -> Result<Self, SplitError> {
        let bytes = read_bounded(path, MAX_SPLIT_BYTES).map_err(|error| match error {
            ReadError::Io(source) => SplitError::Read {
                path: path.to_owned(),
                source,
            },
            ReadError::TooLarge(bytes) => SplitError::FileTooLarge {
                path: path.to_owned(),
                bytes,
            },
        })?;
        Self::from_json(&bytes).map_err(|source| SplitError::File {
            path: path.to_owned(),
            source: Box::new(source),
        })
    }

    /// Parses and checks a split.
    ///
    /// # Errors
    /// [`SplitError::Json`], or what [`Split::check`] refuses.
    pub fn from_json(json: &[u8]) -> Result<Self, SplitError> {
        let split: Self = serde_json::from_slice(json)?;
        split.check()?;
        Ok(split)
    }

    /// Checks the split and writes it; a failure leaves no part of it under `path`.
    ///
    /// # Errors
    /// [`SplitError::Write`], or what [`Split::check`] refuses.
    pub fn write(&self, path: &Path) -> Result<(), SplitError> {
        self.check()?;
        write_atomically(path, |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            file.write_all(b"\n")
        })
        .map_err(|source| SplitError::Write {
            path: path.to_owned(),
            source,
        })
    }

    /// Checks that no patient is named twice, no list but `test` is empty, and the folds partition train + validation.
    ///
    /// # Errors
    /// The first rule that is broken, with the patient's name.
    pub fn check(&self) -> Result<(), SplitError> {
        let mut listed = HashMap::new();
        for (list, patients) in self.lists() {
            once_each(&mut listed, list, patients)?;
        }
        for (list, patients) in &self.lists()[..2] {
            if patients.is_empty() {
                return Err(SplitError::EmptyList {
                    list: (*list).to_owned(),
                });
            }
        }
        if self.folds.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = (0..self.folds.len()).map(|i| format!("fold {i}")).collect();
        let mut folded = HashMap::new();
        for (name, patients) in names.iter().zip(&self.folds) {
            if patients.is_empty() {
                return Err(SplitError::EmptyList { list: name.clone() });
            }
            once_each(&mut folded, name, patients)?;
            let outside = |patient: &&String| {
                !matches!(
                    listed.get(patient.as_str()),
                    Some(&("train" | "validation"))
                )
            };
            if let Some(patient) = patients.iter().find(outside) {
                return Err(SplitError::OutsideFolds {
                    patient: patient.clone(),
                    fold: name.clone(),
                });
            }
        }
        match self
            .train
            .iter()
            .chain(&self.validation)
            .find(|patient| !folded.contains_key(patient.as_str()))
        {
            Some(patient) => Err(SplitError::InNoFold {
                patient: patient.clone(),
            }),
            None => Ok(()),
        }
    }

    /// Checks that the data set holds every patient of the split; it may hold more.
    ///
    /// # Errors
    /// [`SplitError::NotInData`] with the number of missing patients and the first of them.
    pub fn check_against(&self, dataset: &Dataset) -> Result<(), SplitError> {
        let mut missing = self.lists().into_iter().flat_map(|(list, patients)| {
            patients
                .iter()
                .filter(|patient| dataset.patient(patient).is_none())
                .map(move |patient| (list, patient))
        });
        match missing.next() {
            None => Ok(()),
            Some((list, patient)) => Err(SplitError::NotInData {
                path: dataset.root().to_owned(),
                missing: 1 + missing.count(),
                patient: patient.clone(),
                list: list.to_owned(),
            }),
        }
    }

    /// The split of the patients that the data set holds, and those of its patients that are left out.
    ///
    /// # Errors
    /// [`SplitError::EmptyList`] where nobody is left to train or validate on, or in a fold.
    pub fn restrict(mut self, dataset: &Dataset) -> Result<(Self, Vec<String>), SplitError> {
        let mut left_out = Vec::new();
        for patients in [&mut self.train, &mut self.validation, &mut self.test] {
            patients.retain(|patient| {
                let there = dataset.patient(patient).is_some();
                if !there {
                    left_out.push(patient.clone());
                }
                there
            });
        }
        for fold in &mut self.folds {
            fold.retain(|patient| dataset.patient(patient).is_some());
        }
        self.check()?;
        Ok((self, left_out))
    }

    /// The split whose validation patients are those of one fold (from 0), trained on the other folds.
    ///
    /// # Errors
    /// [`SplitError::NoSuchFold`].
    pub fn fold(&self, fold: usize) -> Result<Self, SplitError> {
        let Some(validation) = self.folds.get(fold) else {
            return Err(SplitError::NoSuchFold {
                fold,
                folds: self.folds.len(),
            });
        };
        Ok(Self {
            train: self
                .folds
                .iter()
                .enumerate()
                .filter(|&(i, _)| i != fold)
                .flat_map(|(_, patients)| patients.iter().cloned())
                .collect(),
            validation: validation.clone(),
            ..self.clone()
        })
    }

    /// The split by which a model of all folds is trained: validation patients train, and nobody is left to validate on,
    /// so that no list of validation patients passes for one that the model has not seen.
    #[must_use]
    pub fn all_folds(&self) -> Self {
        Self {
            train: [self.train.as_slice(), &self.validation].concat(),
            validation: Vec::new(),
            ..self.clone()
        }
    }

    /// The split of a run that trains on `folds`; the whole split as it is where there are none.
    ///
    /// # Errors
    /// [`SplitError::NoSuchFold`].
    pub fn of_folds(self, folds: Option<Folds>) -> Result<Self, SplitError> {
        match folds {
            None => Ok(self),
            Some(Folds::AllBut(fold)) => self.fold(fold),
            Some(Folds::All) => Ok(self.all_folds()),
        }
    }

    /// The split of a last cross-validation, once nothing is chosen any more: the test patients train too, and are dealt
    /// out to the folds, which keep the patients that they have.
    ///
    /// Ordered by institution and share of tumour slices, they go to one fold after the other, the smallest first.
    /// `patients` are those of the data set, in any order.
    ///
    /// # Errors
    /// [`SplitError::NoFolds`]; [`SplitError::EmptyList`] where nobody is for testing; [`SplitError::NoSummary`] for a test
    /// patient who is not among `patients`.
    pub fn with_test_in_folds(&self, patients: &[PatientSummary]) -> Result<Self, SplitError> {
        if self.folds.is_empty() {
            return Err(SplitError::NoFolds);
        }
        if self.test.is_empty() {
            return Err(SplitError::EmptyList {
                list: "test".to_owned(),
            });
        }
        let mut test = self
            .test
            .iter()
            .map(|id| {
                let summary = patients.iter().find(|patient| patient.id == *id);
                summary.ok_or_else(|| SplitError::NoSummary {
                    patient: id.clone(),
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        test.sort_by(|a, b| by_stratum(a, b));
        let mut split = Self {
            note: "the test patients of another split are in its folds: for a last cross-validation over everybody".to_owned(),
            ..self.clone()
        };
        split.train.append(&mut split.test);
        let mut smallest_first: Vec<&mut Vec<String>> = split.folds.iter_mut().collect();
        smallest_first.sort_by_key(|fold| fold.len());
        let folds = smallest_first.len();
        for (position, patient) in test.into_iter().enumerate() {
            smallest_first[position % folds].push(patient.id.clone());
        }
        split.check()?;
        Ok(split)
    }

    /// SHA-256 over the lists and folds in their order, as 64 hexadecimal digits; `data_set` and `note` do not count.
    #[must_use]
    pub fn digest(&self) -> String {
        let lists = serde_json::json!([self.train, self.validation, self.test, self.folds]);
        sha256_hex(lists.to_string().as_bytes())
    }

    /// Deals the patients out 80/10/10, and train + validation into `folds` folds (0 for none).
    ///
    /// Patients are ordered by institution (see [`institution`]) and, within it, by share of tumour slices;
    /// neighbours change places at random, then the order is dealt out like cards: of every ten in a row one
    /// validates and one tests. So every institution has its tenth, rounded up or down, in validation and in test, and
    /// few and many tumour slices are spread alike; the same holds for the folds. Fewer than ten patients give one
    /// each to validation and test. The same summaries (in any order) and seed give the same split.
    ///
    /// # Errors
    /// [`SplitError::TooFewPatients`] for fewer than 3 patients, or fewer than `folds` to train and validate;
    /// [`SplitError::OneFold`]; [`SplitError::NamedTwice`].
    pub fn make(patients: &[PatientSummary], folds: usize, seed: u64) -> Result<Self, SplitError> {
        let period = patients.len().min(PERIOD);
        if period < 3 {
            return Err(SplitError::TooFewPatients {
                patients: patients.len(),
                needed: 3,
            });
        }
        if folds == 1 {
            return Err(SplitError::OneFold);
        }
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let order = stratified_order(patients, &mut rng);

        let mut places: Vec<usize> = (0..period).collect();
        places.shuffle(&mut rng);
        let mut split = Self {
            data_set: String::new(),
            note: format!(
                "80/10/10 by patient, stratified by institution and share of tumour slices, seed {seed}"
            ),
            train: Vec::new(),
            validation: Vec::new(),
            test: Vec::new(),
            folds: Vec::new(),
        };
        let mut chosen_from = Vec::new();
        for (i, patient) in order.into_iter().enumerate() {
            if i % period == places[1] {
                split.test.push(patient.id.clone());
                continue;
            }
            chosen_from.push(patient.id.as_str());
            if i % period == places[0] {
                split.validation.push(patient.id.clone());
            } else {
                split.train.push(patient.id.clone());
            }
        }
        if folds > chosen_from.len() {
            return Err(SplitError::TooFewPatients {
                patients: chosen_from.len(),
                needed: folds,
            });
        }
        if folds > 0 {
            let mut labels: Vec<usize> = (0..folds).collect();
            labels.shuffle(&mut rng);
            split.folds = vec![Vec::new(); folds];
            for (i, patient) in chosen_from.into_iter().enumerate() {
                split.folds[labels[i % folds]].push(patient.to_owned());
            }
        }
        for list in [&mut split.train, &mut split.validation, &mut split.test]
            .into_iter()
            .chain(&mut split.folds)
        {
            list.sort_unstable();
        }
        split.check()?;
        Ok(split)
    }

    fn lists(&self) -> [(&'static str, &[String]); 3] {
        [
            ("train", &self.train),
            ("validation", &self.validation),
            ("test", &self.test),
        ]
    }
}

/// The institution of a TCGA patient: `CS` for `TCGA_CS_4941_19960909`; empty for names of another form.
///
/// The second field of a TCGA barcode is the tissue source site.
#[must_use]
pub fn institution(patient: &str) -> &str {
    patient
        .strip_prefix("TCGA_")
        .and_then(|rest| rest.split_once('_'))
        .map(|(site, _)| site)
        .filter(|site| site.len() == 2 && site.bytes().all(|b| b.is_ascii_alphanumeric()))
        .unwrap_or("")
}

/// Enters the patients of a list, refusing who was entered before.
fn once_each<'a>(
    entered: &mut HashMap<&'a str, &'a str>,
    list: &'a str,
    patients: &'a [String],
) -> Result<(), SplitError> {
    for patient in patients {
        if let Some(first) = entered.insert(patient, list) {
            return Err(SplitError::NamedTwice {
                patient: patient.clone(),
                first: first.to_owned(),
                second: list.to_owned(),
            });
        }
    }
    Ok(())
}

/// The order of patients by institution, then by tumour share.
fn by_stratum(a: &PatientSummary, b: &PatientSummary) -> Ordering {
    institution(&a.id)
        .cmp(institution(&b.id))
        .then_with(|| a.tumour_share().total_cmp(&b.tumour_share()))
        .then_with(|| a.id.cmp(&b.id))
}

/// By institution, then by tumour share, with neighbours of one institution shuffled in windows.
fn stratified_order<'a>(
    patients: &'a [PatientSummary],
    rng: &mut ChaCha8Rng,
) -> Vec<&'a PatientSummary> {
    let mut order: Vec<&PatientSummary> = patients.iter().collect();
    order.sort_by(|a, b| by_stratum(a, b));
    for stratum in order.chunk_by_mut(|a, b| institution(&a.id) == institution(&b.id)) {
        for window in stratum.chunks_mut(WINDOW) {
            window.shuffle(rng);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn summary(id: &str, slices: usize, tumour_slices: usize) -> PatientSummary {
        PatientSummary {
            id: id.to_owned(),
            slices,
            tumour_slices,
        }
    }

    /// Patients of up to four institutions (one of them without a TCGA name), in no order.
    fn patients() -> impl Strategy<Value = Vec<PatientSummary>> {
        let patient = (0..4usize, 0..=40usize);
        prop::collection::vec(patient, 10..120).prop_map(|drawn| {
            let prefixes = ["TCGA_CS_", "TCGA_DU_", "TCGA_HT_", "case-"];
            drawn
                .into_iter()
                .enumerate()
                .map(|(i, (site, tumour))| {
                    summary(&format!("{}{i}_1999", prefixes[site]), 40, tumour)
                })
                .collect()
        })
    }

    fn by_institution(ids: &[String]) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for id in ids {
            *counts.entry(institution(id)).or_default() += 1;
        }
        counts
    }

    proptest! {
        #[test]
        fn everybody_is_dealt_once_and_every_institution_gets_its_share(
            patients in patients(), folds in 2..6usize, seed: u64,
        ) {
            let split = Split::make(&patients, folds, seed).unwrap();
            split.check().unwrap();
            let dealt: BTreeSet<_> = split.lists().into_iter().flat_map(|(_, ids)| ids).collect();
            prop_assert_eq!(dealt.len(), patients.len());

            let everybody: Vec<_> = patients.iter().map(|p| p.id.clone()).collect();
            let fewest = |n: usize, of: usize| n / of;
            for (site, n) in by_institution(&everybody) {
                for list in [&split.validation, &split.test] {
                    let share = by_institution(list).get(site).copied().unwrap_or(0);
                    prop_assert!((fewest(n, 10)..=n.div_ceil(10)).contains(&share));
                }
            }
            let chosen_from = [split.train.clone(), split.validation.clone()].concat();
            for (site, n) in by_institution(&chosen_from) {
                for fold in &split.folds {
                    let share = by_institution(fold).get(site).copied().unwrap_or(0);
                    prop_assert!((fewest(n, folds)..=n.div_ceil(folds)).contains(&share));
                }
            }
        }

        #[test]
        fn every_tenth_of_tumour_shares_gives_one_to_validation_and_one_to_test(
            tens in 1..8usize, seed: u64,
        ) {
            let patients: Vec<_> = (0..tens * 10).map(|i| summary(&format!("p{i:03}"), 100, i)).collect();
            let split = Split::make(&patients, 0, seed).unwrap();
            for list in [&split.validation, &split.test] {
                let tenths: Vec<_> = list.iter().map(|id| id[1..].parse::<usize>().unwrap() / 10).collect();
                prop_assert_eq!(tenths, (0..tens).collect::<Vec<_>>());
            }
        }

        #[test]
        fn same_seed_same_split_whatever_the_order(patients in patients(), seed: u64) {
            let split = Split::make(&patients, 5, seed).unwrap();
            let reversed: Vec<_> = patients.iter().rev().cloned().collect();
            prop_assert_eq!(Split::make(&reversed, 5, seed).unwrap(), split);
        }

        #[test]
        fn test_patients_join_the_folds_that_stay(patients in patients(), folds in 2..6usize, seed: u64) {
            let split = Split::make(&patients, folds, seed).unwrap();
            let joined = split.with_test_in_folds(&patients).unwrap();
            joined.check().unwrap();
            prop_assert!(joined.test.is_empty());
            prop_assert_eq!(&joined.validation, &split.validation);
            prop_assert_eq!(joined.folds.iter().map(Vec::len).sum::<usize>(), patients.len());
            for (before, after) in split.folds.iter().zip(&joined.folds) {
                prop_assert_eq!(&after[..before.len()], &before[..]);
            }
            let sizes = || joined.folds.iter().map(Vec::len);
            prop_assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Split::from_json(&bytes);
        }
    }

    /// Pins the random numbers: another version of their crates must not change a published split unnoticed.
    #[test]
    fn a_seed_means_the_same_split_for_ever() {
        let patients: Vec<_> = (0..20)
            .map(|i| summary(&format!("p{i:02}"), 20, i))
            .collect();
        let split = Split::make(&patients, 3, 155).unwrap();
        assert_eq!(
            (split.validation, split.test),
            (
                vec!["p08".to_owned(), "p15".to_owned()],
                vec!["p03".to_owned(), "p10".to_owned()]
            )
        );
    }

    #[test]
    fn another_seed_is_another_split() {
        let patients: Vec<_> = (0..50)
            .map(|i| summary(&format!("p{i}"), 20, i % 20))
            .collect();
        let first = Split::make(&patients, 0, 1).unwrap();
        let second = Split::make(&patients, 0, 2).unwrap();
        assert_ne!(first.test, second.test);
    }

    #[test]
    fn few_patients_still_give_one_each() {
        let patients: Vec<_> = (0..3).map(|i| summary(&format!("p{i}"), 1, 0)).collect();
        let split = Split::make(&patients, 2, 7).unwrap();
        assert_eq!(
            (split.train.len(), split.validation.len(), split.test.len()),
            (1, 1, 1)
        );
        assert!(matches!(
            Split::make(&patients[..2], 0, 7),
            Err(SplitError::TooFewPatients {
                patients: 2,
                needed: 3
            })
        ));
        assert!(matches!(
            Split::make(&patients, 3, 7),
            Err(SplitError::TooFewPatients {
                patients: 2,
                needed: 3
            })
        ));
        assert!(matches!(
            Split::make(&patients, 1, 7),
            Err(SplitError::OneFold)
        ));
    }

    #[test]
    fn a_patient_summarised_twice_is_refused() {
        let mut patients: Vec<_> = (0..20).map(|i| summary(&format!("p{i}"), 1, 0)).collect();
        patients.push(patients[0].clone());
        let error = Split::make(&patients, 0, 1).unwrap_err();
        assert!(
            error.to_string().contains("patient p0 is named twice"),
            "{error}"
        );
    }

    #[test]
    fn institutions_are_those_of_tcga_names() {
        assert_eq!(institution("TCGA_CS_4941_19960909"), "CS");
        for other in ["", "TCGA", "TCGA_CS", "TCGA_LONG_1", "TCGA__1", "case_12_3"] {
            assert_eq!(institution(other), "", "{other}");
        }
    }

    #[test]
    fn refuses_broken_lists_by_name() {
        for (json, said) in [
            (
                r#"{"train":["a","a"],"validation":["b"],"test":[]}"#,
                "patient a is named twice: in train and in train",
            ),
            (
                r#"{"train":["a"],"validation":["b"],"test":["b"]}"#,
                "patient b is named twice: in validation and in test",
            ),
            (
                r#"{"train":[],"validation":["b"],"test":[]}"#,
                "train names no patient",
            ),
            (
                r#"{"train":["a"],"validation":[],"test":[]}"#,
                "validation names no patient",
            ),
            (
                r#"{"train":["a"],"validation":["b"],"test":["c"],"folds":[["a"],["b","a"]]}"#,
                "patient a is named twice: in fold 0 and in fold 1",
            ),
            (
                r#"{"train":["a"],"validation":["b"],"test":["c"],"folds":[["a"],["b","c"]]}"#,
                "patient c is in fold 1",
            ),
            (
                r#"{"train":["a"],"validation":["b"],"test":["c"],"folds":[["a"],["d"]]}"#,
                "patient d is in fold 1",
            ),
            (
                r#"{"train":["a","d"],"validation":["b"],"test":["c"],"folds":[["a"],["b"]]}"#,
                "patient d is in no fold",
            ),
            (
                r#"{"train":["a"],"validation":["b"],"test":["c"],"folds":[["a","b"],[]]}"#,
                "fold 1 names no patient",
            ),
            (
                r#"{"train":["a"],"validation":["b"]}"#,
                "missing field `test`",
            ),
            (
                r#"{"train":["a"],"validation":["b"],"test":[],"fold":[]}"#,
                "unknown field `fold`",
            ),
        ] {
            let error = Split::from_json(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_fold_validates_and_the_others_train() {
        let json =
            br#"{"train":["a","b"],"validation":["c"],"test":["d"],"folds":[["a"],["b"],["c"]]}"#;
        let split = Split::from_json(json).unwrap();
        let fold = split.fold(1).unwrap();
        assert_eq!(fold.validation, ["b"]);
        assert_eq!(fold.train, ["a", "c"]);
        assert_eq!(fold.test, ["d"]);
        fold.check().unwrap();
        assert!(matches!(
            split.fold(3),
            Err(SplitError::NoSuchFold { fold: 3, folds: 3 })
        ));
    }

    #[test]
    fn test_patients_go_to_the_smallest_folds_by_institution_and_share() {
        let json = br#"{"train":["a","b"],"validation":["c"],"test":["TCGA_HT_1_1","TCGA_CS_1_1","TCGA_CS_2_1"],
            "folds":[["a","b"],["c"]]}"#;
        let split = Split::from_json(json).unwrap();
        let known = [
            summary("TCGA_CS_1_1", 10, 9),
            summary("TCGA_CS_2_1", 10, 1),
            summary("TCGA_HT_1_1", 10, 5),
        ];
        let joined = split.with_test_in_folds(&known).unwrap();
        assert_eq!(joined.folds[0], ["a", "b", "TCGA_CS_1_1"]);
        assert_eq!(joined.folds[1], ["c", "TCGA_CS_2_1", "TCGA_HT_1_1"]);
        assert_eq!(joined.train.len(), 5);
        assert!(joined.test.is_empty());

        let refusal = |split: &Split| split.with_test_in_folds(&known).unwrap_err().to_string();
        assert!(refusal(&joined).contains("test names no patient"));
        let plain = Split {
            folds: Vec::new(),
            ..split.clone()
        };
        assert!(refusal(&plain).contains("no folds"));
        let error = split.with_test_in_folds(&known[1..]).unwrap_err();
        assert!(error.to_string().contains("TCGA_CS_1_1"), "{error}");
    }

    #[test]
    fn the_digest_is_of_the_lists_alone() {
        let json = br#"{"train":["a"],"validation":["b"],"test":[]}"#;
        let split = Split::from_json(json).unwrap();
        let noted = Split {
            note: "other words".to_owned(),
            ..split.clone()
        };
        assert_eq!(noted.digest(), split.digest());
        let moved = Split {
            test: vec!["c".to_owned()],
            ..split.clone()
        };
        assert_ne!(moved.digest(), split.digest());
        assert_eq!(split.digest().len(), 64);
    }
}
