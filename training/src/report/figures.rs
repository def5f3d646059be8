//! Diagrams as SVG and pictures as data URIs, to stand inside the page.

use std::fmt::Write as _;

use glioseg_shared::imaging::overlay::{self, Picture, SizeDiffers};
use glioseg_shared::imaging::{
    CHANNELS, Channel, Intensity, ProbabilityMap, Slice, encode_rgb_png,
};
use glioseg_shared::page::png_address;
use glioseg_shared::scoring::Estimate;

use super::headline::dice;
use crate::evaluate::Exhibit;

const BINS: usize = 20;

/// The three pictures of a slice, as addresses of images.
pub(super) struct Views {
    pub(super) flair: String,
    pub(super) outlines: String,
    pub(super) heatmap: String,
}

impl Views {
    pub(super) fn of(exhibit: &Exhibit) -> Result<Self, SizeDiffers> {
        let Exhibit {
            slice,
            truth,
            prediction,
            probability,
            ..
        } = exhibit;
        Ok(Self {
            flair: address(&Picture::grey(slice, Channel::Flair)),
            outlines: address(&overlay::outlines(slice, truth, prediction)?),
            heatmap: address(&overlay::heatmap(slice, probability)?),
        })
    }
}

/// A strip from probability 0 to 1 in the heatmap's own colours, over black.
pub(super) fn heat_scale() -> String {
    const STEPS: usize = 128;
    let ramp = (0..STEPS).map(|i| i as f32 / (STEPS - 1) as f32).collect();
    let black = Slice::new(STEPS, 1, vec![0; STEPS * CHANNELS], Intensity::EightBit);
    let black = black.expect("every pixel of the strip has its channels");
    let ramp = ProbabilityMap::new(STEPS, 1, ramp).expect("every pixel of the strip has a value");
    let strip = overlay::heatmap(&black, &ramp).expect("both are strips of one size");
    address(&strip)
}

fn address(picture: &Picture) -> String {
    png_address(&encode_rgb_png(
        picture.width(),
        picture.height(),
        picture.pixels(),
    ))
}

/// A mark at the value and a line over its interval, on a scale from 0 to 1.
///
/// It repeats what stands in numbers beside it, so it is hidden from screen readers.
pub(super) fn interval_bar(estimate: &Estimate) -> String {
    let x = |value: f64| 5.0 + 190.0 * value.clamp(0.0, 1.0);
    let (low, value, high) = (x(estimate.low), x(estimate.value), x(estimate.high));
    format!(
        "<svg class=\"interval\" viewBox=\"0 0 200 20\" aria-hidden=\"true\">\
         <line class=\"axis\" x1=\"5\" y1=\"10\" x2=\"195\" y2=\"10\"/>\
         <line class=\"range\" x1=\"{low:.1}\" y1=\"10\" x2=\"{high:.1}\" y2=\"10\"/>\
         <circle class=\"value\" cx=\"{value:.1}\" cy=\"10\" r=\"5\"/></svg>"
    )
}

/// A histogram of values in 0..=1 in bins of 0.05; the last bin holds 1 as well.
///
/// `unit` is what is counted, in the plural. Without values, the words that say so.
pub(super) fn histogram(values: &[f64], unit: &str) -> String {
    if values.is_empty() {
        return format!("<p>There are no {unit}.</p>");
    }
    const LEFT: f64 = 46.0;
    const TOP: f64 = 14.0;
    const WIDTH: f64 = 460.0;
    const HEIGHT: f64 = 170.0;

    let counts = bins(values);
    let most = counts.iter().copied().max().unwrap_or(0);
    let tick = tick(most);
    let top = most.div_ceil(tick) * tick;
    let y = |count: usize| TOP + HEIGHT * (1.0 - count as f64 / top as f64);
    let bottom = TOP + HEIGHT;

    let mut svg = String::new();
    let mut sentence = String::new();
    for (bin, &count) in counts.iter().enumerate() {
        if count > 0 {
            let (low, high) = bin_ends(bin);
            let _ = write!(sentence, " {low:.2} to {high:.2}: {count}.");
        }
    }
    let (least, largest) = values
        .iter()
        .fold((1.0_f64, 0.0_f64), |(l, h), &v| (l.min(v), h.max(v)));
    let _ = write!(
        svg,
        "<svg class=\"histogram\" viewBox=\"0 0 520 230\" role=\"img\" \
         aria-label=\"Histogram of Dice over {n} {unit}, from {least} to {largest}.{sentence}\">",
        n = values.len(),
        least = dice(least),
        largest = dice(largest),
    );
    for count in (0..=top).step_by(tick) {
        let at = y(count);
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>\
             <text x=\"{label}\" y=\"{below:.1}\" text-anchor=\"end\">{count}</text>",
            right = LEFT + WIDTH,
            label = LEFT - 8.0,
            below = at + 4.0,
        );
    }
    let step = WIDTH / BINS as f64;
    for (bin, &count) in counts.iter().enumerate().filter(|&(_, &count)| count > 0) {
        let (low, high) = bin_ends(bin);
        let _ = write!(
            svg,
            "<rect class=\"bar\" x=\"{x:.1}\" y=\"{at:.1}\" width=\"{width:.1}\" height=\"{height:.1}\">\
             <title>{low:.2} to {high:.2}: {count}</title></rect>",
            x = LEFT + step * bin as f64 + 1.0,
            at = y(count),
            width = step - 2.0,
            height = bottom - y(count),
        );
    }
    for fifth in 0..=5 {
        let value = f64::from(fifth) / 5.0;
        let _ = write!(
            svg,
            "<text x=\"{x:.1}\" y=\"{below}\" text-anchor=\"middle\">{value:.1}</text>",
            x = LEFT + WIDTH * value,
            below = bottom + 17.0,
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">Dice</text></svg>",
        middle = LEFT + WIDTH / 2.0,
        below = bottom + 36.0,
    );
    svg
}

fn bins(values: &[f64]) -> [usize; BINS] {
    let mut counts = [0; BINS];
    for value in values {
        // A Dice of 0.15 may be 0.15 less a rounding error: it still belongs to the bin from 0.15.
        let bin = (value * BINS as f64 + 1e-9) as usize;
        counts[bin.min(BINS - 1)] += 1;
    }
    counts
}

fn bin_ends(bin: usize) -> (f64, f64) {
    (bin as f64 / BINS as f64, (bin + 1) as f64 / BINS as f64)
}

/// The distance of two grid lines: 1, 2 or 5 times a power of ten, so that at most five are drawn.
fn tick(most: usize) -> usize {
    let mut power = 1;
    loop {
        for factor in [1, 2, 5] {
            if most <= 4 * factor * power {
                return factor * power;
            }
        }
        power *= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_open_above_but_for_the_last() {
        let counts = bins(&[0.0, 0.049, 0.05, 0.15, 0.95, 1.0]);
        assert_eq!(counts[..4], [2, 1, 0, 1]);
        assert_eq!(counts[19], 2);
        assert_eq!(counts.iter().sum::<usize>(), 6);
    }

    #[test]
    fn grid_lines_are_round_numbers_and_few() {
        assert_eq!(
            [1, 4, 5, 8, 20, 21, 4000].map(tick),
            [1, 1, 2, 2, 5, 10, 1000]
        );
    }

    #[test]
    fn a_histogram_says_in_words_what_it_shows() {
        let svg = histogram(&[0.0, 0.82, 0.84, 1.0], "slices");
        assert!(svg.contains("Histogram of Dice over 4 slices, from 0.000 to 1.000."));
        assert!(svg.contains(" 0.80 to 0.85: 2."));
        assert_eq!(svg.matches("<rect").count(), 3);
        assert_eq!(histogram(&[], "slices"), "<p>There are no slices.</p>");
    }
}
