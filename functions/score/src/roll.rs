//! The manifest of the labelled data set, which writers change one after another.

use glioseg_shared::cloud::keys::{self, PatientId};
use glioseg_shared::cloud::{Condition, Metadata, Storage, StorageError};
use glioseg_shared::study::Document;
use glioseg_shared::study::labelled::{Manifest, Standing};

use crate::error::ScoreError;

/// How often a change is tried. Of those who write at once one succeeds each time, and at most 160 write at once: the
/// template lets 20 invocations take messages, each of which works on 8 objects.
const MAX_TURNS: usize = 160;

/// The manifest as it is now; an empty one where there is none.
pub(crate) async fn read<S: Storage>(results: &S) -> Result<Manifest, ScoreError> {
    Ok(read_with_condition(results).await?.0)
}

/// Enrols the patient of a slice that is about to be written, and writes the manifest even where that changes nothing:
/// in a bucket that keeps versions, whoever finds the same version of it as before knows that nothing is new.
///
/// # Errors
///
/// [`ScoreError::NotEnrolled`] where the patient was withdrawn, or there is no room; and what the store meets.
pub(crate) async fn enrol<S: Storage>(results: &S, patient: &PatientId) -> Result<(), ScoreError> {
    for _ in 0..MAX_TURNS {
        let (mut manifest, condition) = read_with_condition(results).await?;
        let was_enrolled = matches!(manifest.standing(patient), Standing::Enrolled(_));
        manifest.enrol(patient)?;
        let is_written = write(results, &manifest, condition).await?;
        // Where somebody else has written it since, there is a new version all the same.
        if is_written || was_enrolled {
            return Ok(());
        }
    }
    Err(restless())
}

/// Notes that a patient was withdrawn.
pub(crate) async fn withdraw<S: Storage>(
    results: &S,
    patient: &PatientId,
) -> Result<(), ScoreError> {
    for _ in 0..MAX_TURNS {
        let (mut manifest, condition) = read_with_condition(results).await?;
        if manifest.standing(patient) == Standing::Withdrawn {
            return Ok(());
        }
        manifest.withdraw(patient);
        if write(results, &manifest, condition).await? {
            return Ok(());
        }
    }
    Err(restless())
}

/// The manifest, and what holds as long as nobody else changes it.
async fn read_with_condition<S: Storage>(results: &S) -> Result<(Manifest, Condition), ScoreError> {
    let key = keys::labelled_manifest();
    match results.get(&key, Manifest::MAX_BYTES).await {
        Ok(object) => match Manifest::from_json(&object.bytes) {
            Ok(manifest) => Ok((manifest, Condition::IfMatch(object.etag))),
            Err(source) => Err(ScoreError::Document { key, source }),
        },
        Err(error) if error.is_not_found() => Ok((Manifest::default(), Condition::IfAbsent)),
        Err(error) => Err(error.into()),
    }
}

/// Writes the manifest; `false` where somebody else has since.
async fn write<S: Storage>(
    results: &S,
    manifest: &Manifest,
    condition: Condition,
) -> Result<bool, ScoreError> {
    let key = keys::labelled_manifest();
    let json = manifest.to_json();
    let (bytes, allowed) = (json.len() as u64, Manifest::MAX_BYTES);
    // One that nobody can read would end collecting, training and withdrawing for everybody.
    if bytes > allowed {
        return Err(ScoreError::ManifestFull { bytes, allowed });
    }
    match results.put(&key, json, condition, &Metadata::new()).await {
        Ok(_) => Ok(true),
        Err(StorageError::PreconditionFailed { .. } | StorageError::Conflict { .. }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn restless() -> ScoreError {
    ScoreError::Restless {
        key: keys::labelled_manifest(),
        turns: MAX_TURNS,
    }
}
