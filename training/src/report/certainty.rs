//! What the report says of probabilities and of the Dice that masks were expected to have.

use std::fmt::Write as _;

use glioseg_shared::scoring::ReliabilityBin;
use serde::Serialize;

use super::headline::dice;
use crate::evaluate::certainty::{Certainty, DOUBT, Group};

/// What the JSON says of it; what there is too little to say of is null.
#[derive(Serialize)]
pub(super) struct CertaintyFigures {
    expected_calibration_error: Option<f64>,
    /// The probabilities between which a pixel is in doubt.
    doubt: [f32; 2],
    pixels_in_doubt: u64,
    expected_calibration_error_in_doubt: Option<f64>,
    reliability_in_doubt: Vec<ReliabilityBin>,
    /// Spearman's, of the expected and the true Dice of slices.
    rank_correlation: Option<f64>,
    rank_correlation_with_tumour: Option<f64>,
    by_expected_dice: Vec<Group>,
}

impl CertaintyFigures {
    pub(super) fn of(certainty: &Certainty) -> Self {
        let doubt = &certainty.pixels_in_doubt;
        Self {
            expected_calibration_error: certainty.pixels.expected_calibration_error(),
            doubt: [*DOUBT.start(), *DOUBT.end()],
            pixels_in_doubt: doubt.pixels(),
            expected_calibration_error_in_doubt: doubt.expected_calibration_error(),
            reliability_in_doubt: doubt.bins().to_vec(),
            rank_correlation: certainty.rank_correlation(),
            rank_correlation_with_tumour: certainty.rank_correlation_with_tumour(),
            by_expected_dice: certainty.groups(),
        }
    }
}

/// Two lines for the terminal.
pub(super) fn lines(certainty: &Certainty) -> String {
    let share = |error: Option<f64>| error.map_or("undefined".to_owned(), percent);
    format!(
        "calibration error    {} of all pixels, {} of those in doubt (1 to 99 %)\n\
         rank correlation     {} of expected and true Dice over all slices, {} over those with tumour\n",
        share(certainty.pixels.expected_calibration_error()),
        share(certainty.pixels_in_doubt.expected_calibration_error()),
        correlation(certainty.rank_correlation()),
        correlation(certainty.rank_correlation_with_tumour()),
    )
}

/// The section of the page.
pub(super) fn section(certainty: &Certainty) -> String {
    let doubt = &certainty.pixels_in_doubt;
    let error = |error: Option<f64>| error.map_or("undefined".to_owned(), percent);
    let rows: String = certainty
        .groups()
        .iter()
        .map(|group| {
            format!(
                "<tr><th scope=\"row\">{low} to {high}</th><td class=\"number\">{expected}</td>\
                 <td class=\"number\">{found}</td><td class=\"number\">{n}</td></tr>\n",
                low = dice(group.low),
                high = dice(group.high),
                expected = dice(group.expected_dice),
                found = dice(group.dice),
                n = group.slices,
            )
        })
        .collect();
    format!(
        "<section>\n<h2>Certainty</h2>\n<div class=\"pair\">\n<div><h3>Do probabilities mean what they say?</h3>\n\
         {diagram}\n<p class=\"meaning\">Of the {n} pixels with a probability between 1 and 99 %; on the diagonal, \
         of those with 70 % seven in ten are tumour. Expected calibration error {in_doubt}, of all pixels {all}.</p>\n\
         </div>\n<div><h3>Does it know which masks are bad?</h3>\n<div class=\"scroll\"><table>\n<thead><tr>\
         <th scope=\"col\">Expected Dice</th><th scope=\"col\" class=\"number\">Mean</th>\
         <th scope=\"col\" class=\"number\">True Dice, mean</th><th scope=\"col\" class=\"number\">Slices</th>\
         </tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n<p class=\"meaning\">Slices with tumour, true or \
         predicted, in fifths. Rank correlation (Spearman) of expected and true Dice {with_tumour}, over all slices \
         {every}.</p>\n</div>\n</div>\n</section>\n",
        diagram = diagram(&doubt.bins()),
        n = doubt.pixels(),
        in_doubt = error(doubt.expected_calibration_error()),
        all = error(certainty.pixels.expected_calibration_error()),
        with_tumour = correlation(certainty.rank_correlation_with_tumour()),
        every = correlation(certainty.rank_correlation()),
    )
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn correlation(value: Option<f64>) -> String {
    value.map_or("undefined".to_owned(), |value| format!("{value:.2}"))
}

/// A reliability diagram: the share of tumour over the mean probability, bin by bin.
fn diagram(bins: &[ReliabilityBin]) -> String {
    const LEFT: f64 = 46.0;
    const TOP: f64 = 10.0;
    const SIDE: f64 = 230.0;
    let x = |value: f64| LEFT + SIDE * value;
    let y = |value: f64| TOP + SIDE * (1.0 - value);
    let points: Vec<(f64, f64, u64)> = bins
        .iter()
        .filter_map(|bin| Some((bin.mean_probability?, bin.tumour_share?, bin.pixels)))
        .collect();
    if points.is_empty() {
        return "<p>There are no pixels in doubt.</p>".to_owned();
    }
    let mut sentence = String::new();
    for (said, found, _) in &points {
        let _ = write!(sentence, " {said:.2}: {found:.2}.");
    }
    let mut svg = format!(
        "<svg class=\"reliability\" viewBox=\"0 0 300 290\" role=\"img\" aria-label=\"Share of tumour by \
         predicted probability.{sentence}\">"
    );
    for fifth in 0..=5 {
        let value = f64::from(fifth) / 5.0;
        let _ = write!(
            svg,
            "<line class=\"grid\" x1=\"{left}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>\
             <text x=\"{label}\" y=\"{below:.1}\" text-anchor=\"end\">{value:.1}</text>\
             <text x=\"{across:.1}\" y=\"{under}\" text-anchor=\"middle\">{value:.1}</text>",
            left = x(0.0),
            right = x(1.0),
            at = y(value),
            label = LEFT - 8.0,
            below = y(value) + 4.0,
            across = x(value),
            under = y(0.0) + 17.0,
        );
    }
    let _ = write!(
        svg,
        "<line class=\"ideal\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/><polyline class=\"found\" points=\"",
        x(0.0),
        y(0.0),
        x(1.0),
        y(1.0)
    );
    for (said, found, _) in &points {
        let _ = write!(svg, "{:.1},{:.1} ", x(*said), y(*found));
    }
    svg.push_str("\"/>");
    for (said, found, pixels) in &points {
        let _ = write!(
            svg,
            "<circle class=\"value\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"><title>{said:.2}: {found:.2} of {pixels} \
             pixels</title></circle>",
            x(*said),
            y(*found)
        );
    }
    let _ = write!(
        svg,
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">predicted probability</text></svg>",
        x(0.5),
        y(0.0) + 36.0
    );
    svg
}

#[cfg(test)]
mod tests {
    use glioseg_shared::scoring::Reliability;

    use super::*;

    #[test]
    fn a_diagram_says_in_words_what_it_shows() {
        let mut reliability = Reliability::default();
        for tumour in [true, true, true, false] {
            reliability.add_pixel(0.75, tumour);
        }
        let svg = diagram(&reliability.bins());
        assert!(svg.contains("Share of tumour by predicted probability. 0.75: 0.75."));
        assert_eq!(svg.matches("<circle").count(), 1);
        // The one point lies on the diagonal, three quarters of the way.
        assert!(svg.contains("cx=\"218.5\" cy=\"67.5\""), "{svg}");
        let nothing = diagram(&Reliability::default().bins());
        assert_eq!(nothing, "<p>There are no pixels in doubt.</p>");
    }
}
