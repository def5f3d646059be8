//! The names of studies, patients and slices, checked so that they can stand in a key.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::cloud::ObjectKey;

/// The name of a study: one or more segments of a key, 1 to 512 bytes in all.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StudyId(String);

/// The name of a patient: the first segment of the names of their studies, 1 to 512 bytes.
///
/// Studies `p`, `p/2026-01` and `p/2026-07` are of one patient, `p`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PatientId(String);

/// The name of a slice within its study: one segment of a key, 1 to 480 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SliceName(String);

/// Text that cannot name a study.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is no name of a study: 1 to 512 bytes, without control characters and backslashes, no segment between \
     slashes empty, `.` or `..`"
)]
pub struct InvalidStudyId {
    name: String,
}

/// Text that cannot name a patient.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is no name of a patient: 1 to 512 bytes, without slashes, backslashes and control characters, neither \
     `.` nor `..`"
)]
pub struct InvalidPatientId {
    name: String,
}

/// Text that cannot name a slice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is no name of a slice: 1 to 480 bytes, without slashes, backslashes and control characters, neither `.` \
     nor `..`"
)]
pub struct InvalidSliceName {
    name: String,
}

impl StudyId {
    /// Longest name of a study, in bytes.
    pub const MAX_BYTES: usize = 512;

    /// Checks a study's name.
    ///
    /// # Errors
    ///
    /// [`InvalidStudyId`] where it is too long, or no object's key either.
    pub fn parse(name: &str) -> Result<Self, InvalidStudyId> {
        if name.len() <= Self::MAX_BYTES && ObjectKey::parse(name).is_ok() {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidStudyId {
                name: name.to_owned(),
            })
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl PatientId {
    /// The patient of a study.
    #[must_use]
    pub fn of(study: &StudyId) -> Self {
        let name = study.as_str();
        let end = name.find('/').unwrap_or(name.len());
        Self(name[..end].to_owned())
    }

    /// Checks a patient's name.
    ///
    /// # Errors
    ///
    /// [`InvalidPatientId`] where it is too long, or cannot be one segment of a key.
    pub fn parse(name: &str) -> Result<Self, InvalidPatientId> {
        match StudyId::parse(name) {
            Ok(study) if !name.contains('/') => Ok(Self::of(&study)),
            _ => Err(InvalidPatientId {
                name: name.to_owned(),
            }),
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SliceName {
    /// Longest name of a slice, in bytes: with the longest study and any kind of result it still makes a key.
    pub const MAX_BYTES: usize = 480;

    /// Checks a slice's name.
    ///
    /// # Errors
    ///
    /// [`InvalidSliceName`] where it is too long, or cannot be one segment of a key.
    pub fn parse(name: &str) -> Result<Self, InvalidSliceName> {
        if name.len() <= Self::MAX_BYTES && !name.contains('/') && ObjectKey::parse(name).is_ok() {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidSliceName {
                name: name.to_owned(),
            })
        }
    }

    /// The name of one page, counted from 1, of a file of several: `<name>_page_<number>`.
    ///
    /// # Errors
    ///
    /// [`InvalidSliceName`] where the name becomes too long by it.
    pub fn page(&self, number: usize) -> Result<Self, InvalidSliceName> {
        Self::parse(&format!("{self}_page_{number}"))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text {
    ($name:ident, $error:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                Self::parse(name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(name: String) -> Result<Self, Self::Error> {
                Self::parse(&name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }
    };
}

text!(StudyId, InvalidStudyId);
text!(PatientId, InvalidPatientId);
text!(SliceName, InvalidSliceName);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_study_is_segments_and_a_slice_is_one() {
        for name in [
            "TCGA_CS_4941_19960909",
            "clinic 1/2026/ünï + 50 %",
            "...",
            &"s".repeat(512),
        ] {
            assert_eq!(StudyId::parse(name).unwrap().as_str(), name);
        }
        for name in [
            "",
            "/",
            "a/",
            "/a",
            "a//b",
            "..",
            "a/../b",
            "a\\b",
            "a\nb",
            &"s".repeat(513),
        ] {
            let error = StudyId::parse(name).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name:?}")), "{error}");
        }
        for name in ["a", "slice 1.final", "ü", &"s".repeat(480)] {
            assert_eq!(SliceName::parse(name).unwrap().as_str(), name);
        }
        for name in ["", "a/b", ".", "..", "a\u{7f}", &"s".repeat(481)] {
            let error = SliceName::parse(name).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name:?}")), "{error}");
        }
    }

    #[test]
    fn a_patient_is_the_first_segment_of_a_study() {
        for study in ["p", "p/2026-01", "p/2026/1"] {
            let patient = PatientId::of(&StudyId::parse(study).unwrap());
            assert_eq!(patient, PatientId::parse("p").unwrap());
        }
        for name in ["", "a/b", "..", "a\\b", &"p".repeat(513)] {
            let error = PatientId::parse(name).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name:?}")), "{error}");
        }
    }

    #[test]
    fn pages_count_from_their_file() {
        let name = SliceName::parse("stack").unwrap();
        assert_eq!(name.page(12).unwrap().as_str(), "stack_page_12");
        assert!(SliceName::parse(&"s".repeat(475)).unwrap().page(1).is_err());
    }

    #[test]
    fn a_document_with_a_bad_name_is_not_read() {
        let study: StudyId = serde_json::from_str("\"a/b\"").unwrap();
        assert_eq!(serde_json::to_string(&study).unwrap(), "\"a/b\"");
        assert!(serde_json::from_str::<StudyId>("\"a/../b\"").is_err());
        assert!(serde_json::from_str::<SliceName>("\"a/b\"").is_err());
    }
}
