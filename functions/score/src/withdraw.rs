//! Withdrawing a patient: noted for good, then everything of all studies removed.

use glioseg_shared::cloud::keys::{self, PatientId, ResultKind, labelled_prefix};
use glioseg_shared::cloud::{ObjectKey, Storage};
use glioseg_shared::model::contract::NOTICE;
use serde::Serialize;

use crate::error::ScoreError;
use crate::roll;
use crate::sweep::{Area, Swept, sweep};

/// The answer to `DELETE /patients/{patient}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Withdrawal {
    schema: Schema,
    /// The patient: what the names of all their studies begin with.
    pub patient: PatientId,
    /// What was deleted; the withdrawal is noted even where something was left.
    #[serde(flatten)]
    pub swept: Swept,
    /// Limits of use.
    pub notice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Schema {
    #[serde(rename = "glioseg-withdrawal-1")]
    V1,
}

/// Notes that a patient was withdrawn, then deletes everything of all studies of theirs.
///
/// Noted first, so that nothing is collected anew that still comes, and none that comes later.
///
/// # Errors
///
/// What the stores meet when the manifest is written, or when they are listed; [`ScoreError::ManifestFull`] where there
/// is no room to note it, and nothing is deleted then: it would be collected again. A patient that there is nothing of is no
/// error, and is withdrawn all the same.
pub(crate) async fn withdraw<S: Storage>(
    uploads: &S,
    results: &S,
    patient: &PatientId,
) -> Result<Withdrawal, ScoreError> {
    roll::withdraw(results, patient).await?;
    let swept = sweep(uploads, results, &areas(patient)).await?;
    Ok(Withdrawal {
        schema: Schema::V1,
        patient: patient.clone(),
        swept,
        notice: NOTICE.to_owned(),
    })
}

fn areas(patient: &PatientId) -> Vec<Area<'_>> {
    let mut areas = vec![
        Area::all_uploads(format!("{patient}/")),
        Area::uploads(format!("{patient}."), |key| is_own_zip(patient, key)),
    ];
    areas
        .extend(ResultKind::ALL.map(|kind| Area::all_results(keys::patient_prefix(kind, patient))));
    areas.push(Area::all_results(labelled_prefix(patient)));
    areas
}

/// Whether an upload is a study of the patient in one file, beside the folder of the others.
fn is_own_zip(patient: &PatientId, key: &ObjectKey) -> bool {
    keys::classify(key).is_ok_and(|upload| PatientId::of(&upload.study) == *patient)
}
