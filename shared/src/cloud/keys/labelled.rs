//! Where the labelled data set lies that training reads: slices beside their truth, a folder for each patient.
//!
//! The layout is that of the LGG segmentation data set, `labelled/<patient>/<file>.tif` beside
//! `labelled/<patient>/<file>_mask.tif`, so that whoever downloads `labelled/` has what training reads.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::layout;
use super::names::{PatientId, SliceName, StudyId};
use crate::cloud::ObjectKey;

/// First segment of all keys of the data set.
const FOLDER: &str = "labelled";

/// The name that tells a mask's file from its slice's.
const MASK_SUFFIX: &str = "_mask";

const EXTENSION: &str = ".tif";

/// Longest name of a patient's folder, in bytes: 50,000 of them, and more, make a manifest of less than 16 MiB.
const MAX_PATIENT_BYTES: usize = 128;

/// Longest name of a file without `_mask.tif`, in bytes: file systems take names of 255.
const MAX_STEM_BYTES: usize = 240;

/// Names that mean something else beside the patients' folders, or to those who read them.
const RESERVED: [&str; 3] = ["manifest.json", "split.json", "kaggle_3m"];

/// A slice whose names make a place in the labelled data set.
///
/// The patient is the first segment of the study's name. The rest of it stands in the file's name, percent-encoded
/// together with the slice, so that no two slices of a patient's studies share one: slice `x_1` of study `p` is
/// `labelled/p/x_1.tif`, of study `p/visit 2` it is `labelled/p/visit 2%2Fx_1.tif`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LabelledSlice {
    study: StudyId,
    slice: SliceName,
    patient: PatientId,
    stem: String,
}

/// Which of the two files of a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LabelledFile {
    /// The slice.
    Image,
    /// Its true mask.
    Mask,
}

/// Why a slice has no place in the labelled data set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotCollectable {
    /// The patient's name cannot be that of a folder of the data set.
    #[error(
        "{patient}, the first segment of the study's name, cannot name a patient of the labelled data set: it has to \
         be 1 to {MAX_PATIENT_BYTES} bytes, not beginning with a dot, and not `manifest.json`, `split.json` or \
         `kaggle_3m`"
    )]
    Patient {
        /// The name.
        patient: PatientId,
    },
    /// Study and slice together are too long.
    #[error(
        "study and slice have names of more than {MAX_STEM_BYTES} bytes together: they cannot be that of a file of the \
         labelled data set"
    )]
    TooLong,
}

impl LabelledSlice {
    /// The place of a slice.
    ///
    /// # Errors
    ///
    /// [`NotCollectable`] where its names cannot be those of a folder and a file on every system.
    pub fn new(study: &StudyId, slice: &SliceName) -> Result<Self, NotCollectable> {
        let patient = PatientId::of(study);
        let name = patient.as_str();
        if name.len() > MAX_PATIENT_BYTES || name.starts_with('.') || RESERVED.contains(&name) {
            return Err(NotCollectable::Patient { patient });
        }
        let stem = match study.as_str().split_once('/') {
            Some((_, rest)) => stem(&format!("{rest}/{slice}")),
            None => stem(slice.as_str()),
        };
        if stem.len() > MAX_STEM_BYTES {
            return Err(NotCollectable::TooLong);
        }
        Ok(Self {
            study: study.clone(),
            slice: slice.clone(),
            patient,
            stem,
        })
    }

    /// The study that the slice belongs to.
    #[must_use]
    pub fn study(&self) -> &StudyId {
        &self.study
    }

    /// The slice's name within its study.
    #[must_use]
    pub fn slice(&self) -> &SliceName {
        &self.slice
    }

    /// The patient.
    #[must_use]
    pub fn patient(&self) -> &PatientId {
        &self.patient
    }

    /// Where one of its files lies.
    #[must_use]
    pub fn key(&self, file: LabelledFile) -> ObjectKey {
        let suffix = match file {
            LabelledFile::Image => "",
            LabelledFile::Mask => MASK_SUFFIX,
        };
        layout(format!(
            "{}{}{suffix}{EXTENSION}",
            labelled_prefix(&self.patient),
            self.stem
        ))
    }
}

/// Which patient is for what, and who was withdrawn: `labelled/manifest.json`.
#[must_use]
pub fn labelled_manifest() -> ObjectKey {
    layout(format!("{FOLDER}/manifest.json"))
}

/// What the keys of a patient's files start with: `labelled/<patient>/`.
#[must_use]
pub fn labelled_prefix(patient: &PatientId) -> String {
    format!("{FOLDER}/{patient}/")
}

/// Tells whose file of the labelled data set an object is: the inverse of [`LabelledSlice::key`].
///
/// `None` for any other key.
#[must_use]
pub fn parse_labelled(key: &ObjectKey) -> Option<(LabelledSlice, LabelledFile)> {
    let (patient, file) = key
        .as_str()
        .strip_prefix(FOLDER)?
        .strip_prefix('/')?
        .split_once('/')?;
    let stem = file.strip_suffix(EXTENSION)?;
    let (stem, file) = match stem.strip_suffix(MASK_SUFFIX) {
        Some(stem) => (stem, LabelledFile::Mask),
        None => (stem, LabelledFile::Image),
    };
    let name = percent_decode_str(stem).decode_utf8().ok()?;
    let (study, slice) = match name.rsplit_once('/') {
        Some((rest, slice)) => (Cow::Owned(format!("{patient}/{rest}")), slice),
        None => (Cow::Borrowed(patient), name.as_ref()),
    };
    let slice = LabelledSlice::new(
        &StudyId::parse(&study).ok()?,
        &SliceName::parse(slice).ok()?,
    );
    // A name may be encoded in several ways, of which one is that of the data set.
    slice
        .ok()
        .filter(|slice| slice.key(file) == *key)
        .map(|slice| (slice, file))
}

/// A name as that of a file: no slash in it, neither hidden nor like a mask's.
fn stem(name: &str) -> String {
    let mut stem = name.replace('%', "%25").replace('/', "%2F");
    if stem.starts_with('.') {
        stem.replace_range(..1, "%2E");
    }
    let suffix = stem.len().saturating_sub(MASK_SUFFIX.len());
    if stem
        .get(suffix..)
        .is_some_and(|end| end.eq_ignore_ascii_case(MASK_SUFFIX))
    {
        stem.replace_range(suffix..=suffix, "%5F");
    }
    stem
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn labelled(study: &str, slice: &str) -> Result<LabelledSlice, NotCollectable> {
        LabelledSlice::new(
            &StudyId::parse(study).unwrap(),
            &SliceName::parse(slice).unwrap(),
        )
    }

    #[test]
    fn files_lie_where_the_layout_says() {
        for (study, slice, stem) in [
            ("p", "x_1", "p/x_1"),
            ("p", "x 1%", "p/x 1%25"),
            ("p", ".x", "p/%2Ex"),
            ("p", "x_mask", "p/x%5Fmask"),
            ("p", "_MASK", "p/%5FMASK"),
            ("p", "mask", "p/mask"),
            ("p", "ü", "p/ü"),
            ("p/visit 2", "x_1", "p/visit 2%2Fx_1"),
            ("p/a/b", "c", "p/a%2Fb%2Fc"),
            ("p/.a", "b", "p/%2Ea%2Fb"),
        ] {
            let labelled = labelled(study, slice).unwrap();
            assert_eq!(labelled.patient().as_str(), "p");
            assert_eq!(
                labelled.key(LabelledFile::Image).as_str(),
                format!("labelled/{stem}.tif")
            );
            assert_eq!(
                labelled.key(LabelledFile::Mask).as_str(),
                format!("labelled/{stem}_mask.tif")
            );
        }
        assert_eq!(labelled_manifest().as_str(), "labelled/manifest.json");
    }

    #[test]
    fn a_name_that_no_folder_or_file_can_have_has_no_place() {
        for study in [
            ".hidden",
            "manifest.json",
            "split.json/visit",
            "kaggle_3m",
            &"p".repeat(129),
        ] {
            let error = labelled(study, "x").unwrap_err();
            assert!(matches!(error, NotCollectable::Patient { .. }), "{study}");
        }
        assert!(labelled(&"p".repeat(128), &"x".repeat(240)).is_ok());
        assert_eq!(
            labelled("p", &"x".repeat(241)),
            Err(NotCollectable::TooLong)
        );
        // Three bytes each once encoded.
        assert_eq!(labelled("p", &"%".repeat(81)), Err(NotCollectable::TooLong));
    }

    #[test]
    fn other_keys_are_none_of_the_data_set() {
        for key in [
            "labelled",
            "labelled/manifest.json",
            "labelled/x.tif",
            "labelled/p/.x.tif",
            "labelled/p/x.png",
            "labelled/p/a/x.tif",
            "labelled/p/x%20y.tif",
            "labelled/p/a%2fx.tif",
            "labelled/p/%FF.tif",
            "labelled/p/_mask.tif",
            "truth/p/x.tif",
        ] {
            let key = ObjectKey::parse(key).unwrap();
            assert_eq!(parse_labelled(&key), None, "{key}");
        }
    }

    proptest! {
        #[test]
        fn no_two_slices_share_a_file(
            study in "[a-z%._]{1,3}(/[a-z%._]{1,3}){0,2}",
            slice in "[a-z%._]{1,6}(_mask)?",
        ) {
            let (Ok(study), Ok(slice)) = (StudyId::parse(&study), SliceName::parse(&slice)) else {
                return Ok(());
            };
            let Ok(labelled) = LabelledSlice::new(&study, &slice) else {
                return Ok(());
            };
            for file in [LabelledFile::Image, LabelledFile::Mask] {
                // What can be read back from its key alone shares it with no other.
                let read = parse_labelled(&labelled.key(file));
                prop_assert_eq!(read, Some((labelled.clone(), file)));
            }
        }
    }
}
