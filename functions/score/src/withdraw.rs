//! Withdrawing a patient: noted for good, then everything of all studies removed.

use glioseg_shared::cloud::keys::{self, PatientId, ResultKind, labelled_prefix};
use glioseg_shared::cloud::{ObjectKey, Storage};
use glioseg_shared::model::contract::NOTICE;
use serde::{Deserialize, Serialize};

use crate::error::ScoreError;
use crate::roll;
use crate::sweep::{Area, NotDeleted, sweep};

/// The answer to `DELETE /patients/{patient}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdrawal {
    schema: Schema,
    /// The patient: what the names of all their studies begin with.
    pub patient: PatientId,
    /// Whether nothing was left at the end; if not, the same request goes on. The withdrawal is noted in either case.
    pub complete: bool,
    /// Number of uploads deleted.
    pub deleted_uploads: usize,
    /// Number of results deleted, slices collected for training among them.
    pub deleted_results: usize,
    /// What could not be deleted, the first 100 of it.
    pub not_deleted: Vec<NotDeleted>,
    /// Limits of use.
    pub notice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
/// What the stores meet when the manifest is written, or when they are listed. A patient that there is nothing of is no
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
        complete: swept.complete,
        deleted_uploads: swept.deleted_uploads,
        deleted_results: swept.deleted_results,
        not_deleted: swept.not_deleted,
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
