//! What came of studies, for people: a table for the terminal, and one page.

mod doubtful;
mod html;
mod table;

pub use doubtful::look_first;
pub use html::page;
pub use table::table;

use crate::demo::SliceResult;

/// A Dice coefficient (or another ratio) to three digits.
fn dice(value: f64) -> String {
    format!("{value:.3}")
}

/// Whether a slice itself, not one that equals it, is among others.
fn is_one_of(slice: &SliceResult, others: &[&SliceResult]) -> bool {
    others.iter().any(|&other| std::ptr::eq(other, slice))
}

/// A value that may not be defined.
fn defined(value: Option<f64>, show: impl Fn(f64) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), show)
}

/// The volume of a study's tumour in ml, where the spacing is known; in voxels otherwise.
fn volume(summary: &glioseg_shared::study::status::StudySummary) -> String {
    summary.tumour_volume_mm3.map_or_else(
        || format!("{} voxels", summary.tumour_voxels),
        |volume| format!("{:.1} ml", volume / 1000.0),
    )
}
