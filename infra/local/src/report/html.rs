//! The page: one file, without scripts, that asks for nothing from anywhere.

use std::cmp::Reverse;
use std::fmt::{self, Display, Write as _};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use glioseg_shared::imaging::overlay::{BOTH, Colour, PREDICTION, TRUTH};
use glioseg_shared::model::contract::NOTICE;

use super::table::distance;
use super::{defined, dice, volume};
use crate::demo::{SliceResult, StudyResult};

const STYLE: &str = include_str!("page.css");

/// Most slices that are shown as pictures, so that a browser opens the page at once.
const MAX_PICTURES: usize = 48;

/// The whole page.
#[must_use]
pub fn page(studies: &[StudyResult], model_version: &str) -> String {
    let figures: String = studies.iter().map(figures).collect();
    let tables: String = studies.iter().map(slices).collect();
    let count_of_slices: usize = studies.iter().map(|study| study.slices.len()).sum();
    // The policy holds the page to its promise: a browser would refuse anything from outside.
    format!(
        "<!DOCTYPE html>\n<html lang=\"en-GB\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>glioseg: {count}, {count_of_slices} slices</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<p class=\"notice\">{NOTICE}</p>\n<h1>Segmented by glioseg</h1>\n\
         <p class=\"lead\">{count}, {count_of_slices} slices; model {model}</p>\n</header>\n\
         <main>\n{figures}{pictures}{tables}</main>\n<footer>\n<p>{NOTICE}</p>\n</footer>\n</body>\n</html>\n",
        count = match studies.len() {
            1 => "1 study".to_owned(),
            count => format!("{count} studies"),
        },
        model = Text(model_version),
        pictures = pictures(studies),
    )
}

/// Text that is no markup, between tags or inside a quoted attribute.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for character in self.0.chars() {
            match character {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                // No browser shows them, and some are no HTML at all.
                control if control.is_control() => f.write_str("\u{fffd}")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}

fn figures(study: &StudyResult) -> String {
    let status = &study.status;
    let summary = &status.summary;
    let mut entries = vec![
        ("Slices", summary.slices.to_string()),
        ("With tumour found", summary.slices_with_tumour.to_string()),
        ("Tumour found", volume(summary)),
    ];
    if let Some(scores) = &summary.scores {
        let n = |value: String, n: usize| format!("{value} <span class=\"meaning\">n = {n}</span>");
        let rate = defined(scores.false_positive_rate, |rate| {
            format!("{:.1} %", 100.0 * rate)
        });
        entries.extend([
            ("Volume Dice", dice(scores.volume_dice)),
            (
                "Tumour-slice Dice",
                n(
                    defined(scores.tumour_slice_dice, dice),
                    scores.tumour_slices,
                ),
            ),
            (
                "All-slice Dice",
                n(dice(scores.all_slice_dice), scores.slices),
            ),
            ("False-positive rate", n(rate, scores.empty_slices)),
        ]);
    }
    let entries: String = entries
        .iter()
        .map(|(term, value)| format!("<dt>{term}</dt><dd>{value}</dd>\n"))
        .collect();
    let rejected = status
        .rejected
        .iter()
        .map(|name| format!("set aside: {name}"));
    let cautions: String = rejected
        .chain(status.warnings.iter().cloned())
        .map(|caution| format!("<li>{}</li>", Text(&caution)))
        .collect();
    let cautions = if cautions.is_empty() {
        String::new()
    } else {
        format!("<ul class=\"cautions\">{cautions}</ul>\n")
    };
    format!(
        "<section>\n<h2>{}</h2>\n{cautions}<dl>\n{entries}</dl>\n</section>\n",
        Text(status.study.as_str())
    )
}

fn slices(study: &StudyResult) -> String {
    let rows: String = study
        .slices
        .iter()
        .map(|SliceResult { report, score, .. }| {
            let score = score.as_ref();
            let undefined = || "–".to_owned();
            format!(
                "<tr><th scope=\"row\" class=\"name\">{name}</th><td class=\"number\">{truth}</td>\
                 <td class=\"number\">{found}</td><td class=\"number\">{area}</td><td class=\"number\">{dice}</td>\
                 <td class=\"number\">{distance}</td><td class=\"number\">{certainty}</td></tr>\n",
                name = Text(report.slice.as_str()),
                truth = score.map_or_else(undefined, |score| score.true_pixels.to_string()),
                found = report.tumour_pixels,
                area = defined(report.area_mm2, |area| format!("{area:.0}")),
                dice = defined(score.map(|score| score.dice), dice),
                distance = score.map_or_else(undefined, distance),
                certainty = defined(report.confidence.mean_probability, dice),
            )
        })
        .collect();
    let head: String = [
        "True px",
        "Found px",
        "Area mm²",
        "Dice",
        "HD95",
        "Mean probability",
    ]
    .iter()
    .map(|title| format!("<th scope=\"col\" class=\"number\">{title}</th>"))
    .collect();
    format!(
        "<section>\n<details{open}><summary>Slices of {study}</summary>\n<div class=\"scroll\"><table>\n<thead><tr>\
         <th scope=\"col\">Slice</th>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div></details>\n\
         </section>\n",
        open = if study.slices.len() <= MAX_PICTURES {
            " open"
        } else {
            ""
        },
        study = Text(study.status.study.as_str()),
    )
}

fn pictures(studies: &[StudyResult]) -> String {
    let mut shown: Vec<&SliceResult> = studies
        .iter()
        .flat_map(|study| &study.slices)
        .filter(|slice| slice.has_tumour())
        .collect();
    let all = shown.len();
    if all > MAX_PICTURES {
        let most = |slice: &SliceResult| {
            let truth = slice.score.as_ref().map_or(0, |score| score.true_pixels);
            slice.report.tumour_pixels.max(truth)
        };
        let mut sizes: Vec<_> = shown.iter().map(|slice| most(slice)).collect();
        sizes.sort_unstable_by_key(|&size| Reverse(size));
        let least = sizes[MAX_PICTURES - 1];
        shown.retain(|slice| most(slice) >= least);
        shown.truncate(MAX_PICTURES);
    }
    let which = match (all, shown.len()) {
        (0, _) => "<p>No tumour was found.</p>\n".to_owned(),
        (all, shown) if shown < all => {
            format!("<p>{shown} of {all}, those with the most tumour.</p>\n")
        }
        _ => String::new(),
    };
    let figures: String = shown.into_iter().map(figure).collect();
    format!(
        "<section>\n<h2>Slices with tumour</h2>\n{}{which}{figures}</section>\n",
        legend()
    )
}

fn legend() -> String {
    let swatch = |[red, green, blue]: Colour, meaning: &str| {
        format!(
            "<li><span class=\"swatch\" style=\"background:rgb({red},{green},{blue})\" aria-hidden=\"true\"></span>\
             {meaning}</li>"
        )
    };
    format!(
        "<ul class=\"legend\" aria-label=\"Colours\">{}{}{}</ul>\n\
         <p class=\"meaning\">Left: FLAIR with the outlines. Right: the predicted probability of tumour, from 0 (black) to 1 (white).</p>\n",
        swatch(PREDICTION, "predicted outline"),
        swatch(TRUTH, "true outline"),
        swatch(BOTH, "both"),
    )
}

fn figure(slice: &SliceResult) -> String {
    let SliceResult {
        report,
        score,
        outlines_png,
        probability_png,
    } = slice;
    let name = Text(report.slice.as_str());
    let score = score.as_ref().map_or_else(String::new, |score| {
        format!(
            "Dice {}, true area {} px, HD95 {}, ",
            dice(score.dice),
            score.true_pixels,
            distance(score)
        )
    });
    format!(
        "<figure>\n<figcaption><strong>{name}</strong> <span>of {study}: {score}found area {found} px</span>\
         </figcaption>\n<div class=\"views\">\n<img src=\"{outlines}\" alt=\"{name} with outlines\">\n\
         <img src=\"{probability}\" alt=\"{name}, predicted probability of tumour\">\n</div>\n</figure>\n",
        study = Text(report.study.as_str()),
        found = report.tumour_pixels,
        outlines = data_uri(outlines_png),
        probability = data_uri(probability_png),
    )
}

fn data_uri(png: &[u8]) -> String {
    format!("data:image/png;base64,{}", BASE64_STANDARD.encode(png))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_never_markup() {
        let text = Text("<b> & \"'\u{1}").to_string();
        assert_eq!(text, "&lt;b&gt; &amp; &quot;&#39;\u{fffd}");
    }
}
