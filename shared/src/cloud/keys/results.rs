//! Where the objects of the results bucket lie, and what one is by its key.

use super::layout;
use super::names::{PatientId, SliceName, StudyId};
use crate::cloud::ObjectKey;
use crate::digest::sha256_hex;

/// What an object of the results bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResultKind {
    /// `prepared/<study>/<slice>.png`: a slice, checked and ready to be segmented.
    Prepared,
    /// `truth/<study>/<slice>.tif`: the true mask of a slice.
    Truth,
    /// `masks/<study>/<slice>.tif`: the predicted mask of a slice.
    Mask,
    /// `overlays/<study>/<slice>.png`: the slice with the outline of its mask.
    Overlay,
    /// `probabilities/<study>/<slice>.png`: the slice under its heat map.
    Probability,
    /// `reports/<study>/<slice>.json`: what was found in a slice.
    Report,
    /// `scores/<study>/<slice>.json`: what the mask of a slice is worth.
    Score,
    /// `rejected/<study>/<upload file>.json`: why an upload was set aside.
    Rejected,
    /// `studies/<study>/study.json`: the checked copy of the study's manifest.
    Manifest,
    /// `studies/<study>/completed.json`: the study is done.
    Completed,
}

impl ResultKind {
    /// Every kind, in the order in which they are derived from each other.
    pub const ALL: [Self; 10] = [
        Self::Manifest,
        Self::Prepared,
        Self::Truth,
        Self::Mask,
        Self::Overlay,
        Self::Probability,
        Self::Report,
        Self::Score,
        Self::Rejected,
        Self::Completed,
    ];

    /// First segment of the keys of this kind.
    fn folder(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Truth => "truth",
            Self::Mask => "masks",
            Self::Overlay => "overlays",
            Self::Probability => "probabilities",
            Self::Report => "reports",
            Self::Score => "scores",
            Self::Rejected => "rejected",
            Self::Manifest | Self::Completed => "studies",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Prepared | Self::Overlay | Self::Probability => ".png",
            Self::Truth | Self::Mask => ".tif",
            Self::Report | Self::Score | Self::Rejected | Self::Manifest | Self::Completed => {
                ".json"
            }
        }
    }

    /// The one name that objects of this kind have, where they are of the study and not of a slice.
    fn only_name(self) -> Option<&'static str> {
        match self {
            Self::Manifest => Some("study"),
            Self::Completed => Some("completed"),
            _ => None,
        }
    }
}

/// What an object of the results bucket is, and whose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ResultKey {
    /// What it is.
    pub kind: ResultKind,
    /// The study that it belongs to.
    pub study: StudyId,
    /// The slice that it is of. Of [`ResultKind::Rejected`] the upload's file name, with its extension (or, of very long
    /// ones, a digest); of [`ResultKind::Manifest`] and [`ResultKind::Completed`] `study` and `completed`.
    pub name: SliceName,
}

impl ResultKey {
    /// The key of the object: what [`parse_result`] read.
    #[must_use]
    pub fn object_key(&self) -> ObjectKey {
        key(self.kind, &self.study, self.name.as_str())
    }
}

/// A slice, checked and ready to be segmented: `prepared/<study>/<slice>.png`.
#[must_use]
pub fn prepared(study: &StudyId, slice: &SliceName) -> ObjectKey {
    key(ResultKind::Prepared, study, slice.as_str())
}

/// The true mask of a slice: `truth/<study>/<slice>.tif`.
#[must_use]
pub fn truth(study: &StudyId, slice: &SliceName) -> ObjectKey {
    key(ResultKind::Truth, study, slice.as_str())
}

/// The predicted mask of a slice: `masks/<study>/<slice>.tif`.
#[must_use]
pub fn mask(study: &StudyId, slice: &SliceName) -> ObjectKey {
    key(ResultKind::Mask, study, slice.as_str())
}

/// A slice with the outline of its mask: `overlays/<study>/<slice>.png`.
#[must_use]
pub fn overlay(study: &StudyId, slice: &SliceName) -> ObjectKey {
    key(ResultKind::Overlay, study, slice.as_str())
}

/// A slice under its heat map: `probabilities/<study>/<slice>.png`.
#[must_use]
pub fn probability(study: &StudyId, slice: &SliceName) -> ObjectKey {
    key(ResultKind::Probability, study, slice.as_str())
}

/// What was found in a slice: `reports/<study>/<slice>.json`.
#[must_use]
pub fn report(study: &StudyId, slice: &SliceName) -> ObjectKey {
    key(ResultKind::Report, study, slice.as_str())
}

/// What the mask of a slice is worth: `scores/<study>/<slice>.json`.
#[must_use]
pub fn score(study: &StudyId, slice: &SliceName) -> ObjectKey {
    key(ResultKind::Score, study, slice.as_str())
}

/// Why an upload of a study was set aside: `rejected/<study>/<file>.json`.
///
/// `file` is the last segment of the upload's key, or the name of an entry of a zip. One that is no [`SliceName`] stands
/// as its SHA-256.
#[must_use]
pub fn rejected(study: &StudyId, file: &str) -> ObjectKey {
    key(ResultKind::Rejected, study, &rejected_name(file))
}

/// Why a prepared slice cannot be segmented: `rejected/<study>/<slice>.png.json`.
#[must_use]
pub fn unsegmentable(study: &StudyId, slice: &SliceName) -> ObjectKey {
    rejected(study, &format!("{slice}.png"))
}

/// Why mask and truth of a slice cannot be compared: `rejected/<study>/<slice>_mask.json`.
#[must_use]
pub fn incomparable(study: &StudyId, slice: &SliceName) -> ObjectKey {
    rejected(study, &format!("{slice}_mask"))
}

/// Why an upload that belongs to no study was set aside: `rejected/<key>.json`, the slashes of its key among it.
///
/// The key of an upload that would be too long stands as its SHA-256.
#[must_use]
pub fn rejected_without_study(upload: &str) -> ObjectKey {
    ObjectKey::parse(format!("rejected/{upload}.json"))
        .unwrap_or_else(|_| layout(format!("rejected/{}.json", sha256_hex(upload.as_bytes()))))
}

/// The checked copy of a study's manifest: `studies/<study>/study.json`.
#[must_use]
pub fn manifest(study: &StudyId) -> ObjectKey {
    key(ResultKind::Manifest, study, "study")
}

/// That a study is done: `studies/<study>/completed.json`.
#[must_use]
pub fn completed(study: &StudyId) -> ObjectKey {
    key(ResultKind::Completed, study, "completed")
}

/// What the keys of a study's objects of one kind start with; those of studies below it start with it too, so that
/// [`parse_result`] has to tell them apart.
#[must_use]
pub fn results_prefix(kind: ResultKind, study: &StudyId) -> String {
    format!("{}/{study}/", kind.folder())
}

/// What the keys of all objects of one kind start with that are of a patient's studies.
#[must_use]
pub fn patient_prefix(kind: ResultKind, patient: &PatientId) -> String {
    format!("{}/{patient}/", kind.folder())
}

/// Tells what an object of the results bucket is: the inverse of the functions that name them.
///
/// `None` for any other key, and for what was set aside from no study.
#[must_use]
pub fn parse_result(key: &ObjectKey) -> Option<ResultKey> {
    let (folder, rest) = key.as_str().split_once('/')?;
    let (study, file) = rest.rsplit_once('/')?;
    let study = StudyId::parse(study).ok()?;
    ResultKind::ALL
        .into_iter()
        .filter(|kind| kind.folder() == folder)
        .find_map(|kind| {
            let name = file.strip_suffix(kind.extension())?;
            if kind.only_name().is_some_and(|only| only != name) {
                return None;
            }
            Some(ResultKey {
                kind,
                study: study.clone(),
                name: SliceName::parse(name).ok()?,
            })
        })
}

fn key(kind: ResultKind, study: &StudyId, name: &str) -> ObjectKey {
    let (folder, extension) = (kind.folder(), kind.extension());
    layout(format!("{folder}/{study}/{name}{extension}"))
}

fn rejected_name(file: &str) -> String {
    match SliceName::parse(file) {
        Ok(name) => name.into(),
        Err(_) => sha256_hex(file.as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn study(name: &str) -> StudyId {
        StudyId::parse(name).unwrap()
    }

    fn slice(name: &str) -> SliceName {
        SliceName::parse(name).unwrap()
    }

    fn parsed(key: &str) -> Option<ResultKey> {
        parse_result(&ObjectKey::parse(key).unwrap())
    }

    #[test]
    fn keys_are_where_the_layout_says() {
        let (study, slice) = (&study("a/b"), &slice("p_1"));
        for (key, expected) in [
            (prepared(study, slice), "prepared/a/b/p_1.png"),
            (truth(study, slice), "truth/a/b/p_1.tif"),
            (mask(study, slice), "masks/a/b/p_1.tif"),
            (overlay(study, slice), "overlays/a/b/p_1.png"),
            (probability(study, slice), "probabilities/a/b/p_1.png"),
            (report(study, slice), "reports/a/b/p_1.json"),
            (score(study, slice), "scores/a/b/p_1.json"),
            (rejected(study, "p_1.tif"), "rejected/a/b/p_1.tif.json"),
            (unsegmentable(study, slice), "rejected/a/b/p_1.png.json"),
            (incomparable(study, slice), "rejected/a/b/p_1_mask.json"),
            (rejected_without_study("p.tif"), "rejected/p.tif.json"),
            (manifest(study), "studies/a/b/study.json"),
            (completed(study), "studies/a/b/completed.json"),
        ] {
            assert_eq!(key.as_str(), expected);
        }
        assert_eq!(results_prefix(ResultKind::Mask, study), "masks/a/b/");
        let patient = PatientId::of(study);
        assert_eq!(patient_prefix(ResultKind::Mask, &patient), "masks/a/");
    }

    #[test]
    fn other_keys_are_no_results() {
        for key in [
            "prepared",
            "prepared/p.png",
            "prepared/s/p.tif",
            "prepared/s/.png",
            "Prepared/s/p.png",
            "rejected/p.tif.json",
            "studies/s/other.json",
            "uploads/s/p.tif",
        ] {
            assert_eq!(parsed(key), None, "{key}");
        }
        let inner = parsed("studies/s/x/study.json").unwrap();
        assert_eq!(
            (inner.kind, inner.study),
            (ResultKind::Manifest, study("s/x"))
        );
    }

    #[test]
    fn names_too_long_for_a_key_are_set_aside_all_the_same() {
        let study = study(&"s".repeat(512));
        for file in ["f".repeat(511), "a/../b".to_owned(), String::new()] {
            let key = rejected(&study, &file);
            let name = parse_result(&key).unwrap().name;
            assert_eq!(name.as_str(), sha256_hex(file.as_bytes()));
        }
        let longest = "k".repeat(1024);
        assert_eq!(
            rejected_without_study(&longest).as_str(),
            format!("rejected/{}.json", sha256_hex(longest.as_bytes()))
        );
    }

    proptest! {
        #[test]
        fn a_key_is_read_as_it_was_written(
            study in "[a-z %+ü.]{1,200}(/[a-z %+ü.]{1,50}){0,2}",
            name in "[a-z %+ü._]{1,240}",
            kind in proptest::sample::select(ResultKind::ALL.to_vec()),
        ) {
            let (Ok(study), Ok(name)) = (StudyId::parse(&study), SliceName::parse(&name)) else {
                return Ok(());
            };
            let name = kind.only_name().map_or(name, slice);
            let result = ResultKey { kind, study, name };
            prop_assert_eq!(parse_result(&result.object_key()), Some(result));
        }

        #[test]
        fn what_is_read_is_written_as_it_was(
            text in "(prepared|masks|scores|rejected|studies|x)/([a-z]{1,3}/){0,3}[a-z.]{0,4}\\.(png|tif|json)|.{1,60}",
        ) {
            let Ok(key) = ObjectKey::parse(text) else {
                return Ok(());
            };
            if let Some(result) = parse_result(&key) {
                prop_assert_eq!(result.object_key(), key);
            }
        }
    }
}
