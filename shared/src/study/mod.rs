//! The documents that the functions hand each other, and their users, about a study.
//!
//! - [`manifest`]: what a user says of a whole study, `study.json`.
//! - [`prepared`]: a slice, checked, with all that segmenting it takes.
//! - [`report`]: what was found in a slice.
//! - [`score`]: what its mask is worth against the truth.
//! - [`rejection`]: why an upload was set aside.
//! - [`status`]: how a whole study stands.
//! - [`labelled`]: which patients training may learn from, and who was withdrawn.
//! - [`plausible`]: what can be read as a slice, and yet is none.
//! - [`ServingLimits`]: what an upload may ask for.
//!
//! Everything here is pure: bytes and values in, bytes and values out. Equal values make equal bytes, so that repeated
//! work leaves a store as it was.

mod document;
mod figures;
mod intensity;
pub mod labelled;
mod limits;
pub mod manifest;
pub mod plausible;
pub mod prepared;
pub mod rejection;
pub mod report;
pub mod score;
mod spacing;
pub mod status;
pub mod unnamed;

pub use document::{Document, DocumentError};
pub use intensity::IntensityRecord;
pub use limits::ServingLimits;
pub use manifest::StudyManifest;
pub use prepared::{Prepared, PreparedError, Source, VolumePlace};
pub use rejection::Rejection;
pub use report::SliceReport;
pub use score::SliceScoreDocument;
pub use spacing::{InvalidSpacing, Spacing};
pub use status::{Inventory, StudyStatus};
