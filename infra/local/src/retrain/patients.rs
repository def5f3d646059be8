//! Drawn patients, as many for each purpose as are wanted.

use std::fs;
use std::io;
use std::path::Path;

use glioseg_shared::cloud::keys::{self, PatientId, UploadKind};
use glioseg_shared::imaging::phantom::{PhantomConfig, PhantomError};
use glioseg_shared::study::Document as _;
use glioseg_shared::study::labelled::{Manifest, NotEnrolled, Subset};

use crate::demo::{Content, DemoUpload, phantom};

/// How many patients are to be drawn. What a patient is for follows from the name, here from the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Patients to learn from.
    pub train: usize,
    /// Patients to choose among models by.
    pub validation: usize,
    /// Patients to be measured on.
    pub test: usize,
}

/// Why no patients are drawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DrawError {
    /// There is no such phantom.
    #[error(transparent)]
    Phantom(#[from] PhantomError),
    /// They cannot be written down.
    #[error("the drawn patients cannot be written: {0}")]
    Write(#[from] io::Error),
    /// They make no data set.
    #[error(transparent)]
    Enrol(#[from] NotEnrolled),
}

/// Draws studies `phantom-<seed>` from `first` upwards, each of a patient of its own, until there are as many for each
/// purpose as are wanted; all that a user would upload of them.
///
/// # Errors
/// [`DrawError::Phantom`] when the configuration is outside of its ranges.
pub fn draw(
    config: &PhantomConfig,
    wanted: Wanted,
    first: u64,
) -> Result<Vec<DemoUpload>, DrawError> {
    let Wanted {
        mut train,
        mut validation,
        mut test,
    } = wanted;
    let mut uploads = Vec::new();
    for seed in first.. {
        if train + validation + test == 0 {
            break;
        }
        let study = phantom(config, seed)?;
        let Some(subset) = study.first().and_then(subset) else {
            continue;
        };
        let left = match subset {
            Subset::Train => &mut train,
            Subset::Validation => &mut validation,
            Subset::Test => &mut test,
        };
        if *left > 0 {
            *left -= 1;
            uploads.extend(study);
        }
    }
    Ok(uploads)
}

/// What the patient of an upload is for.
fn subset(upload: &DemoUpload) -> Option<Subset> {
    patient(upload).map(|patient| Subset::of(&patient))
}

fn patient(upload: &DemoUpload) -> Option<PatientId> {
    let upload = keys::classify(&upload.key).ok()?;
    Some(PatientId::of(&upload.study))
}

/// Writes drawn slices with their truths into a folder as the labelled data set has them, manifest included.
///
/// # Errors
/// [`DrawError::Write`].
pub fn write(uploads: &[DemoUpload], folder: &Path) -> Result<(), DrawError> {
    let mut manifest = Manifest::default();
    for upload in uploads {
        let (Ok(named), Content::Bytes(bytes)) = (keys::classify(&upload.key), &upload.content)
        else {
            continue;
        };
        if let UploadKind::Slice { .. } | UploadKind::Truth { .. } = named.kind {
            manifest.enrol(&PatientId::of(&named.study))?;
            let file = folder.join(upload.key.as_str());
            if let Some(parent) = file.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(file, bytes)?;
        }
    }
    Ok(fs::write(folder.join("manifest.json"), manifest.to_json())?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;

    const CONFIG: PhantomConfig = PhantomConfig {
        slices: 1,
        size: 32,
        lesions: 1,
    };

    #[test]
    fn there_are_as_many_of_each_as_are_wanted() {
        let wanted = Wanted {
            train: 3,
            validation: 1,
            test: 1,
        };
        let uploads = draw(&CONFIG, wanted, 1).unwrap();
        let patients: BTreeMap<_, _> = uploads
            .iter()
            .map(|upload| {
                (
                    patient(upload).unwrap().to_string(),
                    subset(upload).unwrap(),
                )
            })
            .collect();
        // By `printf phantom-14 | sha256sum`, whose first 16 digits modulo 10 are 0, and phantom-26, 1; the others more.
        let expected = [
            ("phantom-1", Subset::Train),
            ("phantom-2", Subset::Train),
            ("phantom-3", Subset::Train),
            ("phantom-14", Subset::Validation),
            ("phantom-26", Subset::Test),
        ];
        assert_eq!(
            patients,
            expected
                .map(|(name, subset)| (name.to_owned(), subset))
                .into()
        );
    }

    #[test]
    fn they_are_written_as_a_data_set() {
        let wanted = Wanted {
            train: 1,
            validation: 1,
            test: 0,
        };
        let folder = tempfile::tempdir().unwrap();
        write(&draw(&CONFIG, wanted, 1).unwrap(), folder.path()).unwrap();
        let files = |name: &str| {
            let entries = fs::read_dir(folder.path().join(name)).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        assert_eq!(files(""), ["manifest.json", "phantom-1", "phantom-14"]);
        assert_eq!(files("phantom-1"), ["slice_1.tif", "slice_1_mask.tif"]);
        let manifest = fs::read(folder.path().join("manifest.json")).unwrap();
        let split = Manifest::from_json(&manifest).unwrap().split(|_| true);
        assert_eq!(split.train, ["phantom-1"]);
        assert_eq!(split.validation, ["phantom-14"]);
    }
}
