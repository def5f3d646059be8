//! Removing a study with all that was derived from it.

use glioseg_shared::cloud::keys::{
    self, PatientId, ResultKind, StudyId, labelled_prefix, parse_labelled,
};
use glioseg_shared::cloud::{ObjectKey, Storage, StorageError};
use glioseg_shared::model::contract::NOTICE;
use serde::Serialize;

use crate::listing::is_own_result;
use crate::sweep::{Area, Swept, sweep};

/// The answer to `DELETE /studies/{study}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deletion {
    schema: Schema,
    /// The study.
    pub study: StudyId,
    /// What was deleted.
    #[serde(flatten)]
    pub swept: Swept,
    /// Limits of use.
    pub notice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum Schema {
    #[serde(rename = "glioseg-deletion-1")]
    V1,
}

/// Deletes a study's uploads, then its results and what was collected of it; those of the studies below it stay.
///
/// # Errors
///
/// What the stores meet when they are listed. A study that there is nothing of is no error.
pub(crate) async fn delete<S: Storage>(
    uploads: &S,
    results: &S,
    study: &StudyId,
) -> Result<Deletion, StorageError> {
    let swept = sweep(uploads, results, &areas(study)).await?;
    Ok(Deletion {
        schema: Schema::V1,
        study: study.clone(),
        swept,
        notice: NOTICE.to_owned(),
    })
}

fn areas(study: &StudyId) -> Vec<Area<'_>> {
    let mut areas: Vec<_> = [keys::uploads_prefix(study), format!("{study}.")]
        .into_iter()
        .map(|prefix| Area::uploads(prefix, move |key| is_own_upload(study, key)))
        .collect();
    areas.extend(ResultKind::ALL.map(|kind| {
        Area::results(keys::results_prefix(kind, study), move |key| {
            is_own_result(kind, study, key)
        })
    }));
    areas.push(Area::results(
        labelled_prefix(&PatientId::of(study)),
        move |key| parse_labelled(key).is_some_and(|(slice, _)| slice.study() == study),
    ));
    areas
}

/// Whether an upload is of this very study; what cannot be classified is, if it lies directly below its name.
fn is_own_upload(study: &StudyId, key: &ObjectKey) -> bool {
    match keys::classify(key) {
        Ok(upload) => upload.study == *study,
        Err(_) => key
            .as_str()
            .strip_prefix(&keys::uploads_prefix(study))
            .is_some_and(|file| !file.contains('/')),
    }
}
