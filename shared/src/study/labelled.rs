//! Who is in the labelled data set that training reads, and what for: `labelled/manifest.json`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::document::Document;
use super::figures::is_sha256;
use crate::cloud::keys::PatientId;
use crate::digest::sha256_hex;
use crate::model::contract::NOTICE;

/// Most patients that a manifest tells of, those withdrawn among them.
const MAX_PATIENTS: usize = 50_000;

/// Of so many patients one validates and one tests.
const PERIOD: u64 = 10;

/// What a patient's slices are for. Slices of one patient are never for two of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Subset {
    /// To learn from.
    Train,
    /// To choose among models by.
    Validation,
    /// To be measured on once a model is chosen.
    Test,
}

impl Subset {
    /// What a patient who was never seen before is for: of ten one validates, one tests, eight train.
    ///
    /// The first eight bytes of the SHA-256 of the name, as a big-endian number, modulo 10 decide: 0 validates, 1 tests.
    /// It depends on nobody else, so that the same patients are dealt out alike in whatever order they come. For the
    /// same reason a few patients may leave validation or test without any.
    #[must_use]
    pub fn of(patient: &PatientId) -> Self {
        let digest: [u8; 32] = Sha256::digest(patient.as_str()).into();
        let [a, b, c, d, e, f, g, h, ..] = digest;
        match u64::from_be_bytes([a, b, c, d, e, f, g, h]) % PERIOD {
            0 => Self::Validation,
            1 => Self::Test,
            _ => Self::Train,
        }
    }
}

impl fmt::Display for Subset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        })
    }
}

/// What is known of a patient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing yet.
    Unknown,
    /// A member of the data set, perhaps without slices at the moment.
    Enrolled(Subset),
    /// Withdrawn for good: nothing of theirs is collected.
    Withdrawn,
}

/// Why a patient cannot be added to a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotEnrolled {
    /// The patient was withdrawn.
    #[error("the patient was withdrawn from the labelled data set")]
    Withdrawn,
    /// The manifest tells of as many patients as one can.
    #[error(
        "the labelled data set has {MAX_PATIENTS} patients, the most there can be: start another with a stack of its own"
    )]
    Full,
}

/// The patients of the data set with what each is for, and those who were withdrawn.
///
/// It is about patients alone: which slices there are of each, the data set's folders tell. A patient stays with its
/// subset when all slices are deleted, so that the same patient comes back to the same one; of those withdrawn only the
/// SHA-256 of the name is kept, by which they are known should they come again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    schema: Schema,
    /// The name of each patient's folder, and what its slices are for.
    patients: BTreeMap<PatientId, Subset>,
    /// SHA-256 of the name of each patient who was withdrawn.
    withdrawn: BTreeSet<String>,
    /// Limits of use.
    notice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Schema {
    #[serde(rename = "glioseg-labelled-1")]
    V1,
}

/// Patients by what they are for, each list in the order of the names' bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Split {
    /// Patients to learn from.
    pub train: Vec<String>,
    /// Patients to choose among models by.
    pub validation: Vec<String>,
    /// Patients to be measured on once a model is chosen.
    pub test: Vec<String>,
}

impl Default for Manifest {
    /// Nobody is enrolled, nobody withdrawn.
    fn default() -> Self {
        Self {
            schema: Schema::V1,
            patients: BTreeMap::new(),
            withdrawn: BTreeSet::new(),
            notice: NOTICE.to_owned(),
        }
    }
}

impl Document for Manifest {
    const NAME: &'static str = "manifest of the labelled data set";
    const MAX_BYTES: u64 = 16 << 20;

    fn check(&self) -> Result<(), String> {
        if let Some(digest) = self.withdrawn.iter().find(|digest| !is_sha256(digest)) {
            return Err(format!("withdrawn has {digest:?}, which is no SHA-256"));
        }
        if self.withdrawn.is_empty() {
            return Ok(());
        }
        let is_both = |patient: &&PatientId| self.withdrawn.contains(&digest(patient));
        match self.patients.keys().find(is_both) {
            Some(patient) => Err(format!(
                "{patient} is both among patients and among withdrawn"
            )),
            None => Ok(()),
        }
    }
}

impl Manifest {
    /// What is known of a patient.
    #[must_use]
    pub fn standing(&self, patient: &PatientId) -> Standing {
        match self.patients.get(patient) {
            Some(subset) => Standing::Enrolled(*subset),
            None if self.withdrawn.contains(&digest(patient)) => Standing::Withdrawn,
            None => Standing::Unknown,
        }
    }

    /// Adds a patient, unless already there, as what [`Subset::of`] says; returns what the patient is for.
    ///
    /// # Errors
    /// [`NotEnrolled`], and nothing is changed.
    pub fn enrol(&mut self, patient: &PatientId) -> Result<Subset, NotEnrolled> {
        match self.standing(patient) {
            Standing::Enrolled(subset) => Ok(subset),
            Standing::Withdrawn => Err(NotEnrolled::Withdrawn),
            Standing::Unknown if self.patients.len() + self.withdrawn.len() >= MAX_PATIENTS => {
                Err(NotEnrolled::Full)
            }
            Standing::Unknown => {
                let subset = Subset::of(patient);
                self.patients.insert(patient.clone(), subset);
                Ok(subset)
            }
        }
    }

    /// Notes that a patient was withdrawn, and forgets the name; whether that was known already or not.
    ///
    /// It is possible in a manifest that is full, too.
    pub fn withdraw(&mut self, patient: &PatientId) {
        self.patients.remove(patient);
        self.withdrawn.insert(digest(patient));
    }

    /// Number of patients who were withdrawn.
    #[must_use]
    pub fn withdrawn(&self) -> usize {
        self.withdrawn.len()
    }

    /// The patients that `has_slices` is true of, by what they are for.
    ///
    /// Asking is necessary: a patient stays enrolled when all slices are deleted.
    pub fn split(&self, mut has_slices: impl FnMut(&str) -> bool) -> Split {
        let mut split = Split::default();
        for (patient, subset) in &self.patients {
            if !has_slices(patient.as_str()) {
                continue;
            }
            let list = match subset {
                Subset::Train => &mut split.train,
                Subset::Validation => &mut split.validation,
                Subset::Test => &mut split.test,
            };
            list.push(patient.to_string());
        }
        split
    }
}

/// By what a patient is known who was withdrawn: a name is told again by it, but not told by it.
fn digest(patient: &PatientId) -> String {
    sha256_hex(patient.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn patient(name: impl AsRef<str>) -> PatientId {
        PatientId::parse(name.as_ref()).unwrap()
    }

    fn all_but(manifest: &Manifest, absent: &str) -> Split {
        manifest.split(|patient| patient != absent)
    }

    #[test]
    fn eight_of_ten_train_one_validates_and_one_tests() {
        let mut manifest = Manifest::default();
        for i in 0..10_000 {
            manifest.enrol(&patient(format!("p{i}"))).unwrap();
        }
        let split = manifest.split(|_| true);
        assert_eq!(
            split.train.len() + split.validation.len() + split.test.len(),
            10_000
        );
        // Four standard deviations of a binomial distribution: 4 * sqrt(10,000 * 0.1 * 0.9) = 120.
        for list in [&split.validation, &split.test] {
            assert!((880..=1120).contains(&list.len()), "{}", list.len());
        }
    }

    #[test]
    fn the_name_alone_decides() {
        // Of `printf a | sha256sum` the first 16 digits, modulo 10, are 0; of b 6; of p3 1.
        for (name, subset) in [
            ("a", Subset::Validation),
            ("b", Subset::Train),
            ("p3", Subset::Test),
            ("TCGA_CS_4941_19960909", Subset::Train),
        ] {
            assert_eq!(Subset::of(&patient(name)), subset, "{name}");
        }
    }

    #[test]
    fn whoever_comes_first_the_bytes_are_the_same() {
        let names = ["p3", "p1", "p2", "p10"].map(patient);
        let manifest = |order: &[usize]| {
            let mut manifest = Manifest::default();
            for &i in order {
                manifest.enrol(&names[i]).unwrap();
            }
            manifest.withdraw(&patient("gone"));
            manifest.to_json()
        };
        assert_eq!(manifest(&[0, 1, 2, 3]), manifest(&[3, 1, 0, 2, 2, 0]));
    }

    #[test]
    fn a_patient_stays_where_the_manifest_has_it() {
        let name = patient("p");
        let other = match Subset::of(&name) {
            Subset::Test => Subset::Train,
            _ => Subset::Test,
        };
        let json = format!(
            r#"{{"schema":"glioseg-labelled-1","patients":{{"p":"{other}"}},"withdrawn":[],"notice":""}}"#
        );
        let mut manifest = Manifest::from_json(json.as_bytes()).unwrap();
        assert_eq!(manifest.enrol(&name), Ok(other));
        assert_eq!(manifest.standing(&name), Standing::Enrolled(other));
    }

    #[test]
    fn who_was_withdrawn_is_not_enrolled_again_and_not_named() {
        let name = patient("Jane");
        let mut manifest = Manifest::default();
        assert_eq!(manifest.standing(&name), Standing::Unknown);
        manifest.enrol(&name).unwrap();
        manifest.withdraw(&name);
        manifest.withdraw(&name);
        assert_eq!(manifest.standing(&name), Standing::Withdrawn);
        assert_eq!(manifest.enrol(&name), Err(NotEnrolled::Withdrawn));
        assert_eq!(manifest.withdrawn(), 1);
        assert_eq!(manifest.split(|_| true), Split::default());
        let json = manifest.to_json();
        assert!(!String::from_utf8_lossy(&json).contains("Jane"));
        assert_eq!(Manifest::from_json(&json).unwrap(), manifest);
    }

    #[test]
    fn who_has_no_slices_is_in_no_list() {
        let mut manifest = Manifest::default();
        for name in ["p2", "p1", "p3"] {
            manifest.enrol(&patient(name)).unwrap();
        }
        let split = all_but(&manifest, "p3");
        let mut listed = [split.train, split.validation, split.test].concat();
        listed.sort_unstable();
        assert_eq!(listed, ["p1", "p2"]);
    }

    #[test]
    fn a_full_manifest_takes_withdrawals_and_nobody_else() {
        let mut manifest = Manifest::default();
        for i in 0..MAX_PATIENTS {
            manifest.enrol(&patient(format!("{i}"))).unwrap();
        }
        assert_eq!(manifest.enrol(&patient("new")), Err(NotEnrolled::Full));
        assert!(manifest.enrol(&patient("0")).is_ok());
        manifest.withdraw(&patient("new"));
        assert_eq!(manifest.standing(&patient("new")), Standing::Withdrawn);
        // Names as long, and with as many bytes in JSON, as a folder's can be.
        let longest = 50_000 * (2 * 128 + "\"\":\"validation\",".len());
        assert!((longest as u64) < Manifest::MAX_BYTES);
    }

    #[test]
    fn what_contradicts_itself_is_not_read() {
        let manifest = |patients: &str, withdrawn: &str| {
            let json = format!(
                r#"{{"schema":"glioseg-labelled-1","patients":{patients},"withdrawn":{withdrawn},"notice":""}}"#
            );
            Manifest::from_json(json.as_bytes())
        };
        let jane = format!(r#"["{}"]"#, digest(&patient("Jane")));
        assert!(manifest(r#"{"Joe":"train"}"#, &jane).is_ok());
        for (patients, withdrawn, named) in [
            (r#"{"Jane":"train"}"#, jane.as_str(), "Jane"),
            ("{}", r#"["Jane"]"#, "no SHA-256"),
            (r#"{"a/b":"train"}"#, "[]", "a/b"),
            (r#"{"Jane":"training"}"#, "[]", "training"),
        ] {
            let error = manifest(patients, withdrawn).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
