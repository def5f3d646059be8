//! What an [`Evaluation`] leaves behind: a table for the terminal, JSON, a CSV by slice, one page.

mod certainty;
mod csv;
mod figures;
mod headline;
mod html;
mod json;
mod patient;

use std::borrow::Borrow;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use glioseg_shared::digest::sha256_hex;
use glioseg_shared::imaging::overlay::SizeDiffers;
use glioseg_shared::model::Segmenter;
use glioseg_shared::model::contract::{Contract, NOTICE, Provenance};
use glioseg_shared::scoring::PatientScore;
use serde::Serialize;

use crate::data::{CachedPatient, DataError, Split};
use crate::evaluate::studies::Part;
use crate::evaluate::{EvaluateError, Evaluation, evaluate};
use crate::files::write_atomically;
pub use headline::Table;

/// File name of the figures by patient.
pub const JSON_FILE: &str = "evaluation.json";
/// File name of the figures by slice.
pub const CSV_FILE: &str = "slices.csv";
/// File name of the page for people.
pub const HTML_FILE: &str = "report.html";

/// An evaluation with all that its figures must be named with: the model, the data and the split.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was evaluated.
    pub model: EvaluatedModel,
    /// On what.
    pub subject: Subject,
    /// The figures.
    pub evaluation: Evaluation,
}

/// The model file that was evaluated, as its contract describes it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvaluatedModel {
    /// Version that the contract names.
    pub version: String,
    /// SHA-256 of the file, in lower-case hexadecimal digits.
    pub sha256: String,
    /// Architecture.
    pub network: String,
    /// What the mask marks.
    pub label: String,
    /// Lowest probability that counts as tumour.
    pub threshold: f32,
    /// Licence of the weights.
    pub licence: String,
    /// Where the weights come from.
    pub provenance: Provenance,
}

impl EvaluatedModel {
    fn of(contract: &Contract, onnx: &[u8]) -> Self {
        Self {
            version: contract.model_version.clone(),
            sha256: sha256_hex(onnx),
            network: contract.network.clone(),
            label: contract.label.clone(),
            threshold: contract.postprocessing.threshold,
            licence: contract.licence.clone(),
            provenance: contract.provenance.clone(),
        }
    }
}

/// What a model was evaluated on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Subject {
    /// Drawn studies.
    Phantoms,
    /// The patients of a data set, or some of them.
    Data {
        /// Name of the data set.
        name: String,
        /// Which of them; `None` for all.
        split: Option<SplitPart>,
    },
    /// The patients of all folds of a split, each segmented by the member of the model that was not trained on it.
    #[serde(rename = "cross-validation")]
    CrossValidation {
        /// Name of the data set.
        name: String,
        /// Name of the split list.
        split: String,
        /// Number of folds.
        folds: usize,
    },
}

/// A part of a split list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SplitPart {
    /// Name of the list, such as its file name.
    pub name: String,
    /// [`Split::digest`] of the list.
    pub digest: String,
    /// That of the same list for models of [all folds](Split::all_folds).
    #[serde(skip)]
    pub all_folds_digest: String,
    /// The part.
    pub part: Part,
}

impl SplitPart {
    /// Names a part of a split.
    #[must_use]
    pub fn new(name: impl Into<String>, split: &Split, part: Part) -> Self {
        Self {
            name: name.into(),
            digest: split.digest(),
            all_folds_digest: split.all_folds().digest(),
            part,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Phantoms => f.write_str("phantoms"),
            Self::Data { name, split: None } => write!(f, "{name}, all patients"),
            Self::Data {
                name,
                split: Some(split),
            } => write!(f, "{name}, {} patients of {}", split.part, split.name),
            Self::CrossValidation { name, split, folds } => {
                write!(f, "{name}, {folds}-fold cross-validation of {split}")
            }
        }
    }
}

/// Why a report could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A file or folder could not be written; nothing is left under its name.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A picture could not be drawn.
    #[error(transparent)]
    Picture(#[from] SizeDiffers),
    /// The figures could not be written as JSON.
    #[error("the figures cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// The files of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportFiles {
    /// [`JSON_FILE`].
    pub json: PathBuf,
    /// [`CSV_FILE`].
    pub csv: PathBuf,
    /// [`HTML_FILE`].
    pub html: PathBuf,
}

impl Report {
    /// Evaluates a model file on studies; see [`evaluate`].
    ///
    /// # Errors
    /// [`EvaluateError`].
    pub fn make<P: Borrow<CachedPatient>>(
        onnx: &[u8],
        subject: Subject,
        studies: impl IntoIterator<Item = Result<P, DataError>>,
        progress: impl FnMut(&PatientScore),
    ) -> Result<Self, EvaluateError> {
        let segmenter = Segmenter::from_onnx(onnx)?;
        let evaluation = evaluate(&segmenter, studies, progress)?;
        Self::of(onnx, subject, evaluation)
    }

    /// The report of an evaluation that was made before.
    ///
    /// # Errors
    /// [`EvaluateError::Model`] for a file without a sound contract.
    pub fn of(
        onnx: &[u8],
        subject: Subject,
        evaluation: Evaluation,
    ) -> Result<Self, EvaluateError> {
        Ok(Self {
            model: EvaluatedModel::of(&Contract::of_onnx(onnx)?, onnx),
            subject,
            evaluation,
        })
    }

    /// Writes the three files into a folder, which is made where missing.
    ///
    /// Everything is rendered before anything is written, and each file appears under its name
    /// only when it is whole.
    ///
    /// # Errors
    /// [`ReportError`] naming the file.
    pub fn write(&self, folder: &Path) -> Result<ReportFiles, ReportError> {
        let html = html::page(self)?;
        let csv = csv::slices(&self.evaluation);
        let json = json::document(self)?;
        let unwritable = |path: &Path| {
            let path = path.to_owned();
            move |source| ReportError::Write { path, source }
        };
        fs::create_dir_all(folder).map_err(unwritable(folder))?;
        let files = ReportFiles {
            json: folder.join(JSON_FILE),
            csv: folder.join(CSV_FILE),
            html: folder.join(HTML_FILE),
        };
        for (path, text) in [
            (&files.html, &html),
            (&files.csv, &csv),
            (&files.json, &json),
        ] {
            write_atomically(path, |file| file.write_all(text.as_bytes()))
                .map_err(unwritable(path))?;
        }
        Ok(files)
    }

    /// What a reader must know so as not to take the figures for more than they are.
    #[must_use]
    pub fn cautions(&self) -> Vec<String> {
        let mut cautions = Vec::new();
        match &self.subject {
            Subject::Phantoms => cautions
                .push("Phantoms are drawn: their figures say nothing of patients.".to_owned()),
            Subject::Data { split: None, .. } => cautions.push(
                "No split was given: nothing says whether these patients trained the model."
                    .to_owned(),
            ),
            Subject::CrossValidation { .. } => cautions.push(
                "Each patient was segmented by the one member of the model that was not trained on it: the figures are \
                 those of single members, trained on fewer patients."
                    .to_owned(),
            ),
            Subject::Data {
                split: Some(split), ..
            } => {
                let trained_by = &self.model.provenance.split_digest;
                let on_all_folds = *trained_by == split.all_folds_digest;
                match split.part {
                    Part::Validation if !on_all_folds => cautions.push(
                        "These patients chose the model: on new ones it may do worse.".to_owned(),
                    ),
                    Part::Train | Part::Validation => cautions.push(
                        "These patients trained the model: the figures say nothing of new ones."
                            .to_owned(),
                    ),
                    Part::Test => {}
                }
                if split.digest != *trained_by && !on_all_folds {
                    cautions.push(
                        "The model was trained by another split: these patients may have trained it."
                            .to_owned(),
                    );
                }
            }
        }
        let (rescaled, all) = (
            self.evaluation.rescaled_slices,
            self.evaluation.summary.slices,
        );
        if rescaled > 0 {
            cautions.push(format!(
                "{rescaled} of {all} slices are not 8-bit; each channel was mapped to 0..255 from its own 0th to \
                 99.9th percentile."
            ));
        }
        cautions
    }
}

/// The figures as an aligned table, with what they must be named with.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let summary = &self.evaluation.summary;
        writeln!(f, "model     {}", self.model.version)?;
        writeln!(f, "sha256    {}", self.model.sha256)?;
        writeln!(
            f,
            "on        {} ({} patients, {} slices)",
            self.subject, summary.patients, summary.slices
        )?;
        writeln!(f, "protocol  {}", summary.protocol)?;
        writeln!(f)?;
        write!(f, "{}", Table(summary))?;
        write!(f, "{}", certainty::lines(&self.evaluation.certainty))?;
        writeln!(f)?;
        for caution in self.cautions() {
            writeln!(f, "note: {caution}")?;
        }
        writeln!(f, "{NOTICE}")
    }
}
