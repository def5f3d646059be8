//! Why an upload was set aside.

use serde::{Deserialize, Serialize};

use super::document::Document;
use super::figures::is_sha256;
use crate::cloud::keys::StudyId;
use crate::model::contract::NOTICE;

/// The document `rejected/<study>/<upload file>.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejection {
    schema: Schema,
    /// Key of the upload.
    pub upload: String,
    /// The study that it belongs to; null where its key names none.
    pub study: Option<StudyId>,
    /// Name of the entry, where the upload is a zip and one entry of it is at fault.
    pub entry: Option<String>,
    /// What is wrong with it.
    pub reason: String,
    /// What its owner can do.
    pub advice: String,
    /// SHA-256 of the upload; null where it was not read.
    pub input_sha256: Option<String>,
    /// Limits of use.
    pub notice: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Schema {
    #[serde(rename = "glioseg-rejection-1")]
    V1,
}

impl Rejection {
    /// Says what is wrong with an upload and what its owner can do; the other fields are empty.
    #[must_use]
    pub fn new(
        upload: impl Into<String>,
        reason: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self {
            schema: Schema::V1,
            upload: upload.into(),
            study: None,
            entry: None,
            reason: reason.into(),
            advice: advice.into(),
            input_sha256: None,
            notice: NOTICE.to_owned(),
        }
    }
}

impl Document for Rejection {
    const NAME: &'static str = "rejection";
    const MAX_BYTES: u64 = 64 << 10;

    fn check(&self) -> Result<(), String> {
        match &self.input_sha256 {
            Some(digest) if !is_sha256(digest) => Err(format!("input_sha256 is {digest:?}")),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        let mut rejection = Rejection::new("s/x.tif", "the file is empty", "upload it again");
        rejection.study = Some(StudyId::parse("s").unwrap());
        rejection.input_sha256 = Some(crate::digest::sha256_hex(b""));
        let json = rejection.to_json();
        assert_eq!(Rejection::from_json(&json).unwrap(), rejection);
        rejection.input_sha256 = Some("none".to_owned());
        assert!(Rejection::from_json(&rejection.to_json()).is_err());
    }
}
