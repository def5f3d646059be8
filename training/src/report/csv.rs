//! The figures by slice, one row each.

use std::borrow::Cow;
use std::fmt::Display;

use crate::evaluate::Evaluation;

const COLUMNS: [&str; 11] = [
    "patient",
    "slice",
    "true_area",
    "predicted_area",
    "dice",
    "iou",
    "precision",
    "recall",
    "hd95",
    "average_surface_distance",
    "expected_dice",
];

/// Areas and distances are in pixels; what is undefined is left empty.
pub(super) fn slices(evaluation: &Evaluation) -> String {
    let mut text = COLUMNS.join(",");
    text.push('\n');
    let slices = evaluation.slices().zip(&evaluation.certainty.slices);
    for ((patient, score), certainty) in slices {
        let (counts, surface) = (&score.counts, score.surface.as_ref());
        let row: [Cow<'_, str>; COLUMNS.len()] = [
            quoted(patient),
            quoted(&score.slice),
            number(counts.true_area()),
            number(counts.predicted_area()),
            number(counts.dice()),
            number(counts.iou()),
            defined(counts.precision()),
            defined(counts.recall()),
            defined(surface.map(|surface| surface.hd95)),
            defined(surface.map(|surface| surface.average)),
            number(certainty.expected_dice),
        ];
        text.push_str(&row.join(","));
        text.push('\n');
    }
    text
}

fn number(value: impl Display) -> Cow<'static, str> {
    value.to_string().into()
}

fn defined(value: Option<f64>) -> Cow<'static, str> {
    value.map_or(Cow::Borrowed(""), number)
}

/// A name as RFC 4180 writes it.
fn quoted(name: &str) -> Cow<'_, str> {
    if name.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", name.replace('"', "\"\"")).into()
    } else {
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_break_a_row_are_quoted() {
        assert_eq!(quoted("TCGA_CS_4941_19960909"), "TCGA_CS_4941_19960909");
        assert_eq!(quoted("a,b"), "\"a,b\"");
        assert_eq!(quoted("a\"b\nc"), "\"a\"\"b\nc\"");
    }
}
