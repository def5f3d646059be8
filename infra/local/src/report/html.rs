//! The page: one file, without scripts, that asks for nothing from anywhere.

use std::cmp::Reverse;

use glioseg_shared::imaging::overlay::{BOTH, PREDICTION, TRUTH};
use glioseg_shared::page::{self, Page, Text, png_address, swatch};

use super::table::distance;
use super::{defined, dice, is_one_of, look_first, volume};
use crate::demo::{SliceResult, StudyResult};

/// Most slices that are shown as pictures, so that a browser opens the page at once.
const MAX_PICTURES: usize = 48;

/// Most of these that are of slices to look at first.
const MAX_DOUBTFUL: usize = 12;

/// What is said of slices to look at first.
const DOUBT: &str = "<p>The slices with the lowest expected Dice: what the model's own probabilities say of how well \
                     the mask fits, without the truth. A wrong or missing outline is likeliest here; what the model \
                     is wrongly sure of is elsewhere.</p>\n";

/// The whole page.
#[must_use]
pub fn page(studies: &[StudyResult], model_version: &str) -> String {
    let figures: String = studies.iter().map(figures).collect();
    let tables: String = studies.iter().map(slices).collect();
    let slices: usize = studies.iter().map(|study| study.slices.len()).sum();
    let subject = match studies.len() {
        1 => format!("1 study, {slices} slices"),
        count => format!("{count} studies, {slices} slices"),
    };
    let page = Page {
        title: &format!("glioseg: {subject}"),
        heading: "Segmented by glioseg",
        lead: &format!("{subject}; model {model_version}"),
        style: include_str!("report.css"),
        main: &format!("{figures}{}{tables}", pictures(studies)),
    };
    page.to_string()
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
    let first = look_first(&study.slices, SliceResult::expected_dice);
    let rows: String = study
        .slices
        .iter()
        .map(|slice| {
            let SliceResult { report, score, .. } = slice;
            let mark = if is_one_of(slice, &first) {
                " <span class=\"mark\">look first</span>"
            } else {
                ""
            };
            let score = score.as_ref();
            let undefined = || "–".to_owned();
            format!(
                "<tr><th scope=\"row\" class=\"name\">{name}{mark}</th><td class=\"number\">{truth}</td>\
                 <td class=\"number\">{found}</td><td class=\"number\">{area}</td>\
                 <td class=\"number\">{expected}</td><td class=\"number\">{dice}</td>\
                 <td class=\"number\">{distance}</td><td class=\"number\">{certainty}</td></tr>\n",
                name = Text(report.slice.as_str()),
                truth = score.map_or_else(undefined, |score| score.true_pixels.to_string()),
                found = report.tumour_pixels,
                area = defined(report.area_mm2, |area| format!("{area:.0}")),
                expected = dice(slice.expected_dice()),
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
        "Expected Dice",
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
    let mut doubtful: Vec<&SliceResult> = studies
        .iter()
        .flat_map(|study| look_first(&study.slices, SliceResult::expected_dice))
        .collect();
    doubtful.sort_by(|a, b| a.expected_dice().total_cmp(&b.expected_dice()));
    doubtful.truncate(MAX_DOUBTFUL);
    let all = || studies.iter().flat_map(|study| &study.slices);
    let others: Vec<&SliceResult> = all()
        .filter(|slice| slice.has_tumour() && !is_one_of(slice, &doubtful))
        .collect();
    let heading = if doubtful.iter().any(|slice| slice.has_tumour()) {
        "Other slices with tumour"
    } else {
        "Slices with tumour"
    };
    let others = if all().any(SliceResult::has_tumour) {
        with_tumour(others, MAX_PICTURES - doubtful.len())
    } else {
        "<p>No tumour was found.</p>\n".to_owned()
    };
    let mut sections = String::new();
    if !doubtful.is_empty() {
        let figures: String = doubtful.into_iter().map(figure).collect();
        sections += &section(
            "Look at these first",
            &format!("{DOUBT}{}{figures}", legend()),
        );
    }
    if !others.is_empty() {
        sections += &section(heading, &others);
    }
    sections
}

/// The figures of slices, of those with the most tumour where they are more than `most`.
fn with_tumour(mut slices: Vec<&SliceResult>, most: usize) -> String {
    let all = slices.len();
    if all > most {
        let size = |slice: &SliceResult| {
            let truth = slice.score.as_ref().map_or(0, |score| score.true_pixels);
            slice.report.tumour_pixels.max(truth)
        };
        let mut sizes: Vec<_> = slices.iter().map(|slice| size(slice)).collect();
        sizes.sort_unstable_by_key(|&size| Reverse(size));
        let least = sizes[most - 1];
        slices.retain(|slice| size(slice) >= least);
        slices.truncate(most);
    }
    if slices.is_empty() {
        return String::new();
    }
    let which = if slices.len() < all {
        format!(
            "<p>{} of {all}, those with the most tumour.</p>\n",
            slices.len()
        )
    } else {
        String::new()
    };
    let figures: String = slices.into_iter().map(figure).collect();
    format!("{}{which}{figures}", legend())
}

fn section(heading: &str, content: &str) -> String {
    format!("<section>\n<h2>{heading}</h2>\n{content}</section>\n")
}

fn legend() -> String {
    let legend = page::legend(&[
        swatch(PREDICTION, "predicted outline"),
        swatch(TRUTH, "true outline"),
        swatch(BOTH, "both"),
    ]);
    format!(
        "{legend}<p class=\"meaning\">Left: FLAIR with the outlines. Right: the predicted probability of tumour, from 0 (black) to 1 (white).</p>\n"
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
        "<figure>\n<figcaption><strong>{name}</strong> <span>of {study}: {score}expected Dice {expected}, found area {found} px</span>\
         </figcaption>\n<div class=\"views\">\n<img src=\"{outlines}\" alt=\"{name} with outlines\">\n\
         <img src=\"{probability}\" alt=\"{name}, predicted probability of tumour\">\n</div>\n</figure>\n",
        study = Text(report.study.as_str()),
        expected = dice(slice.expected_dice()),
        found = report.tumour_pixels,
        outlines = png_address(outlines_png),
        probability = png_address(probability_png),
    )
}
