//! The figures as aligned lines of text.

use std::fmt::Write as _;

use super::{defined, dice, is_one_of, look_first, volume};
use crate::demo::{SliceResult, StudyResult};

const HEAD: [&str; 7] = [
    "slice",
    "true px",
    "found px",
    "area mm²",
    "expected Dice",
    "Dice",
    "HD95",
];

/// A line's cells, under [`HEAD`].
type Cells = [String; HEAD.len()];

/// A line for each slice with tumour, found or true, and for those to look at first; and the figures of each study.
#[must_use]
pub fn table(studies: &[StudyResult]) -> String {
    let mut text = String::new();
    for study in studies {
        write_study(&mut text, study);
    }
    text
}

fn write_study(text: &mut String, study: &StudyResult) {
    let status = &study.status;
    let first = look_first(&study.slices, SliceResult::expected_dice);
    let rows: Vec<Cells> = study
        .slices
        .iter()
        .filter(|slice| slice.has_tumour() || is_one_of(slice, &first))
        .map(cells)
        .collect();
    let head = HEAD.map(str::to_owned);
    let _ = writeln!(text, "{}", status.study);
    if !rows.is_empty() {
        write_aligned(text, &head, &rows);
    }
    let summary = &status.summary;
    let _ = writeln!(
        text,
        "  {} slices, {} with tumour found, {} in all",
        summary.slices,
        summary.slices_with_tumour,
        volume(summary)
    );
    if let Some(scores) = &summary.scores {
        let rate = defined(scores.false_positive_rate, |rate| {
            format!("{:.1} %", 100.0 * rate)
        });
        let _ = writeln!(
            text,
            "  volume Dice {}   tumour-slice Dice {} (n {})   all-slice Dice {} (n {})   false positives {rate} (n {})",
            dice(scores.volume_dice),
            defined(scores.tumour_slice_dice, dice),
            scores.tumour_slices,
            dice(scores.all_slice_dice),
            scores.slices,
            scores.empty_slices,
        );
    }
    if !first.is_empty() {
        let named: Vec<String> = first
            .iter()
            .map(|slice| format!("{} {}", slice.report.slice, dice(slice.expected_dice())))
            .collect();
        let _ = writeln!(text, "  look first (expected Dice): {}", named.join(", "));
    }
    for name in &status.rejected {
        let _ = writeln!(text, "  set aside: {name}");
    }
    for warning in &status.warnings {
        let _ = writeln!(text, "  note: {warning}");
    }
}

fn cells(slice: &SliceResult) -> Cells {
    let (report, score) = (&slice.report, slice.score.as_ref());
    [
        report.slice.to_string(),
        score.map_or_else(|| "–".to_owned(), |score| score.true_pixels.to_string()),
        report.tumour_pixels.to_string(),
        defined(report.area_mm2, |area| format!("{area:.0}")),
        dice(slice.expected_dice()),
        defined(score.map(|score| score.dice), dice),
        score.map_or_else(|| "–".to_owned(), distance),
    ]
}

/// The 95th percentile of the distance between the outlines, with its unit.
pub(super) fn distance(score: &glioseg_shared::study::SliceScoreDocument) -> String {
    let unit = if score.spacing_mm.is_some() {
        "mm"
    } else {
        "px"
    };
    defined(score.hd95, |distance| format!("{distance:.1} {unit}"))
}

fn write_aligned(text: &mut String, head: &Cells, rows: &[Cells]) {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .chain([head])
            .map(|row| row[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: [usize; HEAD.len()] = std::array::from_fn(width);
    for row in [head].into_iter().chain(rows) {
        // Names to the left, numbers to the right.
        let _ = write!(text, "  {:<width$}", row[0], width = widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            let _ = write!(text, "  {cell:>width$}");
        }
        text.push('\n');
    }
}
