//! The figures by slice, as a table.

use std::borrow::Cow;
use std::fmt::Display;

use glioseg_shared::study::{SliceReport, SliceScoreDocument};

const COLUMNS: [&str; 20] = [
    "study",
    "slice",
    "file",
    "page",
    "width",
    "height",
    "tumour_pixels",
    "area_mm2",
    "components",
    "mean_probability",
    "max_probability",
    "expected_dice",
    "true_pixels",
    "dice",
    "iou",
    "precision",
    "recall",
    "hd95",
    "distance_unit",
    "model_version",
];

/// What is known of a slice.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The file that it came from, without its study.
    pub file: String,
    /// What was found.
    pub report: SliceReport,
    /// What that is worth, where the truth is known.
    pub score: Option<SliceScoreDocument>,
}

/// The rows as CSV by RFC 4180, a row of names first. What is not known is left empty.
#[must_use]
pub fn csv(rows: &[Row]) -> String {
    let mut text = COLUMNS.join(",");
    text.push('\n');
    for Row {
        file,
        report,
        score,
    } in rows
    {
        let score = score.as_ref();
        let confidence = &report.confidence;
        let unit = score.and_then(|score| {
            score.hd95?;
            Some(if score.spacing_mm.is_some() {
                "mm"
            } else {
                "px"
            })
        });
        let cells: [Cow<'_, str>; COLUMNS.len()] = [
            quoted(report.study.as_str()),
            quoted(report.slice.as_str()),
            quoted(file),
            number(report.input_page),
            number(report.width),
            number(report.height),
            number(report.tumour_pixels),
            known(report.area_mm2),
            number(report.component_count),
            known(confidence.mean_probability),
            number(confidence.max_probability),
            number(confidence.expected_dice),
            known(score.map(|score| score.true_pixels)),
            known(score.map(|score| score.dice)),
            known(score.map(|score| score.iou)),
            known(score.and_then(|score| score.precision)),
            known(score.and_then(|score| score.recall)),
            known(score.and_then(|score| score.hd95)),
            unit.unwrap_or_default().into(),
            quoted(&report.model.version),
        ];
        text.push_str(&cells.join(","));
        text.push('\n');
    }
    text
}

fn number(value: impl Display) -> Cow<'static, str> {
    value.to_string().into()
}

fn known(value: Option<impl Display>) -> Cow<'static, str> {
    value.map_or(Cow::Borrowed(""), number)
}

fn quoted(name: &str) -> Cow<'_, str> {
    if name.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", name.replace('"', "\"\"")).into()
    } else {
        name.into()
    }
}
