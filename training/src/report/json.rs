//! The figures for machines.

use glioseg_shared::model::contract::NOTICE;
use glioseg_shared::scoring::Summary;
use serde::Serialize;

use super::certainty::CertaintyFigures;
use super::patient::PatientFigures;
use super::{EvaluatedModel, Report, Subject};

/// Name of the layout below; a changed layout has a new name.
const SCHEMA: &str = "glioseg-evaluation-2";

#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    notice: &'static str,
    cautions: Vec<String>,
    model: &'a EvaluatedModel,
    subject: &'a Subject,
    /// The protocol is among the summary's fields.
    summary: &'a Summary,
    rescaled_slices: usize,
    certainty: CertaintyFigures,
    patients: Vec<PatientFigures<'a>>,
}

/// The report without its slices, which stand in the CSV.
pub(super) fn document(report: &Report) -> Result<String, serde_json::Error> {
    let evaluation = &report.evaluation;
    let document = Document {
        schema: SCHEMA,
        notice: NOTICE,
        cautions: report.cautions(),
        model: &report.model,
        subject: &report.subject,
        summary: &evaluation.summary,
        rescaled_slices: evaluation.rescaled_slices,
        certainty: CertaintyFigures::of(&evaluation.certainty),
        patients: evaluation.patients.iter().map(PatientFigures::of).collect(),
    };
    let mut text = serde_json::to_string_pretty(&document)?;
    text.push('\n');
    Ok(text)
}
