//! The layout of the buckets: which object lies under which key.
//!
//! - Models: `models/<version>/model.onnx`, `models/<version>/model.json`, and `models/<channel>/current.json`, the
//!   pointer to the version that a channel serves.
//! - Uploads: `<study>/<slice>.tif`, `.tiff` or `.png`, its truth `<study>/<slice>_mask.tif`, `<study>/study.json`, and
//!   `<study>.zip` with a whole study in it. A study's name may have several segments.
//! - Results: `<kind>/<study>/<slice>.<extension>`, as [`ResultKind`] tells; beside them, under `labelled/`, the slices
//!   and masks that training reads, as [`LabelledSlice`] tells.

mod labelled;
mod models;
mod names;
mod results;
mod uploads;

pub use labelled::{
    LabelledFile, LabelledSlice, NotCollectable, labelled_manifest, labelled_prefix, parse_labelled,
};
pub use models::{Channel, InvalidName, ModelVersion, channel_pointer, model_card, model_onnx};
pub use names::{
    InvalidPatientId, InvalidSliceName, InvalidStudyId, PatientId, SliceName, StudyId,
};
pub use results::{
    ResultKey, ResultKind, completed, incomparable, manifest, mask, overlay, parse_result,
    patient_prefix, prepared, probability, rejected, rejected_without_study, report,
    results_prefix, score, truth, unsegmentable,
};
pub use uploads::{MANIFEST_FILE, NotAnUpload, Upload, UploadKind, classify, uploads_prefix};

use super::storage::ObjectKey;

#[expect(
    clippy::expect_used,
    reason = "names are checked, and their longest lengths add up to less than a key may have"
)]
fn layout(key: String) -> ObjectKey {
    ObjectKey::parse(key).expect("the names in it are checked segments, short enough together")
}
