//! What an object of the uploads bucket is, by its key alone.

use super::names::{SliceName, StudyId};
use crate::cloud::ObjectKey;

/// The file of a study that says how many slices it has, and more of the kind.
pub const MANIFEST_FILE: &str = "study.json";

/// What the name of a slice ends in where the file is its truth.
const TRUTH_SUFFIX: &str = "_mask";

/// The extensions of images, in lower case; any case is taken.
const IMAGE_EXTENSIONS: [&str; 3] = ["tif", "tiff", "png"];

/// The extension of a study in one file.
const ZIP_EXTENSION: &str = "zip";

/// An object of the uploads bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    /// The study that it belongs to.
    pub study: StudyId,
    /// The last segment of its key.
    pub file: String,
    /// What it is, by its name.
    pub kind: UploadKind,
}

/// What an upload is, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadKind {
    /// `<study>/<name>.tif`, `.tiff` or `.png`: one slice, or several pages of them.
    Slice {
        /// The slice; of a file of several pages, what their names start with.
        name: SliceName,
    },
    /// `<study>/<name>_mask.tif`, `.tiff` or `.png`: the truth of a slice.
    Truth {
        /// The slice whose truth it is; of a file of several pages, what their names start with.
        name: SliceName,
    },
    /// `<study>/study.json`: what is known of the whole study.
    Study,
    /// `<study>.zip`: a whole study.
    Zip,
    /// Something else, which is of no use here.
    Unknown,
}

/// Why an object belongs to no study.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAnUpload {
    /// It lies at the root of the bucket.
    #[error(
        "{key:?} belongs to no study: upload it as <study>/{key}, or a whole study as <study>.zip"
    )]
    NoStudy {
        /// The object's key.
        key: String,
    },
    /// What should be the study's name is none.
    #[error(
        "the study of {key:?} has a name of more than 512 bytes: upload it under a shorter one"
    )]
    StudyTooLong {
        /// The object's key.
        key: String,
    },
    /// What should be the slice's name is none.
    #[error(
        "the file name of {key:?} names no slice: give it 1 to 480 bytes before `_mask` and the extension"
    )]
    SliceName {
        /// The object's key.
        key: String,
    },
}

/// Tells what an object of the uploads bucket is. Extensions, and the `_mask` of a truth, may have any case.
///
/// ```
/// use glioseg_shared::cloud::{ObjectKey, keys};
///
/// let upload = keys::classify(&ObjectKey::parse("clinic/7/head_12_mask.TIF").unwrap()).unwrap();
/// assert_eq!(upload.study.as_str(), "clinic/7");
/// assert!(matches!(upload.kind, keys::UploadKind::Truth { name } if name.as_str() == "head_12"));
/// ```
///
/// # Errors
///
/// [`NotAnUpload`], whose text tells the user what to do.
pub fn classify(key: &ObjectKey) -> Result<Upload, NotAnUpload> {
    let text = key.as_str();
    let owned = || text.to_owned();
    let (folder, file) = match text.rsplit_once('/') {
        Some((folder, file)) => (Some(folder), file),
        None => (None, text),
    };
    let (stem, extension) = match file.rsplit_once('.') {
        Some((stem, extension)) => (stem, extension),
        None => (file, ""),
    };
    let is = |known: &str| extension.eq_ignore_ascii_case(known);
    let is_zip = is(ZIP_EXTENSION) && !stem.is_empty();
    let study = if is_zip {
        &text[..text.len() - ZIP_EXTENSION.len() - 1]
    } else {
        folder.ok_or_else(|| NotAnUpload::NoStudy { key: owned() })?
    };
    let study = match StudyId::parse(study) {
        Ok(study) => study,
        // The rest of a key is sound, so that only `..zip` and `...zip` have names that are none.
        Err(_) if study.len() <= StudyId::MAX_BYTES => {
            return Err(NotAnUpload::SliceName { key: owned() });
        }
        Err(_) => return Err(NotAnUpload::StudyTooLong { key: owned() }),
    };
    let slice =
        |name: &str| SliceName::parse(name).map_err(|_| NotAnUpload::SliceName { key: owned() });
    let kind = if is_zip {
        UploadKind::Zip
    } else if file == MANIFEST_FILE {
        UploadKind::Study
    } else if !IMAGE_EXTENSIONS.into_iter().any(is) {
        UploadKind::Unknown
    } else if let Some(name) = strip_truth_suffix(stem) {
        UploadKind::Truth { name: slice(name)? }
    } else {
        UploadKind::Slice { name: slice(stem)? }
    };
    Ok(Upload {
        study,
        file: file.to_owned(),
        kind,
    })
}

/// What the keys of a study's uploads start with, those of studies below it among them; its zip lies beside.
#[must_use]
pub fn uploads_prefix(study: &StudyId) -> String {
    format!("{study}/")
}

fn strip_truth_suffix(stem: &str) -> Option<&str> {
    let at = stem.len().checked_sub(TRUTH_SUFFIX.len())?;
    let (name, suffix) = stem.split_at_checked(at)?;
    suffix.eq_ignore_ascii_case(TRUTH_SUFFIX).then_some(name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    fn classified(key: &str) -> Result<Upload, NotAnUpload> {
        classify(&ObjectKey::parse(key).unwrap())
    }

    fn upload(study: &str, file: &str, kind: UploadKind) -> Upload {
        Upload {
            study: StudyId::parse(study).unwrap(),
            file: file.to_owned(),
            kind,
        }
    }

    fn slice(name: &str) -> UploadKind {
        UploadKind::Slice {
            name: SliceName::parse(name).unwrap(),
        }
    }

    fn truth(name: &str) -> UploadKind {
        UploadKind::Truth {
            name: SliceName::parse(name).unwrap(),
        }
    }

    #[test]
    fn the_name_tells_what_an_upload_is() {
        for (key, study, file, kind) in [
            ("s/p_1.tif", "s", "p_1.tif", slice("p_1")),
            ("a/b/p_1.TIFF", "a/b", "p_1.TIFF", slice("p_1")),
            ("s/x.y.Png", "s", "x.y.Png", slice("x.y")),
            ("s/p_1_mask.tif", "s", "p_1_mask.tif", truth("p_1")),
            ("s/p_1_MASK.png", "s", "p_1_MASK.png", truth("p_1")),
            ("s/p_mask_1.tif", "s", "p_mask_1.tif", slice("p_mask_1")),
            ("s/mask.tif", "s", "mask.tif", slice("mask")),
            ("s/ü_mask.tif", "s", "ü_mask.tif", truth("ü")),
            ("s/üüü.tif", "s", "üüü.tif", slice("üüü")),
            ("s/study.json", "s", "study.json", UploadKind::Study),
            ("a/s.zip", "a/s", "s.zip", UploadKind::Zip),
            ("s.ZIP", "s", "s.ZIP", UploadKind::Zip),
            ("s/Study.json", "s", "Study.json", UploadKind::Unknown),
            ("s/notes.txt", "s", "notes.txt", UploadKind::Unknown),
            ("s/tif", "s", "tif", UploadKind::Unknown),
            ("s/.zip", "s", ".zip", UploadKind::Unknown),
            ("s/.DS_Store", "s", ".DS_Store", UploadKind::Unknown),
        ] {
            assert_eq!(classified(key).unwrap(), upload(study, file, kind), "{key}");
        }
    }

    #[test]
    fn what_belongs_to_no_study_is_told_where_to_go() {
        for key in ["p_1.tif", "study.json", "notes", ".zip"] {
            let error = classified(key).unwrap_err();
            assert!(matches!(error, NotAnUpload::NoStudy { .. }), "{key}");
            assert!(error.to_string().contains(&format!("<study>/{key}")));
        }
        let long = "s".repeat(513);
        for key in [format!("{long}/a.tif"), format!("{long}.zip")] {
            let error = classified(&key).unwrap_err();
            assert!(matches!(error, NotAnUpload::StudyTooLong { .. }), "{key}");
        }
        let long = "n".repeat(481);
        for key in [
            "s/_mask.tif",
            "s/.tif",
            "s/..tif",
            "s/...tif",
            "...zip",
            "s/...zip",
            &format!("s/{long}.png"),
        ] {
            let error = classified(key).unwrap_err();
            assert!(matches!(error, NotAnUpload::SliceName { .. }), "{key}");
        }
    }

    proptest! {
        #[test]
        fn any_key_is_told(text in "[a-z./_üZ]{1,40}|.{1,60}|([a-z]{1,3}/){0,3}[a-z.]{0,4}(_mask)?\\.(tif|PNG|zip|Tiff)") {
            let Ok(key) = ObjectKey::parse(text) else {
                return Ok(());
            };
            let Ok(upload) = classify(&key) else {
                return Ok(());
            };
            prop_assert!(key.as_str().ends_with(&upload.file));
            match &upload.kind {
                UploadKind::Zip => {
                    prop_assert!(key.as_str().starts_with(upload.study.as_str()));
                    prop_assert_eq!(upload.study.as_str().len() + 4, key.as_str().len());
                }
                kind => {
                    prop_assert_eq!(format!("{}/{}", upload.study, upload.file), key.as_str());
                    if let UploadKind::Slice { name } | UploadKind::Truth { name } = kind {
                        prop_assert!(upload.file.starts_with(name.as_str()));
                    }
                }
            }
        }

        #[test]
        fn a_slice_and_its_truth_have_one_name(study in "[a-z ]{1,5}(/[a-z+%]{1,5}){0,2}", name in "[a-z0-9_ ü]{1,12}") {
            prop_assume!(strip_truth_suffix(&name).is_none());
            let of_slice = classified(&format!("{study}/{name}.tif")).unwrap();
            let of_truth = classified(&format!("{study}/{name}_mask.png")).unwrap();
            prop_assert_eq!(&of_slice.study, &of_truth.study);
            prop_assert_eq!(of_slice.kind, slice(&name));
            prop_assert_eq!(of_truth.kind, truth(&name));
        }
    }
}
