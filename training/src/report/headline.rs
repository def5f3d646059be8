//! The figures that are always shown together, as the terminal and the page show them.

use std::fmt;

use glioseg_shared::scoring::{Estimate, Summary};

/// A figure with its words.
pub(super) struct Headline {
    pub(super) name: &'static str,
    /// What the figure is, in a sentence.
    pub(super) meaning: &'static str,
    pub(super) estimate: Option<Estimate>,
    /// What n counts.
    pub(super) unit: &'static str,
    scale: Scale,
}

#[derive(Clone, Copy)]
enum Scale {
    Dice,
    Share,
}

impl Headline {
    pub(super) fn value(&self) -> String {
        self.show(|estimate| self.scale.show(estimate.value))
    }

    /// Such as `0.780 to 0.893`.
    pub(super) fn interval(&self) -> String {
        self.show(|Estimate { low, high, .. }| {
            format!("{} to {}", self.scale.show(*low), self.scale.show(*high))
        })
    }

    /// Such as `12 patients`.
    pub(super) fn n(&self) -> String {
        format!("{} {}", self.estimate.map_or(0, |e| e.n), self.unit)
    }

    fn show(&self, text: impl Fn(&Estimate) -> String) -> String {
        self.estimate.as_ref().map_or("undefined".to_owned(), text)
    }
}

impl Scale {
    fn show(self, value: f64) -> String {
        match self {
            Self::Dice => dice(value),
            Self::Share => format!("{:.1} %", 100.0 * value),
        }
    }
}

/// A Dice coefficient (or another ratio) to three digits.
pub(super) fn dice(value: f64) -> String {
    format!("{value:.3}")
}

/// All figures of a summary, in the order of the protocol.
pub(super) fn headlines(summary: &Summary) -> [Headline; 5] {
    let figure = |name, meaning, estimate, unit, scale| Headline {
        name,
        meaning,
        estimate,
        unit,
        scale,
    };
    [
        figure(
            "volume Dice, mean",
            "Dice over all slices of a patient together, mean over patients",
            summary.volume_dice_mean,
            "patients",
            Scale::Dice,
        ),
        figure(
            "volume Dice, median",
            "the same, median over patients",
            summary.volume_dice_median,
            "patients",
            Scale::Dice,
        ),
        figure(
            "tumour-slice Dice",
            "mean over the slices with tumour",
            summary.tumour_slice_dice,
            "slices with tumour",
            Scale::Dice,
        ),
        figure(
            "all-slice Dice",
            "mean over all slices; one without tumour counts 1 when nothing is predicted, else 0",
            summary.all_slice_dice,
            "slices",
            Scale::Dice,
        ),
        figure(
            "false-positive rate",
            "share of the slices without tumour on which some is predicted",
            summary.false_positive_rate,
            "slices without tumour",
            Scale::Share,
        ),
    ]
}

/// The figures as aligned lines of text.
pub struct Table<'a>(pub &'a Summary);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, cells: [&str; 4]| {
            let [name, value, interval, n] = cells;
            writeln!(f, "{name:<19}  {value:>9}  {interval:>19}  {n}")
        };
        line(f, ["figure", "value", "95 % interval", "n"])?;
        for figure in headlines(self.0) {
            let (value, interval, n) = (figure.value(), figure.interval(), figure.n());
            line(f, [figure.name, &value, &interval, &n])?;
        }
        Ok(())
    }
}
